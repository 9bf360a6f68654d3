//! What a running transaction has read so far, and what follows from it for its next reads.

use std::sync::Arc;

use foldhash::fast::FixedState;

use super::{Commit, Key, Map, Set, Timestamp, Version};

/// A value that was not written through a sidecar, as one transaction saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignPin {
    /// The last-writer-wins timestamp under which it was stored.
    pub timestamp: u64,
    /// Hash of its bytes.
    pub hash: u64,
}

/// Which version of a key a transaction has read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pinned {
    /// The version that this commit wrote.
    Committed(Arc<Commit>),
    /// A foreign value; older than every committed version.
    Foreign(ForeignPin),
}

/// The read set of one attempt.
#[derive(Debug)]
pub struct ReadSet {
    pins: Map<Key, Pinned>,
    /// For each key co-written with a version read, the newest commit that did so. A later read of
    /// that key must not return anything older.
    lower: Map<Key, Arc<Commit>>,
    /// Keys reported to have no value.
    missing: Set<Key>,
    /// Commits of which some key was read. Whatever they demand of other keys is in `lower` already, so
    /// that reading many keys of a large commit costs no more than their number.
    bound_by: Set<Version>,
}

impl ReadSet {
    /// An empty read set.
    pub fn new(hasher: &FixedState) -> Self {
        Self {
            pins: Map::with_hasher(hasher.clone()),
            lower: Map::with_hasher(hasher.clone()),
            missing: Set::with_hasher(hasher.clone()),
            bound_by: Set::with_hasher(hasher.clone()),
        }
    }

    /// What was read for `key`.
    pub fn pinned(&self, key: &Key) -> Option<&Pinned> {
        self.pins.get(key)
    }

    /// The commit below which a read of `key` must not fall.
    pub fn lower(&self, key: &Key) -> Option<&Arc<Commit>> {
        self.lower.get(key)
    }

    /// The timestamp of the newest version read.
    pub fn newest(&self) -> Timestamp {
        let committed = self.pins.values().filter_map(|pinned| match pinned {
            Pinned::Committed(commit) => Some(commit.version.timestamp),
            Pinned::Foreign(_) => None,
        });
        committed.max().unwrap_or_default()
    }

    /// Remembers that `key` was read at `commit`, with what that says about co-written keys.
    pub fn pin_committed(&mut self, key: Key, commit: Arc<Commit>) {
        self.missing.remove(&key);
        if !self.bound_by.insert(commit.version.clone()) {
            self.pins.insert(key, Pinned::Committed(commit));
            return;
        }
        for written in &commit.keys {
            if written.key == key {
                continue;
            }
            let newer = match self.lower.get(&written.key) {
                Some(bound) => bound.version < commit.version,
                None => true,
            };
            if newer {
                self.lower.insert(written.key.clone(), commit.clone());
            }
        }
        self.pins.insert(key, Pinned::Committed(commit));
    }

    /// Remembers that `key` was read as a foreign value.
    pub fn pin_foreign(&mut self, key: Key, pin: ForeignPin) {
        self.missing.remove(&key);
        self.pins.insert(key, Pinned::Foreign(pin));
    }

    /// Remembers that `key` was reported to have no value.
    pub fn note_missing(&mut self, key: Key) {
        self.missing.insert(key);
    }

    /// Forgets that `key` was missing: it is asked for again and may have a value now.
    pub fn forget_missing(&mut self, key: &Key) {
        self.missing.remove(key);
    }

    /// Whether another key of this commit was read at an older version, or was missing: then reading
    /// `key` at this commit would show a fraction of it.
    pub fn fractured_by(&self, commit: &Commit, key: &Key) -> bool {
        if self.pins.is_empty() && self.missing.is_empty() {
            return false;
        }
        // It was checked when its first key was read, and bounds everything read since.
        if self.bound_by.contains(&commit.version) {
            return false;
        }
        if self.pins.len() + self.missing.len() < commit.keys.len() {
            let older = self.pins.iter().any(|(pinned_key, pinned)| {
                pinned_key != key
                    && is_older(pinned, &commit.version)
                    && commit.written(pinned_key).is_some()
            });
            return older
                || self.missing.iter().any(|gone| gone != key && commit.written(gone).is_some());
        }
        commit.keys.iter().map(|written| &written.key).any(|other| {
            other != key
                && (self.missing.contains(other)
                    || self.pins.get(other).is_some_and(|pin| is_older(pin, &commit.version)))
        })
    }
}

fn is_older(pinned: &Pinned, than: &Version) -> bool {
    match pinned {
        Pinned::Committed(commit) => commit.version < *than,
        Pinned::Foreign(_) => true,
    }
}
