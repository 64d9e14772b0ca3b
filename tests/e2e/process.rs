//! The lives of processes: complete, in order, with the right parents.

use std::{
    collections::{HashMap, HashSet},
    os::unix::fs::PermissionsExt,
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use libtest_mimic::Trial;
use sensor_proto::v1::{Entry, Event, Process, ProcessId, event};
use sensor_tests::{
    command::{helper, marker, real_path, run, spawn, succeed, wait},
    history::events,
    stack::Stack,
    stream::Stream,
};

use crate::case;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        case(
            "process::shell_pipeline_has_every_part_with_its_parent",
            shell_pipeline,
        ),
        case("process::script_is_told_from_its_interpreter", script),
        case("process::two_programs_in_one_process", two_programs),
        case("process::program_started_by_a_thread", thread_exec),
        case("process::fork_chain_of_2000_has_every_parent", fork_chain),
        case("process::a_thousand_that_end_at_once_are_whole", quick_ends),
        case("process::those_who_push_each_other_aside_are_whole", crowd),
        case("process::exit_codes_and_signals", codes_and_signals),
    ]
}

fn shell_pipeline() -> Result<()> {
    let stack = Stack::shared()?;
    let stream = stack.subscribe()?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("lines");
    std::fs::write(&file, "b\na\nb\n")?;
    let script = format!(
        "/bin/cat {} | /usr/bin/sort | /usr/bin/wc -l; exit 7",
        file.display()
    );
    let mut shell = Command::new("/bin/sh");
    let (pid, status) = run(shell.args(["-c", &script]).stdout(std::process::Stdio::null()))?;
    ensure!(
        status.code() == Some(7),
        "the pipeline itself ended with {status}"
    );

    let shell = stream.history(pid)?;
    let shell_id = shell.complete(1)?;
    ensure!(shell.exit()?.code == Some(7), "exit {:?}", shell.exit()?);
    let children = children_of(&stream.got().entries, shell_id);
    ensure!(
        children.len() == 3,
        "expected three children of the shell, got {children:?}"
    );
    let mut programs = Vec::new();
    for child in children {
        let child = stream.history(child.tgid)?;
        child.complete(1)?;
        ensure!(
            child.parent()? == shell_id,
            "parent {:?}, shell {shell_id:?}",
            child.parent()?
        );
        ensure!(child.exit()?.code == Some(0), "exit {:?}", child.exit()?);
        let (process, exec) = child.exec()?;
        ensure!(
            process.executable == real_path(&exec.filename)?,
            "executable of {}: {process:#?}",
            exec.filename
        );
        ensure!(
            process.parent_executable == real_path("/bin/sh")?,
            "parent's executable of {process:#?}"
        );
        programs.push(exec.filename.clone());
    }
    programs.sort();
    ensure!(
        programs == ["/bin/cat", "/usr/bin/sort", "/usr/bin/wc"],
        "programs {programs:?}"
    );
    Ok(())
}

fn children_of(entries: &[Entry], parent: ProcessId) -> Vec<ProcessId> {
    let is_child = |event: &&Event| {
        let process = event.process.as_ref();
        matches!(event.body, Some(event::Body::Fork(_)))
            && process.and_then(|process| process.parent_id) == Some(parent)
    };
    events(entries)
        .filter(is_child)
        .filter_map(|event| event.process.as_ref()?.id)
        .collect()
}

fn script() -> Result<()> {
    let stack = Stack::shared()?;
    let stream = stack.subscribe()?;
    let folder = tempfile::tempdir()?;
    let script = folder.path().join("script.py");
    std::fs::write(
        &script,
        "#!/usr/bin/python3\nimport sys\nsys.exit(len(sys.argv))\n",
    )?;
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755))?;
    let marker = marker();
    let (pid, status) = run(Command::new(&script).args(["one", &marker]))?;
    ensure!(status.code() == Some(3), "the script itself ended with {status}");

    let history = stream.history(pid)?;
    history.complete(1)?;
    let (process, exec) = history.exec()?;
    let script = script.to_string_lossy().into_owned();
    ensure!(exec.script, "not marked as a script: {exec:?}");
    ensure!(exec.filename == script, "file name {:?}", exec.filename);
    ensure!(
        process.executable == real_path("/usr/bin/python3")?,
        "executable {:?}",
        process.executable
    );
    let expected = ["/usr/bin/python3", script.as_str(), "one", marker.as_str()];
    ensure!(process.args == expected, "arguments {:?}", process.args);
    Ok(())
}

fn two_programs() -> Result<()> {
    let stack = Stack::shared()?;
    let stream = stack.subscribe()?;
    let marker = marker();
    let last = format!("exec /bin/true {marker}");
    let pid = succeed(Command::new("/bin/sh").args(["-c", r#"exec /bin/sh -c "$1""#, "first", &last]))?;

    let history = stream.history(pid)?;
    history.complete(3)?;
    let programs: Vec<&[String]> = history
        .execs()
        .iter()
        .map(|(process, _)| process.args.as_slice())
        .collect();
    let first = &programs[0][1..];
    ensure!(
        first == ["-c", r#"exec /bin/sh -c "$1""#, "first", &last],
        "first program {first:?}"
    );
    ensure!(
        programs[1] == ["/bin/sh", "-c", &last],
        "second program {:?}",
        programs[1]
    );
    ensure!(
        programs[2] == ["/bin/true", &marker],
        "third program {:?}",
        programs[2]
    );
    let parents: Vec<_> = history
        .execs()
        .iter()
        .map(|(process, _)| process.parent_id)
        .collect();
    ensure!(
        parents
            .iter()
            .all(|parent| *parent == Some(history.parent().unwrap_or_default())),
        "parents {parents:?}"
    );
    Ok(())
}

fn thread_exec() -> Result<()> {
    let stack = Stack::shared()?;
    let stream = stack.subscribe()?;
    let marker = marker();
    let pid = succeed(helper("thread-exec")?.args(["/bin/true", &marker]))?;

    let history = stream.history(pid)?;
    let id = history.complete(2)?;
    let (process, _) = history.execs()[1];
    ensure!(
        process.args == ["/bin/true", &marker],
        "arguments {:?}",
        process.args
    );
    ensure!(
        process.tid == id.tgid,
        "the thread takes the process's id over, but tid is {}",
        process.tid
    );
    Ok(())
}

fn fork_chain() -> Result<()> {
    const GENERATIONS: usize = 2000;
    let stack = Stack::shared()?;
    let stream = stack.subscribe()?;
    let pid = succeed(helper("fork-chain")?.arg(GENERATIONS.to_string()))?;
    let mut id = stream.history(pid)?.complete(1)?;
    // The first one ended last, so all the others are there.
    let executable = real_path(std::env::current_exe()?)?;
    let entries = stream.got().entries.clone();
    for generation in 1..=GENERATIONS {
        // 2,000 times through some thousands of entries: a moment, and plain.
        let children = children_of(&entries, id);
        ensure!(
            children.len() == 1,
            "generation {generation}: children of {id:?} are {children:?}"
        );
        id = children[0];
        let process = forked(&entries, id).with_context(|| format!("generation {generation}"))?;
        ensure!(
            process.executable == executable,
            "generation {generation} runs {:?}",
            process.executable
        );
    }
    ensure!(
        children_of(&entries, id).is_empty(),
        "the chain is longer than it should be"
    );
    Ok(())
}

fn forked(entries: &[Entry], id: ProcessId) -> Result<&Process> {
    let found = events(entries)
        .filter_map(|event| event.process.as_ref())
        .find(|process| process.id == Some(id));
    found.context("it has no events")
}

fn quick_ends() -> Result<()> {
    const PROCESSES: usize = 1000;
    let stack = Stack::shared()?;
    let stream = stack.subscribe()?;
    let marker = marker();
    let pids = (0..PROCESSES)
        .map(|number| run_numbered(&marker, number))
        .collect::<Result<Vec<_>>>()?;
    are_whole(&stack, &stream, &marker, &pids)
}

/// More threads than processors start programs: tasks are preempted in the midst of forks, execs and ends, and with them, on newer
/// kernels, the programs that report those.
fn crowd() -> Result<()> {
    const THREADS: usize = 8;
    const PROCESSES: usize = 100;
    let stack = Stack::shared()?;
    let stream = stack.subscribe()?;
    let marker = marker();
    let pids = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let marker = &marker;
                let numbers = thread * PROCESSES..(thread + 1) * PROCESSES;
                scope.spawn(move || {
                    numbers
                        .map(|number| run_numbered(marker, number))
                        .collect::<Result<Vec<_>>>()
                })
            })
            .collect();
        let pids = threads.into_iter().map(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err(anyhow::anyhow!("a thread has ended in a panic")))
        });
        pids.collect::<Result<Vec<_>>>()
    })?;
    are_whole(&stack, &stream, &marker, &pids.concat())
}

fn run_numbered(marker: &str, number: usize) -> Result<(usize, u32)> {
    let pid = succeed(Command::new("/bin/true").arg(marker).arg(number.to_string()))?;
    Ok((number, pid))
}

/// Whether each of these processes was made, ran its program once, and ended once. One that does not come was skipped by the kernel, which
/// counts that: not before Linux 7.0.
fn are_whole(stack: &Stack, stream: &Stream, marker: &str, pids: &[(usize, u32)]) -> Result<()> {
    stream.fence()?;
    let entries = stream.got().entries.clone();
    let (lives, ends) = (lives(&entries, marker), ends(&entries));
    let forks: HashSet<_> = events(&entries)
        .filter(|event| matches!(event.body, Some(event::Body::Fork(_))))
        .filter_map(|event| event.process.as_ref()?.id)
        .map(|id| (id.tgid, id.start_time_ns))
        .collect();
    let mut missing = Vec::new();
    for (number, pid) in pids {
        let Some(id) = lives.get(&number.to_string()) else {
            missing.push(format!("the exec of process {pid}"));
            continue;
        };
        ensure!(id.tgid == *pid, "number {number} was process {pid}, not {id:?}");
        if !forks.contains(&(id.tgid, id.start_time_ns)) {
            missing.push(format!("the beginning of process {pid}"));
        }
        match ends.get(&(id.tgid, id.start_time_ns)).map(Vec::as_slice) {
            Some([Some(0)]) => {}
            None => missing.push(format!("the end of process {pid}")),
            Some(other) => bail!("process {id:?} ended {other:?}"),
        }
    }
    let status = stack.agent.status()?;
    let skipped = status.recursion_misses;
    let lost: u64 = status.accounts.iter().map(|account| account.lost).sum();
    let shed = status.uplink.unwrap_or_default().entries_shed;
    ensure!(
        missing.len() as u64 <= skipped,
        "{} of {} processes are not whole; the kernel skipped {skipped} runs, {lost} events were lost, {shed} entries shed, {} dropped: {:?}",
        missing.len(),
        pids.len(),
        stream.got().dropped,
        missing.iter().take(5).collect::<Vec<_>>()
    );

    Ok(())
}

/// Ids of the processes that were given `marker` and a number, by that number.
fn lives(entries: &[Entry], marker: &str) -> HashMap<String, ProcessId> {
    let execs = events(entries).filter(|event| matches!(event.body, Some(event::Body::Exec(_))));
    let numbered = execs.filter_map(|event| {
        let process = event.process.as_ref()?;
        let [_, word, number] = process.args.as_slice() else {
            return None;
        };
        (word == marker)
            .then(|| Some((number.clone(), process.id?)))
            .flatten()
    });
    numbered.collect()
}

/// The exit codes of every process, of which there should be one.
fn ends(entries: &[Entry]) -> HashMap<(u32, u64), Vec<Option<u32>>> {
    let mut ends: HashMap<_, Vec<_>> = HashMap::new();
    for event in events(entries) {
        if let Some(event::Body::Exit(exit)) = &event.body
            && let Some(id) = event.process.as_ref().and_then(|process| process.id)
        {
            ends.entry((id.tgid, id.start_time_ns))
                .or_default()
                .push(exit.code);
        }
    }
    ends
}

fn codes_and_signals() -> Result<()> {
    let stack = Stack::shared()?;
    let stream = stack.subscribe()?;
    for code in [0, 1, 42, 255] {
        let (pid, _) = run(helper("exit")?.arg(code.to_string()))?;
        let history = stream.history(pid)?;
        history.complete(1)?;
        let exit = history.exit()?;
        ensure!(
            exit.code == Some(code) && exit.signal.is_none(),
            "exit code {code} came as {exit:?}"
        );
    }
    for signal in [6, 9, 15] {
        let mut child = spawn(helper("die")?.arg(signal.to_string()))?;
        wait(&mut child)?;
        let history = stream.history(child.id())?;
        history.complete(1)?;
        let exit = history.exit()?;
        ensure!(
            exit.signal == Some(signal) && exit.code.is_none(),
            "signal {signal} came as {exit:?}"
        );
    }
    Ok(())
}
