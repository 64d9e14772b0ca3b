//! The processes that run already when the agent starts, and the sockets that they listen on.
//!
//! One pass over `/proc`, in which processes come and go: one that ends on the way is left out, and its
//! own events tell the rest. What is read is as true as `/proc` is: start times are rounded down to a
//! tick, and the current directory is the one of now rather than of the exec.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use sensor_common::{Identity, record::ListenerKey};

use super::{
    Facts, Image, Namespaces, ProcessId,
    cgroup::Cgroups,
    proc::{ProcDir, process_ids},
};

/// Longest table of sockets that is read, in bytes: about 27,000 sockets.
const SOCKET_TABLE: u64 = 4 << 20;

/// Most descriptors of one process that are looked at for sockets.
const DESCRIPTORS: usize = 65_536;

const TCP_LISTEN: &str = "0A";

/// A process as `/proc` tells it; its start is rounded down to a tick.
#[derive(Debug)]
pub(super) struct Found {
    /// All but what it runs.
    pub facts: Facts,
    /// What it runs.
    pub image: Image,
}

/// A TCP socket that some process listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Network namespace of the socket, as an inode number.
    pub net_ns: u32,
    /// Where it listens.
    pub address: SocketAddr,
    /// The process that has it open; the first of them where several share it. Its start is rounded down to a tick.
    pub process: ProcessId,
}

impl Listener {
    /// The same, as the kernel programs keep it. Of its owner they learn no more than which process it is.
    #[must_use]
    pub fn to_kernel(&self) -> (ListenerKey, Identity) {
        let address = match self.address.ip() {
            ip if ip.is_unspecified() => [0; 16],
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        };
        let key = ListenerKey {
            address,
            net_ns: self.net_ns,
            port: u32::from(self.address.port()),
        };
        let ProcessId { tgid, start } = self.process;
        (
            key,
            Identity {
                tgid,
                start_time: start.0,
                ..Identity::default()
            },
        )
    }
}

/// What `/proc` says of the process of this directory, unless it has ended.
pub(super) fn find(process: &ProcDir, tgid: u32, cgroups: &mut Cgroups) -> Option<Found> {
    let stat = process.stat()?;
    let facts = Facts {
        id: ProcessId {
            tgid,
            start: stat.start,
        },
        // Its start is looked up by the caller, who knows the other processes.
        parent: (stat.parent != 0).then_some(ProcessId {
            tgid: stat.parent,
            start: crate::time::BootTime(0),
        }),
        credentials: process.credentials()?,
        workload: cgroups.of_process(process),
        namespaces: process.namespaces(),
        kernel_thread: stat.kernel_thread,
    };
    Some(Found {
        facts,
        image: process.image(&stat),
    })
}

/// Every process, at most `limit`, parents before children where the kernel lists them so.
pub(super) fn processes(limit: usize, cgroups: &mut Cgroups) -> Vec<Found> {
    let mut found: Vec<Found> = process_ids(Path::new("/proc"))
        .take(limit)
        .filter_map(|tgid| find(&ProcDir::open(tgid).ok()?, tgid, cgroups))
        .collect();
    let starts: HashMap<u32, ProcessId> = found
        .iter()
        .map(|found| (found.facts.id.tgid, found.facts.id))
        .collect();
    for found in &mut found {
        found.facts.parent = found
            .facts
            .parent
            .and_then(|parent| starts.get(&parent.tgid).copied());
    }
    found
}

/// The TCP sockets on which `processes` (id and namespaces) listen, in every network namespace among theirs.
#[must_use]
pub fn listeners(processes: &[(ProcessId, Namespaces)]) -> Vec<Listener> {
    let mut sockets: HashMap<u64, (u32, SocketAddr)> = HashMap::new();
    let mut read: HashSet<u32> = HashSet::new();
    for (id, namespaces) in processes {
        if read.insert(namespaces.net) {
            let table = socket_tables(id.tgid);
            sockets.extend(table.map(|(inode, address)| (inode, (namespaces.net, address))));
        }
    }
    let mut listeners = Vec::new();
    for (id, _) in processes {
        if sockets.is_empty() {
            break;
        }
        let Some((process, _)) = ProcDir::open_same(*id) else {
            continue;
        };
        for inode in process.sockets(DESCRIPTORS) {
            if let Some((net_ns, address)) = sockets.remove(&inode) {
                listeners.push(Listener {
                    net_ns,
                    address,
                    process: *id,
                });
            }
        }
    }
    listeners
}

/// Inode and address of the listening sockets in the network namespace of this process.
fn socket_tables(tgid: u32) -> impl Iterator<Item = (u64, SocketAddr)> {
    ["net/tcp", "net/tcp6"].into_iter().flat_map(move |file| {
        let table = ProcDir::open(tgid)
            .and_then(|process| process.read(file, SOCKET_TABLE))
            .unwrap_or_default();
        String::from_utf8_lossy(&table)
            .lines()
            .filter_map(listening)
            .collect::<Vec<_>>()
    })
}

/// Inode and address of a line of `/proc/net/tcp` or `tcp6`, if the socket listens.
fn listening(line: &str) -> Option<(u64, SocketAddr)> {
    let mut fields = line.split_ascii_whitespace();
    let local = fields.nth(1)?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?.parse().ok()?;
    (state == TCP_LISTEN).then_some((inode, socket_address(local)?))
}

/// `0100007F:1F90` is 127.0.0.1:8080: words in the host's byte order, the port in plain hexadecimal.
fn socket_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |index: usize| {
        let digits = address.get(index * 8..index * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let address: IpAddr = match address.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let mut bytes = [0; 16];
            for (index, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(index)?);
            }
            Ipv6Addr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::host::CgroupMount;

    #[test]
    fn listening_sockets_are_told_from_others() {
        let line = |local: &str, state: &str| {
            format!(
                "   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  0  0 1234 1 00 100 0"
            )
        };
        let v4 = u32::from_ne_bytes([127, 0, 0, 1]);
        let v6 = format!(
            "{:08X}{:08X}{:08X}{:08X}",
            0,
            0,
            0,
            u32::from_ne_bytes([0, 0, 0, 1])
        );
        let listen = |local: &str| listening(&line(local, "0A"));
        assert_eq!(
            listen(&format!("{v4:08X}:1F90")),
            Some((1234, "127.0.0.1:8080".parse().unwrap()))
        );
        assert_eq!(
            listen(&format!("{v6}:0016")),
            Some((1234, "[::1]:22".parse().unwrap()))
        );
        assert_eq!(listening(&line("0100007F:1F90", "01")), None);
        for bad in [
            "",
            "sl local_address",
            "0: x:1 y 0A a b c d e",
            "0: ééééé:1 y 0A a b c d 7",
        ] {
            assert_eq!(listening(bad), None, "{bad}");
        }
    }

    #[test]
    fn this_process_and_its_sockets_are_found() {
        let sockets = ["127.0.0.1:0", "[::1]:0"].map(|address| TcpListener::bind(address).ok());
        let mut cgroups = Cgroups::new(CgroupMount::detect().ok());
        let found = processes(65_536, &mut cgroups);
        let this = found
            .iter()
            .find(|found| found.facts.id.tgid == std::process::id())
            .unwrap();
        let parent = this.facts.parent.unwrap();
        assert!(found.iter().any(|found| found.facts.id == parent));
        let listeners = listeners(&[(this.facts.id, this.facts.namespaces)]);
        for socket in sockets.into_iter().flatten() {
            let expected = Listener {
                net_ns: this.facts.namespaces.net,
                address: socket.local_addr().unwrap(),
                process: this.facts.id,
            };
            assert!(listeners.contains(&expected), "{expected:?} not in {listeners:?}");
        }
    }
}
