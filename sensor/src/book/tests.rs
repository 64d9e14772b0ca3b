use super::*;
use crate::{
    detect::{Ended, Severity},
    export::Users,
    respond::{Action, ActionKind, ActionResult, Mark, Target, testing::incident_of},
};

fn converter() -> Converter {
    Converter::new("host", Arc::new(Users::default()))
}

fn incident(id: &str, updated: u64) -> Arc<Incident> {
    Arc::new(Incident {
        id: id.into(),
        updated: WallTime(updated),
        ..incident_of(Severity::High, "unit:a.service", "T1059.004")
    })
}

fn outcome(incident: &str, result: ActionResult) -> Arc<Outcome> {
    Arc::new(Outcome {
        number: 1,
        action: Action {
            kind: ActionKind::Kill,
            target: Target::Host,
            lasts: None,
            incident: incident.into(),
            reason: String::new(),
        },
        result,
        detail: String::new(),
        who: "policy".into(),
        time: WallTime(5),
        latency: Duration::ZERO,
        mark: Mark::default(),
    })
}

/// Writes into the book in `state`, and ends it.
fn keep(state: &Path, work: impl FnOnce(&Book)) -> Vec<Incident> {
    let (book, keeping, open) = Book::open(Some(state), converter()).unwrap();
    work(&book);
    keeping.finish();
    open
}

fn asked(all: bool) -> Asked {
    Asked {
        ended: all,
        ..Asked::default()
    }
}

fn list(state: &Path, all: bool) -> Vec<String> {
    let store = Store::open(Some(&state.join(FILE)));
    let listed = store.list(&asked(all)).unwrap();
    listed.into_iter().map(|incident| incident.id).collect()
}

#[test]
fn what_is_open_goes_on_and_what_was_done_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let now = WallTime::now().0;
    let first = incident("aa1", now - 2_000_000_000);
    keep(folder.path(), |book| {
        assert!(book.incident(&first) && book.incident(&incident("ab2", now)));
        assert!(book.outcome(&outcome("aa1", ActionResult::Done)));
        // An incident that has grown keeps what was done about it.
        assert!(book.incident(&first));
    });
    let open = keep(folder.path(), |_| {});
    assert_eq!((open.len(), &*open[0].id), (2, "aa1"));
    assert_eq!(open[0].signals, first.signals);
    let age = BootTime::now().since(open[0].updated_boot);
    assert!(
        age >= Duration::from_secs(2) && age < Duration::from_secs(60),
        "{age:?}"
    );
    let store = Store::open(Some(&folder.path().join(FILE)));
    assert_eq!(store.get("aa").unwrap().outcomes.len(), 1);
    assert!(matches!(store.get("a"), Err(StoreError::Ambiguous(_))));
    assert!(matches!(store.get("x"), Err(StoreError::Unknown(_))));
    assert!(matches!(
        store.get(""),
        Err(StoreError::Unknown(_) | StoreError::Ambiguous(_))
    ));
}

#[test]
fn what_was_done_about_a_part_was_done_about_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let now = WallTime::now().0;
    let (whole, part) = (incident("aa1", now), incident("ab2", now));
    let mut merged = Incident::clone(&part);
    merged.ended = Some(Ended::Merged("aa1".into()));
    keep(folder.path(), |book| {
        assert!(book.incident(&whole) && book.incident(&part));
        assert!(book.outcome(&outcome("ab2", ActionResult::Asked)));
    });
    keep(folder.path(), |book| {
        assert!(book.incident(&Arc::new(merged)));
        // A person decides about what was asked before.
        assert!(book.outcome(&outcome("ab2", ActionResult::Done)));
    });
    let store = Store::open(Some(&folder.path().join(FILE)));
    let outcomes = store.get("aa").unwrap().outcomes;
    let results: Vec<i32> = outcomes.iter().map(|outcome| outcome.result).collect();
    assert_eq!(results, [v1::Result::Asked as i32, v1::Result::Done as i32]);
}

#[test]
fn what_has_ended_is_not_open_and_a_verdict_stays() {
    let folder = tempfile::tempdir().unwrap();
    let mut ended = Incident::clone(&incident("aa1", 1));
    ended.ended = Some(Ended::Quiet);
    let grown = incident("ab2", 3);
    keep(folder.path(), |book| {
        assert!(book.incident(&Arc::new(ended)) && book.incident(&grown));
    });
    let mut store = Store::open(Some(&folder.path().join(FILE)));
    let verdict = v1::Ending {
        reason: v1::ending::Reason::Closed.into(),
        verdict: v1::Verdict::Benign.into(),
        why: "a drill".to_owned(),
        ..v1::Ending::default()
    };
    store.close("ab2", verdict.clone()).unwrap();
    drop(store);
    // What the detection says of it afterwards does not take that back.
    let mut closed = Incident::clone(&grown);
    closed.ended = Some(Ended::Closed);
    let open = keep(folder.path(), |book| assert!(book.incident(&Arc::new(closed))));
    assert!(open.is_empty(), "{open:?}");
    assert!(list(folder.path(), false).is_empty());
    assert_eq!(list(folder.path(), true), ["ab2", "aa1"]);
    let store = Store::open(Some(&folder.path().join(FILE)));
    assert_eq!(store.get("ab2").unwrap().ended, Some(verdict));
}

#[test]
fn what_is_damaged_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    keep(folder.path(), |book| assert!(book.incident(&incident("aa1", 1))));
    std::fs::write(folder.path().join(FILE), vec![7; 8_192]).unwrap();
    let open = keep(folder.path(), |book| assert!(book.incident(&incident("ab2", 2))));
    assert!(open.is_empty());
    assert_eq!(list(folder.path(), true), ["ab2"]);
    assert_eq!(damaged(folder.path()), 1);
}

#[test]
fn what_is_damaged_within_is_set_aside_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    keep(folder.path(), |book| assert!(book.incident(&incident("aa1", 1))));
    let mut bytes = std::fs::read(&path).unwrap();
    // The header is whole; the first page behind it is not.
    bytes[4_096..8_192].fill(7);
    std::fs::write(&path, bytes).unwrap();
    keep(folder.path(), |book| assert!(book.incident(&incident("ab2", 2))));
    assert_eq!(list(folder.path(), true), ["ab2"]);
    assert_eq!(damaged(folder.path()), 1);
}

/// How many databases were set aside, without what belongs to them.
fn damaged(folder: &Path) -> usize {
    let names = std::fs::read_dir(folder).unwrap().filter_map(Result::ok);
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names
        .filter(|name| name.contains(".corrupt-") && !name.ends_with("-wal") && !name.ends_with("-shm"))
        .count()
}

#[test]
fn what_ended_the_longest_ago_goes_first() {
    let mut store = Store::open(None);
    let page = |id: &str, updated: u64, open: bool| {
        let incident = incident(id, updated);
        let mut told = converter().told(&incident);
        if !open {
            told.ended = Some(v1::Ending::default());
        }
        Page::of(incident, told, None, &mut Hashes::default())
    };
    store.write(&[page("a", 1, true), page("b", 2, false), page("c", 3, false)], 2);
    let left: Vec<String> = store
        .list(&asked(true))
        .unwrap()
        .into_iter()
        .map(|one| one.id)
        .collect();
    assert_eq!(left, ["c", "a"]);
}

#[test]
fn what_a_process_runs_has_its_digest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tool");
    std::fs::write(&path, b"").unwrap();
    let inode = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&path).unwrap());
    let mut process = crate::host::Process::clone(&incident("a", 1).process);
    let mut image = crate::host::Image::clone(&process.image);
    image.executable = path.to_str().unwrap().as_bytes().into();
    image.inode = inode;
    process.image = Arc::new(image.clone());
    let mut hashes = Hashes::default();
    let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(hashes.of(&process), nothing);
    // What was put in its place is another file.
    image.inode = inode + 1;
    process.image = Arc::new(image);
    assert_eq!(hashes.of(&process), "");
}
