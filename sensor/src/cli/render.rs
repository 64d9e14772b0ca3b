//! An entry as one line for people: time, signal, process, user, what, and what it belongs to.

use sensor_proto::{
    signal_name,
    v1::{self, Entry, Event, Process, Tuple, entry, event},
};

use super::text::{argument, bytes, duration, harmless, short};
use crate::time::WallTime;

/// Most arguments of a command that are shown.
const ARGUMENTS: usize = 24;

/// How lines are written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// With colours of the terminal.
    pub colour: bool,
    /// With the name of the host: the stream has more than one.
    pub host: bool,
}

/// `entry` as one line, without its end.
#[must_use]
pub fn line(entry: &Entry, style: Style) -> String {
    let Facts { time, process, what } = facts(entry);
    let name = signal_name(entry);
    let user = process.map(user).unwrap_or_default();
    let workload = process
        .map(|process| harmless(&process.workload))
        .unwrap_or_default();
    let who = process.map(who).unwrap_or_default();
    let mut line = style.paint(DIM, &clock(time));
    if style.host {
        line.push_str(&format!(" {:<12}", harmless(&entry.host)));
    }
    line.push_str(&format!(
        " {} {who:<22} {user:<10} {what}",
        style.paint(colour(entry), &format!("{name:<10}"))
    ));
    if !workload.is_empty() {
        line.push_str(&style.paint(DIM, &format!(" [{workload}]")));
    }
    line
}

struct Facts<'a> {
    time: u64,
    process: Option<&'a Process>,
    what: String,
}

fn facts(entry: &Entry) -> Facts<'_> {
    match &entry.body {
        Some(entry::Body::Event(event)) => Facts {
            time: event.time_ns,
            process: event.process.as_ref(),
            what: happened(event),
        },
        Some(entry::Body::Signal(signal)) => Facts {
            time: signal.event.as_ref().map_or(0, |event| event.time_ns),
            process: signal.event.as_ref().and_then(|event| event.process.as_ref()),
            what: opinion(signal),
        },
        Some(entry::Body::Incident(incident)) => Facts {
            time: incident.updated_ns,
            process: incident.process.as_ref(),
            what: told(incident),
        },
        Some(entry::Body::Outcome(outcome)) => Facts {
            time: outcome.time_ns,
            process: None,
            what: became(outcome),
        },
        Some(entry::Body::Loss(loss)) => Facts {
            time: loss.to_ns,
            process: None,
            what: lost(loss),
        },
        None => Facts {
            time: 0,
            process: None,
            what: "something this version does not know".into(),
        },
    }
}

/// Time of day in UTC; the date is in the JSON.
/// The time of day.
pub(super) fn clock(time_ns: u64) -> String {
    let whole = WallTime(time_ns).to_string();
    whole
        .split_once('T')
        .map_or(whole.clone(), |(_, time)| time.to_owned())
}

fn who(process: &Process) -> String {
    let path = &process.executable;
    let name = match path.rsplit('/').next() {
        Some(name) if !name.is_empty() => name,
        _ => &process.comm,
    };
    format!("{}[{}]", short(name, 32), process.id.map_or(0, |id| id.tgid))
}

/// Who it runs as, and who logged in to become that.
fn user(process: &Process) -> String {
    let number = |id: u32| id.to_string();
    let mut user = if process.user.is_empty() {
        number(process.uid)
    } else {
        short(&process.user, 32)
    };
    if process.euid != process.uid {
        user.push_str(&format!("→{}", process.euid));
    }
    if let Some(login) = process.login_uid.filter(|login| *login != process.uid) {
        user.push_str(&format!("({login})"));
    }
    user
}

pub(super) fn happened(event: &Event) -> String {
    match &event.body {
        Some(event::Body::Exec(exec)) => executed(exec, event.process.as_ref()),
        Some(event::Body::Fork(_)) => event.process.as_ref().map(forked).unwrap_or_default(),
        Some(event::Body::Exit(exit)) => exited(exit),
        Some(event::Body::Connect(connect)) => format!("to {}", ends(connect.tuple.as_ref()).1),
        Some(event::Body::Accept(accept)) => {
            let (local, remote) = ends(accept.tuple.as_ref());
            format!("from {remote} on {local}")
        }
        Some(event::Body::Listen(listen)) => {
            format!(
                "on {} (backlog {})",
                address(&listen.address, listen.port),
                listen.backlog
            )
        }
        Some(event::Body::FlowClose(flow) | event::Body::FlowReport(flow)) => closed(flow),
        Some(event::Body::TlsHello(hello)) => greeted(hello),
        Some(event::Body::Bind(bind)) => {
            let at = address(&bind.address, bind.port);
            format!("{at} ({})", short(&bind.protocol, 8))
        }
        Some(event::Body::UdpFlow(flow)) => flowed(flow),
        Some(event::Body::Dns(dns)) => resolved(dns),
        Some(event::Body::Session(session)) => came_or_went(session),
        Some(event::Body::Credential(credential)) => became_another(credential),
        Some(event::Body::Operation(operation)) => asked(operation),
        Some(event::Body::Sequence(sequence)) => in_new_order(sequence),
        None => "something this version does not know".into(),
    }
}

fn executed(exec: &v1::Exec, process: Option<&Process>) -> String {
    let Some(process) = process else {
        return short(&exec.filename, 400);
    };
    let mut what = argument(&process.executable);
    for text in process.args.iter().skip(1).take(ARGUMENTS) {
        what.push(' ');
        what.push_str(&argument(text));
    }
    let more = process.args.len().saturating_sub(ARGUMENTS + 1);
    let cut = (more > 0 || process.args_truncated)
        .then(|| format!("arguments cut, {} in all", bytes(process.args_total_bytes)));
    let script = exec
        .script
        .then(|| format!("script {}", argument(&exec.filename)));
    let notes = [
        cut,
        script,
        exec.memfd.then(|| "memory file".into()),
        (exec.unlinked && !exec.memfd).then(|| "deleted".into()),
        exec.overlay_upper.then(|| "in an overlay's upper layer".into()),
        exec.path_truncated.then(|| "path cut".into()),
        exec.args_unreadable.then(|| "arguments unreadable".into()),
        (!exec.variables.is_empty()).then(|| {
            let variables: Vec<String> = exec
                .variables
                .iter()
                .take(4)
                .map(|text| short(text, 120))
                .collect();
            variables.join(" ")
        }),
    ];
    let notes: Vec<String> = notes.into_iter().flatten().collect();
    if !notes.is_empty() {
        what.push_str(&format!(" ({})", notes.join(", ")));
    }
    what
}

fn forked(process: &Process) -> String {
    let parent = process.parent_id.map_or(0, |id| id.tgid);
    match process.parent_executable.as_str() {
        "" => format!("from [{parent}]"),
        path => format!("from {}[{parent}]", short(path, 200)),
    }
}

fn exited(exit: &v1::Exit) -> String {
    match (exit.signal, exit.code) {
        (Some(signal), _) => {
            let core = if exit.core_dumped { ", core dumped" } else { "" };
            format!("killed by {}{core}", signal_number(signal))
        }
        (None, code) => format!("code {}", code.unwrap_or_default()),
    }
}

/// The signals that end processes in practice, by name.
fn signal_number(number: u32) -> String {
    let name = match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        31 => "SIGSYS",
        _ => return format!("signal {number}"),
    };
    name.to_owned()
}

fn closed(flow: &v1::FlowClose) -> String {
    let (local, remote) = ends(flow.tuple.as_ref());
    let way = if flow.inbound {
        format!("from {remote} on {local}")
    } else {
        format!("to {remote}")
    };
    if !flow.established {
        return format!("{way}, never established");
    }
    let mut what = format!(
        "{way}, sent {}, received {}",
        bytes(flow.bytes_sent),
        bytes(flow.bytes_received)
    );
    if let Some(nanoseconds) = flow.duration_ns {
        what.push_str(&format!(" in {}", duration(nanoseconds)));
    }
    if flow.rtt_us > 0 {
        what.push_str(&format!(", rtt {}", duration(u64::from(flow.rtt_us) * 1000)));
    }
    if flow.retransmits > 0 {
        what.push_str(&format!(", {} retransmits", flow.retransmits));
    }
    what
}

fn flowed(flow: &v1::UdpFlow) -> String {
    let (local, remote) = ends(flow.tuple.as_ref());
    let way = if flow.inbound {
        format!("from {remote} on {local}")
    } else {
        format!("to {remote}")
    };
    let datagrams = |count: u64, length: u64| format!("{count} ({})", bytes(length));
    let goes_on = match flow.end.as_str() {
        "active" => ", goes on",
        "no room" => ", not counted further",
        _ => "",
    };
    format!(
        "{way}, sent {}, received {} in {}{goes_on}",
        datagrams(flow.datagrams_sent, flow.bytes_sent),
        datagrams(flow.datagrams_received, flow.bytes_received),
        duration(flow.duration_ns)
    )
}

fn resolved(dns: &v1::Dns) -> String {
    let (_, server) = ends(dns.tuple.as_ref());
    let mut what = format!("{} {} at {server}", short(&dns.r#type, 16), short(&dns.name, 300));
    if dns.answer {
        let answers: Vec<String> = dns.answers.iter().map(|answer| short(answer, 300)).collect();
        let said = match (dns.code.as_str(), answers.is_empty()) {
            ("NOERROR", false) => answers.join(" "),
            (code, _) => short(code, 32),
        };
        what.push_str(&format!(": {said}"));
    }
    for (holds, note) in [(dns.truncated, " (cut)"), (dns.malformed, " (malformed)")] {
        if holds {
            what.push_str(note);
        }
    }
    what
}

/// Who, from where, by what, and who says so.
fn came_or_went(session: &v1::Session) -> String {
    let account = match (session.user.as_str(), session.uid) {
        ("", Some(uid)) => uid.to_string(),
        ("", None) => "somebody".to_owned(),
        (user, _) => short(user, 64),
    };
    let mut words = vec![match session.from_uid {
        Some(from) => format!("{from}→{account}"),
        None => account,
    }];
    for (before, text) in [
        ("by ", &session.program),
        ("from ", &session.remote),
        ("on ", &session.terminal),
    ] {
        if !text.is_empty() {
            words.push(format!("{before}{}", short(text, 128)));
        }
    }
    words.push(format!("({})", short(&session.source, 16)));
    words.join(" ")
}

/// By what, and which ids and capabilities are others.
fn became_another(credential: &v1::Credential) -> String {
    let mut words = vec![match credential.cause() {
        v1::CredentialCause::Unspecified => "?".to_owned(),
        v1::CredentialCause::Exec => "by exec:".to_owned(),
        v1::CredentialCause::Call => format!("by {}:", harmless(&credential.call)),
        v1::CredentialCause::Unexplained => {
            format!("UNEXPLAINED, noticed at {}:", harmless(&credential.noticed))
        }
    }];
    let (before, after) = (
        credential.before.unwrap_or_default(),
        credential.after.unwrap_or_default(),
    );
    for (name, before, after) in [
        ("uid", before.uid, after.uid),
        ("euid", before.euid, after.euid),
        ("suid", before.suid, after.suid),
        ("fsuid", before.fsuid, after.fsuid),
        ("gid", before.gid, after.gid),
        ("egid", before.egid, after.egid),
        ("sgid", before.sgid, after.sgid),
        ("fsgid", before.fsgid, after.fsgid),
        ("user_ns", before.user_ns, after.user_ns),
    ] {
        if before != after {
            words.push(format!("{name} {before}→{after}"));
        }
    }
    let lost = before.effective & !after.effective;
    match credential.gained.as_slice() {
        [] if lost != 0 => words.push(format!("lost {} capabilities", lost.count_ones())),
        [] => {}
        [one] => words.push(format!("gained {}", harmless(one))),
        many => words.push(format!("gained {} capabilities", many.len())),
    }
    words.join(" ")
}

fn greeted(hello: &v1::TlsHello) -> String {
    let (_, server) = ends(hello.tuple.as_ref());
    let name = match hello.server_name.as_str() {
        "" => "no name",
        name => name,
    };
    let mut what = format!("{} at {server}", short(name, 300));
    let texts = hello.protocols.iter().chain([&hello.ja4]);
    for text in texts.filter(|text| !text.is_empty()) {
        what.push(' ');
        what.push_str(&short(text, 64));
    }
    for (holds, note) in [(hello.truncated, " (cut)"), (hello.malformed, " (malformed)")] {
        if holds {
            what.push_str(note);
        }
    }
    what
}

/// What was done, to what, and how.
fn asked(operation: &v1::Operation) -> String {
    let mut words = vec![harmless(&operation.call).into_owned()];
    if !operation.path.is_empty() {
        words.push(argument(&operation.path));
    }
    if !operation.previous.is_empty() {
        words.push(format!("from {}", argument(&operation.previous)));
    }
    if !operation.target.is_empty() {
        words.push(format!("→ {}", argument(&operation.target)));
    }
    words.extend(operation.details.iter().map(|detail| {
        let value = match detail.text.as_str() {
            "" => detail.number.to_string(),
            text => harmless(text).into_owned(),
        };
        format!("{}={value}", harmless(&detail.name))
    }));
    if let Some(repeats) = &operation.repeats {
        let last = repeats.last_ns.saturating_sub(repeats.first_ns);
        words.push(format!("({} more within {})", repeats.count, duration(last)));
    }
    if operation.path_truncated {
        words.push("(path cut)".to_owned());
    }
    if operation.path_unreadable {
        words.push("(path unreadable)".to_owned());
    }
    if operation.path_unmounted {
        words.push("(in its file system)".to_owned());
    }
    words.join(" ")
}

fn in_new_order(sequence: &v1::Sequence) -> String {
    let calls: Vec<_> = sequence.calls.iter().map(|call| harmless(call)).collect();
    let calls = calls.join(" ");
    match sequence.withheld {
        0 => calls,
        withheld => format!("{calls} (and {withheld} more)"),
    }
}

fn ends(tuple: Option<&Tuple>) -> (String, String) {
    let Some(tuple) = tuple else {
        return ("?".into(), "?".into());
    };
    let mut remote = address(&tuple.remote_address, tuple.remote_port);
    if !tuple.remote_name.is_empty() {
        remote.push_str(&format!(" ({})", short(&tuple.remote_name, 300)));
    }
    (address(&tuple.local_address, tuple.local_port), remote)
}

fn address(host: &str, port: u32) -> String {
    let host = short(host, 64);
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

pub(super) fn opinion(signal: &v1::Signal) -> String {
    let reason = signal.reasons.first().map_or("no reason given", String::as_str);
    if let Some(rule) = &signal.rule {
        let tags = tags(std::slice::from_ref(signal));
        return format!("{}: {}{tags}", short(&rule.level, 16), short(reason, 400));
    }
    format!(
        "{:.1} bits: {} ({})",
        signal.bits,
        short(reason, 400),
        short(&signal.source, 40)
    )
}

/// How bad it is, for people.
pub(super) fn severity_name(severity: v1::Severity) -> &'static str {
    match severity {
        v1::Severity::Unspecified => "?",
        v1::Severity::Low => "LOW",
        v1::Severity::Medium => "MEDIUM",
        v1::Severity::High => "HIGH",
        v1::Severity::Critical => "CRITICAL",
    }
}

fn told(incident: &v1::Incident) -> String {
    let severity = severity_name(incident.severity());
    let times = if incident.count > 1 {
        format!(", seen {} times", incident.count)
    } else {
        String::new()
    };
    format!(
        "{severity} {}{}{} ({}{times})",
        short(&incident.summary, 400),
        tags(&incident.signals),
        incident.origin.as_ref().map(concluded).unwrap_or_default(),
        short(&incident.id, 64)
    )
}

/// The techniques, and the ids of the rules, that signals name.
pub(super) fn tags(signals: &[v1::Signal]) -> String {
    const SHOWN: usize = 8;
    let mut tags: Vec<String> = Vec::new();
    let techniques = signals.iter().flat_map(|signal| &signal.techniques);
    let rules = signals.iter().filter_map(|signal| signal.rule.as_ref());
    let all = techniques
        .map(|id| short(id, 16))
        .chain(rules.map(|rule| format!("rule {}", short(&rule.id, 48))));
    for tag in all {
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    let more = tags.len().saturating_sub(SHOWN);
    tags.truncate(SHOWN);
    if more > 0 {
        tags.push(format!("{more} more"));
    }
    if tags.is_empty() {
        String::new()
    } else {
        format!(" [{}]", tags.join(", "))
    }
}

/// Whose doing it is, and the weightiest reason for that.
pub(super) fn concluded(origin: &v1::Origin) -> String {
    let side = match origin.side() {
        v1::Side::Unspecified => return String::new(),
        v1::Side::Insider => "insider",
        v1::Side::External => "external",
        v1::Side::Unclear => "insider or external, that is unclear",
    };
    let reason = origin.reasons.iter().find(|reason| reason.side == origin.side);
    match reason.or(origin.reasons.first()) {
        Some(reason) => format!("; {side}: {}", short(&reason.text, 200)),
        None => format!("; {side}"),
    }
}

/// What became of an action.
pub(super) fn became(outcome: &v1::Outcome) -> String {
    let result = match outcome.result() {
        v1::Result::Unspecified => "?",
        v1::Result::Done => "done",
        v1::Result::Observed => "observed only",
        v1::Result::Asked => "waits for a person",
        v1::Result::Denied => "denied",
        v1::Result::Lapsed => "lapsed",
        v1::Result::Refused => "refused",
        v1::Result::Failed => "failed",
        v1::Result::Gone => "already gone",
        v1::Result::Expired => "its time is over",
        v1::Result::Stopped => "the kernel refused it",
    };
    let Some(action) = &outcome.action else {
        return result.into();
    };
    let kind = action_name(action.kind());
    let mut what = format!("{kind} {}: {result}", directed_at(action));
    if !outcome.detail.is_empty() {
        what.push_str(&format!(", {}", short(&outcome.detail, 400)));
    }
    format!(
        "{what} ({}, after {})",
        if action.incident_id.is_empty() {
            "by order".into()
        } else {
            short(&action.incident_id, 64)
        },
        duration(outcome.latency_ns)
    )
}

/// Whom or what an action is directed at, for people.
pub(super) fn directed_at(action: &v1::Action) -> String {
    use v1::object::Is;
    if let Some(process) = &action.target {
        return format!("[{}]", process.tgid);
    }
    match action.object.as_ref().and_then(|object| object.is.as_ref()) {
        Some(Is::Executable(path) | Is::File(path)) => short(path, 200),
        Some(Is::Network(network)) => short(network, 64),
        Some(Is::User(uid)) => format!("user {uid}"),
        Some(Is::Host(_)) => "this host".to_owned(),
        None => "?".to_owned(),
    }
}

/// A kind of action for people.
pub(super) fn action_name(kind: v1::ActionKind) -> &'static str {
    use v1::ActionKind as Kind;
    match kind {
        Kind::Unspecified => "?",
        Kind::Kill => "kill",
        Kind::KillTree => "kill with descendants",
        Kind::Suspend => "suspend",
        Kind::Resume => "resume",
        Kind::Disconnect => "disconnect",
        Kind::Reconnect => "reconnect",
        Kind::Block => "block",
        Kind::Unblock => "unblock",
        Kind::Isolate => "isolate",
        Kind::Release => "release",
        Kind::Revoke => "revoke",
        Kind::Reinstate => "reinstate",
        Kind::Quarantine => "quarantine",
        Kind::Restore => "restore",
        Kind::Collect => "collect evidence of",
    }
}

fn lost(loss: &v1::Loss) -> String {
    let signal = if loss.signal.is_empty() {
        String::new()
    } else {
        format!("{} ", short(&loss.signal, 32))
    };
    format!(
        "{} {signal}events lost ({}): {}",
        loss.count,
        short(&loss.stage, 32),
        short(&loss.reason, 200)
    )
}

const DIM: &str = "2";

/// By what it means for who looks, as a parameter of `SGR`.
fn colour(entry: &Entry) -> &'static str {
    match &entry.body {
        Some(entry::Body::Incident(_)) => "1;31",
        Some(entry::Body::Signal(_) | entry::Body::Loss(_)) => "33",
        Some(entry::Body::Outcome(_)) => "1;35",
        Some(entry::Body::Event(event)) => match event.body {
            Some(event::Body::Exec(_)) => "32",
            Some(event::Body::Fork(_) | event::Body::Exit(_)) => DIM,
            _ => "36",
        },
        None => DIM,
    }
}

impl Style {
    fn paint(self, colour: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{colour}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

#[cfg(test)]
mod tests;
