//! What a bus does when all is not well.

use std::{sync::Arc, time::Duration};

use collector::{
    bus::{Bus, BusError, Mark, Parcel, nats::Nats},
    lake::shared::{Catalogue, Place},
    loader::{Gathering, Loader},
    session::StreamId,
};
use prost::Message as _;
use sensor_proto::Compressor;
use tokio::sync::watch;

use crate::{daemon::wait, peer::Peer, servers::Servers};

/// A batch of a host, as it is on the bus.
pub fn parcel(host: &str, sequence: u64) -> Parcel {
    let batch = Peer::new("", host).batch(sequence);
    let body = Compressor::new()
        .unwrap()
        .compress(&batch.encode_to_vec())
        .unwrap();
    Parcel {
        stream: StreamId {
            host: host.to_owned(),
            epoch: 7,
        },
        sequence,
        body,
    }
}

#[tokio::test]
async fn only_who_knows_the_last_batch_adds_the_next() {
    let Some(servers) = Servers::start(1) else { return };
    let bus = Nats::connect(&servers.config(1 << 20)).await.unwrap();
    let (first, second, third) = (parcel("a.b", 1), parcel("a.b", 2), parcel("a.b", 3));
    assert_eq!(bus.last(&first.stream).await, Ok(None));
    let one = bus.publish(&first, Mark(0)).await.unwrap();
    let two = bus.publish(&second, one).await.unwrap();
    assert_eq!(
        bus.publish(&third, one).await,
        Err(BusError::Overtaken),
        "somebody was faster"
    );
    let last = bus.last(&first.stream).await.unwrap().unwrap();
    assert_eq!((last.sequence, last.mark), (2, two));
    // The same again, as when an answer was lost.
    assert_eq!(bus.publish(&second, one).await, Ok(two));
    let other = parcel("a_2eb", 1);
    bus.publish(&other, Mark(0)).await.unwrap();
    assert_eq!(bus.waiting().await, Ok(3));

    let pulled = bus.pull(10, Duration::from_millis(500)).await.unwrap();
    let found: Vec<_> = pulled
        .iter()
        .map(|pulled| pulled.parcel.clone().unwrap())
        .collect();
    assert_eq!(found, [first, second.clone(), other]);
    for pulled in pulled {
        pulled.receipt.done().await.unwrap();
    }
    wait("the bus to be empty", async || {
        (bus.waiting().await == Ok(0)).then_some(())
    })
    .await;
    assert_eq!(bus.last(&second.stream).await, Ok(None));
}

#[tokio::test]
async fn a_full_bus_refuses_and_loses_nothing() {
    let Some(servers) = Servers::start(1) else { return };
    let bus = Nats::connect(&servers.config(16 << 10)).await.unwrap();
    let (mut after, mut sequence) = (Mark(0), 0);
    let error = loop {
        match bus.publish(&parcel("web1", sequence + 1), after).await {
            Ok(mark) => (after, sequence) = (mark, sequence + 1),
            Err(error) => break error,
        }
        assert!(sequence < 1000, "it takes everything");
    };
    assert!(
        matches!(&error, BusError::Refused(cause) if cause.contains("maximum")),
        "{error}"
    );
    assert!(sequence > 1);
    assert_eq!(bus.waiting().await, Ok(sequence));
}

#[tokio::test]
async fn a_bus_that_is_away_is_named_with_what_to_do() {
    let Some(servers) = Servers::start(1) else { return };
    let mut config = servers.config(1 << 20);
    config.urls = "nats://127.0.0.1:1".to_owned();
    let error = Nats::connect(&config).await.unwrap_err().to_string();
    assert!(
        error.starts_with("bus nats://127.0.0.1:1: cannot connect: ")
            && error.contains("see that a server is there"),
        "{error}"
    );
}

#[tokio::test]
async fn what_is_no_batch_is_put_aside_and_stops_nobody() {
    let Some(servers) = Servers::start(1) else { return };
    let bus = Arc::new(Nats::connect(&servers.config(1 << 20)).await.unwrap());
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", folder.path().join("lake").display());
    let catalogue = Arc::new(Catalogue::open(Place::at(&url).unwrap()).await.unwrap());
    let odd = Parcel {
        body: prost::bytes::Bytes::from_static(b"no batch"),
        ..parcel("web1", 1)
    };
    let mark = bus.publish(&odd, Mark(0)).await.unwrap();
    bus.publish(&parcel("web1", 2), mark).await.unwrap();
    let gathering = Gathering {
        within: Duration::from_millis(100),
        ..Gathering::default()
    };
    let loader = Loader::new(
        Arc::clone(&bus) as Arc<dyn Bus>,
        Arc::clone(&catalogue),
        gathering,
    );
    let (stop, stopping) = watch::channel(false);
    let loading = tokio::spawn(loader.run(stopping));
    wait("the bus to be empty", async || {
        (bus.waiting().await == Ok(0)).then_some(())
    })
    .await;
    stop.send_replace(true);
    loading.await.unwrap();
    let rows: u64 = catalogue
        .files()
        .await
        .unwrap()
        .iter()
        .map(|file| file.rows)
        .sum();
    assert_eq!(rows, crate::peer::EACH);
    let aside = std::fs::read_dir(folder.path().join("lake/aside")).unwrap();
    let aside: Vec<_> = aside
        .map(|file| std::fs::read(file.unwrap().path()).unwrap())
        .collect();
    assert_eq!(aside, [b"no batch"]);
}
