//! Names in the place of users, addresses and paths, that stay the same and tell nothing: HMAC-SHA-256 of what they stand for (RFC 2104), cut.
//!
//! The same key gives the same pseudonym on every host, so that events can be joined; another key, another tenant, gives others. Each kind of thing is
//! hashed apart: a user and a directory of the same name have nothing in common.
//!
//! - **Users** become `user:` and 64 bits; their ids a number from 2³¹ up. What a distribution sets up (ids below 1000, and 65534) identifies nobody and
//!   stays: that something ran as root must be seen. In a path, the name of a home is that of a user.
//! - **Addresses** become `private:` or `public:` and 64 bits: opaque. Pseudonyms that keep prefixes would keep networks apart, and give
//!   one away for each address that somebody can make the host talk to. Loopback, link-local, multicast and unspecified ones stay.
//!   Names of hosts become `host:` and 64 bits.
//! - **Paths** keep what every host has: all below `/usr`, `/etc` and the like, and elsewhere the first part, or two below `/var`. Each further
//!   part becomes 48 bits, with its ending, so that what lies in one directory is seen to.

use std::{borrow::Cow, net::IpAddr};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sensor_behaviour::novelty::Veil;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::{Key, address, ids, path};

/// What can be given pseudonyms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Names and ids of people.
    Users,
    /// Addresses, and names of hosts.
    Addresses,
    /// Paths of what people keep.
    Paths,
}

/// Gives pseudonyms, of some kinds, by a key.
#[derive(Clone)]
pub struct Pseudonyms {
    mac: Hmac<Sha256>,
    kinds: Vec<Kind>,
}

impl std::fmt::Debug for Pseudonyms {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Pseudonyms")
            .field("kinds", &self.kinds)
            .finish()
    }
}

/// Ids below belong to a distribution, not to people; and that of nobody.
const PEOPLE: u32 = 1_000;
const NOBODY: u32 = 65_534;

/// Whether the user of this id is one that a distribution sets up.
#[must_use]
pub fn is_system(uid: u32) -> bool {
    uid < PEOPLE || uid == NOBODY || uid == u32::MAX
}

impl Pseudonyms {
    /// Gives pseudonyms of `kinds` by `key`.
    #[must_use]
    pub fn new(key: &Key, kinds: &[Kind]) -> Self {
        // A shorter key is filled up with zeroes to a block of the digest.
        let mut block = [0; 64];
        block[..key.bytes().len()].copy_from_slice(key.bytes());
        Self {
            mac: Hmac::new(&block.into()),
            kinds: kinds.to_vec(),
        }
    }

    /// Whether this kind is given pseudonyms.
    #[must_use]
    pub fn of(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }

    /// What stands between this host and who counts what is normal on hosts.
    #[must_use]
    pub fn veil(&self) -> Veil {
        let half = |part| self.digest("veil", part);
        let mut key = [0; 16];
        key[..8].copy_from_slice(&half(b"first"));
        key[8..].copy_from_slice(&half(b"second"));
        Veil::new(&key)
    }

    fn digest(&self, kind: &str, text: &[u8]) -> [u8; 8] {
        let mut mac = self.mac.clone();
        mac.update(kind.as_bytes());
        mac.update(b"\0");
        mac.update(text);
        let bytes = mac.finalize().into_bytes();
        let mut digest = [0; 8];
        digest.copy_from_slice(&bytes[..8]);
        digest
    }

    fn digits(&self, kind: &str, text: &[u8]) -> String {
        format!("{:016x}", u64::from_be_bytes(self.digest(kind, text)))
    }

    /// Pseudonym of a name of a user, whatever the kinds.
    #[must_use]
    pub fn user(&self, name: &str) -> String {
        format!("user:{}", self.digits("user", name.as_bytes()))
    }

    /// Pseudonym of an id of a user or a group: from 2³¹ up; the same for those of a distribution.
    #[must_use]
    pub fn id(&self, id: u32) -> u32 {
        if is_system(id) || !self.of(Kind::Users) {
            return id;
        }
        let [a, b, c, d, ..] = self.digest("id", &id.to_be_bytes());
        u32::from_be_bytes([a, b, c, d]) | 1 << 31
    }

    /// Pseudonym of an address, however it is written; what is none stays.
    #[must_use]
    pub fn address(&self, text: &str) -> String {
        match text.parse::<IpAddr>().map(|address| address.to_canonical()) {
            Ok(address) if self.of(Kind::Addresses) => match address::class(address) {
                Some(class) => {
                    let digits = match address {
                        IpAddr::V4(address) => self.digits("address", &address.octets()),
                        IpAddr::V6(address) => self.digits("address", &address.octets()),
                    };
                    format!("{class}:{digits}")
                }
                None => text.to_owned(),
            },
            _ => text.to_owned(),
        }
    }

    /// Pseudonym of the name of a host, without case; of an address, where it is one.
    #[must_use]
    pub fn host(&self, name: &str) -> String {
        if name.is_empty() || !self.of(Kind::Addresses) || name == "localhost" {
            return name.to_owned();
        }
        if name.parse::<IpAddr>().is_ok() {
            return self.address(name);
        }
        format!(
            "host:{}",
            self.digits("host", name.trim_end_matches('.').to_ascii_lowercase().as_bytes())
        )
    }

    /// A path, with pseudonyms for its parts; of users alone, for the name of a home.
    #[must_use]
    pub fn path(&self, path: &str) -> String {
        let parts = self.of(Kind::Paths);
        if !parts && !self.of(Kind::Users) {
            return path.to_owned();
        }
        path::map(path, parts, |home, part| match home {
            true => self.user(part),
            false => self.digits("path", part.as_bytes())[..12].to_owned(),
        })
    }

    /// A cgroup, a workload or a subject: with pseudonyms for the ids of users in it.
    #[must_use]
    pub fn ids<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.of(Kind::Users) {
            true => ids::map(text, |id| self.id(id)),
            false => Cow::Borrowed(text),
        }
    }

    /// An argument or a sentence: with pseudonyms for the addresses, paths and ids of users in it.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        let text = self.ids(text);
        let text = match self.of(Kind::Addresses) {
            true => address::map(&text, |address| self.address(address)),
            false => text,
        };
        path::each(&text, |path| self.path(path)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pseudonyms(kinds: &[Kind]) -> Pseudonyms {
        Pseudonyms::new(&Key::new([7; 32]), kinds)
    }

    const ALL: [Kind; 3] = [Kind::Users, Kind::Addresses, Kind::Paths];

    #[test]
    fn the_same_key_gives_the_same_and_another_another() {
        let (one, other) = (pseudonyms(&ALL), Pseudonyms::new(&Key::new([8; 32]), &ALL));
        assert_eq!(one.user("anna"), pseudonyms(&ALL).user("anna"));
        assert_ne!(one.user("anna"), other.user("anna"));
        assert_ne!(one.user("anna"), one.user("anne"));
        assert_eq!(one.address("::ffff:10.0.0.1"), one.address("10.0.0.1"));
        assert_ne!(one.id(1000), other.id(1000));
    }

    /// What it is computed as is part of the contract: hosts of different versions must agree.
    #[test]
    fn pseudonyms_do_not_change_from_version_to_version() {
        let all = pseudonyms(&ALL);
        insta::assert_snapshot!(all.user("anna"), @"user:157beced00aff924");
        insta::assert_snapshot!(all.id(1000), @"2757173794");
        insta::assert_snapshot!(all.address("10.0.0.1"), @"private:051f90d73edc0680");
        insta::assert_snapshot!(all.host("DB.example.org."), @"host:1b0878cfc9fd17ef");
        insta::assert_snapshot!(all.path("/home/anna/plans/merger.odt"), @"/home/user:157beced00aff924/edcf7d65e7d6/5327d3f73afb.odt");
        insta::assert_snapshot!(all.text("connects to 93.184.216.34:443 as /srv/shop/run.sh"), @"connects to public:85fdbc267b7d3e48:443 as /srv/31b1a8a7d07a/33f2d894d6be.sh");
    }

    #[test]
    fn what_identifies_nobody_stays() {
        let all = pseudonyms(&ALL);
        for address in [
            "127.0.0.1",
            "::1",
            "0.0.0.0",
            "224.0.0.1",
            "169.254.1.2",
            "fe80::1",
            "no address",
        ] {
            assert_eq!(all.address(address), address);
        }
        for path in [
            "/usr/bin/curl",
            "/etc/passwd",
            "/proc/self/exe",
            "/",
            "",
            "relative/path",
            "/var/log",
        ] {
            assert_eq!(all.path(path), path);
        }
        assert_eq!((all.id(0), all.id(33), all.id(65_534)), (0, 33, 65_534));
        assert_eq!(all.ids("unit:nginx.service"), "unit:nginx.service");
    }

    #[test]
    fn only_what_was_chosen_is_changed() {
        let text = "/home/anna/a.txt from 10.0.0.1 in session:user@1000";
        let none = pseudonyms(&[]);
        assert_eq!(none.text(text), text);
        let users = pseudonyms(&[Kind::Users]).text(text);
        assert!(
            users.contains("a.txt")
                && users.contains("10.0.0.1")
                && !users.contains("anna")
                && !users.contains("@1000"),
            "{users}"
        );
        let addresses = pseudonyms(&[Kind::Addresses]).text(text);
        assert!(
            addresses.contains("/home/anna/a.txt from private:"),
            "{addresses}"
        );
        let paths = pseudonyms(&[Kind::Paths]).text(text);
        assert!(
            !paths.contains("/a.txt") && paths.contains(".txt from 10.0.0.1"),
            "{paths}"
        );
    }
}
