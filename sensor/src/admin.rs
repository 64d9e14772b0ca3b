//! For those who look after the agent: whether it lives, whether it sees what it is to see, and its numbers. Plain HTTP on an address of its own,
//! without who is who: it belongs on the loopback, or where only the monitoring reaches.
//!
//! `/healthz` says that the pipeline answers: an agent whose pipeline hangs is as good as none. `/readyz` says that every signal that is wanted has a hook, and
//! that what waits for the collector is on disk; that the collector is away is no fault of this host, and in the numbers. `/metrics` has these,
//! as Prometheus reads them.

use std::{io, net::SocketAddr, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{HeaderName, StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use sensor_proto::{
    metrics::Page,
    v1::{Account, OutputStatus, Status, UplinkStatus},
};
use tokio::{net::TcpListener, time::timeout};

use crate::export::LocalService;

/// How long the pipeline may take to answer: it looks at least every 50 ms.
const PATIENCE: Duration = Duration::from_secs(5);

/// Connections are not kept: whoever looks does so seldom, and holds nothing meanwhile.
const CLOSE: (HeaderName, &str) = (header::CONNECTION, "close");

/// The page's type, as Prometheus has it.
const TEXT: (HeaderName, &str) = (header::CONTENT_TYPE, "text/plain; version=0.0.4");

/// Why nobody can look.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} ([export] admin): {cause}; name another address, or \"\" for none")]
pub struct AdminError {
    address: SocketAddr,
    cause: io::Error,
}

/// Waits for those who look.
#[derive(Debug)]
pub struct Admin(TcpListener);

impl Admin {
    /// Listens.
    ///
    /// # Errors
    /// If the address cannot be had.
    pub async fn bind(address: SocketAddr) -> Result<Self, AdminError> {
        let listener = TcpListener::bind(address).await;
        listener.map(Self).map_err(|cause| AdminError { address, cause })
    }

    /// Answers with what `service` knows, as long as it runs.
    pub async fn serve(self, service: LocalService) {
        let router = Router::new()
            .route("/healthz", get(health))
            .route("/readyz", get(readiness))
            .route("/metrics", get(metrics))
            .with_state(service);
        if let Err(error) = axum::serve(self.0, router).await {
            tracing::error!("metrics and health are not served any more: {error}");
        }
    }
}

async fn health(State(service): State<LocalService>) -> impl IntoResponse {
    verdict("alive\n", alive(&service).await)
}

async fn readiness(State(service): State<LocalService>) -> impl IntoResponse {
    let alive = alive(&service).await;
    verdict("ready\n", alive.and_then(|()| sees(&service.own_status())))
}

/// `good`, or what is wrong.
fn verdict(good: &str, result: Result<(), String>) -> impl IntoResponse + use<> {
    match result {
        Ok(()) => (StatusCode::OK, [CLOSE], good.to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, [CLOSE], why),
    }
}

async fn alive(service: &LocalService) -> Result<(), String> {
    let Some(orders) = &service.orders else {
        return Ok(());
    };
    match timeout(PATIENCE, orders.examine(|_, _| ())).await {
        Ok(Some(())) => Ok(()),
        _ => Err(format!("the pipeline has not answered within {PATIENCE:?}\n")),
    }
}

fn sees(status: &Status) -> Result<(), String> {
    let mut faults = String::new();
    for hook in status.hooks.iter().filter(|hook| hook.rung.is_empty()) {
        faults += &format!(
            "{} is not captured: no hook of it could be attached; `sensor doctor` says why\n",
            hook.signal
        );
    }
    if let Some(uplink) = status
        .uplink
        .as_ref()
        .filter(|uplink| !uplink.degraded.is_empty())
    {
        faults += &format!("what waits for the collector is in memory: {}\n", uplink.degraded);
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

async fn metrics(State(service): State<LocalService>) -> impl IntoResponse {
    ([CLOSE, TEXT], page(&service.own_status()))
}

fn page(status: &Status) -> String {
    let mut page = Page::default();
    events(&mut page, &status.accounts);
    hooks(&mut page, status);
    host(&mut page, status);
    if let Some(uplink) = &status.uplink {
        self::uplink(&mut page, uplink);
    }
    outputs(&mut page, &status.outputs);
    page.text()
}

fn events(page: &mut Page, accounts: &[Account]) {
    let name = "sensor_events_total";
    page.head(
        name,
        "Occurrences by what became of them: \"seen\" is the sum of the others once all is quiet.",
        "counter",
    );
    for account in accounts {
        for (became, count) in [
            ("seen", account.seen),
            ("delivered", account.delivered),
            ("muted", account.muted),
            ("aggregated", account.aggregated),
            ("lost", account.lost),
        ] {
            page.sample(name, &[("signal", &account.signal), ("became", became)], count);
        }
    }
}

fn hooks(page: &mut Page, status: &Status) {
    let name = "sensor_hook_refusals";
    page.head(name, "Better hooks of a signal that the kernel refused.", "gauge");
    for hook in &status.hooks {
        page.sample(name, &[("signal", &hook.signal)], hook.refused.len() as u64);
    }
    let name = "sensor_captured";
    page.head(name, "Whether a signal has a hook, or is off by choice.", "gauge");
    for hook in &status.hooks {
        page.sample(
            name,
            &[("signal", &hook.signal)],
            u64::from(!hook.rung.is_empty()),
        );
    }
}

fn host(page: &mut Page, status: &Status) {
    page.gauge("sensor_processes", "Processes that are known.", status.processes);
    page.counter("sensor_incidents_total", "Incidents opened.", status.incidents);
    page.counter(
        "sensor_late_records_total",
        "Records that came after a later one had been passed on.",
        status.late,
    );
    page.counter(
        "sensor_recursion_misses_total",
        "Runs of kernel programs that the kernel skipped.",
        status.recursion_misses,
    );
    page.gauge(
        "sensor_subscribers",
        "Programs that read the stream.",
        status.subscribers,
    );
    page.counter(
        "sensor_subscriber_dropped_entries_total",
        "Entries that they lost by being too slow.",
        status.subscriber_dropped,
    );
    page.gauge("sensor_resident_bytes", "Memory of the agent.", status.rss_bytes);
    page.gauge(
        "sensor_resident_peak_bytes",
        "The most that it was.",
        status.peak_rss_bytes,
    );
    let rules = status.rules.unwrap_or_default();
    let name = "sensor_rules";
    page.head(
        name,
        "Rules: in use, unable to match here, left out for a mistake.",
        "gauge",
    );
    for (state, count) in [
        ("active", rules.active),
        ("idle", rules.idle),
        ("faulty", rules.faults),
    ] {
        page.sample(name, &[("state", state)], count);
    }
}

fn uplink(page: &mut Page, uplink: &UplinkStatus) {
    page.gauge(
        "sensor_uplink_connected",
        "Whether the collector is reached.",
        u64::from(uplink.connected),
    );
    page.counter(
        "sensor_uplink_batches_acked_total",
        "Batches that it has.",
        uplink.batches_acked,
    );
    page.gauge(
        "sensor_uplink_batches_waiting",
        "Batches that wait for it.",
        uplink.batches_waiting,
    );
    page.gauge(
        "sensor_uplink_bytes_waiting",
        "Bytes of them.",
        uplink.bytes_waiting,
    );
    page.gauge(
        "sensor_uplink_bytes_limit",
        "Bytes that may wait.",
        uplink.bytes_limit,
    );
    page.gauge(
        "sensor_uplink_in_memory",
        "Whether they wait in memory, though they were to wait on disk.",
        u64::from(!uplink.degraded.is_empty()),
    );
    page.counter(
        "sensor_uplink_shed_entries_total",
        "Entries that were let go, since there was no room.",
        uplink.entries_shed,
    );
}

fn outputs(page: &mut Page, outputs: &[OutputStatus]) {
    if outputs.is_empty() {
        return;
    }
    let name = "sensor_output_entries_total";
    page.head(
        name,
        "Entries of other ways out, by what became of them.",
        "counter",
    );
    for output in outputs {
        for (became, count) in [
            ("delivered", output.delivered),
            ("lost", output.lost),
            ("refused", output.refused),
        ] {
            let labels = [
                ("kind", &*output.kind),
                ("target", &output.target),
                ("became", became),
            ];
            page.sample(name, &labels, count);
        }
    }
}

#[cfg(test)]
mod tests {
    use sensor_proto::v1::{Hook, RulesStatus};

    use super::*;

    fn status() -> Status {
        Status {
            accounts: vec![Account {
                signal: "exec".into(),
                seen: 7,
                delivered: 4,
                muted: 2,
                lost: 1,
                ..Account::default()
            }],
            hooks: vec![Hook {
                signal: "exec".into(),
                rung: "tp_btf/sched_process_exec".into(),
                ..Hook::default()
            }],
            rules: Some(RulesStatus {
                active: 60,
                ..RulesStatus::default()
            }),
            uplink: Some(UplinkStatus {
                connected: true,
                ..UplinkStatus::default()
            }),
            outputs: vec![OutputStatus {
                kind: "file".into(),
                target: "/var/log/a \"b\"".into(),
                delivered: 3,
                ..OutputStatus::default()
            }],
            ..Status::default()
        }
    }

    #[test]
    fn the_page_has_what_became_of_everything() {
        let page = page(&status());
        for line in [
            "sensor_events_total{signal=\"exec\",became=\"lost\"} 1",
            "sensor_captured{signal=\"exec\"} 1",
            "sensor_rules{state=\"active\"} 60",
            "sensor_uplink_connected 1",
            "sensor_output_entries_total{kind=\"file\",target=\"/var/log/a \\\"b\\\"\",became=\"delivered\"} 3",
        ] {
            assert!(page.lines().any(|other| other == line), "{line}\n{page}");
        }
    }

    #[test]
    fn who_is_blind_or_keeps_things_in_memory_is_not_ready() {
        assert_eq!(sees(&status()), Ok(()));
        let mut blind = status();
        blind.hooks[0].rung.clear();
        blind.uplink = Some(UplinkStatus {
            degraded: "the disk is full".into(),
            ..UplinkStatus::default()
        });
        assert_eq!(
            sees(&blind).unwrap_err(),
            "exec is not captured: no hook of it could be attached; `sensor doctor` says why\n\
             what waits for the collector is in memory: the disk is full\n"
        );
    }
}
