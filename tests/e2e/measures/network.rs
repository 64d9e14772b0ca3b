//! Whom a process may reach: the policy blocks where it connects to, a person takes the network from it, and both are undone.

use std::fs;

use anyhow::{Result, ensure};
use rustix::mount::{UnmountFlags, unmount};
use sensor_proto::v1::{ActionKind, Filter, Result as ActionResult, entry};
use sensor_tests::{
    agent::Agent,
    patience::{patience, wait_for},
    stream::Stream,
};

use super::{Bpffs, done, respond};
use crate::enforce::Ends;

/// For documentation: nobody has it but the network namespaces of this test.
const ADDRESS: &str = "198.51.100.7";

pub(super) fn destination() -> Result<()> {
    let (bpffs, rules) = (Bpffs::new()?, tempfile::tempdir()?);
    let rule = format!(
        "title: called\nid: called\nlevel: high\nlogsource:\n  product: linux\n  category: network_connection\n\
         detection:\n  there:\n    DestinationIp: {ADDRESS}\n    Initiated: 'true'\n  condition: there\n"
    );
    fs::write(rules.path().join("rule.yml"), rule)?;
    let agent = Agent::start(
        &format!(
            "[rules]\nbuiltin = false\npaths = [{:?}]\n[respond]\nmode = \"act\"\naction = \"block_destination\"\nbpffs = {:?}\n",
            rules.path(),
            bpffs.path()
        ),
        None,
    )?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let start = || -> Result<(Ends, String)> {
        let mut ends = Ends::start(None, true)?;
        ends.expect(&format!("ip addr add {ADDRESS}/32 dev lo"), "ok")?;
        let end = ends.ask(&format!("listen {ADDRESS}:0"))?;
        Ok((ends, end))
    };
    let (mut suspect, end) = start()?;
    suspect.expect(&format!("connect {end}"), "ok")?;
    let outcome = stream.wait_for("an outcome", |entry| match &entry.body {
        Some(entry::Body::Outcome(outcome)) => Some(outcome.clone()),
        _ => None,
    })?;
    let action = outcome.action.clone().unwrap_or_default();
    ensure!(
        outcome.result() == ActionResult::Done && action.kind() == ActionKind::Block,
        "{outcome:?}"
    );
    suspect.expect(&format!("connect {end}"), "refused")?;
    // It is the address that is blocked, whoever asks.
    let (mut other, elsewhere) = start()?;
    other.expect(&format!("connect {elsewhere}"), "refused")?;
    let undone = respond(&agent, &["undo", &outcome.number.to_string()])?;
    done(&stream, &undone)?;
    other.expect(&format!("connect {elsewhere}"), "ok")
}

pub(super) fn disconnected() -> Result<()> {
    let bpffs = Bpffs::new()?;
    let config = format!("[respond]\nbpffs = {:?}\n", bpffs.path());
    let mut agent = Agent::start(&config, None)?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let mut suspect = Ends::start(None, true)?;
    let end = suspect.ask("listen 127.0.0.1:0")?;
    suspect.expect(&format!("connect {end}"), "ok")?;
    let pid = suspect.pid().to_string();
    let number = respond(&agent, &["disconnect", &pid, "--for", "10m", "--why", "a test"])?;
    done(&stream, &number)?;
    suspect.expect(&format!("connect {end}"), "refused")?;
    suspect.expect(&format!("child connect {end}"), "ok refused")?;
    // What the kernel has forgotten holds again as long as the process is the same.
    agent.daemon().kill()?;
    unmount(bpffs.path(), UnmountFlags::DETACH)?;
    wait_for("the kernel to forget", patience(10), || {
        Ok(suspect.expect(&format!("connect {end}"), "ok").ok())
    })?;
    agent.revive(&config)?;
    wait_for("it to be cut off again", patience(10), || {
        Ok(suspect.expect(&format!("connect {end}"), "refused").ok())
    })?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let undone = respond(&agent, &["reconnect", &pid])?;
    done(&stream, &undone)?;
    suspect.expect(&format!("connect {end}"), "ok")?;
    // Whom it left behind can be let go when it has ended.
    let number = respond(&agent, &["disconnect", &pid, "--for", "10m"])?;
    done(&stream, &number)?;
    drop(suspect);
    let undone = respond(&agent, &["undo", &number])?;
    done(&stream, &undone)?;
    Ok(())
}
