//! The models and the incidents, composed.

use std::{collections::VecDeque, num::NonZeroUsize, path::Path, sync::Arc, time::Duration};

use lru::LruCache;

use super::{
    Incident, Lineage, Origins, Severity, Signal, SubjectKind,
    dossier::{Dossiers, Notice},
    exceptions::{Exception, Exceptions, Verdict},
    incident::stable_hash,
    incidents::{Incidents, key_of},
    models::{SURPRISED, Surprising},
    normal::{Asking, Normal},
    people::People,
    reach::Reach,
    recent::Recent,
    ruled::{Found, Ruled},
    volumes::Volumes,
};
use crate::{
    config,
    export::Users,
    host::{Body, Event, Operation, Process, Tree},
    rules::RuleSet,
    time::BootTime,
};

/// How often a subject is introduced: models forget whom they have not heard of for long.
const INTRODUCED: Duration = Duration::from_secs(600);

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
    /// By what the incident is found that it belongs to.
    pub(super) key: u64,
}

/// All detection.
#[derive(Debug)]
pub struct Detector {
    pub(super) lineage: Lineage,
    pub(super) normal: Normal,
    pub(super) volumes: Volumes,
    pub(super) reach: Reach,
    pub(super) people: People,
    pub(super) dossiers: Dossiers,
    pub(super) origins: Origins,
    ruled: Ruled,
    incidents: Incidents,
    pub(super) exceptions: Exceptions,
    /// Subjects that models of how much have heard of lately.
    introduced: Recent,
    /// What was surprising of late, by subject.
    pub(super) surprises: LruCache<Box<str>, VecDeque<Surprising>>,
}

impl Detector {
    /// A detector that knows nothing yet. `host` is part of the ids of incidents.
    #[must_use]
    pub fn new(config: &config::Detect, host: &str) -> Self {
        Self {
            lineage: Lineage::new(config),
            normal: Normal::new(config),
            volumes: Volumes::default(),
            reach: Reach::default(),
            people: People::default(),
            dossiers: Dossiers::new(config),
            ruled: Ruled::default(),
            origins: Origins::default(),
            incidents: Incidents::new(host, config),
            exceptions: Exceptions::default(),
            introduced: Recent::new(INTRODUCED),
            surprises: LruCache::new(NonZeroUsize::new(SURPRISED).unwrap_or(NonZeroUsize::MIN)),
        }
    }

    /// The same, that tells users by these names where rules ask for them.
    #[must_use]
    pub fn with_users(mut self, users: Arc<Users>) -> Self {
        self.ruled.set_users(users);
        self
    }

    /// Puts rules in the place of those that it has; what may yet become a correlation is not forgotten.
    pub fn set_rules(&mut self, rules: RuleSet) {
        self.ruled.replace(rules);
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
        let suspicion = self.lineage.judge(event);
        if let Some(suspicion) = suspicion.filter(|suspicion| !self.exceptions.cover(&suspicion.signal)) {
            self.remember(&suspicion.signal);
            let key = self.dossiers.hear(&suspicion.signal, suspicion.key, processes);
            findings.signals.push(Arc::clone(&suspicion.signal));
            self.join(Suspicion { key, ..suspicion }, processes, &mut findings);
        }
        self.apply_rules(event, processes, &mut findings);
        let Some(process) = &event.process else {
            return findings;
        };
        if process.kernel_thread || SubjectKind::of(&process.workload).is_none() {
            return findings;
        }
        self.introduce(event, process);
        let mut notices = Vec::new();
        self.normal.judge(&mut Asking {
            event,
            process,
            processes,
            dossiers: &mut self.dossiers,
            notices: &mut notices,
        });
        self.volumes.judge(event, process, &mut notices);
        notices.extend(self.reach.judge(event, process));
        notices.extend(self.people.judge(event, process));
        for notice in notices {
            self.take(event, process, notice, processes, &mut findings);
        }
        findings
    }

    fn apply_rules(&mut self, event: &Arc<Event>, processes: &Tree, findings: &mut Findings) {
        for found in self.ruled.judge(event, processes) {
            self.take_found(found, processes, findings);
        }
    }

    fn take_found(&mut self, found: Found, processes: &Tree, findings: &mut Findings) {
        if self.exceptions.cover(&found.signal) {
            return;
        }
        findings.signals.push(Arc::clone(&found.signal));
        let keys = self.dossiers.keys(&found.process, processes);
        let Some(severity) = found.severity else {
            let judged = self.dossiers.take(Signal::clone(&found.signal), &keys, false);
            if let Some(suspicion) = judged.incident {
                self.join(suspicion, processes, findings);
            }
            return;
        };
        let own = key_of(&found.signal, found.signal.cause);
        let suspicion = Suspicion {
            key: self.dossiers.hear(&found.signal, own, processes),
            signal: found.signal,
            evidence: Vec::new(),
            severity,
        };
        self.join(suspicion, processes, findings);
    }

    /// From its first program on a subject is known to be silent where it is.
    fn introduce(&mut self, event: &Event, process: &Process) {
        if !matches!(event.body, Body::Exec(_)) {
            return;
        }
        let user = process.credentials.login_uid.unwrap_or(u32::MAX);
        let subject = stable_hash(&[process.workload.name.as_bytes(), &user.to_le_bytes()]);
        if !self.introduced.holds_back(subject, event.time) {
            self.volumes.introduce(event, process);
            self.reach.introduce(event, process);
        }
    }

    /// Adds what a model found to what is known of those whom it belongs to.
    fn take(
        &mut self,
        event: &Arc<Event>,
        process: &Arc<Process>,
        notice: Notice,
        processes: &Tree,
        findings: &mut Findings,
    ) {
        let keys = self.dossiers.keys(process, processes);
        let grave = notice.grave;
        let signal = notice.signal(event);
        if self.exceptions.cover(&signal) {
            self.dossiers.count(&keys, signal.source, event.time);
            return;
        }
        let judged = self.dossiers.take(signal, &keys, grave);
        if let Some(signal) = &judged.signal {
            self.remember(signal);
        }
        findings.signals.extend(judged.signal);
        if let Some(suspicion) = judged.incident {
            self.join(suspicion, processes, findings);
        }
    }

    /// An incident was none: what was found in it is normal, as far as the verdict goes. `None` where no such incident is open, or there are too many
    /// exceptions.
    pub fn except(&mut self, incident: &str, verdict: Verdict) -> Option<Exception> {
        let incident = self.incidents.get(incident)?;
        let exception = self.exceptions.add(&incident, verdict)?;
        let causes: Vec<u64> = incident.signals.iter().map(|signal| signal.cause).collect();
        self.dossiers.absolve(incident.key);
        self.normal.accept(&causes, incident.updated_boot);
        for signal in incident
            .signals
            .iter()
            .filter(|signal| signal.source == "lineage")
        {
            self.lineage.accept(&signal.event);
        }
        self.incidents.close(&incident.id);
        Some(exception)
    }

    /// The exceptions there are.
    #[must_use]
    pub fn exceptions(&self) -> &[Exception] {
        self.exceptions.list()
    }

    /// Takes an exception back; whether it was there. What was learned by it stays learned until it is forgotten.
    pub fn remove_exception(&mut self, id: &str) -> bool {
        self.exceptions.remove(id)
    }

    /// Whether this state of an incident is to be told at once; if not, [`untold`](Self::untold) has it.
    pub fn is_news(&mut self, incident: &Incident) -> bool {
        self.incidents.is_news(incident)
    }

    /// Incidents of which more of the same was seen since they were told. To be asked for about once a second, and at the end.
    pub fn untold(&mut self) -> Vec<Arc<Incident>> {
        self.incidents.untold()
    }

    /// Opens an incident of the host's own, or adds to it: `reason` became clear while something was done about `incident`.
    pub fn raise(&mut self, incident: &Incident, reason: String, processes: &Tree) -> Option<Arc<Incident>> {
        let last = incident.signals.last()?;
        let signal = Arc::new(Signal {
            subject: "host".into(),
            source: "response",
            p_value: last.p_value,
            reasons: vec![reason],
            techniques: Vec::new(),
            cause: stable_hash(&[b"response"]),
            rule: None,
            event: Arc::clone(&last.event),
        });
        self.enter_own(signal, processes)
    }

    /// Opens an incident of the host's own, or adds to it: somebody did something to the agent, `own`. `what` tells one such thing from another.
    pub fn complain(
        &mut self,
        own: &Arc<Process>,
        what: &str,
        reason: String,
        processes: &Tree,
    ) -> Option<Arc<Incident>> {
        let event = Event::found_out(own, Operation::detached(what)?);
        let signal = Arc::new(Signal {
            subject: "host".into(),
            source: "self",
            p_value: 1e-6,
            reasons: vec![reason],
            techniques: vec!["T1562.001".into()],
            cause: stable_hash(&[b"self", what.as_bytes()]),
            rule: None,
            event: Arc::new(event),
        });
        self.enter_own(signal, processes)
    }

    /// The kernel has denied `process` to run what a rule names by its `path`: found as if it had run. Nothing is to be done to who tried.
    pub fn denied(&mut self, process: &Arc<Process>, path: &Path, processes: &Tree) -> Findings {
        let mut findings = Findings::default();
        if let Some(found) = self.ruled.denied(process, path) {
            self.take_found(found, processes, &mut findings);
        }
        findings
    }

    /// What is the host's own is bad, and needs no further evidence.
    fn enter_own(&mut self, signal: Arc<Signal>, processes: &Tree) -> Option<Arc<Incident>> {
        let suspicion = Suspicion {
            key: key_of(&signal, signal.cause),
            signal,
            evidence: Vec::new(),
            severity: Severity::High,
        };
        self.enter(suspicion, processes)
    }

    /// Opens the incident, or adds to the one that is open. What is open on the same process tree, login session and user turns out to be one.
    fn enter(&mut self, mut suspicion: Suspicion, processes: &Tree) -> Option<Arc<Incident>> {
        let event = Arc::clone(&suspicion.signal.event);
        if let Some(process) = &event.process {
            let keys = self.dossiers.keys(process, processes);
            for other in self.dossiers.open_on(&keys, event.time) {
                if other != suspicion.key
                    && let Some(one) = self.incidents.merge([suspicion.key, other])
                {
                    self.dossiers.rename([suspicion.key, other], one);
                    suspicion.key = one;
                }
            }
        }
        let Self {
            origins, incidents, ..
        } = self;
        let behind = |process: &Arc<Process>| origins.behind(&event, process, processes);
        let incident = incidents.join(&suspicion, processes, behind)?;
        if incident.key != suspicion.key {
            self.dossiers.rename([suspicion.key; 2], incident.key);
        }
        Some(incident)
    }

    /// Goes on with the incidents that were open when an agent before this one ended, the one that grew the longest ago first.
    pub fn reopen(&mut self, incidents: Vec<Incident>, processes: &Tree) {
        for incident in incidents {
            self.dossiers.reopen(&incident, processes);
            self.incidents.resume(incident);
        }
    }

    /// Ends incidents of which nothing was seen for long. To be called about once a second.
    pub fn settle(&mut self, now: BootTime) {
        self.incidents.settle(now);
    }

    /// Somebody has looked at an incident: what comes next of the same is another. Whether it was open.
    pub fn close(&mut self, id: &str) -> bool {
        let Some(incident) = self.incidents.get(id) else {
            return false;
        };
        self.dossiers.absolve(incident.key);
        self.incidents.close(id);
        true
    }

    fn join(&mut self, suspicion: Suspicion, processes: &Tree, findings: &mut Findings) {
        let Some(incident) = self.enter(suspicion, processes) else {
            return;
        };
        // Several opinions of one event are one entry, and one response.
        let mut opened = findings.incidents.iter_mut();
        match opened.find(|other| other.id == incident.id) {
            Some(other) => *other = incident,
            None => findings.incidents.push(incident),
        }
    }
}
