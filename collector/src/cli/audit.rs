//! `collector audit`: what was done about who may come, and what was asked of hosts.

use std::process::ExitCode;

use sensor_proto::v1::{AuditLine, ReadAuditRequest, trust_client::TrustClient};

use super::connect::{Place, harmless, said};
use crate::trust::{audit::Chain, database::clock};

/// Print what was done about who may come and what was asked of hosts, and tell whether it was changed since: then it ends with 1.
#[derive(Clone, Debug, clap::Args)]
pub struct AuditArgs {
    /// Which collector.
    #[command(flatten)]
    place: Place,
}

/// Prints a line for each step, and what is wrong with the chain.
///
/// # Errors
/// If no collector answers.
pub async fn run(args: AuditArgs) -> anyhow::Result<ExitCode> {
    let mut client = TrustClient::new(args.place.connect().await?);
    let pages = client.read_audit(ReadAuditRequest { after: 0 }).await;
    let mut pages = pages.map_err(|status| said(&status))?.into_inner();
    let mut chain = Chain::default();
    let (mut count, mut broken) = (0, None);
    while let Some(page) = pages.message().await.map_err(|status| said(&status))? {
        for audit in &page.lines {
            println!("{}", line(audit));
            count += 1;
            if broken.is_none() {
                broken = chain.follow(audit).err();
            }
        }
    }
    Ok(match broken {
        None => {
            eprintln!("{count} lines, each as it was written");
            ExitCode::SUCCESS
        }
        Some(what) => {
            eprintln!("collector: {what}");
            ExitCode::FAILURE
        }
    })
}

fn line(audit: &AuditLine) -> String {
    let AuditLine {
        number,
        time_ns,
        what,
        who,
        about,
        detail,
        ..
    } = audit;
    let about = if about.is_empty() { "somebody" } else { about };
    harmless(&format!(
        "{number} {} {what} {about} by {who}: {detail}",
        clock(time_ns.cast_signed())
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let audit = AuditLine {
            number: 7,
            time_ns: 1_000_000_000,
            what: "revoked".into(),
            who: "admin alice".into(),
            about: "agent web1".into(),
            detail: "1 certificates: stolen\u{1b}[31m".into(),
            digest: Vec::new(),
        };
        insta::assert_snapshot!(line(&audit), @"7 1970-01-01 00:00:01Z revoked agent web1 by admin alice: 1 certificates: stolen�[31m");
    }
}
