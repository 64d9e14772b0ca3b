//! What is at stake: the same evidence is worse on a database with everybody's data than in a sandbox for builds.
//!
//! What is how much worth is the operator's knowledge (`[detect.stakes]`). Something of more worth makes an incident one step worse, something of less
//! one step milder; what is named as both counts as more. Bound: [`config::Stakes`] takes a limited number of names.

use std::sync::Arc;

use super::Severity;
use crate::{
    config,
    host::{Body, Event, Process},
    mute::Pattern,
};

/// How bad something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Weight {
    pub(super) severity: Severity,
    /// The name of what is at stake, where that has changed it.
    pub(super) at_stake: Option<Arc<str>>,
}

/// What the operator has named.
#[derive(Debug, Default)]
pub(super) struct Stakes {
    more: Vec<Asset>,
    less: Vec<Asset>,
}

/// Something that can be at stake.
#[derive(Debug)]
struct Asset {
    /// As the operator wrote it.
    name: Arc<str>,
    is: Kind,
}

#[derive(Debug)]
enum Kind {
    /// A file, a directory with what is in it, or an executable.
    Path(Pattern),
    /// Somebody, by who they were when they logged in, or are.
    User(u32),
    /// A workload.
    Workload(Pattern),
}

impl Stakes {
    pub(super) fn new(config: &config::Stakes) -> Self {
        let assets = |names: &[String]| names.iter().map(|name| Asset::new(name)).collect();
        Self {
            more: assets(&config.more),
            less: assets(&config.less),
        }
    }

    /// How bad `event` of `process` is, if its evidence alone makes it `severity`.
    pub(super) fn weigh(&self, severity: Severity, event: &Event, process: &Process) -> Weight {
        fn first<'a>(assets: &'a [Asset], event: &Event, process: &Process) -> Option<&'a Asset> {
            assets.iter().find(|asset| asset.is_in(event, process))
        }
        let (severity, asset) = match first(&self.more, event, process) {
            Some(asset) => (severity.worse(), Some(asset)),
            None => match first(&self.less, event, process) {
                Some(asset) => (severity.milder(), Some(asset)),
                None => (severity, None),
            },
        };
        Weight {
            severity,
            at_stake: asset.map(|asset| Arc::clone(&asset.name)),
        }
    }
}

impl Asset {
    fn new(name: &str) -> Self {
        let user = name.strip_prefix("user:").and_then(|uid| uid.parse().ok());
        let is = match user {
            Some(uid) => Kind::User(uid),
            None if name.starts_with('/') => Kind::Path(Pattern::new(name)),
            None => Kind::Workload(Pattern::new(name)),
        };
        Self {
            name: name.into(),
            is,
        }
    }

    fn is_in(&self, event: &Event, process: &Process) -> bool {
        match &self.is {
            Kind::Workload(pattern) => pattern.is(process.workload.name.as_bytes()),
            Kind::User(uid) => {
                let credentials = &process.credentials;
                credentials.login_uid.unwrap_or(credentials.uid) == *uid
            }
            Kind::Path(pattern) => {
                let touched = match &event.body {
                    Body::Operation(operation) => [&operation.path[..], &operation.target],
                    _ => [&[][..], &[]],
                };
                pattern.covers(&process.image.executable)
                    || touched
                        .iter()
                        .any(|path| !path.is_empty() && pattern.covers(path))
            }
        }
    }
}

#[cfg(test)]
mod tests;
