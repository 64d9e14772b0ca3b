//! Numbers of benchmarks, in one file as JSON: each adds to what the others found.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value};

/// What was found so far.
#[derive(Debug, Default)]
pub struct Numbers(Map<String, Value>);

impl Numbers {
    /// What is in the file; nothing where there is none that can be read.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_default();
        Self(serde_json::from_str(&text).unwrap_or_default())
    }

    /// Adds a number, or replaces it.
    pub fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// Writes all of them.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(&self.0)?;
        fs::write(path, text + "\n").with_context(|| format!("could not write {}", path.display()))
    }
}
