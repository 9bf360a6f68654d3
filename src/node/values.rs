//! Values kept in memory: committed versions, which never change, and the knowledge that a plain key
//! has nothing under it, which is good for a moment only.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use bytes::Bytes;
use foldhash::fast::FixedState;
use quick_cache::unsync::{Cache, DefaultLifecycle};
use quick_cache::{Equivalent, Weighter};

use crate::txn::{Key, Map, Version};

/// What an entry costs besides its key and value, in bytes.
const ENTRY_OVERHEAD_BYTES: usize = 160;
/// Sizes the cache's tables before anything is known of the values.
const TYPICAL_VALUE_BYTES: usize = 4096;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Slot(Key, Version);

struct SlotRef<'a>(&'a Key, &'a Version);

impl Hash for SlotRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
        self.1.hash(state);
    }
}

impl Equivalent<Slot> for SlotRef<'_> {
    fn equivalent(&self, slot: &Slot) -> bool {
        *self.0 == slot.0 && *self.1 == slot.1
    }
}

#[derive(Debug, Clone)]
struct ByBytes;

impl Weighter<Slot, Bytes> for ByBytes {
    fn weight(&self, slot: &Slot, value: &Bytes) -> u64 {
        (slot.0.as_str().len() + value.len() + ENTRY_OVERHEAD_BYTES) as u64
    }
}

/// The value cache, bounded in bytes.
pub(super) struct Values {
    cache: Cache<Slot, Bytes, ByBytes, FixedState>,
}

impl Values {
    pub(super) fn new(bytes_max: u64, hasher: &FixedState) -> Self {
        let items = (bytes_max as usize / TYPICAL_VALUE_BYTES).clamp(64, 1 << 20);
        let cache =
            Cache::with(items, bytes_max, ByBytes, hasher.clone(), DefaultLifecycle::default());
        Self { cache }
    }

    pub(super) fn get(&self, key: &Key, version: &Version) -> Option<Bytes> {
        self.cache.get(&SlotRef(key, version)).cloned()
    }

    pub(super) fn insert(&mut self, key: Key, version: Version, value: Bytes) {
        self.cache.insert(Slot(key, version), value);
    }

    /// Nobody will ask for this version any more.
    pub(super) fn remove(&mut self, key: &Key, version: &Version) {
        self.cache.remove(&SlotRef(key, version));
    }

    /// The keys of which some version is here, each once.
    pub(super) fn keys(&self) -> Vec<Key> {
        let mut keys: Vec<_> = self.cache.iter().map(|(slot, _)| slot.0.clone()).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    pub(super) fn bytes(&self) -> u64 {
        self.cache.weight()
    }
}

/// Plain keys under which nothing was found a moment ago, so that a client which asks again and again
/// does not reach the store each time.
#[derive(Debug)]
pub(super) struct Absent {
    until: Map<Key, Duration>,
    order: VecDeque<(Duration, Key)>,
    keep: Duration,
}

const ABSENT_KEYS_MAX: usize = 65_536;

impl Absent {
    pub(super) fn new(keep: Duration, hasher: &FixedState) -> Self {
        Self { until: Map::with_hasher(hasher.clone()), order: VecDeque::new(), keep }
    }

    pub(super) fn note(&mut self, key: Key, elapsed: Duration) {
        let until = elapsed + self.keep;
        self.until.insert(key.clone(), until);
        self.order.push_back((until, key));
        while self.order.len() > ABSENT_KEYS_MAX
            || self.order.front().is_some_and(|(until, _)| *until <= elapsed)
        {
            let Some((expired, key)) = self.order.pop_front() else {
                break;
            };
            if self.until.get(&key) == Some(&expired) {
                self.until.remove(&key);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.until.is_empty()
    }

    /// Something was just written there.
    pub(super) fn forget(&mut self, key: &Key) {
        self.until.remove(key);
    }

    pub(super) fn contains(&self, key: &Key, elapsed: Duration) -> bool {
        self.until.get(key).is_some_and(|until| elapsed < *until)
    }
}
