//! Who is connected, and who has to go.
//!
//! Whoever has not shown a certificate is a stranger: [`STRANGERS`] of them at most, and [`FROM_ADDRESS`] from one address (one /64 of
//! IPv6). One more, and the oldest of them is cut off, not the newest refused: who means to enrol takes milliseconds, who means to
//! be in the way has to come again and again. Those who are known have [`OF_ONE`] connections each; more, and their oldest goes.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sensor_trust::Identity;
use tokio::sync::oneshot;

/// Strangers at once.
pub const STRANGERS: usize = 1_024;

/// Strangers at once from one address.
pub const FROM_ADDRESS: usize = 128;

/// Connections of one who is known.
pub const OF_ONE: usize = 32;

/// Why somebody is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cut {
    /// Too many like them have come since.
    #[error("too many connections that say nothing; this was the oldest")]
    Crowded,
    /// They have come too often.
    #[error("too many connections of the same; this was the oldest")]
    TooMany,
    /// They are let in no more.
    #[error("revoked")]
    Revoked,
}

/// Everybody who is connected.
#[derive(Clone, Debug, Default)]
pub struct Lobby(Arc<Mutex<People>>);

#[derive(Debug, Default)]
struct People {
    next: u64,
    /// The oldest first, in each.
    strangers: BTreeMap<u64, (IpAddr, oneshot::Sender<Cut>)>,
    from: HashMap<IpAddr, BTreeMap<u64, ()>>,
    known: HashMap<Identity, BTreeMap<u64, oneshot::Sender<Cut>>>,
}

/// Somebody is there as long as this lives.
#[derive(Debug)]
pub struct Entered {
    lobby: Lobby,
    number: u64,
    identity: Option<Identity>,
}

impl Lobby {
    /// Lets a stranger in, who hears by what is returned that they have to go.
    #[must_use]
    pub fn enter(&self, address: IpAddr) -> (Entered, oneshot::Receiver<Cut>) {
        let (cut, hears) = oneshot::channel();
        let address = place(address);
        let mut people = self.people();
        let number = people.next;
        people.next += 1;
        let of_address = people.from.entry(address).or_default();
        of_address.insert(number, ());
        let crowd = (of_address.len() > FROM_ADDRESS)
            .then(|| of_address.keys().next().copied())
            .flatten();
        people.strangers.insert(number, (address, cut));
        let oldest = (people.strangers.len() > STRANGERS)
            .then(|| people.strangers.keys().next().copied())
            .flatten();
        if let Some(goes) = crowd.or(oldest) {
            people.forget_stranger(goes, Some(Cut::Crowded));
        }
        let lobby = self.clone();
        (
            Entered {
                lobby,
                number,
                identity: None,
            },
            hears,
        )
    }

    /// Cuts off all that somebody has, and returns how many that were.
    pub fn cut(&self, identity: &Identity) -> usize {
        let cut = self.people().known.remove(identity).unwrap_or_default();
        let count = cut.len();
        for (_, sender) in cut {
            // They may have gone by themselves.
            let _ = sender.send(Cut::Revoked);
        }
        count
    }

    /// Connections of somebody.
    #[must_use]
    pub fn of(&self, identity: &Identity) -> usize {
        self.people().known.get(identity).map_or(0, BTreeMap::len)
    }

    /// Strangers, and connections of those who are known.
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        let people = self.people();
        (
            people.strangers.len(),
            people.known.values().map(BTreeMap::len).sum(),
        )
    }

    fn people(&self) -> MutexGuard<'_, People> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl People {
    fn forget_stranger(&mut self, number: u64, cut: Option<Cut>) -> Option<oneshot::Sender<Cut>> {
        let (address, sender) = self.strangers.remove(&number)?;
        if let Some(of_address) = self.from.get_mut(&address) {
            of_address.remove(&number);
            if of_address.is_empty() {
                self.from.remove(&address);
            }
        }
        match cut {
            Some(cut) => {
                let _ = sender.send(cut);
                None
            }
            None => Some(sender),
        }
    }
}

impl Entered {
    /// They have shown who they are.
    pub fn introduce(&mut self, identity: Identity) {
        let mut people = self.lobby.people();
        let Some(sender) = people.forget_stranger(self.number, None) else {
            return;
        };
        let of_one = people.known.entry(identity.clone()).or_default();
        of_one.insert(self.number, sender);
        if of_one.len() > OF_ONE
            && let Some((_, oldest)) = of_one.pop_first()
        {
            let _ = oldest.send(Cut::TooMany);
        }
        self.identity = Some(identity);
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut people = self.lobby.people();
        people.forget_stranger(self.number, None);
        let Some(identity) = &self.identity else { return };
        if let Some(of_one) = people.known.get_mut(identity) {
            of_one.remove(&self.number);
            if of_one.is_empty() {
                people.known.remove(identity);
            }
        }
    }
}

/// What counts as one place: whoever has an address of IPv6 has 2^64 of them.
fn place(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity::from_uri("sensor://agent/web1").expect("an identity")
    }

    #[test]
    fn one_address_cannot_crowd_out_another() {
        let lobby = Lobby::default();
        let (other, mut other_hears) = lobby.enter([192, 0, 2, 1].into());
        let mut crowd: Vec<_> = (0..10_000).map(|_| lobby.enter([192, 0, 2, 9].into())).collect();
        assert!(other_hears.try_recv().is_err());
        assert_eq!(lobby.count(), (1 + FROM_ADDRESS, 0));
        let cut = crowd
            .iter_mut()
            .filter_map(|(_, hears)| hears.try_recv().ok())
            .count();
        assert_eq!(cut, 10_000 - FROM_ADDRESS);
        assert!(
            crowd
                .last_mut()
                .is_some_and(|(_, hears)| hears.try_recv().is_err()),
            "the newest stays"
        );
        drop((crowd, other));
        assert_eq!(lobby.count(), (0, 0));
        assert!(lobby.people().from.is_empty());
    }

    #[test]
    fn many_addresses_crowd_out_the_oldest() {
        let lobby = Lobby::default();
        let mut crowd: Vec<_> = (0..5_000_u32)
            .map(|n| lobby.enter(IpAddr::from(n.to_be_bytes())))
            .collect();
        assert_eq!(lobby.count().0, STRANGERS);
        assert!(crowd[0].1.try_recv().is_ok() && crowd[4_999].1.try_recv().is_err());
        let v6 = |text: &str| place(text.parse().expect("an address"));
        assert_eq!(v6("2001:db8::1"), v6("2001:db8::ffff:1"));
        assert_ne!(v6("2001:db8::1"), v6("2001:db8:0:1::1"));
    }

    #[test]
    fn who_is_revoked_is_cut_off_everywhere() {
        let lobby = Lobby::default();
        let mut entered: Vec<_> = (0..3).map(|_| lobby.enter([192, 0, 2, 1].into())).collect();
        entered[0].0.introduce(identity());
        entered[1].0.introduce(identity());
        assert_eq!((lobby.of(&identity()), lobby.count()), (2, (1, 2)));
        assert_eq!(lobby.cut(&identity()), 2);
        let heard: Vec<_> = entered
            .iter_mut()
            .map(|(_, hears)| hears.try_recv().ok())
            .collect();
        assert_eq!(heard, [Some(Cut::Revoked), Some(Cut::Revoked), None]);
        drop(entered);
        assert_eq!(lobby.count(), (0, 0));
    }

    #[test]
    fn who_comes_too_often_loses_the_oldest() {
        let lobby = Lobby::default();
        let mut entered: Vec<_> = (0..=OF_ONE).map(|_| lobby.enter([192, 0, 2, 1].into())).collect();
        entered
            .iter_mut()
            .for_each(|(entered, _)| entered.introduce(identity()));
        assert_eq!(lobby.of(&identity()), OF_ONE);
        assert_eq!(entered[0].1.try_recv(), Ok(Cut::TooMany));
    }
}
