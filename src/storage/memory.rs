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
    CommitBatch, LatticeType, LogPage, LogPosition, LogScope, PlainValue, Storage, StorageError,
    codec, position,
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
    log: Vec<Arc<Commit>>,
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
        state.log.push(commit.clone());
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
        let behind =
            usize::try_from(from).ok().and_then(|from| state.log.get(from..)).unwrap_or_default();
        let commits = behind[..behind.len().min(PAGE_COMMITS_MAX)].to_vec();
        Ok(LogPage {
            next: position::encode(from.saturating_add(commits.len() as u64)),
            end: commits.len() == behind.len(),
            commits,
        })
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
