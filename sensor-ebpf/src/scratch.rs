//! Where records of variable length are put together: too large for the stack. On each CPU, one for each tracepoint program that
//! needs one, since one can interrupt another but never itself, and one for each [context](crate::context) of programs that can be
//! preempted: 25 KiB each.

use aya_ebpf::{macros::map, maps::PerCpuArray};
use sensor_common::{Header, context::CONTEXTS};

use crate::{
    file::Words,
    path::{TAIL_SIZE, Tail},
};

/// Room for a header and the largest body: the record ends with the tail, wherever it begins.
const FRONT: usize = 384;

#[repr(C)]
struct Scratch {
    cursor: u64,
    heads: [Words; 2],
    front: [u8; FRONT],
    tail: [u8; TAIL_SIZE],
}

/// Whose scratch memory.
#[derive(Clone, Copy)]
pub enum Caller {
    Exec,
    Call,
    /// Who is in a context, by its number.
    Context(u32),
}

impl Caller {
    /// Contexts are numbered from 1.
    #[inline(always)]
    pub fn number(self) -> u32 {
        match self {
            Self::Exec => 0,
            Self::Call => 1,
            Self::Context(number) => number.wrapping_add(1),
        }
    }
}

#[map]
static SCRATCH_RECORDS: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1 + CONTEXTS, 0);

/// A record under construction.
#[derive(Clone, Copy)]
pub struct Draft<T> {
    pub header: *mut Header,
    pub body: *mut T,
    pub tail: Tail,
    /// Room for what is read to fill it in.
    pub heads: *mut [Words; 2],
}

/// A new record with an empty tail; header and body hold whatever they held.
#[inline(always)]
pub fn begin<T>(caller: Caller) -> Option<Draft<T>> {
    let draft = begun(caller.number())?;
    // SAFETY: the cursor lies in the map's value.
    unsafe { *draft.tail.cursor = 0 };
    Some(draft)
}

/// The record that a caller has begun, for a function that is verified by itself and knows the caller by number. What is in its tail stays.
#[inline(always)]
pub fn begun<T>(caller: u32) -> Option<Draft<T>> {
    const { assert!(size_of::<Header>() + size_of::<T>() <= FRONT && size_of::<T>().is_multiple_of(8)) };
    let scratch = SCRATCH_RECORDS.get_ptr_mut(caller)?;
    let tail = tail_of(scratch);
    // SAFETY: only addresses within the map's value are taken; the body lies right before the tail, the header before it.
    unsafe {
        let front: *mut u8 = (&raw mut (*scratch).front).cast();
        let body = front.add(FRONT - size_of::<T>());
        let header = front.add(FRONT - size_of::<T>() - size_of::<Header>());
        Some(Draft {
            header: header.cast(),
            body: body.cast(),
            tail,
            heads: &raw mut (*scratch).heads,
        })
    }
}

/// The tail of a caller's record, for a function that is verified by itself and knows the caller by number.
#[inline(always)]
pub fn tail(caller: u32) -> Option<Tail> {
    SCRATCH_RECORDS.get_ptr_mut(caller).map(tail_of)
}

#[inline(always)]
fn tail_of(scratch: *mut Scratch) -> Tail {
    // SAFETY: only addresses within the map's value are taken.
    unsafe {
        Tail {
            cursor: &raw mut (*scratch).cursor,
            bytes: (&raw mut (*scratch).tail).cast(),
        }
    }
}
