//! The kernel's audit messages, as everybody may listen to them who has `CAP_AUDIT_READ`. Nothing is taken away from an audit daemon.

use std::{io, os::fd::OwnedFd};

use rustix::net::{
    AddressFamily, RecvFlags, SocketFlags, SocketType, bind,
    netlink::{self, SocketAddrNetlink},
    recv, socket_with,
    sockopt::set_socket_recv_buffer_size,
};

use super::{Look, TURN_MAX, audit};

/// `AUDIT_NLGRP_READLOG`, as a bit.
const READLOG: u32 = 1;
/// `struct nlmsghdr`: length, type, flags, sequence, port.
const HEADER: usize = 16;
/// For what comes within a second on a busy host.
const BUFFER: usize = 1 << 20;

pub(super) struct AuditSocket {
    socket: OwnedFd,
}

impl AuditSocket {
    pub(super) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            flags,
            Some(netlink::AUDIT),
        )?;
        bind(&socket, &SocketAddrNetlink::new(0, READLOG))?;
        // The kernel gives less to whom it does not trust; then more may be lost, which is said.
        let _ = set_socket_recv_buffer_size(&socket, BUFFER);
        Ok(Self { socket })
    }

    pub(super) fn read(&mut self, look: &mut Look) {
        let mut buffer = [0_u8; HEADER + audit::MESSAGE_MAX];
        // Most messages on a host with audit rules are not about sessions: more of them are passed over.
        for _ in 0..TURN_MAX * 16 {
            match recv(&self.socket, &mut buffer[..], RecvFlags::empty()) {
                Ok((length, _)) => {
                    let Some((header, text)) = buffer[..length.min(buffer.len())].split_at_checked(HEADER)
                    else {
                        continue;
                    };
                    let kind = u16::from_ne_bytes([header[4], header[5]]);
                    look.told.extend(audit::parse(kind, text));
                }
                Err(rustix::io::Errno::NOBUFS) => look.lost += 1,
                Err(_) => return,
            }
        }
    }
}
