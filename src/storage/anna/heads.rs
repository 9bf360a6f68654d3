//! The newest version of each key, an object each, so that a node that has forgotten a key finds it again.
//!
//! No commit writes heads. They are written by a node that is about to forget a key, with the newest version
//! that it knows, and before a version is deleted, with the one that supersedes it. So nobody finds less
//! than it has known, and nobody is led to what is gone. The timestamp is the commit's, so the newest stays.
//! (Of two commits of one timestamp, which only nodes of one tag can make, the one that is written last.)

use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use prost::Message;

use super::super::{StorageError, codec};
use super::kv::KeyValue;
use super::objects::lww;
use super::{AnnaStore, READS_AT_ONCE, names};
use crate::anna::lattice::Lattice;
use crate::txn::{AttemptId, Commit, Key, Timestamp, Version};
use crate::wire::StoredHead;

/// A larger commit is not held by its heads, of which there is one for each key that it wrote.
const RECORD_BYTES_MAX: usize = 2 * 1024;
/// How often a head is read that names a commit which was collected meanwhile.
const TRIES: usize = 5;

/// What a key's head says.
pub(super) struct Head {
    pub(super) version: Version,
    /// The commit that wrote it; none if the outcome has to be asked.
    pub(super) commit: Option<Arc<Commit>>,
}

/// Writes heads. Newer ones stay.
pub(super) async fn set(
    kv: &impl KeyValue,
    newest: &[(Key, Arc<Commit>)],
) -> Result<(), StorageError> {
    let puts: Vec<_> = newest.iter().map(|(key, commit)| put(kv, key, commit)).collect();
    stream::iter(puts).buffer_unordered(READS_AT_ONCE).try_collect().await
}

async fn put(kv: &impl KeyValue, key: &Key, commit: &Commit) -> Result<(), StorageError> {
    let record = codec::record_of(commit);
    let head = StoredHead {
        key: key.as_str().to_owned(),
        id: record.id.clone(),
        timestamp: record.timestamp,
        record: (record.encoded_len() <= RECORD_BYTES_MAX).then_some(record),
    };
    let timestamp = commit.version.timestamp.0;
    kv.put(&names::head(key), Lattice::Lww { timestamp, value: head.encode_to_vec().into() }).await
}

/// The head of a key, if it has one.
pub(super) async fn get(kv: &impl KeyValue, key: &Key) -> Result<Option<Head>, StorageError> {
    let damaged = |why: &dyn std::fmt::Display| {
        StorageError::Damaged(format!("the head of {:?}: {why}", key.as_str()))
    };
    let Some((_, stored)) = lww(kv.get_newest(&names::head(key)).await?)? else {
        return Ok(None);
    };
    let head = StoredHead::decode(stored).map_err(|error| damaged(&error))?;
    if head.key != key.as_str() {
        return Err(damaged(&format!("it is that of {:?}, which has the same hash", head.key)));
    }
    let timestamp = u64::try_from(head.timestamp).map_err(|error| damaged(&error))?;
    let writer = AttemptId::parse(&head.id).map_err(|error| damaged(&error))?;
    let version = Version { timestamp: Timestamp(timestamp), writer };
    let commit = head.record.as_ref().map(codec::commit_of).transpose()?;
    Ok(Some(Head { version, commit }))
}

impl<K: KeyValue> AnnaStore<K> {
    /// The commit that wrote a key's newest version, as far as it was written down.
    pub(super) async fn head(&self, key: &Key) -> Result<Option<Arc<Commit>>, StorageError> {
        for _ in 0..TRIES {
            let Some(head) = get(&*self.kv, key).await? else { return Ok(None) };
            if head.commit.is_some() {
                return Ok(head.commit);
            }
            let found = self.read_pack(&head.version.writer.base()).await?;
            let commit = found.and_then(|found| found.commit().cloned());
            if let Some(commit) = commit.filter(|commit| commit.written(key).is_some()) {
                return Ok(Some(commit));
            }
            // Superseded and collected since the head was read: there is a newer one.
        }
        Err(StorageError::Damaged(format!("the head of {key} names a commit that is not there")))
    }
}
