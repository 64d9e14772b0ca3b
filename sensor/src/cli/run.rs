//! `sensor run`: watch this host.

use std::path::{Path, PathBuf};

use tokio::signal::unix::{SignalKind, signal};

use crate::{
    agent,
    capture::Level,
    config::{Config, ConfigError},
    remote::RULES,
};

/// Where the configuration is, where nobody says otherwise.
const CONFIG: &str = "/etc/sensor/sensor.toml";

/// Watch this host until SIGTERM or Ctrl-C.
#[derive(clap::Args, Debug)]
pub struct RunArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Where to put the socket of the local service, instead of where the configuration says.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Where to deliver to (https://HOST:PORT), instead of where the configuration says.
    #[arg(long, value_name = "URL")]
    collector: Option<String>,
    /// Where to keep what outlives the agent, instead of where the configuration says.
    #[arg(long, value_name = "DIRECTORY")]
    state: Option<PathBuf>,
    /// Name of this host, instead of the one in the configuration.
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// The best kind of hook to use, instead of the one in the configuration.
    #[arg(long, value_name = "KIND")]
    max_rung: Option<Level>,
}

/// Runs the agent.
///
/// # Errors
/// If the configuration is not valid, or the agent cannot run.
pub async fn run(args: RunArgs) -> anyhow::Result<()> {
    let config = configure(&args)?;
    let read = Box::new(move || configure(&args));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    Ok(agent::run(config, read, stop).await?)
}

fn configure(args: &RunArgs) -> Result<Config, ConfigError> {
    let mut config = args.config.load()?;
    if let Some(socket) = &args.socket {
        config.export.socket.clone_from(socket);
    }
    if let Some(collector) = &args.collector {
        config.uplink.collector.clone_from(collector);
    }
    if let Some(state) = &args.state {
        config.host.state.clone_from(state);
    }
    if let Some(host) = &args.host {
        config.host.name.clone_from(host);
    }
    if let Some(max_rung) = args.max_rung {
        config.capture.max_rung = max_rung;
    }
    // What the collector sent is read with what the configuration names.
    let sent = config.host.state.join(RULES);
    if sent.is_dir() {
        config.rules.paths.push(sent);
    }
    Ok(config)
}

/// Which configuration.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct ConfigArgs {
    /// Configuration file [default: /etc/sensor/sensor.toml, where there is one].
    #[arg(short, long, value_name = "FILE", env = "SENSOR_CONFIG")]
    config: Option<PathBuf>,
}

impl ConfigArgs {
    /// That in the file that was named, else the one of the host, else the defaults.
    pub(super) fn load(&self) -> Result<Config, ConfigError> {
        match &self.config {
            Some(path) => Config::load(path),
            None if Path::new(CONFIG).exists() => Config::load(CONFIG.as_ref()),
            None => Ok(Config::default()),
        }
    }
}
