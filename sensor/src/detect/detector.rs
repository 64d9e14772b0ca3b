//! The models and the incidents, composed.

use std::sync::Arc;

use super::{Incident, Incidents, Lineage, Origins, Severity, Signal, normal::Normal};
use crate::{
    config,
    host::{Event, Process, Tree},
    time::BootTime,
};

/// What an event gave rise to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    /// Opinions.
    pub signals: Vec<Arc<Signal>>,
    /// Incidents that were opened or have grown.
    pub incidents: Vec<Arc<Incident>>,
}

/// A signal with what an incident needs beside it.
#[derive(Clone, Debug)]
pub(super) struct Suspicion {
    pub(super) signal: Arc<Signal>,
    /// What came before it and belongs to it.
    pub(super) evidence: Vec<Arc<Signal>>,
    pub(super) severity: Severity,
    /// What makes two of them the same.
    pub(super) cause: u64,
}

/// All detection.
#[derive(Debug)]
pub struct Detector {
    lineage: Lineage,
    normal: Normal,
    origins: Origins,
    incidents: Incidents,
}

impl Detector {
    /// A detector that knows nothing yet. `host` is part of the ids of incidents.
    #[must_use]
    pub fn new(config: &config::Detect, host: &str) -> Self {
        Self {
            lineage: Lineage::new(config),
            normal: Normal::new(config),
            origins: Origins::default(),
            incidents: Incidents::new(host, config),
        }
    }

    /// Learns from what runs already, so that a service that was started before the agent, and never starts anything,
    /// has a beginning from which its time of learning counts.
    pub fn seed(&mut self, processes: &Tree, now: BootTime) {
        let mut running: Vec<&Arc<Process>> = processes.iter().collect();
        running.sort_unstable_by_key(|process| (process.id.start, process.id.tgid));
        for process in running {
            let parent = process.parent.and_then(|parent| processes.get(parent));
            self.lineage.seed(process, parent.map(|parent| &**parent), now);
        }
    }

    /// What there is to say of `event`, which `processes` has taken note of.
    pub fn detect(&mut self, event: &Arc<Event>, processes: &Tree) -> Findings {
        self.origins.note(event);
        let mut findings = Findings::default();
        if let Some(suspicion) = self.lineage.judge(event) {
            self.normal.hear(&suspicion.signal, suspicion.cause, processes);
            findings.signals.push(Arc::clone(&suspicion.signal));
            self.join(suspicion, processes, &mut findings);
        }
        let judged = self.normal.judge(event, processes);
        findings.signals.extend(judged.signal);
        if let Some(suspicion) = judged.incident {
            self.join(suspicion, processes, &mut findings);
        }
        findings
    }

    fn join(&mut self, suspicion: Suspicion, processes: &Tree, findings: &mut Findings) {
        let Self {
            origins, incidents, ..
        } = self;
        let incident = incidents.join(suspicion, |process| origins.of(process, processes));
        findings.incidents.extend(incident);
    }
}
