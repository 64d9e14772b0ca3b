//! OpenTelemetry's protocol for logs, over gRPC: a record for each entry, whose body is the line of the output's format.

use std::sync::Arc;

use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::{
    collector::logs::v1::{ExportLogsServiceRequest, logs_service_client::LogsServiceClient},
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber},
    resource::v1::Resource,
};
use sensor_proto::{
    signal_name,
    v1::{self, Severity, entry::Body},
};
use tonic::transport::{Channel, Endpoint, Uri};

use super::{Line, OutputError, Sent, SinkError, dial::Target};
use crate::{
    config::Output,
    export::{format, uplink::OnConnecting},
    time::WallTime,
};

pub(super) struct OtlpSink {
    target: Target,
    uri: Uri,
    host: Arc<str>,
    client: Option<LogsServiceClient<Channel>>,
}

impl OtlpSink {
    pub(super) fn new(
        config: &Output,
        host: &str,
        on_connecting: &OnConnecting,
    ) -> Result<Self, OutputError> {
        let target = Target::new(config, on_connecting)?;
        // Its scheme is that of what goes through the connection, which speaks TLS by itself where it is to.
        let uri = config.url.replacen("https://", "http://", 1);
        let uri = uri.parse().map_err(|_| OutputError::Url {
            url: config.url.clone(),
            problem: "it is no address".to_owned(),
        })?;
        Ok(Self {
            target,
            uri,
            host: host.into(),
            client: None,
        })
    }

    pub(super) async fn send(&mut self, lines: &[Line]) -> Result<Sent, SinkError> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => self.connect().await?,
        };
        let answer = client.export(self.request(lines)).await?.into_inner();
        self.client = Some(client);
        let rejected = answer
            .partial_success
            .map_or(0, |partial| partial.rejected_log_records);
        let refused = usize::try_from(rejected).unwrap_or(0).min(lines.len());
        Ok(Sent {
            taken: lines.len() - refused,
            refused,
        })
    }

    async fn connect(&self) -> Result<LogsServiceClient<Channel>, SinkError> {
        let target = self.target.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let target = target.clone();
            async move { target.connect().await.map(TokioIo::new) }
        });
        let channel = Endpoint::from(self.uri.clone())
            .connect_with_connector(connector)
            .await?;
        Ok(LogsServiceClient::new(channel))
    }

    fn request(&self, lines: &[Line]) -> ExportLogsServiceRequest {
        let resource = Resource {
            attributes: vec![text("service.name", "sensor"), text("host.name", &self.host)],
            ..Resource::default()
        };
        let scope = InstrumentationScope {
            name: "sensor".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let logs = ScopeLogs {
            scope: Some(scope),
            log_records: lines.iter().map(record).collect(),
            ..ScopeLogs::default()
        };
        ExportLogsServiceRequest {
            resource_logs: vec![ResourceLogs {
                resource: Some(resource),
                scope_logs: vec![logs],
                ..ResourceLogs::default()
            }],
        }
    }
}

fn record(line: &Line) -> LogRecord {
    let (severity, words) = severity(&line.entry);
    let name = signal_name(&line.entry);
    LogRecord {
        time_unix_nano: format::time(&line.entry),
        observed_time_unix_nano: WallTime::now().0,
        severity_number: severity.into(),
        severity_text: words.to_owned(),
        body: Some(string(&line.text)),
        attributes: vec![text("event.name", name)],
        event_name: name.to_owned(),
        ..LogRecord::default()
    }
}

fn severity(entry: &v1::Entry) -> (SeverityNumber, &'static str) {
    let of = |severity| match severity {
        Severity::Critical => (SeverityNumber::Fatal, "critical"),
        Severity::High => (SeverityNumber::Error, "high"),
        Severity::Medium => (SeverityNumber::Warn, "medium"),
        Severity::Low | Severity::Unspecified => (SeverityNumber::Info2, "low"),
    };
    match &entry.body {
        Some(Body::Incident(incident)) => of(incident.severity()),
        Some(Body::Signal(signal)) => of(format::level(signal)),
        Some(Body::Loss(_)) => (SeverityNumber::Warn, "loss"),
        Some(Body::Outcome(_)) => (SeverityNumber::Info2, "outcome"),
        Some(Body::Event(_)) | None => (SeverityNumber::Info, "event"),
    }
}

fn string(text: &str) -> AnyValue {
    AnyValue {
        value: Some(Value::StringValue(text.to_owned())),
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(string(value)),
    }
}
