//! What may be asked of a host.

use std::fmt;

use sensor_proto::v1::{self, command::What, respond_request::Wish};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{export::kind_meant, respond::ActionKind};

/// Something that may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// To decide about what waits: approve, deny.
    Approve,
    /// To take back what was done.
    Undo,
    /// To see how the agent is and what runs.
    Status,
    /// To read the configuration again.
    Reload,
    /// To replace the rules that come from the collector.
    Rules,
    /// To have this done.
    Action(ActionKind),
}

impl Permission {
    /// What a host allows where nobody says otherwise: what a person on it has prepared, and to look.
    pub const USUAL: [Self; 3] = [Self::Approve, Self::Status, Self::Action(ActionKind::Collect)];

    /// What a command needs; `None` if this agent does not know the command.
    #[must_use]
    pub fn needed(what: &What) -> Option<Self> {
        Some(match what {
            What::Approve(_) | What::Deny(_) => Self::Approve,
            What::Undo(_) => Self::Undo,
            What::Order(order) => Self::Action(kind_meant(order.kind())?),
            What::Reload(_) => Self::Reload,
            What::Rules(_) => Self::Rules,
            What::Snapshot(_) => Self::Status,
        })
    }

    /// As configuration has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Undo => "undo",
            Self::Status => "status",
            Self::Reload => "reload",
            Self::Rules => "rules",
            Self::Action(kind) => kind.name(),
        }
    }

    fn all() -> impl Iterator<Item = Self> {
        let plain = [Self::Approve, Self::Undo, Self::Status, Self::Reload, Self::Rules];
        plain.into_iter().chain(ActionKind::ALL.map(Self::Action))
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Permission {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Permission {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::all()
            .find(|permission| permission.name() == name)
            .ok_or_else(|| {
                let all = Self::all().map(Self::name).collect::<Vec<_>>().join(", ");
                D::Error::custom(format!(
                    "nothing that may be asked is called {name:?}; there are {all}"
                ))
            })
    }
}

/// What a command wishes of the response, if it does.
pub(super) fn wish(what: &What) -> Option<Wish> {
    Some(match what {
        What::Approve(number) => Wish::Approve(*number),
        What::Deny(number) => Wish::Deny(*number),
        What::Undo(number) => Wish::Undo(*number),
        // How much of a process's memory leaves the host is not for a collector to say.
        What::Order(order) => Wish::Order(v1::Order {
            bundle: None,
            ..order.clone()
        }),
        What::Reload(_) | What::Rules(_) | What::Snapshot(_) => return None,
    })
}

/// Whether an order makes a bundle.
pub(super) fn collects(what: &What) -> bool {
    matches!(what, What::Order(order) if order.kind() == v1::ActionKind::Collect && !order.dry_run)
}
