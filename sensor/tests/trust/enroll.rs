//! How a host becomes known to a collector, delivers over TLS, renews its certificate and is let in no more: the agent's real ends.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use sensor::{
    enroll,
    export::{Converter, Entry, Hub, Loss, Spool, Uplink, UplinkConfig, UplinkMonitor, Users},
    time::WallTime,
};
use sensor_proto::v1::UplinkStatus;
use tokio::{task::JoinHandle, time::sleep};

use crate::world::{Collector, PATIENCE, certificate, program, security, silent};

struct Agent {
    hub: Hub,
    monitor: UplinkMonitor,
    _running: JoinHandle<()>,
}

impl Agent {
    fn start(collector: &Collector, state: &Path) -> Self {
        let hub = Hub::default();
        let converter = Converter::new("web1", Arc::new(Users::default()));
        let config = UplinkConfig {
            security: security(state),
            ..UplinkConfig::new(collector.url(), 7)
        };
        let uplink = Uplink::new(config, &hub, converter, || Spool::in_memory(16 << 20), silent())
            .expect("an address");
        Self {
            hub,
            monitor: uplink.monitor(),
            _running: tokio::spawn(uplink.run()),
        }
    }

    fn publish(&self) {
        let (from, to) = (WallTime(0), WallTime(0));
        let loss = Loss {
            stage: "ring",
            signal: None,
            count: 1,
            reason: "test",
            from,
            to,
        };
        self.hub.publish(&[Entry::Loss(loss)]);
    }

    async fn wait(&self, what: impl Fn(&UplinkStatus) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !what(&self.monitor.status()) {
            assert!(Instant::now() < until, "{:?}", self.monitor.status());
            sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_enrols_delivers_and_is_revoked() {
    let collector = Collector::start(Duration::from_secs(86_400)).await;
    let state = tempfile::tempdir().expect("a directory");
    let agent = Agent::start(&collector, state.path());
    // Who runs already uses what was enrolled from the next attempt on.
    agent
        .wait(|status| {
            status
                .last_error
                .starts_with("nobody has enrolled here: there is no ")
        })
        .await;
    let token = collector.token("agent", "web1").await;
    let printed = program(&collector, &token, state.path()).await.expect("enrols");
    assert_eq!(
        printed,
        format!(
            "enrolled as agent web1; key and certificate are in {}, valid for 1 days and then renewed\n",
            state.path().display()
        )
    );
    agent.wait(|status| status.connected).await;
    agent.publish();
    agent.wait(|status| status.batches_acked == 1).await;
    collector.revoke("web1").await;
    agent
        .wait(|status| {
            status.last_error == "it has revoked this certificate; to come back, enrol with a new token"
        })
        .await;
    let error = program(&collector, &token, state.path())
        .await
        .expect_err("was used");
    assert!(
        error.starts_with("sensor: the collector says: the token of agent web1 was used already, 2"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_said() {
    let (collector, other) = (
        Collector::start(Duration::from_secs(60)).await,
        Collector::start(Duration::from_secs(60)).await,
    );
    let state = tempfile::tempdir().expect("a directory");
    let error = program(&collector, "sensor1.00", state.path())
        .await
        .expect_err("is none");
    assert_eq!(
        error,
        "sensor: this is not a token: one reads sensor1.SECRET.FINGERPRINT; copy all of what `collector enroll` printed\n"
    );
    let token = other.token("agent", "web1").await;
    let error = program(&collector, &token, state.path())
        .await
        .expect_err("is another's");
    let expected = format!(
        "sensor: {} is not of the collector that gave the token, or somebody is between: its authority has not the token's \
         fingerprint\n",
        collector.url()
    );
    assert_eq!(error, expected);
    let token = collector.token("viewer", "bob").await;
    let error = program(&collector, &token, state.path())
        .await
        .expect_err("is no host");
    assert_eq!(
        error,
        "sensor: the token is of viewer bob, who is no host; ask for another, and enrol with --identity DIR\n"
    );
    assert!(!state.path().join("identity.pem").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_while_the_agent_delivers() {
    let collector = Collector::start(Duration::from_secs(6)).await;
    let state = tempfile::tempdir().expect("a directory");
    let token = collector.token("agent", "web1").await;
    program(&collector, &token, state.path()).await.expect("enrols");
    let first = certificate(state.path());
    let (url, place, agent) = (
        collector.url(),
        security(state.path()),
        Agent::start(&collector, state.path()),
    );
    let renewing = tokio::spawn(async move {
        enroll::keep_fresh(&url.parse().expect("an address"), &place, &silent()).await
    });
    for round in 1..=3 {
        agent.publish();
        agent.wait(|status| status.batches_acked == round).await;
        let before = certificate(state.path()).serial;
        let until = Instant::now() + PATIENCE;
        while certificate(state.path()).serial == before {
            assert!(Instant::now() < until, "it is not renewed");
            sleep(Duration::from_millis(20)).await;
        }
    }
    agent.publish();
    agent.wait(|status| status.batches_acked == 4).await;
    assert!(certificate(state.path()).ends > first.ends);
    renewing.abort();
}
