//! What was asked of other nodes and is not answered yet.
//!
//! A question is repeated until it is answered, as messages get lost, and given up after a bound, as
//! nodes do. Every question may therefore arrive more than once.

use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::fast::FixedState;

use super::event::{Asked, Ticket};
use super::peer::{Address, Origin, PeerMessage};
use super::{Effect, Node, Timer, Turn};
use crate::timers::TimerId;
use crate::txn::{AttemptId, Key, Map};

/// How often a question is asked again.
const AGAIN: Duration = Duration::from_millis(250);

/// One open question.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) to: Address,
    pub(super) message: PeerMessage,
    pub(super) purpose: CallPurpose,
    /// When it was asked for the first time.
    pub(super) since: Duration,
    again: TimerId,
    deadline: TimerId,
}

/// What the answer is needed for.
#[derive(Debug)]
pub(super) enum CallPurpose {
    /// To go on here.
    HandOver { attempt: AttemptId, then: Continuation, tries: u32 },
    /// For a get.
    Query { get: u64, key: Key },
    /// To commit.
    Collect { attempt: AttemptId, from: Origin, keys: Vec<Key> },
    /// To answer a commit that was asked for at the wrong node.
    Forward { asked: Asked, attempt: AttemptId },
}

/// What happens when a transaction was handed over.
#[derive(Debug, Clone)]
pub(super) enum Continuation {
    /// The client is told.
    Reply(Ticket),
    /// A commit that waited for this node goes on.
    Merged(Address),
}

/// All open questions.
#[derive(Debug)]
pub(super) struct Calls {
    open: Map<u64, Call>,
    asked: u64,
}

impl Calls {
    /// No question has the number of one of an earlier life, whose answers may still come: `seed`
    /// differs between lives.
    pub(super) fn new(seed: u64, hasher: &FixedState) -> Self {
        // Not with `hasher`, which is made of the same seed: that would come to one number for all.
        let first = FixedState::with_seed(0).hash_one(seed) >> 2;
        Self { open: Map::with_hasher(hasher.clone()), asked: first }
    }

    pub(super) fn next(&mut self) -> u64 {
        self.asked += 1;
        self.asked
    }

    pub(super) fn get(&self, number: u64) -> Option<&Call> {
        self.open.get(&number)
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// The question for this attempt that a node answers; the original's nodes do not say which.
    pub(super) fn hand_over(
        &self,
        number: u64,
        attempt: &AttemptId,
        upstream: &str,
    ) -> Option<u64> {
        let is_it = |call: &Call| {
            matches!(&call.purpose, CallPurpose::HandOver { attempt: of, .. } if of == attempt)
                && *call.to == *upstream
        };
        if number != 0 {
            return self.open.get(&number).filter(|call| is_it(call)).map(|_| number);
        }
        self.open.iter().filter(|(_, call)| is_it(call)).map(|(number, _)| *number).min()
    }
}

impl Node {
    /// Asks another node; the question is given up after [`NodeConfig::peer_within`].
    ///
    /// [`NodeConfig::peer_within`]: super::NodeConfig::peer_within
    pub(super) fn call(
        &mut self,
        turn: &mut Turn<'_>,
        number: u64,
        to: Address,
        message: PeerMessage,
        purpose: CallPurpose,
    ) {
        let now = turn.now.elapsed;
        let again = self.timers.set(now + AGAIN, Timer::CallAgain(number));
        let deadline = self.timers.set(now + self.config.peer_within, Timer::CallDeadline(number));
        let (receiver, question) = (to.clone(), message.clone());
        let call = Call { to: receiver, message: question, purpose, since: now, again, deadline };
        self.calls.open.insert(number, call);
        turn.effects.push(Effect::Send { to, message });
    }

    pub(super) fn call_again(&mut self, turn: &mut Turn<'_>, number: u64) {
        let Some(call) = self.calls.open.get_mut(&number) else { return };
        call.again = self.timers.set(turn.now.elapsed + AGAIN, Timer::CallAgain(number));
        turn.effects.push(Effect::Send { to: call.to.clone(), message: call.message.clone() });
    }

    /// The question is answered, or of no interest any more.
    pub(super) fn end_call(&mut self, number: u64) -> Option<Call> {
        let call = self.calls.open.remove(&number)?;
        self.timers.cancel(call.again);
        self.timers.cancel(call.deadline);
        Some(call)
    }

    /// Nobody answered in time.
    pub(super) fn call_unanswered(&mut self, turn: &mut Turn<'_>, number: u64) {
        let Some(call) = self.end_call(number) else { return };
        match call.purpose {
            CallPurpose::HandOver { attempt, then, .. } => {
                let why = super::Refusal::Silent(call.to);
                self.not_handed_over(turn, &attempt, why, then);
            }
            CallPurpose::Query { get, .. } => {
                self.query_failed(turn, get, super::Refusal::Silent(call.to));
            }
            CallPurpose::Collect { attempt, from, keys } => {
                self.not_collected(turn, number, &attempt, &from, &keys);
            }
            CallPurpose::Forward { asked, attempt } => self.settle(turn, asked, &attempt),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_lives_ask_under_different_numbers() {
        let numbers = |seed| {
            let mut calls = Calls::new(seed, &FixedState::with_seed(seed));
            (0..1_000).map(|_| calls.next()).collect::<std::collections::BTreeSet<_>>()
        };
        for seed in 1..100 {
            assert!(numbers(0).is_disjoint(&numbers(seed)), "{seed}");
        }
    }
}
