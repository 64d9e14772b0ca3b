//! Sensor's collector, in the order of its flow: [`session`] checks what an agent sends, [`writer`] makes it
//! durable in the [`store`], [`ingest`] acknowledges it, [`consumers`] pass it on; the [`lake`] keeps it in files, and [`query`] answers
//! questions about it. [`trust`] says who may do what, [`control`] takes to hosts what is asked of them, [`server`] composes them.
//!
//! Beyond one machine there is a [`bus`] where the writer was: [`storage`] says which, a [`loader`] takes what is on it to a lake that is
//! [shared](lake::shared), and [`roles`] composes those.
//!
//! Invariants: nothing is acknowledged or passed on before it is on disk; nothing is stored twice; a
//! consumer that is too slow loses its own entries only.

pub mod admin;
pub mod bus;
pub mod cli;
pub mod consumers;
pub mod control;
pub mod fleet;
pub mod ingest;
pub mod lake;
pub mod loader;
pub mod pace;
pub mod prevalence;
pub mod priority;
pub mod query;
pub mod roles;
pub mod server;
pub mod session;
pub mod storage;
pub mod store;
pub mod trust;
pub mod writer;

pub use server::{Config, Server, ServerError};
