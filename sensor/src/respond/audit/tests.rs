use std::fs;

use super::*;
use crate::{host::ProcessId, time::BootTime};

fn record(why: &str) -> Record {
    Record {
        number: 0,
        time_ns: 0,
        step: Step::Ended(ActionResult::Done),
        proposal: 0,
        action: Some(ActionKind::Kill),
        target: Target::Process(ProcessId {
            tgid: 7,
            start: BootTime(8),
        }),
        file: None,
        undoes: None,
        seconds: None,
        executable: "/tmp/x".to_owned(),
        incident: "1".to_owned(),
        evidence: Vec::new(),
        before: String::new(),
        after: String::new(),
        who: "policy".to_owned(),
        why: why.to_owned(),
        previous: String::new(),
    }
}

fn read(path: &Path) -> Result<Vec<Record>, String> {
    let mut reader = Reader::open(path).map_err(|error| error.to_string())?;
    let mut records = Vec::new();
    while let Some(record) = reader.next_record().map_err(|error| error.to_string())? {
        records.push(record);
    }
    Ok(records)
}

fn three() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    let mut audit = Audit::open(Some(folder.path()));
    audit.add(record("one"));
    drop(audit);
    // Another agent goes on where the first ended.
    let mut audit = Audit::open(Some(folder.path()));
    audit.add(record("a \u{1b}[31m hostile\n one"));
    audit.add(record("three"));
    (folder, path)
}

#[test]
fn what_is_written_is_read_and_goes_on_after_a_restart() {
    let (_folder, path) = three();
    let records = read(&path).unwrap();
    let numbers: Vec<u64> = records.iter().map(|record| record.number).collect();
    assert_eq!(numbers, [1, 2, 3]);
    assert_eq!(records[1].why, "a \u{1b}[31m hostile\n one");
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 3);
    assert_eq!(records[2].step, Step::Ended(ActionResult::Done));
}

#[test]
fn a_change_anywhere_is_found() {
    let (_folder, path) = three();
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let cases = [
        (
            text.replacen("policy", "nobody", 1),
            "audit.jsonl:1: the line was changed",
        ),
        (
            format!("{}\n{}\n", lines[0], lines[2]),
            "audit.jsonl:2: it does not follow",
        ),
        (
            format!("{}\n{}\n", lines[1], lines[2]),
            "audit.jsonl:1: it does not follow",
        ),
        (
            format!("{}\n{}\n{}\n", lines[0], lines[1], lines[1]),
            "audit.jsonl:3: it does not follow",
        ),
        (
            text[..text.len() - 9].to_owned(),
            "audit.jsonl:3: the line is cut off",
        ),
        (
            format!("{}\nx\n", lines[0]),
            "audit.jsonl:2: this is not a line of an audit",
        ),
    ];
    for (changed, expected) in cases {
        fs::write(&path, changed).unwrap();
        let error = read(&path).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_broken_file_is_kept_and_a_new_one_is_begun() {
    let (folder, path) = three();
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, &text[..text.len() - 1]).unwrap();
    let mark = Audit::open(Some(folder.path())).add(record("after"));
    assert_eq!(mark.number, 1);
    assert_eq!(read(&path).unwrap().len(), 1);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn without_a_file_the_chain_goes_on() {
    let mut audit = Audit::open(None);
    let first = audit.add(record("one"));
    let second = audit.add(record("two"));
    assert_eq!((first.number, second.number), (1, 2));
    assert_ne!(first.digest, second.digest);
}

#[test]
fn what_could_not_be_written_is_written_later() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    fs::write(&state, "in the way").unwrap();
    let mut audit = Audit::open(Some(&state));
    audit.add(record("one"));
    fs::remove_file(&state).unwrap();
    audit.add(record("two"));
    assert_eq!(read(&state.join(FILE)).unwrap().len(), 2);
}

/// Results stand beside the steps, without a word of their own before them.
#[test]
fn a_step_and_a_result_are_told_apart() {
    for step in [
        Step::Proposed,
        Step::Approved,
        Step::Undoing,
        Step::Requested,
        Step::Ended(ActionResult::Asked),
        Step::Ended(ActionResult::Done),
        Step::Ended(ActionResult::Denied),
    ] {
        let text = serde_json::to_string(&step).unwrap();
        assert_eq!(serde_json::from_str::<Step>(&text).unwrap(), step, "{text}");
    }
}
