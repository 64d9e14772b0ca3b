//! An answer on its way.

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use tokio::sync::mpsc;

use super::QueryError;

/// The pieces of an answer, as they come.
pub type Pieces = mpsc::Receiver<Result<Piece, QueryError>>;

/// A piece of an answer.
#[derive(Debug)]
pub enum Piece {
    /// Its columns; the first, and once.
    Schema(SchemaRef),
    /// Rows.
    Rows(RecordBatch),
    /// There is no more.
    End {
        /// How many rows there were.
        rows: u64,
        /// There would have been more than may be.
        cut: bool,
        /// Files that could not be read, and are not in the answer.
        damaged: Vec<String>,
    },
}
