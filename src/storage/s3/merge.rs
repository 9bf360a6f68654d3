//! Small neighbours in a log become one segment, so that there are few names to list and objects to read.
//!
//! The whole is written first, and the parts are deleted later, when each listing is over that began before the
//! whole was there: a listing takes several requests, and would otherwise miss both. What others took out of
//! the parts meanwhile is then taken out of the whole. What both lose between these two steps, or if the
//! process dies, is an entry of a commit that was collected: sweeps find it.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use parking_lot::Mutex;

use super::Inner;
use super::bucket::Put;
use super::follow::Part;
use super::segment::{self, Entry, Segment};
use super::{clock, names};
use crate::storage::{Share, StorageError};
use crate::txn::AttemptId;

/// So many parts are worth it.
const PARTS_MIN: usize = 32;
const PARTS_MAX: usize = 1024;
/// The largest whole, in bytes.
const BYTES_MAX: u64 = 1 << 20;
const PARALLEL_MAX: usize = 32;

/// Wholes of which the parts are not deleted yet.
#[derive(Debug)]
pub(super) struct Merges {
    /// How long the parts stay.
    listing_max: Duration,
    open: Mutex<Vec<Merge>>,
}

#[derive(Debug, Clone)]
struct Merge {
    since: Duration,
    whole: String,
    parts: Vec<Part>,
}

impl Merges {
    pub fn new(listing_max: Duration) -> Self {
        Self { listing_max, open: Mutex::default() }
    }

    /// Those that have been there for long enough.
    fn take_due(&self) -> Vec<Merge> {
        let now = clock::elapsed();
        let is_due = |merge: &mut Merge| now.saturating_sub(merge.since) >= self.listing_max;
        self.open.lock().extract_if(.., is_due).collect()
    }
}

impl Inner {
    /// Merges what has come together in this process's log.
    pub async fn merge_own(&self) -> Result<(), StorageError> {
        for merge in self.merges.take_due() {
            if let Err(error) = self.finish_merge(&merge.whole, &merge.parts).await {
                self.merges.open.lock().push(merge);
                return Err(error);
            }
        }
        let low = self.log.low();
        if !self.log.take_many_written(PARTS_MIN) {
            return Ok(());
        }
        let listed = self.list_log(&self.log.name).await?;
        let Some(parts) = run(&uncovered(&listed), |part| part.last < low) else { return Ok(()) };
        if let Some(whole) = self.merge(&self.log.name, &parts, low).await? {
            self.merges.open.lock().push(Merge { since: clock::elapsed(), whole, parts });
        }
        Ok(())
    }

    /// Does the same to the logs of others that were not written for long, as far as they belong to a share.
    /// What was merged in one look is finished by the next.
    pub async fn merge_old(&self, share: Share, before_ns: u64) -> Result<(), StorageError> {
        for (log, listed) in self.list_logs().await? {
            let is_old = |part: &Part| part.written_ns < before_ns;
            if log == self.log.name || !share.has(&log) || !listed.iter().all(is_old) {
                continue;
            }
            for whole in listed.iter().filter(|whole| whole.first < whole.last) {
                let parts = listed.iter().filter(|part| whole.covers(part));
                let parts: Vec<_> = parts.cloned().collect();
                if !parts.is_empty() {
                    self.finish_merge(&whole.name, &parts).await?;
                }
            }
            // The newest, which tells what is settled, stays as it is.
            let Some(newest) = segment::read_of(&self.bucket, listed.last()).await? else {
                continue;
            };
            let low = newest.low;
            if let Some(parts) = run(&uncovered(&listed), |part| part.last < low) {
                self.merge(&log, &parts, low).await?;
            }
        }
        Ok(())
    }

    /// Writes the whole of some parts, of which all is settled.
    async fn merge(
        &self,
        log: &str,
        parts: &[Part],
        low: u64,
    ) -> Result<Option<String>, StorageError> {
        let (Some(first), Some(last)) = (parts.first(), parts.last()) else { return Ok(None) };
        let entries = self.entries_of(parts).await?;
        if entries.is_empty() {
            return Ok(None);
        }
        let whole = names::segment(log, first.first, last.last);
        let object = Segment { low, is_settled: true, entries }.encode();
        // If it is there, an answer was lost, or somebody else has the same share.
        let put = self.bucket.put_new(&whole, object).await?;
        tracing::debug!(parts = parts.len(), "merged into {whole}: {}", put == Put::Done);
        Ok(Some(whole))
    }

    async fn finish_merge(&self, whole: &str, parts: &[Part]) -> Result<(), StorageError> {
        let left = self.entries_of(parts).await?;
        let name_of = |entry: &Entry| (entry.number, entry.commit.version.writer.clone());
        let left: HashSet<(u64, AttemptId)> = left.iter().map(name_of).collect();
        segment::remove_from(&self.bucket, whole, &|entry: &Entry| !left.contains(&name_of(entry)))
            .await?;
        let names: Vec<_> = parts.iter().map(|part| part.name.clone()).collect();
        self.bucket.delete_all(&names).await
    }

    async fn entries_of(&self, parts: &[Part]) -> Result<Vec<Entry>, StorageError> {
        let reads: Vec<_> =
            parts.iter().map(|part| segment::read_of(&self.bucket, Some(part))).collect();
        let segments: Vec<_> = stream::iter(reads).buffered(PARALLEL_MAX).try_collect().await?;
        Ok(segments.into_iter().flatten().flat_map(|segment| segment.entries).collect())
    }

    async fn list_log(&self, log: &str) -> Result<Vec<Part>, StorageError> {
        let listed = self.bucket.list_all(&names::segments(log)).await?;
        let mut parts: Vec<_> = listed.into_iter().filter_map(Part::of).collect();
        parts.sort();
        Ok(parts)
    }
}

/// Those that are no part of another.
fn uncovered(listed: &[Part]) -> Vec<Part> {
    let is_covered = |part: &Part| listed.iter().any(|whole| whole.covers(part));
    listed.iter().filter(|part| !is_covered(part)).cloned().collect()
}

/// The first neighbours that are worth merging.
fn run(parts: &[Part], is_settled: impl Fn(&Part) -> bool) -> Option<Vec<Part>> {
    let (mut run, mut bytes): (Vec<Part>, u64) = (Vec::new(), 0);
    for part in parts {
        let is_full = run.len() == PARTS_MAX || bytes + part.bytes > BYTES_MAX;
        if !is_settled(part) || is_full {
            if run.len() >= PARTS_MIN {
                break;
            }
            (run, bytes) = (Vec::new(), 0);
        }
        if is_settled(part) {
            bytes += part.bytes;
            run.push(part.clone());
        }
    }
    (run.len() >= PARTS_MIN).then_some(run)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(first: u64, last: u64, bytes: u64) -> Part {
        Part { first, last, name: names::segment("log", first, last), bytes, written_ns: 0 }
    }

    #[test]
    fn neighbours_are_merged_up_to_a_size() {
        let small = |from: u64, count: u64| (from..from + count).map(|n| part(n, n, 100));
        let settled = |part: &Part| part.last < 1000;
        assert_eq!(run(&small(0, 31).collect::<Vec<_>>(), settled), None, "too few");
        let found = run(&small(0, 40).collect::<Vec<_>>(), settled).unwrap();
        assert_eq!(found.len(), 40);
        assert_eq!(
            run(&small(980, 40).collect::<Vec<_>>(), settled),
            None,
            "20 of them are settled"
        );
        let large = [part(0, 9, BYTES_MAX)];
        let parts: Vec<_> = small(100, 5).chain(large).chain(small(200, 33)).collect();
        let found = run(&parts, settled).unwrap();
        assert_eq!((found.len(), found[0].first), (33, 200));
    }

    #[test]
    fn what_is_part_of_another_is_not_merged_again() {
        let listed = [part(1, 1, 1), part(1, 3, 1), part(2, 2, 1), part(4, 4, 1)];
        assert_eq!(uncovered(&listed), [part(1, 3, 1), part(4, 4, 1)]);
    }
}
