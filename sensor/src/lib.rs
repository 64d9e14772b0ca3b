//! Sensor's agent, in the order of its flow: [`capture`] → [`host`] → [`detect`] → [`respond`] → [`export`].
//!
//! [`pipeline`] takes a record through the stages, [`agent`] composes them. What an operator may set is in [`config`],
//! what they may ask in [`cli`].

pub mod admin;
pub mod agent;
pub mod book;
pub mod capture;
pub mod cli;
pub mod config;
pub mod detect;
pub mod enforce;
pub mod enroll;
pub mod export;
pub mod fleet;
pub mod forensics;
pub mod host;
pub mod knowledge;
pub mod links;
pub mod mute;
pub mod orders;
pub mod pipeline;
pub mod preflight;
pub mod priority;
pub mod privacy;
pub mod recording;
pub mod reload;
pub mod remote;
pub mod replay;
pub mod respond;
pub mod rules;
pub mod session;
pub mod state;
pub mod status;
pub mod time;

pub use sensor_trust::hex;
