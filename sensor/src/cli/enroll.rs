//! `sensor enroll`: become known to a collector.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use sensor_trust::{Address, Token};

use super::run::ConfigArgs;
use crate::{
    agent::host_name,
    enroll::{Enrolled, enroll},
    time::WallTime,
};

/// Longest token that is read from standard input.
const TOKEN_MAX: u64 = 1_024;

/// Become known to a collector: make a key, which never leaves this host, and have it certified with a token of `collector enroll`.
#[derive(Clone, Debug, clap::Args)]
pub struct EnrollArgs {
    /// The collector, https://HOST:PORT.
    #[arg(long, value_name = "URL")]
    collector: String,
    /// What `collector enroll` printed; "-": read it from standard input, where no other process sees it.
    #[arg(long, value_name = "TOKEN", env = "SENSOR_TOKEN", hide_env_values = true)]
    token: String,
    /// For a person or a program: the directory to put key and certificate into.
    #[arg(long, value_name = "DIR", conflicts_with = "state")]
    identity: Option<PathBuf>,
    /// Where the agent keeps what outlives it, instead of where the configuration says.
    #[arg(long, value_name = "DIRECTORY")]
    state: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Enrols and says as whom.
///
/// # Errors
/// If the collector is another one, does not take the token, or nothing can be kept.
pub async fn run(args: EnrollArgs) -> anyhow::Result<()> {
    let address: Address = args.collector.parse()?;
    let token = token(&args.token)?;
    if let Some(directory) = &args.identity {
        let enrolled = enroll(&address, &token, directory, false).await?;
        println!("{}", told(&enrolled, directory));
        return Ok(());
    }
    let config = args.config.load()?;
    let directory = args.state.unwrap_or_else(|| config.host.state.clone());
    let enrolled = enroll(&address, &token, &directory, true).await?;
    println!("{}", told(&enrolled, &directory));
    let (name, own) = (enrolled.identity.name.as_str(), host_name(&config));
    if name != own {
        eprintln!(
            "sensor: the agent calls this host {own:?}, and the collector will refuse it: set host.name = \"{name}\""
        );
    }
    Ok(())
}

fn token(given: &str) -> anyhow::Result<Token> {
    if given != "-" {
        return Ok(given.parse()?);
    }
    let mut text = String::new();
    let stdin = std::io::stdin().lock();
    stdin
        .take(TOKEN_MAX)
        .read_to_string(&mut text)
        .context("cannot read the token from standard input")?;
    Ok(text.parse()?)
}

fn told(enrolled: &Enrolled, directory: &Path) -> String {
    let ends = enrolled
        .certificate
        .ends
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let ends = jiff::Timestamp::from_second(ends.as_secs().cast_signed()).unwrap_or_default();
    let days = ends
        .duration_since(jiff::Timestamp::from_nanosecond(i128::from(WallTime::now().0)).unwrap_or_default());
    format!(
        "enrolled as {}; key and certificate are in {}, valid for {} days and then renewed",
        enrolled.identity,
        directory.display(),
        (days.as_hours() + 12) / 24
    )
}
