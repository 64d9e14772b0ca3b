//! What a policy may ask for.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, SeqAccess, Visitor},
};

use super::ActionKind;

/// Actions, to be taken in this order. In configuration one is its name, several are a list of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actions(Vec<ActionKind>);

impl Actions {
    /// The one.
    #[must_use]
    pub fn one(kind: ActionKind) -> Self {
        Self(vec![kind])
    }

    /// Each, in order.
    pub fn iter(&self) -> impl Iterator<Item = ActionKind> + '_ {
        self.0.iter().copied()
    }
}

impl Serialize for Actions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => one.serialize(serializer),
            several => several.serialize(serializer),
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
    type Value = Vec<ActionKind>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of an action, or a list of such names")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        named(name).map(|kind| vec![kind])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Self::Value, A::Error> {
        let mut kinds = Vec::new();
        while let Some(name) = names.next_element::<String>()? {
            let kind = named(&name)?;
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        if kinds.is_empty() {
            return Err(A::Error::custom(
                "at least one action must be named; to have nothing done, set mode = \"observe\"",
            ));
        }
        Ok(kinds)
    }
}

/// Whatever is not the undoing of another: that is for a person.
fn named<E: Error>(name: &str) -> Result<ActionKind, E> {
    let mut all = ActionKind::ALL.into_iter().filter(|kind| !kind.is_undoing());
    all.clone().find(|kind| kind.name() == name).ok_or_else(|| {
        let names: Vec<_> = all.by_ref().map(ActionKind::name).collect();
        E::custom(format!(
            "{name:?} is no action that a policy may ask for; there are {}",
            names.join(", ")
        ))
    })
}

#[cfg(test)]
mod tests;
