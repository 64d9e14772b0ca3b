//! A service that does as it is told, line by line: `spawn N PROGRAM` starts N short-lived children, `shell` starts a
//! shell that waits for input, `close` ends that input. After each line it says how it went.

use std::{
    io::{BufRead as _, Write as _},
    os::unix::process::ExitStatusExt as _,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

/// `service SHELL`: SHELL is the program that `shell` starts.
pub(super) fn run(args: &[String]) -> Result<()> {
    let shell = args.first().context("no shell is named")?;
    let mut running: Option<Child> = None;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        let answer = match words[..] {
            ["spawn", count, program] => spawn(count.parse()?, program)?,
            ["shell"] => {
                let child = start(shell)?;
                let pid = child.id();
                running = Some(child);
                format!("shell {pid}")
            }
            ["end"] => end(running.take())?,
            ["close"] => {
                drop(running.as_mut().and_then(|child| child.stdin.take()));
                end(running.take())?
            }
            _ => bail!("cannot do {line:?}"),
        };
        println!("{answer}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

fn spawn(count: u32, program: &str) -> Result<String> {
    for _ in 0..count {
        ensure!(
            Command::new(program).status()?.success(),
            "{program} did not end well"
        );
    }
    Ok(format!("spawned {count}"))
}

fn start(shell: &str) -> Result<Child> {
    Ok(Command::new(shell)
        .args(["-c", "read line"])
        .stdin(Stdio::piped())
        .spawn()?)
}

/// Waits for the end of the shell and says how it came.
fn end(child: Option<Child>) -> Result<String> {
    let mut child = child.context("no shell is running")?;
    // Not `wait`, which would close the shell's input and so end it.
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    };
    Ok(match status.signal() {
        Some(signal) => format!("signal {signal}"),
        None => format!("code {}", status.code().unwrap_or(-1)),
    })
}
