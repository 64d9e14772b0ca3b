//! Ends that are not reached, and processes that reach none.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Stdio},
    sync::mpsc::{Receiver, channel},
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use sensor::{
    enforce::{Destination, EnforceError, Subject},
    host::{ProcessId, proc::ProcDir},
};
use sensor_tests::{
    cgroup::Cgroup,
    command::{helper, spawn},
    patience::patience,
};

use super::{Stage, later};
use crate::case;

pub(super) fn trials() -> Vec<Trial> {
    vec![
        case("enforce::a_refused_end_is_sent_no_packet", no_packet),
        case("enforce::a_connection_that_is_there_is_cut", cut),
        case("enforce::networks_within_networks_each_have_their_time", nested),
        case("enforce::a_cgroup_has_no_network", cgroup),
        case("enforce::a_process_tree_has_no_network", tree),
    ]
}

/// A helper that is told whom to reach; `ends` in the tests' crate.
pub(crate) struct Ends {
    child: Child,
    orders: Option<ChildStdin>,
    answers: Receiver<String>,
}

impl Ends {
    /// In this cgroup, and in a network namespace of its own if `alone`.
    pub(crate) fn start(cgroup: Option<&Cgroup>, alone: bool) -> Result<Self> {
        let mut command = helper("ends")?;
        if alone {
            command.arg("own-network");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(cgroup) = cgroup {
            cgroup.enter(&mut command);
        }
        let mut child = spawn(&mut command)?;
        let orders = child.stdin.take();
        let answers = lines(child.stdout.take().context("no output")?);
        let ends = Self {
            child,
            orders,
            answers,
        };
        let answer = ends.answer("its start")?;
        ensure!(answer == "ok", "it began with {answer:?}");
        Ok(ends)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn say(&mut self, order: &str) -> Result<String> {
        let orders = self.orders.as_mut().context("no input")?;
        writeln!(orders, "{order}")?;
        self.answer(order)
    }

    fn answer(&self, order: &str) -> Result<String> {
        let answer = self.answers.recv_timeout(patience(30));
        Ok(answer
            .with_context(|| format!("no answer to {order:?}"))?
            .trim()
            .to_owned())
    }

    /// Gives an order that must be answered so.
    pub(crate) fn expect(&mut self, order: &str, wanted: &str) -> Result<()> {
        let answer = self.say(order)?;
        ensure!(answer == wanted, "{order}: {answer:?}, not {wanted:?}");
        Ok(())
    }

    /// Gives an order that is answered with a word.
    pub(crate) fn ask(&mut self, order: &str) -> Result<String> {
        let answer = self.say(order)?;
        let word = answer.strip_prefix("ok ");
        Ok(word.with_context(|| format!("{order}: {answer:?}"))?.to_owned())
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(output: ChildStdout) -> Receiver<String> {
    let (to, lines) = channel();
    std::thread::spawn(move || {
        BufReader::new(output)
            .lines()
            .map_while(std::result::Result::ok)
            .try_for_each(|line| to.send(line))
    });
    lines
}

pub(super) fn end(network: &str) -> Result<Subject> {
    Ok(Subject::End(Destination::all(network.parse()?)))
}

pub(super) fn port(address: &str, port: u16) -> Result<Destination> {
    Ok(Destination::port(
        address.parse::<std::net::IpAddr>()?.into(),
        port,
    ))
}

/// The same for both families: an address of the loopback network each.
const LOCAL: [(&str, &str); 2] = [("127.77.0.1", "127.77.0.0/16"), ("[::1]", "::1/128")];

fn no_packet() -> Result<()> {
    let mut stage = Stage::set()?;
    // One process plays both ends, in a network of its own: nobody else sends there.
    let mut ends = Ends::start(Some(&stage.cgroup), true)?;
    for (address, network) in LOCAL {
        let tcp = ends.ask(&format!("listen {address}:0"))?;
        let udp = ends.ask(&format!("bind {address}:0"))?;
        ends.expect(&format!("connect {tcp}"), "ok")?;
        for order in ["send", "send-connected"] {
            ends.expect(&format!("{order} {udp}"), "ok")?;
            ends.expect(&format!("receive {udp}"), "ok")?;
        }
        let subject = end(network)?;
        stage.impose(&subject)?;
        let before = ends.ask("packets")?;
        ends.expect(&format!("connect {tcp}"), "refused")?;
        ends.expect(&format!("send {udp}"), "refused")?;
        ends.expect(&format!("send-connected {udp}"), "refused")?;
        let after = ends.ask("packets")?;
        ensure!(
            before == after,
            "{address}: {before} packets before, {after} after"
        );
        ensure!(
            stage.hits(&subject)? == 3,
            "{address}: {} hits",
            stage.hits(&subject)?
        );
        ensure!(stage.enforcer.lift(&subject)?, "there was nothing to lift");
        ends.expect(&format!("connect {tcp}"), "ok")?;
    }
    // One port of it.
    let tcp = ends.ask("listen 127.77.0.2:0")?;
    let other = ends.ask("listen 127.77.0.2:0")?;
    let number = tcp.rsplit(':').next().context("no port")?.parse()?;
    stage.impose(&Subject::End(port("127.77.0.2", number)?))?;
    ends.expect(&format!("connect {tcp}"), "refused")?;
    ends.expect(&format!("connect {other}"), "ok")?;
    Ok(())
}

fn cut() -> Result<()> {
    let mut stage = Stage::set()?;
    let mut server = Ends::start(None, false)?;
    let mut client = Ends::start(Some(&stage.cgroup), false)?;
    for (address, network) in LOCAL {
        let tcp = server.ask(&format!("listen {address}:0"))?;
        let udp = server.ask(&format!("bind {address}:0"))?;
        client.expect(&format!("connect {tcp}"), "ok")?;
        server.expect(&format!("serve {tcp}"), "ok")?;
        client.expect(&format!("echo {tcp}"), "ok")?;
        client.expect(&format!("associate {udp}"), "ok")?;
        let subject = end(network)?;
        stage.impose(&subject)?;
        client.expect(&format!("echo {tcp}"), "silence")?;
        client.expect(&format!("send-again {udp}"), "refused")?;
        server.expect(&format!("receive {udp}"), "silence")?;
        ensure!(stage.hits(&subject)? > 1, "{address}: not counted");
        ensure!(stage.enforcer.lift(&subject)?, "there was nothing to lift");
        client.expect(&format!("send-again {udp}"), "ok")?;
        server.expect(&format!("receive {udp}"), "ok")?;
    }
    Ok(())
}

fn nested() -> Result<()> {
    let mut stage = Stage::set()?;
    let mut client = Ends::start(Some(&stage.cgroup), false)?;
    let (outer, inner) = (end("127.77.0.0/16")?, end("127.77.1.0/24")?);
    stage.impose(&outer)?;
    stage.enforcer.impose(&inner, later(1))?;
    std::thread::sleep(std::time::Duration::from_millis(1100));
    client.expect("send 127.77.1.1:9", "refused")?;
    ensure!(
        stage.enforcer.sweep(sensor::time::BootTime::now())?.len() == 1,
        "the inner one did not end"
    );
    client.expect("send 127.77.1.1:9", "refused")?;
    stage.enforcer.impose(&inner, later(600))?;
    ensure!(stage.enforcer.lift(&outer)?, "there was nothing to lift");
    client.expect("send 127.77.1.1:9", "refused")?;
    client.expect("send 127.77.2.1:9", "ok")?;
    // What is spared is reached, whatever holds it.
    stage.enforcer.spare(&[], &[port("127.77.1.1", 9)?])?;
    client.expect("send 127.77.1.1:9", "ok")?;
    client.expect("send 127.77.1.1:10", "refused")?;
    Ok(())
}

fn cgroup() -> Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let mut stage = Stage::set()?;
    let mut server = Ends::start(None, false)?;
    let mut client = Ends::start(Some(&stage.cgroup), false)?;
    let tcp = server.ask("listen 127.77.0.1:0")?;
    client.expect(&format!("connect {tcp}"), "ok")?;
    server.expect(&format!("serve {tcp}"), "ok")?;
    client.expect(&format!("echo {tcp}"), "ok")?;
    let subject = Subject::Cgroup(std::fs::metadata(stage.cgroup.unified()?)?.ino());
    stage.impose(&subject)?;
    client.expect(&format!("echo {tcp}"), "silence")?;
    client.expect(&format!("connect {tcp}"), "refused")?;
    client.expect("send [::1]:9", "refused")?;
    server.expect("send 127.77.0.1:9", "ok")?;
    ensure!(stage.hits(&subject)? > 2, "not counted");
    ensure!(stage.enforcer.lift(&subject)?, "there was nothing to lift");
    client.expect(&format!("connect {tcp}"), "ok")?;
    // That of whoever asks for it is refused; here it is the root, as for most agents.
    let root = Cgroup::new("sensor-test-unused")?;
    let parent = root.unified()?.parent().context("no parent")?.to_owned();
    let own = Subject::Cgroup(std::fs::metadata(parent)?.ino());
    let result = stage.enforcer.impose(&own, later(60));
    ensure!(
        matches!(result, Err(EnforceError::Own | EnforceError::RootCgroup)),
        "{result:?}"
    );
    Ok(())
}

fn tree() -> Result<()> {
    let mut stage = Stage::set()?;
    let mut server = Ends::start(None, false)?;
    let mut client = Ends::start(Some(&stage.cgroup), false)?;
    let mut other = Ends::start(Some(&stage.cgroup), false)?;
    let tcp = server.ask("listen 127.77.0.1:0")?;
    let mut listen = client.ask("listen 127.77.0.1:0")?;
    for who in [&mut client, &mut other] {
        who.expect(&format!("connect {tcp}"), "ok")?;
        server.expect(&format!("serve {tcp}"), "ok")?;
        who.expect(&format!("echo {tcp}"), "ok")?;
    }
    let stat = ProcDir::open(client.pid())?.stat().context("no such process")?;
    let top = ProcessId {
        tgid: client.pid(),
        start: stat.start,
    };
    let subject = Subject::Tree(top);
    stage.impose(&subject)?;
    // What it has, what it asks for, what its children ask for, what is asked of it.
    client.expect(&format!("echo {tcp}"), "silence")?;
    client.expect(&format!("connect {tcp}"), "refused")?;
    client.expect("send [::1]:9", "refused")?;
    let child = client.ask(&format!("child connect {tcp}"))?;
    ensure!(child == "refused", "its child: {child:?}");
    other.expect(&format!("connect {listen}"), "silence")?;
    // Others are let alone.
    other.expect(&format!("echo {tcp}"), "ok")?;
    other.expect(&format!("child connect {tcp}"), "ok ok")?;
    ensure!(stage.hits(&subject)? > 3, "not counted");
    ensure!(stage.enforcer.lift(&subject)?, "there was nothing to lift");
    listen = client.ask("listen 127.77.0.1:0")?;
    other.expect(&format!("connect {listen}"), "ok")?;
    let own = ProcessId {
        tgid: std::process::id(),
        start: ProcDir::open(std::process::id())?
            .stat()
            .context("no stat")?
            .start,
    };
    let result = stage.enforcer.impose(&Subject::Tree(own), later(60));
    ensure!(matches!(result, Err(EnforceError::Own)), "{result:?}");
    let gone = ProcessId {
        start: later(0),
        ..top
    };
    let result = stage.enforcer.impose(&Subject::Tree(gone), later(60));
    ensure!(matches!(result, Err(EnforceError::Gone(_))), "{result:?}");
    Ok(())
}
