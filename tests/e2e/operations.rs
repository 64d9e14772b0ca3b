//! What a process asks the kernel for by system calls.

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use sensor_proto::v1::{Filter, Operation};
use sensor_tests::{
    agent::Agent,
    command::{helper, real_path, succeed},
    stream::Stream,
};

use crate::case;

pub(crate) fn trials() -> Vec<Trial> {
    vec![case("operations::are_reported_with_what_they_were_done_to", all)]
}

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

fn all() -> Result<()> {
    let agent = Agent::start("[capture]\nfold_window = \"0s\"\n", None)?;
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
        ("ptrace", "request", "PTRACE_SEIZE"),
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
