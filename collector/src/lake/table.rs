//! The columns of the lake: one table, from which files, SQL, expressions and `docs/lake.md` are made.
//!
//! A column may be added at the end of its part; older files are read as if it were null there. None may change its type.

use std::fmt::Write as _;

use sensor_proto::{
    action_name, result_name,
    v1::{
        Action, Credential, CredentialCause, Detail, Incident, Loss, Operation, Outcome, Process, ProcessId,
        Session, Severity, Signal, Tuple, entry, event,
    },
};

use super::{
    Class,
    column::{Cell, Column, Kind, Row, Source},
};

use Class::{
    Credential as Credentials, File, Finding, Incident as Incidents, Intrusion, Kernel, Loss as Losses,
    Network, Process as Processes, Response, Session as Sessions, Syscall,
};

/// Classes of what processes ask for by system calls.
const OPERATIONS: &[Class] = &[Processes, Intrusion, Kernel, File, Network];

/// Longest text in a typed column, in bytes. The rest is in `entry`.
pub(super) const TEXT_BYTES_MAX: usize = 16 << 10;

/// All columns, in their order in files. `class` and `day` are not among them: they are in the path.
pub const COLUMNS: &[Column] = &[
    // What every entry has.
    column_of(
        "position",
        Kind::Long,
        &[],
        "place among all entries that this collector ever stored, from 1",
        Source::Position,
    ),
    of_entry("host", Kind::Text, &[], "the host that it comes from", |row| {
        Cell::text(row.host)
    }),
    of_entry(
        "time",
        Kind::Time,
        &[],
        "when it happened, as the host believed",
        |row| Cell::Number(row.time_ns()),
    ),
    of_entry(
        "boot_time",
        Kind::Long,
        &[],
        "nanoseconds since the host booted: the order of events on one host",
        |row| {
            row.event
                .map_or(Cell::Null, |event| Cell::nonzero(event.boot_time_ns))
        },
    ),
    of_entry(
        "signal",
        Kind::Text,
        &[],
        "what it reports: `exec`, `flow_close`, …",
        |row| Cell::text(row.signal),
    ),
    // The process that it is about.
    of_process(
        "process",
        Kind::Text,
        "the process for good, as `PID@START`: the id alone is used again",
        |process| id(process.id),
    ),
    of_process("pid", Kind::Number, "its process id", |process| {
        Cell::optional(process.id.map(|id| id.tgid))
    }),
    of_process(
        "parent",
        Kind::Text,
        "the process that it came from, as `PID@START`",
        |process| id(process.parent_id),
    ),
    of_process("parent_executable", Kind::Text, "executable of that", |process| {
        Cell::text(&process.parent_executable)
    }),
    of_process(
        "executable",
        Kind::Text,
        "path of its executable, as the kernel opened it",
        |process| Cell::text(&process.executable),
    ),
    of_process(
        "arguments",
        Kind::Text,
        "its arguments; those with spaces or quotes are quoted as for a shell",
        |process| Cell::owned(command_line(&process.args)),
    ),
    of_process("cwd", Kind::Text, "its current directory", |process| {
        Cell::text(&process.cwd)
    }),
    of_entry(
        "thread",
        Kind::Text,
        &[],
        "name of the thread that acted",
        |row| {
            // Events of the stream have it beside their process, those within findings in it.
            row.event.map_or(Cell::Null, |event| match &event.process {
                Some(process) if event.comm.is_empty() => Cell::text(&process.comm),
                _ => Cell::text(&event.comm),
            })
        },
    ),
    of_process("uid", Kind::Number, "real user id", |process| {
        Cell::number(process.uid)
    }),
    of_process("euid", Kind::Number, "effective user id", |process| {
        Cell::number(process.euid)
    }),
    of_process("gid", Kind::Number, "real group id", |process| {
        Cell::number(process.gid)
    }),
    of_process("user_name", Kind::Text, "name of `uid`", |process| {
        Cell::text(&process.user)
    }),
    of_process(
        "login_uid",
        Kind::Number,
        "who logged in to start it; null for what no login started",
        |process| Cell::optional(process.login_uid),
    ),
    of_process("session", Kind::Number, "the login session", |process| {
        Cell::optional(process.session_id)
    }),
    of_process("cgroup", Kind::Text, "path of its cgroup", |process| {
        Cell::text(&process.cgroup)
    }),
    of_process(
        "workload",
        Kind::Text,
        "the unit, container or host that it belongs to",
        |process| Cell::text(&process.workload),
    ),
    of_process("container", Kind::Text, "id of its container", |process| {
        Cell::text(&process.container_id)
    }),
    of_process("pid_ns", Kind::Number, "its pid namespace", |process| {
        Cell::nonzero(process.pid_ns)
    }),
    of_process("net_ns", Kind::Number, "its network namespace", |process| {
        Cell::nonzero(process.net_ns)
    }),
    // Processes.
    of_entry(
        "filename",
        Kind::Text,
        &[Processes],
        "the file name as it was asked for; the script, where an interpreter runs one",
        |row| match body(row) {
            Some(event::Body::Exec(exec)) => Cell::text(&exec.filename),
            _ => Cell::Null,
        },
    ),
    of_entry(
        "fileless",
        Kind::Flag,
        &[Processes],
        "the executable is in memory only, or has no name any more",
        |row| match body(row) {
            Some(event::Body::Exec(exec)) => Cell::Flag(exec.memfd || exec.unlinked),
            _ => Cell::Null,
        },
    ),
    of_entry(
        "variables",
        Kind::Text,
        &[Processes],
        "variables that make a loader or an interpreter run other code",
        |row| match body(row) {
            Some(event::Body::Exec(exec)) => Cell::owned(exec.variables.join(" ")),
            _ => Cell::Null,
        },
    ),
    of_entry(
        "exit_code",
        Kind::Number,
        &[Processes],
        "its exit code, where it ended by itself",
        |row| match body(row) {
            Some(event::Body::Exit(exit)) => Cell::optional(exit.code),
            _ => Cell::Null,
        },
    ),
    of_entry(
        "exit_signal",
        Kind::Number,
        &[Processes],
        "the signal that ended it",
        |row| match body(row) {
            Some(event::Body::Exit(exit)) => Cell::optional(exit.signal),
            _ => Cell::Null,
        },
    ),
    // What processes ask the kernel for.
    of_entry(
        "call",
        Kind::Text,
        OPERATIONS,
        "the system call, or the hook that saw it",
        |row| operation(row).map_or(Cell::Null, |it| Cell::text(&it.call)),
    ),
    of_entry(
        "result",
        Kind::Signed,
        OPERATIONS,
        "what it returned; negative for an error",
        |row| operation(row).map_or(Cell::Null, |it| Cell::Signed(it.result)),
    ),
    of_entry("path", Kind::Text, OPERATIONS, "what it was done to", |row| {
        operation(row).map_or(Cell::Null, |it| Cell::text(&it.path))
    }),
    of_entry(
        "target",
        Kind::Text,
        OPERATIONS,
        "the other path or name",
        |row| operation(row).map_or(Cell::Null, |it| Cell::text(&it.target)),
    ),
    of_entry("inode", Kind::Long, OPERATIONS, "the file's inode", |row| {
        operation(row).map_or(Cell::Null, |it| Cell::nonzero(it.inode))
    }),
    of_entry(
        "mode",
        Kind::Number,
        OPERATIONS,
        "the file's type and permissions",
        |row| operation(row).map_or(Cell::Null, |it| Cell::nonzero(it.mode)),
    ),
    of_entry(
        "details",
        Kind::Text,
        OPERATIONS,
        "other arguments, as `name=text`",
        |row| operation(row).map_or(Cell::Null, |it| Cell::owned(details(&it.details))),
    ),
    of_entry(
        "repeats",
        Kind::Long,
        OPERATIONS,
        "how often it was repeated, where the event stands for repetitions",
        |row| {
            Cell::optional(
                operation(row)
                    .and_then(|it| it.repeats)
                    .map(|repeats| repeats.count),
            )
        },
    ),
    // Networks.
    of_entry(
        "local_address",
        Kind::Text,
        &[Network],
        "this end",
        |row| match body(row) {
            Some(event::Body::Listen(listen)) => Cell::text(&listen.address),
            Some(event::Body::Bind(bind)) => Cell::text(&bind.address),
            _ => tuple(row).map_or(Cell::Null, |it| Cell::text(&it.local_address)),
        },
    ),
    of_entry(
        "local_port",
        Kind::Number,
        &[Network],
        "its port",
        |row| match body(row) {
            Some(event::Body::Listen(listen)) => Cell::number(listen.port),
            Some(event::Body::Bind(bind)) => Cell::number(bind.port),
            _ => tuple(row).map_or(Cell::Null, |it| Cell::number(it.local_port)),
        },
    ),
    of_entry("remote_address", Kind::Text, &[Network], "the other end", |row| {
        tuple(row).map_or(Cell::Null, |it| Cell::text(&it.remote_address))
    }),
    of_entry("remote_port", Kind::Number, &[Network], "its port", |row| {
        tuple(row).map_or(Cell::Null, |it| Cell::number(it.remote_port))
    }),
    of_entry(
        "remote_name",
        Kind::Text,
        &[Network],
        "the name that last led to that address",
        |row| tuple(row).map_or(Cell::Null, |it| Cell::text(&it.remote_name)),
    ),
    of_entry(
        "inbound",
        Kind::Flag,
        &[Network],
        "the other end began it",
        |row| match body(row) {
            Some(event::Body::FlowClose(flow) | event::Body::FlowReport(flow)) => Cell::Flag(flow.inbound),
            Some(event::Body::UdpFlow(flow)) => Cell::Flag(flow.inbound),
            Some(event::Body::Accept(_)) => Cell::Flag(true),
            Some(event::Body::Connect(_)) => Cell::Flag(false),
            _ => Cell::Null,
        },
    ),
    of_entry(
        "bytes_sent",
        Kind::Long,
        &[Network],
        "bytes that it sent",
        |row| match body(row) {
            Some(event::Body::FlowClose(flow) | event::Body::FlowReport(flow)) => {
                Cell::Number(flow.bytes_sent)
            }
            Some(event::Body::UdpFlow(flow)) => Cell::Number(flow.bytes_sent),
            _ => Cell::Null,
        },
    ),
    of_entry(
        "bytes_received",
        Kind::Long,
        &[Network],
        "bytes that it got",
        |row| match body(row) {
            Some(event::Body::FlowClose(flow) | event::Body::FlowReport(flow)) => {
                Cell::Number(flow.bytes_received)
            }
            Some(event::Body::UdpFlow(flow)) => Cell::Number(flow.bytes_received),
            _ => Cell::Null,
        },
    ),
    of_entry(
        "duration_ns",
        Kind::Long,
        &[Network],
        "how long it lasted",
        |row| match body(row) {
            Some(event::Body::FlowClose(flow) | event::Body::FlowReport(flow)) => {
                Cell::optional(flow.duration_ns)
            }
            Some(event::Body::UdpFlow(flow)) => Cell::Number(flow.duration_ns),
            _ => Cell::Null,
        },
    ),
    of_entry(
        "question",
        Kind::Text,
        &[Network],
        "the name that a name server was asked for",
        |row| match body(row) {
            Some(event::Body::Dns(dns)) => Cell::text(&dns.name),
            _ => Cell::Null,
        },
    ),
    of_entry(
        "question_type",
        Kind::Text,
        &[Network],
        "the kind of record that was asked for",
        |row| match body(row) {
            Some(event::Body::Dns(dns)) => Cell::text(&dns.r#type),
            _ => Cell::Null,
        },
    ),
    of_entry(
        "answer_code",
        Kind::Text,
        &[Network],
        "what came of it: `NOERROR`, `NXDOMAIN`; null for a question",
        |row| match body(row) {
            Some(event::Body::Dns(dns)) => Cell::text(&dns.code),
            _ => Cell::Null,
        },
    ),
    of_entry(
        "answers",
        Kind::Text,
        &[Network],
        "addresses and names of the answer",
        |row| match body(row) {
            Some(event::Body::Dns(dns)) => Cell::owned(dns.answers.join(" ")),
            _ => Cell::Null,
        },
    ),
    of_entry(
        "server_name",
        Kind::Text,
        &[Network],
        "the server that a TLS client means",
        |row| match body(row) {
            Some(event::Body::TlsHello(hello)) => Cell::text(&hello.server_name),
            _ => Cell::Null,
        },
    ),
    of_entry(
        "ja4",
        Kind::Text,
        &[Network],
        "the client's fingerprint",
        |row| match body(row) {
            Some(event::Body::TlsHello(hello)) => Cell::text(&hello.ja4),
            _ => Cell::Null,
        },
    ),
    // Credentials.
    of_entry(
        "cause",
        Kind::Text,
        &[Credentials],
        "what explains the change: `exec`, `call`, or `unexplained`, which is an exploit of the kernel",
        |row| credential(row).map_or(Cell::Null, |it| Cell::text(cause(it.cause()))),
    ),
    of_entry(
        "euid_before",
        Kind::Number,
        &[Credentials],
        "effective user id before",
        |row| Cell::optional(credential(row).and_then(|it| it.before).map(|before| before.euid)),
    ),
    of_entry(
        "euid_after",
        Kind::Number,
        &[Credentials],
        "effective user id after",
        |row| Cell::optional(credential(row).and_then(|it| it.after).map(|after| after.euid)),
    ),
    of_entry(
        "gained",
        Kind::Text,
        &[Credentials],
        "capabilities that it has now and had not before",
        |row| credential(row).map_or(Cell::Null, |it| Cell::owned(it.gained.join(" "))),
    ),
    // Sessions.
    of_entry(
        "account",
        Kind::Text,
        &[Sessions],
        "who logged in or out, who somebody became or claimed to be",
        |row| session(row).map_or(Cell::Null, |it| Cell::text(&it.user)),
    ),
    of_entry("account_uid", Kind::Number, &[Sessions], "its user id", |row| {
        Cell::optional(session(row).and_then(|it| it.uid))
    }),
    of_entry("from_uid", Kind::Number, &[Sessions], "who became that", |row| {
        Cell::optional(session(row).and_then(|it| it.from_uid))
    }),
    of_entry("terminal", Kind::Text, &[Sessions], "the terminal", |row| {
        session(row).map_or(Cell::Null, |it| Cell::text(&it.terminal))
    }),
    of_entry("remote", Kind::Text, &[Sessions], "where they came from", |row| {
        session(row).map_or(Cell::Null, |it| Cell::text(&it.remote))
    }),
    of_entry(
        "program",
        Kind::Text,
        &[Sessions],
        "the program that saw to it",
        |row| session(row).map_or(Cell::Null, |it| Cell::text(&it.program)),
    ),
    // Orders of calls.
    of_entry(
        "calls",
        Kind::Text,
        &[Syscall],
        "the calls, the first first",
        |row| match body(row) {
            Some(event::Body::Sequence(sequence)) => Cell::owned(sequence.calls.join(" ")),
            _ => Cell::Null,
        },
    ),
    // Findings, incidents and what was done.
    of_entry(
        "subject",
        Kind::Text,
        &[Finding, Incidents],
        "what it was unusual for",
        |row| match &row.entry.body {
            Some(entry::Body::Signal(signal)) => Cell::text(&signal.subject),
            Some(entry::Body::Incident(incident)) => Cell::text(&incident.subject),
            _ => Cell::Null,
        },
    ),
    of_entry(
        "source",
        Kind::Text,
        &[Finding],
        "the model or rule that says so",
        |row| finding(row).map_or(Cell::Null, |it| Cell::text(&it.source)),
    ),
    of_entry("rule", Kind::Text, &[Finding], "id of the rule", |row| {
        finding(row)
            .and_then(|it| it.rule.as_ref())
            .map_or(Cell::Null, |rule| Cell::text(&rule.id))
    }),
    of_entry(
        "p_value",
        Kind::Real,
        &[Finding],
        "probability of something at least as surprising",
        |row| finding(row).map_or(Cell::Null, |it| Cell::Real(it.p_value)),
    ),
    of_entry("reasons", Kind::Text, &[Finding], "why, in sentences", |row| {
        finding(row).map_or(Cell::Null, |it| Cell::owned(it.reasons.join(" ")))
    }),
    of_entry(
        "techniques",
        Kind::Text,
        &[Finding],
        "MITRE ATT&CK techniques",
        |row| finding(row).map_or(Cell::Null, |it| Cell::owned(it.techniques.join(" "))),
    ),
    of_entry(
        "incident",
        Kind::Text,
        &[Incidents, Response],
        "id of the incident",
        |row| match &row.entry.body {
            Some(entry::Body::Incident(incident)) => Cell::text(&incident.id),
            Some(entry::Body::Outcome(outcome)) => outcome
                .action
                .as_ref()
                .map_or(Cell::Null, |action| Cell::text(&action.incident_id)),
            _ => Cell::Null,
        },
    ),
    of_entry(
        "severity",
        Kind::Text,
        &[Incidents],
        "`low`, `medium`, `high` or `critical`",
        |row| incident(row).map_or(Cell::Null, |it| Cell::text(severity(it.severity()))),
    ),
    of_entry(
        "summary",
        Kind::Text,
        &[Incidents],
        "what happened, to what, why it is unusual",
        |row| incident(row).map_or(Cell::Null, |it| Cell::text(&it.summary)),
    ),
    of_entry(
        "action",
        Kind::Text,
        &[Response],
        "what was done or would have been",
        |row| action(row).map_or(Cell::Null, |it| named(action_name(it.kind()))),
    ),
    of_entry(
        "action_target",
        Kind::Text,
        &[Response],
        "the process it was done to, as `PID@START`",
        |row| action(row).map_or(Cell::Null, |it| id(it.target)),
    ),
    of_entry("outcome", Kind::Text, &[Response], "what became of it", |row| {
        outcome(row).map_or(Cell::Null, |it| named(result_name(it.result())))
    }),
    of_entry("who", Kind::Text, &[Response], "who decided", |row| {
        outcome(row).map_or(Cell::Null, |it| Cell::text(&it.who))
    }),
    of_entry("detail", Kind::Text, &[Response], "why, in words", |row| {
        outcome(row).map_or(Cell::Null, |it| Cell::text(&it.detail))
    }),
    // Losses.
    of_entry("stage", Kind::Text, &[Losses], "where they were lost", |row| {
        loss(row).map_or(Cell::Null, |it| Cell::text(&it.stage))
    }),
    of_entry(
        "lost_signal",
        Kind::Text,
        &[Losses],
        "events of which signal; null for all",
        |row| loss(row).map_or(Cell::Null, |it| Cell::text(&it.signal)),
    ),
    of_entry("lost", Kind::Long, &[Losses], "how many", |row| {
        loss(row).map_or(Cell::Null, |it| Cell::Number(it.count))
    }),
    of_entry("reason", Kind::Text, &[Losses], "why", |row| {
        loss(row).map_or(Cell::Null, |it| Cell::text(&it.reason))
    }),
    // All of it, for programs.
    column_of(
        "entry",
        Kind::Bytes,
        &[],
        "the whole `sensor.v1.Entry`, encoded, but for its process",
        Source::Encoded,
    ),
    column_of(
        "entry_process",
        Kind::Bytes,
        &[],
        "that process, a `sensor.v1.Process`, encoded: the same for many rows",
        Source::EncodedProcess,
    ),
];

/// The column with this name.
#[must_use]
pub fn column(name: &str) -> Option<&'static Column> {
    COLUMNS.iter().find(|column| column.name == name)
}

const fn column_of(
    name: &'static str,
    kind: Kind,
    classes: &'static [Class],
    meaning: &'static str,
    source: Source,
) -> Column {
    Column {
        name,
        kind,
        classes,
        meaning,
        source,
    }
}

const fn of_entry(
    name: &'static str,
    kind: Kind,
    classes: &'static [Class],
    meaning: &'static str,
    get: for<'a> fn(&Row<'a>) -> Cell<'a>,
) -> Column {
    column_of(name, kind, classes, meaning, Source::Entry(get))
}

const fn of_process(
    name: &'static str,
    kind: Kind,
    meaning: &'static str,
    get: fn(&Process) -> Cell<'_>,
) -> Column {
    column_of(name, kind, &[], meaning, Source::Process(get))
}

fn id(id: Option<ProcessId>) -> Cell<'static> {
    id.map_or(Cell::Null, |id| {
        Cell::owned(format!("{}@{}", id.tgid, id.start_time_ns))
    })
}

fn body<'a>(row: &Row<'a>) -> Option<&'a event::Body> {
    row.event?.body.as_ref()
}

fn operation<'a>(row: &Row<'a>) -> Option<&'a Operation> {
    match body(row) {
        Some(event::Body::Operation(operation)) => Some(operation),
        _ => None,
    }
}

fn credential<'a>(row: &Row<'a>) -> Option<&'a Credential> {
    match body(row) {
        Some(event::Body::Credential(credential)) => Some(credential),
        _ => None,
    }
}

fn session<'a>(row: &Row<'a>) -> Option<&'a Session> {
    match body(row) {
        Some(event::Body::Session(session)) => Some(session),
        _ => None,
    }
}

fn tuple<'a>(row: &Row<'a>) -> Option<&'a Tuple> {
    match body(row)? {
        event::Body::Connect(it) => it.tuple.as_ref(),
        event::Body::Accept(it) => it.tuple.as_ref(),
        event::Body::FlowClose(it) | event::Body::FlowReport(it) => it.tuple.as_ref(),
        event::Body::UdpFlow(it) => it.tuple.as_ref(),
        event::Body::Dns(it) => it.tuple.as_ref(),
        event::Body::TlsHello(it) => it.tuple.as_ref(),
        _ => None,
    }
}

fn finding<'a>(row: &Row<'a>) -> Option<&'a Signal> {
    match &row.entry.body {
        Some(entry::Body::Signal(signal)) => Some(signal),
        _ => None,
    }
}

fn incident<'a>(row: &Row<'a>) -> Option<&'a Incident> {
    match &row.entry.body {
        Some(entry::Body::Incident(incident)) => Some(incident),
        _ => None,
    }
}

fn outcome<'a>(row: &Row<'a>) -> Option<&'a Outcome> {
    match &row.entry.body {
        Some(entry::Body::Outcome(outcome)) => Some(outcome),
        _ => None,
    }
}

fn action<'a>(row: &Row<'a>) -> Option<&'a Action> {
    outcome(row)?.action.as_ref()
}

fn loss<'a>(row: &Row<'a>) -> Option<&'a Loss> {
    match &row.entry.body {
        Some(entry::Body::Loss(loss)) => Some(loss),
        _ => None,
    }
}

fn cause(cause: CredentialCause) -> &'static str {
    match cause {
        CredentialCause::Unspecified => "",
        CredentialCause::Exec => "exec",
        CredentialCause::Call => "call",
        CredentialCause::Unexplained => "unexplained",
    }
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Unspecified => "",
        Severity::Low => "low",
        Severity::Medium => "medium",
        Severity::High => "high",
        Severity::Critical => "critical",
    }
}

/// Of a name; empty where it is that of no value.
fn named(name: String) -> Cell<'static> {
    Cell::owned(if name == "unspecified" {
        String::new()
    } else {
        name
    })
}

fn command_line(arguments: &[String]) -> String {
    let mut text = String::with_capacity(arguments.iter().map(|argument| argument.len() + 1).sum());
    for (index, argument) in arguments.iter().enumerate() {
        if index > 0 {
            text.push(' ');
        }
        let is_plain = |byte: u8| byte > b' ' && !matches!(byte, b'\'' | b'"' | b'\\' | b'`' | b'$' | 0x7f);
        if !argument.is_empty() && argument.bytes().all(is_plain) {
            text.push_str(argument);
        } else {
            text.push('\'');
            text.push_str(&argument.replace('\'', "'\\''"));
            text.push('\'');
        }
    }
    text
}

fn details(details: &[Detail]) -> String {
    let mut text = String::new();
    for detail in details {
        let space = if text.is_empty() { "" } else { " " };
        let _ = if detail.text.is_empty() {
            write!(text, "{space}{}={}", detail.name, detail.number)
        } else {
            write!(text, "{space}{}={}", detail.name, detail.text)
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_words_of_sql() {
        for (index, column) in COLUMNS.iter().enumerate() {
            assert!(
                column
                    .name
                    .bytes()
                    .all(|byte| matches!(byte, b'a'..=b'z' | b'_' | b'0'..=b'9')),
                "{}",
                column.name
            );
            assert!(!["class", "day"].contains(&column.name));
            assert!(
                COLUMNS[..index].iter().all(|other| other.name != column.name),
                "{} twice",
                column.name
            );
        }
    }

    #[test]
    fn a_command_line_can_be_told_apart_again() {
        let words =
            |words: &[&str]| command_line(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(words(&["ls", "-l", "/tmp"]), "ls -l /tmp");
        assert_eq!(
            words(&["sh", "-c", "echo 'hi' $x", ""]),
            r"sh -c 'echo '\''hi'\'' $x' ''"
        );
        assert_eq!(words(&[]), "");
    }
}
