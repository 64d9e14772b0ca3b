//! `collector revoke`: somebody is let in no more.

use anyhow::bail;
use sensor_proto::v1::{RevokeRequest, trust_client::TrustClient};

use super::{
    Who,
    connect::{Place, said},
};

/// Let a host, a person or a program in no more: connections end at once, certificates and tokens are of no use any more.
#[derive(Clone, Debug, clap::Args)]
pub struct RevokeArgs {
    /// Whom.
    #[command(flatten)]
    who: Who,
    /// Why, for the audit.
    #[arg(long, default_value = "")]
    why: String,
    /// Which collector.
    #[command(flatten)]
    place: Place,
}

/// Does it and says what it came to.
///
/// # Errors
/// If no collector answers, or it does not do it.
pub async fn run(args: RevokeArgs) -> anyhow::Result<()> {
    let Some((role, name)) = args.who.named() else {
        bail!("whom? Name a host with --host, or a person or program with --role and --name");
    };
    let mut client = TrustClient::new(args.place.connect().await?);
    let request = RevokeRequest {
        role: role.clone(),
        name: name.clone(),
        why: args.why,
    };
    let response = client
        .revoke(request)
        .await
        .map_err(|status| said(&status))?
        .into_inner();
    println!(
        "{role} {name} is revoked: {} certificates that were valid, {} connections ended",
        response.certificates, response.connections
    );
    Ok(())
}
