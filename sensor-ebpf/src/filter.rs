//! What the operator has muted, as far as it can be told here, and which files are watched.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    macros::map,
    maps::{HashMap, LpmTrie, LruHashMap, PerCpuArray, lpm_trie::Key},
};
use sensor_common::{
    FileKey, Identity, MuteKey, MuteKind, Settings,
    filter::{MUTES_MAX, NETWORKS_MAX, RULES_MAX, WATCHES_MAX},
};

use crate::{
    context,
    kernel::{Access, Address, Probe, offset},
};

/// Numbers of the rules that subjects are muted by. The agent tells of a subject when it first hears of it.
#[map]
static MUTES: LruHashMap<MuteKey, u32> = LruHashMap::with_max_entries(MUTES_MAX as u32, 0);

/// Numbers of the rules that networks are muted by; IPv4 as IPv4-mapped IPv6.
#[map]
static NETWORKS: LpmTrie<[u8; 16], u32> = LpmTrie::with_max_entries(NETWORKS_MAX as u32, BPF_F_NO_PREALLOC);

/// Events that each rule has muted here.
#[map]
static MUTED: PerCpuArray<u64> = PerCpuArray::with_max_entries(RULES_MAX as u32, 0);

/// Files that are reported whatever is done to them, and directories whose files are.
#[map]
static WATCHES: HashMap<FileKey, u32> = HashMap::with_max_entries(WATCHES_MAX as u32, 0);

/// The rule that mutes a cgroup or a user.
#[inline(always)]
pub fn subject(settings: &Settings, identity: &Identity) -> Option<u32> {
    if settings.has(MuteKind::Cgroup)
        && let Some(rule) = rule(MuteKind::Cgroup, 0, identity.cgroup)
    {
        return Some(rule);
    }
    if settings.has(MuteKind::User) {
        return rule(MuteKind::User, 0, u64::from(identity.uid));
    }
    None
}

/// The rule that mutes the executable of a task.
#[inline(always)]
pub fn executable(settings: &Settings, task: Address) -> Option<u32> {
    if !settings.has(MuteKind::Executable) {
        return None;
    }
    // SAFETY: `Probe` checks every address.
    unsafe {
        let mm: Address = Probe::load(task, offset!(task_mm));
        let file: Address = Probe::load(mm, offset!(mm_exe_file));
        let inode: Address = Probe::load(file, offset!(file_inode));
        file_rule(MuteKind::Executable, inode)
    }
}

/// The rule that mutes a file, or what lies below a directory.
#[inline(always)]
pub fn path(inode: Address) -> Option<u32> {
    // SAFETY: `Probe` checks every address.
    unsafe { file_rule(MuteKind::Path, inode) }
}

/// The rule that mutes the other end of a connection.
#[inline(always)]
pub fn network(address: &[u8; 16]) -> Option<u32> {
    NETWORKS.get(Key::new(128, *address)).copied()
}

/// Counts an event that a rule has muted.
#[inline(always)]
pub fn count(rule: u32) {
    if let Some(count) = MUTED.get_ptr_mut(rule) {
        // SAFETY: the entry is this CPU's; programs that can be preempted count here too.
        unsafe { context::add(count, 1) };
    }
}

/// Whether a file, or the directory of a name, is watched.
#[inline(always)]
pub unsafe fn is_watched(inode: Address) -> bool {
    // SAFETY: `Probe` checks every address, as the caller's.
    let key = unsafe {
        FileKey {
            inode: Probe::load(inode, offset!(inode_ino)),
            device: device(inode),
            reserved: 0,
        }
    };
    WATCHES.get_ptr(key).is_some()
}

/// The device of a file.
#[inline(always)]
pub unsafe fn device(inode: Address) -> u32 {
    // SAFETY: `Probe` checks every address.
    unsafe {
        let super_block: Address = Probe::load(inode, offset!(inode_sb));
        Probe::load(super_block, offset!(super_block_dev))
    }
}

#[inline(always)]
unsafe fn file_rule(kind: MuteKind, inode: Address) -> Option<u32> {
    // SAFETY: `Probe` checks every address.
    unsafe { rule(kind, device(inode), Probe::load(inode, offset!(inode_ino))) }
}

#[inline(always)]
fn rule(kind: MuteKind, device: u32, number: u64) -> Option<u32> {
    let key = MuteKey {
        number,
        device,
        kind: kind as u32,
    };
    // SAFETY: the agent writes values whole.
    MUTES
        .get_ptr(key)
        .map(|rule| unsafe { core::ptr::read_volatile(rule) })
}
