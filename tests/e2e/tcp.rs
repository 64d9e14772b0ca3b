//! TCP connections: both ends, with every byte.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    process::{Child, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use sensor_proto::v1::{Filter, FlowClose, Process, Tuple, event::Body};
use sensor_tests::{
    agent::Agent,
    command::{NOBODY, as_nobody, helper, run, spawn, succeed, wait},
    history::History,
    stack::Stack,
    stream::Stream,
};

use crate::case;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        case("tcp::both_ends_over_ipv4", || {
            both_ends((Ipv4Addr::LOCALHOST, 0).into())
        }),
        case("tcp::both_ends_over_ipv6", || {
            both_ends((Ipv6Addr::LOCALHOST, 0).into())
        }),
        case("tcp::a_connection_that_lasts_is_reported", lasting),
        case("tcp::refused_connection", refused),
        case("tcp::a_port_that_changes_hands", port_changes_hands),
    ]
}

/// Numbers that no buffer has as its size.
const TO_SERVER: u64 = 123_457;
const TO_CLIENT: u64 = 1_048_583;

fn both_ends(at: SocketAddr) -> Result<()> {
    let stack = Stack::shared()?;
    let stream = stack.subscribe()?;
    let (mut server, port) = start_server(at)?;
    let address = SocketAddr::new(at.ip(), port);
    let mut client = helper("tcp-client")?;
    client.args([address.to_string(), TO_SERVER.to_string(), TO_CLIENT.to_string()]);
    let client = succeed(as_nobody(&mut client))?;
    ensure!(wait(&mut server)?.success(), "the server did not end well");

    let client = connection_of(&stream, client)?;
    let server = connection_of(&stream, server.id())?;
    check_listen(&server, &at, port)?;
    let close = check_client(&client, &address)?;
    check_server(&server, &address, close.tuple.as_ref().context("no addresses")?)
}

fn start_server(at: SocketAddr) -> Result<(Child, u16)> {
    let mut server = helper("tcp-server")?;
    server.args([at.to_string(), TO_SERVER.to_string(), TO_CLIENT.to_string()]);
    let mut server = spawn(server.stdout(Stdio::piped()))?;
    let mut line = String::new();
    BufReader::new(server.stdout.take().context("the server has no output")?).read_line(&mut line)?;
    Ok((server, line.trim().parse()?))
}

/// All about a process that has one connection. Its close may come after the process's end: the kernel finishes it.
fn connection_of(stream: &Stream, pid: u32) -> Result<History> {
    stream.history(pid)?;
    stream.wait(&format!("the end of the connection of process {pid}"), |got| {
        let history = History::of(&got.entries, pid);
        (!closes(&history).is_empty()).then_some(history)
    })
}

fn check_listen(server: &History, at: &SocketAddr, port: u16) -> Result<()> {
    let listens = server.bodies(|body| {
        if let Body::Listen(listen) = body {
            Some(listen)
        } else {
            None
        }
    });
    ensure!(listens.len() == 1, "expected one listen, got {listens:?}");
    let listen = listens[0].1;
    ensure!(listen.address == at.ip().to_string(), "listens at {listen:?}");
    ensure!(listen.port == u32::from(port), "listens at {listen:?}");
    Ok(())
}

fn check_client<'a>(client: &'a History, server: &SocketAddr) -> Result<&'a FlowClose> {
    let connects = client.bodies(|body| {
        if let Body::Connect(connect) = body {
            Some(connect)
        } else {
            None
        }
    });
    ensure!(connects.len() == 1, "expected one connect, got {connects:?}");
    let (process, connect) = connects[0];
    ensure!(process.uid == NOBODY, "the client runs as user {}", process.uid);
    check_remote(connect.tuple.as_ref(), server)?;

    let (process, close) = only_close(client)?;
    ensure!(process.uid == NOBODY, "the client runs as user {}", process.uid);
    check_remote(close.tuple.as_ref(), server)?;
    ensure!(
        close.flow_id == connect.flow_id,
        "flow ids {} and {}",
        connect.flow_id,
        close.flow_id
    );
    ensure!(!close.inbound, "the client's connection is inbound");
    check_totals(close, TO_SERVER, TO_CLIENT)?;
    Ok(close)
}

fn check_server(server: &History, address: &SocketAddr, client: &Tuple) -> Result<()> {
    let accepts = server.bodies(|body| {
        if let Body::Accept(accept) = body {
            Some(accept)
        } else {
            None
        }
    });
    ensure!(accepts.len() == 1, "expected one accept, got {accepts:?}");
    let accept = accepts[0].1;
    let (_, close) = only_close(server)?;
    for tuple in [&accept.tuple, &close.tuple] {
        let tuple = tuple.as_ref().context("no addresses")?;
        let local = (tuple.local_address.as_str(), tuple.local_port);
        ensure!(
            local == (address.ip().to_string().as_str(), u32::from(address.port())),
            "{tuple:?}"
        );
        let remote = (&tuple.remote_address, tuple.remote_port);
        ensure!(
            remote == (&client.local_address, client.local_port),
            "{tuple:?}, client {client:?}"
        );
    }
    ensure!(
        close.flow_id == accept.flow_id,
        "flow ids {} and {}",
        accept.flow_id,
        close.flow_id
    );
    ensure!(close.inbound, "the server's connection is not inbound");
    check_totals(close, TO_CLIENT, TO_SERVER)
}

fn check_totals(close: &FlowClose, sent: u64, received: u64) -> Result<()> {
    ensure!(close.established, "not established: {close:?}");
    ensure!(
        close.bytes_sent == sent,
        "{sent} bytes sent came as {}",
        close.bytes_sent
    );
    ensure!(
        close.bytes_received == received,
        "{received} bytes received came as {}",
        close.bytes_received
    );
    ensure!(
        close.segments_sent > 0 && close.segments_received > 0,
        "no segments: {close:?}"
    );
    ensure!(
        close.duration_ns.is_some_and(|duration| duration > 0),
        "no duration: {close:?}"
    );
    ensure!(close.rtt_us > 0, "no round-trip time: {close:?}");
    Ok(())
}

fn check_remote(tuple: Option<&Tuple>, server: &SocketAddr) -> Result<()> {
    let tuple = tuple.context("no addresses")?;
    let remote = (tuple.remote_address.as_str(), tuple.remote_port);
    ensure!(
        remote == (server.ip().to_string().as_str(), u32::from(server.port())),
        "{tuple:?}"
    );
    Ok(())
}

/// One listener had its port from the kernel and is gone; another takes the port on every address. A connection belongs to the
/// second.
fn port_changes_hands() -> Result<()> {
    let stack = Stack::shared()?;
    let stream = stack.subscribe()?;
    // A client of somebody else may have the port in between: then another is tried.
    let attempt = || {
        let (mut first, port) = start_server((Ipv4Addr::LOCALHOST, 0).into())?;
        transfer_from(port)?;
        ensure!(wait(&mut first)?.success(), "the first server did not end well");
        let (second, _) = start_server((Ipv4Addr::UNSPECIFIED, port).into())?;
        anyhow::Ok((first, second, port))
    };
    let (first, mut second, port) = attempt().or_else(|_| attempt()).or_else(|_| attempt())?;
    transfer_from(port)?;
    ensure!(wait(&mut second)?.success(), "the second server did not end well");

    for server in [&first, &second] {
        let history = connection_of(&stream, server.id())?;
        let accepts = history.bodies(|body| matches!(body, Body::Accept(_)).then_some(()));
        ensure!(
            accepts.len() == 1,
            "process {} accepted {} connections",
            server.id(),
            accepts.len()
        );
    }
    Ok(())
}

fn transfer_from(port: u16) -> Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string();
    succeed(helper("tcp-client")?.args([address, TO_SERVER.to_string(), TO_CLIENT.to_string()])).map(drop)
}

/// Both ends of a connection that carries something and then stays open, reported again and again.
fn lasting() -> Result<()> {
    let agent = Agent::start("[capture]\nflow_interval = \"1s\"\n", None)?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let mut client = helper("tcp-client")?;
    client.args([address.to_string(), TO_SERVER.to_string(), "1".to_owned()]);
    let mut client = spawn(as_nobody(&mut client))?;
    let (mut server, _) = listener.accept()?;
    server.read_exact(&mut vec![0; TO_SERVER as usize])?;

    let (user, report) = report_of(&stream, client.id(), 2)?;
    ensure!(user == NOBODY, "the client's connection belongs to user {user}");
    check_remote(report.tuple.as_ref(), &address)?;
    ensure!(
        (report.bytes_sent, report.bytes_received, report.inbound) == (TO_SERVER, 0, false),
        "{report:?}"
    );
    ensure!(
        report
            .duration_ns
            .is_some_and(|duration| duration >= 2_000_000_000),
        "a second report after {:?}",
        report.duration_ns
    );
    let (_, report) = report_of(&stream, std::process::id(), 1)?;
    ensure!(
        (report.bytes_received, report.inbound) == (TO_SERVER, true),
        "{report:?}"
    );

    server.write_all(b"s")?;
    wait(&mut client)?;
    let client = connection_of(&stream, client.id())?;
    let (_, close) = only_close(&client)?;
    ensure!(close.bytes_sent == TO_SERVER, "{close:?}");
    drop(server);
    agent.nothing_lost()
}

/// Report number `count` of a connection of a process, and its user.
fn report_of(stream: &Stream, pid: u32, count: usize) -> Result<(u32, FlowClose)> {
    stream.wait(
        &format!("report {count} of a connection of process {pid}"),
        |got| {
            let history = History::of(&got.entries, pid);
            let reports = history.bodies(|body| match body {
                Body::FlowReport(report) => Some(report.clone()),
                _ => None,
            });
            let (process, report) = reports.get(count - 1)?;
            Some((process.uid, report.clone()))
        },
    )
}

fn refused() -> Result<()> {
    let stack = Stack::shared()?;
    let stream = stack.subscribe()?;
    // A port that was free a moment ago.
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let (pid, status) = run(helper("tcp-client")?
        .args([&address.to_string(), "1", "1"])
        .stderr(Stdio::null()))?;
    ensure!(!status.success(), "somebody else listens at {address}");

    let client = connection_of(&stream, pid)?;
    let (_, close) = only_close(&client)?;
    check_remote(close.tuple.as_ref(), &address)?;
    ensure!(!close.established, "marked as established: {close:?}");
    ensure!(
        close.bytes_sent == 0 && close.bytes_received == 0,
        "carried bytes: {close:?}"
    );
    Ok(())
}

fn closes(history: &History) -> Vec<(&Process, &FlowClose)> {
    history.bodies(|body| {
        if let Body::FlowClose(close) = body {
            Some(close)
        } else {
            None
        }
    })
}

fn only_close(history: &History) -> Result<(&Process, &FlowClose)> {
    let closes = closes(history);
    ensure!(
        closes.len() == 1,
        "expected one end of a connection, got {closes:?}"
    );
    Ok(closes[0])
}
