//! The command line, a file for each command.

pub mod audit;
pub mod connect;
pub mod doctor;
pub mod enroll;
pub mod events;
pub mod feedback;
pub mod forensics;
pub mod incidents;
pub mod json;
pub mod models;
pub mod privacy;
pub mod record;
pub mod reload;
pub mod render;
pub mod replay;
pub mod respond;
pub mod rules;
pub mod run;
pub mod sequences;
pub mod status;
pub mod text;

/// How a command writes what it found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people: one line each.
    #[default]
    Compact,
    /// For programs: one JSON object a line, with the field names of the `.proto` files.
    Json,
}
