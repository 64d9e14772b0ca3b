//! One publisher, many readers: each has its own bounded queue, loses its own items when it is too slow,
//! is told how many, and hurts neither the publisher nor the other readers.
//!
//! The publisher never waits: it is the thread that reads the kernel's rings. It publishes many items at once, and wakes a
//! reader once for all of them, if the reader sleeps and has as many as it [sleeps for](Reader::filled): waking a
//! reader for each item was measured to cost as much as all else that is done for it.

mod queue;

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::sync::watch;
use tokio_stream::Stream;

use self::queue::Queue;

use crate::{Entries, RESPONSE_ENTRIES, v1::SubscribeResponse};

/// Items that wait for one reader, where nobody says otherwise.
pub const QUEUE_ITEMS: usize = 8192;

/// Hands every item to every reader that wants it. Cloning gives another handle to the same readers.
#[derive(Debug)]
pub struct Fanout<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    /// Locked by the publisher for the time of a few queue insertions, and by readers that come or go.
    slots: Mutex<Vec<Slot<T>>>,
    /// Length of `slots`, so that publishing to nobody is one load.
    readers: AtomicUsize,
    dropped: AtomicU64,
    closed: watch::Sender<bool>,
}

struct Slot<T> {
    queue: Arc<Queue<T>>,
    wants: Box<dyn Fn(&T) -> bool + Send>,
    /// What this reader lost and was not told yet.
    dropped: Arc<AtomicU64>,
}

impl<T> std::fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("readers", &self.readers)
            .field("dropped", &self.dropped)
            .finish()
    }
}

impl<T> Clone for Fanout<T> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<T> Default for Fanout<T> {
    fn default() -> Self {
        let shared = Shared {
            slots: Mutex::default(),
            readers: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            closed: watch::Sender::new(false),
        };
        Self {
            shared: Arc::new(shared),
        }
    }
}

impl<T: Clone> Fanout<T> {
    /// Hands `items` to every reader that wants them and has room for them. Never waits for a reader. Returns how full the fullest
    /// queue is, from 0 to 1.
    pub fn publish(&self, items: &[T]) -> f32 {
        let mut fullest = 0.0;
        if self.shared.readers.load(Ordering::Relaxed) == 0 {
            return fullest;
        }
        for slot in self.slots().iter() {
            let wanted = items.iter().filter(|item| (slot.wants)(item)).cloned();
            let (dropped, fill) = slot.queue.extend(wanted);
            fullest = f32::max(fullest, fill);
            if dropped > 0 {
                slot.dropped.fetch_add(dropped, Ordering::Relaxed);
                self.shared.dropped.fetch_add(dropped, Ordering::Relaxed);
            }
        }
        fullest
    }
}

impl<T> Fanout<T> {
    /// A new reader of what is published from now on, if `wants` says that it is for it. `wants` runs on the
    /// publisher's thread and must be quick. Up to `capacity` items wait for it.
    ///
    /// After [`close`](Self::close) the reader ends at once.
    #[must_use]
    pub fn subscribe(&self, capacity: usize, wants: impl Fn(&T) -> bool + Send + 'static) -> Reader<T> {
        let queue = Arc::new(Queue::new(capacity.max(1)));
        let dropped = Arc::<AtomicU64>::default();
        let reader = Reader {
            queue: Arc::clone(&queue),
            dropped: Arc::clone(&dropped),
            fanout: self.clone(),
        };
        let mut slots = self.slots();
        // Looked at under the lock, so that no reader is added behind the back of `close`.
        if *self.shared.closed.borrow() {
            queue.close();
        } else {
            slots.push(Slot {
                queue,
                wants: Box::new(wants),
                dropped,
            });
            self.shared.readers.store(slots.len(), Ordering::Relaxed);
        }
        reader
    }

    /// How many readers there are.
    #[must_use]
    pub fn readers(&self) -> usize {
        self.shared.readers.load(Ordering::Relaxed)
    }

    /// Items that all readers together, past ones included, lost by being too slow.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Publishes nothing any more. Each reader gets what waits for it, then its end.
    pub fn close(&self) {
        let mut slots = self.slots();
        self.shared.closed.send_replace(true);
        slots.drain(..).for_each(|slot| slot.queue.close());
        self.shared.readers.store(0, Ordering::Relaxed);
    }

    /// Returns when [`close`](Self::close) has been called.
    pub async fn closed(&self) {
        // It cannot fail: the sender lives in what `self` holds.
        let _ = self.shared.closed.subscribe().wait_for(|closed| *closed).await;
    }

    fn sweep(&self) {
        let mut slots = self.slots();
        slots.retain(|slot| !slot.queue.is_closed());
        self.shared.readers.store(slots.len(), Ordering::Relaxed);
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Slot<T>>> {
        // A `wants` that panicked leaves the list as it was.
        self.shared.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The receiving end of one reader. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Reader<T> {
    queue: Arc<Queue<T>>,
    dropped: Arc<AtomicU64>,
    fanout: Fanout<T>,
}

impl<T> Reader<T> {
    /// Adds up to `limit` waiting items to `buffer`, and waits for one if there are none. Returns how many it
    /// added; 0 means that the publisher closed and nothing is left. Cancelling it loses nothing.
    pub async fn next(&mut self, buffer: &mut Vec<T>, limit: usize) -> usize {
        self.filled(1).await;
        self.take(buffer, limit)
    }

    /// Returns when at least `count` items wait, or the publisher closed.
    pub async fn filled(&mut self, count: usize) {
        poll_fn(|cx| self.queue.poll_filled(cx, count)).await;
    }

    /// Adds up to `limit` items that wait already to `buffer`, and returns how many.
    pub fn take(&mut self, buffer: &mut Vec<T>, limit: usize) -> usize {
        self.queue.take(buffer, limit)
    }

    /// How many items this reader lost since it was last asked.
    #[must_use]
    pub fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }

    /// The stream of responses that `Subscribe` promises, from the entries that `write` appends for the items: one for each, or
    /// none.
    pub fn responses<F: FnMut(T, &mut Entries)>(self, write: F) -> Responses<T, F> {
        Responses {
            reader: self,
            write,
            batch: Vec::new(),
            waiting: VecDeque::new(),
            entries: Entries::default(),
        }
    }
}

impl<T> Drop for Reader<T> {
    fn drop(&mut self) {
        self.queue.close();
        self.fanout.sweep();
    }
}

/// A reader's items as responses: as many entries in one as are ready, up to [`RESPONSE_ENTRIES`] and
/// about [`RESPONSE_BYTES`](crate::RESPONSE_BYTES), and never later than the first of them could have been sent.
#[derive(Debug)]
pub struct Responses<T, F> {
    reader: Reader<T>,
    write: F,
    batch: Vec<T>,
    /// Items that were taken from the queue but found no room in the last response.
    waiting: VecDeque<T>,
    entries: Entries,
}

impl<T, F: FnMut(T, &mut Entries)> Responses<T, F> {
    fn respond(&mut self) -> SubscribeResponse {
        while !self.entries.is_full()
            && let Some(item) = self.waiting.pop_front()
        {
            (self.write)(item, &mut self.entries);
        }
        self.entries.take(self.reader.take_dropped())
    }
}

impl<T: Unpin, F: FnMut(T, &mut Entries) + Unpin> Stream for Responses<T, F> {
    type Item = Result<SubscribeResponse, tonic::Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if this.waiting.is_empty() {
                ready!(this.reader.queue.poll_filled(cx, 1));
                if this.reader.take(&mut this.batch, RESPONSE_ENTRIES) == 0 {
                    return Poll::Ready(None);
                }
                this.waiting.extend(this.batch.drain(..));
            }
            let response = this.respond();
            if !response.encoded.is_empty() || response.dropped > 0 {
                return Poll::Ready(Some(Ok(response)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Wake, Waker};

    use tokio_stream::StreamExt;

    use prost::Message as _;

    use super::*;
    use crate::{
        RESPONSE_BYTES,
        v1::{Entry, Loss, entry},
    };

    async fn all(mut reader: Reader<u32>) -> Vec<u32> {
        let mut items = Vec::new();
        while reader.next(&mut items, 3).await > 0 {}
        items
    }

    fn entry(count: u32) -> Entry {
        let body = entry::Body::Loss(Loss {
            count: u64::from(count),
            ..Loss::default()
        });
        Entry {
            host: String::new(),
            body: Some(body),
        }
    }

    fn received(response: &SubscribeResponse) -> SubscribeResponse {
        SubscribeResponse::decode(&*response.encode_to_vec()).expect("is whole")
    }

    #[tokio::test]
    async fn each_reader_gets_what_it_wants_in_order() {
        let fanout = Fanout::default();
        let (every, even) = (
            fanout.subscribe(64, |_| true),
            fanout.subscribe(64, |item| item % 2 == 0),
        );
        (0..10).for_each(|item| _ = fanout.publish(&[item]));
        fanout.close();
        assert_eq!(all(every).await, (0..10).collect::<Vec<_>>());
        assert_eq!(all(even).await, [0, 2, 4, 6, 8]);
    }

    #[tokio::test]
    async fn a_slow_reader_loses_its_own_and_no_one_elses() {
        let fanout = Fanout::default();
        let (slow, quick) = (fanout.subscribe(4, |_| true), fanout.subscribe(64, |_| true));
        let fullest: Vec<_> = (0..10).map(|item| fanout.publish(&[item])).collect();
        assert_eq!(fullest[..5], [0.25, 0.5, 0.75, 1.0, 1.0]);
        fanout.close();
        assert_eq!(
            (slow.take_dropped(), slow.take_dropped(), quick.take_dropped()),
            (6, 0, 0)
        );
        assert_eq!(fanout.dropped(), 6);
        assert_eq!(all(slow).await, [0, 1, 2, 3]);
        assert_eq!(all(quick).await.len(), 10);
    }

    #[derive(Default)]
    struct Wakes(AtomicU64);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_reader_is_woken_once_when_as_many_wait_as_it_asked_for() {
        let wakes = Arc::<Wakes>::default();
        let waker = Waker::from(Arc::clone(&wakes));
        let mut cx = Context::from_waker(&waker);
        let woken = || wakes.0.load(Ordering::Relaxed);
        let fanout = Fanout::default();
        let mut reader = fanout.subscribe(8, |_| true);

        let mut three = Box::pin(reader.filled(3));
        fanout.publish(&[1]);
        assert!(three.as_mut().poll(&mut cx).is_pending());
        fanout.publish(&[2]);
        assert_eq!(woken(), 0);
        fanout.publish(&[3, 4]);
        fanout.publish(&[5]);
        assert_eq!(woken(), 1);
        assert!(three.as_mut().poll(&mut cx).is_ready());
        drop(three);

        let mut more_than_fit = Box::pin(reader.filled(100));
        assert!(more_than_fit.as_mut().poll(&mut cx).is_pending());
        fanout.close();
        assert_eq!(woken(), 2);
        assert!(more_than_fit.as_mut().poll(&mut cx).is_ready());
        drop(more_than_fit);
        let mut items = Vec::new();
        assert_eq!((reader.take(&mut items, 8), items), (5, vec![1, 2, 3, 4, 5]));
    }

    #[tokio::test]
    async fn readers_come_and_go() {
        let fanout = Fanout::default();
        let reader = fanout.subscribe(4, |_| true);
        assert_eq!(fanout.readers(), 1);
        drop(reader);
        assert_eq!(fanout.readers(), 0);
        fanout.publish(&[1_u32]);
        fanout.close();
        fanout.closed().await;
        assert!(all(fanout.subscribe(4, |_| true)).await.is_empty());
        assert_eq!(fanout.readers(), 0);
    }

    #[tokio::test]
    async fn responses_say_what_was_dropped_even_where_nothing_passes() {
        let fanout = Fanout::default();
        let mut responses = fanout
            .subscribe(4, |_| true)
            .responses(|_: u32, _: &mut Entries| {});
        (0..10).for_each(|item| _ = fanout.publish(&[item]));
        let response = responses.next().await.expect("a response").expect("no error");
        assert_eq!((response.dropped, response.encoded.len()), (6, 0));
    }

    #[tokio::test]
    async fn what_is_ready_goes_in_one_response_within_bounds() {
        let fanout = Fanout::default();
        let mut responses = fanout
            .subscribe(1000, |_| true)
            .responses(|item, entries: &mut Entries| entries.push(&entry(item)));
        (0..600).for_each(|item| _ = fanout.publish(&[item]));
        fanout.close();
        let mut sizes = Vec::new();
        while let Some(response) = responses.next().await {
            sizes.push(received(&response.expect("no error")).entries.len());
        }
        assert_eq!(
            sizes,
            [RESPONSE_ENTRIES, RESPONSE_ENTRIES, 600 - 2 * RESPONSE_ENTRIES]
        );
    }

    #[tokio::test]
    async fn large_entries_are_spread_and_monsters_dropped() {
        let fanout = Fanout::default();
        let write = |length: usize, entries: &mut Entries| {
            entries.push(&Entry {
                host: "x".repeat(length),
                body: None,
            });
        };
        let mut responses = fanout.subscribe(1000, |_| true).responses(write);
        for length in [RESPONSE_BYTES, 10, crate::ENTRY_BYTES_MAX + 1, 10] {
            fanout.publish(&[length]);
        }
        fanout.close();
        let mut told = Vec::new();
        while let Some(response) = responses.next().await {
            let response = response.expect("no error");
            assert!(response.encoded_len() < crate::MESSAGE_BYTES_MAX);
            told.push((received(&response).entries.len(), response.dropped));
        }
        assert_eq!(told, [(1, 0), (2, 1)]);
    }
}
