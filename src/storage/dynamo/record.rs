//! Commit records and values as items: in one if they fit, in several parts if they do not.
//!
//! DynamoDB takes items of up to 400 KB. A value that is larger is cut into parts of
//! [`PART_BYTES`]; its version's item then says only how many there are. A record stands twice, in the
//! outcome and in the log, and each kilobyte is paid for, so it is kept apart once it is larger than
//! [`RECORD_HERE_MAX`]. Parts are written before anything refers to them, and never changed.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::item::{self, Item};
use super::names::{self, Name};
use super::table::{Reading, Table};
use crate::storage::codec::{self, VersionEncoder};
use crate::storage::{CommitBatch, StorageError};
use crate::txn::{BaseId, Commit, Key, Outcome, Version};

/// The largest stored value that stands in its version's item: 400 KB less the longest names.
const VALUE_HERE_MAX: usize = 390_000;
/// The largest record that stands in the items that need it.
const RECORD_HERE_MAX: usize = 8 << 10;
/// Of what is larger, so much stands in each part.
const PART_BYTES: usize = 384_000;

/// The items of a commit's versions, with the parts of its record if there are any.
pub(super) fn versions(batch: &CommitBatch, record: &Record) -> Vec<Item> {
    let version = &batch.commit.version;
    let mut encoder = VersionEncoder::new(version);
    let mut items = record.parts();
    for (written, value) in batch.commit.keys.iter().zip(&batch.values) {
        let stored = encoder.encode(&written.key, value);
        let named = item::keyed(names::version(&written.key, version));
        if stored.len() <= VALUE_HERE_MAX {
            items.push(item::with(named, item::BYTES, item::bytes(stored.to_vec())));
            continue;
        }
        let parts = parts(stored, |number| names::chunk(&written.key, version, number));
        items.push(item::with(named, item::PARTS, item::number(parts.len() as u64)));
        items.extend(parts);
    }
    items
}

fn parts(bytes: &[u8], name: impl Fn(usize) -> Name) -> Vec<Item> {
    let part = |(number, part): (usize, &[u8])| {
        item::with(item::keyed(name(number)), item::BYTES, item::bytes(part.to_vec()))
    };
    bytes.chunks(PART_BYTES).enumerate().map(part).collect()
}

/// A commit record as it is stored.
#[derive(Debug, Clone)]
pub(super) struct Record {
    version: Version,
    bytes: Vec<u8>,
}

impl Record {
    pub fn new(commit: &Commit) -> Self {
        Self { version: commit.version.clone(), bytes: codec::encode_commit(commit) }
    }

    fn parts(&self) -> Vec<Item> {
        if self.bytes.len() <= RECORD_HERE_MAX {
            return Vec::new();
        }
        parts(&self.bytes, |number| names::record_chunk(&self.version, number))
    }

    /// `item` with the record, or with where it is.
    pub fn add_to(&self, item: Item) -> Item {
        if self.bytes.len() <= RECORD_HERE_MAX {
            return item::with(item, item::BYTES, item::bytes(self.bytes.clone()));
        }
        let parts = self.bytes.len().div_ceil(PART_BYTES) as u64;
        let item = item::with(item, item::PARTS, item::number(parts));
        item::with(item, item::VERSION, item::text(names::stamp(&self.version)))
    }
}

/// The names of the parts of a record.
pub(super) fn record_parts(item: &Item) -> Result<Vec<Name>, StorageError> {
    let count = item::number_of(item, item::PARTS)? as usize;
    if count == 0 {
        return Ok(Vec::new());
    }
    let version = names::parse_stamp(item::text_of(item, item::VERSION)?)?;
    Ok((0..count).map(|number| names::record_chunk(&version, number)).collect())
}

/// The records in outcomes or log entries, in their order.
pub(super) async fn read_records(
    table: &Table,
    items: Vec<Item>,
) -> Result<Vec<Bytes>, StorageError> {
    let parts = items.iter().map(record_parts).collect::<Result<Vec<_>, _>>()?;
    let mut found = find(table, parts.iter().flatten().cloned().collect()).await?;
    let records = items.into_iter().zip(parts).map(|(mut item, parts)| {
        let here = item::take_bytes(&mut item);
        let record = here.map(Bytes::from).or_else(|| joined(&mut found, &parts));
        record.ok_or_else(|| {
            StorageError::Damaged(format!("a commit record lacks parts: {:?}", item.get(item::SK)))
        })
    });
    records.collect()
}

/// The outcome in an item.
pub(super) async fn read_outcome(
    table: &Table,
    id: &BaseId,
    item: Item,
) -> Result<Outcome, StorageError> {
    let record = read_records(table, vec![item]).await?.remove(0);
    codec::decode_outcome(id, record)
}

/// The commits in log entries.
pub(super) async fn read_commits(
    table: &Table,
    entries: Vec<Item>,
) -> Result<Vec<Arc<Commit>>, StorageError> {
    let records = read_records(table, entries).await?;
    records.into_iter().map(codec::decode_commit).collect()
}

/// The version that a log entry announces.
pub(super) fn version_in(entry: &Item) -> Result<Version, StorageError> {
    if item::has(entry, item::VERSION) {
        return names::parse_stamp(item::text_of(entry, item::VERSION)?);
    }
    let bytes = item::take_bytes(&mut entry.clone());
    let bytes = bytes.ok_or_else(|| StorageError::Damaged("an empty log entry".into()))?;
    Ok(codec::decode_commit(bytes.into())?.version.clone())
}

/// The values of versions.
pub(super) async fn read_versions(
    table: &Table,
    wanted: &[(Key, Version)],
) -> Result<Vec<Option<Bytes>>, StorageError> {
    let names: Vec<_> = wanted.iter().map(|(key, version)| names::version(key, version)).collect();
    let items = find(table, names.clone()).await?;
    let mut parts_of = HashMap::new();
    for ((key, version), name) in wanted.iter().zip(&names) {
        let count = items.get(name).map_or(Ok(0), |found| item::number_of(found, item::PARTS))?;
        let parts = (0..count as usize).map(|number| names::chunk(key, version, number));
        parts_of.insert(name, parts.collect::<Vec<_>>());
    }
    let parts = find(table, parts_of.values().flatten().cloned().collect()).await?;
    let values = wanted.iter().zip(&names).map(|((key, version), name)| {
        let Some(item) = items.get(name) else { return Ok(None) };
        let parts_of = parts_of.get(name).map_or(&[][..], Vec::as_slice);
        let stored = match item.get(item::BYTES) {
            Some(aws_sdk_dynamodb::types::AttributeValue::B(blob)) => {
                Some(Bytes::copy_from_slice(blob.as_ref()))
            }
            // Parts may be read by several who want the same version.
            _ => joined(&mut parts.clone(), parts_of),
        };
        // A part is missing: it was deleted just now, and so was the version.
        stored.map(|stored| codec::decode_version(key, version, stored)).transpose()
    });
    values.collect()
}

fn joined(found: &mut HashMap<Name, Item>, parts: &[Name]) -> Option<Bytes> {
    let mut whole = Vec::new();
    for name in parts {
        whole.append(&mut item::take_bytes(found.get_mut(name)?)?);
    }
    (!parts.is_empty()).then(|| whole.into())
}

/// Items that never change once they are there: an older state serves as well, if it has them.
async fn find(table: &Table, mut names: Vec<Name>) -> Result<HashMap<Name, Item>, StorageError> {
    let mut found = HashMap::new();
    for reading in [Reading::Eventual, Reading::Consistent] {
        if names.is_empty() {
            break;
        }
        for item in table.get_all(names.clone(), reading, false).await? {
            found.insert(item::name_of(&item)?, item);
        }
        names.retain(|name| !found.contains_key(name));
    }
    Ok(found)
}
