//! What happened in a run, as the judge needs it: what clients did and saw, and what the store holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::txn::{AttemptId, BaseId, Commit, Key, Version};

/// Every value written in a run is a different number.
pub type Value = u64;

/// The order of all that clients did and saw.
pub type Moment = u64;

/// One attempt, as the clients that worked at it saw it.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Its name; none for a request without a transaction.
    pub id: Option<AttemptId>,
    /// The node where it began.
    pub site: usize,
    /// What it must be able to read there.
    pub floor: Floor,
    /// What it did, in the order in which it was noted.
    pub operations: Vec<Operation>,
    /// What was told about its outcome, in order.
    pub verdicts: Vec<Told>,
}

/// Versions below which reads must not fall.
#[derive(Debug, Clone)]
pub struct Floor {
    /// Which promise that is.
    pub promise: &'static str,
    /// For each key, the version.
    pub versions: BTreeMap<Key, Version>,
}

/// Something that an attempt did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// At which node.
    pub site: usize,
    /// When it was asked for.
    pub asked: Moment,
    /// When it was answered, if it was done.
    pub done: Option<Moment>,
    /// By a function that was given up: what it did may count, or not.
    pub is_loose: bool,
    /// What.
    pub what: What,
}

/// What an operation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Keys read in one request, with what came back and when.
    Read {
        /// Key and value; no value if the key was missing, or nothing came back.
        seen: Vec<(Key, Option<Value>)>,
        /// When the answer was given.
        at: Duration,
    },
    /// Keys written in one request.
    Write {
        /// Key and value.
        writes: Vec<(Key, Value)>,
    },
    /// The attempt goes on at this node from another.
    Continue {
        /// From where.
        upstream: usize,
    },
    /// The attempt is to take effect.
    Commit {
        /// Nodes that are to be merged before.
        named: Vec<usize>,
    },
}

/// What a client was told about an outcome, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// What.
    pub verdict: Verdict,
    /// When.
    pub at: Duration,
}

/// What a client was told about an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It took effect.
    Committed,
    /// It did not, and the id is settled.
    SettledAborted,
    /// This attempt did not; nothing is said of its id.
    Aborted,
}

/// A commit, and when it became durable.
#[derive(Debug, Clone)]
pub struct Landed {
    /// The commit.
    pub commit: Arc<Commit>,
    /// When its record became durable.
    pub at: Duration,
    /// The values it stored, in the order of its write set; none where the store has none.
    pub values: Vec<Option<Value>>,
}

impl Landed {
    /// A commit that becomes durable now, with these values.
    pub fn with(at: Duration, commit: Arc<Commit>, values: Vec<Option<Value>>) -> Self {
        Self { commit, at, values }
    }
}

/// A whole run.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// All attempts.
    pub attempts: Vec<Attempt>,
    /// The store's log.
    pub landed: Vec<Landed>,
    /// Ids of which an attempt committed that had nothing to write. That is their one outcome, too.
    pub without_effect: BTreeSet<BaseId>,
    /// Values that were written past the sidecar, and under which key.
    pub foreign: BTreeMap<Value, Key>,
    /// What stood under plain names in the end: published by the sidecar, or not.
    pub plain: Vec<(Key, Value, bool)>,
    /// Reads that ended their transaction, as nothing could be read.
    pub refused: Vec<Refused>,
    /// Garbage that nodes had the store delete, in this order.
    pub deleted: Vec<Deleted>,
    /// No node was ever unable to tell others in time what it needs.
    pub is_fair: bool,
}

/// A version that a node had the store delete.
#[derive(Debug, Clone)]
pub struct Deleted {
    /// Of which key.
    pub key: Key,
    /// Which.
    pub version: Version,
    /// When, as clients see it.
    pub moment: Moment,
    /// When.
    pub at: Duration,
}

/// A read that was refused, so that the transaction has to be tried again.
#[derive(Debug, Clone)]
pub struct Refused {
    /// The attempt, as a place in the history.
    pub attempt: usize,
    /// The read, as one of its operations.
    pub operation: usize,
    /// The key of which no version could be read.
    pub key: Key,
    /// The node had forgotten keys by then, and what was before their newest versions.
    pub forgot: bool,
    /// When the answer was given.
    pub at: Duration,
}

impl History {
    /// Ids of which some client was told that they committed, with something written.
    pub(super) fn told_committed(&self) -> BTreeSet<BaseId> {
        let was_told = |told: &Told| told.verdict == Verdict::Committed;
        let told = self.attempts.iter().filter(|a| a.verdicts.iter().any(was_told));
        let ids = told.filter_map(|attempt| Some(attempt.id.as_ref()?.base()));
        // Those may have been told of an attempt that had nothing to write.
        ids.filter(|id| !self.without_effect.contains(id)).collect()
    }

    /// Keys read and answered.
    pub fn reads(&self) -> usize {
        let operations = self.attempts.iter().flat_map(|attempt| &attempt.operations);
        let reads = operations.map(|operation| match &operation.what {
            What::Read { seen, .. } if operation.done.is_some() => seen.len(),
            _ => 0,
        });
        reads.sum()
    }

    /// Attempts that took effect and ran on more than one node.
    pub fn spread_commits(&self) -> usize {
        let committed: BTreeSet<_> =
            self.landed.iter().map(|landed| &landed.commit.version.writer).collect();
        let is_spread = |attempt: &&Attempt| {
            attempt.id.as_ref().is_some_and(|id| committed.contains(id))
                && attempt.operations.iter().any(|operation| {
                    matches!(operation.what, What::Continue { .. }) && operation.done.is_some()
                })
        };
        self.attempts.iter().filter(is_spread).count()
    }
}
