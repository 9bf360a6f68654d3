//! What this process knows of ids, and whose turn it is.
//!
//! That an id gets one outcome is for `paxos.rs`. But calls of one process about one id need not compete,
//! so they take turns, and what was found out once is remembered.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Mutex as Turnstile, OwnedMutexGuard};

use crate::txn::{BaseId, Outcome};

/// How many ids are remembered of which nothing is under way.
const REMEMBERED_MAX: usize = 50_000;

/// What this process knows of an id.
#[derive(Debug, Clone)]
pub(super) enum Known {
    /// Its outcome.
    Decided(Outcome),
    /// A commit was sent from here, and may or may not come to be the outcome.
    Sent,
}

/// Ids in use, and what is known of them.
#[derive(Default)]
pub(super) struct Ids {
    turns: Mutex<HashMap<BaseId, Arc<Turnstile<()>>>>,
    known: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    ids: HashMap<BaseId, Known>,
    order: VecDeque<BaseId>,
}

/// The right to decide about an id.
pub(super) struct Turn<'a> {
    ids: &'a Ids,
    id: BaseId,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Ids {
    /// Waits until nobody else decides about the id.
    pub(super) async fn turn(&self, id: &BaseId) -> Turn<'_> {
        let turnstile = self.turns.lock().entry(id.clone()).or_default().clone();
        let guard = turnstile.lock_owned().await;
        Turn { ids: self, id: id.clone(), guard: Some(guard) }
    }

    /// What is known of an id, if anything.
    pub(super) fn known(&self, id: &BaseId) -> Option<Known> {
        self.known.lock().ids.get(id).cloned()
    }

    /// Whether anything was sent that is not confirmed.
    pub(super) fn anything_sent(&self) -> bool {
        self.known.lock().ids.values().any(|known| matches!(known, Known::Sent))
    }

    /// What was sent of an id never left this process.
    pub(super) fn forget(&self, id: &BaseId) {
        // Its place in the order is left: to find it would take longer than to meet it.
        self.known.lock().ids.remove(id);
    }

    /// Remembers what is known of an id.
    pub(super) fn note(&self, id: &BaseId, known: Known) {
        let memory = &mut *self.known.lock();
        if memory.ids.insert(id.clone(), known).is_none() {
            memory.order.push_back(id.clone());
        }
        // One look at each at most: what was sent must stay.
        for _ in 0..memory.order.len().saturating_sub(REMEMBERED_MAX) {
            let Some(oldest) = memory.order.pop_front() else {
                break;
            };
            match memory.ids.get(&oldest) {
                Some(Known::Sent) => memory.order.push_back(oldest),
                _ => drop(memory.ids.remove(&oldest)),
            }
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.guard.take();
        let turns = &mut *self.ids.turns.lock();
        // Whoever waits holds the turnstile, too.
        if turns.get(&self.id).is_some_and(|turnstile| Arc::strong_count(turnstile) == 1) {
            turns.remove(&self.id);
        }
    }
}
