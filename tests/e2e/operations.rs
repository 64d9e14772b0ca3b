//! What a process asks the kernel for, on each kind of hook that this kernel has.

use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use libtest_mimic::Trial;
use sensor_proto::v1::{Filter, Operation};
use sensor_tests::{
    agent::Agent,
    command::{helper, real_path, succeed},
    stream::Stream,
};

use crate::case;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        case("operations::are_reported_by_the_best_hooks", || all("lsm")),
        case("operations::are_reported_by_system_calls", || all("syscall")),
        case("operations::rare_ones_are_reported_by_the_best_hooks", || {
            rare("lsm")
        }),
        case("operations::rare_ones_are_reported_by_system_calls", || {
            rare("syscall")
        }),
        case(
            "operations::hooks_are_refused_only_where_a_kernel_cannot",
            refusals,
        ),
    ]
}

/// What may be said: the kernel lets nobody, it does not have the hook, it is too old for it; it was not asked.
const LIMITS: [&str; 4] = [
    "Operation not permitted",
    "does not have",
    "since Linux 6.0",
    "left out by --max-rung",
];

/// A hook that this kernel has is taken: what the verifier refuses is a fault of ours.
fn refusals() -> Result<()> {
    for max_rung in ["lsm", "tracepoint", "syscall"] {
        let agent = Agent::start(&format!("[capture]\nmax_rung = {max_rung:?}\n"), None)?;
        for hook in agent.status()?.hooks {
            for refusal in &hook.refused {
                ensure!(
                    LIMITS.iter().any(|limit| refusal.reason.contains(limit)),
                    "{} is not captured by {}: {}",
                    hook.signal,
                    refusal.rung,
                    refusal.reason
                );
            }
        }
    }
    Ok(())
}

/// Calls that are reported as such beside better hooks of their signal.
const LEFT_TO_CALLS: [&str; 6] = ["mknod", "mknodat", "ptrace", "unshare", "setns", "delete_module"];

/// Signal, path, target; `*` for whatever stands there, `{}` for the folder.
const EXPECTED: [(&str, &str, &str); 22] = [
    ("file_create", "{}/made", ""),
    ("file_link", "made", "{}/link"),
    ("file_open", "{}/made", ""),
    ("file_rename", "{}/made", "{}/moved"),
    ("file_rename", "{}/moved", "{}/again"),
    ("file_link", "{}/again", "{}/second"),
    ("file_chmod", "{}/again", ""),
    ("file_chown", "{}/again", ""),
    ("file_open", "{}/again", ""),
    ("file_truncate", "{}/again", ""),
    ("file_unlink", "{}/second", ""),
    ("file_create", "{}/folder", ""),
    ("memfd", "sensor-test", ""),
    ("exec_memory", "", ""),
    ("exec_memory", "", ""),
    ("ptrace", "", ""),
    ("process_write", "", ""),
    ("raw_socket", "", ""),
    ("setsid", "", ""),
    ("namespace", "", ""),
    ("mount", "tmpfs", "{}/folder"),
    ("root_change", "/", ""),
];

/// What the kernel did is reported once, what it refused by hooks at most, which are asked before.
fn rare(max_rung: &str) -> Result<()> {
    // What each is about: path, target, and a detail.
    let expected = [
        ("file_xattr", "{}/rare", "trusted.sensor-test", None),
        ("file_flags", "{}/rare", "", Some(("request", "FS_IOC_SETFLAGS"))),
        ("keyctl", "user", "sensor-test", None),
        ("userfaultfd", "", "", Some(("flags", "0x80000"))),
        ("bpf", "", "", Some(("command", "BPF_PROG_LOAD"))),
        ("kexec", "", "", None),
    ];
    let agent = Agent::start(&format!("[capture]\nmax_rung = \"{max_rung}\"\n"), None)?;
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let folder = tempfile::tempdir()?;
    let path = real_path(folder.path())?;
    let mut command = helper("rare-operations")?;
    let child = command.arg(&path).stdout(Stdio::piped()).spawn()?;
    let pid = child.id();
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "the helper ended with {}", output.status);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    print!("{said}");
    let history = stream.history(pid)?;
    let operations = history.operations();
    for (signal, path_like, target, detail) in expected {
        let Some(line) = said.lines().find(|line| line.starts_with(signal)) else {
            continue;
        };
        let reported: Vec<_> = operations
            .iter()
            .filter(|operation| operation.signal == signal)
            .collect();
        if line != format!("{signal} done") {
            ensure!(
                reported.iter().all(|operation| operation.attempt),
                "{line}: {reported:?}"
            );
            continue;
        }
        let [operation] = reported[..] else {
            bail!("{signal} was done once, and is reported as {reported:?}");
        };
        // Some hooks are not told the mount: then the path begins at the root of the file system, and says so.
        let wanted = path_like.replace("{}", &path);
        let is_it = operation.path == wanted || operation.path_unmounted && wanted.ends_with(&operation.path);
        ensure!(is_it && operation.target == target, "{operation:?}");
        if let Some((name, text)) = detail {
            let found = operation.details.iter().find(|detail| detail.name == name);
            ensure!(found.is_some_and(|found| found.text == text), "{operation:?}");
        }
    }
    agent.nothing_lost()
}

fn all(max_rung: &str) -> Result<()> {
    let agent = Agent::start(
        &format!("[capture]\nfold_window = \"0s\"\nmax_rung = \"{max_rung}\"\n"),
        None,
    )?;
    let rungs = agent.status()?.hooks;
    let by_hook = |signal: &str| {
        let mut of_signal = rungs.iter().filter(|hook| hook.signal == signal);
        of_signal.any(|hook| hook.rung.starts_with("lsm/"))
    };
    ensure!(
        max_rung == "lsm" || !by_hook("file_open"),
        "--max-rung is not followed"
    );
    let stream = Stream::from_agent(&agent.socket(), Filter::default())?;
    let folder = tempfile::tempdir()?;
    let path = real_path(folder.path())?;
    let pid = succeed(helper("operations")?.arg(&path))?;
    let history = stream.history(pid)?;
    let operations = history.operations();

    // In this order, with others between them: a program does more than it is told to.
    let mut rest = operations.iter().copied();
    for (signal, path_like, target_like) in EXPECTED {
        let wanted = [path_like, target_like].map(|like| like.replace("{}", &path));
        let fits = |operation: &&Operation| {
            operation.signal == signal && [&operation.path, &operation.target] == [&wanted[0], &wanted[1]]
        };
        rest.find(fits).with_context(|| {
            let seen = operations.iter().map(|operation| {
                format!(
                    "{} {} {:?} {:?}",
                    operation.signal, operation.call, operation.path, operation.target
                )
            });
            format!(
                "no {signal} of {wanted:?} in its place; there are:\n{}",
                seen.collect::<Vec<_>>().join("\n")
            )
        })?;
    }
    // A hook comes before the operation, a system call reports what has been done. What is left to system calls has a result.
    for operation in &operations {
        let expected = by_hook(&operation.signal) && !LEFT_TO_CALLS.contains(&operation.call.as_str());
        ensure!(operation.attempt == expected, "{operation:?}");
    }
    let (access, granted) = if by_hook("ptrace") {
        ("access", "PTRACE_MODE_ATTACH|PTRACE_MODE_REALCREDS")
    } else {
        ("request", "PTRACE_SEIZE")
    };
    let detail = |signal: &str, name: &str| {
        let operation = operations.iter().find(|operation| operation.signal == signal);
        let details = operation
            .map(|operation| operation.details.as_slice())
            .unwrap_or_default();
        let found = details.iter().find(|detail| detail.name == name);
        found.map(|detail| detail.text.clone()).unwrap_or_default()
    };
    for (signal, name, text) in [
        ("file_chmod", "mode", "0640"),
        ("exec_memory", "protection", "PROT_READ|PROT_EXEC"),
        ("ptrace", access, granted),
        ("namespace", "flags", "CLONE_NEWNS|CLONE_NEWUTS"),
        ("raw_socket", "family", "AF_INET"),
    ] {
        ensure!(
            detail(signal, name) == text,
            "{signal} has {name} {:?}, not {text:?}",
            detail(signal, name)
        );
    }
    agent.nothing_lost()
}
