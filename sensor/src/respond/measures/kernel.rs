//! Verdicts of the kernel, as actions ask for them.

mod again;

use std::{
    collections::HashMap,
    fs::Metadata,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use sensor_common::FileKey;

use super::{Came, Means, Standing, failed};
use crate::{
    config,
    enforce::{Destination, EnforceError, Enforcer, LONGEST, Options, Subject, Verdict},
    host::{Process, ProcessId, file},
    respond::{
        Action, ActionKind, Guard, POLICY, Target,
        order::{Order, Stopped},
        standing::is_of,
    },
    time::BootTime,
};

/// What the configuration blocks is blocked for as long as can be, and again before that is over.
const RENEW: Duration = Duration::from_secs(86_400);

/// For how long nothing of a revoked login may run; its account is locked until somebody unlocks it.
pub(in crate::respond) const LOGIN: Duration = LONGEST.saturating_sub(RENEW);

/// Imposes verdicts, and knows which order each was for.
pub(super) struct Kernel {
    options: Options,
    means: Means,
    /// Where the collector was reached when it was looked up last: an isolated host looks up no names.
    collector: Vec<Destination>,
    enforcer: Option<Enforcer>,
    orders: HashMap<Subject, Order>,
    /// What of each verdict's refusals is told.
    seen: HashMap<Subject, u64>,
    /// What the configuration blocks, and when that was said last.
    named: Vec<PathBuf>,
    renewed: BootTime,
    /// What somebody has tampered with could not be put back.
    is_broken: bool,
    /// What the kernel refused when this was done with it last: nobody else changes that.
    expected: Vec<Verdict>,
    /// Who was denied to run something last, of each verdict.
    last_denied: HashMap<Subject, ProcessId>,
}

impl Kernel {
    pub(super) fn new(means: &Means) -> Self {
        let given = |path: &Path| (!path.as_os_str().is_empty()).then(|| path.to_owned());
        Self {
            options: Options {
                bpffs: given(&means.config.bpffs),
                cgroup: given(&means.config.cgroup),
            },
            means: means.clone(),
            collector: Vec::new(),
            enforcer: None,
            orders: HashMap::new(),
            seen: HashMap::new(),
            named: [&means.config.block_executables[..], &means.named].concat(),
            renewed: BootTime(0),
            is_broken: false,
            expected: Vec::new(),
            last_denied: HashMap::new(),
        }
    }

    /// Finds again what an agent before this one left, each for the latest of its orders in `past` that was about it, and blocks what
    /// the configuration names.
    pub(super) fn begin(&mut self, past: &[Standing], guard: &Guard) {
        if let Err(error) = self.try_begin(past, guard) {
            tracing::warn!(
                "the kernel refuses nothing for sensor: {error}; blocking and isolating will fail"
            );
        }
    }

    fn try_begin(&mut self, past: &[Standing], guard: &Guard) -> Result<(), EnforceError> {
        let found = self.ready(guard)?.list()?;
        for verdict in &found {
            self.seen.insert(verdict.subject.clone(), verdict.hits);
            let of = past
                .iter()
                .rev()
                .find(|standing| standing.is_held_by(&verdict.subject));
            if let Some(standing) = of {
                self.orders
                    .insert(verdict.subject.clone(), standing.order.clone());
            }
        }
        self.lift_unnamed(&found)?;
        if !found.is_empty() {
            tracing::info!("{} verdicts of the kernel hold from before", found.len());
        }
        self.renew(BootTime::now(), guard);
        Ok(())
    }

    /// Blocks what is named from now on, lifts what was named and no longer is, and lets an isolated host reach what is allowed now.
    pub(super) fn set(&mut self, config: &config::Respond, named: &[PathBuf], guard: &Guard) {
        self.means.config.clone_from(config);
        let before = std::mem::replace(&mut self.named, [&config.block_executables[..], named].concat());
        for path in before.iter().filter(|path| !self.named.contains(path)) {
            self.seen.remove(&Subject::Path(path.clone()));
        }
        if self.enforcer.is_none() && self.named.is_empty() {
            return;
        }
        if let Err(error) = self.try_set(guard) {
            tracing::warn!("what is blocked is not as the configuration has it: {error}");
        }
    }

    fn try_set(&mut self, guard: &Guard) -> Result<(), EnforceError> {
        let held = self.ready(guard)?.list()?;
        self.lift_unnamed(&held)?;
        if let Some(isolation) = held.iter().find(|verdict| verdict.subject == Subject::Host) {
            let allowed = self.means.config.isolate_allow.clone();
            self.ready(guard)?.isolate(&allowed, isolation.until)?;
        }
        self.renew(BootTime::now(), guard);
        Ok(())
    }

    /// Of what is held, lifts what was named and is no more: it lasts as long as can be, and nobody has ordered it.
    fn lift_unnamed(&mut self, held: &[Verdict]) -> Result<(), EnforceError> {
        let Some(enforcer) = &mut self.enforcer else {
            return Ok(());
        };
        let named = |path: &Path| self.named.iter().any(|named| named == path);
        let long = BootTime::now().after(LONGEST - 2 * RENEW);
        for verdict in held.iter().filter(|verdict| verdict.until > long) {
            let is_unnamed = matches!(&verdict.subject, Subject::Path(path) if !named(path));
            if is_unnamed && !self.orders.contains_key(&verdict.subject) {
                enforcer.lift(&verdict.subject)?;
            }
        }
        Ok(())
    }

    fn ready(&mut self, guard: &Guard) -> Result<&mut Enforcer, EnforceError> {
        let mut enforcer = match self.enforcer.take() {
            Some(enforcer) => enforcer,
            None => Enforcer::open(self.options.clone())?,
        };
        let found = self.means.collector();
        if !found.is_empty() {
            let end = |end: SocketAddr| Destination::port(end.ip().into(), end.port());
            self.collector = found.into_iter().map(end).collect();
        }
        // Where the collector cannot be looked up, what an agent before this one knew of it stays in force.
        if !self.collector.is_empty() || self.means.collector.is_empty() {
            enforcer.spare(&protected_files(guard), &self.collector)?;
        }
        Ok(self.enforcer.insert(enforcer))
    }

    /// What the kernel refuses now.
    pub(super) fn holding(&self) -> Vec<Verdict> {
        let listed = self.enforcer.as_ref().map(Enforcer::list);
        listed.and_then(Result::ok).unwrap_or_default()
    }

    /// What of `held` has refused something that is to be told, each time as much again as was told before: with the order, or for want of one,
    /// where the configuration or a rule names an executable, with what is like one and has no number.
    pub(super) fn stopped(&mut self, held: &[Verdict]) -> Vec<(Order, String)> {
        let mut told = Vec::new();
        for Verdict {
            subject, hits, last, ..
        } in held
        {
            let seen = self.seen.get(subject).copied().unwrap_or(0);
            if *hits < (seen * 2).max(1) {
                continue;
            }
            let order = self
                .orders
                .get(subject)
                .cloned()
                .or_else(|| self.named_order(subject));
            if let Some(mut order) = order {
                order.stopped = last.map(|who| Stopped { who });
                told.push((
                    order,
                    format!("the kernel has refused {subject} {hits} times so far"),
                ));
            }
            self.seen.insert(subject.clone(), *hits);
        }
        told
    }

    /// Who was denied to run something that the configuration or a rule names, once each: at the next look the last may be another.
    pub(super) fn denied(&mut self, held: &[Verdict]) -> Vec<(Order, Stopped)> {
        if self.enforcer.as_ref().and_then(Enforcer::denies_exec) != Some(Ok(())) {
            return Vec::new();
        }
        let mut denied = Vec::new();
        self.last_denied
            .retain(|subject, _| held.iter().any(|verdict| verdict.subject == *subject));
        for Verdict { subject, last, .. } in held {
            let Some(who) = last.filter(|who| self.last_denied.get(subject) != Some(who)) else {
                continue;
            };
            if let Some(order) = self.named_order(subject) {
                self.last_denied.insert(subject.clone(), who);
                denied.push((order, Stopped { who }));
            }
        }
        denied
    }

    fn named_order(&self, subject: &Subject) -> Option<Order> {
        let Subject::Path(path) = subject else {
            return None;
        };
        self.named.contains(path).then(|| Order {
            action: Action {
                kind: ActionKind::Block,
                target: Target::Executable(path.clone()),
                reason: "a rule names it by its path, or respond.block_executables does".to_owned(),
                ..Action::default()
            },
            who: POLICY.into(),
            ..Order::default()
        })
    }

    pub(super) fn impose(&mut self, order: &Order, guard: &Guard) -> Came {
        let lasts = order
            .action
            .lasts
            .unwrap_or(self.means.config.block_for)
            .min(LONGEST);
        let subjects = subjects(order).map_err(failed)?;
        self.impose_on(subjects, lasts, order, guard)
    }

    fn impose_on(&mut self, subjects: Vec<Subject>, lasts: Duration, order: &Order, guard: &Guard) -> Came {
        let until = BootTime::now().after(lasts);
        self.carry_out(&subjects, until, guard).map_err(failed)?;
        let mut detail = format!(
            "the kernel refuses it for {}",
            humantime_serde::re::humantime::format_duration(lasts)
        );
        if order.action.target == Target::Host
            && self.collector.is_empty()
            && !self.means.collector.is_empty()
        {
            detail.push_str(&format!(
                "; {} could not be looked up, so the collector is cut off as well: name it by its address, or list it in respond.isolate_allow",
                self.means.collector
            ));
        }
        if self.options.bpffs.is_none() {
            detail.push_str("; it ends with the agent");
        }
        for subject in subjects {
            self.orders.insert(subject, order.clone());
        }
        Ok(detail)
    }

    /// All of these, or none. Where nothing can be kept beyond the agent, it is done without.
    fn carry_out(
        &mut self,
        subjects: &[Subject],
        until: BootTime,
        guard: &Guard,
    ) -> Result<(), EnforceError> {
        let done = self.impose_all(subjects, until, guard);
        let Err(error @ (EnforceError::Bpffs { .. } | EnforceError::Pin { .. })) = done else {
            return done;
        };
        if self.options.bpffs.take().is_none() {
            return Err(error);
        }
        tracing::warn!("what the kernel refuses ends with the agent: {error}");
        self.enforcer = None;
        self.impose_all(subjects, until, guard)
    }

    fn impose_all(
        &mut self,
        subjects: &[Subject],
        until: BootTime,
        guard: &Guard,
    ) -> Result<(), EnforceError> {
        let allowed = self.means.config.isolate_allow.clone();
        let enforcer = self.ready(guard)?;
        for (at, subject) in subjects.iter().enumerate() {
            let imposed = match subject {
                Subject::Host => enforcer.isolate(&allowed, until),
                subject => enforcer.impose(subject, until),
            };
            if let Err(error) = imposed {
                for done in &subjects[..at] {
                    let _ = enforcer.lift(done);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    pub(super) fn lift(&mut self, order: &Order) -> Came {
        let Some(enforcer) = &mut self.enforcer else {
            return Err(failed("nothing was refused"));
        };
        let held = enforcer.list().map_err(failed)?;
        let mut lifted = 0;
        for verdict in held {
            let same_action = self
                .orders
                .get(&verdict.subject)
                .is_some_and(|known| known.action.target == order.action.target);
            if same_action || is_of(&verdict.subject, &order.action) {
                lifted += u64::from(enforcer.lift(&verdict.subject).map_err(failed)?);
                self.orders.remove(&verdict.subject);
                self.seen.remove(&verdict.subject);
            }
        }
        match lifted {
            0 => Err(failed("it was not refused any more")),
            _ => Ok("the kernel lets it again".to_owned()),
        }
    }

    /// Programs of those who logged in as this user.
    pub(super) fn refuse_user(&mut self, uid: u32, order: &Order, guard: &Guard) -> Result<(), EnforceError> {
        let lasts = order.action.lasts.unwrap_or(LOGIN).min(LOGIN);
        let until = BootTime::now().after(lasts);
        self.ready(guard)?.impose(&Subject::User(uid), until)?;
        self.orders.insert(Subject::User(uid), order.clone());
        Ok(())
    }

    pub(super) fn let_user(&mut self, uid: u32) -> Result<bool, EnforceError> {
        self.orders.remove(&Subject::User(uid));
        self.seen.remove(&Subject::User(uid));
        self.enforcer
            .as_mut()
            .map_or(Ok(false), |enforcer| enforcer.lift(&Subject::User(uid)))
    }

    /// Orders whose time is over.
    pub(super) fn sweep(&mut self, now: BootTime, guard: &Guard) -> Vec<Order> {
        if now.since(self.renewed) >= RENEW {
            self.renew(now, guard);
            self.settle();
        }
        let Some(enforcer) = &mut self.enforcer else {
            return Vec::new();
        };
        let ended = enforcer.sweep(now).unwrap_or_else(|error| {
            tracing::warn!(
                "cannot remove verdicts whose time is over: {error}; they refuse nothing any more"
            );
            Vec::new()
        });
        let mut over: Vec<Order> = Vec::new();
        for verdict in ended {
            self.seen.remove(&verdict.subject);
            let Some(order) = self.orders.remove(&verdict.subject) else {
                continue;
            };
            if over.iter().all(|other| other.number != order.number) {
                over.push(order);
            }
        }
        over
    }

    fn renew(&mut self, now: BootTime, guard: &Guard) {
        self.renewed = now;
        let Some(enforcer) = &mut self.enforcer else {
            return;
        };
        let until = now.after(LONGEST - Duration::from_secs(60));
        for path in &self.named {
            let check = guard.check_target(&Target::Executable(path.clone()), None);
            let imposed = check.map_err(|refusal| refusal.to_string()).and_then(|()| {
                let imposed = enforcer.impose(&Subject::Path(path.clone()), until);
                imposed.map_err(|error| error.to_string())
            });
            if let Err(why) = imposed {
                tracing::warn!("{} is not blocked: {why}", path.display());
            }
        }
    }
}

/// What has to be refused for an order: an executable by what it is and by where it is.
fn subjects(order: &Order) -> Result<Vec<Subject>, String> {
    Ok(match &order.action.target {
        Target::Process(id) => vec![Subject::Tree(*id)],
        Target::Host => vec![Subject::Host],
        Target::Network(network) => vec![Subject::End(Destination::all(*network))],
        Target::Executable(path) => {
            let ran = order.file();
            let here = file_key(path);
            // A path means something else in another view of the file system: a container's program must not take the host's with it, nor that of
            // other containers.
            let is_hosts = || order.process.as_ref().is_some_and(|process| in_own_view(process));
            let by_path = ran.is_none_or(|ran| here == Some(ran) || here.is_none() && is_hosts());
            let file = ran.or(here).map(Subject::File);
            let path = by_path.then(|| Subject::Path(path.clone()));
            file.into_iter().chain(path).collect()
        }
        target => return Err(format!("the kernel cannot refuse {target}")),
    })
}

/// Whether a process sees the same files by the same paths as this one.
fn in_own_view(process: &Process) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let own = std::fs::metadata("/proc/self/ns/mnt").map(|own| own.ino());
    own.is_ok_and(|own| own == u64::from(process.namespaces.mount))
}

/// The file at `path`, if it is one.
pub(in crate::respond) fn file_key(path: &Path) -> Option<FileKey> {
    let found = std::fs::metadata(path).ok().filter(Metadata::is_file)?;
    Some(file::key(&found))
}

/// The files of the protected list that are there: the kernel knows them by what they are.
fn protected_files(guard: &Guard) -> Vec<FileKey> {
    let keys = guard
        .protected_files()
        .into_iter()
        .filter_map(|path| file_key(&path));
    keys.take(sensor_common::verdict::SPARED_MAX as usize - 8)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::host::Image;

    /// A process of nobody's view has run `path`, which was this file.
    fn order(path: &Path, ran: FileKey) -> Order {
        let process = Process {
            image: Arc::new(Image {
                inode: ran.inode,
                device: ran.device,
                ..Image::default()
            }),
            ..crate::respond::testing::incident_of(crate::detect::Severity::High, "a", "T1059")
                .process
                .as_ref()
                .clone()
        };
        Order {
            action: Action {
                kind: ActionKind::Block,
                target: Target::Executable(path.to_owned()),
                ..Action::default()
            },
            process: Some(Arc::new(process)),
            ..Order::default()
        }
    }

    #[test]
    fn what_a_container_ran_does_not_take_the_path_from_the_host() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, b"").unwrap();
        let real = file_key(&path).unwrap();
        assert_eq!(
            subjects(&order(&path, real)).unwrap(),
            [Subject::File(real), Subject::Path(path.clone())]
        );
        let elsewhere = FileKey {
            inode: real.inode + 1,
            ..real
        };
        assert_eq!(
            subjects(&order(&path, elsewhere)).unwrap(),
            [Subject::File(elsewhere)]
        );
        // That is known of a former agent's orders, too.
        // Where the host has nothing at the path, it is the path's only if it is the host's process.
        std::fs::remove_file(&path).unwrap();
        assert_eq!(subjects(&order(&path, real)).unwrap(), [Subject::File(real)]);
        let former = Standing {
            order: Order {
                process: None,
                file: Some(elsewhere),
                ..order(&path, elsewhere)
            },
            left: None,
            same_boot: false,
        };
        assert!(former.is_held_by(&Subject::File(elsewhere)));
        assert!(!former.is_held_by(&Subject::File(real)));
    }
}
