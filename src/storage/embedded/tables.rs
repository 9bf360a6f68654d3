//! The database's tables and how things are named in them.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `versions` | user key, NUL, timestamp (8 bytes, big endian), attempt id | the value's bytes |
//! | `log` | number, from 1 (8 bytes, big endian) | the commit, as a `TransactionRecord` |
//! | `outcomes` | base id | number of its log entry (8 bytes, big endian), or nothing if aborted |

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use fjall::config::CompressionPolicy;
use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions,
    OwnedWriteBatch, PersistMode,
};

use super::super::codec;
use super::guard::DATABASE_DIR;
use super::{EmbeddedOptions, OpenError, damaged};
use crate::storage::{CommitBatch, LogPage, LogPosition, StorageError};
use crate::txn::{BaseId, Commit, Key, Outcome, Version};

/// Commits handed out per page of the log.
const PAGE_COMMITS_MAX: usize = 4_096;
/// Values above this size are kept apart from their keys, so that they are not rewritten with them.
const SEPARATE_ABOVE_BYTES: u32 = 1_024;

/// Handles of the open database. Cheap to clone; it is closed with the last one.
#[derive(Clone)]
pub(super) struct Tables {
    database: Database,
    versions: Keyspace,
    log: Keyspace,
    outcomes: Keyspace,
}

impl Tables {
    pub(super) fn open(path: &Path, options: &EmbeddedOptions) -> Result<Self, OpenError> {
        // Damaged files are met deep inside the database, which does not always return an error.
        let opened = catch_unwind(AssertUnwindSafe(|| Self::try_open(path, options)));
        match opened {
            Ok(Ok(tables)) => Ok(tables),
            Ok(Err(fjall::Error::Locked)) => Err(OpenError::InUse(path.to_owned())),
            Ok(Err(fjall::Error::Io(source))) => {
                Err(OpenError::Io { path: path.join(DATABASE_DIR), source })
            }
            Ok(Err(error)) => Err(damaged(path, &error.to_string())),
            Err(_) => Err(damaged(path, "the database's files cannot be made sense of")),
        }
    }

    fn try_open(path: &Path, options: &EmbeddedOptions) -> fjall::Result<Self> {
        let database = Database::builder(path.join(DATABASE_DIR))
            .cache_size(options.cache_bytes)
            .max_journaling_size(options.journal_bytes)
            .journal_compression(CompressionType::None)
            .worker_threads(2)
            .open()?;
        let plain = || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(options.memtable_bytes)
                .data_block_compression_policy(CompressionPolicy::disabled())
        };
        let separated = || {
            let separation = KvSeparationOptions::default()
                .compression(CompressionType::None)
                .separation_threshold(SEPARATE_ABOVE_BYTES);
            plain().with_kv_separation(Some(separation))
        };
        Ok(Self {
            versions: database.keyspace("versions", separated)?,
            log: database.keyspace("log", plain)?,
            outcomes: database.keyspace("outcomes", plain)?,
            database,
        })
    }

    /// The number of the last log entry, 0 if there is none.
    pub(super) fn last_position(&self) -> Result<u64, StorageError> {
        let Some(last) = self.log.last_key_value() else {
            return Ok(0);
        };
        let (key, _) = guarded(|| last.into_inner())?;
        number(&key)
    }

    pub(super) fn version(
        &self,
        key: &Key,
        version: &Version,
    ) -> Result<Option<Bytes>, StorageError> {
        let found = guarded(|| self.versions.get(version_name(key, version)))?;
        Ok(found.map(|value| Bytes::copy_from_slice(&value)))
    }

    pub(super) fn outcome(&self, id: &BaseId) -> Result<Option<Outcome>, StorageError> {
        match guarded(|| self.outcomes.get(id.as_str()))? {
            None => Ok(None),
            Some(value) if value.is_empty() => Ok(Some(Outcome::Aborted)),
            Some(value) => {
                let commit = guarded(|| self.log.get(&value[..]))?;
                let missing = || StorageError::Damaged(format!("the record of {id} is missing"));
                let commit = decode(&commit.ok_or_else(missing)?)?;
                Ok(Some(Outcome::Committed(commit)))
            }
        }
    }

    pub(super) fn log_page(&self, position: &LogPosition) -> Result<LogPage, StorageError> {
        let after = if position.0.is_empty() { 0 } else { number(&position.0)? };
        let mut last = after;
        let mut commits = Vec::new();
        let first = after.saturating_add(1).to_be_bytes();
        let mut entries = self.log.range(first..);
        for entry in entries.by_ref().take(PAGE_COMMITS_MAX) {
            let (key, value) = guarded(|| entry.into_inner())?;
            last = number(&key)?;
            commits.push(decode(&value)?);
        }
        let end = commits.len() < PAGE_COMMITS_MAX;
        Ok(LogPage { commits, next: LogPosition(last.to_be_bytes().to_vec().into()), end })
    }

    pub(super) fn batch(&self) -> OwnedWriteBatch {
        self.database.batch()
    }

    /// Adds a commit to a batch, as log entry `position`.
    pub(super) fn add_commit(
        &self,
        batch: &mut OwnedWriteBatch,
        position: u64,
        commit: &CommitBatch,
    ) {
        let record = &commit.commit;
        for (written, value) in record.keys.iter().zip(&commit.values) {
            let name = version_name(&written.key, &record.version);
            batch.insert(&self.versions, name, &value[..]);
        }
        let position = position.to_be_bytes();
        batch.insert(&self.log, position, codec::encode_commit(record));
        batch.insert(&self.outcomes, record.version.writer.base().as_str(), position);
    }

    /// Adds a settled abort to a batch.
    pub(super) fn add_aborted(&self, batch: &mut OwnedWriteBatch, id: &BaseId) {
        batch.insert(&self.outcomes, id.as_str(), []);
    }

    /// Writes a batch and waits until it is on the disk.
    pub(super) fn write(&self, batch: OwnedWriteBatch) -> Result<(), StorageError> {
        guarded(|| batch.durability(Some(PersistMode::SyncData)).commit())
    }
}

/// Runs a call into the database. Its errors, and its panics, become ours.
fn guarded<T>(call: impl FnOnce() -> fjall::Result<T>) -> Result<T, StorageError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error @ (fjall::Error::Io(_) | fjall::Error::Poisoned))) => {
            Err(StorageError::Unconfirmed(error.to_string()))
        }
        Ok(Err(error)) => Err(StorageError::Damaged(error.to_string())),
        Err(_) => Err(StorageError::Unconfirmed("the database failed".to_owned())),
    }
}

fn version_name(key: &Key, version: &Version) -> Vec<u8> {
    let (key, writer) = (key.as_str().as_bytes(), version.writer.as_str().as_bytes());
    let mut name = Vec::with_capacity(key.len() + 9 + writer.len());
    name.extend_from_slice(key);
    name.push(0);
    name.extend_from_slice(&version.timestamp.0.to_be_bytes());
    name.extend_from_slice(writer);
    name
}

fn number(bytes: &[u8]) -> Result<u64, StorageError> {
    let bytes = bytes.try_into().map_err(|_| StorageError::Damaged("not a log position".into()))?;
    Ok(u64::from_be_bytes(bytes))
}

fn decode(value: &[u8]) -> Result<Arc<Commit>, StorageError> {
    codec::decode_commit(Bytes::copy_from_slice(value)).map(Arc::new)
}
