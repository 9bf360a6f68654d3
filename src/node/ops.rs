//! What was asked of the store and is not answered yet.

use std::time::Duration;

use foldhash::fast::FixedState;

use super::effect::{Ask, ReadValue};
use super::event::{Asked, OpId, Ticket};
use super::get::{Get, Reading};
use super::refusal::Refusal;
use super::session::Waiting;
use crate::storage::StorageError;
use crate::timers::TimerId;
use crate::txn::{AttemptId, BaseId, Map};

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// One open question to the store.
#[derive(Debug)]
pub(super) struct Op {
    pub(super) ask: Ask,
    pub(super) purpose: Purpose,
    /// How often it was not confirmed.
    pub(super) failures: u32,
    /// The last failure.
    pub(super) last_error: Option<StorageError>,
    /// When the request behind it is answered in any case.
    pub(super) deadline: Option<TimerId>,
}

/// What the answer is needed for.
#[derive(Debug)]
pub(super) enum Purpose {
    /// To decide an attempt.
    Commit { attempt: AttemptId },
    /// To tell how an id ended of which nothing is known here.
    Settle { asked: Asked, attempt: AttemptId },
    /// To end an attempt that cannot go on, of which other nodes know.
    GiveUp { attempt: AttemptId, why: Refusal },
    /// To begin when a commit of another node can be read.
    Session { waiting: Waiting },
    /// To begin an attempt at an id that a client brought.
    Start { ticket: Ticket, base: BaseId, at: Duration },
    /// To find foreign values for a get.
    Plain { get: Get },
    /// To fetch the values that a get has chosen.
    Values { reading: Reading, values: Vec<ReadValue>, holes: Vec<usize> },
    /// To merge values of other lattices.
    Merge { ticket: Ticket },
    /// To find the newest versions of keys for a get.
    Heads { get: Get },
    /// To delete garbage.
    Collect,
    /// To look for garbage.
    Sweep,
    /// To make room in the index.
    Evict,
    /// Nobody waits.
    Publish,
}

impl Purpose {
    /// When the outcome was asked for, if somebody is to be told of it.
    pub(super) fn asked_at(&self) -> Option<Duration> {
        match self {
            Self::Settle { asked, .. } => Some(asked.at),
            Self::Session { waiting } => Some(waiting.asked.at),
            Self::Start { at, .. } => Some(*at),
            _ => None,
        }
    }
}

impl Op {
    /// How long to wait before asking again: longer each time, up to a bound. By `chance` half as long
    /// again at most, so that nodes that got in each other's way do not go on doing so.
    pub(super) fn pause(&self, chance: u8) -> Duration {
        let doubled = FIRST_PAUSE.saturating_mul(1 << self.failures.min(10));
        let pause = doubled.min(LONGEST_PAUSE);
        pause + pause * u32::from(chance) / 512
    }
}

/// All open questions.
#[derive(Debug)]
pub(super) struct Ops {
    open: Map<OpId, Op>,
    asked: u64,
}

impl Ops {
    pub(super) fn new(hasher: &FixedState) -> Self {
        Self { open: Map::with_hasher(hasher.clone()), asked: 0 }
    }

    pub(super) fn next_id(&mut self) -> OpId {
        self.asked += 1;
        OpId(self.asked)
    }

    pub(super) fn insert(&mut self, id: OpId, op: Op) {
        self.open.insert(id, op);
    }

    pub(super) fn get(&self, id: OpId) -> Option<&Op> {
        self.open.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: OpId) -> Option<&mut Op> {
        self.open.get_mut(&id)
    }

    pub(super) fn remove(&mut self, id: OpId) -> Option<Op> {
        self.open.remove(&id)
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether somebody waits for any of them, or something is to be written.
    pub(super) fn are_urgent(&self) -> bool {
        let is_upkeep =
            |op: &Op| matches!(op.purpose, Purpose::Collect | Purpose::Sweep | Purpose::Evict);
        self.open.values().any(|op| !is_upkeep(op))
    }
}
