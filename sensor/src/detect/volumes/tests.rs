use std::sync::Arc;

use insta::assert_snapshot;

use super::*;
use crate::{
    detect::testing::{operation, process},
    host::{Exec, Flow, FlowTotals, Sequence, Thread},
    time::{BootTime, WallTime},
};

/// A Monday, 00:00 UTC.
const MONDAY: u64 = 1_800_230_400;

struct Subject {
    volumes: Volumes,
    process: Arc<Process>,
    seconds: u64,
}

impl Subject {
    /// One that has been silent for so many hours.
    fn silent_for(hours: u64) -> Self {
        let mut subject = Self {
            volumes: Volumes::default(),
            process: process("unit:app.service", "/usr/bin/app", None),
            seconds: MONDAY,
        };
        let event = subject.event(Body::Exec(Exec::default()));
        subject.volumes.introduce(&event, &subject.process);
        for _ in 0..hours {
            subject.seconds += 3_600;
            assert!(subject.does(Body::Fork).is_empty());
        }
        subject
    }

    fn does(&mut self, body: Body) -> Vec<Notice> {
        let event = self.event(body);
        let mut notices = Vec::new();
        self.volumes.judge(&event, &self.process, &mut notices);
        notices
    }

    fn event(&self, body: Body) -> Event {
        Event {
            time: BootTime(self.seconds * 1_000_000_000),
            wall: WallTime(self.seconds * 1_000_000_000),
            cpu: 0,
            process: Some(Arc::clone(&self.process)),
            parent: None,
            thread: Thread::default(),
            body,
        }
    }

    fn sends(&mut self, id: u64, bytes: u64, to: &str, ends: bool) -> Vec<Notice> {
        let flow = Flow {
            id,
            local: "10.0.0.1:40000".parse().unwrap(),
            remote: to.parse().unwrap(),
            remote_name: None,
            inbound: false,
            established: true,
            listener: false,
        };
        let totals = FlowTotals {
            bytes_sent: bytes,
            ..FlowTotals::default()
        };
        self.does(if ends {
            Body::FlowClose(flow, totals)
        } else {
            Body::FlowReport(flow, totals)
        })
    }

    fn renames(&mut self, from: &str, to: &str) -> Vec<Notice> {
        let mut renamed = operation(Signal::FileRename, from);
        renamed.target = to.as_bytes().into();
        self.does(Body::Operation(Box::new(renamed)))
    }
}

#[test]
fn who_never_sent_anything_and_sends_much_is_news() {
    let mut subject = Subject::silent_for(30);
    let notices = subject.sends(1, 300 << 20, "203.0.113.9:443", true);
    let [notice] = &notices[..] else {
        panic!("{notices:?}")
    };
    assert!(notice.p_value < 1e-6, "{}", notice.p_value);
    assert_snapshot!(notice.reason, @"app.service had 300 MiB sent to other hosts in 10 minutes, where 0 is usual around 06:00 on a Tuesday and more than 0 one time in a hundred");
}

#[test]
fn a_workload_that_does_what_it_never_did_is_news_and_a_rare_branch_is_not() {
    let order = |withheld| {
        Body::Sequence(Sequence {
            calls: [1; 6],
            withheld,
        })
    };
    let mut subject = Subject::silent_for(30);
    for _ in 0..12 {
        assert!(subject.does(order(0)).is_empty());
    }
    let mut notices: Vec<Notice> = (0..30).flat_map(|_| subject.does(order(0))).collect();
    let notice = notices.pop().expect("is news");
    assert!(notice.p_value < 1e-4, "{}", notice.p_value);
    assert_snapshot!(notice.reason, @"app.service had 40 sequences of system calls that it had never made in 10 minutes, where 0 is usual around 06:00 on a Tuesday and more than 0 one time in a hundred");
    assert_eq!(
        (notice.source, &notice.techniques[..]),
        ("call sequences", &["T1203"][..])
    );
    // What the kernel programs withheld because it was too much counts too.
    assert_eq!(Subject::silent_for(30).does(order(500)).len(), 1);
}

#[test]
fn who_sends_as_much_as_always_is_none() {
    let mut subject = Subject::silent_for(0);
    for day in 0..6_u64 {
        for tenth in 0..144_u64 {
            subject.seconds = MONDAY + day * 86_400 + tenth * 600;
            let bytes = (200 + tenth * 37 % 101) << 20;
            let notices = subject.sends(tenth, bytes, "203.0.113.9:443", true);
            assert!(day == 0 || notices.is_empty(), "{notices:?}");
        }
    }
}

#[test]
fn what_stays_on_the_host_does_not_go_out() {
    let mut subject = Subject::silent_for(30);
    assert!(subject.sends(1, 1 << 40, "127.0.0.1:5432", true).is_empty());
    assert!(subject.sends(2, 1 << 40, "10.0.0.1:5432", true).is_empty());
}

#[test]
fn a_long_connection_is_counted_once() {
    let mut subject = Subject::silent_for(30);
    for mib in 1..=3 {
        subject.sends(1, mib << 20, "203.0.113.9:443", mib == 3);
    }
    let so_far = subject.volumes.rates.so_far("sent unit:app.service");
    assert_eq!(so_far.map(|judgement| judgement.value), Some(3.0));
}

#[test]
fn files_that_are_rewritten_and_renamed_are_lost_and_new_ones_are_not() {
    let mut subject = Subject::silent_for(30);
    let mut notices = Vec::new();
    for file in 0..400 {
        notices.extend(subject.renames(
            &format!("/srv/share/{file}.doc"),
            &format!("/srv/share/{file}.doc.locked"),
        ));
    }
    let last = notices.last().expect("many files are lost");
    assert!(last.p_value < 1e-4 && last.grave, "{last:?}");
    assert_snapshot!(last.reason, @"app.service had 390 files rewritten, renamed or removed in 10 minutes, where 0 is usual around 06:00 on a Tuesday and more than 0 one time in a hundred");

    let mut subject = Subject::silent_for(30);
    for file in 0..400 {
        assert!(
            subject
                .renames(&format!("/usr/bin/{file}.dpkg-new"), &format!("/usr/bin/{file}"))
                .is_empty()
        );
        let mut new = operation(Signal::FileOpen, &format!("/usr/share/{file}"));
        // O_WRONLY | O_CREAT | O_EXCL
        new.values = [0o301; 8];
        assert!(subject.does(Body::Operation(Box::new(new))).is_empty());
    }
}

#[test]
fn names_tell_whether_a_rename_finishes_a_file() {
    for (from, to, finished) in [
        ("/a/x.dpkg-new", "/a/x", true),
        ("/a/.x.swp1", "/a/x", true),
        ("/a/tmpf3k2", "/a/x.json", true),
        ("/a/x.doc", "/a/x.doc.locked", false),
        ("/a/x.doc", "/a/aGVsbG8.enc", false),
        ("/a/x", "/b/x", false),
    ] {
        assert_eq!(finishes(from.as_bytes(), to.as_bytes()), finished, "{from} {to}");
    }
}
