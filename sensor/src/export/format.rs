//! Entries in the words of others: our own JSON, OCSF, ECS. What is written here has been through the policy of
//! [`privacy`](crate::privacy).

mod ecs;
mod ocsf;
mod parts;

pub(super) use parts::{level, time};

use sensor_proto::v1;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cli::json::to_json;

/// In whose words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Our own: the messages of `proto/sensor/v1` as JSON, as `sensor events --output json` prints them.
    #[default]
    Json,
    /// The Open Cybersecurity Schema Framework, 1.8.
    Ocsf,
    /// The Elastic Common Schema, 8.
    Ecs,
}

impl Format {
    /// What configurations and the status call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Ocsf => "ocsf",
            Self::Ecs => "ecs",
        }
    }

    /// `entry` as one line of JSON, without a line feed. Empty only by a defect of the build.
    #[must_use]
    pub fn line(self, entry: &v1::Entry) -> String {
        match self {
            Self::Json => to_json(entry, "sensor.v1.Entry").unwrap_or_default(),
            Self::Ocsf => ocsf::encode(entry).to_string(),
            Self::Ecs => ecs::encode(entry).to_string(),
        }
    }
}

/// Takes away what says nothing: nulls, empty texts, lists and objects.
fn without_empty(value: Value) -> Value {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    };
    match value {
        Value::Object(map) => {
            let fields = map.into_iter().map(|(name, value)| (name, without_empty(value)));
            Value::Object(fields.filter(|(_, value)| !is_empty(value)).collect())
        }
        Value::Array(list) => {
            let items = list.into_iter().map(without_empty);
            Value::Array(items.filter(|value| !is_empty(value)).collect())
        }
        value => value,
    }
}

#[cfg(test)]
mod tests;
