//! Errors that the user can do something about: exit status 2, and the text says what.

/// What is missing and how to get it.
#[derive(Debug)]
pub(crate) struct Remedy(pub(crate) String);

impl std::fmt::Display for Remedy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Remedy {}

impl Remedy {
    /// An error with exit status 2.
    pub(crate) fn error(text: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Self(text.into()))
    }
}

/// Whether this process may load kernel programs and install packages.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
