use std::os::unix::fs::PermissionsExt;

use sensor_proto::v1::{Outcome, Result as Became};

use super::*;

fn stream(epoch: u64) -> StreamId {
    StreamId {
        host: "web1".into(),
        epoch,
    }
}

fn batch(sequence: u64) -> TakenBatch {
    let entry = Entry {
        host: "web1".into(),
        body: None,
    };
    let batch = Batch {
        sequence,
        entries: vec![entry; 2],
        processes: Vec::new(),
    };
    TakenBatch {
        encoded: batch.encode_to_vec().into(),
        batch,
    }
}

fn greet(store: &mut Store, epoch: u64) -> u64 {
    store
        .commit(|writing| writing.greet(&stream(epoch), "1"))
        .expect("commits")
        .expect("greets")
}

fn put(store: &mut Store, epoch: u64, sequence: u64) -> Result<Stored, StoreError> {
    store
        .commit(|writing| writing.store(&stream(epoch), &batch(sequence)))
        .expect("commits")
}

#[test]
fn batches_are_kept_once_and_in_order_within_their_epoch() {
    let home = tempfile::tempdir().expect("a directory");
    let mut store = Store::open(home.path()).expect("opens");
    assert_eq!((greet(&mut store, 1), greet(&mut store, u64::MAX)), (0, 0));
    let new = |position| Stored::New(Position(position));
    assert_eq!(put(&mut store, 1, 1).expect("stores"), new(1));
    assert_eq!(put(&mut store, 1, 2).expect("stores"), new(3));
    assert_eq!(put(&mut store, 1, 1).expect("knows it"), Stored::Already(2));
    assert!(matches!(
        put(&mut store, 1, 4),
        Err(StoreError::Gap {
            sequence: 4,
            stored: 2
        })
    ));
    assert_eq!(put(&mut store, u64::MAX, 1).expect("stores"), new(5));
    drop(store);

    let mut store = Store::open(home.path()).expect("opens again");
    assert_eq!((greet(&mut store, 1), greet(&mut store, u64::MAX)), (2, 1));
    let hosts = store.hosts().expect("lists");
    assert_eq!(
        (hosts.len(), hosts[0].host.name.as_str(), hosts[0].host.entries),
        (1, "web1", 6)
    );
}

/// Has SQLite fail as `how` says when a certain batch is stored, which is the last thing but two of its job.
fn fails(store: &Store, sequence: u64, how: &str) {
    let trigger = format!(
        "DROP TRIGGER IF EXISTS temp.failure;
         CREATE TEMP TRIGGER failure AFTER INSERT ON main.batches WHEN NEW.sequence = {sequence}
         BEGIN SELECT RAISE({how}, 'as wanted'); END"
    );
    store.connection.execute_batch(&trigger).expect("makes it");
}

/// Three streams' next batches in one commit.
fn together(store: &mut Store, sequences: [u64; 3]) -> Result<[Result<Stored, StoreError>; 3], StoreError> {
    store.commit(|writing| [0, 1, 2].map(|at| writing.store(&stream(at as u64 + 1), &batch(sequences[at]))))
}

#[test]
fn a_job_that_fails_leaves_nothing_behind_and_takes_nobody_with_it() {
    let home = tempfile::tempdir().expect("a directory");
    let mut store = Store::open(home.path()).expect("opens");
    for epoch in 1..=3 {
        greet(&mut store, epoch);
        put(&mut store, epoch, 1).expect("stores");
    }
    for _ in 0..6 {
        let next = greet(&mut store, 2) + 1;
        put(&mut store, 2, next).expect("stores");
    }
    fails(&store, 8, "FAIL");
    let [one, two, three] = together(&mut store, [2, 8, 2]).expect("commits");
    assert_eq!(one.expect("stores"), Stored::New(Position(19)));
    assert!(two.expect_err("fails").to_string().contains("as wanted"));
    assert_eq!(
        three.expect("stores"),
        Stored::New(Position(21)),
        "there is no gap"
    );
    assert_eq!(
        (greet(&mut store, 1), greet(&mut store, 2), greet(&mut store, 3)),
        (2, 7, 2)
    );
}

#[test]
fn what_sqlite_gives_up_is_given_up_whole() {
    let home = tempfile::tempdir().expect("a directory");
    let mut store = Store::open(home.path()).expect("opens");
    for epoch in 1..=3 {
        greet(&mut store, epoch);
    }
    fails(&store, 1, "ROLLBACK");
    assert!(together(&mut store, [1, 1, 1]).is_err());
    let stored = [1, 2, 3].map(|epoch| greet(&mut store, epoch));
    assert_eq!(stored, [0; 3]);
    fails(&store, 9, "ROLLBACK");
    for epoch in 1..=3 {
        put(&mut store, epoch, 1).expect("stores");
    }
}

#[test]
fn it_is_for_its_owner_only() {
    let home = tempfile::tempdir().expect("a directory");
    let data = home.path().join("new/data");
    let _store = Store::open(&data).expect("opens");
    let mode = |path: &Path| fs::metadata(path).expect("exists").permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    assert_eq!(mode(&data.join("collector.db")), 0o600);
    assert_eq!(mode(&data.join("collector.db-wal")), 0o600);
}

#[test]
fn no_agent_speaks_for_the_collector_or_from_the_future() {
    let home = tempfile::tempdir().expect("a directory");
    let mut store = Store::open(home.path()).expect("opens");
    greet(&mut store, 1);
    let incident = |id: &str, updated_ns| Entry {
        host: String::new(),
        body: Some(entry::Body::Incident(Incident {
            id: id.to_owned(),
            updated_ns,
            ..Incident::default()
        })),
    };
    let batch = Batch {
        sequence: 1,
        entries: vec![incident("collector-1", 1), incident("a", u64::MAX)],
        processes: Vec::new(),
    };
    let taken = TakenBatch {
        encoded: batch.encode_to_vec().into(),
        batch,
    };
    let stored = store.commit(|writing| writing.store(&stream(1), &taken));
    stored.expect("commits").expect("stores");
    let told = store.commit(|writing| {
        writing.tell(
            &stream(1).host,
            Incident {
                id: "collector-2".to_owned(),
                updated_ns: 2,
                ..Incident::default()
            },
        )
    });
    told.expect("commits").expect("is told");
    let listed = store
        .incidents(&ListFleetIncidentsRequest::default())
        .expect("lists");
    let ids: Vec<String> = listed
        .into_iter()
        .filter_map(|one| Some(one.incident?.id))
        .collect();
    assert_eq!(ids, ["a", "collector-2"]);
    let latest: i64 = store
        .connection
        .query_row("SELECT max(updated_ns) FROM incidents", [], |row| row.get(0))
        .expect("is there");
    assert!(latest <= now(), "{latest}");
}

/// What `host` says of a number; `asks` or has come to an end.
fn says(store: &mut Store, host: &str, sequence: u64, number: u64, asks: bool, length: usize) {
    let stream = StreamId {
        host: host.to_owned(),
        epoch: 1,
    };
    let outcome = Outcome {
        result: if asks { Became::Asked } else { Became::Denied }.into(),
        detail: "x".repeat(length),
        time_ns: sequence,
        number,
        ..Outcome::default()
    };
    let batch = Batch {
        sequence,
        entries: vec![Entry {
            host: String::new(),
            body: Some(entry::Body::Outcome(outcome)),
        }],
        processes: Vec::new(),
    };
    let taken = TakenBatch {
        encoded: batch.encode_to_vec().into(),
        batch,
    };
    let stored = store.commit(|writing| {
        writing.greet(&stream, "1")?;
        writing.store(&stream, &taken)
    });
    stored.expect("commits").expect("stores");
}

fn asked(store: &Store) -> Vec<(String, u64)> {
    let listed = store.approvals(&ListApprovalsRequest::default()).expect("lists");
    let number = |one: Approval| Some((one.host, one.asked?.number));
    listed.into_iter().filter_map(number).collect()
}

#[test]
fn who_asks_under_a_lower_number_has_begun_anew() {
    let home = tempfile::tempdir().expect("a directory");
    let mut store = Store::open(home.path()).expect("opens");
    for (sequence, number, asks) in [(1, 1, true), (2, 2, true), (3, 3, true), (4, 2, false)] {
        says(&mut store, "web1", sequence, number, asks, 1);
    }
    says(&mut store, "web2", 1, 7, true, 1);
    let web = |host: &str, number| (host.to_owned(), number);
    assert_eq!(asked(&store), [web("web1", 3), web("web2", 7), web("web1", 1)]);
    says(&mut store, "web1", 5, 1, true, 1);
    assert_eq!(asked(&store), [web("web1", 1), web("web2", 7)]);
}

#[test]
fn what_a_host_asks_for_is_bounded_and_hides_nothing_of_others() {
    let home = tempfile::tempdir().expect("a directory");
    let mut store = Store::open(home.path()).expect("opens");
    says(&mut store, "web1", 1, 1, true, 1);
    for number in 1..=300 {
        says(&mut store, "web2", number, number, true, 16_000);
    }
    says(&mut store, "web2", 301, 301, true, 17_000);
    let listed = store.approvals(&ListApprovalsRequest::default()).expect("lists");
    let bytes: usize = listed.iter().map(Approval::encoded_len).sum();
    assert!(bytes <= ANSWER_BYTES_MAX && listed.len() < 300, "{bytes}");
    let details: Vec<&str> = listed
        .iter()
        .filter_map(|one| Some(one.asked.as_ref()?.detail.as_str()))
        .collect();
    assert_eq!(
        (details[0], details[details.len() - 1]),
        ("it is too long to be listed; the host itself tells it", "x")
    );
}

#[test]
fn a_second_collector_is_kept_out() {
    let home = tempfile::tempdir().expect("a directory");
    let _first = Store::open(home.path()).expect("opens");
    assert!(matches!(Store::open(home.path()), Err(StoreError::Locked { .. })));
}

#[test]
fn a_corrupt_database_is_set_aside_whole() {
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("collector.db");
    fs::write(&path, b"this is not a database, whatever its name says").expect("writes");
    let mut store = Store::open(home.path()).expect("begins anew");
    assert_eq!(greet(&mut store, 1), 0);
    let aside: Vec<_> = fs::read_dir(home.path())
        .expect("lists")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.to_string_lossy().contains(".corrupt-"))
        .collect();
    let contents = fs::read(&aside[0]).expect("is there");
    assert!(contents.starts_with(b"this is not"), "{aside:?}");
}

#[test]
fn a_newer_schema_is_left_alone() {
    let home = tempfile::tempdir().expect("a directory");
    drop(Store::open(home.path()).expect("opens"));
    let connection = Connection::open(home.path().join("collector.db")).expect("opens");
    connection.pragma_update(None, "user_version", 9).expect("sets");
    drop(connection);
    assert!(matches!(
        Store::open(home.path()),
        Err(StoreError::Newer { found: 9, .. })
    ));
}

#[test]
fn a_file_in_the_place_of_the_directory_is_named() {
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("file");
    fs::write(&file, b"").expect("writes");
    let error = Store::open(&file).expect_err("is no directory").to_string();
    assert!(
        error.contains(&file.display().to_string()) && error.contains("--data"),
        "{error}"
    );
}
