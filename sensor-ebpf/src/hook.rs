//! Operations as the security modules are asked for leave to do them: the same records as for system calls, but of what the
//! kernel really works on, whoever asked it and however.
//!
//! A hook comes before its operation, so that the result is not known; the record says so. Each program leaves alone what its
//! rung was not chosen for, which the program of a lower rung reports then. They always give leave.
//!
//! These programs can be preempted: what they need to have alone they claim with a [`Context`].

mod file;
mod host;

use aya_ebpf::{EbpfContext as _, programs::LsmContext};
use sensor_common::{Operation, Signal, call::Hook, record::operation_flags};

use crate::{
    context::Context,
    emit::{self, Admitted},
    file::facts,
    identity,
    kernel::{Access, Address, Probe, offset},
    path::{self, Tail},
    scratch::{self, Caller, Draft},
};

/// A record that is being written.
struct Report {
    body: *mut Operation,
    tail: Tail,
    caller: Caller,
}

/// Which of a record's two paths.
#[derive(Clone, Copy)]
enum Part {
    Path = 0,
    Target = 2,
}

/// Reports an operation, if the rung was chosen for its signal. `fill` writes what it is done to, the path before the target.
#[inline(always)]
fn report(signal: Signal, hook: Hook, fill: impl FnOnce(&Report)) -> i32 {
    if !is_taken_over(signal) {
        return 0;
    }
    emit::admit_alone(signal, |admitted, context| write(admitted, context, hook, fill));
    0
}

#[inline(always)]
fn write(admitted: Admitted, context: &Context, hook: Hook, fill: impl FnOnce(&Report)) {
    let caller = Caller::Context(context.number());
    let Some(Draft {
        header, body, tail, ..
    }) = scratch::begin::<Operation>(caller)
    else {
        return admitted.lose();
    };
    // SAFETY: the scratch memory is this context's alone.
    unsafe {
        identity::write_current(&raw mut (*header).identity);
        let Some(admitted) = admitted.unless_own((*header).identity.tgid) else {
            return;
        };
        (*body) = Operation {
            call: hook as u32,
            flags: operation_flags::ATTEMPT,
            ..EMPTY
        };
        fill(&Report { body, tail, caller });
        admitted.output::<Operation>(header, tail);
    }
}

#[inline(always)]
fn is_taken_over(signal: Signal) -> bool {
    emit::settings().is_some_and(|settings| settings.is_taken_over(signal))
}

pub const EMPTY: Operation = Operation {
    result: 0,
    values: [0; 8],
    inode: 0,
    device: 0,
    mode: 0,
    call: 0,
    flags: 0,
    fold: 0,
    fold_generation: 0,
    lengths: [0; 4],
};

impl Report {
    #[inline(always)]
    fn values(&self, values: [u64; 3]) {
        // SAFETY: the body is this context's.
        unsafe {
            (*self.body).values[0] = values[0];
            (*self.body).values[1] = values[1];
            (*self.body).values[2] = values[2];
        }
    }

    /// Which file it is.
    #[inline(always)]
    fn inode(&self, inode: Address) {
        let facts = facts(inode);
        // SAFETY: the body is this context's.
        unsafe {
            (*self.body).inode = facts.inode;
            (*self.body).device = facts.device;
            (*self.body).mode = facts.mode;
        }
    }

    /// Which file a name stands for, if for any.
    #[inline(always)]
    fn inode_of(&self, dentry: Address) {
        // SAFETY: `Probe` checks every address.
        self.inode(unsafe { Probe::load(dentry, offset!(dentry_inode)) });
    }

    /// What is called `dentry` in `mount`.
    #[inline(always)]
    fn path(&self, part: Part, dentry: Address, mount: Address) -> u32 {
        // SAFETY: body and tail are this context's.
        unsafe {
            let before = self.tail.length();
            let end = path::walk(self.caller, dentry, mount);
            if end == path::CUT {
                (*self.body).flags |= operation_flags::TRUNCATED;
            }
            let length = (self.tail.length() - before) as u32;
            (*self.body).lengths[part as usize] = length;
            if length == 0 && end == path::ROOTED {
                (*self.body).lengths[part as usize + 1] = path::push_root(self.tail);
            }
            end
        }
    }

    /// A text of the kernel's.
    #[inline(always)]
    fn text(&self, part: Part, text: Address) {
        // SAFETY: body and tail are this context's.
        unsafe {
            (*self.body).lengths[part as usize + 1] = self.tail.push_str(text);
        }
    }

    #[inline(always)]
    fn flag(&self, flag: u32) {
        // SAFETY: the body is this context's.
        unsafe { (*self.body).flags |= flag };
    }
}

/// An argument of a hook as a plain number: the verifier lets no typed address into a function that it checks by itself.
#[inline(always)]
fn argument<T: Copy>(ctx: &LsmContext, position: u32) -> T {
    // SAFETY: the helper reads the context like any memory; an argument takes eight bytes.
    unsafe { Probe::load(ctx.as_ptr().cast_const().cast(), position.wrapping_mul(8)) }
}

/// Dentry and mount of a `struct path`.
#[inline(always)]
fn place(path: Address) -> (Address, Address) {
    // SAFETY: `Probe` checks every address.
    unsafe {
        (
            Probe::load(path, offset!(path_dentry)),
            Probe::load(path, offset!(path_mnt)),
        )
    }
}
