//! What an event says of the one it belongs to: a fact to be known or new, in the context of the program that did it.
//!
//! Facts are coarse on purpose. A path is the directory that it lies in, no deeper than [`DEPTH`], with the names that programs make up taken out;
//! an address without a name is its network. Only what attackers want is looked at in full: [`COVETED`] files.

use std::{fmt::Write as _, io::Write as _, net::IpAddr};

use sensor_common::Signal;

use super::lineage::printable;
use crate::host::{Body, Event, Flow, Operation};

/// Components of a directory that count.
const DEPTH: usize = 3;

/// Which model looks at a fact, and what it is a sign of if it is new (MITRE ATT&CK).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) source: &'static str,
    pub(super) techniques: &'static [&'static str],
}

const COVETED_READ: &str = "coveted file read";
const COVETED_CHANGED: &str = "coveted file changed";

impl Kind {
    /// Whether a model of this name looks at what is bad whoever does it, more than new.
    pub(super) fn is_coveted(source: &str) -> bool {
        source == COVETED_READ || source == COVETED_CHANGED
    }
}

/// Files and directories by which attackers stay, rise or steal, and the technique. A `*` stands for one name.
const COVETED: [(&str, &str); 26] = [
    ("/etc/cron.d", "T1053.003"),
    ("/etc/crontab", "T1053.003"),
    ("/etc/cron.hourly", "T1053.003"),
    ("/etc/cron.daily", "T1053.003"),
    ("/var/spool/cron", "T1053.003"),
    ("/etc/systemd/system", "T1543.002"),
    ("/usr/lib/systemd/system", "T1543.002"),
    ("/lib/systemd/system", "T1543.002"),
    ("/root/.config/systemd", "T1543.002"),
    ("/home/*/.config/systemd", "T1543.002"),
    ("/root/.ssh/authorized_keys", "T1098.004"),
    ("/home/*/.ssh/authorized_keys", "T1098.004"),
    ("/etc/ld.so.preload", "T1574.006"),
    ("/etc/ld.so.conf.d", "T1574.006"),
    ("/etc/profile.d", "T1546.004"),
    ("/root/.bashrc", "T1546.004"),
    ("/home/*/.bashrc", "T1546.004"),
    ("/etc/passwd", "T1098"),
    ("/etc/shadow", "T1003.008"),
    ("/etc/sudoers", "T1548.003"),
    ("/etc/sudoers.d", "T1548.003"),
    ("/etc/pam.d", "T1556.003"),
    ("/etc/init.d", "T1037.004"),
    ("/etc/rc.local", "T1037.004"),
    ("/etc/udev/rules.d", "T1546.017"),
    ("/lib/modules", "T1547.006"),
];

/// Directories where names are made up by whoever puts something there.
const MADE_UP: [&[u8]; 5] = [b"/tmp", b"/var/tmp", b"/dev/shm", b"/proc", b"/run/user"];

/// The fact in `event`, appended to `fact`; `None` where there is none.
pub(super) fn of(event: &Event, fact: &mut Vec<u8>) -> Option<Kind> {
    match &event.body {
        Body::Connect(flow) => {
            far_end(flow, fact);
            Some(kind("destination", &["T1071"]))
        }
        Body::Listen { address, .. } => {
            let _ = write!(fact, "port {}", address.port());
            Some(kind("listener", &["T1205"]))
        }
        Body::Operation(operation) => of_operation(operation, fact),
        _ => None,
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
    if let Some((_, technique)) = COVETED.iter().find(|(coveted, _)| lies_in(path, coveted)) {
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
    let flags = operation
        .call
        .details
        .iter()
        .find(|detail| detail.name == "flags");
    operation.signal == Signal::FileOpen
        && flags.is_some_and(|detail| operation.values[detail.value] & ACCESS == 0)
}

/// Whether `path` is `place` or lies in it.
fn lies_in(path: &[u8], place: &str) -> bool {
    let mut names = path.split(|byte| *byte == b'/');
    place
        .as_bytes()
        .split(|byte| *byte == b'/')
        .all(|wanted| names.next().is_some_and(|name| wanted == b"*" || wanted == name))
}

/// Appends the directory of `path`, as far as it counts.
fn directory(path: &[u8], fact: &mut Vec<u8>) {
    let made_up = MADE_UP.iter().find(|place| {
        path.strip_prefix(**place)
            .is_some_and(|rest| rest.first() == Some(&b'/'))
    });
    if let Some(place) = made_up {
        fact.extend_from_slice(place);
        return;
    }
    let end = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    let names = path[..end]
        .split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty());
    for name in names.take(DEPTH) {
        fact.push(b'/');
        let digits = name.iter().filter(|byte| byte.is_ascii_digit()).count();
        fact.extend_from_slice(if digits >= 4 { b"#" } else { name });
    }
}

/// Appends who is at the other end: the name that was asked for, without what stands before its last three labels; else the network.
fn far_end(flow: &Flow, fact: &mut Vec<u8>) {
    let port = flow.remote.port();
    let _ = match (&flow.remote_name, flow.remote.ip()) {
        (Some(name), _) => {
            let from = name.rmatch_indices('.').nth(2).map_or(0, |(at, _)| at + 1);
            write!(fact, "{}:{port}", &name[from..])
        }
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

/// What was done, as a sentence goes on after its subject.
pub(super) fn in_words(event: &Event) -> String {
    let mut text = String::new();
    let _ = match &event.body {
        Body::Connect(flow) => match &flow.remote_name {
            Some(name) => write!(
                text,
                "connected to {} ({})",
                printable(name.as_bytes()),
                flow.remote
            ),
            None => write!(text, "connected to {}", flow.remote),
        },
        Body::Listen { address, .. } => write!(text, "listens at {address}"),
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
        for (path, place, lies) in [
            ("/home/alice/.bashrc", "/home/*/.bashrc", true),
            ("/home/alice/x/.bashrc", "/home/*/.bashrc", false),
            ("/etc/cron.d/job", "/etc/cron.d", true),
            ("/etc/cron.deny", "/etc/cron.d", false),
            ("/etc/passwd", "/etc/passwd", true),
            ("/etc/passwd-", "/etc/passwd", false),
        ] {
            assert_eq!(lies_in(path.as_bytes(), place), lies, "{path} in {place}");
        }
    }
}
