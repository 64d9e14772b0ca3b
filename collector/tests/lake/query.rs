//! Questions.

use sensor_proto::v1::{QueryFormat, QueryRequest};

use crate::{
    daemon::{Daemon, command, wait},
    peer::{EACH, Peer},
};

#[tokio::test]
async fn questions_are_answered_from_files_and_from_what_is_fresh() {
    let mut daemon = Daemon::start(&["--fresh-seconds", "0"]);
    Peer::new(&daemon.url(), "web1").deliver(4).await;
    wait("a file", async || (!daemon.files().is_empty()).then_some(())).await;
    wait("nothing to be fresh", async || daemon.is_settled().then_some(())).await;
    daemon.stop();

    let mut daemon = restart_without_keeping(daemon);
    Peer::new(&daemon.url(), "web2").deliver(2).await;
    let ask = |sql: &str| daemon.query(sql).unwrap_or_else(|error| error);
    insta::assert_snapshot!(ask("select host, class, count(*) as n, min(position) as first from events group by host, class order by host, class"), @r#"
    {"host":"web1","class":"file","n":160,"first":2}
    {"host":"web1","class":"process","n":40,"first":1}
    {"host":"web2","class":"file","n":80,"first":202}
    {"host":"web2","class":"process","n":20,"first":201}
    "#);
    insta::assert_snapshot!(ask("select position, process, executable, arguments, thread, signal, path, filename, uid, user_name from events where host = 'web1' and position in (1, 2) order by position"), @r#"
    {"position":1,"process":"109@1000009","executable":"/usr/bin/program9","arguments":"web1 exec-0","thread":"worker","signal":"exec","filename":"0","uid":0,"user_name":"root"}
    {"position":2,"process":"101@1000001","executable":"/usr/bin/program1","arguments":"web1 1","thread":"worker","signal":"file_open","path":"/web1/1","uid":0,"user_name":"root"}
    "#);
    insta::assert_snapshot!(ask("select count(*) as n from events where process = '101@1000001' and host = 'web2'"), @r#"{"n":20}"#);
    insta::assert_snapshot!(ask("select count(*) as n from events a join events b on a.position = b.position where a.class = 'process'"), @r#"{"n":60}"#);
    insta::assert_snapshot!(ask("select count(*) as n from events where day = current_date and time > '2026-01-01'"), @r#"{"n":300}"#);
    daemon.stop();
    assert_eq!(
        daemon.query_offline("select count(*) as n from events").unwrap(),
        "{\"n\":300}\n"
    );
}

/// The same data, with a keeper that has nothing to do.
fn restart_without_keeping(daemon: Daemon) -> Daemon {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::rename(daemon.data(), &data).unwrap();
    drop(daemon);
    Daemon::start_in(folder, data, &["--fresh-seconds", "100000"])
}

#[tokio::test]
async fn nothing_can_be_changed_or_read_elsewhere() {
    let daemon = Daemon::start(&[]);
    for sql in [
        "create table x as select 1",
        "insert into events select * from events",
        "drop table events",
        "copy (select 1) to '/tmp/x.csv'",
        "create external table x stored as parquet location '/etc/passwd'",
        "set datafusion.execution.batch_size = 1",
        "select * from '/etc/passwd'",
        "select * from nothing",
        "select nothing from events",
        "selec 1",
        "select 1; select 2",
        "",
    ] {
        let error = daemon.query(sql).expect_err(sql);
        assert!(
            !error.contains("panicked") && error.starts_with("collector: "),
            "{sql}: {error}"
        );
    }
    assert_eq!(daemon.query("select 1 as x").unwrap(), "{\"x\":1}\n");
}

#[tokio::test]
async fn answers_have_limits_and_formats() {
    let daemon = Daemon::start(&["--fresh-seconds", "100000"]);
    Peer::new(&daemon.url(), "web1").deliver(2).await;
    let request = |format: QueryFormat| QueryRequest {
        sql: "select position from events order by position".to_owned(),
        format: format.into(),
        rows_max: 3,
    };
    let mut client = daemon.client().await;
    let mut answer = client
        .query(request(QueryFormat::Json))
        .await
        .unwrap()
        .into_inner();
    let (mut text, mut last) = (String::new(), None);
    while let Some(response) = answer.message().await.unwrap() {
        text.push_str(&response.json);
        last = Some(response);
    }
    let last = last.unwrap();
    assert_eq!(text, "{\"position\":1}\n{\"position\":2}\n{\"position\":3}\n");
    assert_eq!((last.rows, last.cut), (3, true));
    assert_eq!(2 * EACH, 100);
    let table = command(&[
        "query",
        "--collector",
        &daemon.url(),
        "select position, thread, signal from events order by 1 limit 2",
    ]);
    insta::assert_snapshot!(table.unwrap(), @r"
    position  thread  signal
    1         worker  exec
    2         worker  file_open
    ");
}

/// A question that would go on without end, and one that would need more memory than there is: each is told why it ends, and who asks next is
/// answered as if nothing had been.
#[tokio::test]
async fn what_takes_too_long_or_too_much_ends_and_nothing_else_does() {
    let daemon = Daemon::start(&["--query-seconds", "3", "--query-mib", "8"]);
    Peer::new(&daemon.url(), "web1").deliver(40).await;
    let fits = || {
        assert_eq!(
            daemon.query("select count(*) as n from events").unwrap(),
            "{\"n\":2000}\n"
        )
    };
    fits();
    let endless = "with recursive t(n) as (select 1 as n union all select n + 1 from t where n > 0) select count(*) from t";
    let error = daemon.query(endless).expect_err("takes too long");
    assert!(
        error.contains("the query took longer than 3s; ask about fewer days"),
        "{error}"
    );
    fits();
    // What is gathered into an array does not go to disk.
    let large = "select array_agg(x) as all_of_it from (select concat(repeat('x', 1000), value) as x from generate_series(1, 2000000))";
    let error = daemon.query(large).expect_err("needs too much");
    assert!(
        error.contains("the query needs more memory than it may have"),
        "{error}"
    );
    fits();
    let ended: Vec<_> = (0..4).map(|_| daemon.query(large)).collect();
    assert!(ended.iter().all(Result::is_err));
    assert!(daemon.memory() < 700 << 10, "{} KiB", daemon.memory());
    fits();
}
