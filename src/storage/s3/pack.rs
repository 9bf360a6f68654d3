//! The object in which a commit becomes durable: its record together with its values, created once.
//!
//! A request costs far more than its bytes, in time and in money, so small values stand there. Values that
//! do not fit are written before, each as an object of its own.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use super::clock;
use super::names;
use crate::storage::{CommitBatch, StorageError, codec, remains};
use crate::txn::{BaseId, Commit, Key, Outcome};
use crate::wire::{PackedValue, StoredOutcome};

/// How many bytes of values are packed into an outcome. Each read of one of them reads all.
const PACK_BYTES_MAX: usize = 256 * 1024;
/// A value above this size is never packed.
const PACKED_VALUE_BYTES_MAX: usize = 64 * 1024;

/// Where a commit stands in the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    pub log: String,
    pub number: u64,
}

/// What is written for a commit.
pub(super) struct Pack {
    outcome: StoredOutcome,
    /// The values that stand apart: name and object.
    pub apart: Vec<(String, Bytes)>,
}

/// Decides where each value goes.
pub(super) fn pack(batch: &CommitBatch) -> Pack {
    let commit = &batch.commit;
    let mut encoder = codec::VersionEncoder::new(&commit.version);
    let (mut values, mut apart, mut room) = (Vec::new(), Vec::new(), PACK_BYTES_MAX);
    let positions = 0..=u32::MAX;
    for ((position, written), value) in positions.zip(&commit.keys).zip(&batch.values) {
        if value.len() <= PACKED_VALUE_BYTES_MAX && value.len() <= room {
            room -= value.len();
            values.push(PackedValue { position, value: value.clone(), apart: false });
        } else {
            let name = names::apart(&commit.version, position);
            apart.push((name, Bytes::copy_from_slice(encoder.encode(&written.key, value))));
            values.push(PackedValue { position, value: Bytes::new(), apart: true });
        }
    }
    let record = Some(codec::record_of(commit));
    Pack { outcome: StoredOutcome { record, values, ..StoredOutcome::default() }, apart }
}

impl Pack {
    /// The outcome, when it stands at this place of the log.
    pub fn at(&mut self, place: &Place) -> Bytes {
        self.outcome.log.clone_from(&place.log);
        self.outcome.number = place.number;
        self.outcome.encode_to_vec().into()
    }
}

/// The object that settles an id as aborted, now.
pub(super) fn aborted(id: &BaseId) -> Bytes {
    let timestamp = i64::try_from(clock::wall_ns()).unwrap_or(i64::MAX);
    let record = crate::wire::TransactionRecord { timestamp, ..codec::aborted_record(id) };
    StoredOutcome { record: Some(record), ..StoredOutcome::default() }.encode_to_vec().into()
}

/// A stored outcome.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub outcome: Outcome,
    stored: StoredOutcome,
}

/// Where a value is.
pub(super) enum Value {
    Here(Bytes),
    Apart(String),
    /// The commit did not write the key, or its value was deleted.
    Nowhere,
}

impl Found {
    pub fn decode(id: &BaseId, stored: Bytes) -> Result<Self, StorageError> {
        let damaged = |why: String| StorageError::Damaged(format!("the outcome of {id}: {why}"));
        let stored = StoredOutcome::decode(stored).map_err(|error| damaged(error.to_string()))?;
        let record = stored.record.as_ref();
        let record = record.ok_or_else(|| damaged("it holds no record".to_owned()))?;
        let outcome = codec::outcome_of(id, record)?;
        Ok(Self { outcome, stored })
    }

    /// The commit, if it is one; of one that was collected, what remains.
    pub fn commit(&self) -> Option<&Arc<Commit>> {
        match &self.outcome {
            Outcome::Committed(commit) => Some(commit),
            Outcome::Aborted => None,
        }
    }

    /// Whether no version is left of it.
    pub fn is_only_remains(&self) -> bool {
        remains::is_only(&self.outcome)
    }

    /// When it was committed or settled, if it says.
    pub fn recorded_ns(&self) -> Option<u64> {
        let record = self.stored.record.as_ref()?;
        u64::try_from(record.timestamp).ok().filter(|at| *at > 0)
    }

    /// Where it stands in the log.
    pub fn place(&self) -> Option<Place> {
        let StoredOutcome { log, number, .. } = &self.stored;
        (!log.is_empty()).then(|| Place { log: log.clone(), number: *number })
    }

    /// Whether it is this commit, and stands there. Several attempts at an id may share a place.
    pub fn is_that(&self, commit: &Commit, place: &Place) -> bool {
        self.stored.number == place.number
            && self.stored.log == place.log
            && self.commit().is_some_and(|found| found.version == commit.version)
    }

    /// The same commit, at another place of the log.
    pub fn moved_to(&self, place: &Place) -> Bytes {
        let Place { log, number } = place.clone();
        StoredOutcome { log, number, ..self.stored.clone() }.encode_to_vec().into()
    }

    /// The positions of values that it has.
    pub fn positions(&self) -> impl Iterator<Item = u32> {
        self.stored.values.iter().map(|value| value.position)
    }

    /// The objects of these values that stand apart.
    pub fn apart(&self, positions: &BTreeSet<u32>) -> Vec<String> {
        let Some(commit) = self.commit() else { return Vec::new() };
        let values = self.stored.values.iter();
        let apart = values.filter(|value| value.apart && positions.contains(&value.position));
        apart.map(|value| names::apart(&commit.version, value.position)).collect()
    }

    /// The same without these values.
    pub fn without(&self, positions: &BTreeSet<u32>) -> Bytes {
        let mut stored = self.stored.clone();
        stored.values.retain(|value| !positions.contains(&value.position));
        stored.encode_to_vec().into()
    }

    /// What remains when all values have gone. It tells no more where it stood in the log.
    pub fn remains(&self) -> Option<Bytes> {
        let Outcome::Committed(remains) = remains::of(self.commit()?) else { return None };
        let record = Some(codec::record_of(&remains));
        Some(StoredOutcome { record, ..StoredOutcome::default() }.encode_to_vec().into())
    }

    /// Where the value is that the commit wrote under `key`.
    pub fn value(&self, key: &Key) -> Value {
        let Some(commit) = self.commit() else { return Value::Nowhere };
        let Some(position) = position(commit, key) else { return Value::Nowhere };
        match self.stored.values.iter().find(|value| value.position == position) {
            Some(value) if value.apart => Value::Apart(names::apart(&commit.version, position)),
            Some(value) => Value::Here(value.value.clone()),
            None => Value::Nowhere,
        }
    }
}

/// Where a key stands in a write set.
pub(super) fn position(commit: &Commit, key: &Key) -> Option<u32> {
    let found = commit.keys.binary_search_by(|written| written.key.cmp(key)).ok()?;
    u32::try_from(found).ok()
}
