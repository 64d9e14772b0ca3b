//! What the kernel refuses by itself: programs that are not to run, ends that are not to be reached, a host that is cut off.
//!
//! A verdict is an entry of a map that the kernel programs of `sensor-verdict` look into. They are loaded for the first verdict that needs them and
//! go with the last one.
//!
//! Invariants:
//! - Every verdict ends by itself, after [`LONGEST`] at the latest: the programs look at the clock. The agent need not be there.
//! - Maps and attachments are [pinned](Pins): they outlive the agent, and the next one finds them again.
//! - Process 1, the agent, its own executable and whatever is [spared](Enforcer::spare) are stopped by no verdict; neither the network of
//!   the agent's own cgroup or process tree, nor the loopback network as a part of a larger one can be taken away.
//! - When something is refused here, nothing has changed.

mod ends;
mod error;
mod here;
mod maps;
mod pins;
mod programs;
mod subject;
mod tree;
mod trial;

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use sensor_common::{FileKey, verdict};

pub use error::EnforceError;
pub use subject::{Destination, Subject, Verdict};
pub use trial::{Ability, try_all};

use self::{
    maps::Maps,
    pins::Pins,
    programs::{Group, Programs},
};
use crate::time::BootTime;

/// Longest that a verdict may hold.
pub const LONGEST: Duration = Duration::from_secs(30 * 86_400);

/// Where verdicts are carried out, and where they are kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// A BPF file system, or a directory where one is mounted when there is something to keep. `None`: verdicts end with the agent.
    pub bpffs: Option<PathBuf>,
    /// The cgroup (v2) whose sockets verdicts on the network are for; `None` for all.
    pub cgroup: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bpffs: Some("/sys/fs/bpf".into()),
            cgroup: None,
        }
    }
}

/// Verdicts, and the kernel programs that carry them out. What it has pinned stays when it is dropped.
pub struct Enforcer {
    pins: Option<Pins>,
    programs: Programs,
    maps: Option<Maps>,
    spared_files: BTreeSet<(u32, u64)>,
    spared_ends: Vec<Destination>,
}

impl Enforcer {
    /// Finds again what a former agent left. Whoever opens it is the agent from then on, which no verdict stops: one process at a time.
    ///
    /// Nothing is loaded unless something was left. Programs of another version are replaced; the new ones are attached before the former
    /// go.
    ///
    /// # Errors
    /// If what was left cannot be read, or not be replaced; then it stays as it is.
    pub fn open(options: Options) -> Result<Self, EnforceError> {
        let pins = options.bpffs.map(Pins::new);
        let mut enforcer = Self {
            programs: Programs::new(pins.clone(), options.cgroup),
            maps: pins.as_ref().map(Maps::find).transpose()?.flatten(),
            pins,
            spared_files: here::executable().into_iter().collect(),
            spared_ends: Vec::new(),
        };
        if let Some(maps) = &mut enforcer.maps {
            maps.set_agent(here::agent()?)?;
            // What the former agent spared stays so until this one has said what it spares.
            maps.spare_too(&enforcer.spared_files)?;
            let groups = Group::of(maps)?;
            enforcer.programs.adopt(&groups)?;
        }
        // A former agent may have ended between its programs and its first verdict.
        enforcer.tidy()?;
        Ok(enforcer)
    }

    /// Says what no verdict on executables, login users, ends or the host ever stops. What was said before is forgotten, but not
    /// the agent's own executable.
    ///
    /// Ends are meant for the collector: an isolation lets them through whatever else it does.
    ///
    /// # Errors
    /// If there are more than [`SPARED_MAX`](verdict::SPARED_MAX) files or [`ENDS_MAX`](verdict::ENDS_MAX) ends.
    pub fn spare(&mut self, files: &[FileKey], ends: &[Destination]) -> Result<(), EnforceError> {
        let named = files.iter().map(|file| (file.device, file.inode));
        let files: BTreeSet<_> = here::executable().into_iter().chain(named).collect();
        maps::check("spared executables", files.len(), verdict::SPARED_MAX)?;
        maps::check("spared ends", ends.len(), verdict::ENDS_MAX)?;
        if let Some(maps) = &mut self.maps {
            maps.spare(&files, ends)?;
        }
        self.spared_files = files;
        self.spared_ends = ends.to_vec();
        Ok(())
    }

    /// From now until `until`, the kernel refuses this. If it does already, it does so until then.
    ///
    /// # Errors
    /// If `until` has passed or is further away than [`LONGEST`], if this may not be refused (see [`EnforceError`]), if there is no room
    /// for it, or if the kernel does not take the programs.
    pub fn impose(&mut self, subject: &Subject, until: BootTime) -> Result<(), EnforceError> {
        subject.check()?;
        self.hold(subject, until)
    }

    /// The same for what was imposed before: of a process tree whose top has ended, what descends from it goes on without a network.
    ///
    /// # Errors
    /// As for [`impose`](Self::impose), but for what may not be refused.
    pub fn hold(&mut self, subject: &Subject, until: BootTime) -> Result<(), EnforceError> {
        check_time(until)?;
        let maps = self.ready(Group::for_subject(subject))?;
        let holds = maps.list()?.iter().any(|verdict| verdict.subject == *subject);
        let result = maps.impose(subject, until);
        let result = result.and_then(|()| match subject {
            Subject::Tree(top) => tree::gather(maps, *top),
            _ => Ok(()),
        });
        if result.is_err() && !holds {
            let _ = maps.lift(subject);
        }
        self.tidy()?;
        result
    }

    /// From now until `until`, nothing but loopback, what is [spared](Self::spare) and `allowed` can be reached by this host, or reaches it. If it
    /// is isolated already, this takes the place of what was allowed.
    ///
    /// Neighbour discovery and the renewal of leases go on, since without them what is allowed would be out of reach as well. A name is not
    /// looked up unless a name server is allowed.
    ///
    /// # Errors
    /// As for [`impose`](Self::impose).
    pub fn isolate(&mut self, allowed: &[Destination], until: BootTime) -> Result<(), EnforceError> {
        check_time(until)?;
        let own = here::addresses();
        maps::check("allowed ends", allowed.len() + own.len(), verdict::ENDS_MAX)?;
        let maps = self.ready(Group::for_subject(&Subject::Host))?;
        maps.allow(&own, allowed)?;
        let result = maps.impose(&Subject::Host, until);
        self.tidy()?;
        result
    }

    /// Ends a verdict before its time. False if there was none.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn lift(&mut self, subject: &Subject) -> Result<bool, EnforceError> {
        let Some(maps) = &mut self.maps else {
            return Ok(false);
        };
        let lifted = maps.lift(subject)?;
        self.tidy()?;
        Ok(lifted)
    }

    /// Ends all verdicts.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn lift_all(&mut self) -> Result<(), EnforceError> {
        for verdict in self.list()? {
            self.lift(&verdict.subject)?;
        }
        Ok(())
    }

    /// All verdicts that have not been lifted or swept away, those whose time has passed included.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn list(&self) -> Result<Vec<Verdict>, EnforceError> {
        self.maps.as_ref().map_or_else(|| Ok(Vec::new()), Maps::list)
    }

    /// Removes verdicts whose time has passed, and the programs that nothing is left for. Cuts what sockets a process tree without a
    /// network has been given by others meanwhile. To be called now and then; nothing that has ended holds until it is.
    ///
    /// Returns what was removed.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn sweep(&mut self, now: BootTime) -> Result<Vec<Verdict>, EnforceError> {
        let (ended, holding): (Vec<_>, Vec<_>) =
            self.list()?.into_iter().partition(|verdict| verdict.until <= now);
        let Some(maps) = &mut self.maps else {
            return Ok(ended);
        };
        for verdict in &ended {
            maps.lift(&verdict.subject)?;
        }
        for verdict in holding {
            if let Subject::Tree(top) = verdict.subject
                && let Err(error) = tree::gather(maps, top)
            {
                tracing::warn!("not all of process {} is without a network: {error}", top.tgid);
            }
        }
        self.tidy()?;
        Ok(ended)
    }

    /// What somebody else has done to the programs or maps, if anything: then what is refused is refused no more, or will not be once this agent ends.
    #[must_use]
    pub fn tampered(&self) -> Option<String> {
        self.maps.as_ref()?;
        self.programs.tampered().or_else(|| {
            let pins = self.pins.as_ref()?;
            let gone = maps::NAMES.into_iter().map(|name| pins.map(name));
            let gone = gone.into_iter().find(|path| !path.exists())?;
            Some(format!("{} is gone", gone.display()))
        })
    }

    /// One in the place of this, which has nothing yet. What this has attached stays until it is dropped; what it has pinned is forgotten.
    #[must_use]
    pub fn anew(&self) -> Self {
        self.forget();
        Self {
            pins: self.pins.clone(),
            programs: self.programs.anew(),
            maps: None,
            spared_files: self.spared_files.clone(),
            spared_ends: self.spared_ends.clone(),
        }
    }

    /// Forgets the names of what is attached and kept: it ends with this, or is found by nobody.
    pub fn forget(&self) {
        if let Some(pins) = &self.pins {
            pins.remove();
        }
    }

    /// Forgets what agents have left whose maps this one cannot read: to be called when what was to hold is held here.
    pub fn forget_others(&self) {
        if let Some(pins) = &self.pins {
            pins.remove_others();
        }
    }

    /// Who belonged to the trees that `former` had without a network belongs to them here: some have lost their parents since.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn take_over(&mut self, former: &Self) -> Result<(), EnforceError> {
        match (&mut self.maps, &former.maps) {
            (Some(maps), Some(others)) => Ok(maps.take_over(others)?),
            _ => Ok(()),
        }
    }

    /// Whether an exec is denied (`EPERM`) rather than ended before its first instruction; `None` while there is no verdict on any. Where the
    /// kernel refused that, it says why.
    #[must_use]
    pub fn denies_exec(&self) -> Option<Result<(), &str>> {
        self.programs.denies_exec()
    }

    /// The maps, with the programs of `groups` at work.
    fn ready(&mut self, groups: &[Group]) -> Result<&mut Maps, EnforceError> {
        if self.maps.is_none() {
            let mut maps = self.programs.maps()?;
            maps.set_agent(here::agent()?)?;
            maps.spare(&self.spared_files, &self.spared_ends)?;
            self.maps = Some(maps);
        }
        for group in groups {
            if let Err(error) = self.programs.ensure(*group) {
                self.tidy()?;
                return Err(error);
            }
        }
        self.maps.as_mut().ok_or(EnforceError::NoObject)
    }

    /// Lets go of what no verdict needs.
    fn tidy(&mut self) -> Result<(), EnforceError> {
        let Some(maps) = &mut self.maps else { return Ok(()) };
        maps.tell_kinds()?;
        let groups = Group::of(maps)?;
        self.programs.release_all_but(&groups);
        if groups.is_empty() {
            self.maps = None;
            self.programs.unload();
            if let Some(pins) = &self.pins {
                pins.remove();
            }
        }
        Ok(())
    }
}

fn check_time(until: BootTime) -> Result<(), EnforceError> {
    let now = BootTime::now();
    if until <= now {
        return Err(EnforceError::Past);
    }
    if until.since(now) > LONGEST {
        return Err(EnforceError::TooLong);
    }
    Ok(())
}
