//! By which name an address was asked for: remembered from the answers of name servers, so that a connection can be shown with the
//! name of its other end.
//!
//! It is the last name whose answer held the address, whoever on the host asked; a server can answer what it likes. Bounded:
//! the address that was used the longest ago is forgotten.

use std::{net::IpAddr, num::NonZeroUsize, sync::Arc};

use lru::LruCache;

use super::dns::{DnsAnswer, DnsMessage};

/// Addresses that are remembered: with the longest names that there are, about 4 MiB.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(4_096).unwrap();

/// Names of addresses.
#[derive(Debug)]
pub(super) struct Names(LruCache<IpAddr, Arc<str>>);

impl Names {
    pub(super) fn new() -> Self {
        Self(LruCache::new(REMEMBERED))
    }

    /// Remembers what an answer says.
    pub(super) fn learn(&mut self, message: &DnsMessage) {
        if !message.answer || message.name.is_empty() {
            return;
        }
        let addresses = message.answers.iter().filter_map(|answer| match answer {
            DnsAnswer::Address(address) => Some(address.to_canonical()),
            DnsAnswer::Name(_) => None,
        });
        let mut name = None;
        for address in addresses {
            let name = name.get_or_insert_with(|| Arc::<str>::from(&*message.name));
            self.0.put(address, Arc::clone(name));
        }
    }

    /// The name of `address`, if it was ever asked for.
    pub(super) fn of(&mut self, address: IpAddr) -> Option<Arc<str>> {
        self.0.get(&address.to_canonical()).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(name: &str, address: IpAddr) -> DnsMessage {
        DnsMessage {
            answer: true,
            name: name.into(),
            answers: vec![DnsAnswer::Name("alias".into()), DnsAnswer::Address(address)],
            ..DnsMessage::default()
        }
    }

    #[test]
    fn an_address_has_the_name_that_was_asked_for_last() {
        let mut names = Names::new();
        let address: IpAddr = "192.0.2.7".parse().unwrap();
        assert_eq!(names.of(address), None);
        names.learn(&message("a.example", address));
        names.learn(&message("b.example", address));
        assert_eq!(
            names.of("::ffff:192.0.2.7".parse().unwrap()).as_deref(),
            Some("b.example")
        );
    }

    #[test]
    fn questions_teach_nothing() {
        let mut names = Names::new();
        let address: IpAddr = "192.0.2.7".parse().unwrap();
        let mut question = message("a.example", address);
        question.answer = false;
        names.learn(&question);
        assert_eq!(names.of(address), None);
    }

    #[test]
    fn memory_is_bounded() {
        let mut names = Names::new();
        for address in 0..10_000_u32 {
            names.learn(&message("a.example", std::net::Ipv4Addr::from(address).into()));
        }
        assert_eq!(names.0.len(), REMEMBERED.get());
    }
}
