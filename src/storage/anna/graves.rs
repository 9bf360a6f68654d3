//! Ids of whose outcome there is not more left than how they ended. Anna cannot be asked for old objects, so
//! each incarnation keeps a list of them, in buckets like those of its log, and has them forgotten when
//! nobody may ask any more.
//!
//! An id enters the list before its outcome is cut down. So an id on the list may have an outcome that is
//! whole, if its collector died; such a one stays, and enters the list again when it is collected.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use prost::Message;
use tokio::sync::Mutex as Turnstile;

use super::super::StorageError;
use super::kv::KeyValue;
use super::names::LogName;
use super::objects::{delete, lww, raise};
use crate::anna::lattice::Lattice;
use crate::txn::{BaseId, Timestamp};
use crate::wire::{Grave, GraveBucket};

/// A bucket is closed when it holds so many ids.
const BUCKET_GRAVES_MAX: usize = 256;

/// The list of one incarnation.
pub(super) struct Graves {
    name: LogName,
    state: Mutex<State>,
    writing: Turnstile<()>,
}

#[derive(Default)]
struct State {
    /// Closed buckets, each with the least timestamp in it.
    closed: BTreeMap<u64, u64>,
    /// The number of the bucket that is being filled, and what is in it.
    current: u64,
    open: Vec<Grave>,
    /// Something of it is not written.
    is_changed: bool,
    /// Counts writes.
    generation: u64,
    first: u64,
}

/// An id that is to be forgotten.
pub(super) fn grave(id: &BaseId, at: Timestamp) -> Grave {
    Grave { id: id.as_str().to_owned(), timestamp: at.0.cast_signed() }
}

impl Graves {
    pub(super) fn new(name: LogName) -> Self {
        Self { name, state: Mutex::default(), writing: Turnstile::default() }
    }

    /// Enters ids with the next write. A crash before that lets their outcomes stay.
    pub(super) fn note(&self, graves: impl IntoIterator<Item = Grave>) {
        let state = &mut *self.state.lock();
        let before = state.open.len();
        state.open.extend(graves);
        state.is_changed |= state.open.len() > before;
    }

    /// Returns when all that was entered is durable.
    pub(super) async fn flush(&self, kv: &impl KeyValue) -> Result<(), StorageError> {
        let _turn = self.writing.lock().await;
        while let Some((number, timestamp, bucket)) = self.next_write() {
            self.write(kv, number, timestamp, &bucket).await?;
            self.written(number, &bucket);
        }
        Ok(())
    }

    /// The bucket that is to be written next, if one is.
    fn next_write(&self) -> Option<(u64, u64, GraveBucket)> {
        let state = &mut *self.state.lock();
        if !state.is_changed {
            return None;
        }
        state.generation += 1;
        let count = state.open.len().min(BUCKET_GRAVES_MAX);
        let graves = state.open.get(..count).unwrap_or_default().to_vec();
        Some((
            state.current,
            state.generation,
            GraveBucket { closed: count == BUCKET_GRAVES_MAX, graves },
        ))
    }

    fn written(&self, number: u64, bucket: &GraveBucket) {
        let state = &mut *self.state.lock();
        if bucket.closed {
            state.close(number, &bucket.graves);
            state.open.drain(..bucket.graves.len());
            state.is_changed = !state.open.is_empty();
        } else {
            state.is_changed = state.open.len() > bucket.graves.len();
        }
    }

    async fn write(
        &self,
        kv: &impl KeyValue,
        number: u64,
        timestamp: u64,
        bucket: &GraveBucket,
    ) -> Result<(), StorageError> {
        let value = bucket.encode_to_vec().into();
        kv.put(&self.name.graves(number), Lattice::Lww { timestamp, value }).await
    }

    /// The buckets with ids that are older than this. The one that is being filled is closed if it has some.
    pub(super) async fn due(
        &self,
        kv: &impl KeyValue,
        before: Timestamp,
    ) -> Result<Vec<u64>, StorageError> {
        self.flush(kv).await?;
        let _turn = self.writing.lock().await;
        let state = &mut *self.state.lock();
        let is_old = |grave: &Grave| grave.timestamp < before.0.cast_signed();
        if !state.is_changed && state.open.iter().any(is_old) {
            let graves = std::mem::take(&mut state.open);
            state.close(state.current, &graves);
        }
        let due = state.closed.iter().filter(|(_, oldest)| **oldest < before.0);
        Ok(due.map(|(number, _)| *number).collect())
    }

    pub(super) async fn read(
        &self,
        kv: &impl KeyValue,
        number: u64,
    ) -> Result<Vec<Grave>, StorageError> {
        Ok(bucket(kv, &self.name, number).await?.unwrap_or_default().graves)
    }

    /// Only these are left of a closed bucket.
    pub(super) async fn keep(
        &self,
        kv: &impl KeyValue,
        number: u64,
        left: Vec<Grave>,
    ) -> Result<(), StorageError> {
        let _turn = self.writing.lock().await;
        let timestamp = {
            let state = &mut *self.state.lock();
            state.generation += 1;
            state.generation
        };
        let left = GraveBucket { graves: left, closed: true };
        self.write(kv, number, timestamp, &left).await?;
        let gone = {
            let state = &mut *self.state.lock();
            state.closed.remove(&number);
            if !left.graves.is_empty() {
                state.close(number, &left.graves);
            }
            let first = state.closed.keys().next().copied().unwrap_or(state.current);
            state.first..first
        };
        if gone.is_empty() {
            return Ok(());
        }
        raise(kv, &self.name.first_graves(), gone.end).await?;
        let names: Vec<_> = gone.clone().map(|number| self.name.graves(number)).collect();
        delete(kv, &names).await?;
        self.state.lock().first = gone.end;
        Ok(())
    }
}

impl State {
    fn close(&mut self, number: u64, graves: &[Grave]) {
        let oldest = graves.iter().map(|grave| grave.timestamp).min().unwrap_or_default();
        self.closed.insert(number, u64::try_from(oldest).unwrap_or_default());
        self.current = self.current.max(number + 1);
    }
}

/// A part of a list, if it is there.
pub(super) async fn bucket(
    kv: &impl KeyValue,
    name: &LogName,
    number: u64,
) -> Result<Option<GraveBucket>, StorageError> {
    let name = name.graves(number);
    let Some((_, stored)) = lww(kv.get_newest(&name).await?)? else { return Ok(None) };
    let damaged = |error| StorageError::Damaged(format!("the list {name:?}: {error}"));
    GraveBucket::decode(stored).map(Some).map_err(damaged)
}
