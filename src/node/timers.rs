//! What is to happen when: deadlines, repetitions, idle limits.

use std::collections::BTreeMap;
use std::time::Duration;

use super::event::{OpId, Ticket};
use crate::txn::AttemptId;

/// Something that is due at some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Timer {
    /// Look whether the attempt was left by its client.
    Attempt(AttemptId),
    /// A request has waited long enough for the outcome of an attempt.
    Waiter(AttemptId, Ticket),
    /// A request has waited long enough for the store.
    Deadline(OpId),
    /// Ask the store again.
    Again(OpId),
    /// Look whether commits from the future may be believed by now.
    Quarantine,
    /// Tell other nodes what is new.
    Gossip,
}

/// Names a timer so that it can be cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TimerId(Duration, u64);

/// All timers, ordered by when they are due.
#[derive(Debug, Default)]
pub(super) struct Timers {
    queue: BTreeMap<TimerId, Timer>,
    set: u64,
}

impl Timers {
    pub(super) fn set(&mut self, at: Duration, timer: Timer) -> TimerId {
        self.set += 1;
        let id = TimerId(at, self.set);
        self.queue.insert(id, timer);
        id
    }

    pub(super) fn cancel(&mut self, id: TimerId) {
        self.queue.remove(&id);
    }

    pub(super) fn next_at(&self) -> Option<Duration> {
        self.queue.first_key_value().map(|(id, _)| id.0)
    }

    pub(super) fn pop_due(&mut self, elapsed: Duration) -> Option<Timer> {
        let due = self.queue.first_entry().filter(|entry| entry.key().0 <= elapsed)?;
        Some(due.remove())
    }
}
