//! What is asked of hosts, and what comes of it. The host's end is played here; the agent's own is tested where it is.

use std::fs;

use sensor_proto::v1::{
    Action, ActionKind, AskRequest, Command, CommandAnswer, ListenHello, ListenRequest, ListenResponse,
    OfferBundleRequest, Order, Outcome, ProcessId, PutBundleRequest, RespondResponse, command::What,
    command_answer::Answer, control_client::ControlClient, entry, listen_request::Frame, respond_response,
    response_client::ResponseClient,
};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::world::{Collector, Guest, PATIENCE, batch_of, wait_until};

/// A host that listens.
struct Host {
    frames: mpsc::Sender<ListenRequest>,
    commands: Streaming<ListenResponse>,
}

impl Host {
    async fn listen(collector: &Collector, guest: &Guest, name: &str) -> Result<Self, Status> {
        let (frames, stream) = mpsc::channel(8);
        let hello = ListenHello {
            host: name.into(),
            agent_version: "test".into(),
            allowed: vec!["kill".into()],
        };
        frames
            .send(ListenRequest {
                frame: Some(Frame::Hello(hello)),
            })
            .await
            .expect("room");
        let mut client = ControlClient::new(guest.connect(collector).await.expect("connects"));
        let commands = client.listen(ReceiverStream::new(stream)).await?.into_inner();
        Ok(Self { frames, commands })
    }

    async fn next(&mut self) -> Result<Command, Status> {
        let next = tokio::time::timeout(PATIENCE, self.commands.message())
            .await
            .expect("in time");
        Ok(next?.and_then(|response| response.command).expect("a command"))
    }

    async fn answer(&self, id: &str, answer: Answer) {
        let answer = CommandAnswer {
            id: id.into(),
            answer: Some(answer),
            time_ns: 1,
            bundle: String::new(),
        };
        self.frames
            .send(ListenRequest {
                frame: Some(Frame::Answer(answer)),
            })
            .await
            .expect("is taken");
    }
}

fn done(number: u64) -> Answer {
    let outcome = Outcome {
        number,
        result: sensor_proto::v1::Result::Done.into(),
        ..Outcome::default()
    };
    Answer::Response(RespondResponse {
        answer: Some(respond_response::Answer::Outcome(outcome)),
    })
}

fn kill(id: &str, pid: u32) -> Command {
    let order = Order {
        kind: ActionKind::Kill.into(),
        pid,
        ..Order::default()
    };
    Command {
        id: id.into(),
        what: Some(What::Order(order)),
        ..Command::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_waits_for_its_host_and_is_answered_once() {
    let collector = Collector::start(&[]).await;
    let web1 = Guest::enrolled(&collector, &["--host", "web1"]).await;
    let db1 = Guest::enrolled(&collector, &["--host", "db1"]).await;
    let printed = collector.run(&[
        "command", "web1", "kill", "7", "--id", "c1", "--why", "stolen", "--wait", "0s",
    ]);
    assert!(
        printed
            .contains(" web1: kill process 7, by uid 0 on the collector's host: waits for the host, until 2"),
        "{printed}"
    );

    // It is for web1 alone, who gets it again as long as it has not answered.
    let mut other = Host::listen(&collector, &db1, "db1").await.expect("listens");
    let mut first = Host::listen(&collector, &web1, "web1").await.expect("listens");
    assert_eq!(first.next().await.expect("hears").id, "c1");
    drop(first);
    let mut host = Host::listen(&collector, &web1, "web1").await.expect("listens");
    let command = host.next().await.expect("hears");
    assert_eq!(
        (&*command.who, &*command.why),
        ("uid 0 on the collector's host", "stolen")
    );
    // What another says of it counts for nothing.
    other.answer("c1", Answer::Failed("by another".into())).await;
    collector.run(&["command", "db1", "kill", "8", "--id", "c2", "--wait", "0s"]);
    assert_eq!(other.next().await.expect("hears").id, "c2");
    host.answer("c1", done(12)).await;
    let state = async || {
        let listed = collector.run(&["commands", "web1"]);
        listed.contains(": done (number 12)").then_some(listed)
    };
    wait_until("the answer", state).await;

    // The same id is the same command: it has its answer, and the host does not hear of it.
    let again = collector.run(&["command", "web1", "kill", "7", "--id", "c1"]);
    assert!(again.contains(": done (number 12)"), "{again}");
    let error = collector.fail(&["command", "web1", "kill", "9", "--id", "c1"]);
    assert_eq!(
        error,
        "collector: another command has the id \"c1\"; leave it out, and one is made\n"
    );
    // Who is connected is told at once.
    collector.run(&["command", "web1", "status", "--id", "c3", "--wait", "0s"]);
    assert_eq!(host.next().await.expect("hears").id, "c3");
    host.answer("c3", Answer::Refused("no".into())).await;

    let audit = wait_until("the audit", async || {
        let audit = collector.run(&["audit"]);
        audit.contains("c3: refused: no").then_some(audit)
    })
    .await;
    assert!(
        audit.contains("asked agent web1 by uid 0 on the collector's host: c1: kill process 7, until 2"),
        "{audit}"
    );
    assert!(
        audit.contains("answered agent web1 by agent web1: c1: done (number 12)"),
        "{audit}"
    );
    assert!(!audit.contains("by another"), "{audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_host_comes_for_expires() {
    let collector = Collector::start(&[]).await;
    let printed = collector.run(&["command", "web1", "isolate", "--valid", "1s", "--wait", "30s"]);
    assert!(
        printed.ends_with("expired: the host did not come for it in time\n"),
        "{printed}"
    );
    let web1 = Guest::enrolled(&collector, &["--host", "web1"]).await;
    collector.run(&["command", "web1", "status", "--id", "later", "--wait", "0s"]);
    let mut host = Host::listen(&collector, &web1, "web1").await.expect("listens");
    assert_eq!(host.next().await.expect("hears").id, "later");
    assert!(
        collector
            .run(&["audit"])
            .contains(" expired agent web1 by time: ")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_ask() {
    let collector = Collector::start(&[]).await;
    let ask = |command| AskRequest {
        host: "web1".into(),
        command: Some(command),
        seconds: 60,
    };
    let viewer = Guest::enrolled(&collector, &["--role", "viewer", "--name", "bob"]).await;
    let mut client = ResponseClient::new(viewer.connect(&collector).await.expect("connects"));
    let status = client.ask(ask(kill("", 7))).await.expect_err("may not");
    assert_eq!(
        status.message(),
        "Response/Ask is for responders and admins; you are viewer bob"
    );

    let responder = Guest::enrolled(&collector, &["--role", "responder", "--name", "alice"]).await;
    let mut client = ResponseClient::new(responder.connect(&collector).await.expect("connects"));
    // Who asks is what the certificate says, whatever the message does.
    let state = client
        .ask(ask(Command {
            who: "admin root".into(),
            ..kill("", 7)
        }))
        .await
        .expect("may");
    let command = state
        .into_inner()
        .state
        .and_then(|state| state.command)
        .expect("a command");
    assert_eq!((&*command.who, command.id.len()), ("responder alice", 16));
    let status = client.ask(ask(kill("a b", 7))).await.expect_err("is no id");
    assert_eq!(status.message(), "an id is 1 to 64 letters, digits and hyphens");

    let web1 = Guest::enrolled(&collector, &["--host", "web1"]).await;
    let mut host = Host::listen(&collector, &web1, "db1").await.expect("is heard");
    assert_eq!(
        host.next().await.expect_err("is not db1").message(),
        "this agent says that it is host \"db1\", and its certificate is of web1"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_comes_in_pieces_and_goes_on_where_it_was() {
    let collector = Collector::start(&[]).await;
    let web1 = Guest::enrolled(&collector, &["--host", "web1"]).await;
    let db1 = Guest::enrolled(&collector, &["--host", "db1"]).await;
    let bytes: Vec<u8> = (0..75_000_u32).flat_map(u32::to_le_bytes).collect();
    let sha256: String = Sha256::digest(&bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let offer = OfferBundleRequest {
        sha256: sha256.clone(),
        name: "7.tar.zst".into(),
        size: bytes.len() as u64,
        command: "c1".into(),
    };
    let mut client = ControlClient::new(web1.connect(&collector).await.expect("connects"));
    let status = client
        .offer_bundle(offer.clone())
        .await
        .expect_err("nobody asked");
    assert_eq!(
        (status.code(), status.message()),
        (Code::PermissionDenied, "nobody asked web1 for this bundle")
    );

    collector.run(&["command", "web1", "collect", "7", "--id", "c1", "--wait", "0s"]);
    let mut stranger = ControlClient::new(db1.connect(&collector).await.expect("connects"));
    assert!(
        stranger.offer_bundle(offer.clone()).await.is_err(),
        "it was asked of web1"
    );
    let begun = client
        .offer_bundle(offer.clone())
        .await
        .expect("was asked")
        .into_inner();
    assert_eq!(begun.received, 0);

    let piece = |from: usize, to: usize| PutBundleRequest {
        sha256: sha256.clone(),
        offset: from as u64,
        data: bytes[from..to].to_vec(),
    };
    let cut = tokio_stream::iter([piece(0, 100_000)]);
    let status = client.put_bundle(cut).await.expect_err("is not all");
    assert_eq!(
        status.message(),
        "100000 of 300000 bytes are there; offer it again"
    );
    let listed = collector.run(&["bundles", "list"]);
    assert_eq!(
        listed,
        format!("{sha256} web1: 7.tar.zst, 100000 of 300000 bytes are here, by command c1\n")
    );
    assert_eq!(
        client
            .offer_bundle(offer.clone())
            .await
            .expect("was asked")
            .into_inner()
            .received,
        100_000
    );
    let rest = tokio_stream::iter([piece(100_000, 200_000), piece(200_000, 300_000)]);
    client.put_bundle(rest).await.expect("is all");

    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("bundle");
    collector.run(&[
        "bundles",
        "get",
        &sha256[..8],
        "--output",
        &file.display().to_string(),
    ]);
    assert_eq!(fs::read(&file).expect("is there"), bytes);
    assert!(collector.run(&["audit"]).contains(&format!(
        "bundle agent web1 by agent web1: 7.tar.zst, 300000 bytes, SHA-256 {sha256}"
    )));
    // A second one for the same command was not asked for.
    let other = OfferBundleRequest {
        sha256: "0".repeat(64),
        ..offer
    };
    assert!(client.offer_bundle(other).await.is_err());
}

/// What an agent asks is seen at the collector, by whoever may read; a responder decides there, and sees what came of it.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_on_hosts_is_listed_and_decided() {
    use sensor_proto::v1::Result as Became;

    let mut collector = Collector::start(&[]).await;
    let web1 = Guest::enrolled(&collector, &["--host", "web1"]).await;
    let outcome = |number: u64, kind: ActionKind, result: Became, who: &str, detail: &str| {
        let action = Action {
            kind: kind.into(),
            target: Some(ProcessId {
                tgid: 4711,
                start_time_ns: 7,
            }),
            incident_id: "i-1".into(),
            ..Action::default()
        };
        entry::Body::Outcome(Outcome {
            action: Some(action),
            result: result.into(),
            detail: detail.into(),
            time_ns: 1_795_000_000_000_000_000 + number * 1_000_000_000,
            number,
            who: who.into(),
            ..Outcome::default()
        })
    };
    let mut stream = web1.deliver(&collector, "web1").await.expect("is welcome");
    for (sequence, body) in [
        outcome(11, ActionKind::Suspend, Became::Done, "policy", ""),
        outcome(
            12,
            ActionKind::KillTree,
            Became::Asked,
            "policy",
            "it is a service",
        ),
        outcome(13, ActionKind::Kill, Became::Asked, "policy", "it has a terminal"),
    ]
    .into_iter()
    .enumerate()
    {
        stream.send(batch_of(sequence as u64 + 1, body)).await;
        assert_eq!(stream.acknowledged().await, Ok(sequence as u64 + 1));
    }
    insta::assert_snapshot!(collector.run(&["approvals"]), @r"
    HOST  NUMBER  ASKED                 STATE  WHAT                    BECAUSE
    web1  13      2026-11-18T11:06:53Z  waits  kill process 4711       it has a terminal
    web1  12      2026-11-18T11:06:52Z  waits  kill_tree process 4711  it is a service
    ");
    assert_eq!(collector.run(&["approvals", "db1"]).lines().count(), 1);

    // They outlive the collector.
    drop(stream);
    collector.kill_and_restart().await;
    let mut host = Host::listen(&collector, &web1, "web1").await.expect("listens");
    collector.run(&[
        "command", "web1", "approve", "12", "--id", "c12", "--why", "a miner", "--wait", "0s",
    ]);
    assert_eq!(host.next().await.expect("hears").what, Some(What::Approve(12)));
    collector.run(&["command", "web1", "deny", "13", "--id", "c13", "--wait", "0s"]);
    assert_eq!(host.next().await.expect("hears").what, Some(What::Deny(13)));
    host.answer("c12", done(12)).await;
    let mut stream = web1.deliver(&collector, "web1").await.expect("is welcome");
    let by = "uid 0 on the collector's host by the collector";
    stream
        .send(batch_of(
            4,
            outcome(12, ActionKind::KillTree, Became::Done, by, "3 processes"),
        ))
        .await;
    stream
        .send(batch_of(5, outcome(13, ActionKind::Kill, Became::Denied, by, "")))
        .await;
    while stream.acknowledged().await != Ok(5) {}
    assert_eq!(collector.run(&["approvals"]).lines().count(), 1, "nothing waits");
    insta::assert_snapshot!(collector.run(&["approvals", "--all", "-o", "json"]), @r#"
    {"host":"web1","number":13,"asked":"2026-11-18T11:06:53Z","state":"denied","who":"uid 0 on the collector's host by the collector","action":"kill process 4711","incident":"i-1","because":"it has a terminal"}
    {"host":"web1","number":12,"asked":"2026-11-18T11:06:52Z","state":"done","who":"uid 0 on the collector's host by the collector","action":"kill_tree process 4711","incident":"i-1","because":"it is a service"}
    "#);
}
