//! How the hosts are: who is connected, who is gone and how, whose clock was moved, who loses events.
//!
//! Silence is a signal. An agent that ends in order says so, by ending its stream; one that is killed, cut off or whose host is
//! down does not. Either becomes an [incident](incidents) when it has not come back for [`GRACE`], and is over when it does. A connection that
//! has become silent is noticed by the keep-alive of HTTP/2; together that is less than 30 s.
//!
//! A clock is watched without trusting it: an event has the time since its host booted, which nobody can set, beside the time of day. Between two
//! events of one boot both must have gone on by the same.
//!
//! Bounds: a few hundred bytes for each host that is connected or has gone since the collector began.

pub mod incidents;
pub mod watch;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use sensor_proto::v1::{Batch, Host, HostState, entry};

/// For so long an agent may be away without being missed: it is started again, or the collector was.
pub const GRACE: Duration = Duration::from_secs(10);

/// A clock that is set by less is kept in step, not moved.
pub const CLOCK_STEP: Duration = Duration::from_secs(5);

/// A host that lost events is said to lose them for so long after.
const LOSING_FOR: Duration = Duration::from_secs(300);

/// A host whose clock was moved is said to be degraded for so long after.
const DEGRADED_FOR: Duration = Duration::from_secs(900);

/// What is known of all hosts. Cloning gives another handle to the same.
#[derive(Clone, Debug, Default)]
pub struct Fleet(Arc<Mutex<HashMap<String, Live>>>);

/// How an agent went away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// It said that nothing more comes.
    InOrder,
    /// It was there, and then it was not.
    Abruptly,
}

/// What is known of one host.
#[derive(Debug, Default)]
struct Live {
    streams: usize,
    gone: Option<(Instant, Leaving)>,
    /// That it is gone was told.
    told: bool,
    clock: Option<Clock>,
    /// By how much its clock was last moved, in nanoseconds, and when that was noticed.
    moved: Option<(i64, Instant)>,
    moved_told: bool,
    lost: Option<(u64, Instant)>,
}

/// Both clocks of a host at one event.
#[derive(Clone, Copy, Debug)]
struct Clock {
    boot_ns: u64,
    /// Time of day at boot, as it was reckoned then.
    offset_ns: i128,
}

/// Something about a host that has to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// It has been gone for longer than it may.
    Gone {
        /// The host.
        host: String,
        /// How it went.
        leaving: Leaving,
        /// For how long.
        since: Duration,
    },
    /// It is back.
    Back {
        /// The host.
        host: String,
    },
    /// Its clock was moved by so many nanoseconds; forward, if that is positive.
    ClockMoved {
        /// The host.
        host: String,
        /// By how much.
        by_ns: i64,
    },
}

/// A host is connected as long as one of these lives.
#[derive(Debug)]
pub struct Present {
    fleet: Fleet,
    host: String,
    leaving: Leaving,
}

impl Fleet {
    /// Counts a stream of `host` until what it returns is dropped.
    #[must_use]
    pub fn enter(&self, host: &str) -> Present {
        let mut hosts = self.lock();
        let live = hosts.entry(host.to_owned()).or_default();
        live.streams += 1;
        live.gone = None;
        drop(hosts);
        Present {
            fleet: self.clone(),
            host: host.to_owned(),
            leaving: Leaving::Abruptly,
        }
    }

    /// Expects `host`, which was there before the collector began: it is missed if it does not come.
    pub fn expect(&self, host: &str) {
        let mut hosts = self.lock();
        let live = hosts.entry(host.to_owned()).or_default();
        if live.streams == 0 {
            live.gone = Some((Instant::now(), Leaving::Abruptly));
        }
    }

    /// `host` is known to be missed already.
    pub fn missed(&self, host: &str) {
        self.lock().entry(host.to_owned()).or_default().told = true;
    }

    /// Whether `host` has a stream open.
    #[must_use]
    pub fn is_connected(&self, host: &str) -> bool {
        self.lock().get(host).is_some_and(|live| live.streams > 0)
    }

    /// How many hosts have a stream open.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.lock().values().filter(|live| live.streams > 0).count()
    }

    /// What has to be told now. Each is told once.
    #[must_use]
    pub fn news(&self, now: Instant) -> Vec<News> {
        let mut news = Vec::new();
        for (host, live) in self.lock().iter_mut() {
            live.news(host, now, &mut news);
        }
        news
    }

    /// Completes what the store says of a host. `stopped` is whether its agent had last ended in order.
    pub fn describe(&self, host: &mut Host, stopped: bool, now: Instant) {
        let hosts = self.lock();
        let live = hosts.get(&host.name);
        host.connected = live.is_some_and(|live| live.streams > 0);
        let (state, why) = match live {
            Some(live) if live.streams > 0 => live.state(&host.agent_version, now),
            _ if stopped => (HostState::Stopped, "its agent was stopped in order".to_owned()),
            _ => (
                HostState::Silent,
                "its agent is gone and did not say so: it was killed or cut off, or the host is down"
                    .to_owned(),
            ),
        };
        host.set_state(state);
        host.why = why;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Live>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    fn news(&mut self, host: &str, now: Instant, news: &mut Vec<News>) {
        if let Some((since, leaving)) = self.gone
            && self.streams == 0
            && !self.told
            && now.saturating_duration_since(since) >= GRACE
        {
            self.told = true;
            news.push(News::Gone {
                host: host.to_owned(),
                leaving,
                since: now.saturating_duration_since(since),
            });
        }
        if self.streams > 0 && self.told {
            self.told = false;
            news.push(News::Back {
                host: host.to_owned(),
            });
        }
        if let Some((by_ns, _)) = self.moved
            && !self.moved_told
        {
            self.moved_told = true;
            news.push(News::ClockMoved {
                host: host.to_owned(),
                by_ns,
            });
        }
    }

    /// How a host is that is connected.
    fn state(&self, version: &str, now: Instant) -> (HostState, String) {
        let recent = |at: Instant, span: Duration| now.saturating_duration_since(at) < span;
        if let Some((count, at)) = self.lost
            && recent(at, LOSING_FOR)
        {
            let count = match count {
                0 => "events, nobody knows how many,".to_owned(),
                count => format!("{count} events"),
            };
            return (
                HostState::Losing,
                format!("it has lost {count} in the last minutes"),
            );
        }
        if let Some((by_ns, at)) = self.moved
            && recent(at, DEGRADED_FOR)
        {
            return (HostState::Degraded, moved(by_ns));
        }
        let ours = env!("CARGO_PKG_VERSION");
        if is_older(version, ours) {
            return (
                HostState::OutOfDate,
                format!("its agent is {version}, this collector {ours}"),
            );
        }
        (HostState::Alive, String::new())
    }

    fn saw(&mut self, batch: &Batch, now: Instant) {
        for entry in &batch.entries {
            match &entry.body {
                Some(entry::Body::Event(event)) if event.boot_time_ns > 0 => {
                    self.tick(event.boot_time_ns, event.time_ns, now);
                }
                Some(entry::Body::Loss(loss)) => {
                    let before = self
                        .lost
                        .filter(|(_, at)| now.saturating_duration_since(*at) < LOSING_FOR);
                    let count = before.map_or(0, |(count, _)| count).saturating_add(loss.count);
                    self.lost = Some((count, now));
                }
                _ => {}
            }
        }
    }

    /// Compares both clocks with what they were. A boot time that is much earlier is that of another boot.
    fn tick(&mut self, boot_ns: u64, time_ns: u64, now: Instant) {
        let offset_ns = i128::from(time_ns) - i128::from(boot_ns);
        let step = CLOCK_STEP.as_nanos() as u64;
        if let Some(before) = self.clock
            && boot_ns.saturating_add(step) >= before.boot_ns
        {
            let by_ns = offset_ns - before.offset_ns;
            // Sixty-four bits are three centuries.
            let by_ns = i64::try_from(by_ns).unwrap_or(if by_ns < 0 { i64::MIN } else { i64::MAX });
            if by_ns.unsigned_abs() >= step {
                self.moved = Some((by_ns, now));
                self.moved_told = false;
            }
        }
        self.clock = Some(Clock { boot_ns, offset_ns });
    }
}

impl Present {
    /// Looks at what the host sent.
    pub fn saw(&self, batch: &Batch) {
        if let Some(live) = self.fleet.lock().get_mut(&self.host) {
            live.saw(batch, Instant::now());
        }
    }

    /// The agent has said that nothing more comes.
    pub fn ends_in_order(&mut self) {
        self.leaving = Leaving::InOrder;
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        let mut hosts = self.fleet.lock();
        if let Some(live) = hosts.get_mut(&self.host) {
            live.streams = live.streams.saturating_sub(1);
            if live.streams == 0 {
                live.gone = Some((Instant::now(), self.leaving));
            }
        }
    }
}

/// By how much a clock was moved, as a sentence.
fn moved(by_ns: i64) -> String {
    let seconds = by_ns.unsigned_abs() / 1_000_000_000;
    let way = if by_ns > 0 { "forward" } else { "back" };
    format!("its clock was moved {way} by {seconds} s")
}

/// Whether a version is lower than another; false where it cannot be told.
fn is_older(version: &str, than: &str) -> bool {
    let numbers = |text: &str| -> Option<Vec<u64>> {
        let core = text.split(['-', '+']).next()?;
        core.split('.').map(|part| part.parse().ok()).collect()
    };
    match (numbers(version), numbers(than)) {
        (Some(version), Some(than)) => version < than,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use sensor_proto::v1::{Entry, Event, Loss};

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn batch(clocks: &[(u64, u64)]) -> Batch {
        let event = |(boot, time): &(u64, u64)| Entry {
            host: String::new(),
            body: Some(entry::Body::Event(Event {
                boot_time_ns: boot * SECOND,
                time_ns: time * SECOND,
                ..Event::default()
            })),
        };
        Batch {
            entries: clocks.iter().map(event).collect(),
            ..Batch::default()
        }
    }

    fn moves(clocks: &[(u64, u64)]) -> Vec<i64> {
        let fleet = Fleet::default();
        let present = fleet.enter("web1");
        let mut moves = Vec::new();
        for clock in clocks {
            present.saw(&batch(&[*clock]));
            for news in fleet.news(Instant::now()) {
                if let News::ClockMoved { by_ns, .. } = news {
                    moves.push(by_ns / SECOND as i64);
                }
            }
        }
        moves
    }

    #[test]
    fn a_clock_is_moved_if_it_does_not_go_with_the_time_since_boot() {
        assert_eq!(moves(&[(10, 1000), (20, 1010), (21, 1013)]), [0; 0]);
        assert_eq!(moves(&[(10, 1000), (20, 5010), (21, 5011)]), [4000]);
        assert_eq!(moves(&[(10, 5000), (20, 1010)]), [-4000]);
        assert_eq!(
            moves(&[(10_000, 5000), (20, 9000)]),
            [0; 0],
            "it was booted again"
        );
        assert_eq!(
            moves(&[(10, u64::MAX / SECOND), (11, 0)]).len(),
            1,
            "whatever is said"
        );
    }

    #[test]
    fn who_is_gone_is_missed_once_and_after_a_while() {
        let fleet = Fleet::default();
        let now = Instant::now();
        let later = now + GRACE + Duration::from_secs(1);
        let mut present = fleet.enter("web1");
        present.ends_in_order();
        drop(present);
        drop(fleet.enter("web2"));
        assert_eq!(fleet.news(now), []);
        let mut gone: Vec<_> = fleet
            .news(later)
            .into_iter()
            .map(|news| match news {
                News::Gone { host, leaving, .. } => (host, leaving),
                other => panic!("{other:?}"),
            })
            .collect();
        gone.sort_by(|left, right| left.0.cmp(&right.0));
        assert_eq!(
            gone,
            [
                ("web1".into(), Leaving::InOrder),
                ("web2".into(), Leaving::Abruptly)
            ]
        );
        assert_eq!(fleet.news(later), []);
        let _back = fleet.enter("web2");
        assert_eq!(fleet.news(later), [News::Back { host: "web2".into() }]);
    }

    #[test]
    fn a_host_is_connected_while_any_of_its_streams_is_open() {
        let fleet = Fleet::default();
        let (first, second) = (fleet.enter("web1"), fleet.enter("web1"));
        drop(first);
        assert!(fleet.is_connected("web1"));
        drop(second);
        assert!(!fleet.is_connected("web1"));
    }

    #[test]
    fn the_state_says_the_worst() {
        let fleet = Fleet::default();
        let state = |version: &str, stopped| {
            let mut host = Host {
                name: "web1".into(),
                agent_version: version.into(),
                ..Host::default()
            };
            fleet.describe(&mut host, stopped, Instant::now());
            host.state()
        };
        let ours = env!("CARGO_PKG_VERSION");
        assert_eq!(state(ours, true), HostState::Stopped);
        assert_eq!(state(ours, false), HostState::Silent);
        let present = fleet.enter("web1");
        assert_eq!(state(ours, false), HostState::Alive);
        assert_eq!(state("0.0.9", false), HostState::OutOfDate);
        assert_eq!(state("0.0.9-rc1", false), HostState::OutOfDate);
        assert_eq!(state("nonsense", false), HostState::Alive);
        present.saw(&batch(&[(1, 1), (2, 100)]));
        assert_eq!(state("0.0.9", false), HostState::Degraded);
        present.saw(&Batch {
            entries: vec![Entry {
                host: String::new(),
                body: Some(entry::Body::Loss(Loss {
                    count: 3,
                    ..Loss::default()
                })),
            }],
            ..Batch::default()
        });
        assert_eq!(state(ours, false), HostState::Losing);
    }
}
