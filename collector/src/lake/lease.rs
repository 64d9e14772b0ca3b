//! Who reads which state of the lake. A file that is not listed any more is removed when whoever may have seen it listed is done.
//!
//! Take a lease *before* looking at the list; give it back when the last file was read.

use std::{
    collections::{BTreeMap, VecDeque},
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// All leases of a lake. Cloning gives another handle to the same.
#[derive(Clone, Debug, Default)]
pub struct Leases(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// Leases that are out. As many as there are readers.
    out: BTreeMap<u64, ()>,
    /// Files that are not listed any more, with the number that the next lease had then.
    doomed: VecDeque<(u64, PathBuf)>,
}

/// While this lives, no file that was listed when it was taken is removed.
#[derive(Debug)]
pub struct Lease {
    leases: Leases,
    number: u64,
}

impl Leases {
    /// Takes a lease.
    #[must_use]
    pub fn take(&self) -> Lease {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.out.insert(number, ());
        Lease {
            leases: self.clone(),
            number,
        }
    }

    /// Removes files that are not listed any more, now or when nobody reads them.
    pub fn remove(&self, files: impl IntoIterator<Item = PathBuf>) {
        let mut state = self.lock();
        let stamp = state.next;
        state.doomed.extend(files.into_iter().map(|file| (stamp, file)));
        sweep(&mut state);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.leases.lock();
        state.out.remove(&self.number);
        sweep(&mut state);
    }
}

fn sweep(state: &mut State) {
    let oldest = state.out.keys().next().copied().unwrap_or(u64::MAX);
    while let Some((stamp, _)) = state.doomed.front()
        && *stamp <= oldest
        && let Some((_, path)) = state.doomed.pop_front()
    {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(
                    "cannot remove {}: {error}; it is removed at the next start",
                    path.display()
                );
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_stays_while_somebody_may_read_it() {
        let home = tempfile::tempdir().expect("a directory");
        let file = home.path().join("file");
        fs::write(&file, b"").expect("writes");
        let leases = Leases::default();
        let (early, other) = (leases.take(), leases.take());
        leases.remove([file.clone()]);
        let late = leases.take();
        drop(early);
        assert!(file.exists(), "the other lease is as old as the file");
        drop(other);
        assert!(!file.exists(), "the late one never saw it");
        drop(late);
    }
}
