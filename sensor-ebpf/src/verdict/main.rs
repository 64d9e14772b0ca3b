//! What the kernel refuses by itself, by verdicts that the agent has put into maps: an object of its own, so that a host without
//! verdicts has none of it.
//!
//! Invariants: what a program cannot find out stops nothing. No verdict holds after its time, which the programs look at; the agent
//! need not be there. Nothing stops process 1, the agent, or a file that is spared.
#![feature(asm_experimental_arch)]
#![no_std]
#![no_main]

mod exec;
#[path = "../kernel.rs"]
#[allow(dead_code, reason = "shared with the programs that report")]
mod kernel;
mod maps;
mod network;
mod packet;
mod path;
mod tree;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
