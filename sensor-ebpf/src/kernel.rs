//! Reading kernel memory: offsets come from [`LAYOUT`], which the agent filled in from the kernel's BTF.

use core::{mem::MaybeUninit, ptr};

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use sensor_common::{Features, Layout};

/// An address in the kernel. The verifier knows what is behind it; Rust need not.
pub type Address = *const u8;

/// Replaced by the loader; read it by [`offset!`] only.
#[unsafe(no_mangle)]
pub static LAYOUT: Layout = Layout::UNKNOWN;

#[unsafe(no_mangle)]
static FEATURES: Features = Features::LEAST;

/// Reads one field of the layout. A macro, because a whole [`Layout`] would crowd the stack.
macro_rules! offset {
    ($field:ident) => {
        $crate::kernel::read_only(&$crate::kernel::LAYOUT.$field)
    };
}
pub(crate) use offset;

#[inline(always)]
pub fn features() -> Features {
    // SAFETY: the static is initialised, aligned and never written to.
    unsafe { ptr::read_volatile(&raw const FEATURES) }
}

/// Whether orders of system calls are looked at.
#[inline(always)]
pub fn are_sequences_wanted() -> bool {
    read_only(&FEATURES.sequences) != 0
}

/// Reads a value that the loader may have replaced, so that the compiler cannot assume what it holds.
#[inline(always)]
pub fn read_only(field: &u32) -> u32 {
    // SAFETY: a reference is valid and aligned.
    unsafe { ptr::read_volatile(field) }
}

/// The same value, of which the compiler knows nothing: what it knew, and left out of the code, the verifier would not know. It stays where it is
/// between checks and calls, hence without `pure`.
#[inline(always)]
pub fn opaque(mut value: u64) -> u64 {
    // SAFETY: moves a register to itself.
    unsafe { core::arch::asm!("{0} = {0}", inout(reg) value, options(nomem, nostack)) };
    value
}

/// How to read through a kernel address.
pub trait Access {
    /// The value at `base + offset`; zero where the address turns out to be bad.
    ///
    /// # Safety
    /// `T` must be valid for any bytes.
    unsafe fn load<T: Copy>(base: Address, offset: u32) -> T;
}

/// Plain loads: for addresses whose type the verifier knows. It checks the offset against the type, and a
/// fault reads as zero.
pub struct Direct;

/// Loads by helper: for addresses whose type the verifier does not know.
pub struct Probe;

impl Access for Direct {
    #[inline(always)]
    unsafe fn load<T: Copy>(base: Address, offset: u32) -> T {
        // SAFETY: the verifier refuses the program unless this is within the kernel's type.
        unsafe { ptr::read_volatile(base.wrapping_add(offset as usize).cast::<T>()) }
    }
}

impl Access for Probe {
    #[inline(always)]
    unsafe fn load<T: Copy>(base: Address, offset: u32) -> T {
        let source = base.wrapping_add(offset as usize);
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: the helper writes the whole value, zeroes where the address is bad. That its result is not looked at
        // matters: the verifier would follow both outcomes of every load, and they multiply.
        unsafe {
            bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, source.cast());
            value.assume_init()
        }
    }
}

/// Plain loads where the kernel tells the type of the current task (5.11), else loads by helper: for [`identity::current`] and what
/// its fields lead to.
///
/// [`identity::current`]: crate::identity::current
pub struct Current;

impl Access for Current {
    #[inline(always)]
    unsafe fn load<T: Copy>(base: Address, offset: u32) -> T {
        // SAFETY: as the caller's.
        unsafe {
            if features().current_task_btf == 1 {
                Direct::load(base, offset)
            } else {
                Probe::load(base, offset)
            }
        }
    }
}

/// The first words of a structure, read at once into memory of the caller's: what a helper costs is its call, hardly what it copies.
pub struct Head<const WORDS: usize> {
    base: Address,
    words: *const [u64; WORDS],
}

impl<const WORDS: usize> Head<WORDS> {
    /// Zeroes where the address is bad.
    ///
    /// # Safety
    /// `room` must be valid for writes, and for reads as long as this lives.
    #[inline(always)]
    pub unsafe fn read(base: Address, room: *mut [u64; WORDS]) -> Self {
        // SAFETY: the helper writes all words, zeroes where the address is bad.
        unsafe { bpf_probe_read_kernel(room.cast(), 8 * WORDS as u32, base.cast()) };
        Self { base, words: room }
    }

    /// The value at `offset`, wherever the kernel has it.
    ///
    /// # Safety
    /// `T` must be valid for any bytes.
    #[inline(always)]
    pub unsafe fn field<T: Copy>(&self, offset: u32) -> T {
        // SAFETY: within the words, which were written; the verifier, which knows the offset, sees one of both ways.
        unsafe {
            if offset as usize + size_of::<T>() > 8 * WORDS {
                return Probe::load(self.base, offset);
            }
            ptr::read_volatile(self.words.cast::<u8>().add(offset as usize).cast::<T>())
        }
    }
}

/// From 1 to `N`, a power of two, in a way that the verifier follows.
#[inline(always)]
pub fn bounded<const N: usize>(length: u32) -> u32 {
    const { assert!(N.is_power_of_two()) };
    let last = opaque(u64::from(if length as usize > N { N as u32 } else { length }).wrapping_sub(1));
    ((last & (N as u64 - 1)) + 1) as u32
}
