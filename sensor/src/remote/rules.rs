//! Rules that come from the collector: a directory of their own in the directory for state, which is read beside what the configuration
//! names.
//!
//! A set is checked before it is anywhere, put in the place of the former as a whole, and taken back if the agent does not put it into
//! force. Bounds: [`FILES_MAX`] files, [`BYTES_MAX`] of all.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use sensor_proto::v1::RuleFiles;

use crate::rules::{RuleSet, Source};

/// Its name.
pub const DIRECTORY: &str = "collector-rules";

/// Most files.
const FILES_MAX: usize = 2_000;

/// Most bytes of all.
const BYTES_MAX: usize = 4 << 20;

/// Mistakes that are told.
const TOLD: usize = 5;

/// Why a set is not used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each says itself what happened")]
pub enum RulesError {
    #[error("{files} files of {bytes} bytes are more than {FILES_MAX} or {BYTES_MAX}; those in use stay")]
    Much { files: usize, bytes: usize },
    #[error(
        "{0:?} is no name of a file of rules: letters, digits, dots, hyphens and underscores, ending in .yml; those in use stay"
    )]
    Name(String),
    #[error("{0:?} is there twice; those in use stay")]
    Twice(String),
    #[error("{0}; those in use stay")]
    Faults(String),
    #[error("they cannot be kept: {0}; those in use stay")]
    Keep(#[from] io::Error),
}

/// A set in the place of the former, which can be taken back.
#[derive(Debug)]
pub(super) struct Placed {
    place: PathBuf,
    former: PathBuf,
}

/// Puts these in the place of the former, as a whole or not at all; then they are to be put into force, or [taken back](Placed::take_back).
///
/// # Errors
/// If they have a mistake, or cannot be kept.
pub(super) fn put(state: &Path, files: &RuleFiles) -> Result<Placed, RulesError> {
    check(files)?;
    let place = state.join(DIRECTORY);
    let (new, former) = (
        state.join("collector-rules.new"),
        state.join("collector-rules.former"),
    );
    write(files, &new)?;
    remove(&former)?;
    if place.exists() {
        fs::rename(&place, &former)?;
    }
    fs::rename(&new, &place)?;
    Ok(Placed { place, former })
}

impl Placed {
    /// The agent did not put them into force.
    pub(super) fn take_back(self) {
        let back = remove(&self.place).and_then(|()| match self.former.exists() {
            true => fs::rename(&self.former, &self.place),
            false => Ok(()),
        });
        if let Err(error) = back {
            tracing::error!("the former rules of the collector cannot be put back: {error}");
        }
    }
}

/// What is wrong with a set, before it is anywhere.
fn check(files: &RuleFiles) -> Result<(), RulesError> {
    let bytes = files.files.iter().map(|file| file.text.len()).sum();
    let count = files.files.len();
    if count > FILES_MAX || bytes > BYTES_MAX {
        return Err(RulesError::Much { files: count, bytes });
    }
    let mut names = std::collections::HashSet::new();
    for file in &files.files {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        let name = &file.name;
        if name.len() > 128
            || name.starts_with('.')
            || !name.ends_with(".yml")
            || name.ends_with(".test.yml")
            || !name.bytes().all(allowed)
        {
            return Err(RulesError::Name(name.chars().take(128).collect()));
        }
        if !names.insert(name) {
            return Err(RulesError::Twice(name.clone()));
        }
    }
    let source = |file: &sensor_proto::v1::RuleFile| Source {
        file: file.name.as_str().into(),
        text: file.text.clone(),
    };
    let set = RuleSet::build(&files.files.iter().map(source).collect::<Vec<_>>(), &[]);
    let faults: Vec<_> = set.errors().take(TOLD).map(ToString::to_string).collect();
    if faults.is_empty() {
        Ok(())
    } else {
        Err(RulesError::Faults(faults.join("; ")))
    }
}

fn write(files: &RuleFiles, place: &Path) -> io::Result<()> {
    remove(place)?;
    DirBuilder::new().recursive(true).mode(0o700).create(place)?;
    for file in &files.files {
        crate::state::write(&place.join(&file.name), file.text.as_bytes())?;
    }
    Ok(())
}

fn remove(place: &Path) -> io::Result<()> {
    match fs::remove_dir_all(place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use sensor_proto::v1::RuleFile;

    use super::*;

    const RULE: &str = "title: A shell\nid: 5f0f4c3a-0000-4000-8000-000000000001\nlogsource:\n    product: linux\n    category: process_creation\ndetection:\n    selection:\n        Image: /bin/sh\n    condition: selection\nlevel: low\n";

    fn files(named: &[(&str, &str)]) -> RuleFiles {
        let file = |(name, text): &(&str, &str)| RuleFile {
            name: (*name).into(),
            text: (*text).into(),
        };
        RuleFiles {
            files: named.iter().map(file).collect(),
        }
    }

    fn there(state: &Path) -> Vec<String> {
        let entries = fs::read_dir(state.join(DIRECTORY)).into_iter().flatten();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_set_is_used_as_a_whole_or_not_at_all() {
        let home = tempfile::tempdir().unwrap();
        put(home.path(), &files(&[("a.yml", RULE)])).unwrap();
        assert_eq!(there(home.path()), ["a.yml"]);

        let two = files(&[("b.yml", RULE), ("c.yml", "title: half")]);
        let error = put(home.path(), &two).unwrap_err().to_string();
        assert!(
            error.contains("c.yml") && error.ends_with("those in use stay"),
            "{error}"
        );
        assert_eq!(there(home.path()), ["a.yml"]);

        put(home.path(), &files(&[("b.yml", RULE)])).unwrap().take_back();
        assert_eq!(there(home.path()), ["a.yml"]);

        put(home.path(), &files(&[])).unwrap();
        assert!(there(home.path()).is_empty());
    }

    #[test]
    fn names_stay_in_their_directory() {
        for name in ["../a.yml", "a/b.yml", ".a.yml", "a.test.yml", "a", ""] {
            assert!(
                matches!(check(&files(&[(name, RULE)])), Err(RulesError::Name(_))),
                "{name}"
            );
        }
        assert!(matches!(
            check(&files(&[("a.yml", RULE), ("a.yml", RULE)])),
            Err(RulesError::Twice(_))
        ));
    }
}
