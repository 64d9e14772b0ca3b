//! What an event says of the one it belongs to: a fact to be known or new, in the context of the program that did it.
//!
//! Facts are coarse on purpose. A path is the directory that it lies in, no deeper than [`DEPTH`], with the names that programs make up taken out;
//! an address without a name is its network. Only what attackers want is looked at in full: [`COVETED`] files.

use std::{fmt::Write as _, io::Write as _, net::IpAddr};

use sensor_common::Signal;

use super::lineage::printable;
use crate::host::{Body, CredentialChange, Event, Flow, How, Operation};

/// Components of a directory that count.
const DEPTH: usize = 3;

/// Which model looks at a fact, and what it is a sign of if it is new (MITRE ATT&CK).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) source: &'static str,
    pub(super) techniques: &'static [&'static str],
}

/// Of people: when, and from where, they are at work. Of programs: that something comes back like clockwork.
pub(super) const HOUR: Kind = kind("hour", &["T1078"]);
pub(super) const LOGIN_SOURCE: Kind = kind("login source", &["T1078"]);
pub(super) const PROGRAM: Kind = kind("program", &["T1059"]);
pub(super) const REGULAR: Kind = kind("regular contact", &["T1071"]);

const COVETED_READ: &str = "coveted file read";
const COVETED_CHANGED: &str = "coveted file changed";
const FORGED: &str = "privileges out of nowhere";

impl Kind {
    /// Whether it is bad whoever does it, more than new.
    pub(super) fn is_grave(self) -> bool {
        matches!(self.source, COVETED_READ | COVETED_CHANGED | FORGED)
    }

    /// Whether nothing that is normal does it.
    pub(super) fn is_forged(self) -> bool {
        self.source == FORGED
    }
}

/// A place by which attackers stay, rise or steal, and the technique. A `*` at its end stands for any ending.
type Coveted = (&'static str, &'static str);

/// Below `/etc`.
const IN_ETC: [Coveted; 23] = [
    ("cron.*", "T1053.003"),
    ("crontab", "T1053.003"),
    ("anacrontab", "T1053.003"),
    ("systemd/system", "T1543.002"),
    ("systemd/user", "T1543.002"),
    ("ld.so.preload", "T1574.006"),
    ("ld.so.conf.d", "T1574.006"),
    ("environment", "T1574.006"),
    ("profile", "T1546.004"),
    ("profile.d", "T1546.004"),
    ("bash.bashrc", "T1546.004"),
    ("passwd", "T1098"),
    ("shadow", "T1003.008"),
    ("gshadow", "T1003.008"),
    ("sudoers", "T1548.003"),
    ("sudoers.d", "T1548.003"),
    ("pam.d", "T1556.003"),
    ("init.d", "T1037.004"),
    ("rc.local", "T1037.004"),
    ("udev/rules.d", "T1546.017"),
    ("modules-load.d", "T1547.006"),
    ("xdg/autostart", "T1547.013"),
    ("ssh/ssh_host_*", "T1552.004"),
];

/// Below somebody's home.
const IN_HOMES: [Coveted; 11] = [
    (".ssh/authorized_keys", "T1098.004"),
    (".ssh/id_*", "T1552.004"),
    (".bashrc", "T1546.004"),
    (".bash_profile", "T1546.004"),
    (".profile", "T1546.004"),
    (".zshrc", "T1546.004"),
    (".config/systemd", "T1543.002"),
    (".config/autostart", "T1547.013"),
    (".aws/credentials", "T1552.001"),
    (".kube/config", "T1552.001"),
    (".netrc", "T1552.001"),
];

/// Below `/var`, `/usr` and `/`, `/run`.
const IN_VAR: [Coveted; 2] = [("spool/cron", "T1053.003"), ("spool/at", "T1053.002")];
const IN_USR: [Coveted; 3] = [
    ("lib/systemd/system", "T1543.002"),
    ("local/lib/systemd/system", "T1543.002"),
    ("lib/modules", "T1547.006"),
];
const IN_LIB: [Coveted; 2] = [("systemd/system", "T1543.002"), ("modules", "T1547.006")];
const IN_RUN: [Coveted; 1] = [("systemd/system", "T1543.002")];

/// Directories where names are made up by whoever puts something there.
const MADE_UP: [&[u8]; 5] = [b"/tmp/", b"/var/tmp/", b"/dev/shm/", b"/proc/", b"/run/user/"];

/// The fact in `event`, appended to `fact`; `None` where there is none. Which program it started is one only where
/// [`Lineage`](super::Lineage) does not say so.
pub(super) fn of(event: &Event, fact: &mut Vec<u8>) -> Option<Kind> {
    match &event.body {
        Body::Connect(flow) | Body::UdpFlow(flow, _) if !flow.inbound => {
            far_end(flow, fact);
            Some(kind("destination", &["T1071"]))
        }
        Body::Listen { address, .. } => {
            let _ = write!(fact, "port {}", address.port());
            Some(kind("listener", &["T1205"]))
        }
        Body::Operation(operation) => of_operation(operation, fact),
        Body::Credential(change) => of_credential(change, event, fact),
        _ => None,
    }
}

/// Who became root by a program or a call: by which, where its directory's names are made up by the directory.
fn of_credential(change: &CredentialChange, event: &Event, fact: &mut Vec<u8>) -> Option<Kind> {
    let rises = change.after.euid == 0 && change.before.euid != 0
        || change.after.effective & !change.before.effective != 0;
    if !rises {
        return None;
    }
    let executable = &event.process.as_ref()?.image.executable;
    match change.how {
        How::Exec => {
            program(executable, fact);
            Some(kind("privileges by program", &["T1548.001"]))
        }
        How::Call => {
            program(executable, fact);
            Some(kind("privileges by call", &["T1548"]))
        }
        How::Unexplained => {
            fact.extend_from_slice(b"unexplained");
            Some(kind(FORGED, &["T1068"]))
        }
    }
}

/// Appends the path of a program, or the directory where names are made up.
pub(super) fn program(executable: &[u8], fact: &mut Vec<u8>) {
    match MADE_UP.iter().find(|place| executable.starts_with(place)) {
        Some(place) => fact.extend_from_slice(place),
        None => fact.extend_from_slice(executable),
    }
}

const fn kind(source: &'static str, techniques: &'static [&'static str]) -> Kind {
    Kind { source, techniques }
}

fn of_operation(operation: &Operation, fact: &mut Vec<u8>) -> Option<Kind> {
    let techniques: &'static [&'static str] = match operation.signal {
        Signal::FileOpen
        | Signal::FileCreate
        | Signal::FileRename
        | Signal::FileLink
        | Signal::FileTruncate
        | Signal::FileUnlink => return of_file(operation, fact),
        Signal::FileXattr | Signal::FileFlags | Signal::FileChown => &["T1222.002"],
        Signal::Ptrace => &["T1055.008"],
        Signal::ProcessWrite => &["T1055"],
        Signal::Memfd | Signal::ExecMemory => &["T1620"],
        Signal::Namespace | Signal::RootChange | Signal::Mount => &["T1611"],
        Signal::Keyctl => &["T1003"],
        Signal::Userfaultfd => &["T1068"],
        Signal::Module => &["T1547.006"],
        Signal::Bpf => &["T1014"],
        Signal::Kexec => &["T1542"],
        Signal::RawSocket => &["T1040"],
        Signal::Sysctl | Signal::Lockdown => &["T1562"],
        Signal::Tracing => &["T1056"],
        Signal::IoUring => &["T1106"],
        _ => return None,
    };
    fact.extend_from_slice(operation.call.name.as_bytes());
    Some(kind("operation", techniques))
}

/// Files by what is done with them: read, or any way of changing them.
fn of_file(operation: &Operation, fact: &mut Vec<u8>) -> Option<Kind> {
    let path: &[u8] = match operation.signal {
        Signal::FileRename | Signal::FileLink => &operation.target,
        _ => &operation.path,
    };
    if path.first() != Some(&b'/') {
        return None;
    }
    let reads = reads(operation);
    if let Some((_, technique)) = coveted(path) {
        fact.extend_from_slice(path);
        let source = if reads { COVETED_READ } else { COVETED_CHANGED };
        return Some(kind(source, std::slice::from_ref(technique)));
    }
    directory(path, fact);
    Some(kind(
        if reads { "files read" } else { "files changed" },
        if reads { &["T1005"] } else { &["T1565.001"] },
    ))
}

/// Whether an open is for reading alone.
fn reads(operation: &Operation) -> bool {
    const ACCESS: u64 = 3;
    operation.signal == Signal::FileOpen && flags(operation).is_some_and(|flags| flags & ACCESS == 0)
}

/// Whether an open is of a file that was there, to write something else into it.
pub(super) fn rewrites(operation: &Operation) -> bool {
    const ACCESS: u64 = 3;
    const CREATE: u64 = 0o100;
    const EXCLUSIVE: u64 = 0o200;
    const TRUNCATE: u64 = 0o1000;
    const APPEND: u64 = 0o2000;
    let Some(flags) = flags(operation) else {
        return false;
    };
    let in_place = flags & (CREATE | APPEND) == 0 && flags & ACCESS != 0;
    operation.signal == Signal::FileOpen && flags & EXCLUSIVE == 0 && (in_place || flags & TRUNCATE != 0)
}

fn flags(operation: &Operation) -> Option<u64> {
    let mut details = operation.call.details.iter();
    let flags = details.find(|detail| detail.name == "flags")?;
    operation.values.get(flags.value).copied()
}

/// The coveted place that `path` is or lies in. Most files are in none, which the first name tells.
fn coveted(path: &[u8]) -> Option<&'static Coveted> {
    let (first, rest) = split_name(path.strip_prefix(b"/")?);
    let (places, rest): (&'static [Coveted], _) = match first {
        b"etc" => (&IN_ETC, rest),
        b"root" => (&IN_HOMES, rest),
        b"home" => (&IN_HOMES, split_name(rest).1),
        b"var" => (&IN_VAR, rest),
        b"usr" => (&IN_USR, rest),
        b"lib" => (&IN_LIB, rest),
        b"run" => (&IN_RUN, rest),
        _ => return None,
    };
    places.iter().find(|(place, _)| lies_in(rest, place))
}

/// The first name of a path that begins with one, and what follows.
fn split_name(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().position(|byte| *byte == b'/') {
        Some(end) => (&path[..end], &path[end + 1..]),
        None => (path, &[]),
    }
}

/// Whether `path` is `place` or lies in it.
fn lies_in(path: &[u8], place: &str) -> bool {
    if let Some(begin) = place.strip_suffix('*') {
        return path.starts_with(begin.as_bytes());
    }
    let rest = path.strip_prefix(place.as_bytes());
    rest.is_some_and(|rest| rest.first().is_none_or(|byte| *byte == b'/'))
}

/// Appends the directory of `path`, as far as it counts.
fn directory(path: &[u8], fact: &mut Vec<u8>) {
    if let Some(place) = MADE_UP.iter().find(|place| path.starts_with(place)) {
        fact.extend_from_slice(&place[..place.len() - 1]);
        return;
    }
    let mut rest = path.strip_prefix(b"/").unwrap_or(path);
    for _ in 0..DEPTH {
        let Some(end) = rest.iter().position(|byte| *byte == b'/') else {
            return;
        };
        let name = &rest[..end];
        rest = &rest[end + 1..];
        if name.is_empty() {
            continue;
        }
        fact.push(b'/');
        let digits = name.iter().filter(|byte| byte.is_ascii_digit()).count();
        fact.extend_from_slice(if digits >= 4 { b"#" } else { name });
    }
}

/// Appends who is at the other end: the name that was asked for, without what stands before its last three labels; else the network.
pub(super) fn far_end(flow: &Flow, fact: &mut Vec<u8>) {
    let port = flow.remote.port();
    let _ = match (&flow.remote_name, flow.remote.ip()) {
        (Some(name), _) => write!(fact, "{}:{port}", domain(name)),
        (None, IpAddr::V4(address)) => {
            let [a, b, c, _] = address.octets();
            write!(fact, "{a}.{b}.{c}.0/24:{port}")
        }
        (None, IpAddr::V6(address)) => {
            let [a, b, c, ..] = address.segments();
            write!(fact, "[{a:x}:{b:x}:{c:x}::]/48:{port}")
        }
    };
}

/// The last three labels of a name.
pub(super) fn domain(name: &str) -> &str {
    let from = name.rmatch_indices('.').nth(2).map_or(0, |(at, _)| at + 1);
    &name[from..]
}

/// What was done, as a sentence goes on after its subject.
pub(super) fn in_words(event: &Event) -> String {
    let mut text = String::new();
    let _ = match &event.body {
        Body::Connect(flow) | Body::UdpFlow(flow, _) => {
            let did = match event.body {
                Body::Connect(_) => "connected to",
                _ => "sent datagrams to",
            };
            match &flow.remote_name {
                Some(name) => write!(text, "{did} {} ({})", printable(name.as_bytes()), flow.remote),
                None => write!(text, "{did} {}", flow.remote),
            }
        }
        Body::Listen { address, .. } => write!(text, "listens at {address}"),
        Body::Credential(change) => write!(text, "{}", rise(change)),
        Body::Operation(operation) => {
            let path = printable(&operation.path);
            let target = printable(&operation.target);
            match operation.signal {
                Signal::FileOpen if reads(operation) => write!(text, "read {path}"),
                Signal::FileOpen => write!(text, "wrote to {path}"),
                Signal::FileCreate => write!(text, "made {path}"),
                Signal::FileRename => write!(text, "renamed {path} to {target}"),
                Signal::FileLink => write!(text, "linked {target} to {path}"),
                Signal::FileTruncate => write!(text, "cut {path}"),
                Signal::FileUnlink => write!(text, "removed {path}"),
                _ if operation.path.is_empty() => write!(text, "called {}", operation.call.name),
                _ => write!(text, "called {} for {path}", operation.call.name),
            }
        }
        _ => Ok(()),
    };
    text
}

fn rise(change: &CredentialChange) -> String {
    let how = match change.how {
        How::Exec => "by running a program that has them",
        How::Call => "by asking the kernel",
        How::Unexplained => "without asking anybody: the kernel's memory was written to",
    };
    if change.after.euid == 0 && change.before.euid != 0 {
        format!("went from user {} to root {how}", change.before.uid)
    } else {
        format!("as user {} got more capabilities {how}", change.before.uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory_of(path: &str) -> String {
        let mut fact = Vec::new();
        directory(path.as_bytes(), &mut fact);
        String::from_utf8(fact).expect("is text")
    }

    #[test]
    fn directories_are_coarse() {
        for (path, expected) in [
            ("/var/lib/postgresql/15/base/16384", "/var/lib/postgresql"),
            ("/var/log/app-20261125/x", "/var/log/#"),
            ("/tmp/.x/y/z", "/tmp"),
            ("/tmpfoo/y", "/tmpfoo"),
            ("/run/user/1000/a", "/run/user"),
            ("/x", ""),
        ] {
            assert_eq!(directory_of(path), expected, "{path}");
        }
    }

    #[test]
    fn what_is_coveted_is_known_by_its_place() {
        for (path, technique) in [
            ("/home/alice/.bashrc", Some("T1546.004")),
            ("/home/alice/x/.bashrc", None),
            ("/root/.bashrc", Some("T1546.004")),
            ("/root/.ssh/id_ed25519", Some("T1552.004")),
            ("/etc/cron.d/job", Some("T1053.003")),
            ("/etc/cron.deny", Some("T1053.003")),
            ("/etc/crontabs", None),
            ("/etc/passwd", Some("T1098")),
            ("/etc/passwd-", None),
            ("/etc/profile.d/x.sh", Some("T1546.004")),
            ("/lib/systemd/system/x.service", Some("T1543.002")),
            ("/var/spool/cron/crontabs/root", Some("T1053.003")),
            ("/srv/etc/passwd", None),
        ] {
            let found = coveted(path.as_bytes()).map(|(_, technique)| *technique);
            assert_eq!(found, technique, "{path}");
        }
    }
}
