//! From an incident, or a person's order, to an outcome.

mod doing;
mod people;
mod telling;

use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    time::Duration,
};

use lru::LruCache;
use rustix::process::Signal;
use sensor_common::{FileKey, verdict::PATHS_MAX};

use super::{
    Action, ActionKind, ActionResult, Audit, Births, Guard, Mode, Outcome, POLICY, Person, Policy, Proposal,
    Record, Refusal, Step, Target,
    in_force::{InForce, Kept},
    kill::{Held, Missed},
    measures::{LOGIN, Means, Measures, Standing, Tell},
    order::{Order, Stopped},
    past,
    pending::Pending,
    recent::Recent,
    standing::standing,
    tree::{Condemned, Felled},
};
use crate::{
    config,
    detect::{Incident, Severity},
    host::{Event, Process, ProcessId, Tree, proc::same_tick},
    rules::RuleSet,
    time::{BootTime, WallTime},
};

/// Outcomes that are remembered, for people who ask.
const HISTORY_MAX: usize = 256;

/// Executables that rules name and the kernel refuses, at most. The kernel has room for half as many again, two entries each: for people's orders.
const NAMED_MAX: usize = PATHS_MAX as usize / 2 * 2 / 3;

/// Proposals that are remembered, so that none is made twice.
const PROPOSED_MAX: NonZeroUsize = NonZeroUsize::new(4_096).unwrap();

/// For how long after a loss of events nothing is done without a person: what was lost may be what explains the incident.
const DISTRUST: Duration = Duration::from_secs(60);

/// What was done by a thread of its own.
pub(super) type Finished = (Order, Done);

/// What came of it.
pub(super) enum Done {
    /// Of a family that was to be ended.
    Felled(Result<Felled, Missed>),
    /// Of anything else.
    Measure(ActionResult, String),
    /// Somebody was denied to run what it blocks.
    Denied(Stopped),
}

/// What speaks for an action in the audit, at most.
const EVIDENCE_MAX: usize = 16;

/// What, to whom, because of which incident.
type Proposed = (ActionKind, Target, Box<str>);

/// Policy, guard, action and audit, composed.
#[derive(Debug)]
pub struct Responder {
    policy: Policy,
    guard: Guard,
    audit: Audit,
    ask_within: Duration,
    pending: Pending,
    /// What was proposed of late, how bad the incident was then and who was to decide. An incident grows with every event; only if it is worse than
    /// it was, or somebody else decides, the same is proposed again because of it.
    proposed: LruCache<Proposed, (Severity, Mode)>,
    /// Executables that rules name by their paths alone, with the severity and the techniques.
    named: Vec<(PathBuf, Severity, Vec<Cow<'static, str>>)>,
    /// Those of them that the kernel refuses, as the audit has it.
    told_named: Vec<PathBuf>,
    history: VecDeque<Arc<Outcome>>,
    in_force: InForce,
    recent: Recent,
    condemned: Condemned,
    lost_at: Option<BootTime>,
    /// Why the limit of kills stood in the way, if it did since this was asked last.
    tripped: Option<Refusal>,
    denied: Vec<(Arc<Process>, PathBuf)>,
    births: Option<Arc<dyn Births>>,
    measures: Measures,
    /// Processes of which a bundle is being made, with what is to be done to them afterwards.
    collecting: HashMap<ProcessId, Vec<Order>>,
    finished: (mpsc::Sender<Finished>, mpsc::Receiver<Finished>),
    /// Outcomes that nobody has asked for yet.
    outcomes: Vec<Arc<Outcome>>,
}

impl Responder {
    /// A responder for the process that calls this: it and its ancestors are what the guard spares. The audit is in the directory
    /// `state`, if there is one.
    #[must_use]
    pub fn new(config: &config::Respond, state: Option<&Path>) -> Self {
        let finished = mpsc::channel();
        Self {
            policy: Policy::new(config),
            guard: Guard::new(config),
            audit: Audit::open(state),
            ask_within: config.ask_within,
            pending: Pending::default(),
            proposed: LruCache::new(PROPOSED_MAX),
            named: Vec::new(),
            told_named: Vec::new(),
            history: VecDeque::new(),
            in_force: InForce::default(),
            recent: Recent::default(),
            condemned: Condemned::default(),
            lost_at: None,
            tripped: None,
            denied: Vec::new(),
            measures: Measures::new(Means::new(config, state), finished.0.clone()),
            births: None,
            collecting: HashMap::new(),
            finished,
            outcomes: Vec::new(),
        }
    }

    /// From now on it is known exactly when processes began.
    #[must_use]
    pub fn with_births(mut self, births: Option<impl Births + 'static>) -> Self {
        self.births = births.map(|births| Arc::new(births) as Arc<dyn Births>);
        self.measures.means.births.clone_from(&self.births);
        self
    }

    /// Looks for what an agent before this one left in the kernel; what it did is known once this has [resumed](Self::resume). `config` is the whole of it, `host` the name of the host.
    /// `tell` makes of an event the line of JSON that may be kept of it.
    pub fn begin(&mut self, config: &config::Config, host: &str, tell: Arc<Tell>) {
        self.measures.means.complete(config, host, tell);
        let now = WallTime::now();
        let since_boot = BootTime::now().0;
        let past = self.in_force.iter().map(|Kept { outcome, file }| {
            let passed = now.0.saturating_sub(outcome.time.0);
            let lasts = outcome.action.lasts;
            let lasts = lasts.or((outcome.action.kind == ActionKind::Revoke).then_some(LOGIN));
            Standing {
                order: Order {
                    number: outcome.number,
                    action: outcome.action.clone(),
                    who: outcome.who.clone(),
                    since: BootTime::now(),
                    file: *file,
                    ..Order::default()
                },
                left: lasts.map(|lasts| lasts.saturating_sub(Duration::from_nanos(passed))),
                same_boot: passed < since_boot,
            }
        });
        self.measures.begin(past.collect());
    }

    /// Responds like this from now on. What waits for a person goes on waiting, what was done stays done, and the kills of the last day
    /// count on.
    pub fn set(&mut self, config: &config::Respond) {
        self.policy = Policy::new(config);
        self.guard.set(config);
        self.ask_within = config.ask_within;
        self.measures.means.config.clone_from(config);
        self.set_named();
    }

    /// These rules are in use from now on. What they name by its path alone is refused by the kernel, where the policy would end it.
    pub fn set_rules(&mut self, rules: &RuleSet) {
        let named = rules.named().filter_map(|(path, rule)| {
            let severity = rule.level.severity()?;
            Some((path.clone(), severity, rule.techniques.clone()))
        });
        self.named = named.collect();
        self.set_named();
    }

    fn set_named(&mut self) {
        let named = self.named.iter();
        let ended = named.filter(|(_, severity, techniques)| self.policy.ends(*severity, techniques));
        let mut paths: Vec<PathBuf> = ended.map(|(path, ..)| path.clone()).collect();
        if paths.len() > NAMED_MAX {
            tracing::warn!(
                "rules name {} executables; the kernel refuses the first {NAMED_MAX} by itself, the others are ended once they run",
                paths.len()
            );
            paths.truncate(NAMED_MAX);
        }
        self.tell_named(&paths);
        self.measures.set(paths);
    }

    /// Goes on where the last agent ended, as far as the audit in `state` tells: what was done can be undone, and what waits for a person
    /// goes on waiting. `processes` are those that run now.
    pub fn resume(&mut self, state: &Path, processes: &Tree) {
        let past = past::read(state, HISTORY_MAX, self.ask_within);
        self.history = past.history;
        self.in_force = past.in_force;
        past.taken.into_iter().for_each(|time| self.guard.count(time));
        past.paused.into_iter().for_each(let_go);
        for (mut proposal, executable) in past.pending {
            let Some(id) = proposal.action.target.process() else {
                // Which file was meant is not known any more, and what lies there may be another.
                if matches!(proposal.action.target, Target::Executable(_) | Target::File(_)) {
                    self.lapse(
                        proposal,
                        "the agent began again, and another file may lie there by now",
                    );
                } else {
                    self.pending.add(proposal);
                }
                continue;
            };
            let found = processes.live_id(id.tgid).and_then(|id| processes.get(id));
            let same = found.filter(|process| {
                same_tick(process.id.start, id.start) && *process.image.executable == *executable.as_bytes()
            });
            match same {
                Some(process) => {
                    proposal.process = Some(Arc::clone(process));
                    self.pending.add(proposal);
                }
                None => self.lapse(proposal, "the process had ended when the agent began again"),
            }
        }
    }

    /// Whether a process is one that no action may ever be directed at.
    #[must_use]
    pub fn protects(&self, process: &Process) -> bool {
        self.guard.protects(process)
    }

    /// What has come of anything since this was asked last.
    pub fn outcomes(&mut self, processes: &Tree) -> Vec<Arc<Outcome>> {
        while let Ok((mut order, done)) = self.finished.1.try_recv() {
            // Of what nobody proposed, as what the configuration has the kernel refuse.
            if order.number == 0 && !matches!(done, Done::Denied(_)) {
                order.number = self.write(&order, Step::Proposed, &order.action.reason.clone());
            }
            order.change.after = self.standing(&order.action, order.file());
            match done {
                Done::Felled(felled) => self.felled(order, felled),
                Done::Denied(stopped) => self.note_denied(&order.action, stopped, processes),
                Done::Measure(result, mut detail) => {
                    if let Some(stopped) = order.stopped {
                        detail.push_str(&Self::who_was_stopped(stopped, processes));
                    }
                    self.end(&order, result, detail);
                    self.collected(&order, processes);
                }
            }
        }
        std::mem::take(&mut self.outcomes)
    }

    /// Whether the limit of kills has stood in the way since this was asked last: either much is amiss, or the policy is.
    pub fn tripped(&mut self) -> Option<Refusal> {
        self.tripped.take()
    }

    /// What somebody has done to what the kernel refuses since this was asked last, in words.
    pub fn tampered(&mut self) -> Option<String> {
        self.measures.tampered()
    }

    /// Events of processes, credentials or responses were lost at `now`: for a minute, a person decides.
    pub fn distrust(&mut self, now: BootTime) {
        self.lost_at = Some(now);
    }

    /// Lets lapse what nobody answered to. To be called about once a second.
    pub fn keep_house(&mut self, now: BootTime) {
        for proposal in self.pending.lapsed(now) {
            self.lapse(proposal, "nobody answered in time");
        }
        self.condemned.keep(now);
        self.audit.keep();
    }

    /// Nobody has said no: what comes next of the incident is asked about again.
    fn lapse(&mut self, proposal: Proposal, why: &str) {
        self.proposed.pop(&proposed(&proposal.action));
        let order = Order::of(proposal, "time", BootTime::now());
        self.end(&order, ActionResult::Lapsed, why.to_owned());
    }

    /// Takes note of what happens, and ends what descends from a family that was ended, and was forked before it was.
    pub fn note(&mut self, event: &Arc<Event>) {
        self.recent.note(event);
        let (Some(number), Some(process)) = (self.condemned.of(event), &event.process) else {
            return;
        };
        let mut order = Order {
            number,
            action: Action {
                kind: ActionKind::Kill,
                target: Target::Process(process.id),
                lasts: None,
                incident: Box::default(),
                reason: "it descends from processes that were killed with all that descends from them"
                    .to_owned(),
            },
            process: Some(Arc::clone(process)),
            who: POLICY.into(),
            since: event.time,
            ..Order::default()
        };
        let (result, detail) = match self.guard.check(process) {
            Ok(()) => self.signal(process.id, Signal::KILL, &mut order.change),
            Err(refusal) => (ActionResult::Refused, refusal.to_string()),
        };
        // What descends from whom the guard protects is theirs.
        if result == ActionResult::Refused {
            self.condemned.spare(process.id);
        }
        self.end(&order, result, detail);
    }

    /// Does what the incident asks for, if anything. Takes a few system calls and at most [`WAIT`] in act mode.
    pub fn respond(&mut self, incident: &Incident, processes: &Tree) {
        for (mode, action) in self.policy.propose(incident) {
            let key = proposed(&action);
            let is_known = |known: &(Severity, Mode)| incident.severity <= known.0 && mode == known.1;
            if self.pending.has(&action) || self.proposed.get(&key).is_some_and(is_known) {
                continue;
            }
            self.proposed.push(key, (incident.severity, mode));
            let mut order = Order {
                number: 0,
                action,
                process: Some(Arc::clone(&incident.process)),
                who: POLICY.into(),
                since: incident.updated_boot,
                evidence: evidence(incident),
                ..Order::default()
            };
            order.number = self.write(&order, Step::Proposed, &order.action.reason.clone());
            self.decide(mode, order, processes);
        }
    }

    fn decide(&mut self, mode: Mode, order: Order, processes: &Tree) {
        let now = BootTime::now();
        if let Err(refusal) = self.check(order.action.kind, &order.action.target, order.process.as_deref()) {
            return self.end(&order, ActionResult::Refused, refusal.to_string());
        }
        if mode == Mode::Ask {
            return self.ask(order, "respond.mode is \"ask\"".to_owned(), now);
        }
        if mode == Mode::Act && self.lost_at.is_some_and(|lost| now.since(lost) < DISTRUST) {
            let because = "events were lost within the last minute: what is missing may explain it";
            return self.ask(order, because.to_owned(), now);
        }
        // What is only said takes nothing from what may be done.
        if mode == Mode::Observe {
            let detail = "respond.mode is \"observe\": nothing was done".to_owned();
            return self.end(&order, ActionResult::Observed, detail);
        }
        if order.action.kind.is_limited()
            && let Err(refusal) = self.guard.take(order.since)
        {
            let because = refusal.to_string();
            self.tripped = Some(refusal);
            return self.ask(order, because, now);
        }
        self.carry_out(order, processes);
    }

    /// Whether the guard lets it.
    fn check(&self, kind: ActionKind, target: &Target, process: Option<&Process>) -> Result<(), Refusal> {
        // Who wants back what they have may have it: that takes nothing from anybody.
        if kind.is_undoing() {
            return Ok(());
        }
        match self.guard.check_target(target, process) {
            // Evidence takes nothing from anybody: who is protected is not even paused for it.
            Err(Refusal::Protected(_)) if kind == ActionKind::Collect => Ok(()),
            checked => checked,
        }
    }

    fn ask(&mut self, order: Order, because: String, now: BootTime) {
        let number = order.number;
        let detail = format!(
            "{because}; to decide: `sensor respond approve {number}` or `deny {number}`, within {}",
            humantime(self.ask_within)
        );
        self.end(&order, ActionResult::Asked, detail);
        let oldest = self.pending.add(Proposal {
            number,
            action: order.action,
            process: order.process,
            because,
            until: now.after(self.ask_within),
        });
        if let Some(oldest) = oldest {
            self.lapse(oldest, "too many others wait");
        }
    }

    fn standing(&self, action: &Action, file: Option<FileKey>) -> &'static str {
        standing(
            action,
            file,
            &self.measures.holding(),
            self.measures.means.state.as_deref(),
        )
    }

    /// Writes down what is no action.
    pub fn write_down(&mut self, step: Step, person: &Person) {
        self.audit.add(Record::note(step, person));
    }

    /// Writes a step down; its number.
    fn write(&mut self, order: &Order, step: Step, why: &str) -> u64 {
        self.audit.add(order.record(step, why)).number
    }

    /// That was it: for the audit, the history and the stream.
    fn end(&mut self, order: &Order, result: ActionResult, detail: String) {
        let latency = BootTime::now().since(order.since);
        let mark = self.audit.add(order.record(Step::Ended(result), &detail));
        let outcome = Arc::new(Outcome {
            number: order.number,
            action: order.action.clone(),
            result,
            detail,
            who: order.who.clone(),
            time: WallTime::now(),
            latency,
            mark,
        });
        // What comes next of the incident is another matter.
        if result == ActionResult::Expired {
            self.proposed.pop(&proposed(&outcome.action));
        }
        past::keep(&mut self.history, Arc::clone(&outcome), HISTORY_MAX);
        self.in_force.note(&outcome, order.undoes, order.file());
        self.outcomes.push(outcome);
    }
}

/// The rules and models that have spoken.
fn evidence(incident: &Incident) -> Vec<String> {
    let said = incident.signals.iter().map(|signal| match &signal.rule {
        Some(rule) => format!("rule {}", rule.id),
        None => format!("{}, p = {:.1e}", signal.source, signal.p_value),
    });
    said.take(EVIDENCE_MAX).collect()
}

fn proposed(action: &Action) -> Proposed {
    (action.kind, action.target.clone(), action.incident.clone())
}

/// An agent that was killed while it made a bundle has left its process stopped.
fn let_go(id: ProcessId) {
    let Ok(held) = Held::new(id, None, |_| Ok(())) else {
        return;
    };
    if held.is_stopped() && held.signal(Signal::CONT).is_ok() {
        tracing::info!(
            "process {} was stopped for a bundle that the agent before this one did not finish: it goes on",
            id.tgid
        );
    }
}

fn humantime(duration: Duration) -> String {
    match duration.as_secs() {
        seconds if seconds % 60 == 0 && seconds > 0 => format!("{} minutes", seconds / 60),
        seconds => format!("{seconds} seconds"),
    }
}

#[cfg(test)]
pub(super) mod tests;
