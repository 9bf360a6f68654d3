//! What happened in a run, as the judge needs it: what clients did and saw, and what the store holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::txn::{AttemptId, BaseId, Commit, Key, Version};

/// Every value written in a run is a different number.
pub type Value = u64;

/// One attempt, as the client that started it saw it.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Its name; none for a request without a transaction.
    pub id: Option<AttemptId>,
    /// What the client's earlier commits wrote, before this attempt began.
    pub session_floor: BTreeMap<Key, Version>,
    /// What it did, in order.
    pub operations: Vec<Operation>,
    /// What it was told about its outcome, in order.
    pub verdicts: Vec<Verdict>,
}

/// Something that an attempt did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Keys read in one request, with what came back and when.
    Read {
        /// Key and value; no value if the key was missing.
        seen: Vec<(Key, Option<Value>)>,
        /// When the answer was given.
        at: Duration,
    },
    /// Keys written in one request.
    Write {
        /// Key and value.
        writes: Vec<(Key, Value)>,
        /// Whether that was acknowledged.
        acknowledged: bool,
    },
}

/// What a client was told about an outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
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
}

impl History {
    /// Keys read and answered.
    pub fn reads(&self) -> usize {
        let operations = self.attempts.iter().flat_map(|attempt| &attempt.operations);
        let reads = operations.map(|operation| match operation {
            Operation::Read { seen, .. } => seen.len(),
            Operation::Write { .. } => 0,
        });
        reads.sum()
    }
}
