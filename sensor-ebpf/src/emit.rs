//! Rings and counters: every event that a hook offers is counted here, once, as submitted, muted, aggregated
//! or lost.

use aya_ebpf::{
    btf_maps::{ArrayOfMaps, RingBuf},
    helpers::{
        bpf_get_smp_processor_id, bpf_ktime_get_boot_ns, bpf_ringbuf_output, bpf_ringbuf_query,
        bpf_ringbuf_reserve, bpf_ringbuf_submit,
    },
    macros::{btf_map, map},
    maps::{Array, PerCpuArray},
};
use core::ffi::c_void;
use sensor_common::{
    Account, Class, Header, Identity, RINGS_PER_CLASS, Settings, Signal,
    context::{ACCOUNT_BLOCKS, NO_CONTEXT, SEQUENCE_BITS, UNPREEMPTED},
    signal::{BULK, WAKING},
};

use crate::{
    context::{self, Context},
    filter,
    kernel::{features, opaque},
    path::{TAIL_SIZE, Tail},
    share,
};

type Ring = RingBuf<u64, 4096>;

/// `class * RINGS_PER_CLASS + group of CPUs`; the agent makes the rings and puts them here.
#[btf_map]
static RINGS: ArrayOfMaps<Ring, { Class::COUNT * RINGS_PER_CLASS }> = ArrayOfMaps::new();

#[map]
static ACCOUNTS: PerCpuArray<Account> =
    PerCpuArray::with_max_entries(ACCOUNT_BLOCKS * Signal::COUNT as u32, 0);

#[map]
static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);

/// Until when the agent looks by itself, in nanoseconds of `CLOCK_BOOTTIME`: nobody needs to wake it before. It writes it
/// into memory that it shares.
#[map]
static LOOK_AT: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

const BPF_F_MMAPABLE: u32 = 1 << 10;
const BPF_RB_NO_WAKEUP: u64 = 1;
const BPF_RB_FORCE_WAKEUP: u64 = 2;
const BPF_RB_AVAIL_DATA: u64 = 0;

/// An event that was counted as seen and is wanted. It must be submitted, or dropped with [`Admitted::mute`] or
/// [`Admitted::fold`].
pub struct Admitted {
    /// Number of the signal: a table may say it.
    signal: u32,
    /// Whose share of the ring it takes; 0: nobody's.
    tgid: u32,
    context: u32,
    account: &'static mut Account,
    settings: &'static Settings,
}

/// A record of fixed length, as it lies in the ring.
#[repr(C)]
pub struct Record<T> {
    pub header: Header,
    pub body: T,
}

#[inline(always)]
pub fn settings() -> Option<&'static Settings> {
    SETTINGS.get(0)
}

/// Counts an occurrence of `signal`. `None` if it is not wanted.
#[inline(always)]
pub fn admit(signal: Signal) -> Option<Admitted> {
    admit_number(signal as u32)
}

/// The same for a signal that a table names.
#[inline(always)]
pub fn admit_number(signal: u32) -> Option<Admitted> {
    admit_in(UNPREEMPTED, signal)
}

#[inline(always)]
fn admit_in(context: u32, signal: u32) -> Option<Admitted> {
    let account = ACCOUNTS.get_ptr_mut(account_index(context, signal))?;
    // SAFETY: the entry is this CPU's and this context's, and nobody else is in it.
    let account = unsafe { &mut *account };
    account.seen += 1;
    let settings = settings()?;
    if !bit(settings.enabled, signal) {
        account.muted += 1;
        return None;
    }
    Some(Admitted {
        signal,
        tgid: 0,
        context,
        account,
        settings,
    })
}

/// Counts an occurrence of `signal` in a context of its own, for a program that can be preempted, or whose signal another program
/// counts too. `then` has both to itself; it drops what is admitted, or submits it.
#[inline(always)]
pub fn admit_alone(signal: Signal, then: impl FnOnce(Admitted, &Context)) {
    let Some(context) = Context::claim(signal.class()) else {
        return lose(signal as u32);
    };
    if let Some(admitted) = admit_in(context.number(), signal as u32) {
        then(admitted, &context);
    }
    context.leave();
}

/// Counts an occurrence for which every context is taken. By single instructions: others may be in the midst of counting here.
#[inline(always)]
fn lose(signal: u32) {
    if let Some(account) = ACCOUNTS.get_ptr_mut(account_index(NO_CONTEXT, signal)) {
        // SAFETY: the entry is this CPU's.
        unsafe {
            context::add(&raw mut (*account).seen, 1);
            context::add(&raw mut (*account).lost, 1);
        }
    }
}

#[inline(always)]
fn account_index(context: u32, signal: u32) -> u32 {
    context.wrapping_mul(Signal::COUNT as u32).wrapping_add(signal)
}

impl Admitted {
    /// Leaves it out on purpose.
    #[inline(always)]
    pub fn mute(self) {
        self.account.muted += 1;
    }

    /// There is no memory for it.
    #[inline(always)]
    pub fn lose(self) {
        self.account.lost += 1;
    }

    /// Counts it with others of its kind.
    #[inline(always)]
    pub fn fold(self) {
        self.account.aggregated += 1;
    }

    /// Mutes it by a rule of the operator.
    #[inline(always)]
    pub fn mute_by(self, rule: u32) {
        filter::count(rule);
        self.mute();
    }

    /// What the agent wants at the moment.
    #[inline(always)]
    pub fn settings(&self) -> &'static Settings {
        self.settings
    }

    /// Mutes it if the agent itself did it. From here on it takes of the share of that process.
    #[inline(always)]
    pub fn unless_own(mut self, tgid: u32) -> Option<Self> {
        if tgid == self.settings.agent_tgid {
            self.mute();
            return None;
        }
        self.tgid = tgid;
        Some(self)
    }

    /// Mutes it if the agent itself did it, or somebody whom a rule mutes.
    #[inline(always)]
    pub fn unless_muted(self, identity: &Identity) -> Option<Self> {
        let settings = self.settings;
        let admitted = self.unless_own(identity.tgid)?;
        if settings.mutes == 0 {
            return Some(admitted);
        }
        admitted.unless_by(filter::subject(settings, identity))
    }

    /// Mutes it if a rule does.
    #[inline(always)]
    pub fn unless_by(self, rule: Option<u32>) -> Option<Self> {
        match rule {
            Some(rule) => {
                self.mute_by(rule);
                None
            }
            None => Some(self),
        }
    }

    /// Reserves a record, lets `fill` write identity and body, and submits it.
    #[inline(always)]
    pub fn submit<T>(self, fill: impl FnOnce(*mut Record<T>)) {
        let cpu = cpu();
        let Some(ring) = RINGS.get(self.ring_index(cpu)) else {
            self.account.lost += 1;
            return;
        };
        let ring = core::ptr::from_ref(ring).cast_mut().cast::<c_void>();
        if self.is_throttled(ring) {
            self.account.throttled += 1;
            return;
        }
        // SAFETY: a ring and a constant size; the result is checked.
        let record = unsafe { bpf_ringbuf_reserve(ring, size_of::<Record<T>>() as u64, 0) };
        let record = record.cast::<Record<T>>();
        if record.is_null() {
            self.account.lost += 1;
            return;
        }
        // SAFETY: the reservation is as large as the record, eight-byte aligned, and ours until submitted.
        unsafe {
            fill(record);
            let header = &raw mut (*record).header;
            self.write_header(header, size_of::<Record<T>>() as u32, cpu);
            bpf_ringbuf_submit(record.cast(), self.wakeup(ring, &*header));
        }
    }

    /// Copies a record out of scratch memory: a header, a body of type `T` behind it, and the tail behind that.
    ///
    /// # Safety
    /// They must lie there.
    #[inline(always)]
    pub unsafe fn output<T>(self, header: *mut Header, tail: Tail) {
        let cpu = cpu();
        let Some(ring) = RINGS.get(self.ring_index(cpu)) else {
            self.account.lost += 1;
            return;
        };
        // Nothing comes between the load and the value that is checked: of one that was put on the stack before its check, Linux 6.1 does
        // not know the bounds.
        // SAFETY: as promised by the caller.
        let tail_length = unsafe { tail.length() };
        if tail_length > TAIL_SIZE as u64 {
            self.account.lost += 1;
            return;
        }
        let length = (size_of::<Header>() + size_of::<T>()) as u64 + opaque(tail_length);
        let ring = core::ptr::from_ref(ring).cast_mut().cast::<c_void>();
        if self.is_throttled(ring) {
            self.account.throttled += 1;
            return;
        }
        // SAFETY: as promised by the caller.
        let result = unsafe {
            self.write_header(header, length as u32, cpu);
            bpf_ringbuf_output(ring, header.cast(), length, self.wakeup(ring, &*header))
        };
        if result != 0 {
            self.account.lost += 1;
        }
    }

    /// While the ring is filling up, each process has its share of what is left.
    #[inline(always)]
    fn is_throttled(&self, ring: *mut c_void) -> bool {
        if self.tgid == 0 {
            return false;
        }
        // SAFETY: a ring and a constant.
        let waiting = unsafe { bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA) };
        if waiting < self.settings.pressure[usize::from(bit(BULK, self.signal))] {
            return false;
        }
        // SAFETY: a helper without arguments.
        let now = unsafe { bpf_ktime_get_boot_ns() };
        !share::take(self.tgid, self.settings.share, now)
    }

    #[inline(always)]
    fn ring_index(&self, cpu: u32) -> u32 {
        let group = (cpu >> features().cpus_per_ring_log2) & (RINGS_PER_CLASS as u32 - 1);
        u32::from(bit(BULK, self.signal)) * RINGS_PER_CLASS as u32 + group
    }

    /// Everything of the header but the identity.
    ///
    /// The time is taken once the record has its place in the ring: what the agent finds reserved, therefore, is all that
    /// happened before it looked. (Not so for [`output`](Self::output), which reserves and copies in one: a record of it that is held up
    /// just between the two comes late, and is counted.)
    #[inline(always)]
    unsafe fn write_header(&self, header: *mut Header, length: u32, cpu: u32) {
        // SAFETY: the caller's header is valid for writes.
        unsafe {
            let position = self.account.seen - self.account.muted - self.account.aggregated;
            (*header).sequence = position | u64::from(self.context) << SEQUENCE_BITS;
            (*header).length = length;
            (*header).signal = self.signal as u16;
            (*header).cpu = cpu as u16;
            (*header).time = bpf_ktime_get_boot_ns();
        }
    }

    /// Most records wait for one that wakes the reader, for the watermark, or for the reader's own interval: a wake-up costs
    /// more than all the rest of an event. The record that passes the watermark, or a multiple of it, wakes; those behind it
    /// need not, while the reader is on its way.
    #[inline(always)]
    fn wakeup(&self, ring: *mut c_void, header: &Header) -> u64 {
        if bit(WAKING, self.signal) && LOOK_AT.get(0).is_none_or(|look_at| look(look_at) <= header.time) {
            return BPF_RB_FORCE_WAKEUP;
        }
        // SAFETY: a ring and a constant.
        let waiting = unsafe { bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA) };
        let before = waiting.saturating_sub(u64::from(header.length));
        let watermark = self.settings.watermark;
        if watermark != 0 && waiting / watermark != before / watermark {
            BPF_RB_FORCE_WAKEUP
        } else {
            BPF_RB_NO_WAKEUP
        }
    }
}

#[inline(always)]
fn bit(bits: u64, number: u32) -> bool {
    bits >> (number & 63) & 1 != 0
}

/// What the agent writes at any time.
#[inline(always)]
fn look(look_at: &u64) -> u64 {
    // SAFETY: a reference is valid and aligned.
    unsafe { core::ptr::read_volatile(look_at) }
}

#[inline(always)]
fn cpu() -> u32 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_get_smp_processor_id() as u32 }
}
