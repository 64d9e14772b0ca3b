//! Measures: what holds until it ends or is undone (blocks, isolation, revoked users, files in quarantine), and what takes long (bundles).
//!
//! A thread of its own takes them one after the other, so that whoever reads the rings never waits for a file system, a program that is
//! loaded into the kernel, or a bundle of some hundred megabytes, which gets another thread yet. Verdicts of the kernel outlive both; the next agent finds
//! them again.

mod account;
mod bundle;
mod kernel;

use std::{
    fmt,
    net::{SocketAddr, ToSocketAddrs as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    time::Duration,
};

use sensor_trust::reached;

pub(super) use self::kernel::{LOGIN, file_key};
use self::{bundle::Turns, kernel::Kernel};
use super::{
    ActionKind, ActionResult, Births, Guard, Target,
    order::Order,
    quarantine::{Quarantine, QuarantineError, Reason, Wanted},
    responder::{Done, Finished},
};
use crate::{
    config::{self, Config},
    enforce::Verdict,
    host::Event,
    time::BootTime,
};

/// How often it is looked whether anything is over.
const SWEEP: Duration = Duration::from_secs(1);

/// What came of a measure.
type Came = Result<String, (ActionResult, String)>;

/// Makes of an event the line that may be kept of it.
pub type Tell = dyn Fn(&Arc<Event>) -> String + Send + Sync;

#[derive(Clone)]
struct Teller(Arc<Tell>);

impl fmt::Debug for Teller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Teller").finish_non_exhaustive()
    }
}

/// What was done by an agent before this one and was to hold, and for how long yet; `None`: until it is undone.
pub(super) struct Standing {
    pub(super) order: Order,
    pub(super) left: Option<Duration>,
    /// The host runs since before that.
    pub(super) same_boot: bool,
}

/// What the thread is told.
enum Job {
    /// Something to be done, and what happened before it, where that is wanted.
    Take(Box<Order>, Vec<Arc<Event>>),
    /// How it is to be done from now on, and which executables rules name.
    Set(Box<config::Respond>, Vec<PathBuf>),
}

/// What measures need to know beside the order.
#[derive(Clone, Debug)]
pub(super) struct Means {
    pub(super) config: config::Respond,
    /// Executables that rules name, which the kernel is to refuse.
    named: Vec<PathBuf>,
    pub(super) state: Option<PathBuf>,
    /// Where the collector is, as the configuration has it; empty: nowhere.
    collector: String,
    host: String,
    tell: Option<Teller>,
    pub(super) births: Option<Arc<dyn Births>>,
}

impl Means {
    pub(super) fn new(config: &config::Respond, state: Option<&Path>) -> Self {
        Self {
            config: config.clone(),
            named: Vec::new(),
            state: state.map(Path::to_owned),
            collector: String::new(),
            host: String::new(),
            tell: None,
            births: None,
        }
    }

    /// What only the whole configuration tells.
    pub(super) fn complete(&mut self, config: &Config, host: &str, tell: Arc<Tell>) {
        self.tell = Some(Teller(tell));
        self.collector.clone_from(&config.uplink.collector);
        host.clone_into(&mut self.host);
    }

    fn need_state(&self) -> Result<&Path, (ActionResult, String)> {
        let missing = "there is no place to keep anything: set host.state in the configuration";
        self.state.as_deref().ok_or_else(|| failed(missing))
    }

    /// Where the collector was reached, and was who it should be; else what its name is looked up to be.
    fn collector(&self) -> Vec<SocketAddr> {
        if let Some(reached) = self.collector.parse().ok().as_ref().and_then(reached) {
            return vec![reached];
        }
        let address = self
            .collector
            .split_once("://")
            .map_or(&*self.collector, |(_, rest)| rest);
        let address = address.split('/').next().unwrap_or_default();
        address
            .to_socket_addrs()
            .map(Iterator::collect)
            .unwrap_or_default()
    }
}

/// Whoever held it before and panicked has left a whole value.
fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(why: impl ToString) -> (ActionResult, String) {
    (ActionResult::Failed, why.to_string())
}

fn reason(order: &Order) -> Reason {
    Reason {
        number: Some(order.number),
        who: order.who.to_string(),
        why: order.action.reason.clone(),
        incident: order.action.incident.to_string(),
    }
}

/// Takes measures.
#[derive(Debug)]
pub(super) struct Measures {
    pub(super) means: Means,
    finished: mpsc::Sender<Finished>,
    jobs: Option<mpsc::Sender<Job>>,
    holding: Arc<Mutex<Vec<Verdict>>>,
    tampered: Arc<Mutex<Option<String>>>,
}

impl Measures {
    /// What came of each is sent by `finished`.
    pub(super) fn new(means: Means, finished: mpsc::Sender<Finished>) -> Self {
        Self {
            means,
            finished,
            jobs: None,
            holding: Arc::default(),
            tampered: Arc::default(),
        }
    }

    /// What somebody has done to what the kernel refuses since this was asked last.
    pub(super) fn tampered(&self) -> Option<String> {
        locked(&self.tampered).take()
    }

    /// Looks for what an agent before this one left in the kernel, and for what the configuration blocks.
    /// `past` is what was done and holds, the latest last.
    pub(super) fn begin(&mut self, past: Vec<Standing>) {
        match self.start(past) {
            Ok(jobs) => self.jobs = Some(jobs),
            Err(error) => {
                tracing::error!("cannot start the thread that blocks, isolates and collects: {error}")
            }
        }
    }

    /// What the kernel refuses now.
    pub(super) fn holding(&self) -> Vec<Verdict> {
        locked(&self.holding).clone()
    }

    /// Measures are taken as the [means](Self::means) say from now on, and the kernel refuses what is `named` beside what the configuration
    /// has.
    pub(super) fn set(&mut self, named: Vec<PathBuf>) {
        self.means.named = named;
        if let Some(jobs) = &self.jobs {
            let means = &self.means;
            // A thread that has ended is begun anew with the next measure, and knows it then.
            let _ = jobs.send(Job::Set(Box::new(means.config.clone()), means.named.clone()));
        }
    }

    /// Has a measure taken.
    pub(super) fn take(&mut self, order: Order, events: Vec<Arc<Event>>) {
        let mut job = Job::Take(Box::new(order), events);
        if let Some(jobs) = &self.jobs {
            match jobs.send(job) {
                Ok(()) => return,
                // The thread has ended in a panic: another one takes its place.
                Err(mpsc::SendError(unsent)) => job = unsent,
            }
        }
        let unsent = match self.start(Vec::new()) {
            Ok(jobs) => {
                let unsent = jobs.send(job).err().map(|mpsc::SendError(unsent)| unsent);
                self.jobs = Some(jobs);
                unsent.zip(Some("the thread that does it has ended".to_owned()))
            }
            Err(error) => Some((job, format!("cannot start the thread that does it: {error}"))),
        };
        if let Some((Job::Take(order, _), why)) = unsent {
            let _ = self
                .finished
                .send((*order, Done::Measure(ActionResult::Failed, why)));
        }
    }

    fn start(&self, past: Vec<Standing>) -> std::io::Result<mpsc::Sender<Job>> {
        let (jobs, queue) = mpsc::channel();
        let means = self.means.clone();
        let hands = Hands {
            guard: Guard::new(&means.config),
            kernel: Kernel::new(&means),
            means,
            finished: self.finished.clone(),
            holding: Arc::clone(&self.holding),
            tampered: Arc::clone(&self.tampered),
            bundles: Arc::default(),
        };
        std::thread::Builder::new()
            .name("measures".to_owned())
            .spawn(move || hands.work(past, &queue))?;
        Ok(jobs)
    }
}

/// The thread's own.
struct Hands {
    means: Means,
    guard: Guard,
    kernel: Kernel,
    finished: mpsc::Sender<Finished>,
    holding: Arc<Mutex<Vec<Verdict>>>,
    tampered: Arc<Mutex<Option<String>>>,
    bundles: Arc<Turns>,
}

impl Hands {
    fn work(mut self, past: Vec<Standing>, queue: &mpsc::Receiver<Job>) {
        self.kernel.begin(&past, &self.guard);
        for (order, result, detail) in self.kernel.impose_again(past, &self.guard) {
            self.tell(order, Done::Measure(result, detail));
        }
        self.kernel.settle();
        loop {
            let held = self.kernel.holding();
            for (order, detail) in self.kernel.stopped(&held) {
                self.tell(order, Done::Measure(ActionResult::Stopped, detail));
            }
            for (order, stopped) in self.kernel.denied(&held) {
                self.tell(order, Done::Denied(stopped));
            }
            *locked(&self.holding) = held;
            let job = queue.recv_timeout(SWEEP);
            // What is not as it was left is somebody else's work.
            if let Some(what) = self.kernel.mend(&self.guard) {
                *locked(&self.tampered) = Some(what);
            }
            let is_told = job.is_ok();
            match job {
                Ok(Job::Set(config, named)) => {
                    self.guard.set(&config);
                    self.kernel.set(&config, &named, &self.guard);
                    self.means.config = *config;
                }
                Ok(Job::Take(order, events)) if order.action.kind == ActionKind::Collect => {
                    let making = bundle::Making {
                        means: self.means.clone(),
                        guard: self.guard.clone(),
                        turns: Arc::clone(&self.bundles),
                        finished: self.finished.clone(),
                    };
                    making.collect(*order, events);
                }
                Ok(Job::Take(order, _)) => {
                    let done = match self.perform(&order) {
                        Ok(detail) => Done::Measure(ActionResult::Done, detail),
                        Err((result, detail)) => Done::Measure(result, detail),
                    };
                    self.tell(*order, done);
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
            if is_told {
                self.kernel.settle();
            }
            for order in self.kernel.sweep(BootTime::now(), &self.guard) {
                let detail = match order.action.kind {
                    ActionKind::Revoke => {
                        "its time is over: programs of the login may run again; the account stays locked until it is reinstated"
                    }
                    _ => "its time is over",
                };
                self.tell(order, Done::Measure(ActionResult::Expired, detail.to_owned()));
            }
        }
    }

    /// Nobody to hear it: the agent is ending.
    fn tell(&self, order: Order, done: Done) {
        // What is told of is so by then.
        *locked(&self.holding) = self.kernel.holding();
        let _ = self.finished.send((order, done));
    }

    fn perform(&mut self, order: &Order) -> Came {
        match (order.action.kind, &order.action.target) {
            (ActionKind::Block, _) | (ActionKind::Disconnect, _) | (ActionKind::Isolate, _) => {
                self.kernel.impose(order, &self.guard)
            }
            (ActionKind::Unblock, _) | (ActionKind::Reconnect, _) | (ActionKind::Release, _) => {
                self.kernel.lift(order)
            }
            (ActionKind::Revoke, Target::User(uid)) => {
                account::revoke(*uid, order, &self.means, &self.guard, &mut self.kernel)
            }
            (ActionKind::Reinstate, Target::User(uid)) => {
                account::reinstate(*uid, &self.means, &mut self.kernel)
            }
            (ActionKind::Quarantine, Target::File(path)) => self.quarantine(path, order),
            (ActionKind::Restore, Target::File(path)) => self.restore(path, order.undoes),
            _ => Err(failed("this agent does not know how")),
        }
    }

    fn quarantine(&self, path: &Path, order: &Order) -> Came {
        use std::os::unix::fs::MetadataExt as _;
        let found = std::fs::symlink_metadata(path)
            .map_err(|error| failed(format!("{}: {error}", path.display())))?;
        // What an incident is about is what was run, and not what lies there now.
        let ran = order.process.as_ref().map_or(0, |process| process.image.inode);
        if ran != 0 && ran != found.ino() {
            return Err((
                ActionResult::Gone,
                format!(
                    "{} is another file by now than the one that was run",
                    path.display()
                ),
            ));
        }
        let wanted = Wanted {
            path: path.to_owned(),
            inode: found.ino(),
            device: None,
        };
        let quarantine = Quarantine::open(self.means.need_state()?).map_err(failed)?;
        let allow = |path: &[u8]| self.guard.check_executable(path);
        let taken = quarantine.take(&wanted, &reason(order), allow);
        let item = taken.map_err(|error| {
            let result = match error {
                QuarantineError::Refused { .. } => ActionResult::Refused,
                QuarantineError::Gone { .. } => ActionResult::Gone,
                _ => ActionResult::Failed,
            };
            (result, error.to_string())
        })?;
        Ok(format!(
            "it is in quarantine as {}, SHA-256 {}; what runs of it runs on",
            item.id, item.sha256
        ))
    }

    /// What was taken from there under a number, or else the latest.
    fn restore(&self, path: &Path, number: Option<u64>) -> Came {
        let quarantine = Quarantine::open(self.means.need_state()?).map_err(failed)?;
        let mut items = quarantine.list().map_err(failed)?;
        items.retain(|item| item.original().as_deref() == Some(path));
        if number.is_some() && items.iter().any(|item| item.number == number) {
            items.retain(|item| item.number == number);
        }
        let item = items
            .pop()
            .ok_or_else(|| failed("nothing of it is in quarantine"))?;
        let item = quarantine.restore(&item.id).map_err(failed)?;
        Ok(format!("it is where it was again, SHA-256 {}", item.sha256))
    }
}
