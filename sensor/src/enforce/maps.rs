//! The maps of verdicts, by what they mean.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::PathBuf,
};

use aya::{
    Pod,
    maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, lpm_trie::Key},
};
use sensor_common::{
    FileKey,
    verdict::{self, End, Path, State, TICK, Top, Verdict as Value, allowed, kinds},
};

use super::{Destination, EnforceError, Subject, Verdict, ends, pins::Pins};
use crate::{capture::pod, host::ProcessId, time::BootTime};

pod! {
    KernelState(State);
    KernelValue(Value);
    KernelFile(FileKey);
    KernelPath(Path);
    KernelEnd(End);
    KernelTop(Top);
}

/// All of them, in no order.
pub(super) const NAMES: [&str; 13] = [
    "V_STATE",
    "V_HOST",
    "V_FILES",
    "V_PATHS",
    "V_USERS",
    "V_ENDS",
    "V_CGROUPS",
    "V_TREES",
    "V_MEMBERS",
    "V_SOCKETS",
    "V_SPARED_FILES",
    "V_SPARED_ENDS",
    "V_ALLOWED",
];

type Verdicts<K> = HashMap<MapData, K, KernelValue>;

/// The maps.
pub(super) struct Maps {
    state: Array<MapData, KernelState>,
    host: Array<MapData, KernelValue>,
    files: Verdicts<KernelFile>,
    paths: Verdicts<KernelPath>,
    users: Verdicts<u32>,
    ends: LpmTrie<MapData, KernelEnd, KernelValue>,
    cgroups: Verdicts<u64>,
    trees: Verdicts<KernelTop>,
    members: HashMap<MapData, u32, KernelTop>,
    sockets: HashMap<MapData, u64, KernelTop>,
    spared_files: HashMap<MapData, KernelFile, u32>,
    spared_ends: LpmTrie<MapData, KernelEnd, u32>,
    allowed: LpmTrie<MapData, KernelEnd, u32>,
}

impl Maps {
    /// Those that a former agent left, if one did. If it ended before it had made them all, there was no verdict yet.
    pub(super) fn find(pins: &Pins) -> Result<Option<Self>, EnforceError> {
        if !NAMES.iter().all(|name| pins.map(name).exists()) {
            pins.remove();
            return Ok(None);
        }
        let open = |name: &str| Map::from_map_data(MapData::from_pin(pins.map(name))?);
        match Self::new(open) {
            Ok(maps) => Ok(Some(maps)),
            Err(error) => Err(EnforceError::Map(error)),
        }
    }

    pub(super) fn new(mut map: impl FnMut(&str) -> Result<Map, MapError>) -> Result<Self, MapError> {
        Ok(Self {
            state: map("V_STATE")?.try_into()?,
            host: map("V_HOST")?.try_into()?,
            files: map("V_FILES")?.try_into()?,
            paths: map("V_PATHS")?.try_into()?,
            users: map("V_USERS")?.try_into()?,
            ends: map("V_ENDS")?.try_into()?,
            cgroups: map("V_CGROUPS")?.try_into()?,
            trees: map("V_TREES")?.try_into()?,
            members: map("V_MEMBERS")?.try_into()?,
            sockets: map("V_SOCKETS")?.try_into()?,
            spared_files: map("V_SPARED_FILES")?.try_into()?,
            spared_ends: map("V_SPARED_ENDS")?.try_into()?,
            allowed: map("V_ALLOWED")?.try_into()?,
        })
    }

    pub(super) fn set_agent(&mut self, agent: ProcessId) -> Result<(), MapError> {
        let mut state = self.state.get(&0, 0)?.0;
        state.agent_tgid = agent.tgid;
        state.agent_start = agent.start.0 / TICK;
        self.state.set(0, KernelState(state), 0)
    }

    /// Spares these files besides those that are spared already.
    pub(super) fn spare_too(&mut self, files: &BTreeSet<(u32, u64)>) -> Result<(), MapError> {
        files
            .iter()
            .try_for_each(|file| self.spared_files.insert(file_key(*file), 1, 0))
    }

    /// Spares these files and these ends, and no others. What is new comes before the former goes.
    pub(super) fn spare(
        &mut self,
        files: &BTreeSet<(u32, u64)>,
        ends: &[Destination],
    ) -> Result<(), EnforceError> {
        self.spare_too(files)?;
        for known in keys(self.spared_files.keys()) {
            if !files.contains(&(known.0.device, known.0.inode)) {
                gone_is_well(self.spared_files.remove(&known))?;
            }
        }
        let wanted = ends.iter().map(|end| (*end, 1)).collect();
        Ok(replace(&mut self.spared_ends, &wanted)?)
    }

    /// Lets these through an isolation, and no others.
    pub(super) fn allow(
        &mut self,
        own: &BTreeSet<Destination>,
        others: &[Destination],
    ) -> Result<(), EnforceError> {
        let own = own.iter().map(|end| (*end, allowed::OWN));
        let others = others.iter().map(|end| (*end, allowed::OTHER));
        Ok(replace(&mut self.allowed, &own.chain(others).collect())?)
    }

    pub(super) fn impose(&mut self, subject: &Subject, until: BootTime) -> Result<(), EnforceError> {
        let value = |known: Option<KernelValue>| {
            KernelValue(Value {
                until: until.0,
                asked: until.0,
                ..known.map(|known| known.0).unwrap_or_default()
            })
        };
        match subject {
            Subject::File(file) => put(
                &mut self.files,
                KernelFile(*file),
                value,
                "executables",
                verdict::FILES_MAX,
            )?,
            Subject::Path(path) => {
                for key in path_keys(path)? {
                    put(
                        &mut self.paths,
                        KernelPath(key),
                        value,
                        "paths of executables",
                        verdict::PATHS_MAX / 2,
                    )?;
                }
            }
            Subject::User(user) => put(&mut self.users, *user, value, "login users", verdict::USERS_MAX)?,
            Subject::Cgroup(id) => put(&mut self.cgroups, *id, value, "cgroups", verdict::CGROUPS_MAX)?,
            Subject::Tree(top) => {
                put(
                    &mut self.trees,
                    KernelTop(key_of(*top)),
                    value,
                    "process trees",
                    verdict::TREES_MAX,
                )?;
            }
            Subject::End(end) => {
                let mut asked = self.asked();
                let hits = asked.get(end).map_or(0, |(_, hits)| *hits);
                asked.insert(*end, (until.0, hits));
                check("ends", asked.len(), verdict::ENDS_MAX)?;
                self.set_ends(&asked)?;
            }
            Subject::Host => {
                let known = self.host.get(&0, 0)?;
                self.host.set(0, value(Some(known)), 0)?;
            }
        }
        Ok(self.tell_kinds()?)
    }

    /// False if there was none.
    pub(super) fn lift(&mut self, subject: &Subject) -> Result<bool, EnforceError> {
        let lifted = match subject {
            Subject::File(file) => take_out(&mut self.files, &KernelFile(*file))?,
            Subject::Path(path) => {
                let mut lifted = false;
                for key in path_keys(path)? {
                    lifted |= take_out(&mut self.paths, &KernelPath(key))?;
                }
                lifted
            }
            Subject::User(user) => take_out(&mut self.users, user)?,
            Subject::Cgroup(id) => take_out(&mut self.cgroups, id)?,
            Subject::Tree(top) => {
                let top = key_of(*top);
                let lifted = take_out(&mut self.trees, &KernelTop(top))?;
                forget(&mut self.members, top)?;
                forget(&mut self.sockets, top)?;
                lifted
            }
            Subject::End(end) => {
                let mut asked = self.asked();
                let lifted = asked.remove(end).is_some();
                self.set_ends(&asked)?;
                lifted
            }
            Subject::Host => {
                let lifted = self.host.get(&0, 0)?.0.until != 0;
                self.host.set(0, KernelValue(Value::default()), 0)?;
                if lifted {
                    replace(&mut self.allowed, &BTreeMap::new())?;
                }
                lifted
            }
        };
        self.tell_kinds()?;
        Ok(lifted)
    }

    pub(super) fn list(&self) -> Result<Vec<Verdict>, EnforceError> {
        let mut all = Vec::new();
        let mut add = |subject, value: KernelValue| {
            all.push(Verdict {
                subject,
                until: BootTime(value.0.asked),
                hits: value.0.hits,
                last: (value.0.last_tgid != 0).then_some(ProcessId {
                    tgid: value.0.last_tgid,
                    start: BootTime(value.0.last_start),
                }),
            });
        };
        for (file, value) in entries(self.files.iter()) {
            add(Subject::File(file.0), value);
        }
        let paths: Vec<_> = entries(self.paths.iter()).collect();
        for (key, mut value) in paths.iter().copied() {
            // Each is there twice; this is as it is written.
            let Some(path) = written(&key.0) else { continue };
            let [reversed, _] = path_keys(&path)?;
            let other = paths.iter().find(|(key, _)| key.0 == reversed);
            let other = other.map(|(_, other)| other.0).unwrap_or_default();
            value.0.hits += other.hits;
            if value.0.last_tgid == 0 {
                (value.0.last_tgid, value.0.last_start) = (other.last_tgid, other.last_start);
            }
            add(Subject::Path(path), value);
        }
        for (user, value) in entries(self.users.iter()) {
            add(Subject::User(user), value);
        }
        for (end, (until, hits)) in self.asked() {
            let value = Value {
                until,
                asked: until,
                hits,
                ..Value::default()
            };
            add(Subject::End(end), KernelValue(value));
        }
        for (id, value) in entries(self.cgroups.iter()) {
            add(Subject::Cgroup(id), value);
        }
        for (top, value) in entries(self.trees.iter()) {
            let top = ProcessId {
                tgid: top.0.tgid,
                start: BootTime(top.0.start),
            };
            add(Subject::Tree(top), value);
        }
        let host = self.host.get(&0, 0)?;
        if host.0.until != 0 {
            add(Subject::Host, host);
        }
        Ok(all)
    }

    /// Which kinds of verdicts there are.
    pub(super) fn kinds(&self) -> u32 {
        let present = [
            (kinds::FILE, self.files.keys().next().is_some()),
            (kinds::PATH, self.paths.keys().next().is_some()),
            (kinds::USER, self.users.keys().next().is_some()),
            (kinds::END, self.ends.keys().next().is_some()),
            (kinds::CGROUP, self.cgroups.keys().next().is_some()),
            (kinds::TREE, self.trees.keys().next().is_some()),
        ];
        present
            .into_iter()
            .filter(|(_, is_there)| *is_there)
            .fold(0, |bits, (kind, _)| bits | kind)
    }

    /// Whether the host is isolated, or was until nobody swept.
    pub(super) fn is_isolated(&self) -> Result<bool, MapError> {
        Ok(self.host.get(&0, 0)?.0.until != 0)
    }

    /// Tells the programs which maps to look into.
    pub(super) fn tell_kinds(&mut self) -> Result<(), MapError> {
        let mut state = self.state.get(&0, 0)?.0;
        let kinds = self.kinds();
        if state.kinds == kinds {
            return Ok(());
        }
        state.kinds = kinds;
        self.state.set(0, KernelState(state), 0)
    }

    /// Adds a process to a tree.
    pub(super) fn add_member(&mut self, tgid: u32, top: ProcessId) -> Result<(), EnforceError> {
        let added = self.members.insert(tgid, KernelTop(key_of(top)), 0);
        full(added, "processes without a network", verdict::MEMBERS_MAX)
    }

    /// Adds who belonged to trees of others, and their sockets, where there are those trees here.
    pub(super) fn take_over(&mut self, others: &Self) -> Result<(), MapError> {
        let trees = keys(self.trees.keys());
        let is_here = |top: &KernelTop| trees.iter().any(|tree| tree.0 == top.0);
        for (tgid, top) in entries(others.members.iter()).filter(|(_, top)| is_here(top)) {
            self.members.insert(tgid, top, 0)?;
        }
        for (cookie, top) in entries(others.sockets.iter()).filter(|(_, top)| is_here(top)) {
            self.sockets.insert(cookie, top, 0)?;
        }
        Ok(())
    }

    /// The processes of a tree.
    pub(super) fn members(&self, top: ProcessId) -> BTreeSet<u32> {
        let top = key_of(top);
        let members = entries(self.members.iter());
        members
            .filter(|(_, tree)| tree.0 == top)
            .map(|(tgid, _)| tgid)
            .collect()
    }

    /// Adds a socket, by its cookie, to those of a tree.
    pub(super) fn add_socket(&mut self, cookie: u64, top: ProcessId) -> Result<(), EnforceError> {
        let added = self.sockets.insert(cookie, KernelTop(key_of(top)), 0);
        full(added, "sockets without a network", verdict::SOCKETS_MAX)
    }

    /// Until when each end was asked for, and what it has stopped.
    fn asked(&self) -> BTreeMap<Destination, (u64, u64)> {
        let entries = entries(self.ends.iter());
        entries
            .filter_map(|(key, value)| {
                let end = Destination::from_key(key.prefix_len(), key.data().0)?;
                Some((end, (value.0.asked, value.0.hits)))
            })
            .collect()
    }

    fn set_ends(&mut self, asked: &BTreeMap<Destination, (u64, u64)>) -> Result<(), MapError> {
        let times: Vec<_> = asked.iter().map(|(end, (until, _))| (*end, *until)).collect();
        let untils = ends::effective(&times);
        let values = asked.iter().zip(untils).map(|((end, (asked, hits)), until)| {
            let value = Value {
                until,
                asked: *asked,
                hits: *hits,
                ..Value::default()
            };
            (*end, KernelValue(value))
        });
        replace_if(&mut self.ends, &values.collect(), |known, wanted| {
            known.0.until != wanted.0.until || known.0.asked != wanted.0.asked
        })
    }
}

fn file_key((device, inode): (u32, u64)) -> KernelFile {
    KernelFile(FileKey {
        inode,
        device,
        reserved: 0,
    })
}

fn key_of(top: ProcessId) -> Top {
    Top {
        start: top.start.0,
        tgid: top.tgid,
        reserved: 0,
    }
}

fn path_keys(path: &std::path::Path) -> Result<[Path; 2], EnforceError> {
    Path::keys(path.as_os_str().as_bytes()).ok_or_else(|| EnforceError::Path(path.into()))
}

/// The path that a key is of, if it is the one as it is written.
fn written(key: &Path) -> Option<PathBuf> {
    let end = key.bytes.iter().position(|byte| *byte == 0)?;
    let path = key.bytes.get(..end)?;
    path.starts_with(b"/")
        .then(|| std::ffi::OsString::from_vec(path.to_vec()).into())
}

/// What can be read; an entry that goes meanwhile is not there.
fn entries<T>(entries: impl Iterator<Item = Result<T, MapError>>) -> impl Iterator<Item = T> {
    entries.filter_map(Result::ok)
}

fn keys<T>(keys: impl Iterator<Item = Result<T, MapError>>) -> Vec<T> {
    keys.filter_map(Result::ok).collect()
}

fn put<K: Pod>(
    map: &mut Verdicts<K>,
    key: K,
    value: impl Fn(Option<KernelValue>) -> KernelValue,
    what: &'static str,
    limit: u32,
) -> Result<(), EnforceError> {
    let known = map.get(&key, 0).ok();
    full(map.insert(key, value(known), 0), what, limit)
}

/// An error of a map that has no room any more, as such.
fn full(result: Result<(), MapError>, what: &'static str, limit: u32) -> Result<(), EnforceError> {
    match result {
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::E2BIG) => {
            Err(EnforceError::Full { what, limit })
        }
        result => Ok(result?),
    }
}

pub(super) fn check(what: &'static str, count: usize, limit: u32) -> Result<(), EnforceError> {
    if count > limit as usize {
        return Err(EnforceError::Full { what, limit });
    }
    Ok(())
}

/// Whether it was there.
fn take_out<K: Pod>(map: &mut Verdicts<K>, key: &K) -> Result<bool, MapError> {
    let was_there = map.get(key, 0).is_ok();
    gone_is_well(map.remove(key))?;
    Ok(was_there)
}

/// Removes what belongs to a tree.
fn forget<K: Pod>(map: &mut HashMap<MapData, K, KernelTop>, top: Top) -> Result<(), MapError> {
    let of_tree: Vec<K> = entries(map.iter())
        .filter(|(_, tree)| tree.0 == top)
        .map(|(key, _)| key)
        .collect();
    of_tree.iter().try_for_each(|key| gone_is_well(map.remove(key)))
}

fn gone_is_well(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn end_key(end: Destination) -> Key<KernelEnd> {
    let (bits, end) = end.key();
    Key::new(bits, KernelEnd(end))
}

fn replace(
    map: &mut LpmTrie<MapData, KernelEnd, u32>,
    wanted: &BTreeMap<Destination, u32>,
) -> Result<(), MapError> {
    replace_if(map, wanted, |known, wanted| known != wanted)
}

/// Makes a map hold what is wanted and nothing else. What is new or [differs](fn@replace_if) comes before the former goes.
fn replace_if<V: Pod>(
    map: &mut LpmTrie<MapData, KernelEnd, V>,
    wanted: &BTreeMap<Destination, V>,
    differs: impl Fn(&V, &V) -> bool,
) -> Result<(), MapError> {
    let known: BTreeMap<Destination, V> = entries(map.iter())
        .filter_map(|(key, value)| {
            let end = Destination::from_key(key.prefix_len(), key.data().0)?;
            Some((end, value))
        })
        .collect();
    for (end, value) in wanted {
        if known.get(end).is_none_or(|known| differs(known, value)) {
            map.insert(&end_key(*end), *value, 0)?;
        }
    }
    for end in known.keys().filter(|end| !wanted.contains_key(end)) {
        gone_is_well(map.remove(&end_key(*end)))?;
    }
    Ok(())
}
