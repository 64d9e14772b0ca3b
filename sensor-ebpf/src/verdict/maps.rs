//! The maps of verdicts, and what it means that one is hit.

use core::ptr;

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    helpers::bpf_ktime_get_boot_ns,
    macros::map,
    maps::{Array, HashMap, LpmTrie, lpm_trie::Key},
};
use sensor_common::{
    FileKey,
    verdict::{
        CGROUPS_MAX, END_BITS, ENDS_MAX, End, FILES_MAX, MEMBERS_MAX, PATHS_MAX, Path, SOCKETS_MAX,
        SPARED_MAX, State, TREES_MAX, Top, USERS_MAX, Verdict, replaced,
    },
};

#[map]
static V_STATE: Array<State> = Array::with_max_entries(1, 0);
/// The host's isolation.
#[map]
pub static V_HOST: Array<Verdict> = Array::with_max_entries(1, 0);
#[map]
pub static V_FILES: HashMap<FileKey, Verdict> = HashMap::with_max_entries(FILES_MAX, 0);
#[map]
pub static V_PATHS: HashMap<Path, Verdict> = HashMap::with_max_entries(PATHS_MAX, 0);
#[map]
pub static V_USERS: HashMap<u32, Verdict> = HashMap::with_max_entries(USERS_MAX, 0);
#[map]
pub static V_ENDS: LpmTrie<End, Verdict> = LpmTrie::with_max_entries(ENDS_MAX, 0);
#[map]
pub static V_CGROUPS: HashMap<u64, Verdict> = HashMap::with_max_entries(CGROUPS_MAX, 0);
#[map]
pub static V_TREES: HashMap<Top, Verdict> = HashMap::with_max_entries(TREES_MAX, 0);
/// Processes of trees.
#[map]
pub static V_MEMBERS: HashMap<u32, Top> = HashMap::with_max_entries(MEMBERS_MAX, BPF_F_NO_PREALLOC);
/// Sockets that processes of trees had before there was a verdict, by cookie.
#[map]
pub static V_SOCKETS: HashMap<u64, Top> = HashMap::with_max_entries(SOCKETS_MAX, BPF_F_NO_PREALLOC);
#[map]
pub static V_SPARED_FILES: HashMap<FileKey, u32> = HashMap::with_max_entries(replaced(SPARED_MAX), 0);
/// Ends that no verdict on an end, nor an isolation, keeps anybody from.
#[map]
pub static V_SPARED_ENDS: LpmTrie<End, u32> = LpmTrie::with_max_entries(replaced(ENDS_MAX), 0);
/// Ends that an isolation lets through.
#[map]
pub static V_ALLOWED: LpmTrie<End, u32> = LpmTrie::with_max_entries(replaced(ENDS_MAX), 0);

#[inline(always)]
pub fn state() -> Option<*const State> {
    V_STATE.get_ptr(0)
}

/// Which kinds of verdicts there are.
#[inline(always)]
pub fn kinds() -> u32 {
    // SAFETY: map memory is valid while the program runs.
    state().map_or(0, |state| unsafe {
        ptr::read_volatile(&raw const (*state).kinds)
    })
}

/// Whether a verdict holds; it is counted then.
///
/// # Safety
/// `verdict` must be a value of a map.
#[inline(always)]
pub unsafe fn strikes(verdict: *mut Verdict) -> bool {
    // SAFETY: as promised. Programs on other processors count at the same time: the addition is atomic, for which the language has nothing
    // on this target.
    unsafe {
        if ptr::read_volatile(&raw const (*verdict).until) <= bpf_ktime_get_boot_ns() {
            return false;
        }
        core::arch::asm!(
            "lock *(u64 *)({hits} + 0) += {one}",
            hits = in(reg) &raw mut (*verdict).hits,
            one = in(reg) 1_u64,
            options(nostack),
        );
    }
    true
}

/// The key of one end; port 0 finds what is for any.
#[inline(always)]
pub fn end(address: [u32; 4], port: u32) -> Key<End> {
    Key::new(END_BITS, End { port, address })
}

/// The value for an end, of its own port or of any.
#[inline(always)]
pub fn value(map: &LpmTrie<End, u32>, address: [u32; 4], port: u32) -> u32 {
    let own = map.get(end(address, port)).copied().unwrap_or(0);
    if own != 0 || port == 0 {
        return own;
    }
    map.get(end(address, 0)).copied().unwrap_or(0)
}
