//! What a verdict is on.

use std::{fmt, net::IpAddr, os::unix::ffi::OsStrExt as _, path::PathBuf};

use ipnet::IpNet;
use sensor_common::{
    FileKey, UNSET_ID,
    verdict::{END_BITS, End, PORT_BITS, Path},
};

use super::{EnforceError, here, tree};
use crate::{host::ProcessId, time::BootTime};

/// What is refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Running this file, under whatever name: by device and inode, as events tell them. A script is known so where the kernel asks security
    /// modules; elsewhere name its path. An inode is another file's some time after its last name is removed.
    File(FileKey),
    /// Running what has this path, whether it is there yet or not, in whatever mount namespace; as events tell it.
    Path(PathBuf),
    /// Running anything, by those who logged in as this user, whoever they have become since.
    User(u32),
    /// Reaching these ends, or being reached by them.
    End(Destination),
    /// Any network, loopback included, for processes in this cgroup (v2, by its id) and below it, 15 levels deep.
    Cgroup(u64),
    /// Any network, loopback included, for this process and all that descend from it.
    Tree(ProcessId),
    /// Any network but what is allowed; see [`Enforcer::isolate`](super::Enforcer::isolate).
    Host,
}

/// Ends of connections: a network, and a port of theirs or any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Destination {
    /// Where; a single address is a network of its own.
    pub network: IpNet,
    /// The far end's port; `None` for all, and for what has no ports.
    pub port: Option<u16>,
}

/// A verdict in force, or past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What is refused.
    pub subject: Subject,
    /// Until when.
    pub until: BootTime,
    /// Programs, packets and attempts to send that it has stopped. Those of an end are counted at the smallest network that holds it.
    pub hits: u64,
    /// Whose exec it has stopped last, if it stops any.
    pub last: Option<ProcessId>,
}

impl Subject {
    /// Whether there may be a verdict on it at all.
    pub(super) fn check(&self) -> Result<(), EnforceError> {
        match self {
            Self::Path(path) if Path::keys(path.as_os_str().as_bytes()).is_none() => {
                Err(EnforceError::Path(path.clone()))
            }
            Self::User(UNSET_ID) => Err(EnforceError::NobodyLoggedIn),
            Self::End(end) if end.covers_loopback() => Err(EnforceError::Loopback(*end)),
            Self::Cgroup(id) => here::check_cgroup(*id),
            Self::Tree(top) => tree::check(*top),
            _ => Ok(()),
        }
    }
}

/// Loopback networks: IPv4's as it is written as IPv6, and IPv6's.
const LOOPBACKS: [(u128, u32); 2] = [(0xffff_7f00_0000, 104), (1, 128)];

impl Destination {
    /// All ports of a network.
    #[must_use]
    pub fn all(network: IpNet) -> Self {
        Self {
            network: network.trunc(),
            port: None,
        }
    }

    /// One port of a network.
    #[must_use]
    pub fn port(network: IpNet, port: u16) -> Self {
        Self {
            network: network.trunc(),
            port: Some(port),
        }
    }

    /// Address and length of its prefix, IPv4 as IPv4-mapped IPv6.
    pub(super) fn prefix(self) -> (u128, u32) {
        let length = u32::from(self.network.prefix_len());
        match self.network.network() {
            IpAddr::V4(address) => (address.to_ipv6_mapped().to_bits(), 96 + length),
            IpAddr::V6(address) => (address.to_bits(), length),
        }
    }

    /// Whether all of `other` is in it, port included.
    pub(super) fn covers(self, other: Self) -> bool {
        self.port == other.port && contains(self.prefix(), other.prefix())
    }

    fn covers_loopback(self) -> bool {
        let own = self.prefix();
        LOOPBACKS
            .into_iter()
            .any(|loopback| contains(own, loopback) && !contains(loopback, own))
    }

    /// As the kernel looks it up: bits that count, and the key.
    pub(super) fn key(self) -> (u32, End) {
        let (address, length) = self.prefix();
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(address.to_be_bytes().as_chunks::<4>().0) {
            *word = u32::from_ne_bytes(*bytes);
        }
        let end = End {
            port: self.port.unwrap_or(0).into(),
            address: words,
        };
        (PORT_BITS + length, end)
    }

    /// The reverse of [`key`](Self::key); `None` for what is no such key.
    pub(super) fn from_key(bits: u32, end: End) -> Option<Self> {
        let length = bits.checked_sub(PORT_BITS).filter(|_| bits <= END_BITS)?;
        let mut bytes = [0; 16];
        for (to, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(end.address) {
            *to = word.to_ne_bytes();
        }
        let address = std::net::Ipv6Addr::from(bytes);
        let network = match address.to_ipv4_mapped() {
            Some(v4) if length >= 96 => IpNet::new(v4.into(), (length - 96) as u8),
            _ => IpNet::new(address.into(), length as u8),
        };
        Some(Self {
            network: network.ok()?,
            port: u16::try_from(end.port).ok().filter(|port| *port != 0),
        })
    }
}

fn contains((outer, outer_length): (u128, u32), (inner, length): (u128, u32)) -> bool {
    let mask = u128::MAX.checked_shl(128 - outer_length).unwrap_or(0);
    outer_length <= length && outer & mask == inner & mask
}

impl From<IpNet> for Destination {
    fn from(network: IpNet) -> Self {
        Self::all(network)
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.network, self.port) {
            (network, None) => write!(f, "{network}"),
            (IpNet::V4(network), Some(port)) => write!(f, "{network}:{port}"),
            (IpNet::V6(network), Some(port)) => write!(f, "[{network}]:{port}"),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => write!(
                f,
                "executable with inode {} on device {}:{}",
                file.inode,
                file.device >> 20,
                file.device & 0xf_ffff
            ),
            Self::Path(path) => write!(f, "executable {}", path.display()),
            Self::User(uid) => write!(f, "programs of login user {uid}"),
            Self::End(end) => write!(f, "connections with {end}"),
            Self::Cgroup(id) => write!(f, "network of cgroup {id}"),
            Self::Tree(top) => write!(f, "network of process {} and its descendants", top.tgid),
            Self::Host => write!(f, "network of this host"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(text: &str) -> Destination {
        match text.split_once(' ') {
            Some((network, port)) => Destination::port(network.parse().unwrap(), port.parse().unwrap()),
            None => Destination::all(text.parse().unwrap()),
        }
    }

    #[test]
    fn keys_are_read_back() {
        for text in [
            "10.0.0.0/8",
            "192.0.2.1/32 443",
            "fd00::/64",
            "2001:db8::1/128 53",
            "fe80::/10",
        ] {
            let (bits, key) = end(text).key();
            assert_eq!(Destination::from_key(bits, key), Some(end(text)), "{text}");
        }
    }

    #[test]
    fn what_would_cut_the_host_from_itself_is_told() {
        for text in ["0.0.0.0/0", "126.0.0.0/7", "::/0", "::/127", "::ffff:0:0/96"] {
            let refused = Subject::End(end(text)).check();
            assert!(matches!(refused, Err(EnforceError::Loopback(_))), "{text}");
        }
        for text in [
            "127.0.0.0/8",
            "127.9.0.0/16",
            "128.0.0.0/1",
            "::1/128",
            "fd00::/8",
        ] {
            assert!(Subject::End(end(text)).check().is_ok(), "{text}");
        }
    }

    #[test]
    fn networks_cover_what_lies_in_them_at_the_same_port() {
        assert!(end("10.0.0.0/8").covers(end("10.1.0.0/16")));
        assert!(end("10.0.0.0/8").covers(end("10.0.0.0/8")));
        assert!(!end("10.1.0.0/16").covers(end("10.0.0.0/8")));
        assert!(!end("10.0.0.0/8").covers(end("10.1.0.0/16 443")));
        assert!(!end("fd00::/8").covers(end("10.0.0.0/8")));
    }
}
