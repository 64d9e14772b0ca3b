//! `sensor replay`: recordings through the detection, and what comes of it.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader, ErrorKind, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use jiff::Timestamp;

use super::{
    json::to_json,
    render::{Style, line},
};
use crate::{
    config::Config,
    detect::Incident,
    export::{Converter, Entry, Users},
    privacy::Policy,
    recording::{About, Reader, Recorded},
    replay::{Replay, Shift},
};

/// Replay recordings through the detection, and print the incidents.
///
/// The same recordings and the same configuration give the same incidents on any machine, byte for byte.
#[derive(Clone, Debug, clap::Args)]
pub struct ReplayArgs {
    /// Recordings, in the order in which they are played.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Configuration whose `[detect]`, `[rules]` and `[privacy]` count; without it, the defaults.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One JSON object a line, as `sensor events -o json` writes it.
    #[arg(long)]
    json: bool,
    /// A recording of what is normal, played again and again before the others. Its incidents are printed, too.
    #[arg(long, value_name = "FILE")]
    background: Option<PathBuf>,
    /// For how long the background is played.
    #[arg(long, value_name = "TIME", default_value = "2days", requires = "background",
        value_parser = humantime_serde::re::humantime::parse_duration)]
    learn: Duration,
    /// How often the background begins anew.
    #[arg(long, value_name = "TIME", default_value = "10m", requires = "background",
        value_parser = humantime_serde::re::humantime::parse_duration)]
    every: Duration,
    /// Hours of the day (UTC) in which the background is played, as "8-18".
    #[arg(long, value_name = "FROM-TO", default_value = "0-24", requires = "background", value_parser = hours)]
    hours: (u8, u8),
    /// When the first recording after the background begins, as "2026-01-05T03:00:00Z"; without it, when it did.
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
}

fn hours(text: &str) -> Result<(u8, u8), String> {
    let parsed = text.split_once('-').and_then(|(from, to)| {
        let hours: (u8, u8) = (from.parse().ok()?, to.parse().ok()?);
        (hours.0 < hours.1 && hours.1 <= 24).then_some(hours)
    });
    parsed.ok_or_else(|| "two hours from 0 to 24 are wanted, the earlier first, as 8-18".to_owned())
}

/// Incidents as they were last heard of, in the order in which they were opened.
#[derive(Default)]
struct Found {
    by_id: BTreeMap<Box<str>, usize>,
    incidents: Vec<Arc<Incident>>,
}

impl Found {
    fn add(&mut self, incident: Arc<Incident>) {
        match self.by_id.get(&incident.id) {
            Some(&place) => self.incidents[place] = incident,
            None => {
                self.by_id.insert(incident.id.clone(), self.incidents.len());
                self.incidents.push(incident);
            }
        }
    }
}

/// Replays.
///
/// # Errors
/// If a recording or the configuration cannot be read; what was found before that is printed.
pub fn run(args: &ReplayArgs) -> anyhow::Result<()> {
    let config = match &args.config {
        Some(path) => Config::load(path)?,
        None => Config::default(),
    };
    let first = args.files.first().context("no recording is named")?;
    let about = about(first)?;
    let mut replay = Replay::new(&config, &about.host);
    let mut found = Found::default();
    let played = play_all(args, &about, &mut replay, &mut found);
    print(args, &config, &about, &found)?;
    let events = replay.events();
    let lost = match replay.lost() {
        0 => String::new(),
        lost => format!(", {lost} were lost when it was recorded"),
    };
    eprintln!("{} incidents in {events} events{lost}", found.incidents.len());
    played
}

fn play_all(args: &ReplayArgs, about: &About, replay: &mut Replay, found: &mut Found) -> anyhow::Result<()> {
    let moved = args
        .at
        .map_or(0, |at| at.as_nanosecond() as i64 - about.began.0 as i64);
    let begins = about.began.0.saturating_add_signed(moved) as i64;
    // Boot time must not come to be before the boot: a day beyond what is learned is room enough.
    let booted = begins - args.learn.as_nanos() as i64 - DAY;
    let shift = |its: &About, wall: i64| Shift {
        wall,
        boot: its.began.0 as i64 + wall - booted - its.began_boot.0 as i64,
    };
    if let Some(background) = &args.background {
        let its = self::about(background)?;
        for start in args.starts(begins) {
            play(background, shift(&its, start - its.began.0 as i64), replay, found)?;
        }
    }
    for file in &args.files {
        let shift = if args.background.is_none() && args.at.is_none() {
            Shift::default()
        } else {
            shift(&self::about(file)?, moved)
        };
        play(file, shift, replay, found)?;
    }
    Ok(())
}

const DAY: i64 = 86_400_000_000_000;
const HOUR: i64 = DAY / 24;

impl ReplayArgs {
    /// When the background is played, the last time before `begins`.
    fn starts(&self, begins: i64) -> impl Iterator<Item = i64> {
        let every = (self.every.as_nanos() as i64).max(1_000_000_000);
        let times = self.learn.as_nanos() as i64 / every;
        let (from, to) = self.hours;
        (1..=times)
            .rev()
            .map(move |back| begins - back * every)
            .filter(move |start| {
                let hour = start.rem_euclid(DAY) / HOUR;
                (i64::from(from)..i64::from(to)).contains(&hour)
            })
    }
}

fn play(path: &Path, shift: Shift, replay: &mut Replay, found: &mut Found) -> anyhow::Result<()> {
    replay.begin(shift);
    for recorded in open(path)? {
        let recorded = recorded.with_context(|| path.display().to_string())?;
        let findings = replay.take(&recorded);
        findings
            .incidents
            .into_iter()
            .for_each(|incident| found.add(incident));
    }
    Ok(())
}

fn open(path: &Path) -> anyhow::Result<Reader<BufReader<File>>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    Reader::new(BufReader::new(file)).with_context(|| path.display().to_string())
}

/// What a recording says of itself, which it does first.
fn about(path: &Path) -> anyhow::Result<About> {
    match open(path)?
        .next()
        .transpose()
        .with_context(|| path.display().to_string())?
    {
        Some(Recorded::About(about)) => Ok(about),
        _ => bail!("{}: it does not say of which host it is", path.display()),
    }
}

/// Without the names of users: they would be those of the machine where it is replayed.
fn print(args: &ReplayArgs, config: &Config, about: &About, found: &Found) -> anyhow::Result<()> {
    let converter = Converter::new(about.host.as_str(), Arc::new(Users::new("")))
        .with_policy(Policy::new(&config.privacy)?);
    let mut out = io::stdout().lock();
    for incident in &found.incidents {
        let entry = converter.entry(&Entry::Incident(Arc::clone(incident)));
        let text = if args.json {
            to_json(&entry, "sensor.v1.Entry")?
        } else {
            line(&entry, Style::default())
        };
        match writeln!(out, "{text}") {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            result => result?,
        }
    }
    Ok(())
}
