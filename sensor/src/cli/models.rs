//! `sensor models`: what the agent has learned.

use std::{fs, path::PathBuf};

use anyhow::Context as _;
use sensor_behaviour::SNAPSHOT_MAX;
use sensor_proto::{
    MESSAGE_BYTES_MAX,
    v1::{
        ExportModelsRequest, ForgetModelRequest, ImportModelsRequest, ListModelsRequest, Model,
        ShowModelRequest, agent_client::AgentClient,
    },
};
use tonic::{Status, transport::Channel};

use super::{connect::SocketArgs, text::harmless};
use crate::{state, time::WallTime};

/// Look at what was learned of workloads and people, and what would be normal of them.
#[derive(Clone, Debug, clap::Args)]
pub struct ModelsArgs {
    #[command(subcommand)]
    action: Action,
    /// Which agent to ask.
    #[command(flatten)]
    socket: SocketArgs,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Action {
    /// Every subject: how much of it was seen, and whether that is enough.
    List,
    /// What is normal for a subject, and what was not of late.
    Show {
        /// As the list names it: "unit:nginx.service", "user:1000".
        subject: String,
    },
    /// Learn a subject anew.
    Forget {
        /// As the list names it.
        subject: String,
    },
    /// Write everything that was learned to a file.
    Export {
        /// Where to; what is there is replaced.
        file: PathBuf,
    },
    /// Add what another agent has learned.
    Import {
        /// What that agent has exported.
        file: PathBuf,
    },
}

/// Bytes of a file in one message.
const CHUNK: usize = 256 << 10;

/// Asks the agent, and prints its answer.
///
/// # Errors
/// If no agent answers, or the subject or the file is not what it should be.
pub async fn run(args: ModelsArgs) -> anyhow::Result<()> {
    let channel = args.socket.connect().await?;
    let client = AgentClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    match args.action {
        Action::List => list(client).await,
        Action::Show { subject } => show(client, subject).await,
        Action::Forget { subject } => {
            let mut client = client;
            let forgotten = client.forget_model(ForgetModelRequest {
                subject: subject.clone(),
            });
            forgotten.await.map_err(said)?;
            println!("{} is learned anew", harmless(&subject));
            Ok(())
        }
        Action::Export { file } => export(client, file).await,
        Action::Import { file } => import(client, file).await,
    }
}

/// What the agent said, without how it was transported.
pub(super) fn said(status: Status) -> anyhow::Error {
    anyhow::anyhow!("{}", status.message().to_owned())
}

async fn list(mut client: AgentClient<Channel>) -> anyhow::Result<()> {
    let models = client.list_models(ListModelsRequest {}).await.map_err(said)?;
    println!(
        "{:<40} {:>12} {:>7} {:>9}  state",
        "subject", "observations", "facts", "new next"
    );
    for model in models.into_inner().models {
        println!("{}", line(&model));
    }
    Ok(())
}

fn line(model: &Model) -> String {
    format!(
        "{:<40} {:>12} {:>7} {:>8.2}%  {}",
        harmless(&model.subject),
        model.observations,
        model.facts,
        model.unseen * 100.0,
        state_of(model)
    )
}

fn state_of(model: &Model) -> &'static str {
    if model.ready { "ready" } else { "learning" }
}

async fn show(mut client: AgentClient<Channel>, subject: String) -> anyhow::Result<()> {
    let shown = client
        .show_model(ShowModelRequest { subject })
        .await
        .map_err(said)?;
    let model = shown.into_inner().model.context("the agent says nothing of it")?;
    print!("{}", description(&model));
    Ok(())
}

fn description(model: &Model) -> String {
    let mut text = format!(
        "{}: {}\n{} observations of {} facts; the next is a new one with {:.2} %\n",
        harmless(&model.subject),
        state_of(model),
        model.observations,
        model.facts,
        model.unseen * 100.0
    );
    if !model.usual.is_empty() {
        text.push_str("normal:\n");
    }
    for usual in &model.usual {
        text.push_str(&format!("  {:>8}  {}\n", usual.times, harmless(&usual.fact)));
    }
    if !model.surprises.is_empty() {
        text.push_str("surprising of late:\n");
    }
    for surprise in &model.surprises {
        text.push_str(&format!(
            "  {}  p = {:.1e}  {}\n",
            WallTime(surprise.time_ns),
            surprise.p_value,
            harmless(&surprise.reason)
        ));
    }
    text
}

async fn export(mut client: AgentClient<Channel>, file: PathBuf) -> anyhow::Result<()> {
    let mut chunks = client
        .export_models(ExportModelsRequest {})
        .await
        .map_err(said)?
        .into_inner();
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.message().await.map_err(said)? {
        bytes.extend(chunk.data);
    }
    state::write(&file, &bytes).with_context(|| format!("cannot write {}", file.display()))?;
    println!("{} bytes in {}", bytes.len(), file.display());
    Ok(())
}

async fn import(mut client: AgentClient<Channel>, file: PathBuf) -> anyhow::Result<()> {
    let path = file.display();
    let length = fs::metadata(&file)
        .with_context(|| format!("cannot read {path}"))?
        .len();
    anyhow::ensure!(
        length <= SNAPSHOT_MAX as u64,
        "{path} has {length} bytes, which are more than models may have"
    );
    let bytes = fs::read(&file).with_context(|| format!("cannot read {path}"))?;
    let chunks: Vec<_> = bytes
        .chunks(CHUNK)
        .map(|chunk| ImportModelsRequest { data: chunk.to_vec() })
        .collect();
    let imported = client.import_models(tokio_stream::iter(chunks)).await;
    imported
        .map_err(said)
        .with_context(|| format!("{path} is of no use"))?;
    println!("what {path} says was added");
    Ok(())
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use sensor_proto::v1::{Surprise, UsualFact};

    use super::*;

    #[test]
    fn a_model_is_told() {
        let model = Model {
            subject: "unit:nginx.service".into(),
            observations: 1_200,
            facts: 2,
            unseen: 0.000_83,
            ready: true,
            usual: vec![UsualFact {
                fact: "10.0.0.0/24:5432".into(),
                times: 1_000,
            }],
            surprises: vec![Surprise {
                time_ns: 0,
                p_value: 0.000_5,
                reason: "nginx.service wrote to /dev/shm/\u{1b}x".into(),
            }],
        };
        assert_snapshot!(line(&model), @"unit:nginx.service                               1200       2     0.08%  ready");
        assert_snapshot!(description(&model), @r"
        unit:nginx.service: ready
        1200 observations of 2 facts; the next is a new one with 0.08 %
        normal:
              1000  10.0.0.0/24:5432
        surprising of late:
          1970-01-01T00:00:00.000Z  p = 5.0e-4  nginx.service wrote to /dev/shm/\x1bx
        ");
    }
}
