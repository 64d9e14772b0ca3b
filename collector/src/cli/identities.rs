//! `collector identities`: who may come.

use sensor_proto::v1::{IdentityState, ListIdentitiesRequest, trust_client::TrustClient};

use super::connect::{Place, harmless, said};
use crate::trust::database::clock;

/// List who has certificates, who is invited and who is revoked.
#[derive(Clone, Debug, clap::Args)]
pub struct IdentitiesArgs {
    /// Which collector.
    #[command(flatten)]
    place: Place,
}

/// Prints a line for each.
///
/// # Errors
/// If no collector answers.
pub async fn run(args: IdentitiesArgs) -> anyhow::Result<()> {
    let mut client = TrustClient::new(args.place.connect().await?);
    let response = client.list_identities(ListIdentitiesRequest {}).await;
    let identities = response.map_err(|status| said(&status))?.into_inner().identities;
    identities.iter().for_each(|state| println!("{}", line(state)));
    Ok(())
}

fn line(state: &IdentityState) -> String {
    let mut facts = Vec::new();
    let at = |time: u64| clock(time.cast_signed());
    match (state.revoked_ns, state.certificate_ends_ns) {
        (0, 0) => facts.push("no certificate".to_owned()),
        (0, ends) => facts.push(format!("certificate until {}", at(ends))),
        (since, _) => facts.push(format!("revoked since {}", at(since))),
    }
    if state.invited_until_ns > 0 {
        facts.push(format!("a token waits until {}", at(state.invited_until_ns)));
    }
    match state.connections {
        0 => {}
        1 => facts.push("connected".to_owned()),
        count => facts.push(format!("connected {count} times")),
    }
    format!(
        "{} {}: {}",
        harmless(&state.role),
        harmless(&state.name),
        facts.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let state = |certificate_ends_ns, revoked_ns, invited_until_ns, connections| IdentityState {
            role: "agent".into(),
            name: "web1".into(),
            certificate_ends_ns,
            revoked_ns,
            invited_until_ns,
            connections,
        };
        insta::assert_snapshot!(line(&state(0, 0, 3_600_000_000_000, 0)), @"agent web1: no certificate, a token waits until 1970-01-01 01:00:00Z");
        insta::assert_snapshot!(line(&state(60_000_000_000, 0, 0, 2)), @"agent web1: certificate until 1970-01-01 00:01:00Z, connected 2 times");
        insta::assert_snapshot!(line(&state(60_000_000_000, 1_000_000_000, 0, 0)), @"agent web1: revoked since 1970-01-01 00:00:01Z");
    }
}
