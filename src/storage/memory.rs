//! A store in memory, gone with the process: for tests and the simulator, and for trying things out.
//!
//! Its operations are plain methods that answer at once; the [`Storage`] trait is a thin layer above
//! them, so that a simulator needs no asynchronous runtime and can decide itself when an operation
//! takes effect and when its answer arrives.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::{CommitBatch, LogPage, LogPosition, PlainValue, Storage, StorageError};
use crate::txn::{BaseId, Commit, Key, Outcome, Version};

/// Commits handed out per page of the log.
const PAGE_COMMITS_MAX: usize = 1_000;

/// See the [module's page](self).
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    versions: BTreeMap<(Key, Version), Bytes>,
    outcomes: BTreeMap<BaseId, Outcome>,
    log: Vec<Arc<Commit>>,
    plain: BTreeMap<Key, PlainValue>,
}

impl MemoryStore {
    /// [`Storage::commit`], now.
    pub fn commit_now(&self, batch: CommitBatch) -> Outcome {
        let mut state = self.state.lock();
        let base = batch.commit.version.writer.base();
        if let Some(outcome) = state.outcomes.get(&base) {
            return outcome.clone();
        }
        for (written, value) in batch.commit.keys.iter().zip(batch.values) {
            let name = (written.key.clone(), batch.commit.version.clone());
            state.versions.insert(name, value);
        }
        let outcome = Outcome::Committed(batch.commit.clone());
        state.outcomes.insert(base, outcome.clone());
        state.log.push(batch.commit);
        outcome
    }

    /// [`Storage::outcome`], now.
    pub fn outcome_now(&self, id: &BaseId) -> Option<Outcome> {
        self.state.lock().outcomes.get(id).cloned()
    }

    /// [`Storage::settle_aborted`], now.
    pub fn settle_aborted_now(&self, id: &BaseId) -> Outcome {
        let mut state = self.state.lock();
        state.outcomes.entry(id.clone()).or_insert(Outcome::Aborted).clone()
    }

    /// [`Storage::versions`], now.
    pub fn versions_now(&self, wanted: &[(Key, Version)]) -> Vec<Option<Bytes>> {
        let state = self.state.lock();
        wanted.iter().map(|name| state.versions.get(name).cloned()).collect()
    }

    /// All commits, in log order.
    pub fn log_now(&self) -> Vec<Arc<Commit>> {
        self.state.lock().log.clone()
    }

    /// [`Storage::publish`], now.
    pub fn publish_now(&self, key: &Key, version: &Version, value: &Bytes) {
        self.write_plain(key, version.timestamp.0, value.clone(), true);
    }

    /// Writes under a plain name as somebody does who knows nothing of sidecars.
    pub fn put_foreign(&self, key: &Key, timestamp: u64, value: Bytes) {
        self.write_plain(key, timestamp, value, false);
    }

    /// [`Storage::plain`], now.
    pub fn plain_now(&self, keys: &[Key]) -> Vec<Option<PlainValue>> {
        let state = self.state.lock();
        keys.iter().map(|key| state.plain.get(key).cloned()).collect()
    }

    fn write_plain(&self, key: &Key, timestamp: u64, value: Bytes, published: bool) {
        let mut state = self.state.lock();
        if state.plain.get(key).is_none_or(|before| timestamp >= before.timestamp) {
            state.plain.insert(key.clone(), PlainValue { timestamp, value, published });
        }
    }

    fn page(&self, position: &LogPosition) -> Result<LogPage, StorageError> {
        let begin = match <[u8; 8]>::try_from(&position.0[..]) {
            Ok(bytes) => u64::from_be_bytes(bytes) as usize,
            Err(_) if position.0.is_empty() => 0,
            Err(_) => {
                return Err(StorageError::Damaged("not a position of this log".to_owned()));
            }
        };
        let state = self.state.lock();
        let rest = state.log.get(begin..).unwrap_or_default();
        let commits: Vec<_> = rest.iter().take(PAGE_COMMITS_MAX).cloned().collect();
        let next = (begin + commits.len()) as u64;
        let end = commits.len() == rest.len();
        Ok(LogPage { commits, next: LogPosition(next.to_be_bytes().to_vec().into()), end })
    }
}

#[async_trait]
impl Storage for MemoryStore {
    async fn commit(&self, batch: CommitBatch) -> Result<Outcome, StorageError> {
        Ok(self.commit_now(batch))
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

    async fn commits_since(&self, position: &LogPosition) -> Result<LogPage, StorageError> {
        self.page(position)
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
