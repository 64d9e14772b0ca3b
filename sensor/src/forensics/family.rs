//! Where the process came from and what came from it: `family.jsonl`, ancestors first.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::Path,
};

use serde_json::{Value, json};

use super::{
    collect::Collection,
    process::{arguments, lines, lossy},
};
use crate::host::proc::{ProcDir, Stat, process_ids};

/// Most relatives of either kind.
const RELATIVES_MAX: usize = 1_024;

/// Most processes of the host that are looked at for relatives.
const PROCESSES_MAX: usize = 262_144;

/// Longest argument list of a relative.
const ARGUMENTS_MAX: u64 = 16 << 10;

/// Lists them. `pid` is the process itself.
pub(super) fn list(collection: &mut Collection, pid: u32) -> io::Result<()> {
    collection.step("family")?;
    let stats: HashMap<u32, Stat> = process_ids(Path::new("/proc"))
        .take(PROCESSES_MAX)
        .filter_map(|tgid| Some((tgid, ProcDir::open(tgid).ok()?.stat()?)))
        .collect();
    let ancestors = ancestors(pid, &stats);
    let descendants = descendants(pid, &stats);
    let described = ancestors
        .iter()
        .rev()
        .map(|tgid| describe(*tgid, "ancestor"))
        .chain([describe(pid, "self")])
        .chain(descendants.iter().map(|tgid| describe(*tgid, "descendant")));
    let cut = ancestors.len().max(descendants.len()) >= RELATIVES_MAX;
    let described = lines(described.flatten());
    let cut = cut.then(|| format!("the nearest {RELATIVES_MAX} ancestors and descendants"));
    collection.text("family.jsonl", Ok((described, cut)))
}

/// The nearest first.
fn ancestors(pid: u32, stats: &HashMap<u32, Stat>) -> Vec<u32> {
    let parent = |tgid: &u32| {
        stats
            .get(tgid)
            .map(|stat| stat.parent)
            .filter(|parent| *parent != 0)
    };
    std::iter::successors(parent(&pid), parent)
        .take(RELATIVES_MAX)
        .collect()
}

/// The nearest first.
fn descendants(pid: u32, stats: &HashMap<u32, Stat>) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for (tgid, stat) in stats {
        children.entry(stat.parent).or_default().push(*tgid);
    }
    let mut found = vec![pid];
    // Whoever is looked at while ids are reused could seem to be their own descendant.
    let mut seen = HashSet::from([pid]);
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        let mut new = children.remove(&parent).unwrap_or_default();
        new.sort_unstable();
        found.extend(new.into_iter().filter(|tgid| seen.insert(*tgid)));
        found.truncate(RELATIVES_MAX + 1);
        next += 1;
    }
    found.remove(0);
    found
}

fn describe(tgid: u32, relation: &str) -> Option<Value> {
    let process = ProcDir::open(tgid).ok()?;
    let stat = process.stat()?;
    let credentials = process.credentials();
    Some(json!({
        "relation": relation,
        "pid": tgid,
        "parent": stat.parent,
        "start_ns": stat.start.0,
        "state": char::from(stat.state).to_string(),
        "executable": lossy(&process.executable().0),
        "arguments": arguments(&process, ARGUMENTS_MAX),
        "uid": credentials.map(|credentials| credentials.uid),
        "euid": credentials.map(|credentials| credentials.euid),
        "login_uid": credentials.and_then(|credentials| credentials.login_uid),
        "session_id": credentials.and_then(|credentials| credentials.session_id),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::BootTime;

    #[test]
    fn up_and_down_and_never_round() {
        let stat = |parent| Stat {
            state: b'S',
            parent,
            kernel_thread: false,
            exiting: false,
            threads: 1,
            start: BootTime(1),
            args_total: 0,
        };
        let stats: HashMap<u32, Stat> = [(1, 0), (5, 1), (6, 5), (7, 6), (8, 6), (9, 7), (20, 21), (21, 20)]
            .map(|(tgid, parent)| (tgid, stat(parent)))
            .into();
        assert_eq!(ancestors(6, &stats), [5, 1]);
        assert_eq!(descendants(6, &stats), [7, 8, 9]);
        assert_eq!(ancestors(1, &stats), [0; 0]);
        assert_eq!(descendants(20, &stats), [21]);
        assert_eq!(ancestors(20, &stats).len(), RELATIVES_MAX);
    }
}
