//! Which committed versions of each key this node knows, and how far it may trust that.
//!
//! The index is bounded in keys. One that was not read for long may be *evicted*, once its newest version
//! can be found again in the store. From then on a key without an entry may have versions all the same, and
//! an entry that comes into being (by a commit of this node, or of another) may lack newer ones: it is
//! *partial*, until the store was asked for the key's head. What is older than the head may then be
//! missing here, so it is not read: the head is the key's *floor*.
//!
//! Versions that nobody needs are *dropped*. The key remembers that it had older ones: nobody may be told
//! that it did not exist then.

use std::cell::Cell;
use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use foldhash::fast::FixedState;
use smallvec::SmallVec;

use super::{Commit, Key, Map, Timestamp, Version};

/// Entries looked at for one that is to be evicted.
const LOOKS_PER_EVICTION: usize = 16;

/// The committed versions of every key, oldest first. Holds commits, not values.
#[derive(Debug)]
pub struct VersionIndex {
    keys: Map<Key, Versions>,
    versions: usize,
    newest: Timestamp,
    /// Keys that got a second version, each with the newest one that was known then.
    superseded: Vec<(Key, Arc<Commit>)>,
    /// Something was evicted, or never loaded.
    has_gaps: bool,
    /// All keys, in the order in which they are looked at for eviction.
    ring: VecDeque<Key>,
}

#[derive(Debug, Default)]
struct Versions {
    commits: SmallVec<[Arc<Commit>; 1]>,
    /// The store may have a newer version that is not here.
    is_partial: bool,
    /// There were older versions, or may have been.
    is_pruned: bool,
    /// Older versions than this are not read; 0 if nothing is missing.
    floor: Timestamp,
    /// It was read since it was last looked at for eviction.
    was_read: Cell<bool>,
}

/// What is known of one key.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'a> {
    /// The versions, oldest first; none if the key is not known.
    pub versions: &'a [Arc<Commit>],
    /// There were older ones, or may have been.
    pub is_pruned: bool,
    /// A transaction that cannot read one of these, cannot read one below this either.
    pub floor: Timestamp,
}

impl<'a> From<&'a [Arc<Commit>]> for Known<'a> {
    /// All versions that there ever were.
    fn from(versions: &'a [Arc<Commit>]) -> Self {
        Self { versions, is_pruned: false, floor: Timestamp(0) }
    }
}

impl VersionIndex {
    /// An index that knows nothing.
    pub fn new(hasher: &FixedState) -> Self {
        Self {
            keys: Map::with_hasher(hasher.clone()),
            versions: 0,
            newest: Timestamp(0),
            superseded: Vec::new(),
            has_gaps: false,
            ring: VecDeque::new(),
        }
    }

    /// Makes a commit readable: all of its keys in one step. Doing it twice changes nothing.
    pub fn install(&mut self, commit: &Arc<Commit>) {
        for written in &commit.keys {
            self.install_at(&written.key, commit);
        }
        self.newest = self.newest.max(commit.version.timestamp);
    }

    /// Enters what the store said of a key: the commit that wrote its newest version, if there is one.
    /// Whatever newer is known here stays.
    pub fn install_head(&mut self, key: &Key, head: Option<&Arc<Commit>>) {
        if let Some(commit) = head {
            self.install_at(key, commit);
            self.raise_floor(key, &commit.version);
            self.newest = self.newest.max(commit.version.timestamp);
        }
        if let Some(known) = self.keys.get_mut(key) {
            known.is_partial = false;
            known.is_pruned = true;
        }
    }

    /// Between this version and older ones there may have been others.
    fn raise_floor(&mut self, key: &Key, version: &Version) {
        let Some(known) = self.keys.get_mut(key) else { return };
        let below = known.commits.iter().take_while(|commit| commit.version < *version).count();
        known.commits.drain(..below);
        self.versions -= below;
        known.floor = known.floor.max(version.timestamp);
    }

    /// Makes a version of one key readable that was the newest a moment ago. There may be newer ones. What
    /// came of the key meanwhile, from others, may be older, with gaps between.
    pub fn remember(&mut self, key: &Key, commit: &Arc<Commit>) {
        if self.is_partial(key) {
            self.install_at(key, commit);
            self.raise_floor(key, &commit.version);
        }
    }

    fn install_at(&mut self, key: &Key, commit: &Arc<Commit>) {
        let known = match self.keys.entry(key.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(vacant) => {
                self.ring.push_back(key.clone());
                let (is_partial, is_pruned) = (self.has_gaps, self.has_gaps);
                vacant.insert(Versions { is_partial, is_pruned, ..Versions::default() })
            }
        };
        if commit.version.timestamp < known.floor {
            return;
        }
        let commits = &mut known.commits;
        let newer = commits.iter().rev().take_while(|v| v.version > commit.version).count();
        let place = commits.len() - newer;
        let before = place.checked_sub(1).and_then(|before| commits.get(before));
        if before.is_some_and(|v| v.version == commit.version) {
            return;
        }
        commits.insert(place, commit.clone());
        self.versions += 1;
        if commits.len() == 2
            && let Some(newest) = commits.last()
        {
            self.superseded.push((key.clone(), newest.clone()));
        }
    }

    /// What is known of `key`.
    pub fn known(&self, key: &Key) -> Known<'_> {
        match self.keys.get(key) {
            Some(known) => {
                known.was_read.set(true);
                Known { versions: &known.commits, is_pruned: known.is_pruned, floor: known.floor }
            }
            None => Known { versions: &[], is_pruned: self.has_gaps, floor: Timestamp(0) },
        }
    }

    /// Whether the store has to be asked for the newest version of `key` before it can be read.
    pub fn is_partial(&self, key: &Key) -> bool {
        self.keys.get(key).map_or(self.has_gaps, |known| known.is_partial)
    }

    /// Whether there never was a version of `key`, as far as is known here.
    pub fn is_new(&self, key: &Key) -> bool {
        !self.has_gaps && !self.keys.contains_key(key)
    }

    /// The store has something newer of `key` than what is known here, or may have.
    pub fn mistrust(&mut self, key: &Key) {
        match self.keys.get_mut(key) {
            Some(known) => (known.is_partial, known.is_pruned) = (true, true),
            None => self.has_gaps = true,
        }
    }

    /// Takes the keys that have more than one version, each with one that supersedes others. What came
    /// since is told after the older ones were dropped.
    pub fn take_superseded(&mut self) -> Vec<(Key, Arc<Commit>)> {
        std::mem::take(&mut self.superseded)
    }

    /// The older versions of this key are not dropped yet.
    pub fn keep_superseded(&mut self, key: Key, by: Arc<Commit>) {
        self.superseded.push((key, by));
    }

    /// Forgets the versions of `key` that are older than this one. Answers the commits that wrote them.
    pub fn drop_older(&mut self, key: &Key, than: &Version) -> SmallVec<[Arc<Commit>; 4]> {
        let Some(known) = self.keys.get_mut(key) else { return SmallVec::new() };
        let older = known.commits.iter().take_while(|commit| commit.version < *than).count();
        // The newest one stays, whatever is asked.
        let older = older.min(known.commits.len().saturating_sub(1));
        let dropped: SmallVec<_> = known.commits.drain(..older).collect();
        self.versions -= dropped.len();
        known.is_pruned |= !dropped.is_empty();
        if known.commits.len() > 1
            && let Some(newest) = known.commits.last()
        {
            self.superseded.push((key.clone(), newest.clone()));
        }
        dropped
    }

    /// Whether a version that this commit wrote is known, or may be in the store without being known.
    pub fn may_have(&self, commit: &Commit) -> bool {
        commit.keys.iter().any(|written| match self.keys.get(&written.key) {
            Some(known) => {
                let is_here = known.commits.iter().any(|c| c.version == commit.version);
                is_here
                    || (known.is_partial
                        && known.commits.iter().all(|c| c.version < commit.version))
            }
            None => self.has_gaps,
        })
    }

    /// Keys to evict, each with its only version, if there are more keys than `keys_max`. At most `max` of
    /// them. They stay until each was handed to [`evict`](Self::evict).
    pub fn to_evict(&mut self, keys_max: usize, max: usize) -> Vec<(Key, Arc<Commit>)> {
        let count = self.keys.len().saturating_sub(keys_max).min(max);
        let mut found = Vec::new();
        for _ in 0..count.saturating_mul(LOOKS_PER_EVICTION).min(self.ring.len()) {
            if found.len() == count {
                break;
            }
            let Some(key) = self.ring.pop_front() else { break };
            let Some(known) = self.keys.get(&key) else { continue };
            match &known.commits[..] {
                [only] if !known.was_read.replace(false) => found.push((key, only.clone())),
                _ => self.ring.push_back(key),
            }
        }
        found
    }

    /// Forgets a key if it `may_go`, unless it has other versions than this one by now, or was read
    /// meanwhile.
    pub fn evict(&mut self, key: &Key, version: &Version, may_go: bool) -> bool {
        let Some(known) = self.keys.get(key) else { return false };
        let is_same = matches!(&known.commits[..], [only] if only.version == *version);
        if !is_same || !may_go || known.was_read.get() {
            self.ring.push_back(key.clone());
            return false;
        }
        self.keys.remove(key);
        self.versions -= 1;
        self.has_gaps = true;
        true
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
