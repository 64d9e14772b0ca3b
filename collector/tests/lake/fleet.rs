//! Who is there, and who is missed.

use prost::Message as _;
use sensor_proto::v1::{
    Entry, Event, HostState, ListFleetIncidentsRequest, ListHostsRequest, Severity, deliver_request::Frame,
    entry,
};

use crate::{
    daemon::{Daemon, command, wait},
    peer::{Peer, frame},
};

async fn states(daemon: &Daemon) -> Vec<(String, HostState)> {
    let hosts = daemon
        .client()
        .await
        .list_hosts(ListHostsRequest {})
        .await
        .unwrap()
        .into_inner()
        .hosts;
    hosts
        .into_iter()
        .map(|host| (host.name.clone(), host.state()))
        .collect()
}

/// Host, severity and whether it is over of every incident, the oldest first.
async fn incidents(daemon: &Daemon) -> Vec<(String, Severity, bool)> {
    let request = ListFleetIncidentsRequest::default();
    let list = daemon
        .client()
        .await
        .list_fleet_incidents(request)
        .await
        .unwrap()
        .into_inner()
        .incidents;
    let told = list.into_iter().rev().map(|found| {
        let incident = found.incident.unwrap();
        (found.host, incident.severity(), incident.ended.is_some())
    });
    told.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_gone_is_missed_and_how_is_told_apart() {
    let mut daemon = Daemon::start(&["--fresh-seconds", "0"]);
    // Ends its stream; is cut off; stays.
    Peer::new(&daemon.url(), "stopped").deliver(1).await;
    let cut_off = runtime_of_its_own(Peer::new(&daemon.url(), "killed"));
    let mut staying = Peer::new(&daemon.url(), "staying");
    let stream = staying.connect().await.unwrap();
    wait("all to be there", async || {
        (states(&daemon).await.len() == 3).then_some(())
    })
    .await;
    cut_off.shutdown_background();

    let missed = wait("both to be missed", async || {
        let found = incidents(&daemon).await;
        (found.len() == 2).then_some(found)
    });
    let mut missed = missed.await;
    missed.sort_by(|left, right| left.0.cmp(&right.0));
    assert_eq!(
        missed,
        [
            ("killed".into(), Severity::High, false),
            ("stopped".into(), Severity::Low, false)
        ]
    );
    assert_eq!(
        states(&daemon).await,
        [
            ("killed".into(), HostState::Silent),
            ("stopped".into(), HostState::Stopped),
            ("staying".into(), HostState::Alive)
        ]
        .into_iter()
        .collect::<std::collections::BTreeMap<_, _>>()
        .into_iter()
        .collect::<Vec<_>>()
    );

    // The collector is started again: nobody is missed twice, and who does not come back is.
    daemon.kill();
    drop(stream);
    daemon.start_again();
    let mut killed = Peer::new(&daemon.url(), "killed");
    let _back = killed.connect().await.unwrap();
    wait("one to be back and another to be missed", async || {
        let found = incidents(&daemon).await;
        let is = |host: &str, over: bool| {
            found
                .iter()
                .any(|(name, _, ended)| name == host && *ended == over)
        };
        (found.len() == 3 && is("killed", true) && is("staying", false) && is("stopped", false)).then_some(())
    })
    .await;
    let text = command(&[
        "incidents",
        "--collector",
        &daemon.url(),
        "--open",
        "--severity",
        "high",
    ])
    .unwrap();
    assert!(
        text.contains("staying") && !text.contains("stopped") && !text.contains("killed  "),
        "{text}"
    );
    let text = command(&["hosts", "--collector", &daemon.url()]).unwrap();
    assert!(
        text.contains("killed   alive") && text.contains("stopped  stopped"),
        "{text}"
    );
    // They are in the stream and in the lake as well.
    let told = daemon.query("select host, severity, count(*) as n from events where class = 'incident' group by host, severity order by host").unwrap();
    insta::assert_snapshot!(told, @r#"
    {"host":"killed","severity":"high","n":2}
    {"host":"staying","severity":"high","n":1}
    {"host":"stopped","severity":"low","n":1}
    "#);
}

/// A connection that can be dropped with all that belongs to it, as the end of a process does.
fn runtime_of_its_own(mut peer: Peer) -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.spawn(async move {
        let _stream = peer.connect().await.unwrap();
        std::future::pending::<()>().await;
    });
    runtime
}

#[tokio::test]
async fn a_clock_that_was_moved_is_an_incident() {
    const SECOND: u64 = 1_000_000_000;
    let daemon = Daemon::start(&[]);
    let mut peer = Peer::new(&daemon.url(), "web1");
    let stream = peer.connect().await.unwrap();
    for (sequence, time) in [(1, 1000), (2, 9000)] {
        let mut batch = peer.batch(sequence);
        batch.entries = vec![Entry {
            host: String::new(),
            body: Some(entry::Body::Event(Event {
                boot_time_ns: sequence * SECOND,
                time_ns: time * SECOND,
                ..Event::default()
            })),
        }];
        stream
            .frames
            .send(frame(Frame::Batch(batch.encode_to_vec().into())))
            .await
            .unwrap();
    }
    wait("the incident", async || {
        (!incidents(&daemon).await.is_empty()).then_some(())
    })
    .await;
    assert_eq!(
        incidents(&daemon).await,
        [("web1".into(), Severity::Medium, false)]
    );
    assert_eq!(states(&daemon).await, [("web1".into(), HostState::Degraded)]);
}
