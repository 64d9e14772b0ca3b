use super::*;
use crate::{
    host::ProcessId,
    respond::{ActionKind, Audit, Target},
};

const HOUR: Duration = Duration::from_secs(3_600);

fn line(audit: &mut Audit, proposal: u64, step: Step, target: Target, why: &str) -> u64 {
    line_of(ActionKind::Suspend, audit, proposal, step, target, why)
}

fn line_of(kind: ActionKind, audit: &mut Audit, proposal: u64, step: Step, target: Target, why: &str) -> u64 {
    let record = Record {
        number: 0,
        time_ns: 0,
        step,
        proposal,
        action: Some(kind),
        target,
        file: None,
        undoes: None,
        seconds: Some(60),
        executable: "/tmp/x".to_owned(),
        incident: "i".to_owned(),
        evidence: Vec::new(),
        before: String::new(),
        after: String::new(),
        who: "policy".to_owned(),
        why: why.to_owned(),
        previous: String::new(),
    };
    audit.add(record).number
}

fn process(tgid: u32) -> Target {
    Target::Process(ProcessId {
        tgid,
        start: BootTime(1),
    })
}

fn asked(audit: &mut Audit, tgid: u32) -> u64 {
    let number = line(audit, 0, Step::Proposed, process(tgid), "a shell");
    line(
        audit,
        number,
        Step::Ended(ActionResult::Asked),
        process(tgid),
        "asked",
    );
    number
}

#[test]
fn what_nobody_answered_to_still_waits() {
    let folder = tempfile::tempdir().unwrap();
    let mut audit = Audit::open(Some(folder.path()));
    let waits = asked(&mut audit, 7);
    let denied = asked(&mut audit, 8);
    line(
        &mut audit,
        denied,
        Step::Ended(ActionResult::Denied),
        process(8),
        "",
    );
    let approved = asked(&mut audit, 9);
    line(&mut audit, approved, Step::Approved, process(9), "");
    drop(audit);
    let past = read(folder.path(), 256, HOUR);
    let [(proposal, executable)] = &past.pending[..] else {
        panic!("{:?}", past.pending)
    };
    assert_eq!((proposal.number, &**executable), (waits, "/tmp/x"));
    let action = &proposal.action;
    assert_eq!(
        (&action.target, action.lasts, action.reason.as_str()),
        (&process(7), Some(Duration::from_secs(60)), "a shell")
    );
    assert!(proposal.until > BootTime::now());
    // Its time may be over by now.
    assert!(read(folder.path(), 256, Duration::ZERO).pending.is_empty());
    let results: Vec<ActionResult> = past.history.iter().map(|outcome| outcome.result).collect();
    let (asked, denied) = (ActionResult::Asked, ActionResult::Denied);
    assert_eq!(results, [asked, asked, denied, asked]);
    assert_eq!(read(folder.path(), 2, HOUR).history.len(), 2);
}

#[test]
fn what_was_done_counts_and_can_be_undone_however_much_came_after() {
    let folder = tempfile::tempdir().unwrap();
    let mut audit = Audit::open(Some(folder.path()));
    let done = Step::Ended(ActionResult::Done);
    let mut act = |kind, tgid, end| {
        let number = line_of(kind, &mut audit, 0, Step::Proposed, process(tgid), "x");
        if let Some(end) = end {
            line_of(kind, &mut audit, number, end, process(tgid), "x");
        }
        number
    };
    let disconnected = act(ActionKind::Disconnect, 7, Some(done));
    act(ActionKind::Kill, 8, Some(done));
    act(ActionKind::Kill, 8, Some(Step::Ended(ActionResult::Refused)));
    // The agent ended in the midst of the first and the last bundle; who had been suspended before stays so.
    act(ActionKind::Collect, 9, None);
    act(ActionKind::Collect, 10, Some(done));
    act(ActionKind::Suspend, 11, Some(done));
    act(ActionKind::Collect, 11, None);
    act(ActionKind::Collect, 12, Some(Step::Ended(ActionResult::Asked)));
    let past = read(folder.path(), 1, HOUR);
    assert_eq!(past.history.len(), 1);
    let in_force: Vec<u64> = past.in_force.iter().map(|held| held.outcome.number).collect();
    assert_eq!((in_force[0], in_force.len()), (disconnected, 2));
    let now = BootTime::now();
    assert!(past.taken.iter().all(|time| now.since(*time) < HOUR));
    assert_eq!(past.taken.len(), 2);
    let paused: Vec<u32> = past.paused.iter().map(|id| id.tgid).collect();
    assert_eq!(paused, [9]);
}

#[test]
fn what_cannot_be_read_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    assert!(read(folder.path(), 256, HOUR).history.is_empty());
    let mut audit = Audit::open(Some(folder.path()));
    asked(&mut audit, 7);
    drop(audit);
    let path = folder.path().join(AUDIT_FILE);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend_from_slice(b"\xff\n{\"number\":3}\nhalf a li");
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(read(folder.path(), 256, HOUR).pending.len(), 1);
}
