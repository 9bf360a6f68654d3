//! The object in which a commit becomes durable: its record together with its values.
//!
//! Anna writes one object at a time, and a first write of a name costs it several steps, so a commit of
//! many small values as one object is both atomic and cheap. Values that do not fit are written before,
//! each under a name of its own.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use super::super::{CommitBatch, StorageError, codec, remains};
use super::names;
use crate::txn::{BaseId, Commit, Key, Outcome};
use crate::wire::{PackedValue, StoredOutcome};

/// How many bytes of values are packed into an outcome. Each read of one of them reads all.
const PACK_BYTES_MAX: usize = 128 * 1024;
/// A value above this size is never packed.
const PACKED_VALUE_BYTES_MAX: usize = 32 * 1024;

/// What is written for a commit.
pub(super) struct Pack {
    /// The outcome object.
    pub(super) outcome: Bytes,
    /// The values that stand apart: name and object.
    pub(super) apart: Vec<(String, Bytes)>,
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
            let name = names::apart(&commit.version.writer, position);
            apart.push((name, Bytes::copy_from_slice(encoder.encode(&written.key, value))));
            values.push(PackedValue { position, value: Bytes::new(), apart: true });
        }
    }
    let record = Some(codec::record_of(commit));
    Pack {
        outcome: StoredOutcome { record, values, ..StoredOutcome::default() }
            .encode_to_vec()
            .into(),
        apart,
    }
}

/// The object that settles an id as aborted.
pub(super) fn aborted(id: &BaseId) -> Bytes {
    let record = Some(codec::aborted_record(id));
    StoredOutcome { record, ..StoredOutcome::default() }.encode_to_vec().into()
}

/// What is left of an outcome of which all was collected.
const REMAINS_WORTH: u64 = 1 << 32;

/// What is left of a commit when some of its versions were deleted.
pub(super) struct Left {
    /// The outcome object, and what it is worth: of two that are written, the one with less in it stays.
    pub(super) outcome: Bytes,
    pub(super) worth: u64,
    /// Values that stand apart, and are to be deleted.
    pub(super) apart: Vec<String>,
    /// Versions that are deleted.
    pub(super) versions: usize,
    /// Nothing but that there was a commit, and when.
    pub(super) is_remains: bool,
}

/// A stored outcome.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) outcome: Outcome,
    values: Vec<PackedValue>,
}

/// Where a value is.
pub(super) enum Place {
    Here(Bytes),
    Apart(String),
    /// The commit did not write the key, or its value was deleted.
    Nowhere,
}

impl Found {
    pub(super) fn decode(id: &BaseId, stored: Bytes) -> Result<Self, StorageError> {
        let damaged = |why: String| StorageError::Damaged(format!("the outcome of {id}: {why}"));
        let stored = StoredOutcome::decode(stored).map_err(|error| damaged(error.to_string()))?;
        let record = stored.record.ok_or_else(|| damaged("it holds no record".to_owned()))?;
        let outcome = codec::outcome_of(id, &record)?;
        Ok(Self { outcome, values: stored.values })
    }

    pub(super) fn commit(&self) -> Option<&Arc<Commit>> {
        match &self.outcome {
            Outcome::Committed(commit) => Some(commit),
            Outcome::Aborted => None,
        }
    }

    /// What is left without the versions of these keys, if that changes anything; without all if this `is_last`,
    /// or if there are no others.
    pub(super) fn without(&self, keys: &[Key], is_last: bool) -> Option<Left> {
        let commit = self.commit()?;
        let goes = |value: &PackedValue| {
            let position = usize::try_from(value.position).ok();
            let written = position.and_then(|position| commit.keys.get(position));
            is_last || written.is_some_and(|written| keys.contains(&written.key))
        };
        let (gone, left): (Vec<_>, Vec<_>) = self.values.iter().cloned().partition(goes);
        let is_remains = is_last || left.is_empty();
        if commit.keys.is_empty() || (gone.is_empty() && !is_remains) {
            return None;
        }
        let apart = gone.iter().filter(|value| value.apart);
        let writer = &commit.version.writer;
        let apart = apart.map(|value| names::apart(writer, value.position)).collect();
        let (record, worth) = if is_remains {
            (codec::record_of(&remains::of_commit(commit)), REMAINS_WORTH)
        } else {
            (codec::record_of(commit), (commit.keys.len() - left.len()) as u64)
        };
        let values = if is_remains { Vec::new() } else { left };
        let outcome = StoredOutcome { record: Some(record), values, ..StoredOutcome::default() };
        let outcome = outcome.encode_to_vec().into();
        Some(Left { outcome, worth, apart, versions: gone.len(), is_remains })
    }

    /// Versions that are there, and bytes of those that are packed.
    pub(super) fn measure(&self) -> (usize, usize) {
        (self.values.len(), self.values.iter().map(|value| value.value.len()).sum())
    }

    /// Whether the version of the key at this place of the write set is there.
    pub(super) fn has(&self, position: usize) -> bool {
        self.values.iter().any(|value| usize::try_from(value.position) == Ok(position))
    }

    /// Where the value is that the commit wrote under `key`.
    pub(super) fn place(&self, key: &Key) -> Place {
        let Some(commit) = self.commit() else { return Place::Nowhere };
        let Ok(position) = commit.keys.binary_search_by(|written| written.key.cmp(key)) else {
            return Place::Nowhere;
        };
        let found = self.values.iter().find(|v| usize::try_from(v.position) == Ok(position));
        match found {
            Some(value) if value.apart => {
                Place::Apart(names::apart(&commit.version.writer, value.position))
            }
            Some(value) => Place::Here(value.value.clone()),
            None => Place::Nowhere,
        }
    }
}
