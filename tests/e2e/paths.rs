//! What is reported is the file that the kernel worked on, not what the process called it.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use sensor_proto::v1::{Filter, Operation};
use sensor_tests::{
    agent::Agent,
    command::{helper, real_path},
    history::History,
    stream::Stream,
};

use crate::case;

/// How often a link is swapped under the process's hands.
const ROUNDS: usize = 300;
/// More than there are processors.
const THREADS: usize = 8;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        case("paths::of_every_view_are_true_on_the_best_hooks", || views("lsm")),
        case("paths::of_every_view_are_true_on_system_calls", || {
            views("syscall")
        }),
        case("paths::are_whole_when_threads_interrupt_each_other", storm),
        case("paths::are_true_while_a_link_is_swapped", || swapped("lsm")),
        case("paths::of_opened_files_are_true_while_a_link_is_swapped", || {
            swapped("syscall")
        }),
    ]
}

/// Runs a helper under an agent of its own: what it said, what was reported of it, and whether by hooks that withstand races.
fn watch(max_rung: &str, role: &str, more: &[String]) -> Result<(String, Vec<Vec<String>>, History, bool)> {
    let agent = Agent::start(
        &format!("[capture]\nfold_window = \"0s\"\nmax_rung = \"{max_rung}\"\n"),
        None,
    )?;
    let hooks = agent.status()?.hooks;
    let withstands = hooks
        .iter()
        .any(|hook| hook.signal == "file_chmod" && hook.rung.starts_with("lsm/"));
    // Without the renames, of which there are more than a reader can be asked to take.
    let wanted = ["exec", "exit", "file_create", "file_open", "file_chmod"];
    let filter = Filter {
        signals: wanted.map(str::to_owned).into(),
        ..Filter::default()
    };
    let stream = Stream::from_agent(&agent.socket(), filter)?;
    let folder = tempfile::tempdir()?;
    let path = real_path(folder.path())?;
    let child = helper(role)?
        .arg(&path)
        .args(more)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()?;
    let pid = child.id();
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "the helper ended with {}", output.status);
    let lines = String::from_utf8(output.stdout)?;
    let lines = lines
        .lines()
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .collect();
    let history = stream.history(pid)?;
    ensure!(
        stream.got().dropped == 0,
        "the reader was too slow: nothing was tested"
    );
    agent.nothing_lost()?;
    Ok((path, lines, history, withstands))
}

fn of_signal<'a>(history: &'a History, signal: &str) -> Vec<&'a Operation> {
    let mut operations = history.operations();
    operations.retain(|operation| operation.signal == signal);
    operations
}

fn views(max_rung: &str) -> Result<()> {
    let (_, lines, history, _) = watch(max_rung, "path-views", &[])?;
    let opens = of_signal(&history, "file_open");
    ensure!(lines.len() == 6, "the helper said {lines:?}");
    // By position from the end: what came before was preparation.
    let opens = &opens[opens
        .len()
        .checked_sub(lines.len())
        .context("opens are missing")?..];
    for (line, open) in lines.iter().zip(opens) {
        let [inode, path] = &line[..] else {
            continue;
        };
        ensure!(
            (&open.inode.to_string(), &open.path) == (inode, path),
            "inode {inode} at {path} was opened, reported is {open:?}"
        );
    }
    Ok(())
}

/// Programs of security hooks can be interrupted by the next thread's: none may write into the other's record, and whatever finds no
/// room is counted.
fn storm() -> Result<()> {
    let (folder, _, history, _) = watch("lsm", "path-storm", &[THREADS.to_string(), ROUNDS.to_string()])?;
    let opens = of_signal(&history, "file_open");
    ensure!(
        opens.len() == THREADS * ROUNDS,
        "{} opens were reported",
        opens.len()
    );
    let mut inodes = std::collections::BTreeMap::new();
    for open in opens {
        let is_whole = open
            .path
            .strip_prefix(&format!("{folder}/"))
            .and_then(|rest| rest.split_once('/'));
        ensure!(is_whole.is_some_and(|(parent, name)| parent == name), "{open:?}");
        let inode = *inodes.entry(&open.path).or_insert(open.inode);
        ensure!(inode == open.inode, "another inode than before: {open:?}");
    }
    ensure!(inodes.len() == THREADS, "{} files, not {THREADS}", inodes.len());
    Ok(())
}

fn swapped(max_rung: &str) -> Result<()> {
    let (folder, lines, history, withstands) = watch(max_rung, "path-swaps", &[ROUNDS.to_string()])?;
    ensure!(lines.len() >= ROUNDS, "the helper said {} lines", lines.len());
    let column = |index: usize| lines.iter().map(move |line| line[index].as_str());
    let opened: Vec<&str> = column(0).collect();
    let both = opened.iter().any(|inode| *inode != opened[0]);
    ensure!(both, "the link was never swapped in time: nothing was tested");

    let name_of = names(&folder, &history);
    let is_of = |operation: &&&Operation| operation.path == name_of[0].1 || operation.path == name_of[1].1;
    let opens: Vec<&Operation> = of_signal(&history, "file_open")
        .iter()
        .filter(is_of)
        .copied()
        .collect();
    check(&opened, &opens, &name_of)?;
    if withstands {
        check(
            &column(1).collect::<Vec<_>>(),
            &of_signal(&history, "file_chmod"),
            &name_of,
        )?;
    }
    Ok(())
}

/// Inode and path of the two files, as their making was reported.
fn names(folder: &str, history: &History) -> [(u64, String); 2] {
    ["one", "two"].map(|name| {
        let path = format!("{folder}/{name}");
        let made = of_signal(history, "file_create");
        let inode = made
            .iter()
            .find(|made| made.path == path)
            .map_or(0, |made| made.inode);
        (inode, path)
    })
}

/// One report for each round, in their order, each with the inode of the round and the path that belongs to it.
fn check(rounds: &[&str], reports: &[&Operation], names: &[(u64, String)]) -> Result<()> {
    ensure!(
        reports.len() == rounds.len(),
        "{} rounds, {} reports, the last: {:?}",
        rounds.len(),
        reports.len(),
        reports.last()
    );
    for (round, (inode, report)) in rounds.iter().zip(reports).enumerate() {
        let fits = report.inode.to_string() == *inode && names.contains(&(report.inode, report.path.clone()));
        ensure!(
            fits,
            "round {round} worked on inode {inode}, reported is {report:?}; {names:?}"
        );
    }
    Ok(())
}
