//! Other ways out than the collector: `[[export.outputs]]`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::values;
use crate::export::{
    choice::{Choice, Least, Names},
    format::Format,
};

/// To what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputKind {
    /// Lines in a file, which is replaced by a new one when it is long enough.
    File,
    /// OpenTelemetry's protocol for logs, over gRPC.
    Otlp,
    /// RFC 5424 over TCP or TLS.
    Syslog,
    /// An HTTP server that is told of incidents.
    Webhook,
}

impl OutputKind {
    /// What configurations and the status call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Otlp => "otlp",
            Self::Syslog => "syslog",
            Self::Webhook => "webhook",
        }
    }

    fn schemes(self) -> &'static [&'static str] {
        match self {
            Self::File => &[],
            Self::Otlp | Self::Webhook => &["http", "https"],
            Self::Syslog => &["tcp", "tls"],
        }
    }
}

/// Another way out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// To what.
    pub kind: OutputKind,
    /// In whose words: `json`, `ocsf` or `ecs`.
    #[serde(default)]
    pub format: Format,
    /// What goes there, as for the uplink; empty: everything, but for a webhook, to which incidents go.
    #[serde(default)]
    pub signals: Names,
    /// The least severity of incidents and of the signals of rules.
    #[serde(default)]
    pub severity: Least,
    /// Of `file`: an absolute path.
    #[serde(default)]
    pub path: PathBuf,
    /// Of `file`: bytes at which it is renamed to `PATH.1` and a new one begun. 4 KiB to 1 TiB.
    #[serde(
        default = "default_bytes",
        deserialize_with = "values::bounded::<_, _, 4_096, 1_099_511_627_776>"
    )]
    pub max_bytes: u64,
    /// Of `file`: how many there are, the one that is written included. 1 to 1,000.
    #[serde(
        default = "default_files",
        deserialize_with = "values::bounded::<_, _, 1, 1_000>"
    )]
    pub max_files: u32,
    /// Of all others: where to, as `https://HOST:PORT/PATH`, of `syslog` as `tls://HOST:PORT` or `tcp://HOST:PORT`.
    #[serde(default)]
    pub url: String,
    /// Who may have signed the receiver's certificate, as PEM; empty: whom the system trusts.
    #[serde(default)]
    pub ca_file: PathBuf,
    /// Of `webhook`: the secret that the receiver knows too, at least 16 bytes in a file that nobody else can read.
    #[serde(default)]
    pub key_file: PathBuf,
    /// Entries that wait before the next are lost. 1 to 1,048,576.
    #[serde(
        default = "default_queue",
        deserialize_with = "values::bounded::<_, _, 1, 1_048_576>"
    )]
    pub queue: usize,
}

fn default_bytes() -> u64 {
    64 << 20
}

fn default_files() -> u32 {
    5
}

fn default_queue() -> usize {
    8_192
}

impl Output {
    /// What goes there.
    #[must_use]
    pub fn choice(&self) -> Choice {
        let incidents = || Names::parse(vec!["incident".to_owned()]).unwrap_or_default();
        let is_default = self.kind == OutputKind::Webhook && self.signals == Names::default();
        Choice {
            names: if is_default {
                incidents()
            } else {
                self.signals.clone()
            },
            severity: self.severity,
        }
    }

    /// Where to, for people.
    #[must_use]
    pub fn target(&self) -> String {
        match self.kind {
            OutputKind::File => self.path.display().to_string(),
            _ => self.url.clone(),
        }
    }

    /// What does not go together: the key, and what is wrong with it.
    pub(super) fn contradiction(&self) -> Option<(&'static str, String)> {
        let kind = self.kind.name();
        if self.kind == OutputKind::File {
            let is_wrong = !self.path.is_absolute();
            return is_wrong.then(|| ("kind", format!("a {kind} needs a path, an absolute one")));
        }
        let schemes = self.kind.schemes();
        let scheme = self.url.split_once("://").map(|(scheme, _)| scheme);
        if !scheme.is_some_and(|scheme| schemes.contains(&scheme)) {
            let allowed: Vec<_> = schemes
                .iter()
                .map(|scheme| format!("{scheme}://HOST:PORT"))
                .collect();
            return Some(("kind", format!("a {kind} needs a url: {}", allowed.join(" or "))));
        }
        let is_keyed = self.key_file != Path::new("");
        if self.kind == OutputKind::Webhook && !self.key_file.is_absolute() {
            return Some((
                "kind",
                format!("a {kind} needs a key_file, an absolute path, to sign with"),
            ));
        }
        if self.kind != OutputKind::Webhook && is_keyed {
            return Some(("key_file", format!("a {kind} has none")));
        }
        None
    }
}
