//! What an agent says about itself.

use std::path::Path;

use anyhow::Result;
use sensor_proto::v1::{Account, GetStatusRequest, Status, agent_client::AgentClient};

use crate::client;

/// Asks the agent at `socket`.
///
/// # Errors
/// If it does not answer.
pub fn of(socket: &Path) -> Result<Status> {
    let mut client = AgentClient::new(client::connect_unix(socket)?);
    Ok(client::wait(client.get_status(GetStatusRequest {}))??.into_inner())
}

/// Whether everything that was seen is accounted for.
#[must_use]
pub fn adds_up(account: &Account) -> bool {
    account.seen == account.delivered + account.muted + account.aggregated + account.lost
}
