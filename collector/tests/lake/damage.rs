//! A file of the lake that cannot be read any more.

use std::fs;

use crate::{
    daemon::{Daemon, wait},
    peer::Peer,
};

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
    for file in files(".parquet")
        .into_iter()
        .filter(|file| file.to_string_lossy().contains("class=process"))
    {
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 3;
        bytes[4..middle].fill(0xa5);
        fs::write(&file, bytes).unwrap();
    }
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
