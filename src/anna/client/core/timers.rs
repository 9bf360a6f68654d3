//! What is to happen when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::OpId;

/// Something that is due at some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Timer {
    /// The operation's try, its pause or its time is over.
    Op(OpId),
    /// The try of the look-up of this key, or its pause, is over.
    Lookup(Arc<str>),
}

/// Names a timer so that it can be cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TimerId(Duration, u64);

impl TimerId {
    pub(super) fn at(self) -> Duration {
        self.0
    }
}

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

    pub(super) fn pop_due(&mut self, now: Duration) -> Option<Timer> {
        let due = self.queue.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(due.remove())
    }
}
