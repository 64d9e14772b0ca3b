//! Between a host and its collector over TLS: the agent's real ends.

mod enroll;
mod remote;
mod world;
