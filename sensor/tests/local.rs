//! The agent's own service, over its socket.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use sensor::{
    cli::{
        Output,
        connect::SocketArgs,
        events::{self, EventsArgs},
        status::{self, StatusArgs},
    },
    export::{
        Converter, Entry, Hub, LocalServer, LocalService, Loss, OutputMonitor, Users, local::LocalError,
    },
    time::WallTime,
};
use sensor_proto::v1::{Filter, GetStatusRequest, Status, SubscribeRequest, agent_client::AgentClient};
use tokio::{net::UnixStream, task::JoinHandle, time::timeout};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

const PATIENCE: Duration = Duration::from_secs(30);

fn start(path: &Path) -> (Hub, JoinHandle<Result<(), LocalError>>) {
    let hub = Hub::default();
    let service = LocalService {
        hub: hub.clone(),
        converter: Converter::new("web1", Arc::new(Users::default())),
        status: Arc::new(|| Status {
            host: "web1".into(),
            ..Status::default()
        }),
        uplink: None,
        outputs: OutputMonitor::default(),
        reloader: None,
        orders: None,
        book: None,
        heard: Arc::default(),
    };
    let server = LocalServer::bind(path).expect("binds");
    (hub, tokio::spawn(server.serve(service)))
}

async fn connect(path: &Path) -> Channel {
    let path = path.to_owned();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://agent")
        .connect_with_connector(connector)
        .await
        .expect("connects")
}

fn loss(count: u64) -> Entry {
    let (from, to) = (WallTime(0), WallTime(0));
    Entry::Loss(Loss {
        stage: "ring",
        signal: None,
        count,
        reason: "",
        from,
        to,
    })
}

#[tokio::test]
async fn it_serves_its_readers_until_the_hub_is_closed() {
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("run/sensor.sock");
    let (hub, served) = start(&path);
    let mode = fs::metadata(&path).expect("is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);

    let mut client = AgentClient::new(connect(&path).await);
    let mut stream = client
        .subscribe(SubscribeRequest::default())
        .await
        .expect("subscribes")
        .into_inner();
    let status = client
        .get_status(GetStatusRequest {})
        .await
        .expect("answers")
        .into_inner();
    assert_eq!(
        (status.host.as_str(), status.subscribers, status.uplink),
        ("web1", 1, None)
    );

    hub.publish(&[loss(7)]);
    let response = stream.message().await.expect("goes on").expect("a response");
    assert_eq!(
        (response.entries.len(), response.entries[0].host.as_str()),
        (1, "web1")
    );

    hub.publish(&[loss(8)]);
    hub.close();
    let last = stream
        .message()
        .await
        .expect("goes on")
        .expect("what was waiting");
    assert_eq!(last.entries.len(), 1);
    assert!(stream.message().await.expect("ends well").is_none());
    timeout(PATIENCE, served)
        .await
        .expect("ends")
        .expect("ends")
        .expect("ends well");
    assert!(!path.exists());
}

#[tokio::test]
async fn it_says_that_it_is_healthy_and_refuses_senseless_filters() {
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("sensor.sock");
    let (_hub, _served) = start(&path);
    let channel = connect(&path).await;
    let request = HealthCheckRequest {
        service: "sensor.v1.Agent".into(),
    };
    let health = HealthClient::new(channel.clone())
        .check(request)
        .await
        .expect("answers")
        .into_inner();
    assert_eq!(health.status, 1);
    let filter = Filter {
        signals: vec!["exce".into()],
        ..Filter::default()
    };
    let request = SubscribeRequest {
        filter: Some(filter),
        ..SubscribeRequest::default()
    };
    let status = AgentClient::new(channel)
        .subscribe(request)
        .await
        .expect_err("is refused");
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("sensor.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("binds"));
    assert!(path.exists());
    let first = LocalServer::bind(&path).expect("replaces what nobody answers on");
    let error = LocalServer::bind(&path).expect_err("is taken");
    assert!(matches!(error, LocalError::Taken(_)), "{error}");
    drop(first);
    fs::write(&path, b"precious").expect("writes");
    assert!(matches!(LocalServer::bind(&path), Err(LocalError::InTheWay(_))));
    assert_eq!(fs::read(&path).expect("reads"), b"precious");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_follows_it_up_to_its_limit() {
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("sensor.sock");
    let (hub, _served) = start(&path);
    let args = EventsArgs {
        output: Output::Json,
        signal: vec!["loss".into()],
        process: vec![],
        cgroup: vec![],
        user: vec![],
        host: vec![],
        limit: Some(3),
        socket: SocketArgs { socket: path.clone() },
        collector: None,
        identity: "/nonexistent".into(),
    };
    let following = tokio::spawn(events::run(args));
    while !following.is_finished() {
        hub.publish(&[loss(1)]);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    following.await.expect("ends").expect("ends well");

    let args = StatusArgs {
        output: Output::Json,
        socket: SocketArgs { socket: path },
    };
    status::run(args).await.expect("the agent answers");
}
