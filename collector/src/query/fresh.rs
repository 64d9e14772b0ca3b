//! What is not in the lake yet, as rows.

use std::sync::Arc;

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::{
    common::{DataFusionError, Result},
    execution::{SendableRecordBatchStream, TaskContext},
    physical_plan::{stream::RecordBatchReceiverStreamBuilder, streaming::PartitionStream},
};

use super::Snapshot;
use crate::{
    lake::rows::{Builder, Field, Layout, schema},
    store::Position,
};

/// Tables that are ready and not taken yet.
const AHEAD: usize = 2;

/// The fresh entries of a snapshot, in the order of their positions.
#[derive(Debug)]
pub(super) struct Fresh {
    snapshot: Arc<Snapshot>,
    fields: Vec<Field>,
    schema: SchemaRef,
}

impl Fresh {
    pub(super) fn new(snapshot: Arc<Snapshot>, fields: Vec<Field>) -> Self {
        Self {
            schema: schema(&fields),
            snapshot,
            fields,
        }
    }
}

impl PartitionStream for Fresh {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut stream = RecordBatchReceiverStreamBuilder::new(Arc::clone(&self.schema), AHEAD);
        let (rows, snapshot, fields) = (stream.tx(), Arc::clone(&self.snapshot), self.fields.clone());
        stream.spawn_blocking(move || {
            let mut from = Position(0);
            while let Some((batch, past)) = chunk(&snapshot, &fields, from)? {
                from = past;
                // An error means that nobody wants any more.
                if rows.blocking_send(Ok(batch)).is_err() {
                    break;
                }
            }
            Ok(())
        });
        stream.build()
    }
}

/// The next rows, and the position after them.
fn chunk(snapshot: &Snapshot, fields: &[Field], from: Position) -> Result<Option<(RecordBatch, Position)>> {
    let external = |error| DataFusionError::External(Box::new(error));
    let batches = snapshot.fresh(from).map_err(external)?;
    let Some(last) = batches.last() else {
        return Ok(None);
    };
    let mut builder = Builder::new(Layout::Together(fields.to_vec()));
    for batch in &batches {
        if let Err(error) = builder.push(batch, from) {
            // The keeper of the lake sets it aside.
            tracing::error!(
                "{} entries at position {} cannot be read: {error}",
                batch.entries,
                batch.position
            );
        }
    }
    let past = last.past();
    let table = builder.finish()?.into_iter().next();
    Ok(table.map(|table| (table.rows, past)))
}
