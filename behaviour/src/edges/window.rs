//! What happened in the window under way.

use std::collections::BTreeSet;

use super::{Attempt, Burst};

/// Edges of a window that are told apart.
const EDGES: usize = 64;

/// New edges that are counted once beyond those; what comes after that is counted each time.
const OTHERS: usize = 1_024;

/// Longest name of a target that is kept.
const NAME_MAX: usize = 64;

/// New edges that a burst lists.
const EXAMPLES: usize = 3;

/// Ports through which a host is administered or its files are reached: ssh, telnet, rpc, smb, rdp, winrm, vnc, docker, kubelet.
const ADMINISTRATION: [u16; 11] = [22, 23, 111, 445, 2049, 2375, 3389, 5900, 5985, 5986, 10_250];

/// What a burst looks like, in the words of MITRE ATT&CK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Many attempts on one edge failed (T1110).
    BruteForce,
    /// Many ports of few targets (T1046).
    PortScan,
    /// Many targets, most of which did not answer (T1018).
    Sweep,
    /// New targets, reached where hosts are administered (T1021).
    LateralMovement,
    /// Many new targets.
    FanOut,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum New {
    Known,
    Unknown,
}

#[derive(Clone, Debug)]
struct Edge {
    key: u64,
    new: bool,
    target: Box<[u8]>,
    port: u16,
    attempts: u32,
    failures: u32,
    /// It went through after it had failed.
    recovered: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) number: u64,
    pub(super) new: u32,
    pub(super) failures: u32,
    pub(super) attempts: u32,
    edges: Vec<Edge>,
    /// New edges beyond those that are told apart: they are counted once as well.
    others: BTreeSet<u64>,
    /// New edges and failures when the window was last looked at as a whole.
    looked_at: u32,
}

impl Window {
    pub(super) const MAX_BYTES: usize =
        EDGES * (size_of::<Edge>() + NAME_MAX + 16) + 2 * OTHERS * size_of::<u64>();

    pub(super) fn new(number: u64) -> Self {
        Self {
            number,
            new: 0,
            failures: 0,
            attempts: 0,
            edges: Vec::new(),
            others: BTreeSet::new(),
            looked_at: 0,
        }
    }

    /// Whether there is enough that is new since it was last looked at as a whole, which costs more than to count. Where there is little, all of
    /// it is.
    pub(super) fn is_due(&mut self) -> bool {
        let now = self.new.saturating_add(self.failures);
        let due = now < 4 * EDGES as u32 || now - self.looked_at > self.looked_at / 8;
        if due {
            self.looked_at = now;
        }
        due
    }

    /// Whether it says anything: it was a new edge, or failed, or went through where others had failed.
    pub(super) fn add(&mut self, attempt: &Attempt<'_>, key: u64, new: New) -> bool {
        let failed = u32::from(attempt.failed);
        self.attempts = self.attempts.saturating_add(1);
        self.failures = self.failures.saturating_add(failed);
        if let Some(edge) = self.edges.iter_mut().find(|edge| edge.key == key) {
            let recovers = !attempt.failed && edge.failures > 0 && !edge.recovered;
            edge.attempts = edge.attempts.saturating_add(1);
            edge.failures = edge.failures.saturating_add(failed);
            edge.recovered |= recovers;
            return attempt.failed || recovers;
        }
        let known_by_now = self.edges.len() >= EDGES && self.others.contains(&key);
        let new = new == New::Unknown && !known_by_now;
        if !new && !attempt.failed {
            return false;
        }
        if new && self.edges.len() >= EDGES && self.others.len() < OTHERS {
            self.others.insert(key);
        }
        self.new = self.new.saturating_add(u32::from(new));
        if self.edges.len() < EDGES {
            self.edges.push(Edge {
                key,
                new,
                target: attempt.target[..attempt.target.len().min(NAME_MAX)].into(),
                port: attempt.port,
                attempts: 1,
                failures: failed,
                recovered: false,
            });
        }
        true
    }

    /// An attempt that was added has failed.
    pub(super) fn fail(&mut self, attempt: &Attempt<'_>, key: u64) {
        self.failures = self.failures.saturating_add(1);
        if let Some(edge) = self.edges.iter_mut().find(|edge| edge.key == key) {
            edge.failures = edge.failures.saturating_add(1);
        } else if self.edges.len() < EDGES {
            self.edges.push(Edge {
                key,
                new: false,
                target: attempt.target[..attempt.target.len().min(NAME_MAX)].into(),
                port: attempt.port,
                attempts: 1,
                failures: 1,
                recovered: false,
            });
        }
    }

    /// Of the new edges that were told apart.
    pub(super) fn keys(&self) -> impl Iterator<Item = u64> {
        self.new_edges().map(|edge| edge.key)
    }

    pub(super) fn kind(&self, failures_decide: bool) -> Kind {
        let worst = self.worst();
        let many = |edge: &Edge| 2 * edge.failures >= self.failures && edge.failures > 2;
        if failures_decide && worst.is_some_and(many) {
            return Kind::BruteForce;
        }
        let (targets, ports) = self.spread();
        if ports > 2 && ports > 2 * targets {
            return Kind::PortScan;
        }
        let (mut silent, mut reached, mut number) = (0, 0, 0);
        for edge in self.new_edges() {
            let through = edge.failures < edge.attempts;
            silent += usize::from(!through);
            reached += usize::from(through && ADMINISTRATION.contains(&edge.port));
            number += 1;
        }
        if number > 2 && 2 * silent >= number {
            Kind::Sweep
        } else if 2 * reached >= number.max(1) {
            Kind::LateralMovement
        } else {
            Kind::FanOut
        }
    }

    pub(super) fn describe(&self, burst: &mut Burst) {
        (burst.targets, burst.ports) = self.spread();
        let worst = self.worst().filter(|_| burst.kind == Kind::BruteForce);
        let name = |edge: &Edge| (edge.target.clone(), edge.port);
        burst.examples = match worst {
            Some(worst) => vec![name(worst)],
            None => self.new_edges().take(EXAMPLES).map(name).collect(),
        };
        burst.succeeded = worst.is_some_and(|edge| edge.recovered);
    }

    fn new_edges(&self) -> impl Iterator<Item = &Edge> {
        self.edges.iter().filter(|edge| edge.new)
    }

    fn worst(&self) -> Option<&Edge> {
        // The first of those that failed as often.
        self.edges.iter().rev().max_by_key(|edge| edge.failures)
    }

    /// Different targets and ports of new edges.
    fn spread(&self) -> (usize, usize) {
        let mut targets: Vec<&[u8]> = self.new_edges().map(|edge| &*edge.target).collect();
        targets.sort_unstable();
        targets.dedup();
        let mut ports: Vec<u16> = self.new_edges().map(|edge| edge.port).collect();
        ports.sort_unstable();
        ports.dedup();
        (targets.len(), ports.len())
    }
}
