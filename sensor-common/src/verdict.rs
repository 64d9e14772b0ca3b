//! What the kernel programs refuse by themselves: keys and values of the maps of verdicts.
//!
//! Every verdict ends: it carries a time that the programs look at, so that it ends when nobody is there to lift it, too. The maps
//! outlive the agent, so their contract has a [version](CONTRACT).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Another number whenever a key or a value of these maps means something else.
pub const CONTRACT: u32 = 2;

/// Most executables that are refused by device and inode.
pub const FILES_MAX: u32 = 1024;
/// Most entries for executables that are refused by path; each path takes [two](Path).
pub const PATHS_MAX: u32 = 512;
/// Most login users that start nothing.
pub const USERS_MAX: u32 = 256;
/// Most networks that are refused, that are let through an isolation, and that nothing refuses; each by itself. A map has
/// [twice](replaced) the room.
pub const ENDS_MAX: u32 = 1024;
/// Most cgroups without a network.
pub const CGROUPS_MAX: u32 = 256;
/// Most process trees without a network.
pub const TREES_MAX: u32 = 256;
/// Most processes in them, all together; memory is taken as they come.
pub const MEMBERS_MAX: u32 = 65_536;
/// Most sockets that such processes had before; memory is taken as they come.
pub const SOCKETS_MAX: u32 = 65_536;
/// Most executables that no verdict stops. The map has [twice](replaced) the room.
pub const SPARED_MAX: u32 = 1024;

/// Room of a map in which all entries are replaced by others, the new ones before the former go.
#[must_use]
pub const fn replaced(entries: u32) -> u32 {
    2 * entries
}

/// Deepest cgroup whose verdict its members are found by, counted from the root (0) of the hierarchy.
pub const CGROUP_DEPTH: u32 = 16;

/// Longest path by which an executable is named, in bytes, its leading slash included.
pub const PATH_MAX: usize = 255;

/// Bits of [`State::kinds`].
pub mod kinds {
    /// Executables by device and inode.
    pub const FILE: u32 = 1;
    /// Executables by path.
    pub const PATH: u32 = 1 << 1;
    /// Login users.
    pub const USER: u32 = 1 << 2;
    /// Networks.
    pub const END: u32 = 1 << 3;
    /// Cgroups.
    pub const CGROUP: u32 = 1 << 4;
    /// Process trees.
    pub const TREE: u32 = 1 << 5;
    /// What is asked about at an exec.
    pub const OF_EXEC: u32 = FILE | PATH | USER;
}

/// Value of a verdict. In the maps of [ends](End), where only the longest network that matches is found, `until` is the latest
/// of all that hold it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Verdict {
    /// Until when it is carried out, in nanoseconds since boot.
    pub until: u64,
    /// Until when it was asked for.
    pub asked: u64,
    /// What it has stopped: programs, or packets and attempts to send them.
    pub hits: u64,
    /// Whose exec it stopped last: when that process began, in nanoseconds since boot, and its id in the initial namespace. 0: nobody's.
    /// Written by several processors, so the two may be of different ones.
    pub last_start: u64,
    /// See above.
    pub last_tgid: u32,
    /// Zero.
    pub reserved: u32,
}

/// What the programs know besides; the single value of its map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct State {
    /// Which [kinds] of verdicts there are; nothing is looked up for the others.
    pub kinds: u32,
    /// The agent, which no verdict stops: its process id in the initial namespace, …
    pub agent_tgid: u32,
    /// … and when it began, in [ticks](TICK) since boot, so that who gets its number later is not spared.
    pub agent_start: u64,
}

/// Nanoseconds of a tick in which `/proc` tells when a process began.
pub const TICK: u64 = 10_000_000;

/// A path, exactly. The kernel knows paths from their end, so each is in the map twice: with its components leaf first, each followed by a
/// NUL, as an executable is named; and as it is written, as who executes a script names that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Path {
    /// Filled up with zeroes.
    pub bytes: [u8; PATH_MAX + 1],
}

impl Path {
    /// The two keys of a path; `None` unless it is absolute, canonical as text, and short enough.
    #[must_use]
    pub fn keys(path: &[u8]) -> Option<[Self; 2]> {
        let mut reversed = [0; PATH_MAX + 1];
        let mut written = [0; PATH_MAX + 1];
        let relative = path.strip_prefix(b"/")?;
        if path.len() > PATH_MAX || path.contains(&0) {
            return None;
        }
        written.get_mut(..path.len())?.copy_from_slice(path);
        let mut end = 0;
        for component in relative.rsplit(|byte| *byte == b'/') {
            if matches!(component, b"" | b"." | b"..") {
                return None;
            }
            reversed
                .get_mut(end..end + component.len())?
                .copy_from_slice(component);
            end += component.len() + 1;
        }
        Some([Self { bytes: reversed }, Self { bytes: written }])
    }
}

/// Data of a key of the maps of ends, where a longest prefix is looked for: the port is always compared whole, then the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct End {
    /// Port; 0 for any.
    pub port: u32,
    /// IPv6 address in the order of the wire, IPv4 as IPv4-mapped.
    pub address: [u32; 4],
}

/// Bits of an [`End`] before its address.
pub const PORT_BITS: u32 = 32;
/// Bits of a whole [`End`].
pub const END_BITS: u32 = PORT_BITS + 128;

/// Values of the map of ends that are let through an isolation.
pub mod allowed {
    /// Another host.
    pub const OTHER: u32 = 1;
    /// This host by one of its own addresses: allowed to be asked for, and then reached without leaving the host.
    pub const OWN: u32 = 2;
}

/// A process: key of a tree by the one at its top.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Top {
    /// When it began, in nanoseconds since boot, as the agent knows it.
    pub start: u64,
    /// Its process id in the initial namespace.
    pub tgid: u32,
    /// Always zero.
    pub reserved: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_see_the_same_sizes() {
        assert_eq!(size_of::<Verdict>(), 40);
        assert_eq!(size_of::<State>(), 16);
        assert_eq!(size_of::<Path>(), 256);
        assert_eq!(size_of::<End>(), 20);
        assert_eq!(size_of::<Top>(), 16);
    }

    #[test]
    fn a_path_is_kept_leaf_first_and_as_it_is_written() {
        let [reversed, written] = Path::keys(b"/usr/bin/evil").unwrap();
        assert!(reversed.bytes.starts_with(b"evil\0bin\0usr\0\0"));
        assert!(written.bytes.starts_with(b"/usr/bin/evil\0"));
    }

    #[test]
    fn a_path_that_the_kernel_would_tell_otherwise_has_no_key() {
        for path in [
            "", "/", "a", "a/b", "/a/", "//a", "/a//b", "/a/./b", "/a/../b", "/a\0b",
        ] {
            assert_eq!(Path::keys(path.as_bytes()), None, "{path:?}");
        }
        let mut longest = [b'a'; PATH_MAX + 1];
        longest[0] = b'/';
        let keys = Path::keys(&longest[..PATH_MAX]).unwrap();
        assert_eq!(keys[0].bytes[PATH_MAX - 2..], [b'a', 0, 0]);
        assert_eq!(Path::keys(&longest), None);
    }
}
