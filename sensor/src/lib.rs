//! Sensor's agent, in the order of its flow: [`capture`] → [`host`] → [`detect`] → [`respond`] → [`export`].

pub mod capture;
pub mod cli;
pub mod detect;
pub mod export;
pub mod host;
pub mod respond;
pub mod time;
