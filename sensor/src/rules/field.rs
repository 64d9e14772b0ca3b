//! The fields that rules can ask for: one table, from which events are read, rules are checked and `docs/rules.md` is written.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::LazyLock,
};

use sensor_common::Signal;

use super::{
    Channel, Channels, Value,
    view::{View, borrowed, last, lossy, text},
};
use crate::host::{Body, Exit, How, Operation, capability_names, dns::DnsAnswer};

/// A field.
pub struct Field {
    /// What rules call it.
    pub name: &'static str,
    /// Where it is found.
    pub channels: Channels,
    /// What it holds, for the documentation.
    pub meaning: &'static str,
    read: for<'v> fn(&'v View<'v>) -> Option<Value<'v>>,
}

impl Field {
    /// Its value in an event.
    #[must_use]
    pub fn read<'v>(&self, view: &'v View<'v>) -> Option<Value<'v>> {
        (self.read)(view)
    }
}

impl std::fmt::Debug for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// The field of this name.
pub(super) fn by_name(name: &str) -> Option<&'static Field> {
    static FIELDS_BY_NAME: LazyLock<HashMap<&str, &Field, BuildHasherDefault<ByEnds>>> =
        LazyLock::new(|| FIELDS.iter().map(|field| (field.name, field)).collect());
    FIELDS_BY_NAME.get(name).copied()
}

/// A hash of the length and some bytes of a name, which tells the names of the table apart: one is looked up for each field that the rules of a
/// log source ask for.
#[derive(Default)]
struct ByEnds(u64);

impl Hasher for ByEnds {
    fn write(&mut self, bytes: &[u8]) {
        let at = |index: usize| u64::from(bytes.get(index).copied().unwrap_or_default());
        let length = bytes.len();
        let picked = [0, 1, length / 2, length.wrapping_sub(4), length.wrapping_sub(1)];
        let mixed = picked
            .into_iter()
            .fold(length as u64, |mixed, index| mixed << 8 ^ at(index));
        self.0 = (self.0 ^ mixed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_u8(&mut self, _: u8) {}

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

use Channel::{
    Auditd, DnsAnswer as Answer, DnsQuery, FileAccess, FileChange, FileCreate, FileDelete, FileEvent,
    FileRename, NetworkConnection, ProcessCreation, ProcessTermination, Sensor,
};

/// Everywhere but in records of the audit system, which has names of its own.
const ALL: Channels = Channels::of(&[
    ProcessCreation,
    ProcessTermination,
    FileEvent,
    FileCreate,
    FileChange,
    FileDelete,
    FileRename,
    FileAccess,
    NetworkConnection,
    DnsQuery,
    Answer,
    Sensor,
]);
const PROCESS: Channels = Channels::of(&[ProcessCreation]);
const FILES: Channels = Channels::of(&[
    FileEvent, FileCreate, FileChange, FileDelete, FileRename, FileAccess,
]);
const MOVES: Channels = Channels::of(&[FileEvent, FileRename]);
const MAKES: Channels = Channels::of(&[FileEvent, FileCreate, FileChange, Sensor]);
const CHANGES: Channels = Channels::of(&[FileChange]);
const OPENS: Channels = Channels::of(&[FileEvent, FileAccess, FileRename, Sensor]);
const CALLS: Channels = Channels::of(&[
    FileEvent, FileCreate, FileChange, FileDelete, FileRename, FileAccess, Sensor,
]);
const FLOWS: Channels = Channels::of(&[NetworkConnection, DnsQuery, Answer, Sensor]);
const DNS: Channels = Channels::of(&[DnsQuery, Answer]);
const ANSWER: Channels = Channels::of(&[Answer]);
const OWN: Channels = Channels::of(&[Sensor]);
const AUDIT: Channels = Channels::of(&[Auditd]);

const fn field(
    name: &'static str,
    channels: Channels,
    meaning: &'static str,
    read: for<'v> fn(&'v View<'v>) -> Option<Value<'v>>,
) -> Field {
    Field {
        name,
        channels,
        meaning,
        read,
    }
}

fn number(number: impl Into<i64>) -> Option<Value<'static>> {
    Some(Value::Number(number.into()))
}

fn plain<'v>(words: &'v str) -> Option<Value<'v>> {
    (!words.is_empty()).then(|| borrowed(words))
}

fn owned(words: impl Into<String>) -> Option<Value<'static>> {
    Some(Value::Text(words.into().into()))
}

fn flag(flag: bool) -> Option<Value<'static>> {
    Some(Value::Flag(flag))
}

/// The name that the file has from then on.
fn file(operation: &Operation) -> &[u8] {
    match operation.signal {
        Signal::FileRename | Signal::FileLink => &operation.target,
        _ => &operation.path,
    }
}

fn is_file(operation: &Operation) -> bool {
    Signal::FileOpen as u16 <= operation.signal as u16 && operation.signal as u16 <= Signal::FileFlags as u16
}

/// Every field that there is.
#[rustfmt::skip]
pub static FIELDS: &[Field] = &[
    // Who.
    field("Image", ALL, "Path of the executable; in `process_creation` also the name that was asked for, where it ends otherwise (`/bin/sh` is `dash`, `/bin/wget` `busybox`): either may match", |view| view.image()),
    field("CommandLine", ALL, "Arguments, a blank between them", |view| view.command_line()),
    field("CurrentDirectory", ALL, "Current directory at the exec", |view| text(&view.process()?.image.cwd)),
    field("ProcessId", ALL, "Process id in the initial namespace", |view| number(view.process()?.id.tgid)),
    field("User", ALL, "Name of the effective user; the number, where it has none", |view| Some(view.user(view.credentials()?.euid))),
    field("UserId", ALL, "Real user id", |view| number(view.credentials()?.uid)),
    field("EffectiveUserId", ALL, "Effective user id", |view| number(view.credentials()?.euid)),
    field("LoginUserId", ALL, "Who logged in to become that; absent where nobody did", |view| number(view.credentials()?.login_uid?)),
    field("LogonId", ALL, "Audit session of the login; absent where there is none", |view| number(view.credentials()?.session_id?)),
    field("ParentImage", ALL, "Path of the parent's executable", |view| text(&view.parent()?.image.executable)),
    field("ParentCommandLine", ALL, "Arguments of the parent", |view| view.parent_command_line()),
    field("ParentProcessId", ALL, "Process id of the parent", |view| number(view.process()?.parent?.tgid)),
    field("ParentUser", ALL, "Name of the parent's effective user", |view| Some(view.user(view.parent()?.credentials.euid))),
    field("AncestorImage", ALL, "Paths of the executables of all ancestors, up to 32: any may match", |view| view.ancestors()),
    field("Workload", ALL, "What it is part of: `unit:nginx.service`, `container:…`, `session:user@1000`, `host`", |view| plain(&view.process()?.workload.name)),
    field("ContainerId", ALL, "Full id of the container; absent outside of one", |view| plain(view.process()?.workload.container.as_deref()?)),
    field("ThreadName", ALL, "Name of the thread that acted", |view| text(view.event.thread.comm.split(|byte| *byte == 0).next()?)),

    // A program.
    field("PreviousImage", PROCESS, "What the process ran before", |view| text(&view.exec()?.previous.as_ref()?.executable)),
    field("ArgumentCount", PROCESS, "How many arguments there are, the program's name included", |view| number(view.process()?.image.arguments().count() as i64)),
    field("Script", PROCESS, "Whether an interpreter runs a script", |view| flag(view.exec()?.script)),
    field("MemoryFile", PROCESS, "Whether the executable is in anonymous memory only", |view| flag(view.exec()?.memfd)),
    field("Deleted", PROCESS, "Whether the executable has no name any more, memory files left out", |view| flag(view.exec()?.unlinked && !view.exec()?.memfd)),
    field("OverlayUpper", PROCESS, "Whether the executable was made or changed in a running container", |view| flag(view.exec()?.overlay_upper)),
    field("Environment", PROCESS, "Variables that make a loader or interpreter run other code, as `LD_PRELOAD=…`: any may match", environment),
    field("ExitCode", Channels::of(&[ProcessTermination]), "Exit code; absent where a signal ended it", |view| match &view.event.body { Body::Exit(Exit::Code(code)) => number(*code), _ => None }),
    field("ExitSignal", Channels::of(&[ProcessTermination]), "Number of the signal that ended it", |view| match &view.event.body { Body::Exit(Exit::Signal { number: signal, .. }) => number(*signal), _ => None }),

    // A file.
    field("TargetFilename", FILES, "Path of the file; the new one, where it is renamed or linked", |view| view.operation().filter(|operation| is_file(operation)).and_then(|operation| text(file(operation)))),
    field("SourceFilename", MOVES, "The name before; of a link, what it leads to", |view| view.operation().filter(|operation| matches!(operation.signal, Signal::FileRename | Signal::FileLink)).and_then(|operation| text(&operation.path))),
    field("Operation", CALLS, "Which signal it is: `file_open`, `file_rename`, `file_chmod`, … (docs/signals.md)", |view| plain(view.operation()?.signal.name())),
    field("Mode", MAKES, "Permissions that are set, in octal: `4755`", |view| view.detail("mode")),
    field("Flags", OPENS, "Flags by name, `|` between them: `O_WRONLY|O_CREAT`, `CLONE_NEWUSER`, `MS_BIND`", |view| view.detail("flags")),
    field("AttributeName", CHANGES, "Extended attribute that is set or removed: `security.capability`", |view| view.operation().filter(|operation| operation.signal == Signal::FileXattr).and_then(|operation| text(&operation.target))),
    field("OwnerId", CHANGES, "User id of the new owner; -1: as before", |view| view.detail("uid")),
    field("GroupId", CHANGES, "Group id of the new owner; -1: as before", |view| view.detail("gid")),
    field("Call", CALLS, "System call or hook that reported it", |view| plain(view.operation()?.call.name)),

    // The network.
    field("Initiated", FLOWS, "Whether this host began it", |view| flag(!view.flow()?.inbound)),
    field("Protocol", FLOWS, "`tcp` or `udp`", |view| plain(match view.event.body { Body::UdpFlow(..) | Body::Dns(..) => "udp", _ => { view.flow()?; "tcp" } })),
    field("SourceIp", FLOWS, "Address of who began it", |view| owned(view.ends()?[0].ip().to_canonical().to_string())),
    field("SourcePort", FLOWS, "Port of who began it; 0 where it is not known yet", |view| number(view.ends()?[0].port())),
    field("DestinationIp", FLOWS, "Address of the other end; of a question, the name server", |view| owned(view.ends()?[1].ip().to_canonical().to_string())),
    field("DestinationPort", FLOWS, "Port of the other end", |view| number(view.ends()?[1].port())),
    field("DestinationHostname", FLOWS, "Name by which somebody on this host last asked for the other end's address", |view| plain(view.flow().filter(|flow| !flow.inbound)?.remote_name.as_deref()?)),
    field("DestinationIsIpv6", FLOWS, "Whether the address is one of IPv6", |view| flag(view.ends()?[1].ip().to_canonical().is_ipv6())),
    field("QueryName", DNS, "Name that is asked for", |view| match &view.event.body { Body::Dns(_, message) => plain(&message.name), _ => None }),
    field("QueryType", DNS, "Kind of record: `A`, `TXT`", |view| match &view.event.body { Body::Dns(_, message) => plain(&message.kind), _ => None }),
    field("record_type", DNS, "The same", |view| match &view.event.body { Body::Dns(_, message) => plain(&message.kind), _ => None }),
    field("query", DNS, "The same as QueryName", |view| match &view.event.body { Body::Dns(_, message) => plain(&message.name), _ => None }),
    field("QueryStatus", ANSWER, "What the server says: `NOERROR`, `NXDOMAIN`", |view| match &view.event.body { Body::Dns(_, message) => plain(&message.code), _ => None }),
    field("QueryResults", ANSWER, "Addresses and canonical names: any may match", results),

    // What Sigma has no category for.
    field("Signal", OWN, "Name of the signal: `ptrace`, `module`, `credential`, … (docs/signals.md)", |view| plain(view.event.body.signal().name())),
    field("Path", OWN, "What it was done to: path or name", |view| text(&view.operation()?.path)),
    field("Target", OWN, "The other path or name: where it is mounted, the new value of a parameter, the target of a signal", |view| text(&view.operation()?.target)),
    field("PreviousValue", OWN, "Value of a kernel parameter before", |view| text(&view.operation()?.previous)),
    field("Request", OWN, "`PTRACE_ATTACH` and others", |view| view.detail("request")),
    field("Command", OWN, "Of `bpf`: `BPF_PROG_LOAD` and others", |view| view.detail("command")),
    field("Protection", OWN, "Of `exec_memory`: `PROT_READ|PROT_WRITE|PROT_EXEC`", |view| view.detail("protection")),
    field("SignalName", OWN, "Of `process_signal`: `SIGKILL` and others", |view| view.detail("signal")),
    field("SocketFamily", OWN, "Of `raw_socket`: `AF_PACKET` and others", |view| view.detail("family")),
    field("Taints", OWN, "Of `module`: `out of tree`, `unsigned`, `|` between them", |view| view.detail("taints")),
    field("LocalIp", OWN, "Of `listen` and `bind`: the address", |view| match &view.event.body { Body::Listen { address, .. } | Body::Bind { address, .. } => owned(address.ip().to_canonical().to_string()), _ => None }),
    field("LocalPort", OWN, "Of `listen` and `bind`: the port", |view| match &view.event.body { Body::Listen { address, .. } | Body::Bind { address, .. } => number(address.port()), _ => None }),
    field("BytesSent", OWN, "Of `flow_close` and `flow_report`: payload", |view| match &view.event.body { Body::FlowClose(_, totals) | Body::FlowReport(_, totals) => number(totals.bytes_sent as i64), _ => None }),
    field("BytesReceived", OWN, "Of `flow_close` and `flow_report`: payload", |view| match &view.event.body { Body::FlowClose(_, totals) | Body::FlowReport(_, totals) => number(totals.bytes_received as i64), _ => None }),
    field("ServerName", OWN, "Of `tls_hello`: the server that is meant", |view| match &view.event.body { Body::TlsHello(_, hello) => plain(&hello.server_name), _ => None }),
    field("Ja4", OWN, "Of `tls_hello`: the client's fingerprint", |view| match &view.event.body { Body::TlsHello(_, hello) => plain(&hello.ja4), _ => None }),
    field("Cause", OWN, "Of `credential`: `exec`, `call` or `unexplained`", |view| match &view.event.body { Body::Credential(change) => plain(match change.how { How::Exec => "exec", How::Call => "call", How::Unexplained => "unexplained" }), _ => None }),
    field("UserIdBefore", OWN, "Of `credential`: effective user id before", |view| match &view.event.body { Body::Credential(change) => number(change.before.euid), _ => None }),
    field("UserIdAfter", OWN, "Of `credential`: effective user id after", |view| match &view.event.body { Body::Credential(change) => number(change.after.euid), _ => None }),
    field("GainedCapabilities", OWN, "Of `credential`: names of capabilities that were gained: any may match", |view| match &view.event.body { Body::Credential(change) => Some(Value::List(capability_names(change.after.effective & !change.before.effective).into_iter().map(Into::into).collect())), _ => None }),
    field("Account", OWN, "Of `login`, `elevation`, `auth_failure`: the account that it is about", |view| plain(&view.session()?.user)),
    field("RemoteAddress", OWN, "Of the same: where from", |view| plain(&view.session()?.remote)),
    field("Program", OWN, "Of the same: the program that let them in or not", |view| plain(&view.session()?.program)),
    field("Terminal", OWN, "Of the same: `pts/3`", |view| plain(&view.session()?.terminal)),

    // As the audit system records it.
    field("type", AUDIT, "`SYSCALL`, `PATH`, `CWD`, `PROCTITLE`, and `EXECVE` for a program: a rule for any of them matches the event as a whole", |view| Some(Value::List(if view.exec().is_some() { vec!["SYSCALL".into(), "EXECVE".into(), "CWD".into(), "PATH".into(), "PROCTITLE".into()] } else { vec!["SYSCALL".into(), "PATH".into(), "CWD".into(), "PROCTITLE".into()] }))),
    field("SYSCALL", AUDIT, "Name of the call", audit_call),
    field("syscall", AUDIT, "Name of the call", audit_call),
    field("exe", AUDIT, "Path of the executable", |view| text(&view.process()?.image.executable)),
    field("comm", AUDIT, "Name of the thread; of a program, the last part of its name", |view| if view.exec().is_some() { text(last(&view.process()?.image.executable)) } else { text(view.event.thread.comm.split(|byte| *byte == 0).next()?) }),
    field("name", AUDIT, "Paths of the call: any may match", |view| match (view.exec(), view.operation()) { (Some(exec), _) => text(&exec.filename), (None, Some(operation)) => Some(Value::List([&operation.path, &operation.target].into_iter().filter(|path| !path.is_empty()).map(|path| lossy(path)).collect())), _ => None }),
    field("proctitle", AUDIT, "Arguments, a blank between them", |view| view.command_line()),
    field("cwd", AUDIT, "Current directory at the exec", |view| text(&view.process()?.image.cwd)),
    field("uid", AUDIT, "Real user id", |view| number(view.credentials()?.uid)),
    field("euid", AUDIT, "Effective user id", |view| number(view.credentials()?.euid)),
    field("auid", AUDIT, "Who logged in to become that", |view| number(view.credentials()?.login_uid?)),
    field("a0", AUDIT, "Of a program: its arguments, one by one", argument::<0>),
    field("a1", AUDIT, "", argument::<1>),
    field("a2", AUDIT, "", argument::<2>),
    field("a3", AUDIT, "", argument::<3>),
    field("a4", AUDIT, "", argument::<4>),
    field("a5", AUDIT, "", argument::<5>),
    field("a6", AUDIT, "", argument::<6>),
    field("a7", AUDIT, "", argument::<7>),
];

fn environment<'v>(view: &'v View<'v>) -> Option<Value<'v>> {
    let variables = &view.exec()?.variables;
    let list: Vec<_> = variables
        .split(|byte| *byte == 0)
        .filter(|variable| !variable.is_empty())
        .map(lossy)
        .collect();
    (!list.is_empty()).then_some(Value::List(list))
}

fn results<'v>(view: &'v View<'v>) -> Option<Value<'v>> {
    let Body::Dns(_, message) = &view.event.body else {
        return None;
    };
    let answers = message.answers.iter().map(|answer| match answer {
        DnsAnswer::Address(address) => address.to_string().into(),
        DnsAnswer::Name(name) => (&**name).into(),
    });
    Some(Value::List(answers.collect()))
}

fn audit_call<'v>(view: &'v View<'v>) -> Option<Value<'v>> {
    match view.operation() {
        Some(operation) => plain(operation.call.name),
        None => view.exec().and_then(|_| plain("execve")),
    }
}

fn argument<'v, const INDEX: usize>(view: &'v View<'v>) -> Option<Value<'v>> {
    view.exec()?;
    let argument = view.process()?.image.arguments().nth(INDEX)?;
    Some(Value::Text(lossy(argument)))
}
