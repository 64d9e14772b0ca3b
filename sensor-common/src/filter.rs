//! What is left out on purpose, and what is looked at more closely: keys of the maps that the agent fills.
//!
//! A mute is a rule of the operator. The agent knows all rules and has the last word; the kernel programs are told of those
//! subjects that they can recognise, so that what is muted costs little. Each entry names its rule, so that what it ate can be shown.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::Signal;

/// Most rules at a time. Numbers of rules are below this.
pub const RULES_MAX: usize = 1024;

/// Most subjects of rules that the kernel programs know at a time; the longest unused is pushed out, and told to them again.
pub const MUTES_MAX: usize = 16_384;

/// Most files and directories that are watched.
pub const WATCHES_MAX: usize = 4_096;

/// Most networks that are muted.
pub const NETWORKS_MAX: usize = RULES_MAX;

/// What a mute is for. Bit *n* of [`Settings::mutes`](crate::Settings::mutes) says that there are mutes of kind *n*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum MuteKind {
    /// A cgroup, by its id.
    Cgroup = 0,
    /// A real user id.
    User = 1,
    /// An executable, by device and inode.
    Executable = 2,
    /// A file, or everything below a directory, by device and inode.
    Path = 3,
    /// The other end of a connection, by its network; these have a map of their own.
    Network = 4,
}

/// Key of the `MUTES` map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MuteKey {
    /// Cgroup id, user id, or inode number.
    pub number: u64,
    /// Device in the kernel's encoding (major << 20 | minor), of a file.
    pub device: u32,
    /// Number of the [`MuteKind`].
    pub kind: u32,
}

/// Key of the `WATCHES` map: a file that is watched, or a directory whose files are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FileKey {
    /// Inode number.
    pub inode: u64,
    /// Device in the kernel's encoding (major << 20 | minor).
    pub device: u32,
    /// Fills the key to a multiple of eight bytes; always zero.
    pub reserved: u32,
}

impl Signal {
    /// Whether the kernel programs report it whatever the operator muted: who is who hangs on it. The agent leaves it
    /// out, if it is switched off, when it has learned from it.
    #[must_use]
    #[inline(always)]
    pub const fn is_vital(self) -> bool {
        matches!(self, Self::Exec | Self::Fork | Self::Exit)
    }
}
