//! Roles and names, and how they stand in a certificate.

use std::{fmt, str::FromStr};

/// Longest name in bytes, as DNS has it for hosts.
pub const NAME_MAX: usize = 253;

/// What a URI begins with that says who somebody is.
const SCHEME: &str = "sensor://";

/// As what somebody comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// A host that delivers, and does what it allows others to ask of it.
    Agent,
    /// Reads.
    Viewer,
    /// Reads, and has things done on hosts.
    Responder,
    /// All that, and says who may come.
    Admin,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Agent, Self::Viewer, Self::Responder, Self::Admin];

    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Viewer => "viewer",
            Self::Responder => "responder",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a text names nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// No such role.
    #[error("no role is called {0:?}; there are agent, viewer, responder and admin")]
    Role(String),
    /// Not a name.
    #[error(
        "{0:?} is not a name: it has 1 to {NAME_MAX} letters, digits, dots, hyphens, underscores and at signs, and begins with a letter or a digit"
    )]
    Name(String),
    /// Not a URI of ours.
    #[error("it does not begin with {SCHEME}")]
    Scheme,
}

impl FromStr for Role {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let role = Self::ALL.into_iter().find(|role| role.name() == text);
        role.ok_or_else(|| IdentityError::Role(shortened(text)))
    }
}

/// A name of a host, a person or a program: 1 to 253 letters, digits and `.-_@` in ASCII, a letter or a digit first. It can stand in
/// a URI, a path, a log and on a terminal as it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<str>);

impl Name {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_@".contains(&byte);
        let begins = text
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphanumeric());
        if begins && text.len() <= NAME_MAX && text.bytes().all(allowed) {
            return Ok(Self(text.into()));
        }
        Err(IdentityError::Name(shortened(text)))
    }
}

/// Somebody, as their certificate says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// As what they come.
    pub role: Role,
    /// What they are called; unique within the role.
    pub name: Name,
}

impl Identity {
    /// The URI that stands in a certificate.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("{SCHEME}{}/{}", self.role, self.name)
    }

    /// Reads such a URI.
    ///
    /// # Errors
    /// If it is none.
    pub fn from_uri(uri: &str) -> Result<Self, IdentityError> {
        let path = uri.strip_prefix(SCHEME).ok_or(IdentityError::Scheme)?;
        let (role, name) = path.split_once('/').unwrap_or((path, ""));
        Ok(Self {
            role: role.parse()?,
            name: name.parse()?,
        })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.role, self.name)
    }
}

/// Enough of somebody's text to know it again.
fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names() {
        for good in [
            "web1",
            "a",
            "web-1.example.org",
            "alice@example.org",
            "7",
            &"x".repeat(253),
        ] {
            assert_eq!(
                good.parse::<Name>().map(|name| name.to_string()),
                Ok(good.to_owned())
            );
        }
        for bad in ["", ".", "-x", "a b", "a/b", "a\n", "ä", &"x".repeat(254)] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = |uri: &str| Identity::from_uri(uri).unwrap_err().to_string();
        insta::assert_snapshot!(error("spiffe://agent/web1"), @"it does not begin with sensor://");
        insta::assert_snapshot!(error("sensor://root/web1"), @r#"no role is called "root"; there are agent, viewer, responder and admin"#);
        insta::assert_snapshot!(error("sensor://agent/"), @r#""" is not a name: it has 1 to 253 letters, digits, dots, hyphens, underscores and at signs, and begins with a letter or a digit"#);
        assert!(Identity::from_uri("sensor://agent/a/b").is_err());
    }

    proptest! {
        #[test]
        fn a_uri_is_read_as_it_was_written(role in 0..4_usize, name in "[a-z0-9][a-zA-Z0-9._@-]{0,252}") {
            let identity = Identity { role: Role::ALL[role], name: name.parse().unwrap() };
            prop_assert_eq!(Identity::from_uri(&identity.uri()), Ok(identity));
        }

        #[test]
        fn any_text_is_read_or_refused(text: String) {
            let _ = Identity::from_uri(&text);
        }
    }
}
