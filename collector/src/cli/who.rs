//! Whom a command is about.

/// A host, or a person or program with a role.
#[derive(Clone, Debug, clap::Args)]
pub struct Who {
    /// Name of the host, as its agent calls it.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["role", "name"])]
    host: Option<String>,
    /// Of a person or a program: viewer, responder or admin.
    #[arg(long, value_name = "ROLE", requires = "name")]
    role: Option<String>,
    /// What they are called.
    #[arg(long, value_name = "NAME", requires = "role")]
    name: Option<String>,
}

impl Who {
    /// Role and name; `None` where nobody is named.
    pub(super) fn named(self) -> Option<(String, String)> {
        match (self.host, self.role, self.name) {
            (Some(host), ..) => Some(("agent".to_owned(), host)),
            (None, Some(role), Some(name)) => Some((role, name)),
            _ => None,
        }
    }
}
