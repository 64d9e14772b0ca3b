//! What TLS clients say first.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use sensor_proto::v1::{TlsHello, event::Body};
use sensor_tests::{
    command::{NOBODY, as_nobody, helper, spawn, succeed, wait},
    helper::TLS_NAME,
    stack::Stack,
};

use crate::case;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        case("tls::a_client_says_whom_it_means_by_any_call", any_call),
        case("tls::a_hello_longer_than_a_segment", long),
        case("tls::a_hello_that_is_too_long", too_long),
        case("tls::what_is_no_hello_is_not_looked_at", plain),
    ]
}

const TLS_1_3: u32 = 0x0304;
const TLS_1_2: u32 = 0x0303;

fn any_call() -> Result<()> {
    let protocols = ["h2", "http/1.1"];
    let mut fingerprints = Vec::new();
    for call in ["write", "writev", "sendto", "sendmsg"] {
        let hello = hello(call, &protocols).context(call)?;
        ensure!(
            hello.server_name == TLS_NAME && hello.protocols == protocols,
            "{call}: {hello:?}"
        );
        ensure!(hello.versions == [TLS_1_3, TLS_1_2], "{call}: {hello:?}");
        ensure!(!hello.truncated && !hello.malformed, "{call}: {hello:?}");
        fingerprints.push(hello.ja4);
    }
    // Nine suites and the one that stands for renegotiation; how many extensions there are is the library's own affair. It
    // shuffles them each time.
    ensure!(
        fingerprints[0].starts_with("t13d10") && fingerprints[0].contains("h2_"),
        "{fingerprints:?}"
    );
    fingerprints.dedup();
    ensure!(
        fingerprints.len() == 1,
        "one client, several fingerprints: {fingerprints:?}"
    );
    Ok(())
}

fn long() -> Result<()> {
    let names: Vec<String> = (0..8).map(|number| format!("{number:0>230}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let hello = hello("writev", &names)?;
    ensure!(
        hello.server_name == TLS_NAME && hello.protocols == names && !hello.truncated && !hello.malformed,
        "{hello:?}"
    );
    Ok(())
}

fn too_long() -> Result<()> {
    let names: Vec<String> = (0..20).map(|number| format!("{number:0>230}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let hello = hello("sendmsg", &names)?;
    ensure!(hello.truncated && !hello.malformed, "{hello:?}");
    Ok(())
}

/// The one thing that a client of these protocols is reported to have said, after a whole connection.
fn hello(call: &str, protocols: &[&str]) -> Result<TlsHello> {
    let stack = Stack::shared()?;
    let stream = stack.subscribe()?;
    let mut server = spawn(helper("tls-server")?.stdout(Stdio::piped()))?;
    let mut port = String::new();
    BufReader::new(server.stdout.take().context("the server has no output")?).read_line(&mut port)?;
    let address = format!("127.0.0.1:{}", port.trim());
    let mut client = helper("tls-client")?;
    client.args([address.as_str(), call]).args(protocols);
    let client = succeed(as_nobody(&mut client))?;
    ensure!(wait(&mut server)?.success(), "the server did not end well");

    let history = stream.history(client)?;
    let hellos = history.bodies(|body| match body {
        Body::TlsHello(hello) => Some(hello),
        _ => None,
    });
    ensure!(hellos.len() == 1, "expected one hello, got {hellos:#?}");
    let (process, hello) = hellos[0];
    ensure!(process.uid == NOBODY, "said by user {}", process.uid);
    let tuple = hello.tuple.as_ref().context("no addresses")?;
    ensure!(
        format!("{}:{}", tuple.remote_address, tuple.remote_port) == address,
        "{tuple:?}"
    );
    let connects = history.bodies(|body| match body {
        Body::Connect(connect) => Some(connect.flow_id),
        _ => None,
    });
    ensure!(
        connects.iter().any(|(_, flow)| *flow == hello.flow_id),
        "it is not of the connection: {connects:?}, {hello:?}"
    );
    let servers = stream.history(server.id())?;
    ensure!(
        servers
            .bodies(|body| matches!(body, Body::TlsHello(_)).then_some(()))
            .is_empty(),
        "what a server says counts as a client's"
    );
    Ok(hello.clone())
}

fn plain() -> Result<()> {
    let stack = Stack::shared()?;
    let stream = stack.subscribe()?;
    let mut server = spawn(
        helper("tcp-server")?
            .args(["127.0.0.1:0", "100", "7"])
            .stdout(Stdio::piped()),
    )?;
    let mut port = String::new();
    BufReader::new(server.stdout.take().context("the server has no output")?).read_line(&mut port)?;
    let mut client = helper("tcp-client")?;
    client.args([&format!("127.0.0.1:{}", port.trim()), "100", "7"]);
    let client = succeed(&mut client)?;
    ensure!(wait(&mut server)?.success(), "the server did not end well");
    let history = stream.history(client)?;
    let hellos = history.bodies(|body| matches!(body, Body::TlsHello(_)).then_some(()));
    ensure!(hellos.is_empty(), "something else counts as a hello");
    Ok(())
}
