//! Commits: what a transaction wrote, when, and how its id ended.

use std::sync::Arc;

use super::{AttemptId, Key, Timestamp};

/// Names one version: the commit that wrote it. Ordered as versions of one key supersede each other.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version {
    /// The commit timestamp.
    pub timestamp: Timestamp,
    /// The attempt that wrote it. Breaks ties between equal timestamps.
    pub writer: AttemptId,
}

/// A key in a commit's write set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenKey {
    /// The key.
    pub key: Key,
    /// The committing node knew no earlier version of the key, so that a reader for whom this version
    /// is too new may be told that there is none.
    pub fresh: bool,
}

/// A transaction that took effect: one attempt, its timestamp and the keys that it wrote together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Names every version that this commit wrote.
    pub version: Version,
    /// The write set, sorted by key, each key once.
    pub keys: Vec<WrittenKey>,
    /// The node that committed it.
    pub replica: Arc<str>,
}

impl Commit {
    /// Puts the write set into its order.
    pub fn new(version: Version, mut keys: Vec<WrittenKey>, replica: Arc<str>) -> Self {
        keys.sort_by(|a, b| a.key.cmp(&b.key));
        keys.dedup_by(|a, b| a.key == b.key);
        Self { version, keys, replica }
    }

    /// The entry of `key` in the write set.
    pub fn written(&self, key: &Key) -> Option<&WrittenKey> {
        let found = self.keys.binary_search_by(|written| written.key.cmp(key)).ok()?;
        self.keys.get(found)
    }
}

/// How a base id ended. The first outcome stored for an id is the only one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// This commit took effect.
    Committed(Arc<Commit>),
    /// No attempt of the id took effect, and none ever will.
    Aborted,
}
