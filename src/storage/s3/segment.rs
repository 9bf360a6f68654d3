//! Parts of logs: what stands in them, and how something is taken out.
//!
//! A segment is created once and after that only ever loses entries, or is replaced together with its
//! neighbours by one that holds what is left of all of them (`merge.rs`). What is left of it without
//! entries is deleted.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use super::bucket::{Bucket, Put};
use super::follow::Part;
use super::names;
use super::pack::Place;
use crate::storage::{StorageError, codec};
use crate::txn::{AttemptId, Commit};
use crate::wire::{LogSegment, NumberedRecord};

/// How often a segment that others change at the same time is read again.
const TRIES: u32 = 20;

/// A commit in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub number: u64,
    pub commit: Arc<Commit>,
}

/// What one object of a log holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Segment {
    /// All numbers of the log before this one are settled: what stands there took effect.
    pub low: u64,
    /// So is all that stands here.
    pub is_settled: bool,
    pub entries: Vec<Entry>,
}

impl Segment {
    pub fn decode(name: &str, stored: Bytes) -> Result<Self, StorageError> {
        let damaged = |why: String| StorageError::Damaged(format!("the log segment {name}: {why}"));
        let stored = LogSegment::decode(stored).map_err(|error| damaged(error.to_string()))?;
        let entry = |stored: &NumberedRecord| {
            let record = stored.record.as_ref();
            let record = record.ok_or_else(|| damaged("an entry holds no record".to_owned()))?;
            Ok::<_, StorageError>(Entry {
                number: stored.number,
                commit: codec::commit_of(record)?,
            })
        };
        let entries = stored.records.iter().map(entry).collect::<Result<_, _>>()?;
        Ok(Self { low: stored.low, is_settled: stored.settled, entries })
    }

    pub fn encode(&self) -> Bytes {
        let record = |entry: &Entry| NumberedRecord {
            number: entry.number,
            record: Some(codec::record_of(&entry.commit)),
        };
        let records = self.entries.iter().map(record).collect();
        LogSegment { low: self.low, settled: self.is_settled, records }.encode_to_vec().into()
    }
}

/// A segment, if it is there.
pub(super) async fn read(bucket: &Bucket, name: &str) -> Result<Option<Segment>, StorageError> {
    let found = bucket.get(name).await?;
    found.map(|object| Segment::decode(name, object.bytes)).transpose()
}

/// The same of one that was listed.
pub(super) async fn read_of(
    bucket: &Bucket,
    part: Option<&Part>,
) -> Result<Option<Segment>, StorageError> {
    match part {
        Some(part) => read(bucket, &part.name).await,
        None => Ok(None),
    }
}

/// The names of the segments in which an entry can stand: while segments are being merged, several.
pub(super) async fn covering(bucket: &Bucket, place: &Place) -> Result<Vec<String>, StorageError> {
    let listed = bucket.list_all(&names::segments(&place.log)).await?;
    let covers = |name: &str| {
        names::parse_segment(name)
            .is_some_and(|(_, first, last)| (first..=last).contains(&place.number))
    };
    Ok(listed.into_iter().map(|listed| listed.name).filter(|name| covers(name)).collect())
}

/// Takes entries of one number out of a log. What is gone already is no error.
pub(super) async fn remove(
    bucket: &Bucket,
    place: &Place,
    attempts: &BTreeSet<AttemptId>,
) -> Result<(), StorageError> {
    let alone = names::segment(&place.log, place.number, place.number);
    let is_gone = |entry: &Entry| {
        entry.number == place.number && attempts.contains(&entry.commit.version.writer)
    };
    if remove_from(bucket, &alone, &is_gone).await? {
        return Ok(());
    }
    // It was merged with others.
    for name in covering(bucket, place).await? {
        remove_from(bucket, &name, &is_gone).await?;
    }
    Ok(())
}

/// Takes entries out of a segment. Answers whether there is such a segment.
pub(super) async fn remove_from(
    bucket: &Bucket,
    name: &str,
    is_gone: &(impl Fn(&Entry) -> bool + Sync),
) -> Result<bool, StorageError> {
    for _ in 0..TRIES {
        let Some(object) = bucket.get(name).await? else { return Ok(false) };
        let mut segment = Segment::decode(name, object.bytes)?;
        let before = segment.entries.len();
        segment.entries.retain(|entry| !is_gone(entry));
        if segment.entries.is_empty() {
            // Nobody adds to it, so nothing is lost that was not seen here.
            return bucket.delete_all(&[name.to_owned()]).await.map(|()| true);
        }
        if segment.entries.len() == before {
            return Ok(true);
        }
        if bucket.put_if(name, segment.encode(), object.tag).await? == Put::Done {
            return Ok(true);
        }
    }
    Err(StorageError::Unconfirmed(format!("others change {name} again and again")))
}

/// Says that all that is left of a segment took effect.
pub(super) async fn mark_settled(bucket: &Bucket, name: &str) -> Result<(), StorageError> {
    let Some(object) = bucket.get(name).await? else { return Ok(()) };
    let segment = Segment { is_settled: true, ..Segment::decode(name, object.bytes)? };
    // Whoever changes it at the same time leaves that to the next look.
    bucket.put_if(name, segment.encode(), object.tag).await.map(|_| ())
}
