//! Has open connections reported: a thread of its own runs the kernel's iterator over TCP sockets in every network namespace that a
//! process is in.
//!
//! The kernel program decides which are due. A walk takes some milliseconds where there are many sockets, and looks at each bucket of
//! the kernel's table where there are few: four times in the interval, but not more often than once a second nor less than once
//! a minute.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Read as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    sync::mpsc::{self, RecvTimeoutError},
    thread::JoinHandle,
    time::Duration,
};

use super::syscall;

/// Network namespaces that are walked through; those of further ones are not reported before they close.
const NAMESPACES: usize = 1_024;

/// The thread. It ends with this.
pub(super) struct Reports {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Reports {
    /// Has the connections that are older than `interval` reported by `program`, again and again.
    pub(super) fn start(program: &OwnedFd, interval: Duration) -> io::Result<Self> {
        let link = syscall::iterator_link(program.as_raw_fd())?;
        let period = (interval / 4).clamp(Duration::from_secs(1), Duration::from_secs(60));
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("reports".to_owned())
            .spawn(move || {
                while stopped.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
                    walk_all(&link);
                }
            })?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Reports {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that has connections reported has ended in a panic");
        }
    }
}

fn walk_all(link: &OwnedFd) {
    let mut walked = HashSet::new();
    let Ok(processes) = fs::read_dir("/proc") else {
        return;
    };
    for process in processes.flatten() {
        if !process.file_name().as_encoded_bytes()[0].is_ascii_digit() {
            continue;
        }
        let path = process.path().join("ns/net");
        // A process that has ended meanwhile has none.
        let Ok(namespace) = fs::metadata(&path) else {
            continue;
        };
        if walked.len() < NAMESPACES
            && walked.insert(namespace.ino())
            && let Err(error) = walk(link, &path)
        {
            tracing::debug!("connections in {} are not reported: {error}", path.display());
        }
    }
}

fn walk(link: &OwnedFd, namespace: &std::path::Path) -> io::Result<()> {
    let namespace = File::open(namespace)?;
    // SAFETY: a descriptor of a live file. This thread does nothing else, and the others keep their namespace.
    if unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut sockets = File::from(syscall::iterator(link.as_raw_fd())?);
    while sockets.read(&mut [0; 64])? != 0 {}
    Ok(())
}
