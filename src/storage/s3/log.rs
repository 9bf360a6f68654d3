//! The log of this process: which commits wait to be written into it, and which of its entries are settled.
//!
//! Commits that come while segments are being written share the next one. A commit knows its number before
//! the segment is sent, so that its outcome can be sent at the same time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::bucket::Bucket;
use super::names;
use super::pack::Place;
use super::segment::{self, Entry, Segment};
use crate::storage::StorageError;
use crate::txn::{AttemptId, Commit};

/// Segments under way at once. The fewer there are, the more commits share one under load.
const WRITERS: usize = 2;
/// A segment is closed when it holds so many keys.
const SEGMENT_KEYS_MAX: usize = 4096;

/// Writes one process's log.
#[derive(Debug)]
pub(super) struct OwnLog {
    pub name: String,
    state: Mutex<State>,
    writers: Semaphore,
}

#[derive(Debug, Default)]
struct State {
    /// The number that is being filled.
    next: u64,
    /// Numbers that are not confirmed.
    unwritten: BTreeMap<u64, Unwritten>,
    /// Entries that are not settled.
    unsettled: HashMap<AttemptId, Unsettled>,
    /// Entries that are to be taken out again.
    lost: BTreeSet<(u64, AttemptId)>,
    /// For each number what has to happen before it is settled: entries, and to be written.
    open: BTreeMap<u64, usize>,
    /// Segments that were written since this was asked.
    written: usize,
}

/// A segment that is being filled, or was sent and not confirmed.
#[derive(Debug, Clone, Default)]
struct Unwritten {
    entries: Vec<Arc<Commit>>,
    keys: usize,
    /// As it was sent. It never changes then.
    sent: Option<Bytes>,
    /// Held by whoever writes it.
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Clone, Copy)]
struct Unsettled {
    number: u64,
    /// The outcome may have been written, and nobody knows.
    in_doubt: bool,
}

impl OwnLog {
    pub fn new(name: String) -> Self {
        Self { name, state: Mutex::default(), writers: Semaphore::new(WRITERS) }
    }

    pub fn place(&self, number: u64) -> Place {
        Place { log: self.name.clone(), number }
    }

    /// Adds a commit, in memory. Doing it again changes nothing. Answers its number.
    pub fn enter(&self, commit: &Arc<Commit>) -> u64 {
        let state = &mut *self.state.lock();
        let writer = &commit.version.writer;
        if let Some(known) = state.unsettled.get(writer) {
            return known.number;
        }
        if state.lost.contains(&(state.next, writer.clone())) {
            // What is taken out there must not be this.
            state.next += 1;
        }
        let number = state.next;
        let segment = state.unwritten.entry(number).or_default();
        if segment.entries.is_empty() {
            state.open.insert(number, 1);
        }
        segment.entries.push(commit.clone());
        segment.keys += commit.keys.len().max(1);
        if segment.keys >= SEGMENT_KEYS_MAX {
            state.next += 1;
        }
        *state.open.entry(number).or_default() += 1;
        let unsettled = Unsettled { number, in_doubt: false };
        state.unsettled.insert(writer.clone(), unsettled);
        number
    }

    /// Returns when what has this number is in the log.
    pub async fn flush(&self, bucket: &Bucket, number: u64) -> Result<(), StorageError> {
        let Some(turn) = self.turn(number) else { return Ok(()) };
        let _turn = turn.lock().await;
        // The semaphore is never closed.
        let _permit = self.writers.acquire().await;
        let Some(bytes) = self.take(number) else { return Ok(()) };
        // If there is one it is this one: nobody else uses the name.
        let _ = bucket.put_new(&names::segment(&self.name, number, number), bytes).await?;
        self.confirmed(number);
        Ok(())
    }

    fn turn(&self, number: u64) -> Option<Arc<tokio::sync::Mutex<()>>> {
        self.state.lock().unwritten.get(&number).map(|segment| segment.turn.clone())
    }

    /// The segment of this number as it is to be written; nothing is added to it from now on.
    fn take(&self, number: u64) -> Option<Bytes> {
        let state = &mut *self.state.lock();
        let low = state.low();
        let segment = state.unwritten.get_mut(&number)?;
        if segment.sent.is_none() {
            let entry = |commit: &Arc<Commit>| Entry { number, commit: commit.clone() };
            let entries = segment.entries.iter().map(entry).collect();
            segment.sent = Some(Segment { low, is_settled: false, entries }.encode());
            state.next = state.next.max(number + 1);
        }
        segment.sent.clone()
    }

    fn confirmed(&self, number: u64) {
        let state = &mut *self.state.lock();
        if state.unwritten.remove(&number).is_some() {
            state.written += 1;
            state.close_one(number);
        }
    }

    /// Whether so many segments were written since this was true last.
    pub fn take_many_written(&self, many: usize) -> bool {
        let state = &mut *self.state.lock();
        let is_many = state.written >= many;
        if is_many {
            state.written = 0;
        }
        is_many
    }

    /// All numbers before this one are settled.
    pub fn low(&self) -> u64 {
        self.state.lock().low()
    }

    /// A commit took effect at its place in the log, or its entry is gone.
    pub fn settle(&self, writer: &AttemptId) {
        let state = &mut *self.state.lock();
        if let Some(known) = state.unsettled.remove(writer) {
            state.close_one(known.number);
        }
    }

    /// Nobody knows whether the outcome of an entry was written.
    pub fn doubt(&self, writer: &AttemptId) {
        if let Some(known) = self.state.lock().unsettled.get_mut(writer) {
            known.in_doubt = true;
        }
    }

    /// The outcome of an entry will not be written, if it was not before.
    pub fn give_up(&self, writer: &AttemptId) {
        let state = &mut *self.state.lock();
        if state.unsettled.get(writer).is_some_and(|known| !known.in_doubt) {
            state.lose(writer);
        }
    }

    /// An outcome of its id that does not name it is there.
    pub fn lose(&self, writer: &AttemptId) {
        self.state.lock().lose(writer);
    }

    /// Entries of which nobody knows whether their outcomes were written.
    pub fn doubtful(&self) -> Vec<(AttemptId, u64)> {
        let state = self.state.lock();
        let doubtful = state.unsettled.iter().filter(|(_, known)| known.in_doubt);
        doubtful.map(|(writer, known)| (writer.clone(), known.number)).collect()
    }

    /// Takes entries out that are lost.
    pub async fn drop_lost(&self, bucket: &Bucket) -> Result<(), StorageError> {
        let mut lost: BTreeMap<u64, BTreeSet<AttemptId>> = BTreeMap::new();
        for (number, writer) in self.state.lock().lost.iter().cloned() {
            lost.entry(number).or_default().insert(writer);
        }
        for (number, attempts) in lost {
            self.flush(bucket, number).await?;
            segment::remove(bucket, &self.place(number), &attempts).await?;
            let state = &mut *self.state.lock();
            for writer in attempts {
                if state.lost.remove(&(number, writer)) {
                    state.close_one(number);
                }
            }
        }
        Ok(())
    }

    /// Writes what was not confirmed.
    pub async fn flush_all(&self, bucket: &Bucket) -> Result<(), StorageError> {
        let numbers: Vec<_> = self.state.lock().unwritten.keys().copied().collect();
        for number in numbers {
            self.flush(bucket, number).await?;
        }
        Ok(())
    }
}

impl State {
    fn low(&self) -> u64 {
        self.open.keys().next().copied().unwrap_or(self.next)
    }

    fn lose(&mut self, writer: &AttemptId) {
        if let Some(known) = self.unsettled.remove(writer) {
            self.lost.insert((known.number, writer.clone()));
        }
    }

    fn close_one(&mut self, number: u64) {
        if let Some(count) = self.open.get_mut(&number) {
            *count -= 1;
            if *count == 0 {
                self.open.remove(&number);
            }
        }
    }
}
