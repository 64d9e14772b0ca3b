//! What waits for one reader: bounded, and it wakes the reader no more often than it has asked for.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

#[derive(Debug)]
pub(super) struct Queue<T> {
    capacity: usize,
    inner: Mutex<Inner<T>>,
}

#[derive(Debug)]
struct Inner<T> {
    items: VecDeque<T>,
    /// The reader sleeps until so many items wait.
    sleeper: Option<(usize, Waker)>,
    closed: bool,
}

impl<T> Queue<T> {
    pub(super) fn new(capacity: usize) -> Self {
        let inner = Inner {
            items: VecDeque::new(),
            sleeper: None,
            closed: false,
        };
        Self {
            capacity,
            inner: Mutex::new(inner),
        }
    }

    /// Appends what there is room for, and returns how many items there was none for, and how full it is then, from 0 to 1.
    pub(super) fn extend(&self, items: impl Iterator<Item = T>) -> (u64, f32) {
        let mut dropped = 0;
        let mut inner = self.inner();
        for item in items {
            if inner.items.len() < self.capacity {
                inner.items.push_back(item);
            } else {
                dropped += 1;
            }
        }
        let fill = inner.items.len() as f32 / self.capacity as f32;
        let sleeper = inner.due_sleeper();
        drop(inner);
        if let Some(waker) = sleeper {
            waker.wake();
        }
        (dropped, fill)
    }

    /// Nothing more comes: the reader gets what waits, then its end.
    pub(super) fn close(&self) {
        let mut inner = self.inner();
        inner.closed = true;
        let sleeper = inner.due_sleeper();
        drop(inner);
        if let Some(waker) = sleeper {
            waker.wake();
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.inner().closed
    }

    /// Ready when at least `count` items wait, or none will come any more. A count beyond the capacity stands for it.
    pub(super) fn poll_filled(&self, cx: &Context<'_>, count: usize) -> Poll<()> {
        let count = count.min(self.capacity);
        let mut inner = self.inner();
        if inner.closed || inner.items.len() >= count {
            inner.sleeper = None;
            return Poll::Ready(());
        }
        inner.sleeper = Some((count, cx.waker().clone()));
        Poll::Pending
    }

    /// Moves up to `limit` items to `buffer`, and returns how many.
    pub(super) fn take(&self, buffer: &mut Vec<T>, limit: usize) -> usize {
        let mut inner = self.inner();
        let count = inner.items.len().min(limit);
        buffer.extend(inner.items.drain(..count));
        count
    }

    fn inner(&self) -> MutexGuard<'_, Inner<T>> {
        // Nothing that is done under the lock can leave it half done.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Inner<T> {
    fn due_sleeper(&mut self) -> Option<Waker> {
        let (count, _) = self.sleeper.as_ref()?;
        if self.closed || self.items.len() >= *count {
            return self.sleeper.take().map(|(_, waker)| waker);
        }
        None
    }
}
