//! Timers of a state machine without a clock: what is due when. Both the node and the Anna client keep
//! theirs in one of these.

use std::collections::BTreeMap;
use std::time::Duration;

/// Names a timer so that it can be cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimerId(Duration, u64);

impl TimerId {
    /// When it is due.
    pub fn at(self) -> Duration {
        self.0
    }
}

/// All timers, ordered by when they are due, and those due at one time by when they were set.
#[derive(Debug)]
pub struct Timers<T> {
    queue: BTreeMap<TimerId, T>,
    set: u64,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self { queue: BTreeMap::new(), set: 0 }
    }
}

impl<T> Timers<T> {
    /// Something is due at some time.
    pub fn set(&mut self, at: Duration, timer: T) -> TimerId {
        self.set += 1;
        let id = TimerId(at, self.set);
        self.queue.insert(id, timer);
        id
    }

    /// It is not, after all. Does nothing if it was due already.
    pub fn cancel(&mut self, id: TimerId) {
        self.queue.remove(&id);
    }

    /// When the first one is due.
    pub fn next_at(&self) -> Option<Duration> {
        self.queue.first_key_value().map(|(id, _)| id.0)
    }

    /// Takes out the first one that is due.
    pub fn pop_due(&mut self, now: Duration) -> Option<T> {
        let due = self.queue.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(due.remove())
    }
}
