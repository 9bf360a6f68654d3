//! Which committed versions of each key this node knows.

use std::sync::Arc;

use foldhash::fast::FixedState;
use smallvec::SmallVec;

use super::{Commit, Key, Map, Timestamp};

/// The committed versions of every key, oldest first. Holds commits, not values.
#[derive(Debug)]
pub struct VersionIndex {
    keys: Map<Key, SmallVec<[Arc<Commit>; 1]>>,
    versions: usize,
    newest: Timestamp,
}

impl VersionIndex {
    /// An index that knows nothing.
    pub fn new(hasher: &FixedState) -> Self {
        Self { keys: Map::with_hasher(hasher.clone()), versions: 0, newest: Timestamp(0) }
    }

    /// Makes a commit readable: all of its keys in one step. Doing it twice changes nothing.
    pub fn install(&mut self, commit: &Arc<Commit>) {
        for written in &commit.keys {
            let versions = self.keys.entry(written.key.clone()).or_default();
            let newer = versions.iter().rev().take_while(|v| v.version > commit.version).count();
            let place = versions.len() - newer;
            let known = place.checked_sub(1).and_then(|before| versions.get(before));
            if known.is_some_and(|v| v.version == commit.version) {
                continue;
            }
            versions.insert(place, commit.clone());
            self.versions += 1;
        }
        self.newest = self.newest.max(commit.version.timestamp);
    }

    /// The known versions of `key`, oldest first; none if the key is not known.
    pub fn versions(&self, key: &Key) -> &[Arc<Commit>] {
        self.keys.get(key).map_or(&[], |versions| versions)
    }

    /// The greatest timestamp of a commit that was installed.
    pub fn newest(&self) -> Timestamp {
        self.newest
    }

    /// How many keys are known.
    pub fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// How many versions are known, over all keys.
    pub fn version_count(&self) -> usize {
        self.versions
    }
}
