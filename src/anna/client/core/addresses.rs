//! Which storage threads keep which keys, as far as the routing tier has said; bounded.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use foldhash::fast::FixedState;
use smallvec::SmallVec;

/// The endpoint of a thread of the store. All equal ones share their text; see [`Peers`](super::peers).
pub(super) type Addr = Arc<str>;
/// The replicas of a key.
pub(super) type Addrs = SmallVec<[Addr; 1]>;

struct Entry {
    addrs: Addrs,
    /// Asked for since the hand came by.
    used: bool,
}

/// Forgets the entries that were not used for longest, roughly: a hand goes round, and what was used
/// since it came by last is spared once (the *clock* algorithm).
pub(super) struct AddressCache {
    entries: HashMap<Arc<str>, Entry, FixedState>,
    /// All keys of `entries` in the order of the hand, and some that were removed.
    hand: VecDeque<Arc<str>>,
    entries_max: usize,
}

impl AddressCache {
    pub(super) fn new(entries_max: usize) -> Self {
        Self { entries: HashMap::default(), hand: VecDeque::new(), entries_max: entries_max.max(1) }
    }

    pub(super) fn get(&mut self, key: &str) -> Option<&Addrs> {
        let entry = self.entries.get_mut(key)?;
        entry.used = true;
        Some(&entry.addrs)
    }

    pub(super) fn contains(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    pub(super) fn insert(&mut self, key: Arc<str>, addrs: Addrs) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.addrs = addrs;
            return;
        }
        while self.entries.len() >= self.entries_max {
            self.forget_one();
        }
        self.hand.push_back(key.clone());
        self.entries.insert(key, Entry { addrs, used: false });
        if self.hand.len() > 2 * self.entries_max {
            self.hand = self.entries.keys().cloned().collect();
        }
    }

    pub(super) fn remove(&mut self, key: &str) {
        self.entries.remove(key);
    }

    /// Removes addresses that have proved wrong, unless others have taken their place by now.
    pub(super) fn remove_if(&mut self, key: &str, addrs: &Addrs) {
        if self.entries.get(key).is_some_and(|entry| entry.addrs == *addrs) {
            self.entries.remove(key);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn forget_one(&mut self) {
        while let Some(key) = self.hand.pop_front() {
            match self.entries.get_mut(&key) {
                None => {}
                Some(entry) if entry.used => {
                    entry.used = false;
                    self.hand.push_back(key);
                }
                Some(_) => {
                    self.entries.remove(&key);
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Arc<str> {
        format!("key {number}").into()
    }

    #[test]
    fn what_is_used_stays_and_the_rest_makes_room() {
        let mut cache = AddressCache::new(10);
        for number in 0..1_000 {
            cache.insert(key(number), SmallVec::new());
            assert!(cache.get(&key(0)).is_some(), "forgotten after {number}");
            assert!(cache.len() <= 10 && cache.hand.len() <= 20);
        }
        assert!(cache.contains(&key(999)) && !cache.contains(&key(500)));
    }

    #[test]
    fn keys_that_come_and_go_leave_nothing() {
        let mut cache = AddressCache::new(10);
        for number in 0..1_000 {
            cache.insert(key(number % 3), SmallVec::new());
            cache.remove(&key(number % 3));
            assert!(cache.hand.len() <= 20);
        }
        assert_eq!(cache.len(), 0);
    }
}
