//! Commits to hand to a store without a sidecar.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::messages;
use crate::storage::CommitBatch;
use crate::txn::{Commit, HybridClock, IdSource, Key, Version, WrittenKey};

/// What each commit looks like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// How many keys it writes.
    pub(super) writes: usize,
    /// Size of each value.
    pub(super) value_bytes: usize,
    /// How many keys there are to choose from; no fewer than `writes`.
    pub(super) keys: usize,
}

/// Commits of one shape, none with the id of another. The keys come in turns.
pub(super) struct Batches {
    ids: IdSource,
    clock: HybridClock,
    replica: Arc<str>,
    value: Bytes,
    shape: Shape,
    written: usize,
}

impl Batches {
    pub(super) fn new(committer: usize, shape: Shape) -> Self {
        Self {
            // Rounds follow one another within one process: the time makes their ids differ.
            ids: IdSource::new(wall_ns().wrapping_add(committer as u64)),
            clock: HybridClock::new(committer as u64),
            replica: "bench".into(),
            value: vec![7; shape.value_bytes].into(),
            shape,
            written: committer,
        }
    }

    /// Begins with another key, so that several committers do not write the same ones.
    pub(super) fn beginning_at(mut self, key: usize) -> Self {
        self.written = key;
        self
    }

    pub(super) fn next(&mut self) -> CommitBatch {
        let wall_ns = wall_ns();
        let version =
            Version { timestamp: self.clock.next(wall_ns), writer: self.ids.base(wall_ns) };
        let keys = (0..self.shape.writes).filter_map(|_| {
            self.written += 1;
            // The names made here are short and not empty.
            let key = Key::parse(&messages::key(self.written % self.shape.keys.max(1))).ok()?;
            Some(WrittenKey { key, fresh: false })
        });
        let commit = Commit::new(version, keys.collect(), self.replica.clone());
        let values = vec![self.value.clone(); commit.keys.len()];
        CommitBatch { commit: Arc::new(commit), values, sole: true }
    }
}

fn wall_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}
