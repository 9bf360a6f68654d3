//! A storage thread: reads and writes the keys that it owns.

use std::collections::HashSet;

use super::disk::KEY_BYTES_MAX;
use super::faults::Faults;
use super::placement::Placement;
use super::protocol::is_metadata;
use super::status::Counters;
use super::store::Store;
use crate::wire::anna::{AnnaError, KeyRequest, KeyResponse, KeyTuple, LatticeType, RequestType};

/// How many replicas a key has: clients that say they know of more or fewer are corrected.
const REPLICAS: u32 = 1;

/// What all storage threads of a server share.
pub(super) struct Shared<'a> {
    pub store: &'a mut Store,
    pub placement: &'a Placement,
    pub faults: &'a mut Faults,
    pub counters: &'a mut Counters,
}

/// What one storage thread remembers.
pub(super) struct StorageThread {
    number: usize,
    /// Keys whose replication factor it has looked up. Anna answers apart what had to wait for that.
    seen: HashSet<String>,
}

impl StorageThread {
    pub fn new(number: usize) -> Self {
        Self { number, seen: HashSet::new() }
    }

    /// Does what a request asks for, key by key. Gives the answers in the order in which they leave:
    /// first the keys that the thread knew, in one message, then each other key in its own.
    pub fn answer(&mut self, request: KeyRequest, shared: &mut Shared) -> Vec<KeyResponse> {
        let (mut together, mut alone, mut first_touched) = (Vec::new(), Vec::new(), Vec::new());
        for tuple in request.tuples {
            let key = &tuple.key;
            if key.is_empty() || key.len() > KEY_BYTES_MAX {
                shared.counters.keys_ignored += 1;
                tracing::warn!(bytes = key.len(), "ignored a key; the empty one would end Anna");
                continue;
            }
            let is_metadata = is_metadata(key);
            let is_known = is_metadata || self.seen.contains(key);
            let is_owner =
                shared.placement.owner(key) == self.number && !shared.faults.misplaces_key();
            match (is_owner, is_known) {
                (true, true) => together.push(serve_known(request.r#type, tuple, shared)),
                (true, false) => {
                    first_touched.push(key.clone());
                    alone.push(serve_first(request.r#type, tuple, shared));
                }
                (false, _) => {
                    shared.counters.wrong_thread += 1;
                    if is_metadata {
                        let kind = tuple.lattice_type;
                        together.push(KeyTuple { lattice_type: kind, ..wrong_thread(tuple.key) });
                    } else {
                        alone.push(wrong_thread(tuple.key));
                    }
                }
            }
        }
        // Not before: a key that stands in a request twice waits twice for the one look-up.
        self.seen.extend(first_touched);
        if request.response_address.is_empty() {
            return Vec::new();
        }
        // Each look-up takes its own time.
        shared.faults.shuffle(&mut alone);
        let groups = std::iter::once(together).chain(alone.into_iter().map(|tuple| vec![tuple]));
        groups
            .filter(|tuples| !tuples.is_empty())
            .map(|tuples| KeyResponse {
                r#type: request.r#type,
                tuples,
                response_id: request.request_id.clone(),
                ..KeyResponse::default()
            })
            .collect()
    }

    /// Forgets all keys, as at a restart.
    pub fn forget(&mut self) {
        self.seen.clear();
    }
}

/// Serves a key that the thread knows.
fn serve_known(request_type: i32, tuple: KeyTuple, shared: &mut Shared) -> KeyTuple {
    let cached = tuple.address_cache_size;
    let answer = match RequestType::try_from(request_type) {
        Ok(RequestType::Get) => get(tuple.key, shared),
        Ok(RequestType::Put) => put(tuple, shared),
        _ => KeyTuple { key: tuple.key, ..KeyTuple::default() },
    };
    KeyTuple { invalidate: cached > 0 && cached != REPLICAS, ..answer }
}

/// Serves a key once it was looked up. What is no read counts as a write then, and nothing is said
/// about the addresses that the client knows.
fn serve_first(request_type: i32, tuple: KeyTuple, shared: &mut Shared) -> KeyTuple {
    match RequestType::try_from(request_type) {
        Ok(RequestType::Get) => get(tuple.key, shared),
        _ => put(tuple, shared),
    }
}

fn get(key: String, shared: &mut Shared) -> KeyTuple {
    shared.counters.gets += 1;
    let Some(value) = shared.store.get(&key) else {
        shared.counters.keys_missing += 1;
        return KeyTuple { key, error: AnnaError::KeyDne.into(), ..KeyTuple::default() };
    };
    let is_missing = value.reads_as_missing();
    shared.counters.keys_missing += u64::from(is_missing);
    let error = if is_missing { AnnaError::KeyDne } else { AnnaError::NoError };
    KeyTuple {
        key,
        lattice_type: value.kind().into(),
        error: error.into(),
        payload: value.encode(),
        ..KeyTuple::default()
    }
}

/// Only the lattice type of the answer tells whether the write was taken.
fn put(tuple: KeyTuple, shared: &mut Shared) -> KeyTuple {
    shared.counters.puts += 1;
    let kind = LatticeType::try_from(tuple.lattice_type).unwrap_or(LatticeType::None);
    let was_taken = shared.store.put(&tuple.key, kind, tuple.payload);
    shared.counters.puts_not_stored += u64::from(!was_taken);
    let kind = if was_taken { kind } else { LatticeType::None };
    KeyTuple { key: tuple.key, lattice_type: kind.into(), ..KeyTuple::default() }
}

fn wrong_thread(key: String) -> KeyTuple {
    KeyTuple { key, error: AnnaError::WrongThread.into(), ..KeyTuple::default() }
}
