//! The attempts that run here, and which of them may speak for its id.

use std::time::Duration;

use foldhash::fast::FixedState;

use super::collect::Prepare;
use super::epochs::Epochs;
use super::event::Ticket;
use super::peer::Origin;
use super::travel::Travel;
use crate::timers::TimerId;
use crate::txn::{AttemptId, BaseId, Map, ReadSet, WriteBuffer};

/// One running attempt.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) reads: ReadSet,
    pub(super) writes: WriteBuffer,
    /// When it began, wherever that was; at the latest.
    pub(super) begun: Duration,
    /// When its client last used it.
    pub(super) touched: Duration,
    pub(super) phase: Phase,
    /// Bytes of its writes that the store has not confirmed.
    pub(super) held_bytes: usize,
    /// Whether its commit would be the first proposal for its id.
    pub(super) first_say: FirstSay,
    /// Where else it has been.
    pub(super) travel: Travel,
    /// In which epoch it began.
    pub(super) epoch: u64,
}

/// The right to propose a commit of an id before anybody else does (see [`CommitBatch::sole`]). The node
/// that makes an id has it, for the first attempt. It goes along when the attempt is handed over, to one
/// node only, so that nowhere two processes have it, nor one twice.
///
/// [`CommitBatch::sole`]: crate::storage::CommitBatch::sole
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FirstSay {
    /// It is somebody else's, or was lost on the way.
    No,
    Here,
    /// It was given to a node in answer to its question of that number, which may be asked again.
    Given(Origin, u64),
}

impl FirstSay {
    /// Whether it goes along with the answer to this question; then it is not here any more.
    pub(super) fn give(&mut self, asker: &Origin, number: u64) -> bool {
        if *self == Self::Here {
            *self = Self::Given(asker.clone(), number);
        }
        matches!(self, Self::Given(to, with) if to == asker && *with == number)
    }
}

/// How far an attempt is.
#[derive(Debug)]
pub(super) enum Phase {
    /// Reads and writes are taken.
    Running {
        /// When to look whether it was left.
        timer: TimerId,
    },
    /// The commit was asked for; what the attempt did on other nodes is being gathered.
    Preparing(Box<Prepare>),
    /// Its values were given to the node that commits it.
    HandedOut {
        /// That node.
        coordinator: Origin,
        /// When to look whether the end is still to come.
        timer: TimerId,
    },
    /// The record was sent; the outcome is up to the store. Nothing may abort it any more.
    Committing {
        /// Requests that are answered with the outcome.
        waiters: Vec<Waiter>,
    },
}

impl Phase {
    /// Requests that wait for the outcome, if it is being decided.
    pub(super) fn waiters(&mut self) -> Option<&mut Vec<Waiter>> {
        match self {
            Self::Preparing(prepare) => Some(&mut prepare.waiters),
            Self::Committing { waiters } => Some(waiters),
            Self::Running { .. } | Self::HandedOut { .. } => None,
        }
    }
}

/// A request that waits for the outcome of an attempt.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) ticket: Ticket,
    pub(super) wants: Wants,
    pub(super) timer: TimerId,
}

/// What a waiting request asked for, and so how it is answered.
#[derive(Debug, Clone)]
pub(super) enum Wants {
    /// The outcome, as a commit or an abort asks for it, of the attempt named.
    Outcome(AttemptId),
    /// To begin a new attempt of the id, if it is still open.
    Start(BaseId),
    /// To write outside of any transaction: the per-write answers if it took effect.
    Put(Vec<Result<(), super::Refusal>>),
}

/// The running attempts.
#[derive(Debug)]
pub(super) struct Attempts {
    running: Map<AttemptId, Attempt>,
    /// The one attempt of each id that is not fenced.
    current: Map<BaseId, AttemptId>,
    /// Ids at which an attempt is about to begin: how many times their outcome is being looked up.
    opening: Map<BaseId, usize>,
    buffered_bytes: usize,
    pub(super) epochs: Epochs,
}

impl Attempts {
    pub(super) fn new(hasher: &FixedState) -> Self {
        Self {
            running: Map::with_hasher(hasher.clone()),
            current: Map::with_hasher(hasher.clone()),
            opening: Map::with_hasher(hasher.clone()),
            buffered_bytes: 0,
            epochs: Epochs::default(),
        }
    }

    pub(super) fn insert(&mut self, id: AttemptId, mut attempt: Attempt) {
        attempt.epoch = self.epochs.enter();
        self.buffered_bytes += attempt.writes.bytes();
        // One that comes from another node does not speak for the id if another began here.
        self.current.entry(id.base()).or_insert_with(|| id.clone());
        self.running.insert(id, attempt);
    }

    pub(super) fn get(&self, id: &AttemptId) -> Option<&Attempt> {
        self.running.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &AttemptId) -> Option<&mut Attempt> {
        self.running.get_mut(id)
    }

    /// The attempt that speaks for `base` now.
    pub(super) fn current(&self, base: &BaseId) -> Option<&AttemptId> {
        self.current.get(base)
    }

    /// An attempt at `base` begins unless its outcome turns out to be known.
    pub(super) fn begin_opening(&mut self, base: &BaseId) {
        *self.opening.entry(base.clone()).or_default() += 1;
    }

    /// The look-up behind [`begin_opening`](Self::begin_opening) is over.
    pub(super) fn end_opening(&mut self, base: &BaseId) {
        if let Some(count) = self.opening.get_mut(base) {
            *count -= 1;
            if *count == 0 {
                self.opening.remove(base);
            }
        }
    }

    /// Whether an attempt at `base` is about to begin.
    pub(super) fn is_opening(&self, base: &BaseId) -> bool {
        self.opening.contains_key(base)
    }

    /// Changes an attempt's buffer and keeps the sum.
    pub(super) fn write<R>(
        &mut self,
        id: &AttemptId,
        change: impl FnOnce(&mut WriteBuffer) -> R,
    ) -> Option<R> {
        let attempt = self.running.get_mut(id)?;
        let before = attempt.writes.bytes();
        let result = change(&mut attempt.writes);
        self.buffered_bytes = self.buffered_bytes - before + attempt.writes.bytes();
        Some(result)
    }

    /// An attempt holds so many bytes that were written on other nodes, until it ends.
    pub(super) fn hold(&mut self, id: &AttemptId, bytes: usize) {
        if let Some(attempt) = self.running.get_mut(id) {
            attempt.held_bytes += bytes;
            self.buffered_bytes += bytes;
        }
    }

    /// Takes an attempt's writes, to be sent to the store. They count until the attempt ends.
    pub(super) fn take_writes(&mut self, id: &AttemptId) -> WriteBuffer {
        let Some(attempt) = self.running.get_mut(id) else {
            return WriteBuffer::default();
        };
        attempt.held_bytes += attempt.writes.bytes();
        std::mem::take(&mut attempt.writes)
    }

    pub(super) fn remove(&mut self, id: &AttemptId) -> Option<Attempt> {
        let attempt = self.running.remove(id)?;
        self.epochs.leave(attempt.epoch);
        self.buffered_bytes -= attempt.writes.bytes() + attempt.held_bytes;
        let base = id.base();
        if self.current.get(&base) == Some(id) {
            self.current.remove(&base);
        }
        Some(attempt)
    }

    /// How long the oldest one has been running, in milliseconds.
    pub(super) fn oldest_ms(&self, now: Duration) -> u64 {
        let oldest = self.running.values().map(|attempt| attempt.begun).min();
        let age = oldest.map_or(Duration::ZERO, |begun| now.saturating_sub(begun));
        u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn len(&self) -> usize {
        self.running.len()
    }

    pub(super) fn buffered_bytes(&self) -> usize {
        self.buffered_bytes
    }
}
