//! `collector enroll`: a token for somebody.

use std::time::Duration;

use anyhow::bail;
use sensor_proto::v1::{InviteRequest, trust_client::TrustClient};

use super::{
    Who,
    connect::{Place, said},
};
use crate::trust::database::clock;

/// Make a token, good once and soon, with which a host, a person or a program gets a certificate.
#[derive(Clone, Debug, clap::Args)]
pub struct EnrollArgs {
    /// Whom.
    #[command(flatten)]
    who: Who,
    /// How long the token is good, 7 days at most.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = humantime_serde::re::humantime::parse_duration)]
    valid: Duration,
    /// Also if they are revoked, and certificates are given by an authority of your own (`serve --ca`): those that it gave them before are good
    /// again, too, as far as they have not ended.
    #[arg(long)]
    lift_revocation: bool,
    /// Which collector.
    #[command(flatten)]
    place: Place,
}

/// Makes it, and prints it on a line of its own; what to do with it goes to standard error.
///
/// # Errors
/// If no collector answers, or it does not do it.
pub async fn run(args: EnrollArgs) -> anyhow::Result<()> {
    let Some((role, name)) = args.who.named() else {
        bail!("for whom? Name a host with --host, or a person or program with --role and --name");
    };
    let mut client = TrustClient::new(args.place.connect().await?);
    let request = InviteRequest {
        role: role.clone(),
        name: name.clone(),
        seconds: args.valid.as_secs().max(1),
        lift_revocation: args.lift_revocation,
    };
    let response = client
        .invite(request)
        .await
        .map_err(|status| said(&status))?
        .into_inner();
    println!("{}", response.token);
    let until = clock(response.expires_ns.cast_signed());
    let then = match role.as_str() {
        "agent" => "sensor enroll --collector https://HOST:PORT --token TOKEN, as root",
        _ => "sensor enroll --collector https://HOST:PORT --identity DIR --token TOKEN",
    };
    eprintln!("good once, until {until}, for {role} {name}. There: {then}");
    Ok(())
}
