//! Verdicts of the kernel, as actions ask for them.

use std::{
    collections::HashMap,
    fs::Metadata,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use sensor_common::FileKey;

use super::{Came, Means, failed};
use crate::{
    enforce::{Destination, EnforceError, Enforcer, LONGEST, Options, Subject, Verdict},
    host::file,
    respond::{Action, Guard, Target, order::Order},
    time::BootTime,
};

/// What the configuration blocks is blocked for as long as can be, and again before that is over.
const RENEW: Duration = Duration::from_secs(86_400);

/// Imposes verdicts, and knows which order each was for.
pub(super) struct Kernel {
    options: Options,
    means: Means,
    /// Where the collector was reached when it was looked up last: an isolated host looks up no names.
    collector: Vec<Destination>,
    enforcer: Option<Enforcer>,
    orders: HashMap<Subject, Order>,
    /// What the configuration blocks, and when that was said last.
    named: Vec<PathBuf>,
    renewed: BootTime,
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
            named: means.config.block_executables.clone(),
            renewed: BootTime(0),
        }
    }

    /// Finds again what an agent before this one left, and blocks what the configuration names.
    pub(super) fn begin(&mut self, guard: &Guard) {
        if let Err(error) = self.try_begin(guard) {
            tracing::warn!(
                "the kernel refuses nothing for sensor: {error}; blocking and isolating will fail"
            );
        }
    }

    fn try_begin(&mut self, guard: &Guard) -> Result<(), EnforceError> {
        let enforcer = self.ready(guard)?;
        let found = enforcer.list()?;
        // What was named is named no more.
        let unnamed: Vec<Subject> = {
            let named = |path: &Path| self.named.iter().any(|named| named == path);
            let long = BootTime::now().after(LONGEST - 2 * RENEW);
            found
                .iter()
                .filter(|verdict| verdict.until > long)
                .filter(|verdict| matches!(&verdict.subject, Subject::Path(path) if !named(path)))
                .map(|verdict| verdict.subject.clone())
                .collect()
        };
        for subject in unnamed {
            self.ready(guard)?.lift(&subject)?;
        }
        if !found.is_empty() {
            tracing::info!("{} verdicts of the kernel hold from before", found.len());
        }
        self.renew(BootTime::now());
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

    pub(super) fn impose(&mut self, order: &Order, guard: &Guard) -> Came {
        let lasts = order
            .action
            .lasts
            .unwrap_or(self.means.config.block_for)
            .min(LONGEST);
        let until = BootTime::now().after(lasts);
        let subjects = subjects(order).map_err(failed)?;
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
            }
        }
        match lifted {
            0 => Err(failed("it was not refused any more")),
            _ => Ok("the kernel lets it again".to_owned()),
        }
    }

    /// Programs of those who logged in as this user.
    pub(super) fn refuse_user(&mut self, uid: u32, guard: &Guard) -> Result<(), EnforceError> {
        let until = BootTime::now().after(LONGEST - RENEW);
        self.ready(guard)?.impose(&Subject::User(uid), until)
    }

    pub(super) fn let_user(&mut self, uid: u32) -> Result<bool, EnforceError> {
        self.enforcer
            .as_mut()
            .map_or(Ok(false), |enforcer| enforcer.lift(&Subject::User(uid)))
    }

    /// Orders whose time is over.
    pub(super) fn sweep(&mut self, now: BootTime) -> Vec<Order> {
        if now.since(self.renewed) >= RENEW {
            self.renew(now);
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
            let Some(order) = self.orders.remove(&verdict.subject) else {
                continue;
            };
            if over.iter().all(|other| other.number != order.number) {
                over.push(order);
            }
        }
        over
    }

    fn renew(&mut self, now: BootTime) {
        self.renewed = now;
        let Some(enforcer) = &mut self.enforcer else {
            return;
        };
        let until = now.after(LONGEST - Duration::from_secs(60));
        for path in &self.named {
            if let Err(error) = enforcer.impose(&Subject::Path(path.clone()), until) {
                tracing::warn!("{} is not blocked: {error}", path.display());
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
            let ran = order
                .process
                .as_ref()
                .and_then(|process| file::key_of(&process.image));
            let file = ran.or_else(|| file_key(path)).map(Subject::File);
            file.into_iter().chain([Subject::Path(path.clone())]).collect()
        }
        target => return Err(format!("the kernel cannot refuse {target}")),
    })
}

/// Whether a verdict is what an action of an agent before this one was about.
fn is_of(subject: &Subject, action: &Action) -> bool {
    match (subject, &action.target) {
        (Subject::Tree(top), Target::Process(id)) => top == id,
        (Subject::Host, Target::Host) => true,
        (Subject::End(end), Target::Network(network)) => *end == Destination::all(*network),
        (Subject::Path(named), Target::Executable(path)) => named == path,
        (Subject::File(key), Target::Executable(path)) => file_key(path).as_ref() == Some(key),
        _ => false,
    }
}

/// The file at `path`, if it is one.
fn file_key(path: &Path) -> Option<FileKey> {
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
