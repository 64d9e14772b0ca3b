//! Answers as messages of the wire.

use std::{io::Write, pin::Pin, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch},
    compute::cast,
    datatypes::{DataType, Field, Schema, SchemaRef},
    error::ArrowError,
    ipc::writer::StreamWriter,
    json::LineDelimitedWriter,
};
use sensor_proto::v1::{QueryFormat, QueryRequest, QueryResponse};
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::Status;

use super::{Answer, Engine, Piece, QueryError};

/// A response has about so many bytes.
const RESPONSE_BYTES: usize = 1 << 20;

/// The stream of `Query`.
pub type Responses = Pin<Box<dyn Stream<Item = Result<QueryResponse, Status>> + Send>>;

/// Answers a request.
///
/// # Errors
/// If the question is wrong, or cannot be answered.
pub async fn query(engine: &Engine, request: QueryRequest) -> Result<Responses, Status> {
    let format = QueryFormat::try_from(request.format)
        .map_err(|_| Status::invalid_argument("this collector knows the formats Arrow and JSON"))?;
    let answer = engine.ask(request.sql, request.rows_max).await?;
    let (responses, stream) = mpsc::channel(2);
    tokio::spawn(async move {
        let encoder = Encoder::new(format, &answer.schema);
        if let Err(error) = send(answer, encoder, &responses).await {
            let _ = responses.send(Err(error)).await;
        }
    });
    Ok(Box::pin(ReceiverStream::new(stream)))
}

async fn send(
    mut answer: Answer,
    encoder: Result<Encoder, ArrowError>,
    responses: &mpsc::Sender<Result<QueryResponse, Status>>,
) -> Result<(), Status> {
    let failed = |error: ArrowError| Status::internal(format!("the answer cannot be encoded: {error}"));
    let mut encoder = encoder.map_err(failed)?;
    while let Some(piece) = answer.pieces.recv().await {
        let (encoded, end) = match piece? {
            Piece::Schema(_) => continue,
            Piece::Rows(rows) => (encoder.encode(&rows).map_err(failed)?, None),
            Piece::End { rows, cut, damaged } => {
                let end = QueryResponse {
                    rows,
                    cut,
                    damaged,
                    ..QueryResponse::default()
                };
                (encoder.finish().map_err(failed)?, Some(end))
            }
        };
        for response in encoded.into_iter().chain(end.clone()) {
            if responses.send(Ok(response)).await.is_err() {
                return Ok(());
            }
        }
        if end.is_some() {
            return Ok(());
        }
    }
    Err(QueryError::Stopping.into())
}

impl From<QueryError> for Status {
    fn from(error: QueryError) -> Self {
        let message = error.to_string();
        match error {
            QueryError::TooLong(_) | QueryError::Wrong(_) => Self::invalid_argument(message),
            QueryError::Time(_) => Self::deadline_exceeded(message),
            QueryError::Memory(_) => Self::resource_exhausted(message),
            QueryError::Failed(_) | QueryError::Unreadable(_) => Self::internal(message),
            QueryError::Store(_) | QueryError::Lake(_) | QueryError::Stopping => Self::unavailable(message),
        }
    }
}

/// Turns rows into bytes.
enum Encoder {
    Arrow {
        schema: SchemaRef,
        writer: Box<StreamWriter<Vec<u8>>>,
    },
    Json,
}

impl Encoder {
    fn new(format: QueryFormat, schema: &SchemaRef) -> Result<Self, ArrowError> {
        match format {
            QueryFormat::Json => Ok(Self::Json),
            QueryFormat::Unspecified | QueryFormat::Arrow => {
                let schema = without_views(schema);
                let writer = Box::new(StreamWriter::try_new(Vec::new(), &schema)?);
                Ok(Self::Arrow { schema, writer })
            }
        }
    }

    fn encode(&mut self, rows: &RecordBatch) -> Result<Vec<QueryResponse>, ArrowError> {
        match self {
            Self::Arrow { schema, writer } => {
                writer.write(&compact(rows, schema)?)?;
                Ok(arrow_pieces(std::mem::take(writer.get_mut())))
            }
            Self::Json => json_pieces(rows),
        }
    }

    fn finish(&mut self) -> Result<Vec<QueryResponse>, ArrowError> {
        match self {
            Self::Arrow { writer, .. } => {
                writer.finish()?;
                Ok(arrow_pieces(std::mem::take(writer.get_mut())))
            }
            Self::Json => Ok(Vec::new()),
        }
    }
}

fn arrow_pieces(bytes: Vec<u8>) -> Vec<QueryResponse> {
    let piece = |arrow: &[u8]| QueryResponse {
        arrow: arrow.to_vec(),
        ..QueryResponse::default()
    };
    bytes.chunks(RESPONSE_BYTES).map(piece).collect()
}

fn json_pieces(rows: &RecordBatch) -> Result<Vec<QueryResponse>, ArrowError> {
    let mut text = Text::default();
    let mut writer = LineDelimitedWriter::new(&mut text);
    writer.write(rows)?;
    writer.finish()?;
    drop(writer);
    let piece = |json: &str| QueryResponse {
        json: json.to_owned(),
        ..QueryResponse::default()
    };
    Ok(lines(&text.0).map(piece).collect())
}

/// What a writer of JSON writes.
#[derive(Debug, Default)]
struct Text(String);

impl Write for Text {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.push_str(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Whole lines, about [`RESPONSE_BYTES`] at a time.
fn lines(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let from = text.len().min(RESPONSE_BYTES);
        let end = match text.as_bytes().get(from..) {
            Some(rest) if !rest.is_empty() => rest
                .iter()
                .position(|byte| *byte == b'\n')
                .map_or(text.len(), |at| from + at + 1),
            _ => text.len(),
        };
        let (piece, rest) = text.split_at(end);
        text = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Views refer to whatever buffers a file was read into; what is sent has its own texts only.
fn without_views(schema: &SchemaRef) -> SchemaRef {
    let plain = |field: &Arc<Field>| {
        let kind = match field.data_type() {
            DataType::Utf8View => DataType::Utf8,
            DataType::BinaryView => DataType::Binary,
            other => other.clone(),
        };
        field.as_ref().clone().with_data_type(kind)
    };
    Arc::new(Schema::new(schema.fields().iter().map(plain).collect::<Vec<_>>()))
}

fn compact(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = rows.columns().iter().zip(schema.fields());
    let columns: Vec<ArrayRef> = columns
        .map(|(column, field)| cast(column, field.data_type()))
        .collect::<Result<_, _>>()?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_whole() {
        let line = "x".repeat(400_000);
        let text = format!("{line}\n").repeat(7);
        let sizes: Vec<_> = lines(&text).map(|piece| piece.matches('\n').count()).collect();
        assert_eq!(sizes, [3, 3, 1]);
        assert_eq!(lines(&text).collect::<String>(), text);
        assert_eq!(lines("").count(), 0);
    }
}
