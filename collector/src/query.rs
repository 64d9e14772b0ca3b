//! Questions in SQL, about the lake and what is not in it yet, as one table: `events`.
//!
//! Invariants:
//! - A question sees one state: every entry that was stored before it once, whatever becomes a run, is put together or is taken meanwhile.
//! - Nothing can be changed by a question, and nothing else be read than the tables that are there.
//! - A question has limits: of time, of rows, and of memory, which all questions share ([`Limits`]). What does not fit in memory goes to a
//!   folder of the data directory where DataFusion can do that (sorting, grouping, joining), within a limit too.
//! - Questions are answered on threads of their own that give way to those that store.

mod answer;
mod engine;
mod events;
mod fresh;
pub mod print;
pub mod service;
mod snapshot;

pub use answer::{Piece, Pieces};
pub use engine::{Answer, Engine, Limits, QueryError, SQL_BYTES_MAX};
pub use snapshot::Snapshot;
