//! An HTTP server that is told, by a POST for each, in the words of the output's format.
//!
//! ```text
//! content-type: application/json
//! x-sensor-timestamp: SECONDS
//! x-sensor-signature: sha256=HEX           HMAC-SHA256 of "SECONDS.BODY" with the key that both know
//! x-sensor-delivery: ID                    the same for each attempt
//! ```
//! What the server answers with 2xx it has taken. 408, 429 and 5xx are tried again, at growing intervals; with anything else it has refused.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use hmac::{Hmac, KeyInit as _, Mac as _};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Request, StatusCode,
    body::Bytes,
    client::conn::http1::{self, SendRequest},
    header::{CONTENT_TYPE, HOST, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use sensor_proto::{signal_name, v1::entry::Body};
use sha2::Sha256;

use super::{Line, OutputError, Sent, SinkError, dial::Target};
use crate::{
    config::Output,
    export::{format, uplink::OnConnecting},
    hex::hex,
    time::WallTime,
};

/// Shortest key, in bytes.
const KEY_MIN: usize = 16;

/// What is read of an answer, so that the connection can be used again.
const ANSWER_MAX: usize = 64 << 10;

pub(super) struct WebhookSink {
    target: Target,
    key: Vec<u8>,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl WebhookSink {
    pub(super) fn new(config: &Output, on_connecting: &OnConnecting) -> Result<Self, OutputError> {
        Ok(Self {
            target: Target::new(config, on_connecting)?,
            key: key(&config.key_file)?,
            sender: None,
        })
    }

    /// One at a time.
    pub(super) async fn send(&mut self, lines: &[Line]) -> Result<Sent, SinkError> {
        let Some(line) = lines.first() else {
            return Ok(Sent::default());
        };
        let status = self.post(line).await?;
        let is_later = matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
        );
        if status.is_success() {
            return Ok(Sent { taken: 1, refused: 0 });
        }
        if is_later || status.is_server_error() {
            return Err(SinkError::Answer(status));
        }
        tracing::warn!(
            "the webhook {} has refused {}: {status}",
            self.target.host,
            delivery(line)
        );
        Ok(Sent { taken: 0, refused: 1 })
    }

    async fn post(&mut self, line: &Line) -> Result<StatusCode, SinkError> {
        let mut sender = self.ready().await?;
        let response = sender.send_request(self.request(line)).await?;
        let status = response.status();
        if Limited::new(response.into_body(), ANSWER_MAX)
            .collect()
            .await
            .is_ok()
        {
            self.sender = Some(sender);
        }
        Ok(status)
    }

    async fn ready(&mut self) -> Result<SendRequest<Full<Bytes>>, SinkError> {
        if let Some(mut sender) = self.sender.take()
            && sender.ready().await.is_ok()
        {
            return Ok(sender);
        }
        self.connect().await
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, SinkError> {
        let line = self.target.connect().await?;
        let (sender, connection) = http1::handshake(TokioIo::new(line)).await?;
        // It ends with the sender.
        tokio::spawn(connection);
        Ok(sender)
    }

    fn request(&self, line: &Line) -> Request<Full<Bytes>> {
        let seconds = (WallTime::now().0 / 1_000_000_000).to_string();
        let signature = sign(&self.key, &seconds, &line.text);
        let body = Full::new(Bytes::from(line.text.clone()));
        let Target { host, port, path, .. } = &self.target;
        let mut request = Request::new(body);
        *request.method_mut() = hyper::Method::POST;
        *request.uri_mut() = path.parse().unwrap_or_default();
        let headers = request.headers_mut();
        let texts = [
            (HOST.as_str(), format!("{host}:{port}")),
            (CONTENT_TYPE.as_str(), "application/json".to_owned()),
            (
                USER_AGENT.as_str(),
                concat!("sensor/", env!("CARGO_PKG_VERSION")).to_owned(),
            ),
            ("x-sensor-timestamp", seconds),
            ("x-sensor-signature", format!("sha256={signature}")),
            ("x-sensor-delivery", delivery(line)),
        ];
        for (name, value) in texts {
            if let (Ok(name), Ok(value)) = (hyper::header::HeaderName::try_from(name), value.try_into()) {
                headers.insert(name, value);
            }
        }
        request
    }
}

/// Names what is delivered: the state of an incident, or the time of anything else.
fn delivery(line: &Line) -> String {
    match &line.entry.body {
        Some(Body::Incident(incident)) => format!("{}-{}", incident.id, incident.updated_ns),
        _ => format!("{}-{}", signal_name(&line.entry), format::time(&line.entry)),
    }
}

/// HMAC-SHA256 of `SECONDS.BODY`, in hexadecimal.
fn sign(key: &[u8], seconds: &str, body: &str) -> String {
    // A key of any length is allowed.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return String::new();
    };
    mac.update(seconds.as_bytes());
    mac.update(b".");
    mac.update(body.as_bytes());
    hex(&mac.finalize().into_bytes())
}

fn key(path: &Path) -> Result<Vec<u8>, OutputError> {
    let refuse = |problem: String| OutputError::File {
        path: path.to_owned(),
        problem,
    };
    let key = fs::read(path).map_err(|error| refuse(error.to_string()))?;
    let about = fs::metadata(path).map_err(|error| refuse(error.to_string()))?;
    if about.mode() & 0o077 != 0 {
        return Err(refuse(
            "others can read it; `chmod 600` it, and make a new key".to_owned(),
        ));
    }
    let key = key.trim_ascii().to_vec();
    if key.len() < KEY_MIN {
        return Err(refuse(format!(
            "a key has at least {KEY_MIN} bytes; `openssl rand -hex 32` makes one"
        )));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_what_others_reckon() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac 0123456789abcdef
        let expected = "9eb18f493f8ec135d9eb2dad817c369bb4e9cbfa818657897a7437c1cd8c3a23";
        assert_eq!(sign(b"0123456789abcdef", "1700000000", "{\"a\":1}"), expected);
    }
}
