//! `sensor reload`: have the agent read its configuration again.

use sensor_proto::v1::{ReloadRequest, agent_client::AgentClient};

use super::connect::SocketArgs;
use crate::reload::Reloaded;

/// Have the agent read its configuration and its rules again, and say what has changed.
#[derive(Clone, Debug, clap::Args)]
pub struct ReloadArgs {
    /// Which agent to ask.
    #[command(flatten)]
    pub socket: SocketArgs,
}

/// Asks the agent and prints its answer.
///
/// # Errors
/// If no agent answers, or its configuration has a mistake.
pub async fn run(args: ReloadArgs) -> anyhow::Result<()> {
    let mut client = AgentClient::new(args.socket.connect().await?);
    let response = client
        .reload(ReloadRequest {})
        .await
        .map_err(|status| anyhow::anyhow!("{}", status.message().to_owned()))?
        .into_inner();
    let reloaded = Reloaded {
        applied: response.applied,
        needs_restart: response.needs_restart,
        rules: response.rules,
    };
    println!("{reloaded}");
    Ok(())
}
