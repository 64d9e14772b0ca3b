//! Names of users, from a plain reading of `/etc/passwd`: the agent may be linked statically, where libc's
//! own lookup does not work.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

/// Most of the file that is read, in bytes; users behind it stay nameless.
const BYTES_MAX: u64 = 4 << 20;

/// How long a look at the file's modification time is good for.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// User names by id, read again when the file changes.
#[derive(Debug)]
pub struct Users {
    path: PathBuf,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    names: HashMap<u32, Box<str>>,
    modified: Option<SystemTime>,
    looked: Option<Instant>,
}

impl Default for Users {
    fn default() -> Self {
        Self::new("/etc/passwd")
    }
}

impl Users {
    /// Users as `path`, in the format of `passwd(5)`, names them. It need not exist.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            table: Mutex::default(),
        }
    }

    /// Name of the user with this id; empty where there is none.
    #[must_use]
    pub fn name(&self, uid: u32) -> String {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if table.looked.is_none_or(|looked| looked.elapsed() >= LOOK_AGAIN) {
            table.looked = Some(Instant::now());
            // Without the file, what was read before still holds.
            let _ = self.refresh(&mut table);
        }
        table
            .names
            .get(&uid)
            .map(|name| name.to_string())
            .unwrap_or_default()
    }

    fn refresh(&self, table: &mut Table) -> io::Result<()> {
        let file = File::open(&self.path)?;
        let modified = Some(file.metadata()?.modified()?);
        if modified != table.modified {
            let mut bytes = Vec::new();
            file.take(BYTES_MAX).read_to_end(&mut bytes)?;
            table.names = parse(&bytes);
            table.modified = modified;
        }
        Ok(())
    }
}

/// The first name of each id, as `getpwuid` gives it. Lines that make no sense are skipped.
fn parse(bytes: &[u8]) -> HashMap<u32, Box<str>> {
    let mut names = HashMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Ok(line) = std::str::from_utf8(line) else {
            continue;
        };
        let mut fields = line.split(':');
        if let (Some(name), Some(_), Some(uid)) = (fields.next(), fields.next(), fields.next())
            && let Ok(uid) = uid.parse()
            && !name.is_empty()
        {
            names.entry(uid).or_insert_with(|| name.into());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_make_sense_are_read() {
        let names = parse(
            b"root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0\n\n:x:5:5\nbad\nworse:x:-1:0\n\xff:x:7:7\nwww:x:33:",
        );
        assert_eq!(names.len(), 2);
        assert_eq!((&*names[&0], &*names[&33]), ("root", "www"));
    }

    #[test]
    fn a_missing_file_names_nobody() {
        assert_eq!(Users::new("/nonexistent/passwd").name(0), "");
    }

    #[test]
    fn a_changed_file_is_read_again() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("passwd");
        std::fs::write(&path, "old:x:7:7").expect("writes");
        let users = Users::new(&path);
        assert_eq!(users.name(7), "old");
        std::fs::write(&path, "new:x:7:7").expect("writes");
        let file = File::options().write(true).open(&path).expect("opens");
        file.set_modified(SystemTime::now() + Duration::from_secs(9))
            .expect("sets");
        let mut table = users.table.lock().expect("is whole");
        users.refresh(&mut table).expect("reads");
        assert_eq!(&*table.names[&7], "new");
    }
}
