use std::{
    os::unix::process::ExitStatusExt,
    process::{Child, Command},
    sync::Arc,
};

use super::*;
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
        id: "1".into(),
        opened: WallTime(0),
        updated: WallTime(0),
        updated_boot: BootTime::now(),
        severity,
        summary: "a shell".into(),
        subject: "unit:a.service".into(),
        process: Arc::new(process),
        signals: Vec::new(),
        count: 1,
        origin: crate::detect::Origin::unknown(),
    }
}

fn responder(mode: Mode) -> Responder {
    Responder::new(&config::Respond {
        mode,
        ..config::Respond::default()
    })
}

fn result(responder: &mut Responder, incident: &Incident) -> ActionResult {
    let outcome = responder.respond(incident).unwrap();
    assert!(!outcome.detail.is_empty());
    assert_eq!(
        (&*outcome.action.incident, outcome.action.target),
        ("1", incident.process.id)
    );
    outcome.result
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
    assert_eq!(
        responder(Mode::Act).respond(&incident(victim.id(), Severity::Medium)),
        None
    );
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
    assert_eq!(result(&mut Responder::new(&config), &high), ActionResult::Refused);
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
    let config = config::Respond {
        mode: Mode::Act,
        max_kills_per_minute: 0,
        ..config::Respond::default()
    };
    let mut victim = Victim::new();
    let high = incident(victim.id(), Severity::High);
    assert_eq!(result(&mut Responder::new(&config), &high), ActionResult::Refused);
    assert!(victim.lives());
}
