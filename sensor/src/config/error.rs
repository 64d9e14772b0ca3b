//! What is wrong with a configuration, and where.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the configuration {}: {cause}; name another with --config", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// A value, a key or the form is not allowed.
    #[error("{}:{line}: {key}{message}", path.display())]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// Which key, as `[section] key: `; empty where the trouble is with the form.
        key: String,
        /// What is wrong, and what is allowed.
        message: String,
    },
}

impl ConfigError {
    pub(super) fn from_toml(error: &toml::de::Error, text: &str, path: &Path) -> Self {
        let offset = error.span().map_or(0, |span| span.start).min(text.len());
        let line = text.as_bytes()[..offset]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        Self::at(line, error.message().to_owned(), text, path)
    }

    pub(super) fn in_key(section: &str, key: &str, message: String, text: &str, path: &Path) -> Self {
        let wanted = format!("[{section}] {key}: ");
        let lines = text.lines().count();
        let line = (0..lines).find(|line| key_at(*line, text) == wanted);
        // Not in the file: the default of one contradicts the other, which is. The section is the place to look.
        let line = line.or_else(|| {
            text.lines()
                .position(|line| line.trim() == format!("[{section}]"))
        });
        Self::Invalid {
            path: path.to_owned(),
            line: line.unwrap_or(0) + 1,
            key: wanted,
            message,
        }
    }

    fn at(line: usize, message: String, text: &str, path: &Path) -> Self {
        Self::Invalid {
            path: path.to_owned(),
            line: line + 1,
            key: key_at(line, text),
            message,
        }
    }
}

/// `[section] key: ` for the line (from 0), as far as it has them.
fn key_at(line: usize, text: &str) -> String {
    let section = text
        .lines()
        .take(line + 1)
        .filter(|line| line.trim_start().starts_with('['))
        .last();
    let key = text
        .lines()
        .nth(line)
        .and_then(|line| line.split_once('='))
        .map(|(key, _)| key.trim());
    match (section, key) {
        (Some(section), Some(key)) => format!("{} {key}: ", section.trim()),
        (None, Some(key)) => format!("{key}: "),
        (_, None) => String::new(),
    }
}
