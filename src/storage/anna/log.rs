//! The commit log of one incarnation: a chain of buckets, each one last-writer-wins object.
//!
//! To append is to write the current bucket again with one entry more: one write, no read, and all
//! commits that wait share it. A full bucket is closed and the next one begun, so a write's size does
//! not grow with the log. Nobody else writes these objects, so the number of a write is its
//! last-writer-wins timestamp: however late an older one arrives, it changes nothing. (Anna's sets could
//! be appended to by sending the new element alone, but nothing can ever be taken out of a set again.)
//!
//! Entries enter *open*, in the same moment in which the outcome is written, and are marked afterwards,
//! with whichever write comes next. Only a crash leaves open entries behind; whoever reads one asks the
//! outcome.
//!
//! What was collected leaves the log when more of it is dead than alive (`compact.rs`): then the oldest
//! buckets go, and what is alive in them is entered again at the end. So a log is about as long as what is
//! alive, readers go on where they are, and nothing is ever taken out of a bucket.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::Semaphore;
use xxhash_rust::xxh3::xxh3_64;

use super::super::{StorageError, codec};
use super::kv::KeyValue;
use super::names::LogName;
use crate::anna::lattice::Lattice;
use crate::txn::{AttemptId, Commit, Timestamp};
use crate::wire::{LogBucket, LogEntry, LogState};

/// A bucket is closed when it holds so many bytes, or as many entries as the options say.
const BUCKET_BYTES_MAX: usize = 16 * 1024;
/// A larger record is left out of its entry: readers take it from the outcome.
const RECORD_BYTES_MAX: usize = 4 * 1024;
/// Writes of one log under way at once. Each holds all that those before it hold.
const WRITERS: usize = 2;
/// A bucket is not written before the one that is this far behind it stands closed in the store.
/// Readers look so far ahead and further ([`READ_AHEAD`]) before they take a missing bucket for the end.
const BUCKETS_OPEN_MAX: u64 = 4;
/// How many buckets that are not there make the end of a log.
pub(super) const READ_AHEAD: u64 = 2 * BUCKETS_OPEN_MAX;
/// Closed buckets whose entries may still be marked. The oldest are left as they stand.
const BUCKETS_KEPT_MAX: usize = 1024;
/// A log is not compacted for less than so many buckets.
const SPARSE_BUCKETS_MIN: usize = 4;
/// Buckets taken away at once.
pub(super) const BUCKETS_AT_ONCE: usize = 16;

/// Writes one incarnation's log.
pub(super) struct Log {
    pub(super) name: LogName,
    bucket_entries: usize,
    state: Mutex<State>,
    writers: Semaphore,
}

#[derive(Default)]
struct State {
    /// The buckets that may change, by number.
    buckets: BTreeMap<u64, Bucket>,
    current: u64,
    /// The entries that may change.
    places: HashMap<AttemptId, Place>,
    /// In which bucket the entries are that are alive, by a hash of their attempts: there are as many as
    /// commits that nobody has superseded.
    alive: HashMap<u64, u64>,
    /// The number of the first bucket, and how many entries are in each of those that are closed.
    first: u64,
    sizes: VecDeque<usize>,
    /// The sum of the sizes.
    closed_entries: usize,
    /// What was entered again and is not known to be durable.
    copies: BTreeMap<u64, Slot>,
}

#[derive(Default)]
struct Bucket {
    entries: Vec<LogEntry>,
    bytes: usize,
    /// The generation from which on no entry is added; later ones bring marks only.
    closed_at: Option<u64>,
    /// Counts changes.
    generation: u64,
    /// The newest generation that the store confirmed.
    durable: u64,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    slot: Slot,
    index: usize,
    /// Keys of the commit that are not published yet.
    unpublished: usize,
}

/// What must be durable for an entry to be in the log: a bucket, as of a generation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    bucket: u64,
    generation: u64,
}

impl Log {
    pub(super) fn new(name: LogName, bucket_entries: usize) -> Self {
        let writers = Semaphore::new(WRITERS);
        Self { name, bucket_entries, state: Mutex::default(), writers }
    }

    /// Adds a commit, in memory. Doing it again changes nothing.
    pub(super) fn enter(&self, commit: &Commit, log_state: LogState) -> Slot {
        let state = &mut *self.state.lock();
        let writer = &commit.version.writer;
        if let Some(place) = state.places.get(writer) {
            return place.slot;
        }
        if let Some(bucket) = state.alive.get(&hash(writer.as_str())) {
            // Which generation it came with is not known any more, but is not after this one.
            let generation = state.buckets.get(bucket).map_or(0, |bucket| bucket.generation);
            return Slot { bucket: *bucket, generation };
        }
        let (slot, index) = state.append(new_entry(commit, log_state), self.bucket_entries);
        if log_state != LogState::Published {
            let place = Place { slot, index, unpublished: commit.keys.len() };
            state.places.insert(writer.clone(), place);
        }
        state.leave_the_oldest();
        slot
    }

    /// Returns when an entry is durable.
    pub(super) async fn flush(&self, kv: &impl KeyValue, slot: Slot) -> Result<(), StorageError> {
        while let Some(behind) = self.too_far_behind(slot.bucket) {
            self.flush_bucket(kv, behind).await?;
        }
        self.flush_bucket(kv, slot).await
    }

    async fn flush_bucket(&self, kv: &impl KeyValue, slot: Slot) -> Result<(), StorageError> {
        if self.is_durable(slot) {
            return Ok(());
        }
        // The semaphore is never closed. Those who wait here find their entry written by others.
        let _permit = self.writers.acquire().await;
        let Some((generation, bytes)) = self.snapshot(slot) else {
            return Ok(());
        };
        let object = Lattice::Lww { timestamp: generation, value: bytes };
        kv.put(&self.name.bucket(slot.bucket), object).await?;
        self.confirmed(slot.bucket, generation);
        Ok(())
    }

    /// The store decided a commit that was entered. Says so in the log, with the next write.
    pub(super) fn settle(&self, writer: &AttemptId, took_effect: bool) {
        let state = &mut *self.state.lock();
        let Some(place) = state.places.get(writer).copied() else {
            return;
        };
        let mark = match (took_effect, place.unpublished) {
            (false, _) => LogState::Void,
            (true, 0) => LogState::Published,
            (true, _) => LogState::Committed,
        };
        if !took_effect {
            state.alive.remove(&hash(writer.as_str()));
        }
        state.mark(writer, place, mark);
    }

    /// One key of a commit stands under its plain name. Answers a closed bucket of which nothing will
    /// change any more, if that was the last thing: it should be flushed.
    pub(super) fn published(&self, writer: &AttemptId) -> Option<Slot> {
        let state = &mut *self.state.lock();
        let place = state.places.get_mut(writer)?;
        place.unpublished = place.unpublished.saturating_sub(1);
        let place = *place;
        if place.unpublished > 0 {
            return None;
        }
        state.mark(writer, place, LogState::Published);
        let bucket = state.buckets.get(&place.slot.bucket)?;
        let slot = Slot { bucket: place.slot.bucket, generation: bucket.generation };
        bucket.is_final().then_some(slot)
    }

    /// What a commit wrote was collected: its entry is dead. Answers whether there is one.
    pub(super) fn bury(&self, writer: &AttemptId) -> bool {
        self.state.lock().alive.remove(&hash(writer.as_str())).is_some()
    }

    /// Those of a bucket's entries that are alive.
    pub(super) fn alive(&self, number: u64, entries: Vec<LogEntry>) -> Vec<LogEntry> {
        let state = self.state.lock();
        entries.into_iter().filter(|entry| state.is_alive(number, entry)).collect()
    }

    /// A bucket as it is in memory, if it is.
    pub(super) fn in_memory(&self, number: u64) -> Option<Vec<LogEntry>> {
        let state = self.state.lock();
        state.buckets.get(&number).map(|bucket| bucket.entries.clone())
    }

    /// The first bucket's number.
    pub(super) fn first(&self) -> u64 {
        self.state.lock().first
    }

    /// The oldest buckets, to be taken away; none if most of what is in the log is alive.
    pub(super) fn sparse(&self) -> Vec<u64> {
        let state = self.state.lock();
        let least = SPARSE_BUCKETS_MIN * self.bucket_entries;
        if state.closed_entries <= state.alive.len() * 2 + least {
            return Vec::new();
        }
        (state.first..state.current).take(BUCKETS_AT_ONCE).collect()
    }

    /// Returns when a closed bucket stands in the store as it was closed.
    pub(super) async fn flush_closed(
        &self,
        kv: &impl KeyValue,
        number: u64,
    ) -> Result<(), StorageError> {
        let closed_at = self.state.lock().buckets.get(&number).and_then(|bucket| bucket.closed_at);
        match closed_at {
            Some(generation) => self.flush(kv, Slot { bucket: number, generation }).await,
            None => Ok(()),
        }
    }

    /// Enters again what is alive in a closed bucket, in memory. `stored` is what the store has of it, needed if
    /// it is not in memory. Answers the entries that took no effect. Doing it again changes nothing.
    pub(super) fn copy(&self, number: u64, stored: Option<Vec<LogEntry>>) -> Option<Vec<LogEntry>> {
        let state = &mut *self.state.lock();
        let entries = match state.buckets.get(&number) {
            Some(bucket) => bucket.entries.clone(),
            None => stored?,
        };
        let mut void = Vec::new();
        for entry in entries {
            if !state.is_alive(number, &entry) {
                if entry.state() == LogState::Void {
                    void.push(entry);
                }
                continue;
            }
            let writer = AttemptId::parse(&entry.id).ok();
            let (slot, index) = state.append(entry, self.bucket_entries);
            state.copies.insert(slot.bucket, slot);
            if let Some(place) = writer.and_then(|writer| state.places.get_mut(&writer)) {
                (place.slot, place.index) = (slot, index);
            }
        }
        Some(void)
    }

    /// Returns when all that was copied is durable.
    pub(super) async fn flush_copies(&self, kv: &impl KeyValue) -> Result<(), StorageError> {
        loop {
            let Some(slot) = self.state.lock().copies.first_entry().map(|first| *first.get())
            else {
                return Ok(());
            };
            self.flush(kv, slot).await?;
            let copies = &mut self.state.lock().copies;
            if copies.get(&slot.bucket).is_some_and(|s| s.generation == slot.generation) {
                copies.remove(&slot.bucket);
            }
        }
    }

    /// The first buckets, up to this one, are gone.
    pub(super) fn gone_to(&self, first: u64) {
        let state = &mut *self.state.lock();
        while state.first < first {
            state.closed_entries -= state.sizes.pop_front().unwrap_or_default();
            state.buckets.remove(&state.first);
            state.first += 1;
        }
    }

    /// The number of the bucket that is being filled.
    pub(super) fn current(&self) -> u64 {
        self.state.lock().current
    }

    /// Writes all that has changed since it was written last.
    pub(super) async fn flush_all(&self, kv: &impl KeyValue) -> Result<(), StorageError> {
        for slot in self.unwritten() {
            self.flush(kv, slot).await?;
        }
        Ok(())
    }

    fn unwritten(&self) -> Vec<Slot> {
        let state = self.state.lock();
        let changed = state.buckets.iter().filter(|(_, bucket)| bucket.durable < bucket.generation);
        let slots = changed.map(|(number, b)| Slot { bucket: *number, generation: b.generation });
        slots.collect()
    }

    fn is_durable(&self, slot: Slot) -> bool {
        let state = self.state.lock();
        state.buckets.get(&slot.bucket).is_none_or(|bucket| bucket.durable >= slot.generation)
    }

    /// The oldest bucket that must stand closed before this one is written, if there is one.
    fn too_far_behind(&self, number: u64) -> Option<Slot> {
        let state = self.state.lock();
        let behind = number.checked_sub(BUCKETS_OPEN_MAX)?;
        let mut older = state.buckets.range(..=behind);
        older.find_map(|(number, bucket)| {
            let generation = bucket.closed_at.filter(|closed_at| bucket.durable < *closed_at)?;
            Some(Slot { bucket: *number, generation })
        })
    }

    /// A bucket as it is to be written now; none if that is not needed.
    fn snapshot(&self, slot: Slot) -> Option<(u64, Bytes)> {
        let state = self.state.lock();
        let bucket = state.buckets.get(&slot.bucket)?;
        if bucket.durable >= slot.generation {
            return None;
        }
        let object =
            LogBucket { entries: bucket.entries.clone(), closed: bucket.closed_at.is_some() };
        Some((bucket.generation, object.encode_to_vec().into()))
    }

    fn confirmed(&self, number: u64, generation: u64) {
        let state = &mut *self.state.lock();
        let Some(bucket) = state.buckets.get_mut(&number) else {
            return;
        };
        bucket.durable = bucket.durable.max(generation);
        if bucket.is_final() && bucket.durable == bucket.generation {
            state.buckets.remove(&number);
        }
    }
}

impl State {
    /// A commit that was refused once, and sent again, has an entry that is void beside the one that counts.
    fn is_alive(&self, number: u64, entry: &LogEntry) -> bool {
        let is_here = self.alive.get(&hash(&entry.id)) == Some(&number);
        is_here && entry.state() != LogState::Void
    }

    /// Adds an entry to the bucket that is being filled. Answers where it is.
    fn append(&mut self, entry: LogEntry, bucket_entries: usize) -> (Slot, usize) {
        let number = self.current;
        let bucket = self.buckets.entry(number).or_default();
        self.alive.insert(hash(&entry.id), number);
        bucket.bytes += entry.encoded_len();
        bucket.entries.push(entry);
        bucket.generation += 1;
        let slot = Slot { bucket: number, generation: bucket.generation };
        let count = bucket.entries.len();
        if count >= bucket_entries || bucket.bytes >= BUCKET_BYTES_MAX {
            bucket.closed_at = Some(bucket.generation);
            self.sizes.push_back(count);
            self.closed_entries += count;
            self.current += 1;
        }
        (slot, count - 1)
    }

    fn mark(&mut self, writer: &AttemptId, place: Place, mark: LogState) {
        if matches!(mark, LogState::Void | LogState::Published) {
            self.places.remove(writer);
        }
        let Some(bucket) = self.buckets.get_mut(&place.slot.bucket) else {
            return;
        };
        if let Some(entry) = bucket.entries.get_mut(place.index) {
            entry.set_state(mark);
            bucket.generation += 1;
        }
    }

    /// Forgets old buckets that wait for marks which do not come.
    fn leave_the_oldest(&mut self) {
        while self.buckets.len() > BUCKETS_KEPT_MAX {
            let Some((_, bucket)) = self.buckets.pop_first() else {
                return;
            };
            for entry in bucket.entries {
                if let Ok(writer) = AttemptId::parse(&entry.id) {
                    self.places.remove(&writer);
                }
            }
        }
    }
}

impl Bucket {
    /// Nothing will change any more.
    fn is_final(&self) -> bool {
        let is_settled = |e: &LogEntry| matches!(e.state(), LogState::Void | LogState::Published);
        self.closed_at.is_some() && self.entries.iter().all(is_settled)
    }
}

fn hash(writer: &str) -> u64 {
    xxh3_64(writer.as_bytes())
}

fn new_entry(commit: &Commit, state: LogState) -> LogEntry {
    let record = codec::record_of(commit);
    let entry = LogEntry {
        state: state.into(),
        id: commit.version.writer.as_str().to_owned(),
        ..LogEntry::default()
    };
    if record.encoded_len() <= RECORD_BYTES_MAX {
        return LogEntry { record: Some(record), ..entry };
    }
    let keys = u32::try_from(commit.keys.len()).unwrap_or(u32::MAX);
    LogEntry { timestamp: record.timestamp, keys, ..entry }
}

/// When the attempt wanted to commit; none if the entry does not tell.
pub(super) fn timestamp(entry: &LogEntry) -> Option<Timestamp> {
    let told = entry.record.as_ref().map_or(entry.timestamp, |record| record.timestamp);
    u64::try_from(told).ok().filter(|told| *told > 0).map(Timestamp)
}

/// How many keys the attempt writes.
pub(super) fn keys(entry: &LogEntry) -> u32 {
    let told = entry.record.as_ref().map(|record| record.write_set.len());
    told.map_or(entry.keys, |keys| u32::try_from(keys).unwrap_or(u32::MAX))
}
