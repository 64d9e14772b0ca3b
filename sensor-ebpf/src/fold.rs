//! What a process does again and again is counted where it happens, and reported once.

use aya_ebpf::{
    helpers::{bpf_get_smp_processor_id, bpf_ktime_get_boot_ns},
    macros::map,
    maps::Array,
};
use sensor_common::{Fold, Settings, fold::SLOTS_PER_CPU};

const BPF_F_MMAPABLE: u32 = 1 << 10;

/// The slots of all CPUs, one CPU's after the other; the agent says how many there are, and reads them.
#[map]
static FOLDS: Array<Fold> = Array::with_max_entries(SLOTS_PER_CPU, BPF_F_MMAPABLE);

/// What is the same in repetitions.
#[derive(Clone, Copy)]
pub struct Key {
    pub start_time: u64,
    pub inode: u64,
    pub tgid: u32,
    pub device: u32,
    pub kind: u32,
}

/// What an event is.
pub enum Folding {
    /// The first of its kind: to be reported, with this index (from 1) and this generation. Its repetitions are counted.
    First(&'static mut Fold, u32),
    /// One more of what was reported: it is counted here, unless a rule (from 1) mutes it.
    Again(u32),
    /// There is no slot for it.
    Alone,
}

/// Looks for the slot of `key`, and counts there or takes it.
#[inline(always)]
pub fn fold(settings: &Settings, key: &Key) -> Folding {
    if settings.fold_window == 0 {
        return Folding::Alone;
    }
    // SAFETY: helpers without arguments.
    let (cpu, now) = unsafe { (bpf_get_smp_processor_id() as u32, bpf_ktime_get_boot_ns()) };
    let hash = hash(key);
    let base = cpu.wrapping_mul(SLOTS_PER_CPU);
    let candidates = [
        base + (hash as u32 & (SLOTS_PER_CPU - 1)),
        base + ((hash >> 32) as u32 & (SLOTS_PER_CPU - 1)),
    ];
    let mut index = 0;
    while index < 2 {
        if let Some(slot) = slot(candidates[index])
            && is_of(slot, key)
            && now.wrapping_sub(slot.last) <= settings.fold_window
            && (slot.rule == 0 || slot.settings == settings.generation)
        {
            return again(slot, now);
        }
        index += 1;
    }
    index = 0;
    while index < 2 {
        if let Some(slot) = slot(candidates[index])
            && slot.count == reported(slot)
        {
            take(slot, key, now);
            return Folding::First(slot, candidates[index] + 1);
        }
        index += 1;
    }
    Folding::Alone
}

#[inline(always)]
fn again(slot: &mut Fold, now: u64) -> Folding {
    if slot.rule == 0 {
        if slot.count == reported(slot) {
            slot.first = now;
        }
        slot.count += 1;
    }
    slot.last = now;
    Folding::Again(slot.rule)
}

/// Its repetitions are muted by a rule, as it is.
#[inline(always)]
pub fn mute(slot: &mut Fold, settings: &Settings, rule: u32) {
    slot.settings = settings.generation;
    slot.rule = rule + 1;
}

#[inline(always)]
fn take(slot: &mut Fold, key: &Key, now: u64) {
    slot.generation = slot.generation.wrapping_add(2);
    slot.start_time = key.start_time;
    slot.inode = key.inode;
    slot.tgid = key.tgid;
    slot.device = key.device;
    slot.kind = key.kind;
    slot.rule = 0;
    slot.first = now;
    slot.last = now;
}

#[inline(always)]
fn is_of(slot: &Fold, key: &Key) -> bool {
    slot.tgid == key.tgid
        && slot.inode == key.inode
        && slot.kind == key.kind
        && slot.device == key.device
        && slot.start_time == key.start_time
}

#[inline(always)]
fn slot(index: u32) -> Option<&'static mut Fold> {
    // SAFETY: only programs on this CPU write to this CPU's slots, and they do not interrupt each other.
    FOLDS.get_ptr_mut(index).map(|slot| unsafe { &mut *slot })
}

/// What the agent writes at any time.
#[inline(always)]
fn reported(slot: &Fold) -> u64 {
    // SAFETY: a reference is valid and aligned.
    unsafe { core::ptr::read_volatile(&raw const slot.reported) }
}

#[inline(always)]
fn hash(key: &Key) -> u64 {
    let mixed =
        key.inode ^ key.start_time.rotate_left(32) ^ u64::from(key.tgid) << 20 ^ u64::from(key.kind) << 44;
    let mixed = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}
