//! Looks at the fleet once a second, and tells what there is to tell.

use std::{
    collections::HashMap,
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
    let mut open = match take_up(&fleet, &writer).await {
        Ok(open) => open,
        Err(error) => {
            tracing::error!("hosts that should be here cannot be told from others: {error}");
            Open::new()
        }
    };
    let mut ticks = interval(EVERY);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = crate::ingest::stopped(&mut stopping) => return,
        }
        if let Err(error) = turn(&fleet, &writer, &mut open).await {
            tracing::error!("what there is to say about hosts cannot be kept: {error}");
        }
    }
}

/// Every host that has not said goodbye is expected, and what was missed already is not told again.
async fn take_up(fleet: &Fleet, writer: &Writer) -> Result<Open, WriteError> {
    for host in writer.hosts().await? {
        if !host.stopped {
            fleet.expect(&host.host.name);
        }
    }
    let request = ListFleetIncidentsRequest {
        open: true,
        ..ListFleetIncidentsRequest::default()
    };
    let mut open = Open::new();
    for HostIncident { host, incident } in writer.incidents(request).await? {
        let Some(incident) = incident.filter(|incident| incident.id.starts_with(PREFIX)) else {
            continue;
        };
        let subject = if incident.subject == AGENT { AGENT } else { CLOCK };
        if subject == AGENT {
            fleet.missed(&host);
        }
        open.insert((host, subject), (incident, Instant::now()));
    }
    Ok(open)
}

async fn turn(fleet: &Fleet, writer: &Writer, open: &mut Open) -> Result<(), WriteError> {
    for news in fleet.news(Instant::now()) {
        if let Some((host, incident)) = opened(&news) {
            tracing::warn!(%host, "{}", incident.summary);
            let subject = if matches!(news, News::Gone { .. }) {
                AGENT
            } else {
                CLOCK
            };
            writer.tell(host.clone(), incident.clone()).await?;
            open.insert((host, subject), (incident, Instant::now()));
        } else if let News::Back { host } = news
            && let Some((incident, _)) = open.remove(&(host.clone(), AGENT))
        {
            tracing::info!(%host, "the agent is back");
            writer.tell(host, ended(incident, "the agent is back")).await?;
        }
    }
    let quiet = |((_, subject), (_, since)): &(&(String, &str), &(Incident, Instant))| {
        *subject == CLOCK && since.elapsed() >= CLOCK_QUIET
    };
    let over: Vec<_> = open.iter().filter(quiet).map(|(key, _)| key.clone()).collect();
    for key in over {
        if let Some((incident, _)) = open.remove(&key) {
            writer
                .tell(key.0, ended(incident, "the clock was not moved again"))
                .await?;
        }
    }
    Ok(())
}
