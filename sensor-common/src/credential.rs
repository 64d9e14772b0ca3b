//! Credentials, and which of their changes an exec or a system call explains.
//!
//! The kernel programs keep for each task the credentials that they last saw it have. Whenever they look at a task, what it has is
//! compared with that: a difference was made by an exec, by a call whose purpose it is, or by neither. The kernel has no
//! other way to change the fields of [`Cred`], so that *neither* is somebody who writes to its memory.
//!
//! A call or an exec explains only what the kernel would have let it do: it is judged by the credentials from before, not by those
//! that it found, which may be forged already.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Who a task is to the kernel and what it may do: what counts of its `struct cred`.
///
/// The ids are in the kernel's order, so that they can be copied at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Cred {
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// Saved user id.
    pub suid: u32,
    /// Saved group id.
    pub sgid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Effective group id.
    pub egid: u32,
    /// User id for access to files.
    pub fsuid: u32,
    /// Group id for access to files.
    pub fsgid: u32,
    /// Capabilities that it may have, a bit each.
    pub permitted: u64,
    /// Capabilities that it has.
    pub effective: u64,
    /// User namespace that the capabilities are good for, as an inode number.
    pub user_ns: u32,
    /// Fills the record to a multiple of eight bytes; always zero.
    pub reserved: u32,
}

/// Value of the `ACCOUNTED` map: the credentials that a task is known to have had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Accounted {
    /// The credentials.
    pub cred: Cred,
    /// The task's thread id: its address alone, which is the key, may be another's by now.
    pub tid: u32,
    /// Bits of [`accounted_flags`].
    pub flags: u32,
}

/// Bits of [`Accounted::flags`].
pub mod accounted_flags {
    /// The kernel has begun to install other credentials since.
    pub const COMMITTED: u32 = 1;
    /// Before it did, they were not these any more.
    pub const FORGED: u32 = 2;
}

/// A task has other credentials than before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Credential {
    /// What it had when it was last looked at.
    pub before: Cred,
    /// What it has.
    pub after: Cred,
    /// A [`Change`], by number: what explains it.
    pub how: u32,
    /// A [`Moment`], by number: when it was noticed.
    pub moment: u32,
    /// Number of the system call at whose return it was noticed, by the table of 64-bit programs; [`UNSET_ID`](crate::UNSET_ID)
    /// otherwise.
    pub call: u32,
    /// Fills the record to a multiple of eight bytes; always zero.
    pub reserved: u32,
}

/// What can change credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Change {
    /// Nothing does: a difference is forged.
    None = 0,
    /// A call that sets ids or capabilities.
    Ids = 1,
    /// A call that enters another user namespace.
    Namespace = 2,
    /// An exec: of a set-user-id or set-group-id file, or of one with capabilities.
    Exec = 3,
}

/// When credentials are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Moment {
    /// At the return of a system call.
    Call = 0,
    /// When a program has been replaced.
    Exec = 1,
    /// When the task makes another.
    Fork = 2,
    /// When it ends.
    Exit = 3,
}

/// Of the file that was executed, for [`explains`]: its mode (`i_mode`), and …
pub mod file_bits {
    /// … set-user-id, …
    pub const SET_UID: u32 = 0o4000;
    /// … set-group-id, …
    pub const SET_GID: u32 = 0o2000;
    /// … or whether an interpreter stands between: whose mode counts is then not known.
    pub const INTERPRETED: u32 = 1 << 16;
}

const CAP_SETGID: u64 = 1 << 6;
const CAP_SETUID: u64 = 1 << 7;

/// Whether `change` can have made `after` of `before`; `file` has the [`file_bits`] of an exec.
#[must_use]
#[inline(always)]
pub fn explains(change: u32, file: u32, before: &Cred, after: &Cred) -> bool {
    match change {
        c if c == Change::Exec as u32 => by_exec(file, before, after),
        c if c == Change::Ids as u32 => by_ids(before, after),
        c if c == Change::Namespace as u32 => same_ids(before, after),
        _ => false,
    }
}

/// An exec never changes the real ids, nor the namespace. The effective ones become the file's, or fall back to the
/// real ones. Capabilities are taken to be the file's, or root's.
#[inline(always)]
fn by_exec(file: u32, before: &Cred, after: &Cred) -> bool {
    let may_set = |bit| file & (bit | file_bits::INTERPRETED) != 0;
    let user = after.euid == before.euid || after.euid == after.uid || may_set(file_bits::SET_UID);
    let group = after.egid == before.egid || after.egid == after.gid || may_set(file_bits::SET_GID);
    let real = after.uid == before.uid && after.gid == before.gid;
    real && user && group && after.user_ns == before.user_ns
}

/// Without the capability to choose any id, one of those that it has; never a capability that was not permitted.
#[inline(always)]
fn by_ids(before: &Cred, after: &Cred) -> bool {
    let had_user = |id: &u32| {
        let id = get(id);
        id == get(&before.uid)
            || id == get(&before.euid)
            || id == get(&before.suid)
            || id == get(&before.fsuid)
    };
    let had_group = |id: &u32| {
        let id = get(id);
        id == get(&before.gid)
            || id == get(&before.egid)
            || id == get(&before.sgid)
            || id == get(&before.fsgid)
    };
    let users = before.effective & CAP_SETUID != 0
        || had_user(&after.uid) && had_user(&after.euid) && had_user(&after.suid) && had_user(&after.fsuid);
    let groups = before.effective & CAP_SETGID != 0
        || had_group(&after.gid)
            && had_group(&after.egid)
            && had_group(&after.sgid)
            && had_group(&after.fsgid);
    let capabilities = after.permitted & !before.permitted == 0;
    users && groups && capabilities && after.user_ns == before.user_ns
}

#[inline(always)]
fn same_ids(before: &Cred, after: &Cred) -> bool {
    let same = |left: &u32, right: &u32| get(left) == get(right);
    same(&before.uid, &after.uid)
        && same(&before.gid, &after.gid)
        && same(&before.suid, &after.suid)
        && same(&before.sgid, &after.sgid)
        && same(&before.euid, &after.euid)
        && same(&before.egid, &after.egid)
        && same(&before.fsuid, &after.fsuid)
        && same(&before.fsgid, &after.fsgid)
}

/// A field, read where it is compared. Left to itself, the compiler reads all of them first, and the stack of a kernel program has no room to
/// keep them.
#[inline(always)]
fn get(field: &u32) -> u32 {
    // SAFETY: a reference is valid and aligned.
    unsafe { core::ptr::read_volatile(field) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: Cred = Cred {
        uid: 1000,
        gid: 1000,
        suid: 1000,
        sgid: 1000,
        euid: 1000,
        egid: 1000,
        fsuid: 1000,
        fsgid: 1000,
        permitted: 0,
        effective: 0,
        user_ns: 1,
        reserved: 0,
    };
    const ALL: u64 = (1 << 41) - 1;
    const ROOT: Cred = Cred {
        uid: 0,
        gid: 0,
        suid: 0,
        sgid: 0,
        euid: 0,
        egid: 0,
        fsuid: 0,
        fsgid: 0,
        permitted: ALL,
        effective: ALL,
        ..USER
    };
    /// What `su` runs as when a user has started it.
    const SET_UID: Cred = Cred {
        euid: 0,
        suid: 0,
        fsuid: 0,
        permitted: ALL,
        effective: ALL,
        ..USER
    };

    fn judged(change: Change, file: u32, before: Cred, after: Cred) -> bool {
        explains(change as u32, file, &before, &after)
    }

    #[test]
    fn what_the_kernel_allows_is_explained() {
        let capable = Cred {
            permitted: 1 << 13,
            effective: 1 << 13,
            ..USER
        };
        let elsewhere = Cred {
            permitted: ALL,
            effective: ALL,
            user_ns: 2,
            ..USER
        };
        let dropped = Cred {
            euid: 1000,
            fsuid: 1000,
            effective: 0,
            ..SET_UID
        };
        for (change, file, before, after) in [
            (Change::Exec, 0o104_755, USER, SET_UID),
            (
                Change::Exec,
                0o102_755,
                USER,
                Cred {
                    egid: 5,
                    sgid: 5,
                    fsgid: 5,
                    ..USER
                },
            ),
            (Change::Exec, 0o100_755, USER, capable),
            (Change::Exec, 0o100_755, capable, USER),
            // Traced, or forbidden to gain: what was set is taken back.
            (Change::Exec, 0o100_755, SET_UID, USER),
            (Change::Exec, file_bits::INTERPRETED | 0o100_755, USER, SET_UID),
            (Change::Ids, 0, SET_UID, ROOT),
            (Change::Ids, 0, SET_UID, dropped),
            (Change::Ids, 0, dropped, SET_UID),
            (Change::Ids, 0, ROOT, USER),
            (Change::Ids, 0, ROOT, Cred { effective: 0, ..ROOT }),
            (Change::Namespace, 0, USER, elsewhere),
        ] {
            assert!(
                judged(change, file, before, after),
                "{change:?} {before:?} {after:?}"
            );
        }
    }

    #[test]
    fn what_it_does_not_allow_is_not() {
        let elsewhere = Cred {
            permitted: ALL,
            effective: ALL,
            user_ns: 2,
            ..USER
        };
        for (change, file, before, after) in [
            (Change::None, 0, USER, ROOT),
            (Change::None, 0, USER, Cred { fsuid: 0, ..USER }),
            (Change::None, 0, ROOT, USER),
            (Change::Exec, 0o104_755, USER, ROOT),
            (Change::Exec, 0o100_755, USER, SET_UID),
            (Change::Exec, 0o102_755, USER, SET_UID),
            (Change::Exec, 0o104_755, USER, Cred { egid: 0, ..USER }),
            (Change::Exec, 0o104_755, USER, Cred { user_ns: 2, ..USER }),
            (Change::Ids, 0, USER, ROOT),
            (Change::Ids, 0, USER, Cred { gid: 0, ..USER }),
            (Change::Ids, 0, USER, Cred { permitted: 1, ..USER }),
            (
                Change::Ids,
                0,
                elsewhere,
                Cred {
                    user_ns: 1,
                    ..elsewhere
                },
            ),
            (Change::Namespace, 0, USER, Cred { uid: 0, ..elsewhere }),
        ] {
            assert!(
                !judged(change, file, before, after),
                "{change:?} {before:?} {after:?}"
            );
        }
    }
}
