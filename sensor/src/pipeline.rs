//! From the ring to the stream: one thread that takes each record through the stages, in order and without locks.

mod folded;

use std::{
    collections::VecDeque,
    io,
    os::fd::BorrowedFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use folded::{Folded, Slots};
use sensor_common::{Class, Signal};
use tokio::sync::oneshot;

use crate::{
    book::Book,
    capture::{Accounts, Alarm, Capture, LossReason, Protected, Repeats, TakenOff, record::Record},
    config,
    detect::{Detector, Incident},
    export::{Entry, Hub, Loss},
    host::{Attributed, Body, Event, Host, Profiles, Tree},
    knowledge::Knowledge,
    links::OwnLinks,
    mute::{Mutes, Reason},
    priority::DELIVERY,
    respond::{Answer, Mode, Person, Responder, Responses, Step, Wish},
    rules::RuleSet,
    session::{Sessions, Told},
    time::{BootTime, WallTime},
};

/// Entries that are handed on at once, at most.
const PUBLISH_MAX: usize = 256;

/// How often the clocks are compared and losses are looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// Numbers for the status, readable from any thread.
#[derive(Debug, Default)]
pub struct Vitals {
    /// Processes in the tree.
    pub processes: AtomicU64,
    /// Incidents opened.
    pub incidents: AtomicU64,
    /// Records that came too late to be put in order.
    pub late: AtomicU64,
    /// Rules in use, rules that cannot match here or are disabled, and mistakes for which rules were left out.
    pub rules: [AtomicU64; 3],
    /// Whether anything is done about incidents, and who decides.
    mode: Mutex<Mode>,
}

impl Vitals {
    /// Takes note of the mode that is in force from now on.
    pub fn note_mode(&self, mode: Mode) {
        *self.mode.lock().unwrap_or_else(PoisonError::into_inner) = mode;
    }

    /// Whether anything is done about incidents, and who decides.
    #[must_use]
    pub fn mode(&self) -> Mode {
        *self.mode.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of the rules that are in use from now on.
    pub fn note_rules(&self, rules: &RuleSet) {
        let active = rules.active();
        let numbers = [active, rules.rules.len() - active, rules.errors().count()];
        for (kept, number) in self.rules.iter().zip(numbers) {
            kept.store(number as u64, Ordering::Relaxed);
        }
    }
}

/// What the pipeline may be told while it runs.
pub enum Command {
    /// Put this into force, and say in the kernel's words why not.
    Apply(Box<config::Capture>, oneshot::Sender<Result<(), String>>),
    /// Do what a person wants done.
    Fulfil(Wish, Person, oneshot::Sender<Result<Answer, String>>),
    /// Write down what is no action.
    Note(Step, Person),
    /// Say what waits for a person, and what was done.
    Responses(oneshot::Sender<Responses>),
    /// Look at what is known, or change it.
    Ask(Question),
    /// Use these rules in the place of those that are in use.
    SetRules(Box<RuleSet>, oneshot::Sender<()>),
    /// Respond like this from now on.
    SetRespond(Box<config::Respond>, oneshot::Sender<()>),
}

/// What is to be done with the detector and the processes, between two turns: it must not take long.
pub type Question = Box<dyn FnOnce(&mut Detector, &Tree) + Send>;

/// All stages, composed.
pub struct Pipeline {
    capture: Capture,
    work: Work,
    losses: Losses,
    housekept: BootTime,
    orders: mpsc::Receiver<Command>,
}

/// The stages and what is on the way between them.
struct Work {
    stages: Stages,
    /// What the slots stand for in which the kernel programs count repetitions.
    slots: Slots,
    /// Events that the kernel programs can learn from, at the end of the turn.
    lessons: Vec<(Option<Reason>, Arc<Event>)>,
    /// Entries that wait for the end of the turn, or for company.
    outbox: Vec<Entry>,
    /// Incidents and outcomes that the incident book had no room for.
    unbooked: VecDeque<Entry>,
}

/// Lessons of one turn; what is not learned now is learned from the next event of the kind.
const LESSONS_MAX: usize = 64;

/// What a record goes through once it is out of the ring.
pub struct Stages {
    /// Who and what.
    pub host: Host,
    /// Whose order of system calls is looked at; `None`: nobody's.
    pub profiles: Option<Profiles>,
    /// Is it unusual?
    pub detector: Detector,
    /// Where what it learns outlives the agent; `None`: nowhere.
    pub knowledge: Option<Knowledge>,
    /// What to do about it.
    pub responder: Responder,
    /// Where incidents are kept.
    pub book: Option<Book>,
    /// Processes whose signals are reported: those that no response may be directed at.
    pub protected: Option<Protected>,
    /// Who comes and goes.
    pub sessions: Sessions,
    /// Where it goes.
    pub hub: Hub,
    /// What became of it.
    pub accounts: Arc<Accounts>,
    /// The agent's own connections, which are left out.
    pub links: Arc<OwnLinks>,
    /// Numbers for the status.
    pub vitals: Arc<Vitals>,
    /// What is left out on purpose.
    pub mutes: Mutes,
}

impl Pipeline {
    /// Puts the stages behind `capture`. What comes by `orders` is done between two turns.
    #[must_use]
    pub fn new(capture: Capture, stages: Stages, orders: mpsc::Receiver<Command>) -> Self {
        Self {
            capture,
            work: Work {
                stages,
                slots: Slots::default(),
                lessons: Vec::new(),
                outbox: Vec::new(),
                unbooked: VecDeque::new(),
            },
            losses: Losses::new(),
            housekept: BootTime::now(),
            orders,
        }
    }

    /// What wakes the pipeline: something to read, or `stop` becoming readable.
    ///
    /// # Errors
    /// If the kernel has no room for it.
    pub fn alarm(&self, stop: BorrowedFd<'_>) -> io::Result<Alarm> {
        self.capture.alarm(stop)
    }

    /// Works until it is `stopping`, which is asked whenever `alarm` was set off; then hands on what is left and
    /// detaches everything.
    pub fn run(mut self, alarm: &Alarm, stopping: impl Fn() -> bool) {
        while !stopping() {
            self.turn(alarm);
        }
        let Self {
            capture,
            work,
            losses,
            ..
        } = &mut self;
        capture.read_rest(|record| work.take(record));
        let now = BootTime::now();
        capture
            .folds()
            .sweep(now, Duration::ZERO, |repeats| work.repeat(&repeats, now));
        work.tell_growth();
        losses.report(work);
        work.publish();
        if let Some(profiles) = &mut work.stages.profiles {
            profiles.finish(now);
        }
        if let Some(knowledge) = &mut work.stages.knowledge {
            knowledge.finish(&work.stages.detector);
        }
    }

    fn turn(&mut self, alarm: &Alarm) {
        self.capture.wait(alarm);
        let Self { capture, work, .. } = self;
        // What is told from now on is later than what the rings held.
        let before = BootTime::now();
        capture.read(|record| work.take(record));
        work.teach(capture);
        let now = BootTime::now();
        if now.since(self.housekept) >= HOUSEKEEPING {
            self.housekept = now;
            self.keep_house(now, before);
        }
        while let Ok(command) = self.orders.try_recv() {
            self.obey(command);
        }
        self.work.tell_outcomes();
        self.work.publish();
    }

    /// Nobody to hear the answer is no reason not to have done it.
    fn obey(&mut self, command: Command) {
        let Stages {
            mutes,
            responder,
            host,
            detector,
            vitals,
            ..
        } = &mut self.work.stages;
        match command {
            Command::Apply(config, answer) => {
                let result = mutes.apply(&config, self.capture.filters());
                let _ = answer.send(result.map_err(|error| error.to_string()));
            }
            Command::Fulfil(wish, person, answer) => {
                let _ = answer.send(responder.fulfil(&wish, &person, host.tree()));
            }
            Command::Note(step, person) => responder.write_down(step, &person),
            Command::Responses(answer) => {
                let _ = answer.send(responder.responses());
            }
            Command::Ask(question) => question(detector, host.tree()),
            Command::SetRules(rules, answer) => {
                vitals.note_rules(&rules);
                responder.set_rules(&rules);
                detector.set_rules(*rules);
                let _ = answer.send(());
            }
            Command::SetRespond(config, answer) => {
                responder.set(&config);
                vitals.note_mode(config.mode);
                self.work.stages.protect_running();
                let _ = answer.send(());
            }
        }
    }

    fn keep_house(&mut self, now: BootTime, before: BootTime) {
        let Self {
            capture,
            work,
            losses,
            ..
        } = self;
        work.stages.host.clock().refresh(now, WallTime::now());
        capture.collect_flows(now);
        let window = Duration::from_nanos(capture.filters().settings().fold_window);
        capture
            .folds()
            .sweep(now, window, |repeats| work.repeat(&repeats, now));
        work.look_for_sessions(before);
        work.tell_growth();
        losses.report(work);
        let Stages {
            mutes,
            profiles,
            responder,
            detector,
            knowledge,
            ..
        } = &mut work.stages;
        responder.keep_house(now);
        detector.settle(now);
        if let Some(knowledge) = knowledge {
            knowledge.refresh(detector, now);
        }
        if let Some(profiles) = profiles {
            profiles.refresh(now);
        }
        complain(mutes.refresh(capture.filters()));
        for taken in capture.keep_attached() {
            work.tell_taken_off(&taken);
        }
        if let Some(what) = work.stages.responder.tampered() {
            let reason = format!("Somebody tampered with what the kernel refuses on this host: {what}");
            work.complain("verdicts", reason);
        }
        let Stages { host, vitals, .. } = &work.stages;
        vitals
            .processes
            .store(host.tree().len() as u64, Ordering::Relaxed);
        vitals.late.store(capture.late(), Ordering::Relaxed);
    }
}

/// The kernel programs then report what they could have left out; the agent leaves it out.
fn complain(result: Result<(), aya::maps::MapError>) {
    if let Err(error) = result {
        tracing::warn!("cannot tell the kernel programs what is muted or watched: {error}");
    }
}

impl Work {
    /// Takes one record from its bytes to the stream.
    fn take(&mut self, bytes: &[u8]) {
        let accounts = &self.stages.accounts;
        let record = match Record::decode(bytes) {
            Ok(record) => record,
            Err(error) => {
                tracing::warn!("a record is left out: {error}");
                accounts.unreadable(bytes);
                return;
            }
        };
        match self.stages.host.attribute(&record) {
            Attributed::Event(event) => {
                self.profile(&event);
                self.consider(event);
            }
            Attributed::Duplicate => accounts.aggregated(Signal::Exit),
            Attributed::Unknown => accounts.unreadable(bytes),
        }
    }

    fn consider(&mut self, event: Arc<Event>) {
        self.stages.responder.note(&event);
        self.stages.protect(&event);
        let Stages {
            accounts,
            links,
            mutes,
            ..
        } = &mut self.stages;
        let signal = event.body.signal();
        if let Body::Accept(flow) | Body::FlowClose(flow, _) = &event.body
            && links.contain(flow)
        {
            accounts.muted(signal);
            return;
        }
        if let Some(reason) = mutes.reason(&event) {
            accounts.muted(signal);
            mutes.count(reason, 1);
            self.slots.note(&event, || Folded::LeftOut(reason));
            self.learn(Some(reason), event);
            return;
        }
        accounts.delivered(signal);
        if signal == Signal::Exec {
            self.learn(None, Arc::clone(&event));
        }
        self.slots.note(&event, || Folded::Event(Arc::clone(&event)));
        self.pass_on(event);
    }

    /// Something was done again that the kernel programs only counted. False if it is not known what.
    fn repeat(&mut self, repeats: &Repeats, now: BootTime) -> bool {
        let Some(signal) = repeats.signal else { return true };
        match self.slots.of(repeats) {
            None => false,
            Some(Folded::LeftOut(reason)) => {
                self.stages.accounts.muted_folded(signal, repeats.count);
                self.stages.mutes.count(*reason, repeats.count);
                true
            }
            Some(Folded::Event(event)) => {
                let clock = self.stages.host.clock();
                if let Some(event) = folded::repeat(event, repeats, now, clock) {
                    self.stages.accounts.delivered_folded(signal);
                    self.pass_on(Arc::new(event));
                }
                true
            }
        }
    }

    /// A new process may be the first of its workload.
    fn profile(&mut self, event: &Event) {
        if let (Some(profiles), Some(process)) = (&mut self.stages.profiles, &event.process)
            && matches!(event.body, Body::Exec(_) | Body::Fork)
        {
            profiles.consider(&process.workload, event.time);
        }
    }

    fn pass_on(&mut self, event: Arc<Event>) {
        self.put(Entry::Event(Arc::clone(&event)));
        if let Some(told) = self.stages.sessions.of_event(&event) {
            self.take_told(told, event.time);
        }
        let Stages { detector, host, .. } = &mut self.stages;
        let findings = detector.detect(&event, host.tree());
        for signal in findings.signals {
            self.put(Entry::Signal(signal));
        }
        for incident in findings.incidents {
            // The response first: every microsecond of it is the attacker's.
            let Stages { responder, host, .. } = &mut self.stages;
            responder.respond(&incident, host.tree());
            if let Some(refusal) = responder.tripped() {
                let reason = format!("Automatic response is at its limit and asks from now on: {refusal}");
                let raised = self
                    .stages
                    .detector
                    .raise(&incident, reason, self.stages.host.tree());
                if let Some(raised) = raised {
                    self.tell_incident(raised);
                }
            }
            self.tell_incident(incident);
            self.tell_outcomes();
        }
    }

    /// Somebody has taken a program off its hook.
    fn tell_taken_off(&mut self, taken: &TakenOff) {
        let TakenOff {
            signal,
            program,
            put_back,
        } = taken;
        let since = match put_back {
            Ok(()) => "it was attached again; what happened in the second before was not seen".to_owned(),
            Err(error) => {
                format!("it cannot be attached again ({error}), and nothing of it is seen: restart the agent")
            }
        };
        let reason = format!(
            "Somebody took the kernel program '{program}' off its hook, by which {} is seen; {since}",
            signal.name()
        );
        self.complain(program, reason);
    }

    /// Somebody did something to the agent, which is an incident of the host.
    fn complain(&mut self, what: &str, reason: String) {
        tracing::warn!("{reason}");
        let Stages { host, detector, .. } = &mut self.stages;
        let tree = host.tree();
        let own = tree
            .live_id(std::process::id())
            .and_then(|id| tree.get(id))
            .cloned();
        let raised = own.and_then(|own| detector.complain(&own, what, reason, tree));
        if let Some(incident) = raised {
            self.tell_incident(incident);
        }
    }

    fn tell_incident(&mut self, incident: Arc<Incident>) {
        if incident.count == 1 {
            self.stages.vitals.incidents.fetch_add(1, Ordering::Relaxed);
        }
        if self.stages.detector.is_news(&incident) {
            self.enter(Entry::Incident(incident));
        }
    }

    /// Into the incident book and the stream.
    fn enter(&mut self, entry: Entry) {
        self.unbooked.push_back(entry.clone());
        self.book();
        self.put(entry);
    }

    /// What there was no room for in the book before, the oldest first.
    fn book(&mut self) {
        let Some(book) = &self.stages.book else {
            return self.unbooked.clear();
        };
        while let Some(entry) = self.unbooked.front() {
            let is_booked = match entry {
                Entry::Incident(incident) => book.incident(incident),
                Entry::Outcome(outcome) => book.outcome(outcome),
                _ => true,
            };
            if !is_booked && self.unbooked.len() < UNBOOKED_MAX {
                return;
            }
            self.unbooked.pop_front();
        }
    }

    /// How far the incidents have come of which only the number of events has grown.
    fn tell_growth(&mut self) {
        for incident in self.stages.detector.untold() {
            self.enter(Entry::Incident(incident));
        }
        self.book();
    }

    fn tell_outcomes(&mut self) {
        for outcome in self.stages.responder.outcomes(self.stages.host.tree()) {
            self.enter(Entry::Outcome(outcome));
        }
        for (process, path) in self.stages.responder.denied() {
            let Stages { detector, host, .. } = &mut self.stages;
            let findings = detector.denied(&process, &path, host.tree());
            for signal in findings.signals {
                self.put(Entry::Signal(signal));
            }
            for incident in findings.incidents {
                self.tell_incident(incident);
            }
        }
    }

    /// Hands on what the host has recorded of logins since the last look.
    fn look_for_sessions(&mut self, now: BootTime) {
        let look = self.stages.sessions.look(now);
        for told in look.told {
            self.take_told(told, now);
        }
        if look.lost > 0 {
            let now = WallTime::now();
            self.put(Entry::Loss(Loss {
                stage: "audit",
                signal: None,
                count: look.lost,
                reason: "the kernel dropped audit messages, at least one each time",
                from: now,
                to: now,
            }));
        }
    }

    fn take_told(&mut self, told: Told, time: BootTime) {
        let signal = told.session.signal;
        self.stages.accounts.seen(signal);
        if self.stages.sessions.is_first(&told, time) {
            let event = self.stages.host.session(told.session, told.pid, time);
            self.consider(event);
        } else {
            self.stages.accounts.aggregated(signal);
        }
    }

    fn learn(&mut self, reason: Option<Reason>, event: Arc<Event>) {
        if self.stages.mutes.teaches(reason, &event) && self.lessons.len() < LESSONS_MAX {
            self.lessons.push((reason, event));
        }
    }

    /// Tells the kernel programs what this turn has shown.
    fn teach(&mut self, capture: &mut Capture) {
        for (reason, event) in self.lessons.drain(..) {
            complain(self.stages.mutes.teach(reason, &event, capture.filters()));
        }
    }

    fn put(&mut self, entry: Entry) {
        self.outbox.push(entry);
        if self.outbox.len() >= PUBLISH_MAX {
            self.publish();
        }
    }

    fn publish(&mut self) {
        DELIVERY.keep_up(self.stages.hub.publish(&self.outbox));
        self.outbox.clear();
    }
}

impl Stages {
    /// Enters what runs already among the protected processes, where it belongs there, and only there.
    pub fn protect_running(&mut self) {
        let Some(protected) = &mut self.protected else {
            return;
        };
        for process in self.host.tree().iter() {
            match self.responder.protects(process) {
                true => protected.add(process.id.tgid),
                false => protected.remove(process.id.tgid),
            }
        }
    }

    /// Keeps the list of protected processes.
    fn protect(&mut self, event: &Event) {
        let (Some(protected), Some(process)) = (&mut self.protected, &event.process) else {
            return;
        };
        match event.body {
            Body::Exec(_) | Body::Fork if self.responder.protects(process) => protected.add(process.id.tgid),
            Body::Exec(_) | Body::Exit(_) => protected.remove(process.id.tgid),
            _ => {}
        }
    }
}

/// Looks for events that did not come through the rings, and says so in the stream.
struct Losses {
    reported: [[u64; 3]; Signal::COUNT],
    since: WallTime,
    skipped: Skipped,
}

/// Runs of programs that the kernel skipped. What they would have said is in no account: nobody has seen it.
struct Skipped {
    reported: u64,
    since: WallTime,
}

/// Incidents and outcomes that wait for the incident book; beyond, the oldest goes.
const UNBOOKED_MAX: usize = 1_024;

/// How often skipped runs are looked for: the kernel is asked about each program.
const SKIPPED_INTERVAL: Duration = Duration::from_secs(10);

impl Losses {
    /// Nothing is lost before now.
    fn new() -> Self {
        Self {
            reported: [[0; 3]; Signal::COUNT],
            since: WallTime::now(),
            skipped: Skipped {
                reported: 0,
                since: WallTime::now(),
            },
        }
    }

    fn report(&mut self, work: &mut Work) {
        let now = WallTime::now();
        for signal in Signal::ALL {
            let Ok(tally) = work.stages.accounts.tally(signal) else {
                continue;
            };
            for ((reason, lost), reported) in
                tally.losses.into_iter().zip(&mut self.reported[signal as usize])
            {
                let count = lost.saturating_sub(*reported);
                if count > 0 {
                    *reported = lost;
                    if signal.class() == Class::Critical {
                        work.stages.responder.distrust(BootTime::now());
                    }
                    work.put(Entry::Loss(loss(signal, reason, count, self.since, now)));
                }
            }
        }
        self.since = now;
        self.skipped.report(work, now);
    }
}

impl Skipped {
    fn report(&mut self, work: &mut Work, now: WallTime) {
        if now.0.saturating_sub(self.since.0) < SKIPPED_INTERVAL.as_nanos() as u64 {
            return;
        }
        let skipped = work.stages.accounts.recursion_misses();
        let count = skipped.saturating_sub(self.reported);
        if count > 0 {
            work.put(Entry::Loss(Loss {
                stage: "kernel",
                signal: None,
                count,
                reason: "the kernel skipped runs of a program that was running on that CPU already; most would have said nothing",
                from: self.since,
                to: now,
            }));
        }
        self.reported = skipped;
        self.since = now;
    }
}

fn loss(signal: Signal, reason: LossReason, count: u64, from: WallTime, to: WallTime) -> Loss {
    Loss {
        stage: "ring",
        signal: Some(signal),
        count,
        reason: reason.text(),
        from,
        to,
    }
}
