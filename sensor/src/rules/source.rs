//! Finds the files of rules and reads them.
//!
//! Bounds: [`DEPTH`] directories deep, [`FILES`] files, [`BYTES`] of each; what is beyond is a [`Fault`], never silently left out.

use std::{collections::HashSet, fs, io::Read as _, os::unix::fs::MetadataExt as _, path::Path, sync::Arc};

use super::{Fault, Place};

/// How deep directories are looked into.
const DEPTH: usize = 8;

/// Files that are read, at most.
const FILES: usize = 20_000;

/// Bytes of a file, at most.
pub const BYTES: u64 = 1 << 20;

/// Text of rules, and where it is from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// Which file.
    pub file: Arc<str>,
    /// What it says.
    pub text: String,
}

/// Reads the files and, in the order of their names, what lies in the directories: `*.yml` and `*.yaml`, but not `*.test.yml`, which is for tests.
#[must_use]
pub fn read<P: AsRef<Path>>(paths: &[P]) -> (Vec<Source>, Vec<Fault>) {
    let mut found = Found::default();
    for path in paths {
        found.take(path.as_ref(), 0, true);
    }
    (found.sources, found.faults)
}

#[derive(Default)]
struct Found {
    sources: Vec<Source>,
    faults: Vec<Fault>,
    /// Device and inode of all that was looked at: symbolic links are followed, and may lead around in a circle.
    seen: HashSet<(u64, u64)>,
    is_full: bool,
}

impl Found {
    fn take(&mut self, path: &Path, depth: usize, was_named: bool) {
        match fs::metadata(path) {
            Ok(metadata) if !self.seen.insert((metadata.dev(), metadata.ino())) => {}
            Ok(metadata) if metadata.is_dir() => self.walk(path, depth),
            Ok(metadata) if metadata.is_file() && (was_named || is_rules(path)) => self.load(path),
            Ok(_) if was_named => self.fault(
                path,
                "it is neither a file nor a directory",
                "name a file of rules",
            ),
            Ok(_) => {}
            Err(error) if was_named || is_rules(path) => {
                self.fault(
                    path,
                    &format!("it cannot be read: {error}"),
                    "correct the path, or who may read it",
                );
            }
            Err(_) => {}
        }
    }

    fn walk(&mut self, path: &Path, depth: usize) {
        if depth == DEPTH {
            let message = format!("it is more than {DEPTH} directories deep");
            return self.fault(path, &message, "name it by itself among the paths");
        }
        let entries = fs::read_dir(path).and_then(|entries| {
            let paths: Result<Vec<_>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
            paths
        });
        match entries {
            Ok(mut entries) => {
                entries.sort();
                for entry in entries {
                    self.take(&entry, depth + 1, false);
                }
            }
            Err(error) => self.fault(
                path,
                &format!("it cannot be read: {error}"),
                "correct who may read it",
            ),
        }
    }

    fn load(&mut self, path: &Path) {
        if self.sources.len() == FILES {
            if !self.is_full {
                self.is_full = true;
                let message = format!("this and all later files are left out: there are more than {FILES}");
                self.fault(path, &message, "name fewer directories");
            }
            return;
        }
        let mut bytes = Vec::new();
        let read = fs::File::open(path).and_then(|file| file.take(BYTES + 1).read_to_end(&mut bytes));
        if let Err(error) = read {
            return self.fault(
                path,
                &format!("it cannot be read: {error}"),
                "correct who may read it",
            );
        }
        if bytes.len() as u64 > BYTES {
            let message = format!("it is longer than {} KiB", BYTES >> 10);
            return self.fault(path, &message, "split it, one rule a file");
        }
        match String::from_utf8(bytes) {
            Ok(text) => self.sources.push(Source {
                file: path.display().to_string().into(),
                text,
            }),
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                let lines = error.as_bytes()[..valid].iter().filter(|byte| **byte == b'\n');
                let line = lines.count() + 1;
                self.fault_at(path, line, "it is not UTF-8", "save it as UTF-8");
            }
        }
    }

    fn fault(&mut self, path: &Path, message: &str, remedy: &str) {
        self.fault_at(path, 0, message, remedy);
    }

    fn fault_at(&mut self, path: &Path, line: usize, message: &str, remedy: &str) {
        self.faults.push(Fault {
            place: Place {
                file: path.display().to_string().into(),
                line,
            },
            message: message.to_owned(),
            remedy: remedy.to_owned(),
            harmless: false,
        });
    }
}

fn is_rules(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    (name.ends_with(".yml") || name.ends_with(".yaml")) && !is_test(&name) && !name.starts_with('.')
}

/// Whether a file of that name has test events, not rules.
pub(super) fn is_test(name: &str) -> bool {
    name.ends_with(".test.yml") || name.ends_with(".test.yaml")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_named_and_the_rest_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("below")).unwrap();
        fs::write(at("below/b.yaml"), "b").unwrap();
        fs::write(at("a.yml"), "a").unwrap();
        fs::write(at("a.test.yml"), "no rule").unwrap();
        fs::write(at("notes.txt"), "no rule").unwrap();
        fs::write(at("latin.yml"), b"title: x\nname: \xe9\n").unwrap();
        fs::write(at("long.yml"), vec![b'#'; BYTES as usize + 1]).unwrap();
        std::os::unix::fs::symlink(folder.path(), at("below/around")).unwrap();
        let (sources, faults) = read(&[folder.path(), &at("absent.yml")]);
        let texts: Vec<_> = sources.iter().map(|source| &*source.text).collect();
        assert_eq!(texts, ["a", "b"]);
        let said: Vec<_> = faults.iter().map(ToString::to_string).collect();
        let says = |text: &str| said.iter().any(|said| said.contains(text));
        assert!(says("latin.yml:2: error: it is not UTF-8"), "{said:#?}");
        assert!(says("long.yml: error: it is longer than 1024 KiB"), "{said:#?}");
        assert!(
            says("absent.yml: error: it cannot be read: No such file"),
            "{said:#?}"
        );
        let mut deep = folder.path().to_owned();
        (0..DEPTH).for_each(|_| deep.push("deep"));
        fs::create_dir_all(&deep).unwrap();
        let (_, faults) = read(&[folder.path()]);
        let too_deep = |fault: &Fault| fault.message.contains("more than 8 directories deep");
        assert!(faults.iter().any(too_deep), "{faults:#?}");
    }
}
