use std::{
    os::unix::process::ExitStatusExt,
    process::{Child, Command},
    sync::Arc,
};

use super::{
    super::{Answer, Demand, Object, Wish},
    *,
};
use crate::{
    detect::Severity,
    host::{
        Credentials, Image, Namespaces, ProcessId,
        proc::{ProcDir, TICK_NS},
    },
};

/// A process of this test, killed when the test is over.
struct Victim(Child);

impl Victim {
    fn new() -> Self {
        Self(Command::new("sleep").arg("600").spawn().unwrap())
    }

    fn id(&self) -> ProcessId {
        let start = ProcDir::open(self.0.id()).unwrap().stat().unwrap().start;
        // As a kernel event has it: not rounded.
        ProcessId {
            tgid: self.0.id(),
            start: BootTime(start.0 + 4_321),
        }
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An incident whose process is nobody's.
pub(crate) fn incident_of(severity: Severity, subject: &str, technique: &'static str) -> Incident {
    let id = ProcessId {
        tgid: u32::MAX,
        start: BootTime(0),
    };
    let mut incident = incident(id, severity);
    incident.subject = subject.into();
    incident.signals = vec![Arc::new(crate::detect::Signal {
        cause: 0,
        subject: subject.into(),
        source: "test",
        p_value: 0.1,
        reasons: Vec::new(),
        techniques: vec![technique.into()],
        rule: None,
        event: Arc::new(Event {
            time: BootTime(0),
            wall: WallTime(0),
            cpu: 0,
            process: None,
            parent: None,
            thread: crate::host::Thread::default(),
            body: crate::host::Body::Fork,
        }),
    })];
    incident
}

fn incident(id: ProcessId, severity: Severity) -> Incident {
    let process = Process {
        id,
        parent: None,
        image: Arc::new(Image {
            executable: b"/tmp/x"[..].into(),
            ..Image::default()
        }),
        credentials: Credentials::default(),
        workload: Arc::default(),
        namespaces: Namespaces::default(),
        kernel_thread: false,
    };
    Incident {
        key: 0,
        processes: Vec::new(),
        ended: None,
        id: "1".into(),
        opened: WallTime(0),
        updated: WallTime(0),
        updated_boot: BootTime::now(),
        severity,
        acute: severity,
        at_stake: None,
        summary: "a shell".into(),
        subject: "unit:a.service".into(),
        process: Arc::new(process),
        signals: Vec::new(),
        count: 1,
        origin: crate::detect::Origin::unknown(),
    }
}

fn responder(mode: Mode) -> Responder {
    with(config::Respond {
        mode,
        ..config::Respond::default()
    })
}

fn with(config: config::Respond) -> Responder {
    Responder::new(&config, None)
}

fn tree() -> Tree {
    Tree::new(crate::host::Limits::default())
}

fn result(responder: &mut Responder, incident: &Incident) -> ActionResult {
    responder.respond(incident, &tree());
    let outcome = responder.outcomes(&tree()).pop().unwrap();
    assert!(!outcome.detail.is_empty());
    assert_eq!(
        (&*outcome.action.incident, outcome.action.target.clone()),
        ("1", Target::Process(incident.process.id))
    );
    outcome.result
}

#[test]
fn the_same_is_proposed_once_unless_it_is_worse() {
    let mut victim = Victim::new();
    let mut responder = responder(Mode::Observe);
    let mut incident = incident(victim.id(), Severity::High);
    let proposed = |responder: &mut Responder, incident: &Incident| {
        responder.respond(incident, &tree());
        responder.outcomes(&tree()).len()
    };
    assert_eq!(proposed(&mut responder, &incident), 1);
    incident.count = 2;
    assert_eq!(proposed(&mut responder, &incident), 0);
    incident.severity = Severity::Critical;
    assert_eq!(proposed(&mut responder, &incident), 1);
    // Another incident is another reason.
    incident.id = "2".into();
    assert_eq!(proposed(&mut responder, &incident), 1);
    assert!(victim.lives());
}

#[test]
fn the_process_dies_in_act_mode() {
    let mut victim = Victim::new();
    assert_eq!(
        result(&mut responder(Mode::Act), &incident(victim.id(), Severity::High)),
        ActionResult::Done
    );
    assert_eq!(victim.0.wait().unwrap().signal(), Some(9));
}

#[test]
fn and_lives_in_observe_mode_or_below_the_severity() {
    let mut victim = Victim::new();
    let high = incident(victim.id(), Severity::High);
    assert_eq!(
        result(&mut responder(Mode::Observe), &high),
        ActionResult::Observed
    );
    let mut responder = responder(Mode::Act);
    responder.respond(&incident(victim.id(), Severity::Medium), &tree());
    assert!(responder.outcomes(&tree()).is_empty());
    assert!(victim.lives());
}

#[test]
fn another_process_of_the_same_id_is_not_the_one() {
    let mut victim = Victim::new();
    let id = victim.id();
    for start in [id.start.0 + TICK_NS, id.start.0 - TICK_NS, 0] {
        let other = ProcessId {
            start: BootTime(start),
            ..id
        };
        assert_eq!(
            result(&mut responder(Mode::Act), &incident(other, Severity::High)),
            ActionResult::Gone
        );
    }
    assert!(victim.lives());
}

#[test]
fn a_process_that_has_ended_is_gone() {
    let mut victim = Victim::new();
    let high = incident(victim.id(), Severity::High);
    victim.0.kill().unwrap();
    // Until it is waited for it is a zombie; afterwards its id is free.
    let exited = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
    let pid = rustix::process::Pid::from_child(&victim.0);
    rustix::process::waitid(rustix::process::WaitId::Pid(pid), exited).unwrap();
    assert_eq!(result(&mut responder(Mode::Act), &high), ActionResult::Gone);
    victim.0.wait().unwrap();
    assert_eq!(result(&mut responder(Mode::Act), &high), ActionResult::Gone);
}

#[test]
fn what_it_runs_now_is_what_counts() {
    let mut victim = Victim::new();
    let running = String::from_utf8(ProcDir::open(victim.0.id()).unwrap().executable().0.into()).unwrap();
    let config = config::Respond {
        mode: Mode::Act,
        protected: vec![running],
        ..config::Respond::default()
    };
    let high = incident(victim.id(), Severity::High);
    assert_eq!(result(&mut with(config), &high), ActionResult::Refused);
    assert!(victim.lives());
}

#[test]
fn sensor_is_refused_and_so_is_too_much() {
    let this = ProcessId {
        tgid: std::process::id(),
        start: BootTime(0),
    };
    assert_eq!(
        result(&mut responder(Mode::Act), &incident(this, Severity::Critical)),
        ActionResult::Refused
    );
}

#[test]
fn what_is_only_said_takes_nothing_from_what_may_be_done() {
    let mut victim = Victim::new();
    let high = incident(victim.id(), Severity::High);
    let config = |mode| config::Respond {
        mode,
        max_kills_per_minute: 1,
        ..config::Respond::default()
    };
    let mut responder = with(config(Mode::Observe));
    for _ in 0..3 {
        responder.proposed.clear();
        assert_eq!(result(&mut responder, &high), ActionResult::Observed);
    }
    responder.set(&config(Mode::Act));
    assert_eq!(result(&mut responder, &high), ActionResult::Done);
    assert_eq!(victim.0.wait().unwrap().signal(), Some(9));
    // What was done before the policy was changed counts on.
    responder.set(&config(Mode::Act));
    let mut other = Victim::new();
    let high = incident(other.id(), Severity::High);
    assert_eq!(result(&mut responder, &high), ActionResult::Asked);
    assert!(other.lives());
}

#[test]
fn beyond_the_limit_and_after_a_loss_a_person_decides() {
    let mut victim = Victim::new();
    let high = incident(victim.id(), Severity::High);
    let config = config::Respond {
        mode: Mode::Act,
        max_kills_per_minute: 0,
        ..config::Respond::default()
    };
    let mut limited = with(config);
    assert_eq!(result(&mut limited, &high), ActionResult::Asked);
    assert_eq!(
        limited.tripped().map(|refusal| refusal.to_string()).as_deref(),
        Some(
            "0 kills, blocks and the like were done within a minute already; see respond.max_kills_per_minute"
        )
    );
    assert_eq!(limited.tripped(), None);
    // Who approves means it; who orders is asked whether they do.
    let number = limited.responses().pending[0].number;
    let suspended = fulfil(
        &mut limited,
        &Wish::Do(Demand {
            kind: ActionKind::Block,
            object: Object::Target(Target::Network("192.0.2.0/24".parse().unwrap())),
            lasts: None,
            incident: Box::default(),
            bundle: None,
        }),
    );
    assert_eq!(suspended.unwrap().result, ActionResult::Asked);
    let mut other = Victim::new();
    let done = fulfil(&mut limited, &Wish::Approve(number)).unwrap();
    assert_eq!(done.result, ActionResult::Done, "{}", done.detail);
    assert_eq!(victim.0.wait().unwrap().signal(), Some(9));
    assert!(other.lives());
    let high = incident(other.id(), Severity::High);
    let mut victim = other;
    let mut responder = responder(Mode::Act);
    responder.distrust(BootTime::now());
    assert_eq!(result(&mut responder, &high), ActionResult::Asked);
    assert!(victim.lives());
    // It is not asked about twice.
    responder.respond(&high, &tree());
    assert!(responder.outcomes(&tree()).is_empty());
}

fn person() -> Person {
    Person {
        name: "a person".into(),
        why: "a reason".to_owned(),
    }
}

fn fulfil(responder: &mut Responder, wish: &Wish) -> Result<Arc<Outcome>, String> {
    match responder.fulfil(wish, &person(), &tree())? {
        Answer::Outcome(outcome) => Ok(outcome),
        other => Err(format!("{other:?}")),
    }
}

#[test]
fn a_person_approves_or_denies_or_is_too_late() {
    let mut victim = Victim::new();
    let mut incident = incident(victim.id(), Severity::High);
    let mut responder = responder(Mode::Ask);
    assert_eq!(result(&mut responder, &incident), ActionResult::Asked);
    let number = responder.responses().pending[0].number;
    let denied = fulfil(&mut responder, &Wish::Deny(number)).unwrap();
    assert_eq!((denied.result, &*denied.who), (ActionResult::Denied, "a person"));
    assert!(victim.lives());
    let error = fulfil(&mut responder, &Wish::Approve(number)).unwrap_err();
    assert!(error.contains("nothing waits"), "{error}");

    // Who has said no is not asked again, unless it gets worse.
    responder.outcomes(&tree());
    responder.respond(&incident, &tree());
    assert!(responder.outcomes(&tree()).is_empty());
    incident.severity = Severity::Critical;
    assert_eq!(result(&mut responder, &incident), ActionResult::Asked);
    responder.keep_house(BootTime(BootTime::now().0 + 901 * 1_000_000_000));
    let lapsed = responder.outcomes(&tree()).pop().unwrap();
    assert_eq!((lapsed.result, &*lapsed.who), (ActionResult::Lapsed, "time"));
    assert!(victim.lives());

    assert_eq!(result(&mut responder, &incident), ActionResult::Asked);
    let number = responder.responses().pending[0].number;
    let done = fulfil(&mut responder, &Wish::Approve(number)).unwrap();
    assert_eq!((done.result, done.number), (ActionResult::Done, number));
    assert_eq!(victim.0.wait().unwrap().signal(), Some(9));
    let error = fulfil(&mut responder, &Wish::Undo(number)).unwrap_err();
    assert!(error.contains("cannot be undone"), "{error}");
}

fn demand(kind: ActionKind) -> Demand {
    Demand {
        kind,
        object: Object::Pid(1, None),
        lasts: None,
        incident: Box::default(),
        bundle: None,
    }
}

#[test]
fn nobody_can_order_what_the_guard_forbids() {
    let mut responder = responder(Mode::Ask);
    let mut processes = tree();
    let stat = ProcDir::open(1).unwrap().stat().unwrap();
    processes.enter(
        crate::host::Facts {
            id: ProcessId {
                tgid: 1,
                start: stat.start,
            },
            parent: None,
            credentials: Credentials::default(),
            workload: Arc::default(),
            namespaces: Namespaces::default(),
            kernel_thread: false,
        },
        None,
    );
    let order = Wish::Do(demand(ActionKind::Suspend));
    let answer = responder.fulfil(&order, &person(), &processes).unwrap();
    let Answer::Outcome(outcome) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(outcome.result, ActionResult::Refused);
    let plan = responder.fulfil(&Wish::Try(demand(ActionKind::Kill)), &person(), &processes);
    let Ok(Answer::Plan(plan)) = plan else {
        panic!("{plan:?}")
    };
    assert_eq!(
        plan,
        "kill would hit 1 process: 1; the guard refuses it: process 1 is never a target"
    );
}

fn of_executable(path: &str) -> Incident {
    let mut incident = incident(
        ProcessId {
            tgid: u32::MAX,
            start: BootTime(0),
        },
        Severity::High,
    );
    let process = Arc::make_mut(&mut incident.process);
    Arc::make_mut(&mut process.image).executable = path.as_bytes().into();
    incident
}

fn blocking(mode: Mode, state: &Path) -> Responder {
    let config = config::Respond {
        mode,
        action: crate::respond::Actions::one(ActionKind::Block),
        bpffs: PathBuf::new(),
        ..config::Respond::default()
    };
    let mut responder = Responder::new(&config, Some(state));
    responder.resume(state, &tree());
    responder
}

#[test]
fn what_was_asked_about_a_file_lapses_with_the_agent() {
    let state = tempfile::tempdir().unwrap();
    let mut first = blocking(Mode::Ask, state.path());
    first.respond(&of_executable("/tmp/x"), &tree());
    assert_eq!(first.responses().pending.len(), 1);
    drop(first);
    let mut second = blocking(Mode::Ask, state.path());
    assert!(second.responses().pending.is_empty());
    let outcome = second.outcomes(&tree()).pop().unwrap();
    assert_eq!(outcome.result, ActionResult::Lapsed);
    assert!(outcome.detail.contains("another file may lie there"));
}

#[test]
fn what_is_over_is_proposed_again() {
    let state = tempfile::tempdir().unwrap();
    let mut responder = blocking(Mode::Ask, state.path());
    let incident = of_executable("/tmp/x");
    let asked = |responder: &mut Responder| {
        responder.respond(&incident, &tree());
        responder.responses().pending.len()
    };
    assert_eq!(asked(&mut responder), 1);
    let waiting = responder.responses().pending[0].number;
    let proposal = responder.pending.take(waiting).unwrap();
    assert_eq!(asked(&mut responder), 0);
    let order = Order::of(proposal, "time", BootTime::now());
    let over = Done::Measure(ActionResult::Expired, "its time is over".to_owned());
    responder.finished.0.send((order, over)).unwrap();
    responder.outcomes(&tree());
    assert_eq!(asked(&mut responder), 1);
}

#[test]
fn what_the_kernel_is_to_refuse_for_rules_is_in_the_audit_once() {
    let state = tempfile::tempdir().unwrap();
    let mut responder = blocking(Mode::Act, state.path());
    responder.named = vec![("/tmp/x".into(), Severity::High, Vec::new())];
    responder.set_named();
    responder.set_named();
    responder.named.clear();
    responder.set_named();
    let audit = std::fs::read_to_string(state.path().join(crate::respond::AUDIT_FILE)).unwrap();
    let lines: Vec<&str> = audit.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].contains("the kernel refuses 1 executables that rules name: /tmp/x"));
    assert!(lines[1].contains("refuses no executable any more"));
}

#[test]
fn an_approved_kill_waits_for_the_bundle_that_was_proposed_with_it() {
    let mut victim = Victim::new();
    let mut responder = responder(Mode::Ask);
    let id = victim.id();
    responder.respond(&incident(id, Severity::High), &tree());
    responder.collecting.insert(id, Vec::new());
    let number = responder.responses().pending[0].number;
    let answer = responder
        .fulfil(&Wish::Approve(number), &person(), &tree())
        .unwrap();
    assert!(matches!(answer, Answer::Begun(_)), "{answer:?}");
    assert!(victim.lives());
    let order = Order {
        action: Action {
            kind: ActionKind::Collect,
            target: Target::Process(id),
            ..Action::default()
        },
        ..Order::default()
    };
    let made = Done::Measure(ActionResult::Done, "made".to_owned());
    responder.finished.0.send((order, made)).unwrap();
    responder.outcomes(&tree());
    assert_eq!(victim.0.wait().unwrap().signal(), Some(9));
}
