use std::{
    io::Read as _,
    process::{Child, Command, Stdio},
};

use super::*;

/// A shell of this test with its descendants, which print their ids.
struct Family(Child);

impl Family {
    fn new(script: &str) -> Self {
        let mut shell = Command::new("/bin/sh");
        Self(shell.args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap())
    }

    fn id(&self) -> ProcessId {
        ProcessId {
            tgid: self.0.id(),
            start: ProcDir::open(self.0.id()).unwrap().stat().unwrap().start,
        }
    }

    /// Reads `count` lines with a process id each.
    fn pids(&mut self, count: usize) -> Vec<u32> {
        let mut text = String::new();
        let out = self.0.stdout.as_mut().unwrap();
        let mut byte = [0];
        while text.lines().count() < count || !text.ends_with('\n') {
            out.read_exact(&mut byte).unwrap();
            text.push(char::from(byte[0]));
        }
        text.lines().map(|line| line.parse().unwrap()).collect()
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn lives(tgid: u32) -> bool {
    let stat = ProcDir::open(tgid).ok().and_then(|process| process.stat());
    stat.is_some_and(|stat| !matches!(stat.state, b'Z' | b'X'))
}

#[test]
fn all_of_a_family_end_and_nobody_else() {
    let mut other = Family::new("sleep 600 & echo $!; wait");
    let stranger = other.pids(1)[0];
    let mut family =
        Family::new("for i in 1 2 3; do sh -c 'sleep 600 & echo $!; wait' & echo $!; done; wait");
    let members = family.pids(6);
    let mut expected = members.clone();
    expected.push(family.0.id());
    expected.sort_unstable();
    assert_eq!(super::family(family.id(), &[], |_, _| Ok(())).0, expected);
    let felled = fell(family.id(), &[], None, |_, _| Ok(())).unwrap();
    assert_eq!(
        (felled.ended.len(), felled.lingering, felled.failed),
        (7, 0, None)
    );
    assert!(members.into_iter().all(|member| !lives(member)));
    assert!(lives(stranger));
    fell(other.id(), &[], None, |_, _| Ok(())).unwrap();
}

#[test]
fn whoever_keeps_forking_does_not_get_away() {
    let forks = "while :; do sleep 0.01 & sleep 0.001; done";
    let mut family = Family::new(&format!("for i in 1 2 3 4; do ({forks}) & echo $!; done; wait"));
    let pids = family.pids(4);
    let felled = fell(family.id(), &[], None, |_, _| Ok(())).unwrap();
    assert!(felled.failed.is_none(), "{felled:?}");
    // Those at least; what they had forked comes on top, where it had not ended by itself.
    assert!(felled.ended.len() >= 5, "{felled:?}");
    assert!(pids.iter().all(|pid| !lives(*pid)) && !lives(family.0.id()));
}

#[test]
fn what_is_protected_is_spared_with_what_descends_from_it() {
    let mut family = Family::new("sh -c 'sleep 600 & echo $!; wait' & echo $!; wait");
    let pids = family.pids(2);
    let parent = |pid: u32| ProcDir::open(pid).unwrap().stat().unwrap().parent;
    let spared = *pids.iter().find(|pid| parent(**pid) == family.0.id()).unwrap();
    let start = ProcDir::open(spared).unwrap().stat().unwrap().start;
    let spared_id = ProcessId { tgid: spared, start };
    let below = *pids.iter().find(|pid| **pid != spared).unwrap();
    // As events tell of them; who is below was known, too.
    let known = [
        Descendant {
            id: spared_id,
            between: Vec::new(),
        },
        Descendant {
            id: ProcessId {
                tgid: below,
                start: ProcDir::open(below).unwrap().stat().unwrap().start,
            },
            between: vec![spared_id],
        },
    ];
    let allow = |tgid, _: &[u8]| match tgid == spared {
        true => Err(Refusal::Init),
        false => Ok(()),
    };
    assert_eq!(
        super::family(family.id(), &known, allow),
        (vec![family.0.id()], vec![(spared, Refusal::Init)])
    );
    let felled = fell(family.id(), &known, None, allow).unwrap();
    assert_eq!(
        (felled.ended.len(), felled.spared),
        (1, vec![(spared, Refusal::Init)])
    );
    assert!(pids.iter().all(|pid| lives(*pid)));
    let rest = fell(spared_id, &[], None, |_, _| Ok(())).unwrap();
    assert_eq!(rest.ended.len(), 2);
}

#[test]
fn a_root_that_is_another_by_now_is_gone() {
    let family = Family::new("sleep 600");
    let other = ProcessId {
        start: BootTime(1),
        ..family.id()
    };
    assert!(matches!(
        fell(other, &[], None, |_, _| Ok(())),
        Err(Missed::Gone(_))
    ));
    assert!(lives(family.0.id()));
}
