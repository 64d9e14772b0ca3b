//! What no path can go around.

use std::{
    collections::VecDeque,
    ffi::OsStr,
    fs::Metadata,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net};

use super::{Target, floor::needed_program, measures::file_key};
use crate::{
    config,
    host::{
        Process, ProcessId,
        proc::{ProcDir, same_tick},
    },
    time::BootTime,
};

const MINUTE: Duration = Duration::from_secs(60);
pub(super) const DAY: Duration = Duration::from_secs(86_400);

/// Kills that are remembered: as many as `respond.max_kills_per_day` may be.
const KILLS_MAX: usize = 10_000;

/// Where a distribution or an administrator installs programs. A name alone protects nothing: anybody may call a
/// program `sshd`, but only root can put it here. A `*` stands for any one name. Whoever makes a user namespace can mount anything here, for itself: there
/// it must be the host's own file. Root inside a container without one can, in that container; such a process goes unharmed and the incident says so.
const DIRECTORIES: [&str; 19] = [
    "/bin/",
    "/sbin/",
    "/usr/bin/",
    "/usr/sbin/",
    "/usr/local/bin/",
    "/usr/local/sbin/",
    "/lib/systemd/",
    "/usr/lib/systemd/",
    "/usr/libexec/",
    "/usr/lib/openssh/",
    "/usr/libexec/openssh/",
    "/usr/libexec/podman/",
    "/usr/libexec/crio/",
    "/opt/bin/",
    "/opt/cni/bin/",
    "/var/lib/rancher/k3s/data/*/bin/",
    "/nix/store/*/bin/",
    "/snap/*/*/bin/",
    "/snap/*/*/usr/bin/",
];

/// Programs without which a host is lost to its operators, or its containers with them; a `*` stands for any ending.
const NAMES: [&str; 22] = [
    "sshd",
    "sshd-session",
    "sshd-auth",
    "systemd",
    "systemd-*",
    "init",
    "dbus-daemon",
    "dbus-broker",
    "dbus-broker-launch",
    "dockerd",
    "containerd",
    "containerd-shim*",
    "docker-proxy",
    "docker-init",
    "crio",
    "runc",
    "crun",
    "conmon",
    "k3s*",
    "kubelet",
    "sensor",
    "collector",
];

/// Why an action is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The process from which all others come.
    #[error("process 1 is never a target")]
    Init,
    /// A thread of the kernel, or what is not known to be a process.
    #[error("kernel threads are never a target")]
    KernelThread,
    /// Sensor.
    #[error("sensor itself is never a target")]
    Sensor,
    /// A process that sensor was started from.
    #[error("process {0} is one that sensor was started from")]
    Ancestor(u32),
    /// An executable on the protected list.
    #[error("{0} is on the protected list")]
    Protected(String),
    /// The account without which nobody can set anything right.
    #[error("root is never a target")]
    Root,
    /// A path that is not absolute.
    #[error("{0} is not an absolute path")]
    Relative(String),
    /// A program without which the host cannot work.
    #[error("{} is never blocked: {_1}", _0.display())]
    Needed(PathBuf, String),
    /// Addresses without which the host cannot work.
    #[error("{0} {1}")]
    Network(IpNet, &'static str),
    /// Nobody can say whether it is protected.
    #[error("it could not be read what the process runs, so it may be protected")]
    Unknown,
    /// Too many already.
    #[error(
        "{limit} kills, blocks and the like were done within a {span} already; see respond.max_kills_per_{span}"
    )]
    Rate {
        /// How many are allowed.
        limit: usize,
        /// In which time.
        span: &'static str,
    },
}

/// Decides what may be acted upon.
#[derive(Clone, Debug)]
pub struct Guard {
    sensor: u32,
    ancestors: Vec<ProcessId>,
    protected: Vec<String>,
    per_minute: usize,
    per_day: usize,
    /// Event times of the kills of the last day.
    kills: VecDeque<BootTime>,
}

impl Guard {
    /// The guard of this process, which has killed nobody yet.
    #[must_use]
    pub fn new(config: &config::Respond) -> Self {
        let sensor = std::process::id();
        Self {
            sensor,
            ancestors: if config.protect_ancestors {
                ancestors(sensor)
            } else {
                Vec::new()
            },
            protected: config.protected.clone(),
            per_minute: config.max_kills_per_minute,
            per_day: config.max_kills_per_day,
            kills: VecDeque::new(),
        }
    }

    /// Guards like this from now on; the kills of the last day count on. Who sensor was started from is found out once: later, whoever
    /// stood in between may have ended.
    pub fn set(&mut self, config: &config::Respond) {
        let before = std::mem::replace(self, Self::new(config));
        if config.protect_ancestors && !before.ancestors.is_empty() {
            self.ancestors = before.ancestors;
        }
        self.kills = before.kills;
    }

    /// Whether a process may be acted upon, as far as is known of it before it is looked at.
    ///
    /// # Errors
    /// If it may not.
    pub fn check(&self, target: &Process) -> Result<(), Refusal> {
        if target.id.tgid == 1 {
            return Err(Refusal::Init);
        }
        if target.kernel_thread || target.id.tgid == 0 {
            return Err(Refusal::KernelThread);
        }
        if target.id.tgid == self.sensor {
            return Err(Refusal::Sensor);
        }
        let same = |id: &&ProcessId| id.tgid == target.id.tgid && same_tick(id.start, target.id.start);
        if let Some(ancestor) = self.ancestors.iter().find(same) {
            return Err(Refusal::Ancestor(ancestor.tgid));
        }
        // What is not known here is asked of the process itself before it is killed.
        if target.image.executable.is_empty() {
            Ok(())
        } else {
            self.check_running(target.id.tgid, &target.image.executable)
        }
    }

    /// Whether the process that has the id now may be acted upon by what it runs.
    ///
    /// # Errors
    /// If it may not.
    pub fn check_running(&self, tgid: u32, executable: &[u8]) -> Result<(), Refusal> {
        match self.check_executable(executable) {
            Err(Refusal::Protected(_)) if is_impostor(tgid, executable) => Ok(()),
            result => result,
        }
    }

    /// Whether an action may be directed at `target`; `process` is what is known of it, where it is one.
    ///
    /// # Errors
    /// If it may not.
    pub fn check_target(&self, target: &Target, process: Option<&Process>) -> Result<(), Refusal> {
        match target {
            Target::Process(_) => process.map_or(Err(Refusal::Unknown), |process| self.check(process)),
            Target::Executable(path) => {
                self.check_file(path)?;
                needed_program(path).map_or(Ok(()), |why| Err(Refusal::Needed(path.clone(), why)))
            }
            Target::File(path) => self.check_file(path),
            Target::Network(network) => check_network(network),
            Target::User(0) => Err(Refusal::Root),
            Target::User(_) | Target::Host => Ok(()),
        }
    }

    /// Whether a file may be taken from those who need it. What a link leads to counts, too.
    fn check_file(&self, path: &Path) -> Result<(), Refusal> {
        if !path.is_absolute() {
            return Err(Refusal::Relative(
                path.to_string_lossy().escape_debug().to_string(),
            ));
        }
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if std::env::current_exe().is_ok_and(|own| own == real) {
            return Err(Refusal::Sensor);
        }
        self.check_executable(path.as_os_str().as_bytes())?;
        self.check_executable(real.as_os_str().as_bytes())?;
        match self.other_name(&real) {
            Some(name) => Err(Refusal::Protected(
                name.to_string_lossy().escape_debug().to_string(),
            )),
            None => Ok(()),
        }
    }

    /// By which name this file is protected, where it has several.
    fn other_name(&self, path: &Path) -> Option<PathBuf> {
        let own = file_key(path)?;
        let mut protected = self.protected_files().into_iter();
        protected.find(|file| file_key(file) == Some(own))
    }

    /// Whether a process that runs this executable may be acted upon.
    ///
    /// # Errors
    /// If it may not.
    pub fn check_executable(&self, executable: &[u8]) -> Result<(), Refusal> {
        if executable.is_empty() {
            return Err(Refusal::Unknown);
        }
        let path = String::from_utf8_lossy(executable);
        let built_in = path.rsplit_once('/').is_some_and(|(directory, name)| {
            NAMES.iter().any(|pattern| matches(pattern, name))
                && DIRECTORIES.iter().any(|known| is_directory(known, directory))
        });
        if built_in || self.protected.iter().any(|pattern| matches(pattern, &path)) {
            return Err(Refusal::Protected(path.escape_debug().to_string()));
        }
        Ok(())
    }

    /// The files of the protected list that are there, in no order. What a `*` stands for is looked for in its directory.
    #[must_use]
    pub fn protected_files(&self) -> Vec<PathBuf> {
        let directories = DIRECTORIES.iter().flat_map(|directory| directories(directory));
        let mut files: Vec<PathBuf> = directories
            .flat_map(|directory| named_in(&directory, &NAMES))
            .collect();
        for pattern in &self.protected {
            let (directory, name) = pattern.rsplit_once('/').unwrap_or_default();
            files.extend(named_in(Path::new(&format!("{directory}/")), &[name]));
        }
        files
    }

    /// Whether a descendant of a target may be acted upon, which runs `executable`.
    ///
    /// # Errors
    /// If it may not.
    pub fn check_member(&self, tgid: u32, executable: &[u8]) -> Result<(), Refusal> {
        if tgid == 1 {
            return Err(Refusal::Init);
        }
        if tgid == self.sensor {
            return Err(Refusal::Sensor);
        }
        if self.ancestors.iter().any(|ancestor| ancestor.tgid == tgid) {
            return Err(Refusal::Ancestor(tgid));
        }
        self.check_running(tgid, executable)
    }

    /// Whether what runs of a login may be ended with it, `tgid` among it: the user's own half of `sshd`, their service manager and bus are protected
    /// from everything but this. What root runs, though it was started from that login, is not theirs.
    ///
    /// # Errors
    /// If it may not.
    pub fn check_session(&self, uid: u32, tgid: u32, executable: &[u8]) -> Result<(), Refusal> {
        match self.check_member(tgid, executable) {
            Err(Refusal::Protected(_)) if runs_as(uid, tgid) => Ok(()),
            result => result,
        }
    }

    /// Whether the guard itself stands before this process, whatever else speaks against acting upon it.
    #[must_use]
    pub fn protects(&self, process: &Process) -> bool {
        matches!(
            self.check(process),
            Err(Refusal::Init | Refusal::Sensor | Refusal::Ancestor(_) | Refusal::Protected(_))
        )
    }

    /// Takes one kill at event time `now` from what is allowed.
    ///
    /// # Errors
    /// If none is left.
    pub fn take(&mut self, now: BootTime) -> Result<(), Refusal> {
        while self.kills.front().is_some_and(|kill| now.since(*kill) >= DAY) {
            self.kills.pop_front();
        }
        let last_minute = self
            .kills
            .iter()
            .rev()
            .take_while(|kill| now.since(**kill) < MINUTE)
            .count();
        if last_minute >= self.per_minute {
            return Err(Refusal::Rate {
                limit: self.per_minute,
                span: "minute",
            });
        }
        if self.kills.len() >= self.per_day {
            return Err(Refusal::Rate {
                limit: self.per_day,
                span: "day",
            });
        }
        self.count(now);
        Ok(())
    }

    /// Counts one that was done in any case: a person has approved of it, or an agent before this one did it.
    pub fn count(&mut self, now: BootTime) {
        // Beyond what any limit allows, one more makes no difference.
        if self.kills.len() >= KILLS_MAX {
            self.kills.pop_front();
        }
        let at = self.kills.partition_point(|kill| *kill <= now);
        self.kills.insert(at, now);
    }
}

fn runs_as(uid: u32, tgid: u32) -> bool {
    // Not by who owns its directory in `/proc`: that is root, of whoever was root before.
    let credentials = ProcDir::open(tgid).ok().and_then(|process| process.credentials());
    credentials.is_some_and(|credentials| credentials.uid == uid)
}

/// Whether a process in a user namespace runs something else than what the host has under that name.
fn is_impostor(tgid: u32, executable: &[u8]) -> bool {
    let identity = |found: Metadata| (found.dev(), found.ino());
    let stat = |path: &Path| std::fs::metadata(path).map(identity);
    let of = |tgid: u32, what: &str| stat(Path::new(&format!("/proc/{tgid}/{what}"))).ok();
    // The agent's is the host's: in no other may programs be loaded into the kernel.
    let (Some(theirs), Some(hosts)) = (of(tgid, "ns/user"), of(std::process::id(), "ns/user")) else {
        return false;
    };
    let Some(runs) = of(tgid, "exe").filter(|_| theirs != hosts) else {
        return false;
    };
    match stat(Path::new(OsStr::from_bytes(executable))) {
        Ok(named) => named != runs,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

fn named_in(directory: &Path, patterns: &[&str]) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let named = entries.filter(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        patterns.iter().any(|pattern| matches(pattern, &name))
    });
    named.map(|entry| entry.path()).collect()
}

/// Whether a directory, without a slash at its end, is what a pattern of [`DIRECTORIES`] stands for.
fn is_directory(pattern: &str, directory: &str) -> bool {
    let mut names = directory.split('/');
    let mut patterns = pattern.trim_end_matches('/').split('/');
    patterns.all(|pattern| names.next().is_some_and(|name| pattern == "*" || pattern == name))
        && names.next().is_none()
}

/// The directories that a pattern of [`DIRECTORIES`] stands for, as far as they are there.
fn directories(pattern: &str) -> Vec<PathBuf> {
    const MOST: usize = 4_096;
    let mut found = vec![PathBuf::from("/")];
    for name in pattern.split('/').filter(|name| !name.is_empty()) {
        found = match name {
            "*" => found
                .iter()
                .filter_map(|directory| std::fs::read_dir(directory).ok())
                .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
                .take(MOST)
                .collect(),
            name => found.iter().map(|directory| directory.join(name)).collect(),
        };
    }
    found
}

/// Whether a network may be blocked.
fn check_network(network: &IpNet) -> Result<(), Refusal> {
    // A whole family of addresses is for `isolate`, which leaves the collector out.
    let least = if network.addr().is_ipv4() { 8 } else { 16 };
    let loopback = [
        IpNet::from(LOOPBACK_V4),
        IpNet::from(IpAddr::V6(Ipv6Addr::LOCALHOST)),
    ];
    if loopback
        .iter()
        .any(|own| own.contains(network) || network.contains(own))
    {
        return Err(Refusal::Network(*network, "holds the host's own addresses"));
    }
    if network.prefix_len() < least {
        return Err(Refusal::Network(
            *network,
            "is too large to be blocked; `sensor respond isolate` cuts the host off and leaves it to its collector",
        ));
    }
    Ok(())
}

const LOOPBACK_V4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::LOCALHOST, 8);

/// Whether `text` is `pattern`, or begins with what stands before a `*` at its end.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(stem) => text.starts_with(stem),
        None => text == pattern,
    }
}

/// The parents of a process, up to init; at most 64, which no sane service manager reaches.
fn ancestors(tgid: u32) -> Vec<ProcessId> {
    let stat = |tgid| ProcDir::open(tgid).ok().and_then(|process| process.stat());
    let mut ancestors = Vec::new();
    let mut next = stat(tgid).map_or(0, |stat| stat.parent);
    while next > 1 && ancestors.len() < 64 {
        let Some(found) = stat(next) else { break };
        ancestors.push(ProcessId {
            tgid: next,
            start: found.start,
        });
        next = found.parent;
    }
    ancestors
}

#[cfg(test)]
mod tests;
