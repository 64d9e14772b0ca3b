//! What comes back like clockwork: connections, datagrams and questions of a program to the same end, at intervals that are too much alike.
//!
//! Much is regular that is normal: time, updates, monitoring. So that an edge is regular is a fact of the workload, as any other: only the first time
//! is news, and it is learned as all facts are.
//!
//! Bounds: [`EDGES`] edges, the one seen the longest ago goes first.

use std::fmt::Write as _;

use sensor_behaviour::regularity::{Beacon, Regularity};

use super::facts;
use crate::host::{Body, Event, Process};

const EDGES: usize = 2_048;

/// From this score on, in nats, an edge is regular: one in four million by chance.
const REGULAR: f64 = 15.0;

/// The latest contacts of all programs.
#[derive(Debug)]
pub(super) struct Beacons {
    regularity: Regularity,
    edge: String,
    end: Vec<u8>,
}

impl Default for Beacons {
    fn default() -> Self {
        Self {
            regularity: Regularity::new(EDGES),
            edge: String::new(),
            end: Vec::new(),
        }
    }
}

impl Beacons {
    /// The end that `event` makes a regular one, in `fact`, and how regular it is. Of a connection it is there already, as its fact.
    pub(super) fn judge(&mut self, event: &Event, process: &Process, fact: &mut Vec<u8>) -> Option<Beacon> {
        self.end.clear();
        let amount = match &event.body {
            Body::Connect(flow) if !flow.inbound => {
                self.end.extend_from_slice(fact);
                0.0
            }
            Body::UdpFlow(flow, totals) if !flow.inbound && totals.bytes_sent > 0 => {
                self.end.extend_from_slice(b"udp ");
                facts::far_end(flow, &mut self.end);
                totals.bytes_sent as f64
            }
            Body::Dns(_, message) if !message.answer => {
                self.end.extend_from_slice(b"name ");
                self.end
                    .extend_from_slice(facts::domain(&message.name).as_bytes());
                0.0
            }
            _ => return None,
        };
        self.edge.clear();
        let _ = write!(self.edge, "{} ", process.workload.name);
        self.edge
            .push_str(&String::from_utf8_lossy(&process.image.executable));
        self.edge.push(' ');
        self.edge.push_str(&String::from_utf8_lossy(&self.end));
        let mut beacon = self.regularity.observe(&self.edge, event.time.0, amount)?;
        if beacon.score < REGULAR {
            return None;
        }
        if amount == 0.0 {
            // How much is said is not known, which is not the same as always nothing.
            beacon.amount_jitter = f64::INFINITY;
        }
        fact.clear();
        fact.extend_from_slice(&self.end);
        Some(beacon)
    }
}

#[cfg(test)]
mod tests;
