//! What an operator may set: one TOML file, every key with a default, unknown keys refused.
//!
//! Values are checked as they are read, so that a message names the line. Nothing is silently corrected: an agent
//! that runs with other settings than it was given is worse than one that does not start.

mod error;
mod outputs;
pub(crate) mod values;
mod words;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;
use sensor_behaviour::novelty::Learning;
use sensor_common::Signal;
use sensor_trust::{Security, credentials::Place};
use serde::{Deserialize, Serialize};

pub use error::ConfigError;
pub use outputs::{Output, OutputKind};

use crate::{
    capture::Level,
    detect::{Severity, SubjectKind},
    enforce::Destination,
    export::choice::{Choice, Least, Names},
    host::Profiling,
    privacy::{Field, Kind},
    remote::Permission,
    respond::{ActionKind, Actions, Mode, ResponseRule},
};

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// From the rings.
    pub capture: Capture,
    /// This host, and what is remembered of it.
    pub host: Host,
    /// Who comes and goes.
    pub session: Session,
    /// What is unusual.
    pub detect: Detect,
    /// What is known to be bad.
    pub rules: Rules,
    /// What is done about it.
    pub respond: Respond,
    /// What of it leaves this host.
    pub privacy: Privacy,
    /// To programs on this host, and in the words of others.
    pub export: Export,
    /// To the collector.
    pub uplink: Uplink,
    /// From the collector.
    pub remote: Remote,
}

/// Files that tell an intruder how to stay or to go on: secrets of logins, and who may become whom.
const WATCHED: [&str; 6] = [
    "/etc/shadow",
    "/etc/gshadow",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/ssh",
    "/root/.ssh",
];

/// From the rings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Capture {
    /// How long an event that is still being written may hold up later ones. `0s` to `1s`, rounded up to milliseconds.
    #[serde(
        serialize_with = "humantime_serde::serialize",
        deserialize_with = "values::duration::<_, 0, 1>"
    )]
    pub reorder_window: Duration,
    /// Size of all rings together for process, credential, kernel and response events: a power of two, 4 KiB to 256 MiB.
    #[serde(deserialize_with = "values::ring_bytes")]
    pub ring_bytes_critical: u32,
    /// Size of all rings together for file, flow and syscall events, likewise.
    #[serde(deserialize_with = "values::ring_bytes")]
    pub ring_bytes_bulk: u32,
    /// Look at system calls, for the signals that have no better hook on this kernel (see `docs/signals.md`). It costs every
    /// system call of every process some tens of nanoseconds.
    pub calls: bool,
    /// How long datagrams between two ends must pause for their flow to be over. `1s` to `1h`.
    #[serde(
        serialize_with = "humantime_serde::serialize",
        deserialize_with = "values::duration::<_, 1, 3_600>"
    )]
    pub udp_pause: Duration,
    /// How often a flow that goes on is reported. `1s` to `24h`.
    #[serde(
        serialize_with = "humantime_serde::serialize",
        deserialize_with = "values::duration::<_, 1, 86_400>"
    )]
    pub flow_interval: Duration,
    /// Whose system calls are looked at for an order that is new to the workload: `off`, nobody's; `auto`, those of units, containers
    /// and other cgroups, not of people's sessions; `on`, everybody's.
    pub sequences: Profiling,
    /// How long a workload must show no new order to count as learned.
    #[serde(with = "humantime_serde")]
    pub sequence_learning: Duration,
    /// The best kind of hook that is used: `lsm`, `fexit`, `tracepoint` or `syscall`. For tests, and where a better one makes trouble.
    pub max_rung: Level,
    /// Bytes waiting in a ring at which its reader is woken, whatever they are; less than either ring.
    pub watermark_bytes: u32,
    /// Events a second that one process may report while a ring is more than half full. 100 to 1,000,000.
    #[serde(deserialize_with = "values::bounded::<_, _, 100, 1_000_000>")]
    pub share: u64,
    /// For how long a process's repetitions (opening the same file) are folded into one event; `0s`: not at all. Up to `60s`.
    #[serde(
        serialize_with = "humantime_serde::serialize",
        deserialize_with = "values::duration::<_, 0, 60>"
    )]
    pub fold_window: Duration,
    /// Signals that are left out.
    #[serde(serialize_with = "values::signal_names", deserialize_with = "values::signals")]
    pub off: Vec<Signal>,
    /// Files that are reported when they are opened for reading, too: absolute paths; of a directory, what lies in it.
    #[serde(deserialize_with = "values::watched")]
    pub watch: Vec<String>,
    /// Who and what is left out.
    pub mute: Mute,
}

/// Who and what is left out: every signal but the beginning and the end of processes. `sensor status` shows how many events each
/// of it ate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mute {
    /// What is done to files: absolute paths with all that is below, or with a `*` at the end for any ending.
    #[serde(deserialize_with = "values::patterns")]
    pub paths: Vec<String>,
    /// What these executables do: absolute paths, with a `*` at the end for any ending.
    #[serde(deserialize_with = "values::patterns")]
    pub executables: Vec<String>,
    /// What is done in these cgroups and below: paths from the root of the hierarchy, as `sensor events` shows them.
    #[serde(deserialize_with = "values::patterns")]
    pub cgroups: Vec<String>,
    /// What is done as these real users, by id.
    pub users: Vec<u32>,
    /// Connections and datagrams whose other end is in these networks, e.g. `10.0.0.0/8`.
    pub networks: Vec<IpNet>,
}

impl Default for Capture {
    fn default() -> Self {
        Self {
            reorder_window: Duration::from_millis(2),
            ring_bytes_critical: 2 << 20,
            ring_bytes_bulk: 4 << 20,
            calls: true,
            udp_pause: Duration::from_secs(30),
            flow_interval: Duration::from_secs(300),
            sequences: Profiling::Auto,
            sequence_learning: Duration::from_secs(86_400),
            max_rung: Level::Fexit,
            watermark_bytes: 64 << 10,
            share: 20_000,
            fold_window: Duration::from_secs(1),
            off: Vec::new(),
            watch: WATCHED.map(str::to_owned).into(),
            mute: Mute::default(),
        }
    }
}

/// This host, and what is remembered of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Host {
    /// Name of this host in everything it sends; empty: what the kernel says.
    pub name: String,
    /// Directory of what outlives the agent: what workloads are known to do. It is made where it is not there. Empty: nothing does.
    pub state: PathBuf,
    /// Processes that are known at once, ended ones included. 1,024 to 4,194,304.
    #[serde(deserialize_with = "values::bounded::<_, _, 1_024, 4_194_304>")]
    pub max_processes: usize,
    /// Ended processes among them, kept for late events and children. 0 to 4,194,304.
    #[serde(deserialize_with = "values::bounded::<_, _, 0, 4_194_304>")]
    pub max_exited: usize,
    /// Bytes of paths and arguments that are kept of them. 1 MiB to 4 GiB.
    #[serde(deserialize_with = "values::bounded::<_, _, 1_048_576, 4_294_967_296>")]
    pub max_image_bytes: usize,
}

impl Default for Host {
    fn default() -> Self {
        let limits = crate::host::Limits::default();
        Self {
            name: String::new(),
            state: "/var/lib/sensor".into(),
            max_processes: limits.processes,
            max_exited: limits.exited,
            max_image_bytes: limits.image_bytes,
        }
    }
}

impl Host {
    /// The same, as the process tree takes it.
    #[must_use]
    pub fn limits(&self) -> crate::host::Limits {
        crate::host::Limits {
            processes: self.max_processes,
            exited: self.max_exited,
            image_bytes: self.max_image_bytes,
        }
    }
}

/// Who comes and goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Session {
    /// Where logins and logouts are recorded.
    pub wtmp: PathBuf,
    /// Where failures to log in are.
    pub btmp: PathBuf,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            wtmp: "/var/log/wtmp".into(),
            btmp: "/var/log/btmp".into(),
        }
    }
}

/// What is unusual.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Detect {
    /// Program starts after which a workload counts as learned; 0: only the time decides.
    pub learn_events: u64,
    /// Minutes after which a workload counts as learned; 0: only the starts decide. Both 0: never.
    pub learn_minutes: u64,
    /// Which kinds of workload are flagged. People try new things all day, and so does what belongs to no
    /// workload: `session` and `host` are learned, but flagged only if they are listed here.
    pub flag: Vec<SubjectKind>,
    /// A workload for which something new is more probable than this, after ten starts, is not flagged for it.
    /// Above 0, up to 1.
    #[serde(deserialize_with = "values::probability")]
    pub max_p_value: f64,
    /// Incidents a day that may be opened by chance, where nothing single is bad enough by itself: as "1/day", "3/week". One in a
    /// hundred days to 1,000 a day.
    #[serde(with = "values::budget")]
    pub alert_budget: f64,
    /// Bytes that the model of all workloads may take. 64 KiB to 4 GiB.
    #[serde(deserialize_with = "values::bounded::<_, _, 65_536, 4_294_967_296>")]
    pub max_model_bytes: usize,
    /// How long the same must not recur for the next time to be a new incident.
    #[serde(with = "humantime_serde")]
    pub incident_window: Duration,
    /// Open incidents; beyond, the one that grew the longest ago is closed. 1 to 1,000,000.
    #[serde(deserialize_with = "values::bounded::<_, _, 1, 1_000_000>")]
    pub max_incidents: usize,
    /// How often the collector is told what is normal here, as hashes, and asked what is on other hosts; 0: never.
    #[serde(with = "humantime_serde")]
    pub fleet_interval: Duration,
    /// What is at stake where.
    pub stakes: Stakes,
}

/// What an incident is worse, or milder, for: executables, files and what is below directories (absolute paths), users (`user:1000`), workloads
/// (`unit:postgresql.service`), with a `*` at the end for any ending; 256 of each at most.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stakes {
    /// One step worse.
    #[serde(deserialize_with = "values::assets")]
    pub more: Vec<String>,
    /// One step milder.
    #[serde(deserialize_with = "values::assets")]
    pub less: Vec<String>,
}

impl Default for Detect {
    fn default() -> Self {
        Self {
            learn_events: 500,
            learn_minutes: 1_440,
            flag: vec![SubjectKind::Unit, SubjectKind::Container, SubjectKind::Cgroup],
            max_p_value: 0.2,
            alert_budget: 1.0,
            max_model_bytes: 4 << 20,
            incident_window: Duration::from_secs(3_600),
            max_incidents: 1_024,
            fleet_interval: Duration::from_secs(3_600),
            stakes: Stakes::default(),
        }
    }
}

impl Detect {
    /// How long something is learned before it can be surprising.
    #[must_use]
    pub fn learning(&self) -> Learning {
        Learning {
            events: (self.learn_events > 0).then_some(self.learn_events),
            span_ns: (self.learn_minutes > 0).then(|| self.learn_minutes.saturating_mul(60_000_000_000)),
            unseen: None,
        }
    }
}

/// What is known to be bad.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// Whether the rules are used that the agent brings along.
    pub builtin: bool,
    /// Files of Sigma rules, and directories of them, beside these.
    pub paths: Vec<PathBuf>,
    /// Rules that are not used, by id or title.
    pub disable: Vec<String>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            builtin: true,
            paths: Vec::new(),
            disable: Vec::new(),
        }
    }
}

/// What is done about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Respond {
    /// `observe`: say what would be done. `ask`: do it once a person approves. `act`: do it.
    pub mode: Mode,
    /// What is done, one action or several in this order: `kill` a process, `kill_tree` with all that descends from it, `suspend` it,
    /// `disconnect` it, `block` its executable, `isolate` the host, `revoke` who logged in, `quarantine` the executable, `collect` a
    /// forensic bundle.
    pub action: Actions,
    /// For how long executables, destinations and processes are blocked. `1s` to `30d`.
    #[serde(
        serialize_with = "humantime_serde::serialize",
        deserialize_with = "values::duration::<_, 1, 2_592_000>"
    )]
    pub block_for: Duration,
    /// For how long the host is isolated. `1s` to `7d`.
    #[serde(
        serialize_with = "humantime_serde::serialize",
        deserialize_with = "values::duration::<_, 1, 604_800>"
    )]
    pub isolate_for: Duration,
    /// What an isolated host may reach beside its collector, and what may reach it: addresses or networks, with a port or without.
    #[serde(with = "values::destinations")]
    pub isolate_allow: Vec<Destination>,
    /// Executables that never run, by their absolute paths: the kernel ends whoever tries before the first instruction.
    #[serde(deserialize_with = "values::executables")]
    pub block_executables: Vec<PathBuf>,
    /// A BPF file system, in which blocks and isolation outlive the agent; empty: they end with it.
    pub bpffs: PathBuf,
    /// The cgroup whose sockets are blocked and isolated; empty: all of the host.
    pub cgroup: PathBuf,
    /// How long a person has to approve; then it lapses. `1s` to `24h`.
    #[serde(
        serialize_with = "humantime_serde::serialize",
        deserialize_with = "values::duration::<_, 1, 86_400>"
    )]
    pub ask_within: Duration,
    /// The least severity to which there is a response.
    pub min_severity: Severity,
    /// Executables that are never killed, beside the built-in ones: absolute paths, a `*` at the end for any ending.
    #[serde(deserialize_with = "values::protected")]
    pub protected: Vec<String>,
    /// Whether the processes that sensor was started from are protected too.
    pub protect_ancestors: bool,
    /// Kills in any minute of event time, at most. 0 to 1,000.
    #[serde(deserialize_with = "values::bounded::<_, _, 0, 1_000>")]
    pub max_kills_per_minute: usize,
    /// Kills in any day of event time, at most. 0 to 10,000.
    #[serde(deserialize_with = "values::bounded::<_, _, 0, 10_000>")]
    pub max_kills_per_day: usize,
    /// What is done about some incidents; the first that fits decides.
    #[serde(deserialize_with = "values::response_rules")]
    pub rules: Vec<ResponseRule>,
}

impl Default for Respond {
    fn default() -> Self {
        Self {
            mode: Mode::Observe,
            action: Actions::one(ActionKind::Kill),
            block_for: Duration::from_secs(3_600),
            isolate_for: Duration::from_secs(3_600),
            isolate_allow: Vec::new(),
            block_executables: Vec::new(),
            bpffs: "/sys/fs/bpf".into(),
            cgroup: PathBuf::new(),
            ask_within: Duration::from_secs(900),
            min_severity: Severity::High,
            protected: Vec::new(),
            protect_ancestors: true,
            max_kills_per_minute: 20,
            max_kills_per_day: 500,
            rules: Vec::new(),
        }
    }
}

/// What of it leaves this host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Privacy {
    /// Whether secrets in arguments, variables and reasons are hidden.
    pub redact: bool,
    /// What is given pseudonyms: `users`, `addresses`, `paths`.
    pub pseudonymise: Vec<Kind>,
    /// The key of pseudonyms, made at the first use: an absolute path.
    #[serde(deserialize_with = "values::absolute")]
    pub key_file: PathBuf,
    /// What is left out: `argv`, `environment`, `cwd`, `host_names`, `reasons`.
    pub drop: Vec<Field>,
}

impl Default for Privacy {
    fn default() -> Self {
        Self {
            redact: true,
            pseudonymise: Vec::new(),
            key_file: "/var/lib/sensor/privacy.key".into(),
            drop: Vec::new(),
        }
    }
}

/// To programs on this host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Export {
    /// The unix socket of the local service.
    pub socket: PathBuf,
    /// Entries that wait for a slow subscriber before it loses the next. 1 to 1,048,576.
    #[serde(deserialize_with = "values::bounded::<_, _, 1, 1_048_576>")]
    pub subscriber_queue: usize,
    /// Where metrics and health are asked for, over plain HTTP.
    #[serde(serialize_with = "values::address_text", deserialize_with = "values::address")]
    pub admin: Option<SocketAddr>,
    /// Other ways out than the collector, as `[[export.outputs]]`.
    pub outputs: Vec<Output>,
}

impl Default for Export {
    fn default() -> Self {
        Self {
            socket: "/run/sensor/sensor.sock".into(),
            subscriber_queue: 8_192,
            admin: None,
            outputs: Vec::new(),
        }
    }
}

/// To the collector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Uplink {
    /// Where the collector is, e.g. `https://collector.example.org:7443`; empty: nowhere.
    pub collector: String,
    /// Whether `http://`, which is neither encrypted nor says who is who, may leave this host.
    pub insecure: bool,
    /// Files in PEM of an authority of your own, all three or none: whom to trust, this host's certificate, its key. Empty: what
    /// `sensor enroll` has put into `host.state`.
    pub ca: PathBuf,
    /// The certificate.
    pub cert: PathBuf,
    /// The key.
    pub key: PathBuf,
    /// Bytes that may wait for the collector, in the state directory; when there are more, what matters least is let go first.
    /// 64 KiB to 1 TiB.
    #[serde(deserialize_with = "values::bounded::<_, _, 65_536, 1_099_511_627_776>")]
    pub queue_bytes: u64,
    /// What leaves: names and groups of signals, `signal`, `incident`, `outcome`; empty: everything.
    pub signals: Names,
    /// The least severity of incidents and of the signals of rules.
    pub severity: Least,
}

impl Uplink {
    /// What leaves.
    #[must_use]
    pub fn choice(&self) -> Choice {
        Choice {
            names: self.signals.clone(),
            severity: self.severity,
        }
    }
}

impl Default for Uplink {
    fn default() -> Self {
        Self {
            collector: String::new(),
            insecure: false,
            ca: PathBuf::new(),
            cert: PathBuf::new(),
            key: PathBuf::new(),
            queue_bytes: 512 << 20,
            signals: Names::default(),
            severity: Least::default(),
        }
    }
}

/// From the collector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Remote {
    /// What may be asked of this host by way of its collector: `approve` (and deny) what waits, `undo`, `status`, `reload`, `rules`, and
    /// actions by their names.
    pub allow: Vec<Permission>,
}

impl Default for Remote {
    fn default() -> Self {
        Self {
            allow: Permission::USUAL.into(),
        }
    }
}

impl Config {
    /// As whom this host speaks to its collector.
    #[must_use]
    pub fn security(&self) -> Security {
        let Uplink { ca, cert, key, .. } = &self.uplink;
        let place = if ca.as_os_str().is_empty() {
            Place::Enrolled(self.host.state.clone())
        } else {
            Place::Files {
                authority: ca.clone(),
                certificate: cert.clone(),
                key: key.clone(),
            }
        };
        Security::Known {
            place,
            plain_anywhere: self.uplink.insecure,
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, is not TOML, has a key that there is not, or a value that is not allowed.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|cause| ConfigError::Read {
            path: path.to_owned(),
            cause,
        })?;
        Self::parse(&text, path)
    }

    /// Reads the text of the file `path`.
    ///
    /// # Errors
    /// As for [`Config::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let config: Self =
            toml::from_str(text).map_err(|error| ConfigError::from_toml(&error, text, path))?;
        config
            .contradiction()
            .map_or(Ok(config.clone()), |(section, key, message)| {
                Err(ConfigError::in_key(section, key, message, text, path))
            })
    }

    /// Values that are allowed alone and not together.
    fn contradiction(&self) -> Option<(&'static str, &'static str, String)> {
        let Capture {
            ring_bytes_critical,
            ring_bytes_bulk,
            watermark_bytes,
            ..
        } = self.capture;
        for (ring, bytes) in [
            ("ring_bytes_critical", ring_bytes_critical),
            ("ring_bytes_bulk", ring_bytes_bulk),
        ] {
            if watermark_bytes >= bytes {
                let message = format!("{watermark_bytes} is not less than {ring}, {bytes}");
                return Some(("capture", "watermark_bytes", message));
            }
        }
        let Host {
            max_exited,
            max_processes,
            ..
        } = self.host;
        if max_exited > max_processes {
            let message = format!("{max_exited} is more than max_processes, {max_processes}");
            return Some(("host", "max_exited", message));
        }
        let Uplink { ca, cert, key, .. } = &self.uplink;
        let given = [ca, cert, key].map(|file| !file.as_os_str().is_empty());
        if given.contains(&true) && given.contains(&false) {
            let message = "ca, cert and key belong together: give all three, or none";
            return Some(("uplink", "ca", message.to_owned()));
        }
        let wrong = self.export.outputs.iter().find_map(Output::contradiction);
        wrong.map(|(key, message)| ("[export.outputs]", key, message))
    }
}

#[cfg(test)]
mod tests;
