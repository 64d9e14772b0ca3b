//! Syslog: messages of RFC 5424, each with its length before it (RFC 6587, and RFC 5425 over TLS).
//!
//! The protocol has no acknowledgements: what was on the way when a connection broke is lost, and nobody knows how much that was.

use std::{fmt::Write as _, time::Duration};

use sensor_proto::{
    signal_name,
    v1::{self, Severity, entry::Body},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::{
    Line, OutputError, Sent, SinkError,
    dial::{self, Target},
};
use crate::{
    config::Output,
    export::{format, uplink::OnConnecting},
    time::WallTime,
};

/// Facility "log audit".
const FACILITY: u8 = 13;

/// Longest message that is sent, in bytes: RFC 5425 asks receivers for 8 KiB, they take more; an incident is some ten thousand.
const MESSAGE_MAX: usize = 1 << 20;

pub(super) struct SyslogSink {
    target: Target,
    line: Option<dial::Line>,
}

impl SyslogSink {
    pub(super) fn new(config: &Output, on_connecting: &OnConnecting) -> Result<Self, OutputError> {
        Ok(Self {
            target: Target::new(config, on_connecting)?,
            line: None,
        })
    }

    pub(super) async fn send(&mut self, lines: &[Line]) -> Result<Sent, SinkError> {
        let mut line = self.open_line().await?;
        let mut text = String::new();
        let mut sent = Sent::default();
        for message in lines.iter().map(message) {
            if message.len() > MESSAGE_MAX {
                sent.refused += 1;
                continue;
            }
            let _ = write!(text, "{} {message}", message.len());
            sent.taken += 1;
        }
        line.write_all(text.as_bytes()).await?;
        line.flush().await?;
        self.line = Some(line);
        Ok(sent)
    }

    async fn open_line(&mut self) -> Result<dial::Line, SinkError> {
        if let Some(mut line) = self.line.take()
            && is_open(&mut line).await
        {
            return Ok(line);
        }
        Ok(self.target.connect().await?)
    }
}

/// Receivers say nothing: what can be read is the end.
async fn is_open(line: &mut dial::Line) -> bool {
    let mut byte = [0];
    match timeout(Duration::ZERO, line.read(&mut byte)).await {
        Err(_) => true,
        Ok(read) => read.is_ok_and(|count| count > 0),
    }
}

/// `<PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID SD MSG`.
fn message(line: &Line) -> String {
    let priority = FACILITY * 8 + severity(&line.entry);
    let time = WallTime(format::time(&line.entry));
    let host: String = line
        .entry
        .host
        .chars()
        .filter(char::is_ascii_graphic)
        .take(255)
        .collect();
    let host = if host.is_empty() { "-" } else { &host };
    let name = match signal_name(&line.entry) {
        "" => "-",
        name => name,
    };
    format!(
        "<{priority}>1 {time} {host} sensor {} {name} - {}",
        std::process::id(),
        line.text
    )
}

/// From 2, critical, to 6, informational.
fn severity(entry: &v1::Entry) -> u8 {
    let of = |severity| match severity {
        Severity::Critical => 2,
        Severity::High => 3,
        Severity::Medium => 4,
        Severity::Low | Severity::Unspecified => 5,
    };
    match &entry.body {
        Some(Body::Incident(incident)) => of(incident.severity()),
        Some(Body::Signal(signal)) => of(format::level(signal)),
        Some(Body::Loss(_)) => 4,
        Some(Body::Outcome(_)) => 5,
        Some(Body::Event(_)) | None => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_the_parts_that_the_standard_wants() {
        let incident = v1::Incident {
            severity: Severity::High.into(),
            updated_ns: 1_700_000_000_123_000_000,
            ..v1::Incident::default()
        };
        let line = Line {
            entry: v1::Entry {
                host: "web 1\n".into(),
                body: Some(Body::Incident(incident)),
            },
            text: "{}".into(),
        };
        let pid = std::process::id();
        assert_eq!(
            message(&line),
            format!("<107>1 2023-11-14T22:13:20.123Z web1 sensor {pid} incident - {{}}")
        );
    }
}
