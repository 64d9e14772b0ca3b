//! Sensor's kernel programs, one file per subject.
#![feature(asm_experimental_arch)]
#![no_std]
#![no_main]

mod bind;
mod call;
mod context;
mod credential;
mod datagram;
mod dns;
mod emit;
mod environment;
mod file;
mod filter;
mod fold;
mod hook;
mod identity;
mod integrity;
mod kernel;
mod network;
mod path;
mod process;
mod report;
mod scratch;
mod sequence;
mod share;
mod tls;
mod twin;
mod udp;
mod uring;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
