//! `collector query`: SQL about what is stored, asked of a running collector or of a directory that none has open.

use std::{io::Write as _, sync::Arc};

use anyhow::{Context as _, bail};
use arrow::{array::RecordBatch, ipc::reader::StreamReader};
use sensor_proto::text::harmless_json;
use sensor_proto::v1::{QueryFormat, QueryRequest, QueryResponse};
use tokio_stream::{Stream, StreamExt as _};
use tonic::Status;

use super::connect::{Place, said};
use crate::{
    lake::{
        lease::Leases,
        shared::{self, Catalogue},
    },
    query::{Engine, Limits, print, service},
    store::Store,
};

/// Rows that are shown as a table, where nobody says otherwise: all of them are held to align them.
const TABLE_ROWS: u64 = 1000;

/// Ask in SQL what is stored: a running collector, or a data directory that none has open.
#[derive(Clone, Debug, clap::Args)]
pub struct QueryArgs {
    /// Which collector.
    #[command(flatten)]
    place: Place,
    /// Ask a lake that several collectors share, s3://BUCKET/PREFIX or file:///DIRECTORY, without any of them.
    #[arg(long, value_name = "URL")]
    lake: Option<String>,
    /// How rows are written.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
    /// Most rows; 1000 in a table, else as many as the collector allows.
    #[arg(long, value_name = "NUMBER")]
    rows: Option<u64>,
    /// One statement; the table is `events`. docs/lake.md lists its columns.
    sql: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// Columns, aligned.
    Table,
    /// An object on each line.
    Json,
    /// An Arrow IPC stream.
    Arrow,
}

/// What an answer ended with.
type End = QueryResponse;

/// Prints what the collector answers.
///
/// # Errors
/// If there is no answer.
pub async fn run(args: QueryArgs) -> anyhow::Result<()> {
    let request = QueryRequest {
        sql: args.sql.clone(),
        format: match args.output {
            Output::Json => QueryFormat::Json,
            Output::Table | Output::Arrow => QueryFormat::Arrow,
        } as i32,
        rows_max: args.rows.unwrap_or(if args.output == Output::Table {
            TABLE_ROWS
        } else {
            0
        }),
    };
    let end = match (&args.lake, args.place.unattended().await) {
        (Some(lake), _) => of_shared(lake, request, args.output).await?,
        (None, None) => {
            let mut client = args.place.client().await?;
            let responses = client.query(request).await.map_err(|status| said(&status))?;
            show(responses.into_inner(), args.output).await?
        }
        (None, Some(data)) => {
            // Held until the answer is there: no collector begins to write meanwhile.
            let store = Store::open(data)?;
            let engine = Engine::new(data, Leases::default(), None, Limits::default())?;
            let responses = service::query(&engine, request)
                .await
                .map_err(|status| said(&status))?;
            let end = show(responses, args.output).await?;
            drop(store);
            end
        }
    };
    if end.cut {
        eprintln!(
            "collector: only the first {} rows are shown; --rows asks for more",
            end.rows
        );
    }
    for file in &end.damaged {
        eprintln!(
            "collector: {file} cannot be read and is not in the answer; the collector has set it aside"
        );
    }
    Ok(())
}

/// The answer of a lake that several collectors share.
async fn of_shared(lake: &str, request: QueryRequest, output: Output) -> anyhow::Result<End> {
    let catalogue = Catalogue::open(shared::Place::at(lake)?).await?;
    let spill = std::env::temp_dir().join(format!("collector-query-{}", shared::unique()));
    let engine = Engine::of_shared(Arc::new(catalogue), &spill, Limits::default())?;
    let end = async {
        let responses = service::query(&engine, request)
            .await
            .map_err(|status| said(&status))?;
        show(responses, output).await
    };
    let end = end.await;
    let _ = std::fs::remove_dir_all(&spill);
    end
}

async fn show(
    mut responses: impl Stream<Item = Result<QueryResponse, Status>> + Unpin,
    output: Output,
) -> anyhow::Result<End> {
    let mut whole = Vec::new();
    let mut end = None;
    let mut out = std::io::stdout().lock();
    while let Some(response) = responses.next().await {
        let response = response.map_err(|status| said(&status))?;
        match output {
            Output::Table => whole.extend_from_slice(&response.arrow),
            Output::Arrow => out.write_all(&response.arrow)?,
            Output::Json => {
                for line in response.json.lines() {
                    writeln!(out, "{}", harmless_json(line.to_owned()))?;
                }
            }
        }
        end = Some(response);
    }
    let Some(end) = end else {
        bail!("the collector ended the answer before it began");
    };
    if output == Output::Table {
        let rows = StreamReader::try_new(whole.as_slice(), None).context("the answer is no Arrow stream")?;
        let mut batches: Vec<RecordBatch> = Vec::new();
        let empty = RecordBatch::new_empty(rows.schema());
        for batch in rows {
            batches.push(batch.context("the answer is no Arrow stream")?);
        }
        if batches.is_empty() {
            batches.push(empty);
        }
        out.write_all(print::table(&batches)?.as_bytes())?;
    }
    Ok(end)
}
