//! What is kept, what is let go, and that the account is true whatever happens in between.

use std::{collections::HashMap, fs, path::PathBuf};

use proptest::prelude::*;
use prost::Message as _;
use sensor_proto::{
    decompress, signal_name,
    v1::{Batch, Entry, Event, Exec, Incident, Operation, Process, entry::Body, event},
};

use super::*;

const EACH: u64 = 1_000 + index::OVERHEAD;

/// A package of about a thousand bytes, with two entries.
fn package(class: Class, mark: u64) -> Package {
    sized(class, mark, 2, 940)
}

/// Its content is known by `mark`, and cannot be compressed.
fn sized(class: Class, mark: u64, entries: u64, length: usize) -> Package {
    let body = match class {
        Class::Bulk => Body::Event(event_of(event::Body::Operation(Operation {
            signal: "file_open".into(),
            ..Operation::default()
        }))),
        Class::Critical => Body::Event(event_of(event::Body::Exec(Exec::default()))),
        Class::Important => Body::Incident(Incident::default()),
    };
    let entry = Entry {
        host: String::new(),
        body: Some(body),
    };
    let name = signal_name(&entry);
    let mut state = mark.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut noise = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    let process = Process {
        tid: mark as u32,
        executable_raw: (0..length).map(|_| noise()).collect(),
        ..Process::default()
    };
    let batch = Batch {
        sequence: 0,
        entries: vec![entry; entries as usize],
        processes: vec![process],
    };
    Package {
        class,
        names: Names::from([(name, entries)]),
        body: Compressor::new()
            .unwrap()
            .compress(&batch.encode_to_vec())
            .unwrap(),
    }
}

fn event_of(body: event::Body) -> Event {
    Event {
        body: Some(body),
        ..Event::default()
    }
}

fn read(batch: &Numbered) -> Batch {
    Batch::decode(&*decompress(&batch.body).unwrap()).unwrap()
}

/// The mark of a batch; `None` for one of losses.
fn mark(batch: &Numbered) -> Option<u64> {
    read(batch)
        .processes
        .first()
        .map(|process| u64::from(process.tid))
}

/// All losses that a batch says, as signal, count and reason.
fn said(batch: &Numbered) -> Vec<(String, u64, String)> {
    let losses = read(batch)
        .entries
        .into_iter()
        .filter_map(|entry| match entry.body {
            Some(Body::Loss(loss)) => Some((loss.signal, loss.count, loss.reason)),
            _ => None,
        });
    losses.collect()
}

/// Everything that is delivered from here, acknowledged at once: by epoch and sequence.
fn drain(spool: &mut Spool) -> Vec<(u64, Numbered)> {
    let mut all = Vec::new();
    let mut sent = HashMap::<u64, u64>::new();
    loop {
        spool.commit();
        let epoch = spool.epoch();
        let last = *sent.entry(epoch).or_insert_with(|| {
            let at = spool.find(epoch).unwrap();
            spool.numberings[at].acknowledged
        });
        let batches = spool.batches(epoch, last, 7);
        let Some(newest) = batches.last().map(|batch| batch.sequence) else {
            return all;
        };
        for (expected, batch) in (last + 1..).zip(batches) {
            assert_eq!(batch.sequence, expected, "no gaps");
            all.push((epoch, batch));
        }
        sent.insert(epoch, newest);
        spool.acknowledge(epoch, newest);
    }
}

fn marks(batches: &[(u64, Numbered)]) -> Vec<u64> {
    batches.iter().filter_map(|(_, batch)| mark(batch)).collect()
}

fn place(home: &tempfile::TempDir) -> PathBuf {
    home.path().join("state").join(FILE)
}

#[test]
fn the_newest_of_what_matters_least_goes_first() {
    let mut spool = Spool::in_memory(8 * EACH);
    for (mark, class) in [
        (1, Class::Bulk),
        (2, Class::Critical),
        (3, Class::Bulk),
        (4, Class::Critical),
    ] {
        spool.append(package(class, mark));
    }
    (5..=8).for_each(|mark| spool.append(package(Class::Important, mark)));
    assert_eq!(spool.usage().shed, Names::new());
    spool.append(package(Class::Bulk, 9));
    assert_eq!(
        spool.usage().shed,
        [("file_open", 2)].into(),
        "what comes, where nothing is worth less"
    );
    spool.append(package(Class::Critical, 10));
    spool.append(package(Class::Important, 11));
    spool.append(package(Class::Important, 12));
    assert_eq!(spool.usage().shed, [("file_open", 6), ("exec", 2)].into());
    assert_eq!(marks(&drain(&mut spool)), [2, 4, 5, 6, 7, 8, 11, 12]);
}

#[test]
fn what_was_let_go_is_said_by_signal_once_there_is_room() {
    let mut spool = Spool::in_memory(12 * EACH);
    (0..20).for_each(|mark| spool.append(package(Class::Bulk, mark)));
    (20..24).for_each(|mark| spool.append(package(Class::Critical, mark)));
    let delivered = drain(&mut spool);
    let losses: Vec<_> = delivered.iter().flat_map(|(_, batch)| said(batch)).collect();
    assert_eq!(losses, [("file_open".to_owned(), 24, reason::FULL.to_owned())]);
    assert_eq!(spool.usage().shed_entries(), 24);
}

#[test]
fn what_may_be_on_the_way_is_not_let_go() {
    let mut spool = Spool::in_memory(8 * EACH);
    (1..=8).for_each(|mark| spool.append(package(Class::Bulk, mark)));
    spool.commit();
    let epoch = spool.epoch();
    let sent = spool.batches(epoch, 0, 64);
    // About a quarter of the room has its sequences.
    assert_eq!(
        sent.iter().map(|batch| batch.sequence).collect::<Vec<_>>(),
        [1, 2, 3]
    );
    (10..=20).for_each(|mark| spool.append(package(Class::Important, mark)));
    assert_eq!(spool.batches(epoch, 0, 64), sent);
    assert_eq!(marks(&drain(&mut spool))[..4], [1, 2, 3, 10]);
}

#[test]
fn it_outlives_the_agent() {
    let home = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(&place(&home), 1 << 20);
    (1..=5).for_each(|mark| spool.append(package(Class::Critical, mark)));
    spool.commit();
    let first = spool.epoch();
    assert_eq!(spool.usage().place, Some(place(&home)));
    spool.acknowledge(first, 2);
    spool.end();

    let mut spool = Spool::open(&place(&home), 1 << 20);
    (6..=7).for_each(|mark| spool.append(package(Class::Critical, mark)));
    spool.commit();
    assert_eq!((spool.epoch(), spool.usage().batches), (first, 5));
    let delivered = drain(&mut spool);
    let numbers: Vec<_> = delivered
        .iter()
        .map(|(epoch, batch)| (*epoch == first, batch.sequence))
        .collect();
    assert_eq!(numbers, [(true, 3), (true, 4), (true, 5), (false, 1), (false, 2)]);
    assert_eq!(marks(&delivered), [3, 4, 5, 6, 7]);
    assert_eq!(
        spool.numberings.len(),
        1,
        "a run of which nothing waits is forgotten"
    );
}

#[test]
fn an_agent_that_did_not_end_is_told_of() {
    let home = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(&place(&home), 1 << 20);
    spool.append(package(Class::Bulk, 1));
    spool.commit();
    drop(spool);
    let delivered = drain(&mut Spool::open(&place(&home), 1 << 20));
    assert_eq!(marks(&delivered), [1]);
    let losses = said(&delivered[1].1);
    assert_eq!(losses, [(String::new(), 0, reason::UNFINISHED.to_owned())]);
}

#[test]
fn losses_that_were_not_said_are_kept() {
    let home = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(&place(&home), 10 * EACH);
    (0..30).for_each(|mark| spool.append(package(Class::Important, mark)));
    spool.commit();
    spool.end();
    let delivered = drain(&mut Spool::open(&place(&home), 10 * EACH));
    let losses: u64 = delivered
        .iter()
        .flat_map(|(_, batch)| said(batch))
        .map(|(_, count, _)| count)
        .sum();
    assert_eq!((marks(&delivered).len(), losses), (10, 40));
}

#[test]
fn a_collector_that_lost_its_data_gets_the_rest_again() {
    let mut spool = Spool::in_memory(1 << 20);
    (1..=6).for_each(|mark| spool.append(package(Class::Bulk, mark)));
    spool.commit();
    let epoch = spool.epoch();
    assert!(spool.resume(epoch, 2));
    assert!(spool.resume(epoch, 2), "as often as it likes");
    assert!(!spool.resume(epoch, 1), "it forgot what it had acknowledged");
    assert_ne!(spool.epoch(), epoch);
    assert!(!spool.resume(epoch, 2), "that epoch is over");
    let delivered = drain(&mut spool);
    assert_eq!(
        (delivered[0].1.sequence, marks(&delivered)),
        (1, vec![3, 4, 5, 6])
    );
}

#[test]
fn a_collector_that_knows_more_than_was_sent_has_it_from_somebody_else() {
    let mut spool = Spool::in_memory(1 << 20);
    (1..=3).for_each(|mark| spool.append(package(Class::Bulk, mark)));
    spool.commit();
    let epoch = spool.epoch();
    assert!(!spool.resume(epoch, 4));
    assert_eq!(marks(&drain(&mut spool)), [1, 2, 3]);
}

#[test]
fn copies_of_a_directory_have_the_same_numbers_for_the_same_and_others_for_what_comes() {
    let (home, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut spool = Spool::open(&place(&home), 4 << 20);
    (1..=400).for_each(|mark| spool.append(package(Class::Bulk, mark)));
    spool.commit();
    spool.end();
    fs::create_dir(other.path().join("state")).unwrap();
    fs::copy(place(&home), place(&other)).unwrap();
    let mut both = Vec::new();
    for (home, mark) in [(&home, 1_000), (&other, 2_000)] {
        let mut spool = Spool::open(&place(home), 4 << 20);
        spool.append(package(Class::Bulk, mark));
        both.push(drain(&mut spool));
    }
    // What a collector makes of that.
    let mut stored = HashMap::new();
    for (epoch, batch) in both.concat() {
        let known = stored
            .entry((epoch, batch.sequence))
            .or_insert_with(|| batch.clone());
        assert_eq!(*known, batch, "a number means one thing");
    }
    assert_eq!(stored.len(), 402);
}

#[test]
fn an_older_copy_goes_on_where_the_collector_is() {
    let (home, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut spool = Spool::open(&place(&home), 4 << 20);
    (1..=300).for_each(|mark| spool.append(package(Class::Bulk, mark)));
    spool.commit();
    let epoch = spool.epoch();
    // Not all of them have their sequences yet.
    fs::create_dir(copy.path().join("state")).unwrap();
    let source = place(&home).with_extension("db-wal");
    fs::copy(place(&home), place(&copy)).unwrap();
    fs::copy(source, place(&copy).with_extension("db-wal")).unwrap();
    let delivered = drain(&mut spool);
    let mut older = Spool::open(&place(&copy), 4 << 20);
    assert_eq!(older.usage().batches, 300);
    assert!(older.resume(epoch, 290));
    older.commit();
    let rest = older.batches(epoch, 290, 64);
    assert_eq!(
        rest,
        delivered[290..]
            .iter()
            .map(|(_, batch)| batch.clone())
            .collect::<Vec<_>>()
    );
    assert!(older.resume(epoch, 300));
    assert_eq!(marks(&drain(&mut older)), [0; 0]);
}

#[test]
fn what_another_machine_wrote_is_left_to_it() {
    let home = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(&place(&home), 1 << 20);
    spool.machine = "another".into();
    spool.append(package(Class::Bulk, 1));
    spool.commit();
    spool.end();
    let mut spool = Spool::open(&place(&home), 1 << 20);
    let delivered = drain(&mut spool);
    assert_eq!(marks(&delivered), [0; 0]);
    assert_eq!(
        said(&delivered[0].1),
        [(String::new(), 2, reason::FOREIGN.to_owned())]
    );
    assert_eq!(aside(&home, ".foreign-"), 1);
}

fn aside(home: &tempfile::TempDir, with: &str) -> usize {
    let names = fs::read_dir(home.path().join("state"))
        .unwrap()
        .filter_map(Result::ok);
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names
        .filter(|name| name.contains(with) && !name.ends_with("-wal") && !name.ends_with("-shm"))
        .count()
}

#[test]
fn two_agents_do_not_share_one() {
    let home = tempfile::tempdir().unwrap();
    let mut first = Spool::open(&place(&home), 1 << 20);
    let mut second = Spool::open(&place(&home), 1 << 20);
    assert!(second.usage().trouble.unwrap().contains("locked"));
    first.append(package(Class::Bulk, 1));
    second.append(package(Class::Bulk, 2));
    assert_eq!(
        (marks(&drain(&mut first)), marks(&drain(&mut second))),
        (vec![1], vec![2])
    );
}

#[test]
fn a_damaged_file_is_set_aside_and_said() {
    let home = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(&place(&home), 1 << 20);
    spool.append(package(Class::Bulk, 1));
    spool.commit();
    spool.end();
    fs::write(place(&home), vec![7; 9_000]).unwrap();
    let mut spool = Spool::open(&place(&home), 1 << 20);
    spool.append(package(Class::Bulk, 2));
    let delivered = drain(&mut spool);
    assert_eq!(marks(&delivered), [2]);
    let losses: Vec<_> = delivered.iter().flat_map(|(_, batch)| said(batch)).collect();
    assert_eq!(losses, [(String::new(), 0, reason::ASIDE.to_owned())]);
    assert_eq!(aside(&home, ".corrupt-"), 1);
    assert_eq!(spool.usage().trouble, None);
}

#[test]
fn a_batch_that_the_disk_gives_back_damaged_is_replaced_by_word_of_that() {
    let home = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(&place(&home), 1 << 20);
    (1..=3).for_each(|mark| spool.append(package(Class::Bulk, mark)));
    spool.commit();
    spool.end();
    let damage = rusqlite::Connection::open(place(&home)).unwrap();
    damage
        .execute(
            "UPDATE batches SET body = zeroblob(length(body)) WHERE position = 2",
            [],
        )
        .unwrap();
    drop(damage);
    let mut spool = Spool::open(&place(&home), 1 << 20);
    let delivered = drain(&mut spool);
    assert_eq!(marks(&delivered), [1, 3]);
    assert_eq!(delivered[1].1.sequence, 2);
    assert_eq!(
        said(&delivered[1].1),
        [(String::new(), 2, reason::DAMAGED.to_owned())]
    );
    assert_eq!(spool.usage().shed, [("", 2)].into());
}

#[test]
fn what_cannot_be_written_waits_in_memory_and_is_written_later() {
    let home = tempfile::tempdir().unwrap();
    // In the place of the directory there is a file.
    fs::write(home.path().join("state"), b"").unwrap();
    let mut spool = Spool::open(&place(&home), 64 << 20);
    (1..=3).for_each(|mark| spool.append(package(Class::Bulk, mark)));
    spool.commit();
    let usage = spool.usage();
    assert_eq!(usage.place, None);
    assert!(usage.trouble.unwrap().contains("cannot use"));
    let epoch = spool.epoch();
    let sent = spool.batches(epoch, 0, 64);
    assert_eq!(sent.len(), 3, "it is delivered from memory");
    spool.acknowledge(epoch, 1);

    fs::remove_file(home.path().join("state")).unwrap();
    std::thread::sleep(RETRY);
    spool.append(package(Class::Bulk, 4));
    spool.commit();
    assert_eq!(
        (spool.usage().place, spool.usage().trouble),
        (Some(place(&home)), None)
    );
    assert_eq!(
        spool.batches(epoch, 1, 2),
        sent[1..],
        "with the numbers that it had"
    );
    spool.end();
    assert_eq!(marks(&drain(&mut Spool::open(&place(&home), 1 << 20))), [2, 3, 4]);
}

#[test]
fn memory_is_bounded_where_there_is_no_disk() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("state"), b"").unwrap();
    let mut spool = Spool::open(&place(&home), 1 << 30);
    let large = |class, mark| sized(class, mark, 1, 100 << 10);
    (0..100).for_each(|mark| spool.append(large(Class::Bulk, mark)));
    (100..120).for_each(|mark| spool.append(large(Class::Critical, mark)));
    assert!(spool.usage().bytes <= MEMORY, "{}", spool.usage().bytes);
    assert!(spool.usage().bytes > MEMORY / 10 * 9);
    let marks = marks(&drain(&mut spool));
    assert!((100..120).all(|mark| marks.contains(&mark)), "{marks:?}");
}

/// A power cut leaves the database and any part of what was added to its log since the last commit, or rubbish in its place.
#[test]
fn a_power_cut_at_any_point_leaves_a_true_account() {
    let home = tempfile::tempdir().unwrap();
    let log = place(&home).with_extension("db-wal");
    let mut spool = Spool::open(&place(&home), 1 << 20);
    let epoch = spool.epoch();
    let mut earlier = 1;
    for round in 0..40_u64 {
        let before = fs::metadata(&log).map_or(0, |about| about.len());
        // What was acknowledged since the last commit is only gone by this one.
        let first = spool.numberings[0].acknowledged + 1;
        spool.append(package(Class::Bulk, round * 2 + 1));
        spool.append(package(Class::Bulk, round * 2 + 2));
        spool.commit();
        let written = round * 2 + 2;
        let after = fs::metadata(&log).unwrap().len();
        for part in 0..6 {
            let copy = tempfile::tempdir().unwrap();
            fs::create_dir(copy.path().join("state")).unwrap();
            fs::copy(place(&home), place(&copy)).unwrap();
            let mut bytes = fs::read(&log).unwrap();
            // A log that was begun anew is not longer than before: then all of it counts.
            let cut = if after > before {
                before + (after - before) * part / 5
            } else {
                after
            };
            bytes.truncate(cut as usize);
            if part % 2 == 1 {
                bytes.extend([0xa5; 5_000]);
            }
            fs::write(place(&copy).with_extension("db-wal"), bytes).unwrap();
            let mut found = Spool::open(&place(&copy), 1 << 20);
            assert_eq!(aside(&copy, ".corrupt-"), 0);
            found.append(package(Class::Bulk, 5_000));
            let delivered = drain(&mut found);
            let marks = marks(&delivered);
            let (new, old) = marks.split_last().unwrap();
            let last = old.last().copied().unwrap_or(first - 1);
            let begin = if last == written { first } else { earlier };
            assert_eq!(*new, 5_000);
            assert_eq!(old, (begin..=last).collect::<Vec<_>>());
            assert!(last == written || last == written - 2, "{last} of {written}");
            assert!(cut < after || last == written, "what was committed is there");
            for (of, batch) in &delivered[..old.len()] {
                assert_eq!((*of, Some(batch.sequence)), (epoch, mark(batch)));
            }
        }
        earlier = first;
        spool.acknowledge(epoch, round);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append(Class, usize),
    Deliver(usize),
    Restart,
    Crash,
    Forget,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let class = prop_oneof![Just(Class::Bulk), Just(Class::Critical), Just(Class::Important)];
    let step = prop_oneof![
        12 => (class, 0..6_000_usize).prop_map(|(class, length)| Step::Append(class, length)),
        3 => (1..20_usize).prop_map(Step::Deliver),
        1 => Just(Step::Restart),
        1 => Just(Step::Crash),
        1 => Just(Step::Forget),
    ];
    proptest::collection::vec(step, 1..80)
}

/// What a collector does: it takes the next number of an epoch, once.
#[derive(Default)]
struct Shelf {
    stored: HashMap<u64, u64>,
    entries: u64,
    lost: u64,
}

impl Shelf {
    fn take(&mut self, spool: &mut Spool, count: usize) -> bool {
        spool.commit();
        let epoch = spool.epoch();
        let stored = self.stored.entry(epoch).or_default();
        if !spool.resume(epoch, *stored) {
            return true;
        }
        let batches = spool.batches(epoch, *stored, count);
        for batch in &batches {
            *stored += 1;
            assert_eq!(batch.sequence, *stored, "no gaps");
            self.lost += said(batch).iter().map(|(_, count, _)| count).sum::<u64>();
            if mark(batch).is_some() {
                self.entries += read(batch).entries.len() as u64;
            }
        }
        let last = *stored;
        spool.acknowledge(epoch, last);
        !batches.is_empty()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever comes, is delivered and happens to agent and collector: what was taken is delivered once, or said to be lost, and the bound
    /// holds.
    #[test]
    fn the_account_is_true_and_the_bound_holds(steps in steps()) {
        let home = tempfile::tempdir().unwrap();
        let limit = 60 << 10;
        let mut spool = Spool::open(&place(&home), limit);
        let (mut shelf, mut taken, mut mark) = (Shelf::default(), 0, 0);
        for step in steps {
            match step {
                Step::Append(class, length) => {
                    mark += 1;
                    spool.append(sized(class, mark, 3, length));
                    taken += 3;
                }
                Step::Deliver(count) => _ = shelf.take(&mut spool, count),
                Step::Restart => {
                    spool.end();
                    spool = Spool::open(&place(&home), limit);
                }
                Step::Crash => {
                    spool.commit();
                    drop(spool);
                    spool = Spool::open(&place(&home), limit);
                }
                Step::Forget => shelf.stored.clear(),
            }
            prop_assert!(spool.usage().bytes <= limit, "{} bytes", spool.usage().bytes);
        }
        while shelf.take(&mut spool, 64) {}
        // What the collector forgot came twice if it had not been let go here yet.
        prop_assert_eq!(shelf.entries + shelf.lost, taken);
        prop_assert_eq!(spool.usage().batches, 0);
    }
}
