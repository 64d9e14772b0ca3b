//! `sensor sequences`: look at, and put together, the files in which agents keep what workloads are known to do.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::Subcommand;
use sensor_behaviour::windows::Windows;

use super::text::harmless;
use crate::host::write_windows;

/// The file `sequences` of an agent's directory for state.
#[derive(Clone, Debug, clap::Args)]
pub struct SequencesArgs {
    #[command(subcommand)]
    command: Command,
}

/// What to do with it.
#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Show what is known of each workload.
    Show {
        /// The file, e.g. /var/lib/sensor/sequences.
        file: PathBuf,
    },
    /// Put together what several agents know. Of a workload that several know, every order of each is known; it is learned on
    /// where one of them still learns it.
    Merge {
        /// The files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Where the result goes: a file with the name `sequences` in a directory for state, of an agent that does not run.
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
}

/// Does it.
///
/// # Errors
/// If a file cannot be read or written, or is not of an agent.
pub fn run(args: &SequencesArgs) -> anyhow::Result<()> {
    match &args.command {
        Command::Show { file } => print!("{}", render(&read(file)?)),
        Command::Merge { files, output } => {
            let mut all = Windows::default();
            for file in files {
                all.merge(&read(file)?);
            }
            if output.exists() && !files.contains(output) {
                bail!(
                    "{} is there already; name it among the files to keep what it says",
                    output.display()
                );
            }
            write_windows(output, &all).with_context(|| format!("cannot write {}", output.display()))?;
            println!("{} workloads, {} orders", all.iter().count(), all.total());
        }
    }
    Ok(())
}

fn read(file: &Path) -> anyhow::Result<Windows> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    Windows::from_snapshot(&bytes).with_context(|| file.display().to_string())
}

fn render(windows: &Windows) -> String {
    let mut text = format!(
        "{:<9}{:>8}  {:<14} workload\n",
        "state", "orders", "nothing new for"
    );
    for (workload, known) in windows.iter() {
        let quiet = humantime_serde::re::humantime::format_duration(Duration::from_secs(known.quiet_seconds));
        text.push_str(&format!(
            "{:<9}{:>8}  {:<15} {}\n",
            if known.settled { "learned" } else { "learning" },
            known.windows().len(),
            quiet.to_string(),
            harmless(workload)
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use sensor_behaviour::windows::Known;

    use super::*;

    fn known(windows: &[u64], settled: bool) -> Known {
        let mut known = Known::new(windows.to_vec());
        known.settled = settled;
        known.quiet_seconds = 93_784;
        known
    }

    fn file(folder: &Path, name: &str, workloads: &[(&str, Known)]) -> PathBuf {
        let mut windows = Windows::default();
        for (workload, known) in workloads {
            windows.put(workload, known.clone());
        }
        let path = folder.join(name);
        fs::write(&path, windows.to_snapshot()).unwrap();
        path
    }

    #[test]
    fn files_of_two_hosts_become_one() {
        let folder = tempfile::tempdir().unwrap();
        let one = [
            ("unit:a.service", known(&[1, 2], true)),
            ("unit:b\x1b.service", known(&[9], true)),
        ];
        let files = vec![
            file(folder.path(), "one", &one),
            file(folder.path(), "two", &[("unit:a.service", known(&[2, 3], false))]),
        ];
        let output = folder.path().join("both");
        let merge = SequencesArgs {
            command: Command::Merge {
                files,
                output: output.clone(),
            },
        };
        run(&merge).unwrap();
        insta::assert_snapshot!(render(&read(&output).unwrap()), @r"
        state      orders  nothing new for workload
        learning        3  1day 2h 3m 4s   unit:a.service
        learned         1  1day 2h 3m 4s   unit:b\x1b.service
        ");
        let again = run(&merge).unwrap_err().to_string();
        assert!(again.contains("is there already"), "{again}");
    }

    #[test]
    fn what_is_no_such_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sequences");
        let error = |path: &Path| format!("{:#}", read(path).unwrap_err());
        assert!(error(&path).contains("cannot read"));
        fs::write(&path, "SNSM").unwrap();
        assert!(error(&path).contains("cut off"), "{}", error(&path));
    }
}
