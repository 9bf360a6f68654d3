//! Reading the logs: what stands in them and was not seen, and whether it counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::Inner;
use super::bucket::Listed;
use super::names::{self, LOGS};
use super::pack::Place;
use super::position::{Mark, Position};
use super::segment::{self, Entry, Segment};
use crate::storage::{LogPage, LogPosition, LogScope, StorageError};
use crate::txn::Commit;

/// Segments that one page takes.
const SEGMENTS_MAX: usize = 256;
/// Objects read at once.
const PARALLEL_MAX: usize = 32;

/// A part of the logs.
pub(super) struct Read {
    /// Commits and where they stand.
    pub commits: Vec<(Place, Arc<Commit>)>,
    pub next: Position,
    /// There is nothing behind it yet.
    pub end: bool,
}

/// A segment as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Part {
    pub first: u64,
    pub last: u64,
    pub name: String,
    pub bytes: u64,
    /// When it was written last, by the store's clock.
    pub written_ns: u64,
}

impl Part {
    pub fn of(listed: Listed) -> Option<Self> {
        let (_, first, last) = names::parse_segment(&listed.name)?;
        let Listed { name, bytes, written_ns } = listed;
        Some(Self { first, last, name, bytes, written_ns })
    }

    /// Whether `part` is another one that holds no other numbers.
    pub fn covers(&self, part: &Self) -> bool {
        self.name != part.name && self.first <= part.first && part.last <= self.last
    }
}

impl Inner {
    pub async fn commits_since(
        &self,
        position: &LogPosition,
        scope: LogScope,
    ) -> Result<LogPage, StorageError> {
        let position = Position::decode(position)?;
        let read = self.read_logs(position.clone(), scope).await?;
        let commits: Vec<_> = read.commits.into_iter().map(|(_, commit)| commit).collect();
        self.newest.note_page(&position, &read.next, &commits);
        Ok(LogPage { commits, next: read.next.encode()?, end: read.end })
    }

    /// Reads what was not seen.
    pub async fn read_logs(
        &self,
        mut position: Position,
        scope: LogScope,
    ) -> Result<Read, StorageError> {
        let own_low = self.log.low();
        let mut logs = self.list_logs().await?;
        if scope == LogScope::Others {
            logs.remove(&self.log.name);
        }
        // Of a log of which nothing is there nothing need be known: what comes was not seen.
        position.marks.retain(|log, _| {
            logs.contains_key(log) || (*log == self.log.name && scope == LogScope::Others)
        });
        let mut read = Read { commits: Vec::new(), next: position, end: true };
        let mut room = SEGMENTS_MAX;
        for (log, parts) in logs {
            let mark = read.next.marks.entry(log.clone()).or_default();
            if log == self.log.name {
                mark.low = mark.low.max(own_low);
            }
            let low_before = mark.low;
            let mut parts: Vec<_> = parts
                .into_iter()
                .filter(|part| !mark.has_seen_all(part.first, part.last))
                .collect();
            let is_cut = parts.len() > room;
            if let (true, Some(newest)) = (parts.len() > 1, parts.last()) {
                // It says that those before it are settled, before these are read.
                let newest = segment::read(&self.bucket, &newest.name).await?;
                mark.low = mark.low.max(newest.map_or(0, |segment| segment.low));
            }
            parts.truncate(room);
            room -= parts.len();
            self.read_parts(&log, parts, mark, &mut read.commits).await?;
            if is_cut {
                read.end = false;
            } else {
                mark.see_before(low_before);
            }
        }
        Ok(read)
    }

    /// The segments of all logs, in their order.
    pub async fn list_logs(&self) -> Result<BTreeMap<String, Vec<Part>>, StorageError> {
        let mut logs: BTreeMap<String, Vec<Part>> = BTreeMap::new();
        for listed in self.bucket.list_all(LOGS).await? {
            let Some((log, ..)) = names::parse_segment(&listed.name) else { continue };
            let log = log.to_owned();
            logs.entry(log).or_default().extend(Part::of(listed));
        }
        logs.values_mut().for_each(|parts| parts.sort());
        Ok(logs)
    }

    async fn read_parts(
        &self,
        log: &str,
        parts: Vec<Part>,
        mark: &mut Mark,
        commits: &mut Vec<(Place, Arc<Commit>)>,
    ) -> Result<(), StorageError> {
        let reads = parts.into_iter().map(async |part| {
            let segment = segment::read(&self.bucket, &part.name).await?;
            Ok::<_, StorageError>((part, segment))
        });
        let read: Vec<_> = stream::iter(reads).buffered(PARALLEL_MAX).try_collect().await?;
        let low = mark.low;
        for (part, segment) in read {
            // It is gone: all that stood there was collected.
            let Some(segment) = segment else { continue };
            mark.low = mark.low.max(segment.low);
            self.read_segment(log, &part, segment, low, mark, commits).await?;
        }
        Ok(())
    }

    async fn read_segment(
        &self,
        log: &str,
        part: &Part,
        segment: Segment,
        low: u64,
        mark: &mut Mark,
        commits: &mut Vec<(Place, Arc<Commit>)>,
    ) -> Result<(), StorageError> {
        let mut entries = segment.entries;
        entries.retain(|entry| !mark.is_seen(entry.number));
        let is_open = |entry: &Entry| !segment.is_settled && entry.number >= low;
        let asked = entries.iter().filter(|entry| is_open(entry)).map(|entry| {
            let place = Place { log: log.to_owned(), number: entry.number };
            self.counts(place, &entry.commit)
        });
        let asked: Vec<_> =
            stream::iter(asked.collect::<Vec<_>>()).buffered(PARALLEL_MAX).try_collect().await?;
        let mut asked = asked.into_iter();
        let mut waits = BTreeMap::<u64, BTreeSet<String>>::new();
        let mut open = BTreeSet::new();
        for entry in entries {
            let counts = if is_open(&entry) { asked.next().flatten() } else { Some(true) };
            let attempt = entry.commit.version.writer.as_str();
            let is_told = mark.has_told(entry.number, attempt);
            match counts {
                Some(true) => {
                    waits.entry(entry.number).or_default().insert(attempt.to_owned());
                    if !is_told {
                        let place = Place { log: log.to_owned(), number: entry.number };
                        commits.push((place, entry.commit));
                    }
                }
                Some(false) => {}
                None => {
                    open.insert(entry.number);
                }
            }
        }
        mark.see_all(part.first, part.last, &open);
        for number in open {
            mark.told.insert(number, waits.remove(&number).unwrap_or_default());
        }
        Ok(())
    }

    /// Whether an entry is that of a commit which took effect; nothing if that is not decided.
    pub async fn counts(
        &self,
        place: Place,
        commit: &Commit,
    ) -> Result<Option<bool>, StorageError> {
        let found = self.find(&commit.version.writer.base()).await?;
        Ok(found.map(|(found, _)| found.is_that(commit, &place)))
    }
}
