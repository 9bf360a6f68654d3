//! What is remembered of attempts that ended: enough to give the same answer when asked again, and a
//! useful one when somebody goes on with an attempt that is over.
//!
//! Bounded: the oldest entries go first. What matters for ever is in the store; this saves asking it,
//! and remembers what is never stored (commits without writes, aborts before the record).

use std::collections::VecDeque;
use std::hash::Hash;
use std::time::Duration;

use foldhash::fast::FixedState;

use super::peer::Token;
use super::refusal::Refusal;
use crate::txn::{AttemptId, BaseId, Map};

/// Recently ended attempts and recently decided ids.
#[derive(Debug)]
pub(super) struct Ended {
    decided: Recent<BaseId, Decided>,
    aborted: Recent<AttemptId, Gone>,
    /// Those of which other nodes know, with when each began.
    departed: Recent<AttemptId, Duration>,
    /// When the last of them began that was forgotten.
    forgotten_to: Option<Duration>,
}

/// Why an attempt is over here.
#[derive(Debug)]
struct Gone {
    why: Refusal,
    /// It may have gone on elsewhere.
    is_local: bool,
}

/// How an id was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decided {
    /// An attempt took effect; without a token, it had nothing to write.
    Committed(Option<Token>),
    /// None ever will.
    Aborted,
}

impl Ended {
    pub(super) fn new(entries_max: usize, hasher: &FixedState) -> Self {
        Self {
            decided: Recent::new(entries_max, hasher),
            aborted: Recent::new(entries_max, hasher),
            departed: Recent::new(entries_max, hasher),
            forgotten_to: None,
        }
    }

    pub(super) fn decide(&mut self, base: BaseId, decided: Decided) {
        self.decided.insert(base, decided);
    }

    /// An attempt is over here; `is_local`: other nodes know of it, so it may take effect all the same.
    pub(super) fn note_aborted(&mut self, attempt: AttemptId, why: Refusal, is_local: bool) {
        self.aborted.insert(attempt, Gone { why, is_local });
    }

    /// An attempt is over here that began at `begun` and of which other nodes know: it must not go on here
    /// as if it had never been.
    pub(super) fn note_departed(&mut self, attempt: AttemptId, begun: Duration) {
        let forgotten = self.departed.insert(attempt, begun);
        self.forgotten_to = self.forgotten_to.max(forgotten);
    }

    /// Whether an attempt that began then may have been here, with other nodes knowing of it, and be forgotten.
    pub(super) fn may_have_forgotten(&self, begun: Duration) -> bool {
        self.forgotten_to.is_some_and(|to| begun <= to)
    }

    /// Whether nothing can be done any more under this attempt here.
    pub(super) fn is_over(&self, attempt: &AttemptId) -> bool {
        self.aborted.map.contains_key(attempt)
            || self.departed.map.contains_key(attempt)
            || self.decided.map.contains_key(&attempt.base())
    }

    /// Why an attempt can never take effect, if that is certain.
    pub(super) fn why_without_effect(&self, attempt: &AttemptId) -> Option<&Refusal> {
        self.aborted.map.get(attempt).filter(|gone| !gone.is_local).map(|gone| &gone.why)
    }

    pub(super) fn decided(&self, base: &BaseId) -> Option<&Decided> {
        self.decided.map.get(base)
    }

    pub(super) fn why_aborted(&self, attempt: &AttemptId) -> Option<&Refusal> {
        self.aborted.map.get(attempt).map(|gone| &gone.why)
    }
}

/// A map that forgets its oldest entries.
#[derive(Debug)]
struct Recent<K, V> {
    map: Map<K, V>,
    order: VecDeque<K>,
    entries_max: usize,
}

impl<K: Clone + Eq + Hash, V> Recent<K, V> {
    fn new(entries_max: usize, hasher: &FixedState) -> Self {
        Self { map: Map::with_hasher(hasher.clone()), order: VecDeque::new(), entries_max }
    }

    /// Answers what is forgotten for it.
    fn insert(&mut self, key: K, value: V) -> Option<V> {
        if self.map.insert(key.clone(), value).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() <= self.entries_max {
            return None;
        }
        self.map.remove(&self.order.pop_front()?)
    }
}
