//! Puts the kernel programs in place: layout, load, attach the best rung of each ladder.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd as _, OwnedFd},
    panic::resume_unwind,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use aya::{
    Btf, Ebpf, EbpfError, EbpfLoader, Endianness,
    maps::{Array, MapError},
    programs::{CgroupAttachMode, CgroupSkbAttachType, Program, ProgramError},
};
use aya_obj::btf::{BtfError, BtfType, Func, FuncLinkage};
use sensor_common::{Features, Signal};
use zerocopy::IntoBytes;

use super::{
    Options,
    btf::{self, Kind},
    calls::Call,
    cgroup, folds,
    ladder::{Cgroup, Hook, Level, Part, Rung, TWINS, rungs},
    layout::{self, LayoutError},
    rings::{Groups, possible_cpus},
    sequences,
};

/// The kernel object that `build.rs` made; empty where it could not.
#[repr(align(16))]
pub(crate) struct Object<T: ?Sized>(pub(crate) T);
static OBJECT: &Object<[u8]> = &Object(*include_bytes!(concat!(env!("OUT_DIR"), "/sensor-ebpf")));

/// Why capturing cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// This binary was built without kernel programs.
    #[error(
        "this build of sensor has no kernel programs: the toolchain for them was missing; run `cargo xtask setup` and build again"
    )]
    NoObject,
    /// The kernel's layout could not be found out.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The kernel refused the maps.
    #[error("the kernel refused the maps of the kernel programs: {0}")]
    Object(#[source] Box<EbpfError>),
    /// A map could not be set up.
    #[error("cannot set up a map of the kernel programs: {0}")]
    Map(#[from] MapError),
    /// The kernel accepted no hook at all.
    #[error("the kernel accepted none of the hooks; the first refusal was: {0}")]
    NoHook(String),
}

/// How a signal is captured on this kernel.
#[derive(Clone, Debug)]
pub struct HookStatus {
    /// What is reported.
    pub signal: Signal,
    /// The rung in use; `None` where the kernel accepted none.
    pub rung: Option<Rung>,
    /// Rungs that were tried before it, and the kernel's answers.
    pub refused: Vec<(Rung, String)>,
    /// It was not asked for, and no rung was tried.
    pub off: bool,
}

/// Kernel programs that are loaded and attached for as long as this lives.
pub struct Loaded {
    /// The programs and maps.
    pub ebpf: Ebpf,
    /// How each signal is captured.
    pub hooks: Vec<HookStatus>,
    /// What stays invisible of every event because this kernel lacks a field.
    pub blind_spots: Vec<&'static str>,
    /// Time from the beginning to every hook attached.
    pub load_time: Duration,
    /// The part of it that reading the kernel's type information took.
    pub btf_time: Duration,
}

impl Loaded {
    /// A descriptor of one program, if it is loaded.
    pub fn program(&self, name: &str) -> Option<OwnedFd> {
        let program = self.ebpf.program(name)?;
        program.fd().ok()?.as_fd().try_clone_to_owned().ok()
    }

    /// Descriptors of the programs whose runs are lost if the kernel skips them: all but those with a twin behind them. They keep nothing
    /// attached: that is what the links in `ebpf` do.
    pub fn skippable(&self) -> Vec<OwnedFd> {
        let has_twin = |name: &str| {
            let twin = TWINS.iter().find(|(first, _)| *first == name);
            twin.is_some_and(|(_, twin)| self.program(twin).is_some())
        };
        let programs = self.ebpf.programs();
        programs
            .filter(|(name, _)| !has_twin(name))
            .filter_map(|(_, program)| program.fd().ok()?.as_fd().try_clone_to_owned().ok())
            .collect()
    }
}

/// Loads the programs, not yet attached: the maps have to be filled first.
pub struct Prepared {
    /// The programs and maps.
    pub ebpf: Ebpf,
    hooks: Btf,
    features: Features,
    blind_spots: Vec<&'static str>,
    started: Instant,
    btf_time: Duration,
}

/// Fits the programs to the running kernel and makes their maps.
///
/// # Errors
/// If the binary has no programs, the kernel no usable type information, or no room for the maps.
pub fn prepare(groups: Groups, options: &Options<'_>) -> Result<Prepared, LoadError> {
    if OBJECT.0.is_empty() {
        return Err(LoadError::NoObject);
    }
    raise_memlock();
    let started = Instant::now();
    let names: Vec<(Kind, String)> = hooks().filter_map(Hook::btf_name).collect();
    let names: Vec<(Kind, &str)> = names.iter().map(|(kind, name)| (*kind, name.as_str())).collect();
    let resolved = layout::resolve(&names, options.cgroup_controller)?;
    let mut features = resolved.features;
    features.cpus_per_ring_log2 = groups.log2;
    features.sequences = u32::from(options.sequences);
    let hooks = library_btf(resolved.hook_ids)
        .map_err(|error| LoadError::Object(Box::new(EbpfError::BtfError(error))))?;
    let btf_time = started.elapsed();

    let mut loader = EbpfLoader::new();
    if !options.sequences {
        sequences::shrink(&mut loader);
    }
    let ebpf = loader
        .btf(None)
        .override_global("LAYOUT", resolved.layout.as_bytes(), true)
        .override_global("FEATURES", features.as_bytes(), true)
        .override_global("REASONS", &resolved.reasons[..], true)
        .override_global("RULED", Call::ruled().as_bytes(), true)
        .map_max_entries("FOLDS", folds::slots(possible_cpus()))
        .load(&OBJECT.0)
        .map_err(|error| LoadError::Object(Box::new(error)))?;
    Ok(Prepared {
        ebpf,
        hooks,
        features,
        blind_spots: resolved.blind_spots,
        started,
        btf_time,
    })
}

/// Which hooks are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The best kind of hook that is used, so that the others can be tested. A signal that has only better ones keeps its lowest.
    pub max_rung: Level,
    /// Whether system calls are looked at.
    pub calls: bool,
    /// Whether their order is.
    pub sequences: bool,
}

impl Wanted {
    fn wants(self, signal: Signal, level: Level) -> bool {
        match signal {
            Signal::Sequence => self.sequences,
            _ => self.calls || level != Level::Syscall,
        }
    }

    /// The rungs of a ladder that may be used, and those that may not.
    fn of(self, signal: Signal) -> (Vec<&'static Rung>, Vec<(Rung, String)>) {
        let ladder = rungs(signal);
        let lowest = ladder.last().map_or(Level::Syscall, |rung| rung.hook.level());
        let max = self.max_rung.max(lowest);
        let (used, left_out): (Vec<&Rung>, Vec<&Rung>) =
            ladder.iter().partition(|rung| rung.hook.level() <= max);
        let used = used
            .into_iter()
            .filter(|rung| self.wants(signal, rung.hook.level()));
        let left_out = left_out
            .into_iter()
            .map(|rung| (*rung, "left out by --max-rung".to_owned()));
        (used.collect(), left_out.collect())
    }

    /// Whether it is by choice that no rung of a signal is used.
    fn is_off(self, signal: Signal) -> bool {
        let lowest = rungs(signal).last().map(|rung| rung.hook.level());
        !lowest.is_some_and(|lowest| self.wants(signal, lowest))
    }
}

impl Prepared {
    /// Attaches, for every signal, the best of the wanted rungs that the kernel accepts. A rung that is refused never stops
    /// the others.
    ///
    /// # Errors
    /// If not a single one is accepted.
    pub fn attach(mut self, wanted: Wanted) -> Result<Loaded, LoadError> {
        let mut tried = Tried::default();
        if self.features.preempted == 0 {
            tried.attached.extend(TWINS.map(|(_, twin)| (twin, Ok(()))));
        }
        while self.load_ahead(wanted, &mut tried) {}
        let mut asked = None;
        let mut hooks = Vec::new();
        for signal in Signal::ALL {
            let (used, left_out) = wanted.of(signal);
            let mut status = HookStatus {
                signal,
                rung: None,
                refused: left_out,
                off: false,
            };
            for rung in used {
                if rung.hook.level() == Level::Lsm && asked.is_none() {
                    asked = Some(asks_bpf(&mut self.ebpf, self.features, &self.hooks, &mut tried));
                }
                let ready = match &asked {
                    Some(Err(reason)) if rung.hook.level() == Level::Lsm => Err(reason.clone()),
                    _ => Ok(()),
                };
                match ready.and_then(|()| attach_all(&mut self.ebpf, rung, &self.hooks, &mut tried)) {
                    Ok(()) => {
                        status.rung = Some(*rung);
                        break;
                    }
                    Err(reason) => status.refused.push((*rung, reason)),
                }
            }
            status.off = status.rung.is_none() && wanted.is_off(signal);
            hooks.push(status);
        }
        if hooks.iter().all(|status| status.rung.is_none()) {
            let first = hooks.iter().find_map(|status| status.refused.first());
            return Err(LoadError::NoHook(
                first.map(|(_, reason)| reason.clone()).unwrap_or_default(),
            ));
        }
        for name in tried.loaded.into_keys() {
            self.ebpf.program_mut(name).map(unload);
        }
        drop(self.hooks);
        return_memory();
        Ok(Loaded {
            ebpf: self.ebpf,
            hooks,
            blind_spots: self.blind_spots,
            load_time: self.started.elapsed(),
            btf_time: self.btf_time,
        })
    }
}

impl Prepared {
    /// Loads what the best rungs consist of that were not refused yet, on all processors at once: nearly all of the time goes into the
    /// kernel's verification, and it verifies programs of different threads side by side. False if there is nothing more to load.
    fn load_ahead(&mut self, wanted: Wanted, tried: &mut Tried) -> bool {
        let has_lsm = self.features.rename_flags == 1;
        let is_possible = |rung: &&Rung| {
            let mut parts = rung.parts();
            (has_lsm || rung.hook.level() != Level::Lsm)
                && !parts.any(|part| !part.optional && matches!(tried.loaded.get(part.program), Some(Err(_))))
        };
        let is_new = |name: &str| !tried.loaded.contains_key(name) && !tried.attached.contains_key(name);
        let mut hooks: HashMap<&'static str, Hook> = Signal::ALL
            .into_iter()
            .filter_map(|signal| wanted.of(signal).0.into_iter().find(is_possible))
            .flat_map(Rung::parts)
            .filter(|part| part.hook != Hook::HostRecords && is_new(part.program))
            .map(|part| (part.program, part.hook))
            .collect();
        // A program that the object lacks is told of when it is to be attached.
        hooks.retain(|name, _| self.ebpf.program(name).is_some());
        if hooks.is_empty() {
            return false;
        }
        let programs = self.ebpf.programs_mut();
        let programs = programs.filter_map(|(name, program)| {
            let (name, hook) = hooks.remove_entry(name)?;
            Some((name, program, hook))
        });
        let queue = Mutex::new(programs);
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let btf = &self.hooks;
        let load_some = || {
            std::iter::from_fn(next)
                .map(|(name, program, hook)| (name, load(program, hook, btf)))
                .collect::<Vec<_>>()
        };
        std::thread::scope(|scope| {
            let others = (1..LOADERS_MAX.min(possible_cpus())).map(|_| scope.spawn(load_some));
            let others: Vec<_> = others.collect();
            tried.loaded.extend(load_some());
            for other in others {
                let loaded = other.join().unwrap_or_else(|panic| resume_unwind(panic));
                tried.loaded.extend(loaded);
            }
        });
        true
    }
}

/// Threads that load programs.
const LOADERS_MAX: usize = 4;

/// Whether the kernel asks BPF programs as a security module. It attaches them all the same if not: without `bpf` among those chosen at boot, no
/// hook is ever asked. Found out by doing something: each use of `bpf()` asks a hook whose program notes that.
fn asks_bpf(ebpf: &mut Ebpf, features: Features, btf: &Btf, tried: &mut Tried) -> Result<(), String> {
    // What tells: a hook has had one argument more since.
    if features.rename_flags == 0 {
        return Err("security hooks are used since Linux 6.0: an older one was seen to lock up when a second agent attached to them".to_owned());
    }
    for rung in rungs(Signal::Bpf).iter().take(1) {
        // Refused itself, it says nothing about the others.
        if attach_all(ebpf, rung, btf, tried).is_err() {
            return Ok(());
        }
    }
    let noted = ebpf
        .map("LSM_ASKED")
        .and_then(|map| Array::<_, u32>::try_from(map).ok())
        .and_then(|array| array.get(&0, 0).ok());
    match noted {
        Some(0) => Err(
            "attached, but never asked: the kernel was booted without `bpf` among its security modules (lsm= on its command line)"
                .to_owned(),
        ),
        _ => Ok(()),
    }
}

/// What the library looks hooks up in: nothing but hooks, under the ids that they have in the kernel.
///
/// Tracepoints have low ids and come in a blob that is parsed; functions have high ones and are added, which is quicker.
pub(crate) fn library_btf(mut ids: HashMap<(Kind, String), u32>) -> Result<Btf, BtfError> {
    let is_tracepoint = |kind: Kind| kind == Kind::Typedef;
    let last = ids
        .iter()
        .filter(|((kind, _), _)| is_tracepoint(*kind))
        .map(|(_, id)| *id)
        .max()
        .unwrap_or(0);
    let mut functions: Vec<(u32, String)> = ids
        .extract_if(|_, id| *id > last)
        .map(|((_, name), id)| (id, name))
        .collect();
    functions.sort_unstable();
    let mut btf = Btf::parse(&btf::Btf::sparse(&ids), Endianness::default())?;
    let mut next = last + 1;
    for (id, name) in functions {
        for _ in next..id {
            btf.add_type(BtfType::Unknown);
        }
        let name = btf.add_string(&name);
        btf.add_type(BtfType::Func(Func::new(name, 0, FuncLinkage::Global)));
        next = id + 1;
    }
    Ok(btf)
}

fn hooks() -> impl Iterator<Item = Hook> {
    let rungs = Signal::ALL.into_iter().flat_map(rungs);
    rungs.flat_map(Rung::parts).map(|part| part.hook)
}

/// Programs that were tried, for whichever rung, and the kernel's answers.
#[derive(Default)]
struct Tried {
    /// Loaded ahead, and not attached.
    loaded: HashMap<&'static str, Result<(), String>>,
    attached: HashMap<&'static str, Result<(), String>>,
}

/// All programs of a rung, or none: half of a rung would be in the way of the next. A program that another rung has attached stays.
fn attach_all(ebpf: &mut Ebpf, rung: &Rung, btf: &Btf, tried: &mut Tried) -> Result<(), String> {
    let mut attached = Vec::new();
    for part in rung.parts() {
        let known = tried.attached.get(part.program).cloned();
        let is_new = known.is_none();
        let result = known.unwrap_or_else(|| attach(ebpf, part, btf, tried.loaded.remove(part.program)));
        tried.attached.insert(part.program, result.clone());
        match result {
            Ok(()) if is_new => attached.push(part.program),
            Ok(()) => {}
            Err(reason) if part.optional => tracing::debug!("{} is left out: {reason}", part.program),
            Err(reason) => {
                for name in attached {
                    ebpf.program_mut(name).map(unload);
                    tried.attached.insert(name, Err(reason.clone()));
                }
                return Err(reason);
            }
        }
    }
    Ok(())
}

fn unload(program: &mut Program) {
    let result = match program {
        Program::BtfTracePoint(program) => program.unload(),
        Program::FEntry(program) => program.unload(),
        Program::FExit(program) => program.unload(),
        Program::Lsm(program) => program.unload(),
        Program::CgroupSkb(program) => program.unload(),
        Program::CgroupSock(program) => program.unload(),
        Program::CgroupSysctl(program) => program.unload(),
        _ => Ok(()),
    };
    // The one that was refused was not loaded.
    if let Err(error) = result {
        tracing::debug!("nothing to unload: {error}");
    }
}

/// Attaches a program, which is loaded unless it was `loaded` ahead. The kernel's own words, where it refuses.
fn attach(ebpf: &mut Ebpf, part: Part, btf: &Btf, loaded: Option<Result<(), String>>) -> Result<(), String> {
    if part.hook == Hook::HostRecords {
        return Ok(());
    }
    tracing::debug!("attaching {} to {}", part.program, part.hook);
    let Some(program) = ebpf.program_mut(part.program) else {
        return Err(format!("the kernel object has no program '{}'", part.program));
    };
    loaded.unwrap_or_else(|| load(program, part.hook, btf))?;
    join(program, part.hook)
}

/// Attaches a program that is loaded.
pub(super) fn join(program: &mut Program, hook: Hook) -> Result<(), String> {
    let result = match program {
        Program::BtfTracePoint(program) => program.attach().map(drop),
        Program::FEntry(program) => program.attach().map(drop),
        Program::FExit(program) => program.attach().map(drop),
        Program::Lsm(program) => program.attach().map(drop),
        Program::CgroupSysctl(program) => program.attach(root()?, CgroupAttachMode::Single).map(drop),
        Program::CgroupSock(program) => program.attach(root()?, CgroupAttachMode::Single).map(drop),
        Program::CgroupSkb(program) => {
            let direction = if hook == Hook::Cgroup(Cgroup::Egress) {
                CgroupSkbAttachType::Egress
            } else {
                CgroupSkbAttachType::Ingress
            };
            // A link stands beside what others attach, without a flag that says so.
            program
                .attach(root()?, direction, CgroupAttachMode::Single)
                .map(drop)
        }
        // An iterator runs when it is read.
        _ => Ok(()),
    };
    result.map_err(|error| reason(&error))
}

fn root() -> Result<std::fs::File, String> {
    cgroup::root().map_err(|error| error.to_string())
}

/// Has the kernel verify a program.
fn load(program: &mut Program, hook: Hook, btf: &Btf) -> Result<(), String> {
    let result = match (program, hook) {
        (Program::BtfTracePoint(program), Hook::Tracepoint(name)) => program.load(name, btf),
        (Program::Iter(program), Hook::Iterator(name)) => program.load(name, btf),
        (Program::FEntry(program), Hook::FunctionEntry(name)) => program.load(name, btf),
        (Program::FExit(program), Hook::FunctionExit(name)) => program.load(name, btf),
        (Program::Lsm(program), Hook::Lsm(name)) => program.load(name, btf),
        (Program::CgroupSysctl(program), Hook::Cgroup(Cgroup::Sysctl)) => program.load(),
        (Program::CgroupSkb(program), Hook::Cgroup(_)) => program.load(),
        (Program::CgroupSock(program), Hook::Cgroup(_)) => program.load(),
        (_, hook) => return Err(format!("the program is of another kind than its rung, {hook}")),
    };
    result.map_err(|error| reason(&error))
}

/// One line of an error that may carry a verifier's log of thousands; the whole log goes to the debug log.
pub(crate) fn reason(error: &ProgramError) -> String {
    match error {
        ProgramError::LoadError {
            io_error,
            verifier_log,
        } => {
            let log = verifier_log.to_string();
            tracing::debug!("verifier: {log}");
            let statistics = ["processed", "verification time", "stack depth"];
            let said = log
                .lines()
                .rev()
                .find(|line| !line.is_empty() && !statistics.iter().any(|word| line.starts_with(word)));
            match said {
                Some(line) => format!("load refused: {io_error}: {line}"),
                None => format!("load refused: {io_error}"),
            }
        }
        ProgramError::SyscallError(error) => format!("{} refused: {}", error.call, error.io_error),
        ProgramError::Btf(_) => "this kernel does not have it".to_owned(),
        error => error.to_string(),
    }
}

/// Loading takes several megabytes for some milliseconds; the allocator would keep them for good.
pub(crate) fn return_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer and may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Before 5.11 the memory of maps counts against the limit on locked memory.
pub(crate) fn raise_memlock() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    if let Err(error) = setrlimit(
        Resource::Memlock,
        Rlimit {
            current: None,
            maximum: None,
        },
    ) {
        tracing::debug!(
            "cannot raise the limit on locked memory: {}",
            io::Error::from(error)
        );
    }
}

#[cfg(test)]
mod tests {
    use aya_obj::btf::BtfKind;

    use super::*;

    #[test]
    fn hooks_are_found_under_their_own_ids() {
        let ids = [
            (Kind::Typedef, "btf_trace_b", 7),
            (Kind::Func, "below", 3),
            (Kind::Typedef, "btf_trace_a", 2),
            (Kind::Func, "far", 100),
            (Kind::Func, "next", 8),
        ];
        let wanted = ids.map(|(kind, name, id)| ((kind, name.to_owned()), id));
        let btf = library_btf(wanted.into()).unwrap();
        for (kind, name, id) in ids {
            let kind = if kind == Kind::Func {
                BtfKind::Func
            } else {
                BtfKind::Typedef
            };
            assert_eq!(btf.id_by_type_name_kind(name, kind).unwrap(), id, "{name}");
        }
    }
}
