//! This process and this host, as far as verdicts must leave them alone.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use ipnet::IpNet;

use super::{Destination, EnforceError};
use crate::{
    capture::cgroup,
    host::{ProcessId, file, proc::ProcDir},
};

/// This process.
pub(super) fn agent() -> Result<ProcessId, EnforceError> {
    let tgid = std::process::id();
    let directory = ProcDir::open(tgid).map_err(EnforceError::Proc)?;
    let stat = directory
        .stat()
        .ok_or_else(|| EnforceError::Proc(std::io::ErrorKind::NotFound.into()))?;
    Ok(ProcessId {
        tgid,
        start: stat.start,
    })
}

/// Device, in the kernel's encoding, and inode of what this process runs.
pub(super) fn executable() -> Option<(u32, u64)> {
    let file = file::key_at(Path::new("/proc/self/exe"))?;
    Some((file.device, file.inode))
}

/// Refuses the root of the hierarchy, and every cgroup that this process is in.
pub(super) fn check_cgroup(id: u64) -> Result<(), EnforceError> {
    if id <= cgroup::ROOT_INODE {
        return Err(EnforceError::RootCgroup);
    }
    let text = fs::read_to_string("/proc/self/cgroup").map_err(EnforceError::Proc)?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::/"));
    let mount = cgroup::mount().map_err(|error| EnforceError::Cgroup(error.to_string()))?;
    let is_id = |folder: &Path| fs::metadata(folder).is_ok_and(|found| found.ino() == id);
    let path = mount.join(own.unwrap_or_default());
    if path.ancestors().any(is_id) {
        return Err(EnforceError::Own);
    }
    Ok(())
}

/// The addresses of this host, in this network namespace; loopback's are left out.
pub(super) fn addresses() -> BTreeSet<Destination> {
    let v4 = fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let v6 = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let v4 = local_v4(&v4).into_iter().map(IpAddr::from);
    let v6 = v6.lines().filter_map(local_v6).map(IpAddr::from);
    v4.chain(v6)
        .filter(|address| !address.is_loopback())
        .map(|address| Destination::all(IpNet::from(address)))
        .collect()
}

/// Leaves of the routing table that are local: the address is on the line before.
fn local_v4(table: &str) -> BTreeSet<Ipv4Addr> {
    let mut last: Option<Ipv4Addr> = None;
    let mut found = BTreeSet::new();
    for line in table.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line == "/32 host LOCAL" {
            found.extend(last);
        }
    }
    found
}

fn local_v6(line: &str) -> Option<Ipv6Addr> {
    let digits = line.split(' ').next()?;
    u128::from_str_radix(digits, 16).ok().map(Ipv6Addr::from_bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_the_kernels_tables() {
        let table = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.0.0.0\n        /24 link UNICAST\n\
                     Local:\n           |-- 10.0.0.2\n              /32 host LOCAL\n           |-- 10.0.0.255\n              /32 link BROADCAST\n";
        assert_eq!(Vec::from_iter(local_v4(table)), [Ipv4Addr::new(10, 0, 0, 2)]);
        let line = "fd000000000000000000000000000002 04 40 00 80     eth0";
        assert_eq!(local_v6(line), Some("fd00::2".parse().unwrap()));
        assert_eq!(local_v6(""), None);
    }

    #[test]
    fn the_cgroup_of_this_process_is_refused() {
        assert!(matches!(check_cgroup(1), Err(EnforceError::RootCgroup)));
    }
}
