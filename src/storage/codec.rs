//! How versions and commits are written down: the same protobuf messages in every store, so that a
//! store can be read with the project's `proto/` files alone, and copied from one kind to another.
//!
//! Nothing read from a store is trusted: what does not decode into a value of our own is reported as
//! damage that says what was wrong.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use super::{CommitBatch, StorageError, VALUE_BYTES_MAX};
use crate::txn::{AttemptId, BaseId, Commit, Key, Outcome, Timestamp, Version, WrittenKey};
use crate::wire::{KeyValuePair, TransactionRecord, TransactionStatus};

/// Tells pairs that this project stored from other bytes that happen to parse.
pub(super) const MARK: u32 = u32::from_be_bytes(*b"aft1");

/// What the names of all versions begin with.
pub(super) const VERSIONS: &str = "data/";

/// The largest timestamp that the stored messages can hold (in the year 2262).
const TIMESTAMP_MAX: u64 = i64::MAX.cast_unsigned();

/// Refuses a batch that could not be stored as what it is.
pub fn check(batch: &CommitBatch) -> Result<(), StorageError> {
    let refused = |what: String| Err(StorageError::Refused(what));
    let (keys, values) = (batch.commit.keys.len(), batch.values.len());
    if keys != values {
        return refused(format!("a commit of {keys} keys came with {values} values"));
    }
    let timestamp = batch.commit.version.timestamp.0;
    if timestamp > TIMESTAMP_MAX {
        return refused(format!("timestamp {timestamp} is beyond the year 2262"));
    }
    match batch.values.iter().find(|v| v.len() > VALUE_BYTES_MAX) {
        Some(value) => refused(format!(
            "a value has {} bytes, at most {VALUE_BYTES_MAX} are allowed",
            value.len()
        )),
        None => Ok(()),
    }
}

/// The name of a version in a store of string keys. Taken apart from its right end, it is
/// unambiguous: a user key may hold slashes, a timestamp and an attempt's name hold none.
pub(super) fn version_name(key: &Key, version: &Version) -> String {
    format!("{VERSIONS}{key}{}", version_suffix(version))
}

/// What follows the key in the name of a version.
pub(super) fn version_suffix(version: &Version) -> String {
    format!("/{}/{}", version.timestamp.0, version.writer)
}

/// Writes down the versions of one commit. What they have in common, and the memory, is used again
/// for each, since a thread that serves all commits does this.
#[derive(Debug, Default)]
pub(super) struct VersionEncoder {
    pair: KeyValuePair,
    stored: Vec<u8>,
}

impl VersionEncoder {
    pub fn new(version: &Version) -> Self {
        let pair = KeyValuePair {
            tid: version.writer.as_str().to_owned(),
            timestamp: version.timestamp.0.cast_signed(),
            mark: MARK,
            ..Default::default()
        };
        Self { pair, stored: Vec::new() }
    }

    /// A version as stored.
    pub fn encode(&mut self, key: &Key, value: &Bytes) -> &[u8] {
        self.pair.key.clear();
        self.pair.key.push_str(key.as_str());
        self.pair.value = value.clone();
        self.stored.clear();
        // A vector grows as needed, so that this does not fail.
        let encoded = self.pair.encode(&mut self.stored);
        debug_assert!(encoded.is_ok());
        &self.stored
    }
}

/// The value in a stored version, after checking that it is the one that was asked for.
pub(super) fn decode_version(
    key: &Key,
    version: &Version,
    stored: Bytes,
) -> Result<Bytes, StorageError> {
    let damaged = |what: &str| {
        let name = version_name(key, version);
        Err(StorageError::Damaged(format!("{name:?}: {what}")))
    };
    let pair = match KeyValuePair::decode(stored) {
        Ok(pair) => pair,
        Err(error) => return damaged(&error.to_string()),
    };
    if pair.mark != MARK {
        return damaged("it was not written by a sidecar");
    }
    let same = pair.key == key.as_str()
        && pair.tid == version.writer.as_str()
        && pair.timestamp == version.timestamp.0.cast_signed();
    if !same {
        return damaged(&format!(
            "it holds another version, {:?} of {} at {}",
            pair.key, pair.tid, pair.timestamp
        ));
    }
    Ok(pair.value)
}

/// A commit as stored.
pub fn encode_commit(commit: &Commit) -> Vec<u8> {
    record_of(commit).encode_to_vec()
}

/// A commit as a message.
pub(crate) fn record_of(commit: &Commit) -> TransactionRecord {
    let positions = 0..=u32::MAX;
    TransactionRecord {
        id: commit.version.writer.as_str().to_owned(),
        timestamp: commit.version.timestamp.0.cast_signed(),
        status: TransactionStatus::Committed.into(),
        replica_id: commit.replica.to_string(),
        write_set: commit.keys.iter().map(|written| written.key.as_str().to_owned()).collect(),
        fresh: (positions.zip(&commit.keys))
            .filter(|(_, written)| written.fresh)
            .map(|(position, _)| position)
            .collect(),
        ..TransactionRecord::default()
    }
}

/// That an id is settled as aborted, as a message.
pub(super) fn aborted_record(id: &BaseId) -> TransactionRecord {
    TransactionRecord {
        id: id.as_str().to_owned(),
        status: TransactionStatus::Aborted.into(),
        ..Default::default()
    }
}

/// That an id is settled as aborted, and when, in nanoseconds since the Unix epoch.
pub(super) fn encode_aborted(id: &BaseId, wall_ns: u64) -> Vec<u8> {
    let timestamp = i64::try_from(wall_ns).unwrap_or(i64::MAX);
    TransactionRecord { timestamp, ..aborted_record(id) }.encode_to_vec()
}

/// When a stored record was committed or settled, if it says.
pub(super) fn recorded_at(stored: &[u8]) -> Option<Timestamp> {
    let record = TransactionRecord::decode(stored).ok()?;
    u64::try_from(record.timestamp).ok().filter(|at| *at > 0).map(Timestamp)
}

/// A stored commit.
pub fn decode_commit(stored: Bytes) -> Result<Arc<Commit>, StorageError> {
    commit_of(&decode_message(stored)?)
}

/// An outcome as stored under its id.
pub fn encode_outcome(id: &BaseId, outcome: &Outcome) -> Vec<u8> {
    match outcome {
        Outcome::Committed(commit) => encode_commit(commit),
        Outcome::Aborted => aborted_record(id).encode_to_vec(),
    }
}

/// The stored outcome of an id, after checking that it belongs to that id.
pub fn decode_outcome(id: &BaseId, stored: Bytes) -> Result<Outcome, StorageError> {
    outcome_of(id, &decode_message(stored)?)
}

/// The outcome that a record tells of, after checking that it belongs to that id.
pub(super) fn outcome_of(id: &BaseId, record: &TransactionRecord) -> Result<Outcome, StorageError> {
    let (found, outcome) = match read_record(record)? {
        Record::Committed(commit) => (commit.version.writer.base(), Outcome::Committed(commit)),
        Record::Aborted(found) => (found, Outcome::Aborted),
    };
    if found == *id {
        Ok(outcome)
    } else {
        Err(StorageError::Damaged(format!("the outcome stored for {id} is that of {found}")))
    }
}

/// The commit that a record of the log tells of.
pub(crate) fn commit_of(record: &TransactionRecord) -> Result<Arc<Commit>, StorageError> {
    match read_record(record)? {
        Record::Committed(commit) => Ok(commit),
        Record::Aborted(id) => {
            Err(StorageError::Damaged(format!("the commit log holds the aborted transaction {id}")))
        }
    }
}

enum Record {
    Committed(Arc<Commit>),
    Aborted(BaseId),
}

fn record_damaged(what: impl std::fmt::Display) -> StorageError {
    StorageError::Damaged(format!("transaction record: {what}"))
}

fn decode_message(stored: Bytes) -> Result<TransactionRecord, StorageError> {
    TransactionRecord::decode(stored).map_err(record_damaged)
}

fn read_record(record: &TransactionRecord) -> Result<Record, StorageError> {
    let damaged = |what: String| record_damaged(what);
    let id = AttemptId::parse(&record.id)
        .map_err(|error| damaged(format!("id {:?}: {error}", record.id)))?;
    match record.status() {
        TransactionStatus::Aborted => Ok(Record::Aborted(id.base())),
        TransactionStatus::Running => Err(damaged(format!("{id} has no outcome"))),
        TransactionStatus::Committed => {
            let commit = committed(&id, record).map_err(|e| damaged(format!("{id}: {e}")))?;
            Ok(Record::Committed(Arc::new(commit)))
        }
    }
}

fn committed(id: &AttemptId, record: &TransactionRecord) -> Result<Commit, String> {
    let timestamp = u64::try_from(record.timestamp)
        .map_err(|_| format!("timestamp {} is negative", record.timestamp))?;
    let mut keys = record
        .write_set
        .iter()
        .map(|text| {
            let key = Key::parse(text).map_err(|error| format!("key {text:?}: {error}"))?;
            Ok(WrittenKey { key, fresh: false })
        })
        .collect::<Result<Vec<_>, String>>()?;
    for &position in &record.fresh {
        usize::try_from(position)
            .ok()
            .and_then(|position| keys.get_mut(position))
            .ok_or_else(|| format!("its write set has no key {position}"))?
            .fresh = true;
    }
    let version = Version { timestamp: Timestamp(timestamp), writer: id.clone() };
    Ok(Commit::new(version, keys, record.replica_id.as_str().into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads a version's name from its right end.
    fn parse_version_name(name: &str) -> Option<(Key, Version)> {
        let mut parts = name.strip_prefix("data/")?.rsplitn(3, '/');
        let writer = AttemptId::parse(parts.next()?).ok()?;
        let timestamp = Timestamp(parts.next()?.parse().ok()?);
        let key = Key::parse(parts.next()?).ok()?;
        Some((key, Version { timestamp, writer }))
    }

    fn keys() -> impl Strategy<Value = Key> {
        let any = prop::collection::vec(any::<char>(), 1..40)
            .prop_map(|chars| chars.into_iter().collect::<String>());
        prop_oneof![any, "[a/]{1,9}", "data/a/[0-9]{1,3}/x"]
            .prop_map(|text| Key::parse(&text).unwrap())
    }

    prop_compose! {
        fn versions()(timestamp in 0..=TIMESTAMP_MAX, writer in "[a-zA-Z0-9_:-]{1,40}(\\.[0-9a-f]{16})?")
            -> Version
        {
            Version { timestamp: Timestamp(timestamp), writer: AttemptId::parse(&writer).unwrap() }
        }
    }

    prop_compose! {
        fn commits()(
            version in versions(),
            keys in prop::collection::vec((keys(), any::<bool>()), 0..8),
            replica in "[0-9.:]{0,20}",
        ) -> Commit {
            let keys = keys.into_iter().map(|(key, fresh)| WrittenKey { key, fresh }).collect();
            Commit::new(version, keys, replica.as_str().into())
        }
    }

    fn is_damaged<T: std::fmt::Debug>(result: Result<T, StorageError>) -> bool {
        matches!(result, Err(StorageError::Damaged(_)))
    }

    proptest! {
        #[test]
        fn names_of_versions_can_be_taken_apart(key in keys(), version in versions()) {
            let name = version_name(&key, &version);
            prop_assert_eq!(parse_version_name(&name), Some((key, version)));
        }

        #[test]
        fn versions_come_back(key in keys(), version in versions(), value: Vec<u8>) {
            let value = Bytes::from(value);
            let mut encoder = VersionEncoder::new(&version);
            for value in [value.clone(), Bytes::new(), value] {
                let stored = Bytes::copy_from_slice(encoder.encode(&key, &value));
                prop_assert_eq!(decode_version(&key, &version, stored), Ok(value));
            }
        }

        #[test]
        fn commits_and_outcomes_come_back(commit in commits()) {
            let id = commit.version.writer.base();
            let commit = Arc::new(commit);
            prop_assert_eq!(decode_commit(encode_commit(&commit).into()), Ok(commit.clone()));
            for outcome in [Outcome::Committed(commit), Outcome::Aborted] {
                let stored = encode_outcome(&id, &outcome);
                prop_assert_eq!(decode_outcome(&id, stored.into()), Ok(outcome));
            }
        }

        #[test]
        fn any_bytes_are_decoded_without_a_panic(bytes: Vec<u8>, version in versions(), key in keys()) {
            let bytes = Bytes::from(bytes);
            let _ = decode_commit(bytes.clone());
            let _ = decode_outcome(&version.writer.base(), bytes.clone());
            prop_assert!(is_damaged(decode_version(&key, &version, bytes)));
        }

        #[test]
        fn a_version_or_outcome_of_another_name_is_damage(
            key in keys(), other in keys(), version in versions(), commit in commits(),
        ) {
            prop_assume!(key != other && commit.version.writer.base() != version.writer.base());
            let mut encoder = VersionEncoder::new(&version);
            let stored = Bytes::copy_from_slice(encoder.encode(&key, &Bytes::new()));
            prop_assert!(is_damaged(decode_version(&other, &version, stored)));
            let stored = encode_commit(&commit);
            prop_assert!(is_damaged(decode_outcome(&version.writer.base(), stored.into())));
        }
    }

    #[test]
    fn damage_says_what_is_wrong() {
        let record = TransactionRecord {
            id: "a".into(),
            status: TransactionStatus::Committed.into(),
            write_set: vec!["k".into()],
            ..Default::default()
        };
        let with = |change: fn(&mut TransactionRecord)| {
            let mut record = record.clone();
            change(&mut record);
            decode_commit(record.encode_to_vec().into()).unwrap_err().to_string()
        };
        let what = [
            with(|r| r.fresh = vec![1]),
            with(|r| r.timestamp = -1),
            with(|r| r.write_set.push(String::new())),
            with(|r| r.id.push('/')),
            with(|r| r.set_status(TransactionStatus::Running)),
            with(|r| r.set_status(TransactionStatus::Aborted)),
        ];
        let expected = [
            "no key 1",
            "-1 is negative",
            "empty string",
            "holds '/'",
            "no outcome",
            "aborted transaction a",
        ];
        for (what, expected) in what.iter().zip(expected) {
            assert!(what.contains(expected), "{what}");
        }
    }

    #[test]
    fn a_batch_that_cannot_be_stored_is_refused() {
        let key = WrittenKey { key: Key::parse("k").unwrap(), fresh: false };
        let batch = |timestamp, values| {
            let writer = AttemptId::parse("a").unwrap();
            let version = Version { timestamp: Timestamp(timestamp), writer };
            let commit = Arc::new(Commit::new(version, vec![key.clone()], "".into()));
            check(&CommitBatch { commit, values, sole: false })
        };
        let value = Bytes::from_static(b"v");
        assert_eq!(batch(TIMESTAMP_MAX, vec![value.clone()]), Ok(()));
        assert!(batch(TIMESTAMP_MAX + 1, vec![value.clone()]).is_err());
        assert!(batch(1, vec![]).is_err());
        assert!(batch(1, vec![value.clone(), value]).is_err());
        assert!(batch(1, vec![vec![0; VALUE_BYTES_MAX + 1].into()]).is_err());
    }
}
