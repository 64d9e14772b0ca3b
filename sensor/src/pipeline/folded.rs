//! What the slots in which kernel programs count repetitions stand for.

use std::sync::Arc;

use crate::{
    capture::Repeats,
    host::{Body, Event, FoldSlot, Operation, Repeated, WallClock},
    mute::Reason,
    time::BootTime,
};

/// Whose repetitions are counted.
#[derive(Clone, Debug)]
pub(super) enum Folded {
    /// Those of an event that was passed on.
    Event(Arc<Event>),
    /// Those of an event that was left out.
    LeftOut(Reason),
}

/// By index of the slot, no more than there are. An entry holds on to one event.
#[derive(Debug, Default)]
pub(super) struct Slots(Vec<Option<(u32, Folded)>>);

impl Slots {
    /// The slot that `event` has, if it has one, stands for this from now on.
    pub(super) fn note(&mut self, event: &Event, folded: impl FnOnce() -> Folded) {
        let Some(FoldSlot { index, generation }) = slot_of(event) else {
            return;
        };
        let index = index as usize;
        if self.0.len() < index {
            self.0.resize_with(index, || None);
        }
        self.0[index - 1] = Some((generation, folded()));
    }

    /// What these repeat, if it is known.
    pub(super) fn of(&self, repeats: &Repeats) -> Option<&Folded> {
        let index = (repeats.slot as usize).checked_sub(1)?;
        let (generation, folded) = self.0.get(index)?.as_ref()?;
        (*generation == repeats.generation).then_some(folded)
    }
}

fn slot_of(event: &Event) -> Option<FoldSlot> {
    match &event.body {
        Body::Operation(operation) => operation.fold.filter(|slot| slot.index != 0),
        _ => None,
    }
}

/// The event that stands for the repetitions of another, as of `now`.
pub(super) fn repeat(event: &Event, repeats: &Repeats, now: BootTime, clock: &WallClock) -> Option<Event> {
    let Body::Operation(operation) = &event.body else {
        return None;
    };
    let operation = Operation {
        fold: None,
        repeats: Some(Repeated {
            count: repeats.count,
            first: clock.wall(repeats.first),
            last: clock.wall(repeats.last),
        }),
        ..(**operation).clone()
    };
    Some(Event {
        time: now,
        wall: clock.wall(now),
        body: Body::Operation(Box::new(operation)),
        ..event.clone()
    })
}
