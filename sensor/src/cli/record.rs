//! `sensor record`: the stream of events into a file.

use std::{
    fs::OpenOptions,
    io::{BufWriter, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    time::Duration,
};

use anyhow::Context as _;
use sensor_proto::{
    MESSAGE_BYTES_MAX,
    v1::{RecordRequest, RecordResponse, agent_client::AgentClient},
};
use tokio::{signal::unix::SignalKind, time::timeout};
use tonic::Streaming;

use super::connect::SocketArgs;
use crate::recording::END;

/// The agent hands on what it has each second.
const LAST: Duration = Duration::from_millis(1_300);

/// Record what happens on this host from now on, until Ctrl-C or SIGTERM.
///
/// The file holds everything that the agent sees: paths, arguments, addresses. It is readable by its owner alone.
#[derive(Clone, Debug, clap::Args)]
pub struct RecordArgs {
    /// Where to; it must not be there yet.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// End after so long ("90s", "1h").
    #[arg(long, value_name = "TIME", value_parser = humantime_serde::re::humantime::parse_duration)]
    duration: Option<Duration>,
    /// Which agent to ask.
    #[command(flatten)]
    socket: SocketArgs,
}

/// Records.
///
/// # Errors
/// If no agent answers, or the file cannot be written.
pub async fn run(args: RecordArgs) -> anyhow::Result<()> {
    let mut client =
        AgentClient::new(args.socket.connect().await?).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let path = args.file.display();
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(&args.file);
    let mut file = BufWriter::new(file.with_context(|| format!("cannot make {path}"))?);
    let stream = client.record(RecordRequest {}).await;
    let mut stream = stream
        .map_err(|status| anyhow::anyhow!("the agent cannot record: {}", status.message()))?
        .into_inner();
    let (mut terminate, mut interrupt) = (
        tokio::signal::unix::signal(SignalKind::terminate())?,
        tokio::signal::unix::signal(SignalKind::interrupt())?,
    );
    let over = tokio::time::sleep(args.duration.unwrap_or(Duration::MAX / 4));
    tokio::pin!(over);
    eprintln!("recording to {path}; Ctrl-C ends it");
    let mut written = 0;
    let ended = loop {
        tokio::select! {
            message = stream.message() => match message? {
                Some(RecordResponse { data }) => {
                    written += data.len();
                    file.write_all(&data)
                        .and_then(|()| file.flush())
                        .with_context(|| format!("cannot write to {path}"))?;
                }
                None => break true,
            },
            () = &mut over => break false,
            _ = terminate.recv() => break false,
            _ = interrupt.recv() => break false,
        }
    };
    if !ended {
        let rest = timeout(LAST, drain(&mut stream, &mut file)).await;
        written += rest.unwrap_or(Ok(0))?;
        file.write_all(&END)?;
        written += END.len();
    }
    file.into_inner()
        .map_err(|error| error.into_error())?
        .sync_all()?;
    eprintln!("{written} bytes in {path}");
    Ok(())
}

/// What is still on its way: a little more than was asked for.
async fn drain(
    stream: &mut Streaming<RecordResponse>,
    file: &mut BufWriter<std::fs::File>,
) -> anyhow::Result<usize> {
    let mut written = 0;
    while let Some(RecordResponse { data }) = stream.message().await? {
        written += data.len();
        file.write_all(&data)?;
    }
    Ok(written)
}
