//! What a process does by io_uring alone.

use std::{io::Read as _, net::TcpListener};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use sensor_proto::v1::{Filter, event};
use sensor_tests::{
    agent::Agent,
    command::{helper, real_path, succeed},
    history::History,
    stream::Stream,
};

use crate::case;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        case("uring::is_seen_by_the_best_hooks", || seen("lsm")),
        case("uring::is_seen_by_what_was_submitted", || seen("syscall")),
    ]
}

fn seen(max_rung: &str) -> Result<()> {
    let agent = Agent::start(
        &format!("[capture]\nfold_window = \"0s\"\nmax_rung = \"{max_rung}\"\n"),
        None,
    )?;
    let hooks = agent.status()?.hooks;
    let by_hook = hooks
        .iter()
        .any(|hook| hook.signal == "file_open" && hook.rung.starts_with("lsm/"));
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let folder = tempfile::tempdir()?;
    let path = real_path(folder.path())?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let reader = std::thread::spawn(move || -> Result<String> {
        let mut text = String::new();
        listener.accept()?.0.read_to_string(&mut text)?;
        Ok(text)
    });
    let pid = succeed(helper("uring")?.args([&path, &address.to_string()]))?;
    let text = reader.join().ok().context("the reader broke")??;
    ensure!(text == "text", "{text:?} was received");
    let history = stream.history(pid)?;
    submissions(&history)?;
    connection(&history, address.port().into())?;

    let made = format!("{path}/made");
    let of_file = history
        .operations()
        .into_iter()
        .filter(|operation| operation.path == made)
        .map(|operation| (operation.signal.as_str(), operation.call.as_str()));
    let of_file: Vec<_> = of_file.collect();
    let expected: &[_] = if by_hook {
        &[("file_create", "file_open"), ("file_open", "file_open")]
    } else {
        // That is the blind spot of system calls: the submission is what is left.
        &[]
    };
    ensure!(
        of_file == expected,
        "of the file came {of_file:?}, not {expected:?}"
    );
    agent.nothing_lost()?;
    folded(&agent)
}

/// Each kind of request is there, and none for each time.
fn submissions(history: &History) -> Result<()> {
    let submitted: Vec<&str> = history
        .operations()
        .into_iter()
        .filter(|operation| operation.signal == "io_uring")
        .filter_map(|operation| operation.details.first())
        .map(|detail| detail.text.as_str())
        .collect();
    for opcode in ["OPENAT", "WRITE", "READ", "NOP", "CONNECT", "SEND"] {
        let opcode = format!("IORING_OP_{opcode}");
        ensure!(
            submitted.contains(&opcode.as_str()),
            "no {opcode} among {submitted:?}"
        );
    }
    let nops = submitted
        .iter()
        .filter(|opcode| **opcode == "IORING_OP_NOP")
        .count();
    ensure!(
        nops < 50,
        "{nops} of 100 requests that do nothing were reported one by one"
    );
    Ok(())
}

fn connection(history: &History, port: u32) -> Result<()> {
    let connects = history.bodies(|body| match body {
        event::Body::Connect(connect) => connect.tuple.as_ref(),
        _ => None,
    });
    ensure!(
        connects.iter().any(|(_, tuple)| tuple.remote_port == port),
        "no connection to port {port}: {connects:?}"
    );
    Ok(())
}

/// What was not reported one by one is in the account.
fn folded(agent: &Agent) -> Result<()> {
    let accounts = agent.status()?.accounts;
    let account = accounts.iter().find(|account| account.signal == "io_uring");
    let folded = account.map_or(0, |account| account.aggregated);
    ensure!(
        folded >= 50,
        "{folded} submissions count as aggregated: {account:?}"
    );
    Ok(())
}
