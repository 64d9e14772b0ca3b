//! What capturing needs of the host, checked one by one, each with its remedy.

use std::{fs, path::Path};

use crate::capture::btf::KERNEL_BTF;

/// The oldest kernel that the programs are tested on.
const OLDEST_KERNEL: (u32, u32) = (5, 10);

/// How a check went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Good(String),
    /// Worth knowing, in nobody's way.
    Note(String),
    /// It could not be checked.
    Unknown(String),
    /// It prevents capturing.
    Problem {
        /// What is wrong.
        what: String,
        /// What to do about it.
        remedy: String,
    },
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What it is about, in a word or two.
    pub name: &'static str,
    /// How it went.
    pub verdict: Verdict,
}

impl Check {
    /// Whether it prevents capturing.
    #[must_use]
    pub fn is_problem(&self) -> bool {
        matches!(self.verdict, Verdict::Problem { .. })
    }
}

/// Everything that prevents capturing, told at once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this host cannot be watched:{}\n`sensor doctor` tells more", .0.iter().map(|problem| format!("\n  - {problem}")).collect::<String>())]
pub struct Unfit(Vec<String>);

/// Makes sure that nothing prevents capturing.
///
/// # Errors
/// With every problem and its remedy.
pub fn require() -> Result<(), Unfit> {
    let problems: Vec<String> = checks()
        .into_iter()
        .filter_map(|check| match check.verdict {
            Verdict::Problem { what, remedy } => Some(format!("{what}; {remedy}")),
            _ => None,
        })
        .collect();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Unfit(problems))
    }
}

/// A capability that the agent uses.
struct Capability {
    name: &'static str,
    bit: u32,
    /// Capturing is impossible without it, or something is lost.
    required: bool,
    purpose: &'static str,
}

// Numbers: include/uapi/linux/capability.h.
const CAPABILITIES: [Capability; 6] = [
    Capability {
        name: "CAP_BPF",
        bit: 39,
        required: true,
        purpose: "load kernel programs",
    },
    Capability {
        name: "CAP_PERFMON",
        bit: 38,
        required: true,
        purpose: "attach them to tracepoints",
    },
    Capability {
        name: "CAP_SYS_PTRACE",
        bit: 19,
        required: false,
        purpose: "read what other users' processes run",
    },
    Capability {
        name: "CAP_DAC_READ_SEARCH",
        bit: 2,
        required: false,
        purpose: "find cgroups by their id",
    },
    Capability {
        name: "CAP_KILL",
        bit: 5,
        required: false,
        purpose: "end other users' processes",
    },
    Capability {
        name: "CAP_SYS_RESOURCE",
        bit: 24,
        required: false,
        purpose: "lock the memory of maps on kernels before 5.11",
    },
];
const CAP_SYS_ADMIN: u32 = 21;

/// Everything, in the order in which it would be missed.
#[must_use]
pub fn checks() -> Vec<Check> {
    vec![
        Check {
            name: "kernel",
            verdict: kernel(&release()),
        },
        Check {
            name: "type information",
            verdict: type_information(Path::new(KERNEL_BTF)),
        },
        Check {
            name: "capabilities",
            verdict: capabilities(effective_capabilities()),
        },
        Check {
            name: "bpffs",
            verdict: mounted("bpf", "/sys/fs/bpf"),
        },
        Check {
            name: "tracefs",
            verdict: mounted("tracefs", "/sys/kernel/tracing"),
        },
    ]
}

/// The running kernel's release, as `uname -r` prints it.
#[must_use]
pub fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Whether this process may do everything on this host.
#[must_use]
pub fn may_load_programs() -> bool {
    effective_capabilities().is_some_and(|set| missing(set).all(|capability| !capability.required))
}

/// Major and minor version of a kernel by its release; 0 for what is no number.
#[must_use]
pub fn version(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn kernel(release: &str) -> Verdict {
    let (major, minor) = OLDEST_KERNEL;
    if version(release) < OLDEST_KERNEL {
        return Verdict::Problem {
            what: format!("Linux {release} is older than {major}.{minor}"),
            remedy: format!("boot a kernel of {major}.{minor} or later"),
        };
    }
    Verdict::Good(format!("Linux {release}"))
}

fn type_information(path: &Path) -> Verdict {
    match fs::File::open(path).and_then(|file| file.metadata()) {
        Ok(metadata) => Verdict::Good(format!("{}, {} KiB", path.display(), metadata.len() / 1024)),
        Err(error) => Verdict::Problem {
            what: format!("cannot read {}: {error}", path.display()),
            remedy: "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y, and see that sysfs is mounted on /sys"
                .to_owned(),
        },
    }
}

fn effective_capabilities() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn missing(set: u64) -> impl Iterator<Item = &'static Capability> {
    let admin = set & 1 << CAP_SYS_ADMIN != 0;
    CAPABILITIES.iter().filter(move |capability| {
        // CAP_SYS_ADMIN was split up in 5.8 and still stands for its parts.
        let has = set & 1 << capability.bit != 0 || admin && capability.required;
        !has
    })
}

fn capabilities(set: Option<u64>) -> Verdict {
    let Some(set) = set else {
        return Verdict::Unknown("cannot read /proc/self/status; is /proc mounted?".to_owned());
    };
    let list = |required| -> Vec<String> {
        let missing = missing(set).filter(|capability| capability.required == required);
        missing
            .map(|capability| format!("{} (to {})", capability.name, capability.purpose))
            .collect()
    };
    let (needed, useful) = (list(true), list(false));
    if !needed.is_empty() {
        return Verdict::Problem {
            what: format!("this process lacks {}", needed.join(", ")),
            remedy: "run sensor as root, or give its unit or container these capabilities".to_owned(),
        };
    }
    if !useful.is_empty() {
        return Verdict::Note(format!("without {}", useful.join(", ")));
    }
    Verdict::Good("all that are used".to_owned())
}

/// Not needed by any hook in use today; said, because other tools' users look for it.
fn mounted(kind: &str, place: &str) -> Verdict {
    let Ok(mounts) = fs::read_to_string("/proc/self/mounts") else {
        return Verdict::Unknown("cannot read /proc/self/mounts; is /proc mounted?".to_owned());
    };
    let mount = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find(|fields| fields.get(2) == Some(&kind));
    match mount {
        Some(fields) => Verdict::Good(fields.get(1).copied().unwrap_or(place).to_owned()),
        None => Verdict::Note(format!(
            "not mounted on {place}, and not needed: no hook in use depends on it"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_compared_by_number() {
        for (release, good) in [
            ("5.10.0-30-amd64", true),
            ("6.1.0", true),
            ("10.0", true),
            ("5.9.16", false),
            ("4.19.0", false),
            ("?", false),
        ] {
            assert_eq!(matches!(kernel(release), Verdict::Good(_)), good, "{release}");
        }
    }

    #[test]
    fn what_is_missing_is_named_with_its_purpose() {
        assert_eq!(
            capabilities(Some(u64::MAX)),
            Verdict::Good("all that are used".to_owned())
        );
        let Verdict::Problem { what, .. } = capabilities(Some(0)) else {
            panic!("not a problem")
        };
        assert_eq!(
            what,
            "this process lacks CAP_BPF (to load kernel programs), CAP_PERFMON (to attach them to tracepoints)"
        );
        let admin_only = capabilities(Some(1 << CAP_SYS_ADMIN));
        assert!(matches!(admin_only, Verdict::Note(_)), "{admin_only:?}");
    }
}
