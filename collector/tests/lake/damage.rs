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
