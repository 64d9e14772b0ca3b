//! The catalogue, by itself and against others.

use std::{collections::HashSet, sync::Arc, time::Duration};

use object_store::{ObjectStore, memory::InMemory};
use tempfile::TempDir;

use super::{
    Catalogue, Commit, Covered, Listed, Outcome, Place, STRETCH,
    steward::{Keeping, retain, sweep},
};
use crate::{lake::Day, session::StreamId, store::Position};

const DAY_NS: i64 = 86_400_000_000_000;

fn in_memory() -> Place {
    Place::of("memory", Arc::new(InMemory::new()) as Arc<dyn ObjectStore>)
}

fn in_directory() -> (TempDir, Place) {
    let folder = tempfile::tempdir().expect("a directory");
    let place = Place::at(&format!("file://{}/lake", folder.path().display())).expect("can be used");
    (folder, place)
}

fn stream(host: &str) -> StreamId {
    StreamId {
        host: host.to_owned(),
        epoch: u64::MAX,
    }
}

/// One file of a batch.
fn commit(host: &str, sequence: u64, day: i32) -> Commit {
    let file = Listed {
        name: format!("class=process/day={}/{host}-{sequence}.parquet", Day(day)),
        class: "process".to_owned(),
        day,
        rows: 10,
        bytes: 100,
    };
    Commit {
        time_ns: i64::from(day) * DAY_NS,
        add: vec![file],
        streams: vec![Covered {
            host: host.to_owned(),
            epoch: u64::MAX,
            from: sequence,
            to: sequence,
        }],
        ..Commit::new()
    }
}

async fn open(place: &Place) -> Catalogue {
    Catalogue::open(place.clone()).await.expect("opens")
}

async fn rows(catalogue: &Catalogue) -> u64 {
    let files = catalogue.files().await.expect("can be read");
    files.iter().map(|file| file.rows).sum()
}

async fn check_race(place: Place) {
    const EACH: u64 = 12;
    let start = Arc::new(tokio::sync::Barrier::new(8));
    let racers: Vec<_> = (0..8)
        .map(|number| {
            let (place, start) = (place.clone(), Arc::clone(&start));
            tokio::spawn(async move {
                start.wait().await;
                let catalogue = open(&place).await;
                let host = format!("host{}", number / 2);
                let stream = stream(&host);
                let mut made = 0;
                // Two have the same batches.
                for sequence in 1..=EACH {
                    let mut commit = commit(&host, sequence, 5);
                    commit.add[0].name.push_str(&number.to_string());
                    loop {
                        let missing = catalogue.missing([(&stream, sequence)].into_iter()).await;
                        if missing == [false] {
                            break;
                        }
                        // In memory nothing waits for anything; here the others may come in between.
                        tokio::task::yield_now().await;
                        if catalogue.commit(&commit).await.expect("is told") == Outcome::Made {
                            made += 1;
                            break;
                        }
                    }
                }
                (made, catalogue.conflicts())
            })
        })
        .collect();
    let (mut made, mut conflicts) = (0, 0);
    for racer in racers {
        let (by_this, late) = racer.await.expect("ends");
        made += by_this;
        conflicts += late;
    }
    assert_eq!(made, 4 * EACH, "each batch is committed by one");
    assert!(conflicts > 0, "or it was no race");
    let catalogue = open(&place).await;
    assert_eq!(rows(&catalogue).await, 4 * EACH * 10);
    assert_eq!(catalogue.standing(&stream("host3")).await.expect("is told"), EACH);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_who_commit_each_batch_is_committed_by_one() {
    check_race(in_memory()).await;
    let (_folder, place) = in_directory();
    check_race(place).await;
}

#[tokio::test]
async fn positions_are_taken_once() {
    let place = in_memory();
    let (one, other) = (open(&place).await, open(&place).await);
    assert_eq!(one.reserve(5).await.expect("takes"), (Position(1), STRETCH));
    assert_eq!(
        other.reserve(5).await.expect("takes"),
        (Position(1 + STRETCH), STRETCH)
    );
    let more = 2 * STRETCH;
    assert_eq!(
        one.reserve(more).await.expect("takes"),
        (Position(1 + 2 * STRETCH), more)
    );
    assert_eq!(
        other.reserve(1).await.expect("takes"),
        (Position(1 + 4 * STRETCH), STRETCH)
    );
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_made_once() {
    let place = in_memory();
    let catalogue = open(&place).await;
    let lost = commit("web1", 1, 5);
    // The request came through; whoever sent it does not know.
    let body = serde_json::to_vec(&lost).expect("is JSON");
    assert!(
        place
            .create("commits/00000000000000000001.json", body)
            .await
            .expect("is made")
    );
    assert_eq!(catalogue.commit(&lost).await.expect("is told"), Outcome::Made);
    assert_eq!(rows(&catalogue).await, 10);
    assert_eq!(catalogue.conflicts(), 0);
    assert_eq!(place.list(Some("commits")).await.expect("lists").len(), 1);
}

#[tokio::test]
async fn a_checkpoint_is_what_the_commits_come_to() {
    let (_folder, place) = in_directory();
    let writer = open(&place).await;
    for sequence in 1..=300 {
        let commit = commit("web1", sequence, 5 + (sequence / 100) as i32);
        assert_eq!(writer.commit(&commit).await.expect("is told"), Outcome::Made);
    }
    let checkpoints = place.list(Some("checkpoints")).await.expect("lists");
    assert_eq!(checkpoints.len(), 3, "the last ones are kept");
    let quick = open(&place).await.state().await;
    assert_eq!(quick, writer.state().await);
    // Damaged ones are passed over, and none at all is as good.
    place
        .put("checkpoints/00000000000000000256.json", "{\"format\":1,")
        .await
        .expect("puts");
    assert_eq!(open(&place).await.state().await, quick);
    for object in checkpoints {
        place.remove(object.location.as_ref()).await.expect("removes");
    }
    assert_eq!(open(&place).await.state().await, quick);
}

#[tokio::test]
async fn a_numbering_is_forgotten_when_it_is_long_over() {
    let place = in_memory();
    let catalogue = open(&place).await;
    catalogue.commit(&commit("gone", 1, 5)).await.expect("is told");
    for sequence in 1..64 {
        catalogue
            .commit(&commit("web1", sequence, 36))
            .await
            .expect("is told");
    }
    assert_eq!(catalogue.standing(&stream("gone")).await.expect("is told"), 0);
    assert_eq!(catalogue.standing(&stream("web1")).await.expect("is told"), 63);
    assert_eq!(rows(&catalogue).await, 640, "what was stored stays");
}

#[tokio::test]
async fn a_damaged_commit_is_named_and_nothing_is_lost_by_it() {
    let place = in_memory();
    let catalogue = open(&place).await;
    for sequence in 1..=3 {
        catalogue
            .commit(&commit("web1", sequence, 5))
            .await
            .expect("is told");
    }
    let name = "commits/00000000000000000002.json";
    let whole = place.get(name).await.expect("can be got").expect("is there");
    for damage in [&whole[..whole.len() / 2], b"", b"{}", b"\xff", b"[1,2]"] {
        place.put(name, damage.to_vec()).await.expect("puts");
        let error = Catalogue::open(place.clone())
            .await
            .expect_err("is damaged")
            .to_string();
        assert!(error.contains(name) && error.contains("put it back"), "{error}");
    }
    place.put(name, r#"{"format":9}"#).await.expect("puts");
    let error = Catalogue::open(place.clone())
        .await
        .expect_err("is newer")
        .to_string();
    assert!(error.contains("format 9") && error.contains("newer"), "{error}");
    place.put(name, whole).await.expect("puts");
    assert_eq!(rows(&open(&place).await).await, 30);
    // Who was past it already goes on.
    assert_eq!(rows(&catalogue).await, 30);
}

#[tokio::test]
async fn what_is_kept_for_its_time_is_taken_and_then_removed() {
    let (_folder, place) = in_directory();
    let catalogue = open(&place).await;
    for day in 1..=4 {
        let commit = commit("web1", day, day as i32);
        place.put(&commit.add[0].name, "file").await.expect("puts");
        catalogue.commit(&commit).await.expect("is told");
    }
    // One that was never committed, as a crash leaves it.
    place
        .put("class=file/day=1970-01-05/x.parquet", "file")
        .await
        .expect("puts");
    let keeping = Keeping {
        days: Some(2),
        bytes: Some(200),
    };
    retain(&catalogue, keeping, Day(4)).await.expect("takes");
    assert_eq!(rows(&catalogue).await, 20);
    let files = async || {
        let mut names = HashSet::new();
        for folder in ["class=process", "class=file"] {
            let found = place.list(Some(folder)).await.expect("lists");
            names.extend(found.into_iter().map(|object| object.location.to_string()));
        }
        names.len()
    };
    let mut condemned = HashSet::new();
    let now = std::time::SystemTime::now();
    let later = now + Duration::from_secs(2 * 86_400);
    for (when, left) in [(now, 5), (later, 5), (later, 2)] {
        sweep(&catalogue, &mut condemned, when).await.expect("sweeps");
        assert_eq!(files().await, left);
    }
}

#[test]
fn only_places_that_are_known_are_places() {
    for url in ["", "/srv/lake", "file://relative", "ftp://x/y"] {
        let error = Place::at(url).expect_err(url).to_string();
        assert!(error.contains("s3://BUCKET/PREFIX"), "{error}");
    }
}
