//! Works with files and the network by io_uring alone.

use std::{ffi::CString, net::SocketAddrV4, os::fd::RawFd};

use anyhow::{Context as _, Result, ensure};
use io_uring::{IoUring, opcode, squeue::Entry, types::Fd};

/// `uring FOLDER ADDRESS`: makes a file and reads it, connects and sends. The ring itself is all that it asks for by calls.
pub(super) fn run(args: &[String]) -> Result<()> {
    let folder = args.first().context("no folder is named")?;
    let address: SocketAddrV4 = args.get(1).context("no address is named")?.parse()?;
    let mut ring = Ring(IoUring::new(8)?);
    let path = CString::new(format!("{folder}/made"))?;
    let here = Fd(libc::AT_FDCWD);
    let made = opcode::OpenAt::new(here, path.as_ptr())
        .flags(libc::O_CREAT | libc::O_RDWR)
        .mode(0o600);
    let file = ring.ask("open", &made.build())?;
    let (text, mut buffer) = (*b"text", [0_u8; 4]);
    ring.ask("write", &opcode::Write::new(Fd(file), text.as_ptr(), 4).build())?;
    ring.ask(
        "read",
        &opcode::Read::new(Fd(file), buffer.as_mut_ptr(), 4)
            .offset(0)
            .build(),
    )?;
    ensure!(buffer == text, "what was written was not read");
    let again = opcode::OpenAt::new(here, path.as_ptr()).flags(libc::O_WRONLY);
    ring.ask("open again", &again.build())?;
    // Often enough to be counted rather than reported.
    for _ in 0..100 {
        ring.ask("nop", &opcode::Nop::new().build())?;
    }

    // SAFETY: plain numbers. A ring can make sockets since 5.19 only.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0) };
    let to = libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from_ne_bytes(address.ip().octets()),
        },
        sin_zero: [0; 8],
    };
    let length = size_of::<libc::sockaddr_in>() as u32;
    let connect = opcode::Connect::new(Fd(socket), (&raw const to).cast(), length);
    ring.ask("connect", &connect.build())?;
    ring.ask("send", &opcode::Send::new(Fd(socket), text.as_ptr(), 4).build())?;
    Ok(())
}

struct Ring(IoUring);

impl Ring {
    /// Submits one request and waits for it; everything that it points to outlives that.
    fn ask(&mut self, what: &'static str, request: &Entry) -> Result<RawFd> {
        // SAFETY: what the request points to lives in the caller until this returns.
        unsafe { self.0.submission().push(request)? };
        self.0.submit_and_wait(1)?;
        let done = self.0.completion().next().context("nothing was completed")?;
        if done.result() < 0 {
            return Err(std::io::Error::from_raw_os_error(-done.result())).context(what);
        }
        Ok(done.result())
    }
}
