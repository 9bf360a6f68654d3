//! Commits and outcomes as bytes, the same in every backend: a serialized `TransactionRecord`.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use super::StorageError;
use crate::txn::{AttemptId, Commit, Key, Timestamp, Version, WrittenKey};
use crate::wire::{TransactionRecord, TransactionStatus};

/// A commit as it is stored.
pub(super) fn encode_commit(commit: &Commit) -> Vec<u8> {
    let fresh = commit.keys.iter().enumerate().filter(|(_, written)| written.fresh);
    TransactionRecord {
        id: commit.version.writer.to_string(),
        timestamp: commit.version.timestamp.0.cast_signed(),
        status: TransactionStatus::Committed as i32,
        replica_id: commit.replica.to_string(),
        write_set: commit.keys.iter().map(|written| written.key.to_string()).collect(),
        fresh: fresh.map(|(place, _)| place as u32).collect(),
        ..TransactionRecord::default()
    }
    .encode_to_vec()
}

/// Reads what [`encode_commit`] wrote.
pub(super) fn decode_commit(bytes: Bytes) -> Result<Commit, StorageError> {
    let damaged = |why: String| StorageError::Damaged(format!("not a commit record: {why}"));
    let record = TransactionRecord::decode(bytes).map_err(|why| damaged(why.to_string()))?;
    if record.status() != TransactionStatus::Committed {
        return Err(damaged(format!("its status is {}", record.status)));
    }
    let writer = AttemptId::parse(&record.id).map_err(|why| damaged(why.to_string()))?;
    let timestamp = u64::try_from(record.timestamp).map_err(|why| damaged(why.to_string()))?;
    let mut keys = Vec::with_capacity(record.write_set.len());
    for (place, text) in record.write_set.iter().enumerate() {
        let key = Key::parse(text).map_err(|why| damaged(why.to_string()))?;
        let fresh = record.fresh.contains(&(place as u32));
        keys.push(WrittenKey { key, fresh });
    }
    let version = Version { timestamp: Timestamp(timestamp), writer };
    Ok(Commit::new(version, keys, Arc::from(record.replica_id)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_commit_survives_storage(
            keys in prop::collection::btree_map(".{1,40}", any::<bool>(), 0..20),
            timestamp in 0..u64::MAX / 2,
            replica in ".*",
        ) {
            let writer = AttemptId::parse("order-1.00ff").unwrap();
            let version = Version { timestamp: Timestamp(timestamp), writer };
            let written = |(key, fresh): (String, bool)| {
                WrittenKey { key: Key::parse(&key).unwrap(), fresh }
            };
            let keys = keys.into_iter().map(written).collect();
            let commit = Commit::new(version, keys, replica.into());
            prop_assert_eq!(decode_commit(encode_commit(&commit).into()), Ok(commit));
        }

        #[test]
        fn rubbish_is_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            // Whatever it says, it does not panic; and no rubbish is taken for a committed record of
            // an id that cannot exist.
            if let Ok(commit) = decode_commit(bytes.into()) {
                prop_assert!(!commit.version.writer.as_str().is_empty());
            }
        }
    }
}
