//! The kernel programs that carry verdicts out: fitted to the kernel, attached, kept.

use std::{
    collections::HashMap,
    fs::File,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use aya::{
    Btf, Ebpf, EbpfError, EbpfLoader,
    programs::{
        CgroupAttachMode, CgroupSkbAttachType, Program, ProgramError,
        links::{FdLink, LinkError, PinnedLink},
    },
};
use sensor_common::verdict::kinds;
use sha2::{Digest as _, Sha256};
use zerocopy::IntoBytes as _;

use super::{EnforceError, Subject, maps, maps::Maps, pins::Pins};
use crate::capture::{
    btf::Kind,
    cgroup, layout,
    loader::{Object, library_btf, raise_memlock, reason, return_memory},
};
use crate::hex::hex;

/// The kernel object that `build.rs` made; empty where it could not.
static OBJECT: &Object<[u8]> = &Object(*include_bytes!(concat!(env!("OUT_DIR"), "/sensor-verdict")));

const EXEC: &str = "sched_process_exec";
const FORK: &str = "sched_process_fork";
const EXIT: &str = "sched_process_exit";
const CHECK: &str = "bprm_check_security";

/// Programs that stand and fall together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    /// What is not to run.
    Exec,
    /// What is not to be reached.
    Network,
    /// Who belongs to a tree.
    Tree,
}

/// How a program is attached.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hook {
    Tracepoint(&'static str),
    /// The same, where the kernel skips runs (7.0).
    Again(&'static str),
    /// Where the kernel asks security modules; without it, the next rung does.
    Security(&'static str),
    /// Of this kind, as [`cgroup`] has it.
    Cgroup(u32),
}

impl Group {
    pub(super) const ALL: [Self; 3] = [Self::Exec, Self::Network, Self::Tree];

    /// What verdicts of it refuse, in short.
    pub(super) fn what(self) -> &'static str {
        match self {
            Self::Exec => "refuse programs",
            Self::Network => "refuse networks",
            Self::Tree => "refuse families",
        }
    }

    pub(super) fn for_subject(subject: &Subject) -> &'static [Self] {
        match subject {
            Subject::File(_) | Subject::Path(_) | Subject::User(_) => &[Self::Exec],
            Subject::End(_) | Subject::Cgroup(_) | Subject::Host => &[Self::Network],
            Subject::Tree(_) => &[Self::Tree, Self::Network],
        }
    }

    /// Those that the verdicts in the maps need.
    pub(super) fn of(maps: &Maps) -> Result<Vec<Self>, EnforceError> {
        let kinds = maps.kinds();
        let mut groups = Vec::new();
        if kinds & kinds::OF_EXEC != 0 {
            groups.push(Self::Exec);
        }
        if kinds & (kinds::END | kinds::CGROUP | kinds::TREE) != 0 || maps.is_isolated()? {
            groups.push(Self::Network);
        }
        if kinds & kinds::TREE != 0 {
            groups.push(Self::Tree);
        }
        Ok(groups)
    }

    fn parts(self) -> &'static [(&'static str, Hook)] {
        match self {
            Self::Exec => &[
                ("verdict_check", Hook::Security(CHECK)),
                ("verdict_exec", Hook::Tracepoint(EXEC)),
                ("verdict_exec_second", Hook::Again(EXEC)),
                ("verdict_exec_third", Hook::Again(EXEC)),
            ],
            Self::Network => &[
                ("verdict_connect4", Hook::Cgroup(cgroup::CONNECT4)),
                ("verdict_connect6", Hook::Cgroup(cgroup::CONNECT6)),
                ("verdict_sendmsg4", Hook::Cgroup(cgroup::SENDMSG4)),
                ("verdict_sendmsg6", Hook::Cgroup(cgroup::SENDMSG6)),
                ("verdict_egress", Hook::Cgroup(cgroup::EGRESS)),
                ("verdict_ingress", Hook::Cgroup(cgroup::INGRESS)),
            ],
            Self::Tree => &[
                ("verdict_fork", Hook::Tracepoint(FORK)),
                ("verdict_fork_second", Hook::Again(FORK)),
                ("verdict_fork_third", Hook::Again(FORK)),
                ("verdict_exit", Hook::Tracepoint(EXIT)),
                ("verdict_socket", Hook::Cgroup(cgroup::SOCK_CREATE)),
            ],
        }
    }
}

/// A program that is attached, as long as this or its name is there.
struct Attached {
    link: FdLink,
    /// In the BPF file system, where it is to outlive the agent.
    path: Option<PathBuf>,
}

/// The object, fitted to the kernel.
struct Fitted {
    ebpf: Ebpf,
    hooks: Btf,
    preempted: bool,
    has_security: bool,
}

impl Fitted {
    /// Whether the kernel asks BPF programs as a security module; it attaches them all the same if not. Where it does not tell, it
    /// is taken to: behind that rung is another one.
    fn is_asked(&self) -> Result<(), &'static str> {
        if !self.has_security {
            return Err("security hooks are used since Linux 6.0");
        }
        match std::fs::read_to_string("/sys/kernel/security/lsm") {
            Ok(modules) if !modules.trim().split(',').any(|module| module == "bpf") => Err(
                "the kernel was booted without `bpf` among its security modules (lsm= on its command line)",
            ),
            _ => Ok(()),
        }
    }
}

/// What is loaded and attached.
pub(super) struct Programs {
    pins: Option<Pins>,
    cgroup: Option<PathBuf>,
    version: String,
    fitted: Option<Fitted>,
    attached: HashMap<&'static str, Attached>,
    /// Programs that are not needed for their group, and why there are none.
    refused: HashMap<&'static str, String>,
}

impl Programs {
    pub(super) fn new(pins: Option<Pins>, cgroup: Option<PathBuf>) -> Self {
        Self {
            pins,
            version: version(cgroup.as_deref()),
            cgroup,
            fitted: None,
            attached: HashMap::new(),
            refused: HashMap::new(),
        }
    }

    /// New maps, or those that are kept.
    pub(super) fn maps(&mut self) -> Result<Maps, EnforceError> {
        let pinned = self.pins.clone();
        let fitted = self.fitted()?;
        let maps = Maps::new(|name| fitted.ebpf.take_map(name).ok_or(aya::maps::MapError::KeyNotFound));
        maps.map_err(|error| {
            self.fitted = None;
            if let Some(pins) = pinned {
                pins.remove();
            }
            EnforceError::Map(error)
        })
    }

    /// Attaches what is missing of a group, all of it or nothing.
    pub(super) fn ensure(&mut self, group: Group) -> Result<(), EnforceError> {
        let mut new = Vec::new();
        for (program, hook) in group.parts() {
            if self.attached.contains_key(program) || self.refused.contains_key(program) {
                continue;
            }
            if let Some(kept) = self.kept(program) {
                self.attached.insert(program, kept);
                continue;
            }
            match self.attach(program, *hook) {
                Ok(Some(attached)) => {
                    self.attached.insert(program, attached);
                    new.push(*program);
                }
                Ok(None) => {}
                Err(EnforceError::Program { reason, .. }) if matches!(hook, Hook::Security(_)) => {
                    self.refused.insert(program, reason);
                }
                Err(error) => {
                    new.into_iter().for_each(|program| self.detach(program));
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Puts the programs of these groups in the place of whatever other version is attached.
    pub(super) fn adopt(&mut self, groups: &[Group]) -> Result<(), EnforceError> {
        for group in groups {
            self.ensure(*group)?;
        }
        let Some(pins) = &self.pins else { return Ok(()) };
        for former in pins.versions() {
            if former != self.version {
                tracing::info!(
                    "kernel programs for verdicts: version {former} is replaced by {}",
                    self.version
                );
                pins.remove_version(&former);
            }
        }
        Ok(())
    }

    /// Detaches what none of these groups needs.
    pub(super) fn release_all_but(&mut self, groups: &[Group]) {
        for group in Group::ALL {
            if groups.contains(&group) {
                continue;
            }
            for (program, _) in group.parts() {
                self.detach(program);
                self.refused.remove(program);
            }
        }
    }

    /// Forgets the object: it is read again when there is a verdict again.
    pub(super) fn unload(&mut self) {
        self.fitted = None;
        return_memory();
    }

    pub(super) fn denies_exec(&self) -> Option<Result<(), &str>> {
        if self.attached.contains_key("verdict_check") {
            return Some(Ok(()));
        }
        self.refused
            .get("verdict_check")
            .map(|reason| Err(reason.as_str()))
    }

    fn detach(&mut self, program: &str) {
        if let Some(Attached { path: Some(path), .. }) = self.attached.remove(program)
            && let Err(error) = std::fs::remove_file(&path)
        {
            tracing::warn!("cannot detach {}: {error}", path.display());
        }
    }

    /// A program that is kept by a former agent of the same version.
    fn kept(&self, program: &str) -> Option<Attached> {
        let path = self.pins.as_ref()?.link(&self.version, program);
        let link = PinnedLink::from_pin(&path).ok()?.into();
        Some(Attached {
            link,
            path: Some(path),
        })
    }

    /// What somebody else has done to an attachment, if anything: taken its program off, or its name away.
    pub(super) fn tampered(&self) -> Option<String> {
        let parts = Group::ALL.into_iter().flat_map(Group::parts);
        let attached = parts.filter_map(|(name, hook)| Some((name, hook, self.attached.get(name)?)));
        let mut cgroup = None;
        for (name, hook, attached) in attached {
            if let Some(path) = attached.path.as_ref().filter(|path| !path.exists()) {
                return Some(format!("{} is gone", path.display()));
            }
            let Hook::Cgroup(kind) = hook else { continue };
            if cgroup.is_none() {
                cgroup = open(self.cgroup.as_deref()).ok();
            }
            // Where the kernel does not tell, nothing is known to be wrong.
            if let (Some(cgroup), Ok(info)) = (&cgroup, attached.link.info())
                && !cgroup::has(cgroup, *kind, info.program_id()).unwrap_or(true)
            {
                return Some(format!("the kernel program {name} was taken off its hook"));
            }
        }
        None
    }

    /// As new: nothing loaded or attached yet.
    pub(super) fn anew(&self) -> Self {
        Self::new(self.pins.clone(), self.cgroup.clone())
    }

    fn fitted(&mut self) -> Result<&mut Fitted, EnforceError> {
        if self.fitted.is_none() {
            if let Some(pins) = &self.pins {
                pins.prepare(&self.version)?;
            }
            self.fitted = Some(fit(self.pins.as_ref())?);
        }
        self.fitted.as_mut().ok_or(EnforceError::NoObject)
    }

    /// `None` where this kernel does not need the program.
    fn attach(&mut self, name: &'static str, hook: Hook) -> Result<Option<Attached>, EnforceError> {
        let pinned = self.pins.as_ref().map(|pins| pins.link(&self.version, name));
        let cgroup = self.cgroup.clone();
        let fitted = self.fitted()?;
        if matches!(hook, Hook::Again(_)) && !fitted.preempted {
            return Ok(None);
        }
        let refused = |reason| EnforceError::Program {
            program: name,
            reason,
        };
        if matches!(hook, Hook::Security(_)) {
            fitted.is_asked().map_err(|reason| refused(reason.to_owned()))?;
        }
        let cgroup = match hook {
            Hook::Cgroup(_) => Some(open(cgroup.as_deref())?),
            _ => None,
        };
        let program = fitted.ebpf.program_mut(name);
        let program = program.ok_or_else(|| refused("the kernel object does not have it".to_owned()))?;
        let link = match program.fd() {
            Ok(_) => Ok(()),
            Err(_) => load(program, hook, &fitted.hooks),
        }
        .and_then(|()| link(program, hook, cgroup.as_ref()))
        .map_err(|error| refused(reason(&error)))?;
        let Some(path) = pinned else {
            return Ok(Some(Attached { link, path: None }));
        };
        match link.pin(&path) {
            Ok(pinned) => Ok(Some(Attached {
                link: pinned.into(),
                path: Some(path),
            })),
            Err(error) => Err(EnforceError::Pin {
                reason: error.to_string(),
                path,
            }),
        }
    }
}

/// Names the programs and what they are attached to.
fn version(cgroup: Option<&Path>) -> String {
    let digest = hex(&Sha256::digest(&OBJECT.0)[..6]);
    let inode = cgroup
        .and_then(|path| std::fs::metadata(path).ok())
        .map(|found| found.ino());
    format!("{digest}-{}", inode.unwrap_or(cgroup::ROOT_INODE))
}

fn fit(pins: Option<&Pins>) -> Result<Fitted, EnforceError> {
    if OBJECT.0.is_empty() {
        return Err(EnforceError::NoObject);
    }
    raise_memlock();
    let tracepoints = [EXEC, FORK, EXIT].map(|name| format!("btf_trace_{name}"));
    let check = format!("bpf_lsm_{CHECK}");
    let mut names: Vec<(Kind, &str)> = tracepoints
        .iter()
        .map(|name| (Kind::Typedef, name.as_str()))
        .collect();
    names.push((Kind::Func, &check));
    let resolved = layout::resolve(&names, None)?;
    let object = |error| EnforceError::Object(Box::new(error));
    let hooks = library_btf(resolved.hook_ids).map_err(|error| object(EbpfError::BtfError(error)))?;
    let mut loader = EbpfLoader::new();
    loader
        .btf(None)
        .override_global("LAYOUT", resolved.layout.as_bytes(), true);
    if let Some(pins) = pins {
        for name in maps::NAMES {
            loader.map_pin_path(name, pins.map(name));
        }
    }
    Ok(Fitted {
        ebpf: loader.load(&OBJECT.0).map_err(object)?,
        hooks,
        preempted: resolved.features.preempted == 1,
        // What tells a kernel on which they were never seen to lock up; see the loader of what reports.
        has_security: resolved.features.rename_flags == 1,
    })
}

fn open(cgroup: Option<&Path>) -> Result<File, EnforceError> {
    match cgroup {
        Some(path) => File::open(path)
            .map_err(|error| EnforceError::Cgroup(format!("cannot open {}: {error}", path.display()))),
        None => cgroup::root().map_err(|error| EnforceError::Cgroup(error.to_string())),
    }
}

/// Has the kernel verify a program.
fn load(program: &mut Program, hook: Hook, btf: &Btf) -> Result<(), ProgramError> {
    match (program, hook) {
        (Program::BtfTracePoint(program), Hook::Tracepoint(name) | Hook::Again(name)) => {
            program.load(name, btf)
        }
        (Program::Lsm(program), Hook::Security(name)) => program.load(name, btf),
        (Program::CgroupSockAddr(program), _) => program.load(),
        (Program::CgroupSock(program), _) => program.load(),
        (Program::CgroupSkb(program), _) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// Attaches it. Programs of others stay beside ours: a link needs no flag that says so.
fn link(program: &mut Program, hook: Hook, cgroup: Option<&File>) -> Result<FdLink, ProgramError> {
    let mode = CgroupAttachMode::Single;
    let no_link = |_: LinkError| ProgramError::UnexpectedProgramType;
    match (program, cgroup) {
        (Program::BtfTracePoint(program), _) => {
            let id = program.attach()?;
            Ok(program.take_link(id)?.into())
        }
        (Program::Lsm(program), _) => {
            let id = program.attach()?;
            Ok(program.take_link(id)?.into())
        }
        (Program::CgroupSockAddr(program), Some(cgroup)) => {
            let id = program.attach(cgroup, mode)?;
            program.take_link(id)?.try_into().map_err(no_link)
        }
        (Program::CgroupSock(program), Some(cgroup)) => {
            let id = program.attach(cgroup, mode)?;
            program.take_link(id)?.try_into().map_err(no_link)
        }
        (Program::CgroupSkb(program), Some(cgroup)) => {
            let direction = match hook {
                Hook::Cgroup(cgroup::EGRESS) => CgroupSkbAttachType::Egress,
                _ => CgroupSkbAttachType::Ingress,
            };
            let id = program.attach(cgroup, direction, mode)?;
            program.take_link(id)?.try_into().map_err(no_link)
        }
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}
