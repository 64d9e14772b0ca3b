//! Looks at the fleet once a second, and tells what there is to tell.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use sensor_proto::v1::{HostIncident, Incident, ListFleetIncidentsRequest};
use tokio::{sync::watch, time::interval};

use super::{
    Fleet, News,
    incidents::{AGENT, CLOCK, PREFIX, ended, opened},
};
use crate::writer::{WriteError, Writer};

const EVERY: Duration = Duration::from_secs(1);

/// An incident about a clock is over when it has not been moved for so long.
const CLOCK_QUIET: Duration = Duration::from_secs(900);

/// What the collector has told and is not over, by host and by what it is about.
type Open = HashMap<(String, &'static str), (Incident, Instant)>;

/// Watches until the collector stops. What was open when it last ended is taken up again.
pub async fn run(fleet: Fleet, writer: Writer, mut stopping: watch::Receiver<bool>) {
    let mut watcher = Watcher {
        fleet,
        writer,
        open: Open::new(),
        untold: VecDeque::new(),
    };
    let mut taken_up = false;
    let mut ticks = interval(EVERY);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = crate::ingest::stopped(&mut stopping) => return,
        }
        if !taken_up {
            match watcher.take_up().await {
                Ok(()) => taken_up = true,
                Err(error) => {
                    tracing::error!(
                        "hosts that should be here cannot be told from others, which is tried again: {error}"
                    );
                    continue;
                }
            }
        }
        watcher.look();
        if let Err(error) = watcher.tell().await {
            tracing::error!("what there is to say about hosts cannot be kept, and is tried again: {error}");
        }
    }
}

struct Watcher {
    fleet: Fleet,
    writer: Writer,
    open: Open,
    /// Incidents, by host, that are not stored yet: the disk may be full. A few for each host.
    untold: VecDeque<(String, Incident)>,
}

impl Watcher {
    /// Every host that has not said goodbye is expected, and what was missed already is not told again.
    async fn take_up(&mut self) -> Result<(), WriteError> {
        for host in self.writer.hosts().await? {
            if !host.stopped {
                self.fleet.expect(&host.host.name);
            }
        }
        let request = ListFleetIncidentsRequest {
            open: true,
            ..ListFleetIncidentsRequest::default()
        };
        for HostIncident { host, incident } in self.writer.incidents(request).await? {
            let Some(incident) = incident.filter(|incident| incident.id.starts_with(PREFIX)) else {
                continue;
            };
            let subject = if incident.subject == AGENT { AGENT } else { CLOCK };
            if subject == AGENT {
                self.fleet.missed(&host);
            }
            self.open.insert((host, subject), (incident, Instant::now()));
        }
        Ok(())
    }

    fn look(&mut self) {
        for news in self.fleet.news(Instant::now()) {
            if let Some((host, mut incident)) = opened(&news) {
                tracing::warn!(%host, "{}", incident.summary);
                let subject = if matches!(news, News::Gone { .. }) {
                    AGENT
                } else {
                    CLOCK
                };
                // A clock that is moved again is the same story.
                if let Some((before, _)) = self.open.get(&(host.clone(), subject)) {
                    incident.id.clone_from(&before.id);
                    incident.opened_ns = before.opened_ns;
                    incident.count = before.count + 1;
                }
                self.untold.push_back((host.clone(), incident.clone()));
                self.open.insert((host, subject), (incident, Instant::now()));
            } else if let News::Back { host } = news {
                tracing::info!(%host, "the agent is back");
                self.close((host, AGENT), "the agent is back");
            }
        }
        let quiet = |((_, subject), (_, since)): &(&(String, &str), &(Incident, Instant))| {
            *subject == CLOCK && since.elapsed() >= CLOCK_QUIET
        };
        let over: Vec<_> = self
            .open
            .iter()
            .filter(quiet)
            .map(|(key, _)| key.clone())
            .collect();
        for key in over {
            self.close(key, "the clock was not moved again");
        }
    }

    fn close(&mut self, key: (String, &'static str), why: &str) {
        if let Some((incident, _)) = self.open.remove(&key) {
            self.untold.push_back((key.0, ended(incident, why)));
        }
    }

    async fn tell(&mut self) -> Result<(), WriteError> {
        while let Some((host, incident)) = self.untold.front() {
            self.writer.tell(host.clone(), incident.clone()).await?;
            self.untold.pop_front();
        }
        Ok(())
    }
}
