//! Datagrams, counted per socket and other end, and what is asked of name servers.

use std::{
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    process::{Child, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use sensor_proto::v1::{Dns, Filter, Tuple, UdpFlow, event::Body};
use sensor_tests::{
    agent::Agent,
    command::{NOBODY, as_nobody, helper, spawn, succeed, wait},
    history::History,
    stack::Stack,
    stream::Stream,
};

use crate::case;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        case("udp::both_ends_of_a_connected_socket_over_ipv4", || {
            both_ends(Ipv4Addr::LOCALHOST.into(), "connected")
        }),
        case("udp::both_ends_of_an_unconnected_socket_over_ipv6", || {
            both_ends(Ipv6Addr::LOCALHOST.into(), "unconnected")
        }),
        case("udp::a_socket_is_bound", bound),
        case(
            "udp::flows_that_go_on_are_reported_when_the_agent_stops",
            at_the_end,
        ),
        case("udp::dns_question_and_answer", || {
            question_and_answer((Ipv4Addr::new(127, 83, 69, 78), 53).into())
        }),
        case("udp::dns_over_ipv6", || {
            question_and_answer((Ipv6Addr::LOCALHOST, 53).into())
        }),
    ]
}

/// A flow is over after a second.
const QUICK: &str = "[capture]\nudp_pause = \"1s\"\n";

const COUNT: u64 = 7;
const TO_SERVER: u64 = 101;
const TO_CLIENT: u64 = 1_233;

fn both_ends(at: std::net::IpAddr, how: &str) -> Result<()> {
    let agent = Agent::start(QUICK, None)?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let (mut server, port) = start("udp-server", &[&SocketAddr::new(at, 0), &COUNT, &TO_CLIENT])?;
    let address = SocketAddr::new(at, port);
    let mut client = helper("udp-client")?;
    client.args([
        address.to_string(),
        COUNT.to_string(),
        TO_SERVER.to_string(),
        how.to_owned(),
    ]);
    let client = succeed(as_nobody(&mut client))?;
    ensure!(wait(&mut server)?.success(), "the server did not end well");

    let (owner, sent) = flow_of(&stream, client)?;
    ensure!(owner == NOBODY, "the client's flow belongs to user {owner}");
    ensure!(!sent.inbound && !sent.listener, "the client's flow: {sent:?}");
    check(&sent, TO_SERVER, TO_CLIENT)?;
    let ends = sent.tuple.as_ref().context("no addresses")?;
    ensure!(
        (ends.remote_address.as_str(), ends.remote_port) == (at.to_string().as_str(), port.into()),
        "{ends:?}"
    );

    let (_, received) = flow_of(&stream, server.id())?;
    ensure!(received.inbound, "the server's flow: {received:?}");
    check(&received, TO_CLIENT, TO_SERVER)?;
    let mirrored = Tuple {
        local_address: ends.remote_address.clone(),
        local_port: ends.remote_port,
        remote_address: ends.local_address.clone(),
        remote_port: ends.local_port,
        ..Tuple::default()
    };
    ensure!(
        received.tuple.as_ref() == Some(&mirrored),
        "{received:?} is not {mirrored:?}"
    );
    agent.nothing_lost()
}

/// A helper that says its port once it listens.
fn start(role: &str, args: &[&dyn std::fmt::Display]) -> Result<(Child, u16)> {
    let mut server = helper(role)?;
    server.args(args.iter().map(ToString::to_string));
    let mut server = spawn(server.stdout(Stdio::piped()))?;
    let mut line = String::new();
    BufReader::new(server.stdout.take().context("the server has no output")?).read_line(&mut line)?;
    let port = line
        .trim()
        .parse()
        .with_context(|| format!("{role} does not listen"))?;
    Ok((server, port))
}

/// The only flow of a process, and its user.
fn flow_of(stream: &Stream, pid: u32) -> Result<(u32, UdpFlow)> {
    stream.wait(&format!("the flow of process {pid}"), |got| {
        let history = History::of(&got.entries, pid);
        let flows = history.bodies(|body| match body {
            Body::UdpFlow(flow) => Some(flow.clone()),
            _ => None,
        });
        let (process, flow) = flows.first()?;
        Some((process.uid, flow.clone()))
    })
}

fn check(flow: &UdpFlow, sent: u64, received: u64) -> Result<()> {
    ensure!(
        (flow.datagrams_sent, flow.bytes_sent) == (COUNT, COUNT * sent),
        "{COUNT} datagrams of {sent} sent came as {flow:?}"
    );
    ensure!(
        (flow.datagrams_received, flow.bytes_received) == (COUNT, COUNT * received),
        "{COUNT} datagrams of {received} received came as {flow:?}"
    );
    ensure!(flow.end == "idle", "ended by {:?}", flow.end);
    ensure!(flow.duration_ns > 0 && flow.first_ns > 0, "no times: {flow:?}");
    Ok(())
}

fn bound() -> Result<()> {
    let stack = Stack::shared()?;
    let stream = stack.subscribe()?;
    for (role, at, protocol) in [
        ("udp-server", "127.0.0.1:0", "udp"),
        ("udp-server", "[::1]:0", "udp"),
        ("tcp-server", "127.0.0.1:0", "tcp"),
    ] {
        let (mut server, port) = start(role, &[&at, &0, &0])?;
        if protocol == "tcp" {
            server.kill()?;
        }
        wait(&mut server)?;
        let history = stream.history(server.id())?;
        let binds = history.bodies(|body| match body {
            Body::Bind(bind) => Some(bind),
            _ => None,
        });
        ensure!(binds.len() == 1, "{role} at {at} was bound {binds:?}");
        let bind = binds[0].1;
        let at: SocketAddr = at.parse()?;
        ensure!(
            (bind.address.as_str(), bind.port, bind.protocol.as_str())
                == (at.ip().to_string().as_str(), port.into(), protocol),
            "{role} was bound to {bind:?}, not port {port}"
        );
    }
    Ok(())
}

fn at_the_end() -> Result<()> {
    let mut agent = Agent::start("[capture]\nudp_pause = \"1h\"\n", None)?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let (mut server, port) = start("udp-server", &[&"127.0.0.1:0", &1, &1])?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let client = succeed(helper("udp-client")?.args([&address.to_string(), "1", "1", "connected"]))?;
    ensure!(wait(&mut server)?.success(), "the server did not end well");
    stream.history(client)?;
    agent.stop()?;
    let (_, flow) = flow_of(&stream, client)?;
    ensure!(flow.end == "forced" && flow.bytes_sent == 1, "{flow:?}");
    Ok(())
}

/// A name that nobody else asks for.
const NAME: &str = "a-test.sensor.example";

fn question_and_answer(server: SocketAddr) -> Result<()> {
    let agent = Agent::start(QUICK, None)?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let named = Ipv4Addr::new(127, 83, 69, 79);
    let (mut name_server, _) = start("dns-server", &[&server, &named])?;
    let mut client = helper("dns-client")?;
    client.args([server.to_string(), NAME.to_owned(), format!("{named}:1")]);
    let client = succeed(as_nobody(&mut client))?;
    ensure!(
        wait(&mut name_server)?.success(),
        "the name server did not end well"
    );

    let history = stream.history(client)?;
    let messages = history.bodies(|body| match body {
        Body::Dns(dns) => Some(dns),
        _ => None,
    });
    ensure!(
        messages.len() == 2,
        "expected question and answer, got {messages:#?}"
    );
    for (process, dns) in &messages {
        ensure!(process.uid == NOBODY, "asked by user {}", process.uid);
        check_message(dns, server)?;
    }
    let (question, answer) = (messages[0].1, messages[1].1);
    ensure!(!question.answer && question.answers.is_empty(), "{question:?}");
    ensure!(
        answer.answer && answer.code == "NOERROR" && answer.answers == [named.to_string()],
        "{answer:?}"
    );

    let connects = history.bodies(|body| match body {
        Body::Connect(connect) => connect.tuple.as_ref(),
        _ => None,
    });
    let name = connects.first().map(|(_, tuple)| tuple.remote_name.as_str());
    ensure!(
        name == Some(NAME),
        "the other end of the connection is called {name:?}"
    );
    agent.nothing_lost()
}

fn check_message(dns: &Dns, server: SocketAddr) -> Result<()> {
    ensure!(
        (dns.name.as_str(), dns.r#type.as_str(), dns.id) == (NAME, "A", 0xbeef),
        "{dns:?}"
    );
    ensure!(!dns.malformed && !dns.truncated, "{dns:?}");
    let tuple = dns.tuple.as_ref().context("no addresses")?;
    ensure!(
        (tuple.remote_address.as_str(), tuple.remote_port) == (server.ip().to_string().as_str(), 53),
        "{tuple:?}"
    );
    Ok(())
}
