//! Events as Parquet files, which any tool can read.
//!
//! What arrives is stored as batches in SQLite first ([`store`](crate::store)): durable before it is acknowledged. The [`keeper`] turns the oldest of them
//! into a *run*: entries that follow each other, all of one day of arrival, in a file for each [`Class`]:
//!
//! ```text
//! DATA/lake/class=process/day=2026-11-26/00000000000000000001-00000000000000131072-0.parquet
//!                                        first position        last position        level
//! ```
//!
//! Runs that follow each other become one larger run, eight at a time, and retention takes the oldest. The list of runs is in SQLite.
//!
//! Invariants:
//! - Each stored entry is in exactly one place: a batch, or a run. A file is written, synced, renamed and its folder synced before the one transaction that
//!   lists it and deletes the batches; so a crash leaves a file that is not listed, which is removed at the next start.
//! - Runs do not overlap and leave no gap, so retention takes exactly the entries before a position, the floor.
//! - A day is that of *arrival*, in UTC. What a host says of the time can be anything; a partition for each would be for an attacker to
//!   choose, and what retention takes would not be the oldest.
//! - A file that is not listed any more is removed when nobody reads it ([`lease`]).
//! - Rows are sorted by host and time, so that a row group, or a page, is of one host and a stretch of time.
//!
//! [`table`] says which columns there are; rows are made of entries by [`rows`], and entries of rows by [`entry`].

mod class;
mod column;
pub(crate) mod damage;
mod day;
pub mod documentation;
pub mod entry;
mod file;
pub(crate) mod found;
pub mod keeper;
pub mod lease;
mod merge;
pub mod rows;
pub(crate) mod scan;
pub mod shared;
mod table;
#[cfg(test)]
mod tests;

pub use class::Class;
pub use column::{Cell, Column, Kind, Row, Source};
pub use day::Day;
pub use file::{FileError, folder, remove_unlisted};
pub(crate) use file::{aside, file_in_memory, make_folder};
pub use table::{COLUMNS, column};
