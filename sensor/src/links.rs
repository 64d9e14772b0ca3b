//! The agent's own connections to its collector: what the kernel reports of their other end, where that is on this host, is
//! left out, or the agent would report its own reporting.

use std::{collections::VecDeque, net::SocketAddr, sync::Mutex};

use crate::host::Flow;

/// Connections remembered; the ends of older ones have been reported long ago.
const REMEMBERED: usize = 16;

/// Connections that the agent has made, or is about to.
#[derive(Debug, Default)]
pub struct OwnLinks(Mutex<VecDeque<(u16, SocketAddr)>>);

impl OwnLinks {
    /// Notes a connection from `local_port` to `remote`, before it is attempted.
    pub fn add(&self, local_port: u16, remote: SocketAddr) {
        let mut links = self.links();
        if links.len() == REMEMBERED {
            links.pop_front();
        }
        links.push_back((local_port, remote));
    }

    /// Whether `flow` is the collector's end of one of them.
    #[must_use]
    pub fn contain(&self, flow: &Flow) -> bool {
        flow.inbound
            && self.links().iter().any(|(port, collector)| {
                *port == flow.remote.port()
                    && collector.port() == flow.local.port()
                    && collector.ip() == flow.local.ip()
            })
    }

    fn links(&self) -> std::sync::MutexGuard<'_, VecDeque<(u16, SocketAddr)>> {
        // A panic elsewhere cannot leave the list half written.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_other_end_of_an_own_connection_is_left_out() {
        let links = OwnLinks::default();
        let collector: SocketAddr = "127.0.0.1:7443".parse().unwrap();
        links.add(40_000, collector);
        let flow = |local: &str, remote: &str, inbound| Flow {
            id: 1,
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
            remote_name: None,
            inbound,
            established: true,
            listener: false,
        };
        assert!(links.contain(&flow("127.0.0.1:7443", "127.0.0.1:40000", true)));
        assert!(!links.contain(&flow("127.0.0.1:7443", "127.0.0.1:40001", true)));
        assert!(!links.contain(&flow("127.0.0.1:7444", "127.0.0.1:40000", true)));
        assert!(!links.contain(&flow("127.0.0.1:7443", "127.0.0.1:40000", false)));
    }

    #[test]
    fn the_list_is_bounded() {
        let links = OwnLinks::default();
        for port in 0..1000 {
            links.add(port, "127.0.0.1:1".parse().unwrap());
        }
        assert_eq!(links.links().len(), REMEMBERED);
    }
}
