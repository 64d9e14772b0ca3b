//! What is asked of a host by way of its collector. The pipeline is played here: it does what it is told, and counts.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use sensor::{
    export::{Converter, Hub, LocalService, OutputMonitor, Users},
    orders::Orders,
    pipeline,
    remote::{Permission, Remote, Wiring},
    respond::{Action, ActionKind, ActionResult, Answer, Mark, Outcome, Person, Responses, Target},
    time::WallTime,
};
use sensor_proto::v1::{
    self, ActionKind as Kind, AskRequest, Command, CommandAnswer, GetBundleRequest, ListBundlesRequest,
    ListCommandsRequest, Order, RuleFiles, SnapshotRequest, Status, command::What, command_answer,
    respond_response, response_client::ResponseClient,
};
use tokio::{task::JoinHandle, time::sleep};
use tonic::transport::Channel;

use crate::world::{Collector, PATIENCE, program, security, silent};

/// What the played pipeline did.
#[derive(Default)]
struct Done {
    count: AtomicU64,
    last: std::sync::Mutex<String>,
}

/// Does what it is told; a bundle is this file, and takes until it is asked about once.
fn pipeline(done: Arc<Done>, bundle: String) -> Orders {
    let (sender, orders) = mpsc::channel();
    std::thread::spawn(move || {
        let mut history = Vec::new();
        while let Ok(command) = orders.recv() {
            match command {
                pipeline::Command::Fulfil(wish, person, answer) => {
                    let number = done.count.fetch_add(1, Ordering::SeqCst) + 1;
                    *done.last.lock().expect("whole") =
                        format!("{wish:?} for {}: {}", person.name, person.why);
                    let outcome = Arc::new(outcome(number, &person, &bundle));
                    let collects = format!("{wish:?}").contains("Collect");
                    history.push(Arc::clone(&outcome));
                    let said = if collects {
                        Answer::Begun(number)
                    } else {
                        Answer::Outcome(outcome)
                    };
                    let _ = answer.send(Ok(said));
                }
                pipeline::Command::Responses(answer) => {
                    let responses = Responses {
                        history: history.clone(),
                        ..Responses::default()
                    };
                    let _ = answer.send(responses);
                }
                _ => {}
            }
        }
    });
    Orders::new(sender)
}

fn outcome(number: u64, person: &Person, detail: &str) -> Outcome {
    Outcome {
        number,
        action: Action {
            kind: ActionKind::Collect,
            target: Target::Host,
            lasts: None,
            incident: Box::default(),
            reason: String::new(),
        },
        result: ActionResult::Done,
        detail: detail.to_owned(),
        who: person.name.clone(),
        time: WallTime(1),
        latency: Duration::ZERO,
        mark: Mark::default(),
    }
}

struct Host {
    running: JoinHandle<()>,
    done: Arc<Done>,
}

impl Host {
    async fn start(collector: &Collector, state: &Path, allow: Vec<Permission>, bundle: &str) -> Self {
        if !state.join("identity.pem").exists() {
            let token = collector.token("agent", "web1").await;
            program(collector, &token, state).await.expect("enrols");
        }
        let done = Arc::<Done>::default();
        let service = LocalService {
            hub: Hub::default(),
            converter: Converter::new("web1", Arc::new(Users::default())),
            status: Arc::new(|| Status {
                host: "web1".into(),
                ..Status::default()
            }),
            uplink: None,
            outputs: OutputMonitor::default(),
            reloader: None,
            orders: Some(pipeline(Arc::clone(&done), bundle.to_owned())),
            book: None,
            heard: Arc::default(),
        };
        let wiring = Wiring {
            address: collector.url().parse().expect("an address"),
            security: security(state),
            on_connecting: silent(),
            allow,
            service,
            state: state.to_owned(),
        };
        let remote = Remote::new(wiring).expect("a journal");
        Self {
            running: tokio::spawn(remote.run()),
            done,
        }
    }
}

fn order(id: &str, kind: Kind) -> Command {
    let order = Order {
        kind: kind.into(),
        pid: 7,
        ..Order::default()
    };
    Command {
        id: id.into(),
        why: "because".into(),
        what: Some(What::Order(order)),
        ..Command::default()
    }
}

async fn ask(client: &mut ResponseClient<Channel>, command: Command) -> CommandAnswer {
    let id = command.id.clone();
    let request = AskRequest {
        host: "web1".into(),
        command: Some(command),
        seconds: 60,
    };
    client.ask(request).await.expect("is taken");
    let until = Instant::now() + PATIENCE;
    loop {
        let request = ListCommandsRequest {
            id: id.clone(),
            ..ListCommandsRequest::default()
        };
        let listed = client
            .list_commands(request)
            .await
            .expect("lists")
            .into_inner()
            .commands;
        if let Some(answer) = listed.into_iter().next().and_then(|state| state.answer) {
            return answer;
        }
        assert!(Instant::now() < until, "no answer to {id}");
        sleep(Duration::from_millis(20)).await;
    }
}

fn said(answer: &CommandAnswer) -> String {
    match answer.answer.clone() {
        Some(command_answer::Answer::Refused(why)) => format!("refused: {why}"),
        Some(command_answer::Answer::Failed(why)) => format!("failed: {why}"),
        Some(command_answer::Answer::Response(response)) => match response.answer {
            Some(respond_response::Answer::Outcome(outcome)) => format!("{:?}", outcome.result()),
            answer => format!("{answer:?}"),
        },
        answer => format!("{answer:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_allowed_is_done_once() {
    let collector = Collector::start(Duration::from_secs(3_600)).await;
    let state = tempfile::tempdir().expect("a directory");
    let host = Host::start(
        &collector,
        state.path(),
        vec![Permission::Action(ActionKind::Kill)],
        "",
    )
    .await;
    let mut client = ResponseClient::new(collector.channel().await);
    let answer = ask(&mut client, order("c1", Kind::Kill)).await;
    assert_eq!(said(&answer), "Done");
    let last = host.done.last.lock().expect("whole").clone();
    assert!(last.starts_with("Do(Demand { kind: Kill"), "{last}");
    assert!(
        last.ends_with(" on the collector's host by the collector: because"),
        "{last}"
    );

    let refused = ask(&mut client, order("c2", Kind::Isolate)).await;
    assert_eq!(
        said(&refused),
        "refused: this host does not allow its collector to ask for that: [remote] allow has no \"isolate\""
    );
    let snapshot = Command {
        id: "c3".into(),
        what: Some(What::Snapshot(SnapshotRequest {})),
        ..Command::default()
    };
    assert!(said(&ask(&mut client, snapshot).await).ends_with("[remote] allow has no \"status\""));
    assert_eq!(host.done.count.load(Ordering::SeqCst), 1);

    // The next agent knows what this one did, even if the collector does not.
    host.running.abort();
    let path = collector.data.path().join("trust.db");
    let database = rusqlite::Connection::open(path).expect("opens");
    database
        .execute(
            "UPDATE commands SET ended_ns = NULL, answer = NULL WHERE id = 'c1'",
            [],
        )
        .expect("forgets");
    let next = Host::start(
        &collector,
        state.path(),
        vec![Permission::Action(ActionKind::Kill)],
        "",
    )
    .await;
    assert_eq!(ask(&mut client, order("c1", Kind::Kill)).await, answer);
    assert_eq!(next.done.count.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_was_in_the_midst_of_is_not_begun_again() {
    let collector = Collector::start(Duration::from_secs(3_600)).await;
    let state = tempfile::tempdir().expect("a directory");
    let journal = sensor::remote::Journal::open(state.path()).expect("a journal");
    journal
        .begin("c1", u64::MAX >> 1, "responder alice", "kill")
        .expect("begins");
    let host = Host::start(
        &collector,
        state.path(),
        vec![Permission::Action(ActionKind::Kill)],
        "",
    )
    .await;
    let mut client = ResponseClient::new(collector.channel().await);
    let answer = ask(&mut client, order("c1", Kind::Kill)).await;
    assert!(
        said(&answer).starts_with("failed: the agent ended in the midst of it"),
        "{answer:?}"
    );
    assert_eq!(host.done.count.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_was_asked_for_comes_to_the_collector() {
    let collector = Collector::start(Duration::from_secs(3_600)).await;
    let state = tempfile::tempdir().expect("a directory");
    let path = state.path().join("7.tar.zst");
    let bytes: Vec<u8> = (0..400_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(&path, &bytes).expect("writes");
    let sha256 = sha256(&bytes);
    let detail = format!("{}, {} bytes, SHA-256 {sha256}", path.display(), bytes.len());
    let _host = Host::start(&collector, state.path(), Permission::USUAL.into(), &detail).await;
    let mut client = ResponseClient::new(collector.channel().await);
    let answer = ask(&mut client, order("c1", Kind::Collect)).await;
    assert_eq!(
        (said(&answer), answer.bundle),
        ("Done".to_owned(), sha256.clone())
    );
    let until = Instant::now() + PATIENCE;
    loop {
        let listed = client
            .list_bundles(ListBundlesRequest::default())
            .await
            .expect("lists")
            .into_inner()
            .bundles;
        if listed.iter().any(|bundle| bundle.ended_ns > 0) {
            break;
        }
        assert!(Instant::now() < until, "{listed:?}");
        sleep(Duration::from_millis(20)).await;
    }
    let mut pieces = client
        .get_bundle(GetBundleRequest { sha256 })
        .await
        .expect("is there")
        .into_inner();
    let mut came = Vec::new();
    while let Some(piece) = pieces.message().await.expect("goes on") {
        came.extend(piece.data);
    }
    assert!(came == bytes, "{} bytes came of {}", came.len(), bytes.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_with_a_mistake_are_refused_as_a_whole() {
    let collector = Collector::start(Duration::from_secs(3_600)).await;
    let state = tempfile::tempdir().expect("a directory");
    let _host = Host::start(&collector, state.path(), vec![Permission::Rules], "").await;
    let mut client = ResponseClient::new(collector.channel().await);
    let file = v1::RuleFile {
        name: "half.yml".into(),
        text: "title: half\n".into(),
    };
    let rules = Command {
        id: "r1".into(),
        what: Some(What::Rules(RuleFiles { files: vec![file] })),
        ..Command::default()
    };
    let answer = said(&ask(&mut client, rules).await);
    assert!(
        answer.starts_with("failed: half.yml") && answer.ends_with("those in use stay"),
        "{answer}"
    );
    assert!(!state.path().join(sensor::remote::RULES).exists());
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
