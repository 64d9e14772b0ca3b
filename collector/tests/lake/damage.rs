//! A file of the lake that cannot be read any more.

use std::{fs, path::Path};

use sensor_proto::v1::SubscribeRequest;

use crate::{
    daemon::{Daemon, get, wait},
    peer::{EACH, Peer, number},
};

/// What was on the disk is something else, but for the beginning and the end.
fn spoil(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 3;
    bytes[4..middle].fill(0xa5);
    fs::write(file, bytes).unwrap();
}

fn files_of(daemon: &Daemon, class: &str) -> Vec<std::path::PathBuf> {
    let is_of = |file: &std::path::PathBuf| {
        let text = file.to_string_lossy();
        text.ends_with(".parquet") && text.contains(&format!("class={class}"))
    };
    daemon.files().into_iter().filter(is_of).collect()
}

#[tokio::test]
async fn a_damaged_file_is_set_aside_and_the_rest_is_answered() {
    let mut daemon = Daemon::start(&["--fresh-seconds", "0"]);
    Peer::new(&daemon.url(), "web1").deliver(4).await;
    wait("files of two classes", async || {
        (daemon.files().len() >= 2).then_some(())
    })
    .await;
    wait("nothing to be fresh", async || daemon.is_settled().then_some(())).await;
    let files = |ending: &str| -> Vec<_> {
        let files = daemon.files().into_iter();
        files
            .filter(|file| file.to_string_lossy().ends_with(ending))
            .collect()
    };
    files_of(&daemon, "process").iter().for_each(|file| spoil(file));
    let answer = daemon
        .query("select count(*) as n, count(executable) as e from events")
        .unwrap();
    assert_eq!(answer, "{\"n\":160,\"e\":160}\n", "{}", daemon.messages());
    assert!(!files(".damaged").is_empty());
    assert!(
        daemon
            .messages()
            .contains("40 entries of class process are lost with it")
            || files(".damaged").len() > 1
    );
    let again = daemon
        .query("select count(*) as n, count(executable) as e from events")
        .unwrap();
    assert_eq!(again, answer);
    daemon.stop();
    daemon.start_again();
    assert_eq!(
        daemon
            .query("select count(*) as n, count(executable) as e from events")
            .unwrap(),
        answer
    );
}

/// Who follows is told how much is gone, gets all the rest, and goes on with what comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_does_not_hold_up_who_follows() {
    let daemon = Daemon::start(&["--fresh-seconds", "0", "--admin", "127.0.0.1:0"]);
    let mut peer = Peer::new(&daemon.url(), "web1");
    peer.deliver(4).await;
    wait("nothing to be fresh", async || daemon.is_settled().then_some(())).await;
    files_of(&daemon, "process").iter().for_each(|file| spoil(file));
    let mut client = daemon.client().await;
    let mut responses = client.subscribe(request_after(0)).await.unwrap().into_inner();
    let (mut numbers, mut damaged, mut reached) = (Vec::new(), 0, 0);
    let stored = [4 * EACH, 6 * EACH];
    for until in stored {
        while reached < until {
            let response = responses.message().await.unwrap().expect("goes on");
            numbers.extend(response.entries.iter().map(number));
            damaged += response.damaged;
            reached = response.position;
            assert_eq!((response.dropped, response.taken), (0, 0));
        }
        if until == stored[0] {
            peer.deliver(6).await;
        }
    }
    let left = (0..stored[1]).filter(|number| *number >= stored[0] || number % 5 != 0);
    assert_eq!(numbers, left.collect::<Vec<_>>(), "{}", daemon.messages());
    assert_eq!(damaged, 40);
    let page = get(daemon.admin(), "/metrics");
    assert!(!page.contains("sensor_lake_damaged_files_total 0"), "{page}");
    // It is off the list for who comes next, and they are told the same.
    let mut responses = client.subscribe(request_after(0)).await.unwrap().into_inner();
    let (mut damaged, mut reached) = (0, 0);
    while reached < stored[1] {
        let response = responses.message().await.unwrap().expect("goes on");
        damaged += response.damaged;
        reached = response.position;
    }
    assert_eq!(damaged, 40);
}

fn request_after(position: u64) -> SubscribeRequest {
    SubscribeRequest {
        after: Some(position),
        ..SubscribeRequest::default()
    }
}

/// Small files become large ones, though one among them cannot be read.
#[tokio::test]
async fn a_damaged_file_does_not_hold_up_compaction() {
    let daemon = Daemon::start(&["--fresh-seconds", "0"]);
    let mut peer = Peer::new(&daemon.url(), "web1");
    let mut spoiled = false;
    for count in 1..=8 {
        peer.deliver(count).await;
        wait("nothing to be fresh", async || daemon.is_settled().then_some(())).await;
        if let [first, ..] = &files_of(&daemon, "process")[..]
            && !spoiled
        {
            spoil(first);
            spoiled = true;
        }
    }
    wait("one run of eight", async || {
        daemon
            .messages()
            .contains("8 runs of 400 entries have become one")
            .then_some(())
    })
    .await;
    assert!(
        daemon
            .messages()
            .contains("10 entries of class process are lost with it"),
        "{}",
        daemon.messages()
    );
    assert_eq!(
        daemon
            .query("select count(*) as n, count(executable) as e from events")
            .unwrap(),
        "{\"n\":390,\"e\":390}\n"
    );
}

/// A question that fails says nothing about the files, and who may not read one has not found it damaged.
#[tokio::test]
async fn what_is_not_damaged_stays() {
    use std::os::unix::fs::PermissionsExt as _;

    let daemon = Daemon::start(&["--fresh-seconds", "0"]);
    Peer::new(&daemon.url(), "web1").deliver(4).await;
    wait("nothing to be fresh", async || daemon.is_settled().then_some(())).await;
    let files = daemon.files();
    daemon
        .query("select 1 / (position - position) from events")
        .expect_err("nobody divides by zero");
    for file in &files {
        fs::set_permissions(file, fs::Permissions::from_mode(0o0)).unwrap();
    }
    // Root reads it all the same.
    let _ = daemon.query("select count(executable) from events");
    for file in &files {
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    }
    assert_eq!(daemon.files(), files);
    assert!(!daemon.messages().contains("set aside"), "{}", daemon.messages());
    assert_eq!(
        daemon.query("select count(*) as n from events").unwrap(),
        "{\"n\":200}\n"
    );
}

/// However deep a question is nested: it is answered or refused, and the collector is there for the next.
#[tokio::test]
async fn a_deep_question_ends_nothing() {
    let daemon = Daemon::start(&[]);
    let chain = |length: usize| format!("select {} as n", vec!["1"; length].join("+"));
    assert_eq!(daemon.query(&chain(4_000)).unwrap(), "{\"n\":4000}\n");
    let refused = daemon.query(&chain(30_000)).expect_err("is refused");
    assert!(refused.contains("words and signs, more than 8192"), "{refused}");
    for nested in [
        format!("select {}true as n", "not ".repeat(8_000)),
        format!("select {}1{} as n", "(".repeat(4_000), ")".repeat(4_000)),
        format!(
            "select {}1{} as n",
            "case when true then ".repeat(1_500),
            " else 0 end".repeat(1_500)
        ),
    ] {
        // Whatever is said of it.
        let _ = daemon.query(&nested);
        assert_eq!(daemon.query("select 1 as n").unwrap(), "{\"n\":1}\n");
    }
}
