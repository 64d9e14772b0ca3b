//! `collector bundles`: evidence that came from hosts.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Subcommand;
use sensor_proto::v1::{BundleState, GetBundleRequest, ListBundlesRequest, response_client::ResponseClient};
use tonic::transport::Channel;

use super::connect::{Place, harmless, said};
use crate::trust::database::clock;

/// List and fetch forensic bundles that came from hosts.
#[derive(Clone, Debug, clap::Args)]
pub struct BundlesArgs {
    #[command(subcommand)]
    what: Wanted,
    /// Which collector.
    #[command(flatten)]
    place: Place,
}

#[derive(Clone, Debug, Subcommand)]
enum Wanted {
    /// List what came, and what is on its way.
    List {
        /// Only of this host.
        #[arg(default_value = "")]
        host: String,
    },
    /// Fetch one; `sensor forensics verify` tells whether it is what the host took.
    Get {
        /// Its SHA-256, or as much of its beginning as tells it from others.
        sha256: String,
        /// Where to put it.
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
}

/// Lists or fetches.
///
/// # Errors
/// If no collector answers, there is no such bundle, or it cannot be kept.
pub async fn run(args: BundlesArgs) -> anyhow::Result<()> {
    let mut client = ResponseClient::new(args.place.connect().await?);
    match args.what {
        Wanted::List { host } => {
            let listed = client
                .list_bundles(ListBundlesRequest { host })
                .await
                .map_err(|status| said(&status))?;
            listed
                .into_inner()
                .bundles
                .iter()
                .for_each(|bundle| println!("{}", line(bundle)));
            Ok(())
        }
        Wanted::Get { sha256, output } => get(&mut client, sha256, &output).await,
    }
}

/// The file is there whole or not at all.
async fn get(client: &mut ResponseClient<Channel>, sha256: String, output: &Path) -> anyhow::Result<()> {
    let pieces = client.get_bundle(GetBundleRequest { sha256 }).await;
    let mut pieces = pieces.map_err(|status| said(&status))?.into_inner();
    let mut partial = output.as_os_str().to_owned();
    partial.push(".partial");
    let cannot = || format!("cannot write {}", output.display());
    let mut options = OpenOptions::new();
    let mut file = options
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&partial)
        .with_context(cannot)?;
    while let Some(piece) = pieces.message().await.map_err(|status| said(&status))? {
        file.write_all(&piece.data).with_context(cannot)?;
    }
    file.sync_all().with_context(cannot)?;
    fs::rename(&partial, output).with_context(cannot)
}

fn line(bundle: &BundleState) -> String {
    let BundleState {
        sha256,
        host,
        name,
        size,
        received,
        ended_ns,
        command,
    } = bundle;
    let came = match ended_ns {
        0 => format!("{received} of {size} bytes are here"),
        at => format!("{size} bytes, whole since {}", clock(at.cast_signed())),
    };
    harmless(&format!("{sha256} {host}: {name}, {came}, by command {command}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let bundle = |ended_ns| BundleState {
            sha256: "00ff".into(),
            host: "web1".into(),
            name: "7.tar.zst".into(),
            size: 100,
            received: 40,
            ended_ns,
            command: "c1".into(),
        };
        insta::assert_snapshot!(line(&bundle(0)), @"00ff web1: 7.tar.zst, 40 of 100 bytes are here, by command c1");
        insta::assert_snapshot!(line(&bundle(1_000_000_000)), @"00ff web1: 7.tar.zst, 100 bytes, whole since 1970-01-01 00:00:01Z, by command c1");
    }
}
