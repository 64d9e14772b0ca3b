//! Claims a context for a program that can be preempted; see [`sensor_common::context`] for why, and why it is sound.

use core::arch::asm;

use aya_ebpf::{macros::map, maps::PerCpuArray};
use sensor_common::{
    Class,
    context::{CONTEXTS, of_class},
};

/// How many are in each context of this CPU, or have come to see whether it is free.
#[map]
static CLAIMS: PerCpuArray<u64> = PerCpuArray::with_max_entries(CONTEXTS, 0);

/// A context that is this run's alone.
pub struct Context {
    number: u32,
}

impl Context {
    /// One of those for signals of `class`; `None` where all of them are taken.
    #[inline(always)]
    pub fn claim(class: Class) -> Option<Self> {
        let number = claim_context(class as u32);
        (number != 0).then_some(Self { number })
    }

    /// Its number, from 1.
    #[inline(always)]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Leaves it to others.
    #[inline(always)]
    pub fn leave(self) {
        if let Some(claims) = CLAIMS.get_ptr_mut(self.number) {
            // SAFETY: a counter of this CPU.
            unsafe { add(claims, u64::MAX) };
        }
    }
}

/// A function of its own, so that the verifier does not follow what comes after for each context by itself.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn claim_context(class: u32) -> u32 {
    let (first, count) = of_class(class);
    let mut index = 0;
    while index < count {
        let Some(claims) = CLAIMS.get_ptr_mut(first + index) else {
            return 0;
        };
        // SAFETY: a counter of this CPU.
        unsafe {
            add(claims, 1);
            if core::ptr::read_volatile(claims) == 1 {
                return first + index;
            }
            add(claims, u64::MAX);
        }
        index += 1;
    }
    0
}

/// Adds in one instruction, whose result nobody gets: 5.10 has none that returns it.
#[inline(always)]
pub unsafe fn add(counter: *mut u64, number: u64) {
    // SAFETY: the caller's counter is valid and aligned.
    unsafe {
        asm!("lock *(u64 *)({counter} + 0) += {number}", counter = in(reg) counter, number = in(reg) number);
    }
}
