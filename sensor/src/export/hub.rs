//! Where the pipeline leaves its entries. It never waits here: whoever is too slow loses their own.

use std::sync::Arc;

use sensor_proto::{
    fanout::{Fanout, QUEUE_ITEMS, Reader},
    v1::Filter,
};

use super::{Choice, Entry};

/// Hands entries to the local subscribers and to the uplink. Cloning gives another handle to the same.
#[derive(Clone, Debug)]
pub struct Hub {
    /// Entries that wait for a subscriber.
    queue: usize,
    subscribers: Fanout<Entry>,
    /// Apart, so that what subscribers lose and what the uplink loses are counted apart.
    uplink: Fanout<Entry>,
    /// Files, other people's protocols.
    outputs: Fanout<Entry>,
}

impl Default for Hub {
    fn default() -> Self {
        Self::new(QUEUE_ITEMS)
    }
}

impl Hub {
    /// A hub whose subscribers each have room for `queue` entries.
    #[must_use]
    pub fn new(queue: usize) -> Self {
        Self {
            queue,
            subscribers: Fanout::default(),
            uplink: Fanout::default(),
            outputs: Fanout::default(),
        }
    }

    /// Hands on `entries`: the more at once, the fewer wake-ups. Costs two loads when nobody listens, and never waits. Returns how full
    /// the fullest queue is, from 0 to 1.
    pub fn publish(&self, entries: &[Entry]) -> f32 {
        let subscribers = self.subscribers.publish(entries);
        let uplink = self.uplink.publish(entries);
        // A receiver that is away does not empty its queue the sooner for anybody's hurry.
        self.outputs.publish(entries);
        subscribers.max(uplink)
    }

    /// A reader of what happens from now on. What `filter` rules out by its name alone is not queued for it; the
    /// rest of the filter is for the reader to apply.
    #[must_use]
    pub fn subscribe(&self, filter: Arc<Filter>) -> Reader<Entry> {
        self.subscribers
            .subscribe(self.queue, move |entry| filter.may_pass(entry.name()))
    }

    /// The reader that delivers what of it is chosen to the collector, with room for `capacity` entries.
    #[must_use]
    pub fn uplink(&self, capacity: usize, choice: Choice) -> Reader<Entry> {
        self.uplink.subscribe(capacity, move |entry| choice.takes(entry))
    }

    /// The same for another way out.
    #[must_use]
    pub fn output(&self, capacity: usize, choice: Choice) -> Reader<Entry> {
        self.outputs.subscribe(capacity, move |entry| choice.takes(entry))
    }

    /// How many local subscribers there are.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.subscribers.readers()
    }

    /// Entries that local subscribers lost because they were too slow.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.subscribers.dropped()
    }

    /// The agent stops: readers get what waits for them, then their end.
    pub fn close(&self) {
        self.subscribers.close();
        self.uplink.close();
        self.outputs.close();
    }

    /// Returns when the hub has been closed.
    pub async fn closed(&self) {
        self.uplink.closed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{export::Loss, time::WallTime};

    #[tokio::test]
    async fn a_filter_by_name_is_applied_before_queueing() {
        let hub = Hub::default();
        let loss = Entry::Loss(Loss {
            stage: "ring",
            signal: None,
            count: 1,
            reason: "",
            from: WallTime(0),
            to: WallTime(0),
        });
        let filter = Filter {
            signals: vec!["exec".into()],
            ..Filter::default()
        };
        let mut execs = hub.subscribe(Arc::new(filter));
        let mut uplink = hub.uplink(8, Choice::default());
        assert_eq!(hub.subscribers(), 1);
        hub.publish(&[loss]);
        hub.close();
        let (mut seen, mut sent) = (Vec::new(), Vec::new());
        assert_eq!(execs.next(&mut seen, 8).await, 1, "a loss passes every filter");
        assert_eq!(uplink.next(&mut sent, 8).await, 1);
        hub.closed().await;
    }
}
