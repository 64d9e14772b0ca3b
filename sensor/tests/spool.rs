//! The spool on real disks that are full, cannot be written, or lose their agent at any moment. What needs a file system of its own needs
//! root, and is left out without.

use std::{
    collections::HashMap,
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use prost::Message as _;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use sensor::export::spool::{Class, Names, Package, Spool};
use sensor_proto::{
    Compressor, decompress,
    v1::{Batch, Entry, Process, entry::Body},
};

/// A package with one entry, known by its number, of about `length` bytes that cannot be compressed.
fn package(number: u32, length: usize) -> Package {
    let mut state = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut noise = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    let process = Process {
        tid: number,
        executable_raw: (0..length).map(|_| noise()).collect(),
        ..Process::default()
    };
    let batch = Batch {
        sequence: 0,
        entries: vec![Entry::default()],
        processes: vec![process],
    };
    let mut compressor = Compressor::new().expect("has memory");
    Package {
        class: Class::Critical,
        names: Names::from([("exec", 1)]),
        body: compressor.compress(&batch.encode_to_vec()).expect("compresses"),
    }
}

/// The highest sequence that a collector has, by epoch.
type Stored = HashMap<u64, u64>;

/// The numbers of all that is delivered, and how many are said to be lost.
fn drain(spool: &mut Spool, stored: &mut Stored) -> (Vec<u32>, u64) {
    let (mut numbers, mut lost) = (Vec::new(), 0);
    loop {
        spool.commit();
        let epoch = spool.epoch();
        let last = stored.entry(epoch).or_default();
        assert!(spool.resume(epoch, *last));
        let batches = spool.batches(epoch, *last, 16);
        if batches.is_empty() {
            return (numbers, lost);
        }
        for batch in batches {
            assert_eq!(batch.sequence, *last + 1, "no gaps");
            *last = batch.sequence;
            let body = decompress(&batch.body).expect("a body");
            let batch = Batch::decode(&*body).expect("a batch");
            numbers.extend(batch.processes.iter().map(|process| process.tid));
            lost += batch.entries.iter().map(losses).sum::<u64>();
        }
        spool.acknowledge(epoch, *last);
    }
}

fn losses(entry: &Entry) -> u64 {
    match &entry.body {
        Some(Body::Loss(loss)) => loss.count,
        _ => 0,
    }
}

/// A file system in memory.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new(size: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("left out: only root can mount");
            return None;
        }
        let folder = tempfile::tempdir().expect("a directory");
        let options = std::ffi::CString::new(format!("size={size}")).expect("no NUL");
        mount(
            "tmpfs",
            folder.path(),
            "tmpfs",
            MountFlags::empty(),
            Some(options.as_c_str()),
        )
        .expect("mounts");
        Some(Self(folder))
    }

    fn remount(&self, flags: MountFlags, options: &str) {
        let options = std::ffi::CString::new(options).expect("no NUL");
        mount_remount(self.0.path(), flags, options.as_c_str()).expect("mounts again");
    }

    fn spool(&self) -> PathBuf {
        self.0.path().join("state/spool.db")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(self.0.path(), UnmountFlags::DETACH);
    }
}

/// The time for which a disk is left alone that has failed.
fn wait_for_another_try() {
    std::thread::sleep(Duration::from_millis(1_100));
}

#[test]
fn a_full_disk_stops_nobody_and_loses_nothing_that_it_does_not_say() {
    let Some(disk) = Disk::new("20m") else { return };
    let mut spool = Spool::open(&disk.spool(), 1 << 30);
    for number in 0..400 {
        spool.append(package(number, 50_000));
        spool.commit();
    }
    let usage = spool.usage();
    let trouble = usage.trouble.clone().expect("is said");
    assert!(trouble.contains("16 MiB are free"), "{trouble}");
    assert!(
        usage.bytes < 13 << 20,
        "what the disk holds and 8 MiB: {}",
        usage.bytes
    );
    assert_eq!(usage.batches + usage.shed_entries(), 400);

    disk.remount(MountFlags::empty(), "size=64m");
    wait_for_another_try();
    spool.append(package(400, 10));
    spool.commit();
    assert_eq!(spool.usage().trouble, None);
    let kept = spool.end().batches;
    assert!(kept > 0);
    let mut spool = Spool::open(&disk.spool(), 1 << 30);
    assert!(spool.usage().batches >= kept);
    let (numbers, lost) = drain(&mut spool, &mut Stored::new());
    assert_eq!(numbers.len() as u64 + lost, 401);
    assert!(numbers.is_sorted(), "{numbers:?}");
}

#[test]
fn a_disk_that_others_fill_to_the_last_byte_is_delivered_from_and_used_again() {
    let Some(disk) = Disk::new("40m") else { return };
    let mut spool = Spool::open(&disk.spool(), 1 << 30);
    for number in 0..100 {
        spool.append(package(number, 50_000));
        spool.commit();
    }
    assert_eq!(spool.usage().trouble, None);
    let others = disk.0.path().join("others");
    let mut file = fs::File::create(&others).expect("is made");
    while file.write_all(&[7; 4_096]).is_ok() {}
    (100..120).for_each(|number| spool.append(package(number, 50_000)));
    let mut stored = Stored::new();
    let (numbers, lost) = drain(&mut spool, &mut stored);
    assert_eq!((numbers.len(), lost), (120, 0));
    spool.append(package(120, 10));
    spool.commit();
    assert!(spool.usage().trouble.is_some(), "it cannot even delete");
    drop(file);
    fs::remove_file(&others).expect("is removed");
    wait_for_another_try();
    spool.append(package(121, 10));
    spool.commit();
    assert_eq!(spool.usage().trouble, None);
    spool.end();
    assert_eq!(
        drain(&mut Spool::open(&disk.spool(), 1 << 30), &mut stored).0,
        [120, 121]
    );
}

#[test]
fn a_disk_that_cannot_be_written_any_more_is_read() {
    let Some(disk) = Disk::new("32m") else { return };
    let mut spool = Spool::open(&disk.spool(), 1 << 30);
    for number in 0..10 {
        spool.append(package(number, 1_000));
    }
    spool.end();
    disk.remount(MountFlags::RDONLY, "");
    let mut spool = Spool::open(&disk.spool(), 1 << 30);
    (10..20).for_each(|number| spool.append(package(number, 1_000)));
    spool.commit();
    let trouble = spool.usage().trouble.expect("is said");
    assert!(trouble.contains("Read-only file system"), "{trouble}");
    let mut stored = Stored::new();
    assert_eq!(drain(&mut spool, &mut stored).0, (10..20).collect::<Vec<_>>());

    disk.remount(MountFlags::empty(), "");
    wait_for_another_try();
    spool.append(package(20, 1_000));
    let (numbers, _) = drain(&mut spool, &mut stored);
    assert_eq!(
        numbers,
        (0..10).chain([20]).collect::<Vec<_>>(),
        "what waits there comes when it can"
    );
}

/// What the process of the next case does until it is killed: each number that it says is committed.
#[test]
fn writer() {
    let Some(path) = env::var_os("SPOOL_TO_WRITE") else {
        return;
    };
    let mut spool = Spool::open(Path::new(&path), 1 << 30);
    for number in 0.. {
        spool.append(package(number, 3_000));
        spool.commit();
        println!("committed {number}");
    }
}

#[test]
fn what_was_committed_outlives_a_kill_at_any_point() {
    let home = tempfile::tempdir().expect("a directory");
    for round in 0..12_u32 {
        let path = home.path().join(round.to_string()).join("spool.db");
        let mut writer = Command::new(env::current_exe().expect("this program"))
            .args(["--exact", "writer", "--nocapture"])
            .env("SPOOL_TO_WRITE", &path)
            .stdout(Stdio::piped())
            .spawn()
            .expect("begins");
        let lines = BufReader::new(writer.stdout.take().expect("is piped")).lines();
        // Killed in the midst of whatever it does then.
        let mut said = lines.map_while(Result::ok).filter_map(|line| {
            line.strip_prefix("committed ")
                .and_then(|number| number.parse::<u32>().ok())
        });
        let seen = said.find(|number| *number >= round * 7).expect("says so");
        writer.kill().expect("is killed");
        let last = said.last().unwrap_or(seen);
        writer.wait().expect("ends");

        let mut spool = Spool::open(&path, 1 << 30);
        let (numbers, _) = drain(&mut spool, &mut Stored::new());
        let count = numbers.len() as u32;
        assert_eq!(numbers, (0..count).collect::<Vec<_>>());
        assert!(
            count == last + 1 || count == last + 2,
            "{count} are there, {last} was the last to be said"
        );
    }
}

#[test]
fn what_is_delivered_is_given_back_to_the_disk() {
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("spool.db");
    let mut spool = Spool::open(&path, 1 << 30);
    for number in 0..600 {
        spool.append(package(number, 100_000));
        if number % 50 == 0 {
            spool.commit();
        }
    }
    spool.commit();
    let full = fs::metadata(&path).expect("is there").len();
    drain(&mut spool, &mut Stored::new());
    spool.end();
    let empty = fs::metadata(&path).expect("is there").len();
    assert!(full > 50 << 20 && empty < full / 2, "{empty} of {full} bytes");
}
