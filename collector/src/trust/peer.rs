//! Who is at the other end of a connection.

use std::{fmt, net::SocketAddr};

use sensor_trust::{Identity, Name, Role};

/// Somebody who is connected.
#[derive(Clone, Debug)]
pub enum Peer {
    /// By their certificate.
    Known {
        /// Who.
        identity: Identity,
        /// From where.
        address: SocketAddr,
    },
    /// They have shown none.
    Stranger(SocketAddr),
    /// Somebody on this host, where there is no TLS.
    Unchecked(SocketAddr),
    /// Root, or whoever the collector runs as, by the socket in the data directory.
    Owner {
        /// Their user id.
        uid: u32,
    },
}

impl Peer {
    /// The host that they deliver for: an agent speaks as itself only. `None`: as whom they like.
    #[must_use]
    pub fn speaks_for(&self) -> Option<&Name> {
        match self {
            Self::Known { identity, .. } if identity.role == Role::Agent => Some(&identity.name),
            _ => None,
        }
    }

    /// Who they are in the audit.
    #[must_use]
    pub fn who(&self) -> String {
        match self {
            Self::Known { identity, .. } => identity.to_string(),
            Self::Stranger(address) | Self::Unchecked(address) => address.to_string(),
            Self::Owner { uid } => format!("uid {uid} on the collector's host"),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known { identity, address } => write!(f, "{identity} at {address}"),
            _ => f.write_str(&self.who()),
        }
    }
}
