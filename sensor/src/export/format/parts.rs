//! What several formats make of an entry.

use sensor_proto::v1::{self, Severity, entry::Body, event};

use crate::time::WallTime;

/// The last part of a path.
pub(super) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The path without its last part.
pub(super) fn folder(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) => "/",
        Some((folder, _)) => folder,
        None => "",
    }
}

/// A path, or "" for what is none, as the name of a memory file.
pub(super) fn path(text: &str) -> &str {
    if text.starts_with('/') { text } else { "" }
}

/// The techniques of all that was found, each once.
pub(super) fn techniques(incident: &v1::Incident) -> Vec<&String> {
    let found = incident.signals.iter().flat_map(|signal| &signal.techniques);
    let mut techniques: Vec<_> = found.collect();
    techniques.sort_unstable();
    techniques.dedup();
    techniques
}

/// Names a process for good, on its host.
pub(super) fn process_uid(id: Option<&v1::ProcessId>) -> String {
    id.map_or_else(String::new, |id| format!("{}-{}", id.tgid, id.start_time_ns))
}

/// The level of a signal: its rule's; for a model's, that of what is evidence and not more.
pub(in crate::export) fn level(signal: &v1::Signal) -> Severity {
    match signal.rule.as_ref().map(|rule| rule.level.as_str()) {
        Some("critical") => Severity::Critical,
        Some("high") => Severity::High,
        Some("medium") => Severity::Medium,
        _ => Severity::Low,
    }
}

/// When it happened, in nanoseconds since the Unix epoch.
pub(in crate::export) fn time(entry: &v1::Entry) -> u64 {
    match &entry.body {
        Some(Body::Event(event)) => event.time_ns,
        Some(Body::Signal(signal)) => signal.event.as_ref().map_or(0, |event| event.time_ns),
        Some(Body::Incident(incident)) => incident.updated_ns,
        Some(Body::Outcome(outcome)) => outcome.time_ns,
        Some(Body::Loss(loss)) => loss.to_ns,
        None => 0,
    }
}

/// A point in time for people and programs: RFC 3339 in UTC.
pub(super) fn timestamp(nanoseconds: u64) -> String {
    WallTime(nanoseconds).to_string()
}

/// The two ends of what an event is about, and which of them is this host's.
pub(super) fn tuple(body: &event::Body) -> Option<(&v1::Tuple, Direction)> {
    let of = |inbound| {
        if inbound {
            Direction::Inbound
        } else {
            Direction::Outbound
        }
    };
    let (tuple, direction) = match body {
        event::Body::Connect(connect) => (&connect.tuple, Direction::Outbound),
        event::Body::Accept(accept) => (&accept.tuple, Direction::Inbound),
        event::Body::FlowClose(flow) | event::Body::FlowReport(flow) => (&flow.tuple, of(flow.inbound)),
        event::Body::UdpFlow(flow) => (&flow.tuple, of(flow.inbound)),
        event::Body::Dns(dns) => (&dns.tuple, Direction::Outbound),
        event::Body::TlsHello(hello) => (&hello.tuple, Direction::Outbound),
        _ => return None,
    };
    Some((tuple.as_ref()?, direction))
}

/// Who began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Inbound,
    Outbound,
}

/// What a connection carried.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traffic {
    pub(super) bytes_sent: u64,
    pub(super) bytes_received: u64,
    pub(super) packets_sent: u64,
    pub(super) packets_received: u64,
    pub(super) duration_ns: Option<u64>,
}

pub(super) fn traffic(body: &event::Body) -> Option<Traffic> {
    match body {
        event::Body::FlowClose(flow) | event::Body::FlowReport(flow) => Some(Traffic {
            bytes_sent: flow.bytes_sent,
            bytes_received: flow.bytes_received,
            packets_sent: flow.segments_sent.into(),
            packets_received: flow.segments_received.into(),
            duration_ns: flow.duration_ns,
        }),
        event::Body::UdpFlow(flow) => Some(Traffic {
            bytes_sent: flow.bytes_sent,
            bytes_received: flow.bytes_received,
            packets_sent: flow.datagrams_sent,
            packets_received: flow.datagrams_received,
            duration_ns: Some(flow.duration_ns),
        }),
        _ => None,
    }
}

/// The transport of what an event is about.
pub(super) fn transport(body: &event::Body) -> &'static str {
    match body {
        event::Body::UdpFlow(_) | event::Body::Dns(_) => "udp",
        event::Body::Bind(bind) if bind.protocol == "udp" => "udp",
        event::Body::Bind(bind) if bind.protocol != "tcp" => "",
        _ => "tcp",
    }
}

/// Whether what was asked for was done; `None` where that is not known.
pub(super) fn success(body: &event::Body) -> Option<bool> {
    match body {
        event::Body::Operation(operation) => (!operation.attempt).then_some(operation.result >= 0),
        event::Body::FlowClose(flow) => Some(flow.established),
        event::Body::Session(session) => Some(session.signal != "auth_failure"),
        _ => None,
    }
}
