//! A consumer that was away.

use sensor_proto::v1::{Filter, SubscribeRequest};

use crate::{
    daemon::{Daemon, wait},
    peer::{EACH, Peer, number},
};

/// What a consumer gets until it is at `position`: numbers of entries, and how many were taken.
async fn read(daemon: &Daemon, request: SubscribeRequest, position: u64) -> (Vec<u64>, u64, u64) {
    let mut client = daemon.client().await;
    let mut responses = client.subscribe(request).await.unwrap().into_inner();
    let (mut numbers, mut taken, mut reached) = (Vec::new(), 0, 0);
    while reached < position {
        let response = responses.message().await.unwrap().expect("goes on");
        assert_eq!(response.dropped, 0);
        numbers.extend(response.entries.iter().map(number));
        taken += response.taken;
        assert!(response.position >= reached);
        reached = response.position;
    }
    (numbers, taken, reached)
}

fn after(position: u64) -> SubscribeRequest {
    SubscribeRequest {
        after: Some(position),
        ..SubscribeRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_since_comes_once_from_files_fresh_and_live() {
    let mut daemon = Daemon::start(&["--fresh-seconds", "0"]);
    Peer::new(&daemon.url(), "web1").deliver(40).await;
    wait("files", async || (!daemon.files().is_empty()).then_some(())).await;
    let mut peer = Peer::new(&daemon.url(), "web1");
    // It goes on while the consumer reads, and so does the keeper.
    let going_on = tokio::spawn(async move { peer.deliver(400).await });
    let total = 400 * EACH;
    let (first, taken, reached) = read(&daemon, after(0), total / 2).await;
    let (rest, also_taken, _) = read(&daemon, after(reached), total).await;
    going_on.await.unwrap();
    let all: Vec<u64> = first.into_iter().chain(rest).collect();
    assert_eq!(all, (0..total).collect::<Vec<_>>(), "in order, each once");
    assert_eq!(taken + also_taken, 0);

    daemon.kill();
    daemon.start_again();
    let (again, ..) = read(&daemon, after(100), total).await;
    assert_eq!(again, (100..total).collect::<Vec<_>>());
}

#[tokio::test]
async fn filters_and_expressions_select() {
    let daemon = Daemon::start(&["--fresh-seconds", "100000"]);
    Peer::new(&daemon.url(), "web1").deliver(2).await;
    let request = SubscribeRequest {
        filter: Some(Filter {
            signals: vec!["file_open".into()],
            ..Filter::default()
        }),
        expression: r#"executable == "/usr/bin/program1" && path.startsWith("/web1/")"#.into(),
        ..after(0)
    };
    let (numbers, ..) = read(&daemon, request, 2 * EACH).await;
    let expected: Vec<u64> = (0..2 * EACH)
        .filter(|number| number % 5 != 0 && number % 4 == 1)
        .collect();
    assert_eq!(numbers, expected);
    let refused = daemon
        .client()
        .await
        .subscribe(SubscribeRequest {
            expression: "executable = 1".into(),
            ..SubscribeRequest::default()
        })
        .await
        .unwrap_err();
    assert!(refused.message().contains("line 1, column"), "{refused}");
    let refused = daemon
        .client()
        .await
        .subscribe(after(1 << 40))
        .await
        .unwrap()
        .into_inner()
        .message()
        .await
        .unwrap_err();
    assert!(refused.message().contains("is not reached yet"), "{refused}");
}

#[tokio::test]
async fn what_retention_took_is_told_exactly() {
    let daemon = Daemon::start(&["--fresh-seconds", "0", "--keep-gib", "0"]);
    let mut peer = Peer::new(&daemon.url(), "web1");
    peer.deliver(4).await;
    // Stays, so that nobody misses it.
    let _there = peer.connect().await.unwrap();
    wait("retention to take all", async || {
        daemon.messages().contains("are taken").then_some(())
    })
    .await;
    let left = wait("nothing to be left", async || {
        let left = daemon.query("select count(*) as n from events").unwrap();
        (left == "{\"n\":0}\n").then_some(())
    });
    left.await;
    let (numbers, taken, reached) = read(&daemon, after(30), 4 * EACH).await;
    assert_eq!((numbers.len(), taken, reached), (0, 4 * EACH - 30, 4 * EACH));
}
