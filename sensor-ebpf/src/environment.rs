//! Variables of a new program that make a loader or an interpreter run somebody else's code. No other variable leaves the kernel.

use core::arch::asm;

use aya_ebpf::helpers::generated::bpf_probe_read_user_str;
use sensor_common::record::PATH_MAX;

use crate::scratch::{self, Caller};

/// Variables that are looked at.
const VARIABLES_MAX: u32 = 128;

/// The first eight bytes of names that count, and how many of the bytes do.
const NAMES: [(&[u8; 8], u32); 10] = [
    (b"LD_\0\0\0\0\0", 3),
    (b"GCONV_PA", 8),
    (b"GLIBC_TU", 8),
    (b"BASH_ENV", 8),
    (b"PYTHONPA", 8),
    (b"PERL5LIB", 8),
    (b"PERL5OPT", 8),
    (b"RUBYOPT=", 8),
    (b"NODE_OPT", 8),
    (b"JAVA_TOO", 8),
];

/// Appends those between `start` and `end`, a NUL after each, to the record of `caller`. 1 if every variable was looked at, else 0.
///
/// A function of its own with nothing but numbers as arguments, so that the verifier checks its loop once.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn push_variables(start: u64, end: u64, caller: u32) -> u32 {
    let Some(tail) = scratch::tail(caller) else {
        return 0;
    };
    let mut at = start;
    let mut step = 0;
    while step < VARIABLES_MAX {
        step += 1;
        if at >= end {
            return 1;
        }
        // SAFETY: the helpers check the addresses of the process; the tail checks its own bounds.
        unsafe {
            let Some(room) = tail.end() else { return 0 };
            let copied = bpf_probe_read_user_str(room.cast(), PATH_MAX as u32, at as *const _);
            // What is longer is cut, and what follows the cut is not the beginning of a variable.
            if copied <= 0 || copied >= PATH_MAX as i64 {
                return 0;
            }
            if counts(first_bytes(room)) {
                tail.advance(copied as u64);
            }
            at += copied as u64;
        }
    }
    0
}

/// The first eight bytes of a text in the tail; what lies behind its end may be anything, and is not in any of the names.
#[inline(always)]
unsafe fn first_bytes(text: *const u8) -> u64 {
    let bytes: u64;
    // SAFETY: the tail has more room than that behind every beginning; the kernels' processors load from any address.
    unsafe {
        asm!("{bytes} = *(u64 *)({text} + 0)", bytes = out(reg) bytes, text = in(reg) text, options(readonly, nostack));
    }
    bytes
}

#[inline(always)]
fn counts(head: u64) -> bool {
    let mut counts = false;
    let mut index = 0;
    while index < NAMES.len() {
        let (name, bytes) = NAMES[index];
        let mask = u64::MAX >> (64 - 8 * bytes);
        counts |= head & mask == u64::from_le_bytes(*name) & mask;
        index += 1;
    }
    counts
}

/// See [`push_variables`].
#[inline(always)]
pub fn append(caller: Caller, start: u64, end: u64) -> bool {
    push_variables(start, end, caller.number()) == 1
}
