//! Sensor's agent, in the order of its flow: [`capture`] → [`host`] → [`detect`] → [`respond`] → [`export`]. What an operator may set is in [`config`].

pub mod capture;
pub mod config;
pub mod detect;
pub mod export;
pub mod host;
pub mod preflight;
pub mod respond;
pub mod time;
