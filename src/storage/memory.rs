//! A store in memory: for tests, for trying things out, and as the store of simulated clusters.
//!
//! Everything is done synchronously by the `…_now` methods, in an order that depends on nothing but
//! the calls; the [`Storage`] methods only wrap them. A simulator on a virtual clock calls the
//! former, so that it needs no runtime and a run can be repeated exactly.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    CommitBatch, Garbage, LatticeType, LogPage, LogPosition, LogScope, PlainValue, Storage,
    StorageError, Sweep, Swept, Usage, codec, position, remains,
};
use crate::txn::{BaseId, Commit, Key, Outcome, Version};

const PAGE_COMMITS_MAX: usize = 1024;

/// A [`Storage`] that is gone when it is dropped. It has plain keys, as if others wrote to it.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    versions: BTreeMap<Key, BTreeMap<Version, Bytes>>,
    outcomes: BTreeMap<BaseId, Outcome>,
    /// By number. Those of collected commits are gone.
    log: BTreeMap<u64, Arc<Commit>>,
    next_entry: u64,
    entry_of: BTreeMap<Version, u64>,
    plain: BTreeMap<Key, PlainValue>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// [`Storage::commit`], at once.
    pub fn commit_now(&self, batch: CommitBatch) -> Result<Outcome, StorageError> {
        codec::check(&batch)?;
        let CommitBatch { commit, values, .. } = batch;
        let state = &mut *self.state.lock();
        let vacant = match state.outcomes.entry(commit.version.writer.base()) {
            Entry::Occupied(settled) => return Ok(settled.get().clone()),
            Entry::Vacant(vacant) => vacant,
        };
        for (written, value) in commit.keys.iter().zip(values) {
            let of_key = state.versions.entry(written.key.clone()).or_default();
            of_key.insert(commit.version.clone(), value);
        }
        state.log.insert(state.next_entry, commit.clone());
        state.entry_of.insert(commit.version.clone(), state.next_entry);
        state.next_entry += 1;
        Ok(vacant.insert(Outcome::Committed(commit)).clone())
    }

    /// [`Storage::outcome`], at once.
    pub fn outcome_now(&self, id: &BaseId) -> Option<Outcome> {
        self.state.lock().outcomes.get(id).cloned()
    }

    /// [`Storage::settle_aborted`], at once.
    pub fn settle_aborted_now(&self, id: &BaseId) -> Outcome {
        let mut state = self.state.lock();
        let outcome = state.outcomes.entry(id.clone());
        outcome.or_insert(Outcome::Aborted).clone()
    }

    /// [`Storage::versions`], at once.
    pub fn versions_now(&self, wanted: &[(Key, Version)]) -> Vec<Option<Bytes>> {
        let state = self.state.lock();
        wanted.iter().map(|(key, version)| state.versions.get(key)?.get(version).cloned()).collect()
    }

    /// [`Storage::commits_since`], at once.
    pub fn commits_since_now(&self, position: &LogPosition) -> Result<LogPage, StorageError> {
        let from = position::decode(position)?;
        let state = self.state.lock();
        let mut behind = state.log.range(from..);
        let commits: Vec<_> = behind.by_ref().take(PAGE_COMMITS_MAX).collect();
        let next = commits.last().map_or(from, |(number, _)| **number + 1);
        Ok(LogPage {
            next: position::encode(next),
            end: behind.next().is_none(),
            commits: commits.into_iter().map(|(_, commit)| commit.clone()).collect(),
        })
    }

    /// [`Storage::heads`], at once.
    pub fn heads_now(&self, keys: &[Key]) -> Vec<Option<Arc<Commit>>> {
        let state = self.state.lock();
        keys.iter().map(|key| state.head(key)).collect()
    }

    /// [`Storage::collect`], at once.
    pub fn collect_now(&self, garbage: &Garbage) {
        let state = &mut *self.state.lock();
        for gone in &garbage.superseded {
            for key in &gone.keys {
                state.delete(key, &gone.commit.version);
            }
            if gone.is_last {
                state.forget_record(&gone.commit.version);
            }
        }
    }

    /// [`Storage::sweep`], at once, and of everything.
    pub fn sweep_now(&self, sweep: &Sweep) -> Swept {
        let state = &mut *self.state.lock();
        let mut swept = Swept { end: true, ..Swept::default() };
        for (key, version) in state.superseded_before(sweep) {
            state.delete(&key, &version);
            swept.versions += 1;
        }
        let recorded =
            state.entry_of.keys().filter(|version| sweep.share.has(version.writer.as_str()));
        let gone: Vec<_> =
            recorded.filter(|version| !state.has_value_of(version)).cloned().collect();
        swept.records = gone.len() as u64;
        gone.iter().for_each(|version| state.forget_record(version));
        let before = state.outcomes.len();
        swept.looked_at = before as u64;
        state.outcomes.retain(|id, outcome| {
            !sweep.share.has(id.as_str()) || !remains::is_old(id, outcome, sweep.outcomes_before)
        });
        swept.outcomes = (before - state.outcomes.len()) as u64;
        swept
    }

    /// [`Storage::usage`], at once.
    pub fn usage_now(&self) -> Usage {
        let state = self.state.lock();
        let versions = state.versions.values().map(BTreeMap::len);
        let keys = state.versions.values().filter(|of_key| !of_key.is_empty()).count();
        let versions: usize = versions.sum();
        let values = state.versions.values().flat_map(BTreeMap::values);
        Usage {
            keys: keys as u64,
            versions: versions as u64,
            superseded: (versions - keys) as u64,
            uncommitted: 0,
            log_entries: state.log.len() as u64,
            outcomes: state.outcomes.len() as u64,
            remains: state.outcomes.values().filter(|outcome| remains::is_only(outcome)).count()
                as u64,
            bytes: values.map(|value| value.len() as u64).sum(),
        }
    }

    /// [`Storage::publish`], at once.
    pub fn publish_now(&self, key: &Key, version: &Version, value: &Bytes) {
        self.put_plain(
            key,
            PlainValue {
                timestamp: version.timestamp.0,
                value: value.clone(),
                published: true,
                lattice: LatticeType::Lww,
            },
        );
    }

    /// Writes a value under a key's plain name as others than sidecars do.
    pub fn plant_foreign(&self, key: &Key, timestamp: u64, value: Bytes) {
        self.put_plain(
            key,
            PlainValue { timestamp, value, published: false, lattice: LatticeType::Lww },
        );
    }

    /// [`Storage::plain`], at once.
    pub fn plain_now(&self, keys: &[Key]) -> Vec<Option<PlainValue>> {
        let state = self.state.lock();
        keys.iter().map(|key| state.plain.get(key).cloned()).collect()
    }

    fn put_plain(&self, key: &Key, new: PlainValue) {
        let plain = &mut self.state.lock().plain;
        let newer_is_there =
            (plain.get(key)).is_some_and(|present| present.timestamp > new.timestamp);
        if !newer_is_there {
            plain.insert(key.clone(), new);
        }
    }
}

impl State {
    fn head(&self, key: &Key) -> Option<Arc<Commit>> {
        let (newest, _) = self.versions.get(key)?.last_key_value()?;
        self.log.get(self.entry_of.get(newest)?).cloned()
    }

    fn delete(&mut self, key: &Key, version: &Version) {
        if let Entry::Occupied(mut of_key) = self.versions.entry(key.clone()) {
            of_key.get_mut().remove(version);
            if of_key.get().is_empty() {
                of_key.remove();
            }
        }
    }

    fn has_value_of(&self, version: &Version) -> bool {
        let commit = self.entry_of.get(version).and_then(|entry| self.log.get(entry));
        let mut keys = commit.into_iter().flat_map(|commit| &commit.keys);
        keys.any(|w| self.versions.get(&w.key).is_some_and(|of_key| of_key.contains_key(version)))
    }

    fn forget_record(&mut self, version: &Version) {
        let Some(entry) = self.entry_of.remove(version) else { return };
        if let Some(commit) = self.log.remove(&entry) {
            self.outcomes.insert(version.writer.base(), remains::of(&commit));
        }
    }

    fn superseded_before(&self, sweep: &Sweep) -> Vec<(Key, Version)> {
        let mut found = Vec::new();
        for (key, of_key) in self.versions.iter().filter(|(key, _)| sweep.share.has(key.as_str())) {
            let old = of_key
                .keys()
                .rev()
                .skip_while(|version| version.timestamp >= sweep.superseded_before);
            found.extend(old.skip(1).map(|version| (key.clone(), version.clone())));
        }
        found
    }
}

#[async_trait]
impl Storage for MemoryStore {
    async fn commit(&self, batch: CommitBatch) -> Result<Outcome, StorageError> {
        self.commit_now(batch)
    }

    async fn outcome(&self, id: &BaseId) -> Result<Option<Outcome>, StorageError> {
        Ok(self.outcome_now(id))
    }

    async fn settle_aborted(&self, id: &BaseId) -> Result<Outcome, StorageError> {
        Ok(self.settle_aborted_now(id))
    }

    async fn versions(
        &self,
        wanted: &[(Key, Version)],
    ) -> Result<Vec<Option<Bytes>>, StorageError> {
        Ok(self.versions_now(wanted))
    }

    async fn commits_since(
        &self,
        position: &LogPosition,
        _scope: LogScope,
    ) -> Result<LogPage, StorageError> {
        self.commits_since_now(position)
    }

    fn collects_garbage(&self) -> bool {
        true
    }

    async fn heads(&self, keys: &[Key]) -> Result<Vec<Option<Arc<Commit>>>, StorageError> {
        Ok(self.heads_now(keys))
    }

    async fn collect(&self, garbage: &Garbage) -> Result<(), StorageError> {
        self.collect_now(garbage);
        Ok(())
    }

    async fn sweep(&self, sweep: &Sweep) -> Result<Swept, StorageError> {
        Ok(self.sweep_now(sweep))
    }

    async fn usage(&self) -> Result<Usage, StorageError> {
        Ok(self.usage_now())
    }

    fn has_plain_keys(&self) -> bool {
        true
    }

    async fn publish(
        &self,
        key: &Key,
        version: &Version,
        value: &Bytes,
    ) -> Result<(), StorageError> {
        self.publish_now(key, version, value);
        Ok(())
    }

    async fn plain(&self, keys: &[Key]) -> Result<Vec<Option<PlainValue>>, StorageError> {
        Ok(self.plain_now(keys))
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance;
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn conforms() {
        let store = Arc::new(MemoryStore::new());
        conformance::run(store.clone(), 1).await;
        // A store that was used before serves as well.
        conformance::run(store, 2).await;
    }

    #[test]
    fn a_foreign_value_is_told_apart_and_the_newer_stays() {
        let store = MemoryStore::new();
        let key = Key::parse("k").unwrap();
        store.plant_foreign(&key, 5, Bytes::from_static(b"five"));
        store.plant_foreign(&key, 4, Bytes::from_static(b"four"));
        let found = store.plain_now(&[key]).remove(0).unwrap();
        assert_eq!((found.timestamp, found.published), (5, false));
    }
}
