//! Who belongs to a process tree that is to have no network, and which sockets it has.
//!
//! The kernel programs add whoever a member forks, and give members no new sockets. What was there before is found here: the programs are at
//! work by then, so that looking until nothing new is found misses nobody. A socket that was not accepted yet, or is handed over by somebody
//! else, is found at the next look. A member is known by its id: the kernel programs forget that at its end, and whenever it is given to somebody else.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use rustix::{
    fd::{AsFd as _, RawFd},
    net::{Shutdown, shutdown, sockopt::socket_cookie},
    process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open},
};

use super::{EnforceError, maps::Maps};
use crate::host::{
    ProcessId,
    proc::{ProcDir, process_ids},
};

/// Most descriptors of a process that are looked at: as many as Linux lets one have, unless `fs.nr_open` was raised.
const DESCRIPTORS_MAX: usize = 1 << 20;
/// Most rounds of looking for who was forked meanwhile. Each finds a generation that was not there before the programs were.
const ROUNDS_MAX: usize = 16;

/// Refuses trees that hold process 1 or this one, and those whose top is gone.
pub(super) fn check(top: ProcessId) -> Result<(), EnforceError> {
    if ProcDir::open_same(top).is_none() {
        return Err(EnforceError::Gone(top.tgid));
    }
    if top.tgid == 1 || descendants(top.tgid).contains(&std::process::id()) {
        return Err(EnforceError::Own);
    }
    Ok(())
}

/// Adds all members there are, and all sockets that they have.
pub(super) fn gather(maps: &mut Maps, top: ProcessId) -> Result<(), EnforceError> {
    let mut members = maps.members(top);
    if ProcDir::open_same(top).is_some() {
        for _ in 0..ROUNDS_MAX {
            let found = descendants(top.tgid);
            let new: Vec<u32> = found.difference(&members).copied().collect();
            if new.is_empty() {
                break;
            }
            for tgid in &new {
                maps.add_member(*tgid, top)?;
            }
            members.extend(new);
        }
    }
    for tgid in &members {
        cut(*tgid, |cookie| maps.add_socket(cookie, top))?;
    }
    Ok(())
}

/// A process and all that descend from it.
fn descendants(top: u32) -> BTreeSet<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for tgid in process_ids(Path::new("/proc")) {
        if let Some(stat) = ProcDir::open(tgid).ok().and_then(|process| process.stat()) {
            children.entry(stat.parent).or_default().push(tgid);
        }
    }
    let mut found = BTreeSet::from([top]);
    let mut next = vec![top];
    while let Some(parent) = next.pop() {
        let new = children.remove(&parent).unwrap_or_default();
        next.extend(new.iter().filter(|tgid| found.insert(**tgid)));
    }
    found
}

/// Has the sockets that a process has open `noted`, by their cookies. For which there is no room, those are shut down: whoever opens as many as can be
/// noted keeps none. What cannot be looked at is closed already, or no socket.
fn cut(tgid: u32, mut noted: impl FnMut(u64) -> Result<(), EnforceError>) -> Result<(), EnforceError> {
    let Some(pid) = i32::try_from(tgid).ok().and_then(Pid::from_raw) else {
        return Ok(());
    };
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
        return Ok(());
    };
    let entries = std::fs::read_dir(format!("/proc/{tgid}/fd"));
    let entries = entries.into_iter().flatten().flatten().take(DESCRIPTORS_MAX);
    let sockets = entries
        .filter(|entry| {
            std::fs::read_link(entry.path())
                .is_ok_and(|target| target.to_string_lossy().starts_with("socket:["))
        })
        .filter_map(|entry| {
            let number: RawFd = entry.file_name().to_str()?.parse().ok()?;
            let socket = pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).ok()?;
            Some((socket_cookie(socket.as_fd()).ok()?, socket))
        });
    for (cookie, socket) in sockets {
        match noted(cookie) {
            // One that is not connected has nothing to be shut down.
            Err(EnforceError::Full { .. }) => _ = shutdown(&socket, Shutdown::Both),
            noted => noted?,
        }
    }
    Ok(())
}
