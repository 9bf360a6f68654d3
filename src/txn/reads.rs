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
    /// Keys reported to have no value, each with the number of that report.
    missing: Map<Key, u64>,
    /// How often a key was reported to have no value.
    reports: u64,
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
            missing: Map::with_hasher(hasher.clone()),
            reports: 0,
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
        self.reports += 1;
        self.missing.insert(key, self.reports);
    }

    /// How often a key was reported to have no value so far. Never falls.
    pub fn reports(&self) -> u64 {
        self.reports
    }

    /// The number of the last report that `key` has no value.
    pub fn missing_since(&self, key: &Key) -> Option<u64> {
        self.missing.get(key).copied()
    }

    /// Forgets that `key` was missing: it is asked for again and may have a value now. Answers what
    /// [`missing_since`](Self::missing_since) did.
    pub fn forget_missing(&mut self, key: &Key) -> Option<u64> {
        self.missing.remove(key)
    }

    /// Takes reports after the first `kept` ones back, and those in `forgotten` in again: nobody was
    /// answered.
    pub fn restore_missing(&mut self, kept: u64, forgotten: Vec<(Key, u64)>) {
        self.missing.retain(|_, report| *report <= kept);
        let unread = forgotten.into_iter().filter(|(key, _)| !self.pins.contains_key(key));
        self.missing.extend(unread);
    }

    /// Takes the place of `before`: what is reported from now on is numbered after its reports, as are
    /// those that are here.
    pub fn replace(mut self, before: &mut Self) {
        self.reports += before.reports;
        for report in self.missing.values_mut() {
            *report += before.reports;
        }
        *before = self;
    }

    /// Everything read, in the order of the keys.
    pub fn pins(&self) -> Vec<(&Key, &Pinned)> {
        let mut pins: Vec<_> = self.pins.iter().collect();
        pins.sort_unstable_by_key(|(key, _)| *key);
        pins
    }

    /// Keys reported to have no value, in their order.
    pub fn missing(&self) -> Vec<&Key> {
        let mut missing: Vec<_> = self.missing.keys().collect();
        missing.sort_unstable();
        missing
    }

    /// Adds what a parallel branch of the same transaction has read.
    ///
    /// # Errors
    /// A key of which the two branches together would show a fraction of some transaction, or two
    /// versions. Nothing was added then.
    pub fn join(&mut self, reads: Vec<(Key, Pinned)>, missing: Vec<Key>) -> Result<(), Key> {
        for (key, pinned) in &reads {
            let same = self.pins.get(key).is_none_or(|known| known == pinned);
            let older = self.lower.get(key).is_some_and(|bound| is_older(pinned, &bound.version));
            if !same || older || self.missing.contains_key(key) {
                return Err(key.clone());
            }
            if let Pinned::Committed(commit) = pinned
                && let Some(other) = self.torn_by(commit)
            {
                return Err(other);
            }
        }
        let has_value = |key: &&Key| self.pins.contains_key(*key) || self.lower.contains_key(*key);
        if let Some(key) = missing.iter().find(has_value) {
            return Err(key.clone());
        }
        for (key, pinned) in reads {
            match pinned {
                Pinned::Committed(commit) => self.pin_committed(key, commit),
                Pinned::Foreign(pin) => self.pin_foreign(key, pin),
            }
        }
        missing.into_iter().for_each(|key| self.note_missing(key));
        Ok(())
    }

    /// A key that this commit wrote and that was read older, or was missing.
    fn torn_by(&self, commit: &Commit) -> Option<Key> {
        let is_torn = |key: &Key| {
            self.missing.contains_key(key)
                || self.pins.get(key).is_some_and(|pin| is_older(pin, &commit.version))
        };
        commit.keys.iter().map(|written| &written.key).find(|key| is_torn(key)).cloned()
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
                || self.missing.keys().any(|gone| gone != key && commit.written(gone).is_some());
        }
        commit.keys.iter().map(|written| &written.key).any(|other| {
            other != key
                && (self.missing.contains_key(other)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::txn::{AttemptId, WrittenKey};
    use proptest::prelude::*;

    const KEYS: usize = 4;

    fn key(number: usize) -> Key {
        Key::parse(&format!("k{number}")).unwrap()
    }

    /// The commit at `timestamp` of the keys in `mask`.
    fn commit(timestamp: u64, mask: u8) -> Arc<Commit> {
        let writer = AttemptId::parse(&format!("t{timestamp}")).unwrap();
        let version = Version { timestamp: Timestamp(timestamp), writer };
        let keys = (0..KEYS).filter(|k| mask & (1 << k) != 0);
        let keys = keys.map(|k| WrittenKey { key: key(k), fresh: false }).collect();
        Arc::new(Commit::new(version, keys, "".into()))
    }

    /// What one branch reads: for each key nothing, missing, or one of the versions.
    fn branch(picks: &[u8], commits: &[Arc<Commit>]) -> (Vec<(Key, Pinned)>, Vec<Key>) {
        let (mut reads, mut missing) = (Vec::new(), Vec::new());
        for (number, pick) in picks.iter().enumerate() {
            let key = key(number);
            let versions: Vec<_> = commits.iter().filter(|c| c.written(&key).is_some()).collect();
            match usize::from(*pick) {
                0 => {}
                1 => missing.push(key),
                n => match versions.get((n - 2) % versions.len().max(1)) {
                    Some(commit) => reads.push((key, Pinned::Committed((*commit).clone()))),
                    None => missing.push(key),
                },
            }
        }
        (reads, missing)
    }

    /// Judged from the definition: no key twice, none older or missing next to one written with it.
    fn is_whole(reads: &[(Key, Pinned)], missing: &[Key]) -> bool {
        let version = |pinned: &Pinned| match pinned {
            Pinned::Committed(commit) => commit.version.clone(),
            Pinned::Foreign(_) => unreachable!(),
        };
        reads.iter().all(|(key, pinned)| {
            let Pinned::Committed(commit) = pinned else { return true };
            let alike = reads.iter().all(|(other, pin)| {
                if other == key {
                    return pin == pinned;
                }
                commit.written(other).is_none() || version(pin) >= commit.version
            });
            alike && missing.iter().all(|gone| commit.written(gone).is_none())
        })
    }

    proptest! {
        #[test]
        fn branches_join_if_they_are_whole_together(
            masks in prop::collection::vec(1u8..16, 1..6),
            first in prop::collection::vec(0u8..6, KEYS),
            second in prop::collection::vec(0u8..6, KEYS),
        ) {
            let commits: Vec<_> = (1..).zip(&masks).map(|(t, mask)| commit(t, *mask)).collect();
            let (a, b) = (branch(&first, &commits), branch(&second, &commits));
            prop_assume!(is_whole(&a.0, &a.1) && is_whole(&b.0, &b.1));
            let mut set = ReadSet::new(&FixedState::with_seed(0));
            prop_assert!(set.join(a.0.clone(), a.1.clone()).is_ok());
            let all: Vec<_> = a.0.iter().chain(&b.0).cloned().collect();
            let gone: Vec<_> = a.1.iter().chain(&b.1).cloned().collect();
            prop_assert_eq!(set.join(b.0, b.1).is_ok(), is_whole(&all, &gone));
        }
    }
}
