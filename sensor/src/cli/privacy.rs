//! `sensor privacy`: what would leave this host of commands and events, without an agent.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Subcommand;
use sensor_proto::v1;

use super::{
    json::{from_json, to_json},
    text::harmless,
};
use crate::{config::Config, export::escape, privacy::Policy};

/// See what would leave this host.
#[derive(Clone, Debug, clap::Args)]
pub struct PrivacyArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Show what would leave this host of each line of a file: a command as a shell reads it, or an event as `sensor events -o json` prints it.
    ///
    /// Lines that are changed begin with `~`, others with a space. How many there were is said at the end, on the standard error.
    Test(TestArgs),
}

#[derive(Clone, Debug, clap::Args)]
struct TestArgs {
    /// The file; `-` for the standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Configuration whose `[privacy]` counts; without it, the default: secrets are hidden, and nothing else.
    #[arg(long, value_name = "CONFIG")]
    policy: Option<PathBuf>,
}

/// Longest line that is looked at, in bytes.
const LINE_MAX: u64 = 4 << 20;

/// Does it.
///
/// # Errors
/// If the file or the configuration cannot be read, or there is no key of pseudonyms.
pub fn run(PrivacyArgs { command }: &PrivacyArgs) -> anyhow::Result<()> {
    let Command::Test(args) = command;
    let config = match &args.policy {
        Some(path) => Config::load(path)?,
        None => Config::default(),
    };
    let policy = Policy::new(&config.privacy)?;
    let name = args.file.display();
    let input: Box<dyn Read> = match args.file.as_path() {
        path if path == Path::new("-") => Box::new(io::stdin()),
        path => Box::new(File::open(path).with_context(|| format!("cannot open {name}"))?),
    };
    let mut out = io::stdout().lock();
    let counts = match test(BufReader::new(input), &policy, &mut out) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
        counts => counts.with_context(|| format!("cannot read {name}"))?,
    };
    eprintln!("{counts}");
    Ok(())
}

/// What was seen.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    lines: u64,
    changed: u64,
    /// Lines that begin like an event and are none: they are taken for commands.
    broken: u64,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} lines would be changed", self.changed, self.lines)?;
        if self.broken > 0 {
            write!(
                f,
                "; {} begin with {{ and are no events as `sensor events -o json` prints them: they were taken for commands",
                self.broken
            )?;
        }
        Ok(())
    }
}

fn test(mut input: impl BufRead, policy: &Policy, out: &mut impl Write) -> io::Result<Counts> {
    let mut counts = Counts::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.by_ref().take(LINE_MAX).read_until(b'\n', &mut line)? == 0 {
            return Ok(counts);
        }
        let text = escape(line.strip_suffix(b"\n").unwrap_or(&line));
        let (shown, changed) = match text.starts_with('{').then(|| event(&text, policy)).flatten() {
            Some(shown) => shown,
            None => {
                counts.broken += u64::from(text.starts_with('{'));
                let mut shown = text.clone();
                policy.words(&mut shown);
                let changed = shown != text;
                (shown, changed)
            }
        };
        counts.lines += 1;
        counts.changed += u64::from(changed);
        writeln!(out, "{} {}", if changed { '~' } else { ' ' }, harmless(&shown))?;
    }
}

/// What is left of an event, and whether that is less than it was; `None` if it is none.
fn event(line: &str, policy: &Policy) -> Option<(String, bool)> {
    const ENTRY: &str = "sensor.v1.Entry";
    let whole: v1::Entry = from_json(line, ENTRY)
        .ok()
        .filter(|entry: &v1::Entry| entry.body.is_some())?;
    let mut entry = whole.clone();
    policy.entry(&mut entry);
    Some((to_json(&entry, ENTRY).ok()?, entry != whole))
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::config;

    fn tested(text: &str, policy: &Policy) -> String {
        let mut out = Vec::new();
        let counts = test(text.as_bytes(), policy, &mut out).expect("reads");
        format!("{}{counts}", String::from_utf8_lossy(&out))
    }

    #[test]
    fn commands_are_shown_as_they_would_leave() {
        let text = "ls -la /srv\nmysql -u root -phunter2 shop\ncurl -H 'Authorization: Bearer abc' https://h/\n{ echo a; }\n";
        assert_snapshot!(tested(text, &Policy::redacting()), @r"
          ls -la /srv
        ~ mysql -u root -p<redacted> shop
        ~ curl -H 'Authorization: Bearer <redacted>' https://h/
          { echo a; }
        2 of 4 lines would be changed; 1 begin with { and are no events as `sensor events -o json` prints them: they were taken for commands
        ");
    }

    #[test]
    fn events_are_shown_as_they_would_leave() {
        let mut process = v1::Process {
            args: vec!["mysql".to_owned(), "-phunter2".to_owned()],
            ..v1::Process::default()
        };
        let line = |process: &v1::Process| {
            let event = v1::Event {
                process: Some(process.clone()),
                ..v1::Event::default()
            };
            let entry = v1::Entry {
                host: "web1".to_owned(),
                body: Some(v1::entry::Body::Event(event)),
            };
            to_json(&entry, "sensor.v1.Entry").expect("is written")
        };
        let shown = tested(&line(&process), &Policy::redacting());
        process.args[1] = "-p<redacted>".to_owned();
        assert_eq!(
            shown,
            format!("~ {}\n1 of 1 lines would be changed", line(&process))
        );
    }

    #[test]
    fn without_a_policy_that_says_so_nothing_is_changed() {
        let config = config::Privacy {
            redact: false,
            ..config::Privacy::default()
        };
        let policy = Policy::new(&config).expect("needs no key");
        assert_snapshot!(tested("mysql -phunter2", &policy), @r"
          mysql -phunter2
        0 of 1 lines would be changed
        ");
    }
}
