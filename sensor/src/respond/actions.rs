//! What a policy may ask for.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, SeqAccess, Visitor},
};

use super::ActionKind;

/// One thing that a policy may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// This, of what it is for: the process, its executable, whoever logged in to start it, the host.
    Action(ActionKind),
    /// To block where it connects to.
    BlockDestination,
}

impl Wanted {
    /// What it comes to.
    #[must_use]
    pub fn kind(self) -> ActionKind {
        match self {
            Self::Action(kind) => kind,
            Self::BlockDestination => ActionKind::Block,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Action(kind) => kind.name(),
            Self::BlockDestination => "block_destination",
        }
    }

    /// All but the undoing of another: that is for a person.
    fn all() -> impl Iterator<Item = Self> {
        let actions = ActionKind::ALL.into_iter().filter(|kind| !kind.is_undoing());
        actions.map(Self::Action).chain([Self::BlockDestination])
    }
}

/// Actions, to be taken in this order. In configuration one is its name, several are a list of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actions(Vec<Wanted>);

impl Actions {
    /// The one.
    #[must_use]
    pub fn one(kind: ActionKind) -> Self {
        Self(vec![Wanted::Action(kind)])
    }

    /// Each, in order.
    pub fn iter(&self) -> impl Iterator<Item = Wanted> + '_ {
        self.0.iter().copied()
    }
}

impl Serialize for Actions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => serializer.serialize_str(one.name()),
            several => serializer.collect_seq(several.iter().map(|wanted| wanted.name())),
        }
    }
}

impl<'de> Deserialize<'de> for Actions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Names).map(Self)
    }
}

struct Names;

impl<'de> Visitor<'de> for Names {
    type Value = Vec<Wanted>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of an action, or a list of such names")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        named(name).map(|wanted| vec![wanted])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(name) = names.next_element::<String>()? {
            let wanted = named(&name)?;
            if !all.contains(&wanted) {
                all.push(wanted);
            }
        }
        if all.is_empty() {
            return Err(A::Error::custom(
                "at least one action must be named; to have nothing done, set mode = \"observe\"",
            ));
        }
        Ok(all)
    }
}

fn named<E: Error>(name: &str) -> Result<Wanted, E> {
    Wanted::all().find(|wanted| wanted.name() == name).ok_or_else(|| {
        let names: Vec<_> = Wanted::all().map(Wanted::name).collect();
        E::custom(format!(
            "{name:?} is no action that a policy may ask for; there are {}",
            names.join(", ")
        ))
    })
}

#[cfg(test)]
mod tests;
