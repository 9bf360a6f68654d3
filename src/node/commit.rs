//! Commit: the attempt's writes and its record become durable together, then readable, then the
//! client is told. In that order.
//!
//! From the moment the record is sent, only the store knows the outcome: nothing here may abort the
//! attempt, a failure to confirm is answered by sending the identical batch again, and a client that
//! cannot wait is told that the outcome is not known yet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::attempts::{FirstSay, Phase, Waiter, Wants};
use super::effect::{Answer, Effect, End};
use super::event::Asked;
use super::ops::Purpose;
use super::peer::{Address, Token};
use super::{Ask, Decided, Node, Refusal, Turn};
use crate::storage::{CommitBatch, StorageError};
use crate::txn::{AttemptId, BaseId, Commit, Key, Outcome, Version, WrittenKey};

impl Node {
    pub(super) fn commit(
        &mut self,
        turn: &mut Turn<'_>,
        asked: Asked,
        txn: &AttemptId,
        addresses: Vec<Address>,
    ) {
        // Whoever commits merges all of them, this one too, if it is named.
        let mut named = addresses.clone();
        named.retain(|node| *node != self.config.address && self.config.has_peers);
        let Some(attempt) = self.attempts.get(txn) else {
            // Also if other nodes are named: had it run here in an earlier life of this node, nobody would
            // know what is missing.
            return self.commit_again(turn, asked, txn);
        };
        let travel = &attempt.travel;
        match &attempt.phase {
            Phase::Committing { .. } | Phase::Preparing(_) => {}
            Phase::HandedOut { coordinator, .. } => {
                let to = coordinator.node.clone();
                return self.forward(turn, asked, txn, to, addresses);
            }
            Phase::Running { .. } => {
                if let Some(to) = travel.ahead.iter().rfind(|node| !named.contains(node)).cloned() {
                    return self.forward(turn, asked, txn, to, addresses);
                }
                if !named.is_empty() || !travel.stayed_here() {
                    self.prepare(txn, named);
                } else if attempt.writes.is_empty() {
                    self.end_read_only(turn, txn);
                    return turn.reply(asked.ticket, committed(txn, None));
                } else {
                    self.send_commit(turn, txn);
                }
            }
        }
        self.wait_for(turn, txn, asked, Wants::Outcome(txn.clone()));
        self.prepare_on(turn, txn);
    }

    /// Fixes the write set and the timestamp, and sends both to the store.
    pub(super) fn send_commit(&mut self, turn: &mut Turn<'_>, txn: &AttemptId) {
        let own = self.attempts.take_writes(txn);
        let Some(attempt) = self.attempts.get_mut(txn) else {
            return;
        };
        let sent = Phase::Committing { waiters: Vec::new() };
        let (waiters, mut writes) = match std::mem::replace(&mut attempt.phase, sent) {
            Phase::Preparing(prepare) => (prepare.waiters, prepare.values),
            Phase::Running { timer } => {
                self.timers.cancel(timer);
                (Vec::new(), BTreeMap::new())
            }
            other => return attempt.phase = other,
        };
        // Of a key that was written on several nodes, one value counts.
        let held = &attempt.travel.held;
        writes.extend(own.into_writes().filter(|(key, _)| !held.contains_key(key)));
        attempt.phase = Phase::Committing { waiters };
        let sole = attempt.first_say == FirstSay::Here;
        if writes.is_empty() {
            return self.end_read_only(turn, txn);
        }
        self.clock.observe(attempt.reads.newest());
        self.clock.observe(self.index.newest());
        let timestamp = self.clock.next(turn.now.wall_ns);
        let version = Version { timestamp, writer: txn.clone() };
        let batch = self.batch(version, sole, writes.into_iter());
        let purpose = Purpose::Commit { attempt: txn.clone() };
        self.ask(turn, Ask::Commit(batch), purpose, None);
    }

    fn batch(
        &self,
        version: Version,
        sole: bool,
        writes: impl Iterator<Item = (Key, Bytes)>,
    ) -> CommitBatch {
        let mut keys = Vec::new();
        let mut values = Vec::new();
        for (key, value) in writes {
            let fresh = self.index.is_new(&key) && !self.is_kept_aside(&key);
            keys.push(WrittenKey { key, fresh });
            values.push(value);
        }
        let commit = Arc::new(Commit::new(version, keys, self.config.address.clone()));
        CommitBatch { commit, values, sole }
    }

    /// The store has decided the id of an attempt whose record was sent.
    pub(super) fn commit_decided(
        &mut self,
        turn: &mut Turn<'_>,
        txn: &AttemptId,
        outcome: Outcome,
        batch: CommitBatch,
    ) {
        let base = txn.base();
        self.note_outcome(turn, &base, &outcome);
        let others = self.attempts.get(txn).map(|a| a.travel.others()).unwrap_or_default();
        let waiters = self.forget_attempt(txn);
        match &outcome {
            Outcome::Committed(commit) if commit.version == batch.commit.version => {
                if commit.keys.is_empty() {
                    // Others have superseded all of it by now.
                    batch.commit.keys.iter().for_each(|w| self.index.mistrust(&w.key));
                }
                let place = Some((self.config.origin(), self.tell(turn, &batch.commit)));
                let token = Token { attempt: txn.clone(), place };
                self.ended.decide(base, Decided::Committed(Some(token)));
                self.keep_values(turn, &batch);
                let end = End::Committed(batch.commit);
                turn.effects.push(Effect::Ended { attempt: txn.clone(), end });
            }
            // Another attempt of the id was first. This one's versions are nobody's.
            Outcome::Committed(_) => self.note_lost(turn, txn, Refusal::Fenced),
            Outcome::Aborted => self.note_lost(turn, txn, Refusal::SettledAborted),
        }
        self.tell_outcome(turn, txn, others, &outcome);
        for waiter in waiters {
            self.answer_waiter(turn, txn, waiter);
        }
    }

    /// The store has decided the id of an attempt that could not go on.
    pub(super) fn gave_up(
        &mut self,
        turn: &mut Turn<'_>,
        txn: &AttemptId,
        why: Refusal,
        outcome: &Outcome,
    ) {
        self.note_outcome(turn, &txn.base(), outcome);
        let others = self.attempts.get(txn).map(|a| a.travel.others()).unwrap_or_default();
        let waiters = self.forget_attempt(txn);
        let end = match outcome {
            Outcome::Committed(_) => End::Elsewhere,
            Outcome::Aborted => {
                self.ended.note_aborted(txn.clone(), why.clone(), false);
                End::Aborted(why)
            }
        };
        turn.effects.push(Effect::Ended { attempt: txn.clone(), end });
        self.tell_outcome(turn, txn, others, outcome);
        for waiter in waiters {
            self.answer_waiter(turn, txn, waiter);
        }
    }

    fn tell_outcome(
        &self,
        turn: &mut Turn<'_>,
        txn: &AttemptId,
        others: BTreeSet<Address>,
        outcome: &Outcome,
    ) {
        let end = match outcome {
            Outcome::Committed(commit) if commit.version.writer == *txn => {
                Some(Some(commit.clone()))
            }
            _ => None,
        };
        self.tell_over(turn, txn, others, end);
    }

    /// The store will never hold the record of this attempt. Its id stays open.
    pub(super) fn commit_refused(
        &mut self,
        turn: &mut Turn<'_>,
        txn: &AttemptId,
        error: StorageError,
    ) {
        let why = Refusal::NotStored(error);
        if self.attempts.get(txn).is_some_and(|attempt| !attempt.travel.stayed_here()) {
            let purpose = Purpose::GiveUp { attempt: txn.clone(), why };
            return self.ask(turn, Ask::SettleAborted(txn.base()), purpose, None);
        }
        let waiters = self.forget_attempt(txn);
        self.note_lost(turn, txn, why.clone());
        for waiter in waiters {
            self.timers.cancel(waiter.timer);
            let answer = match waiter.wants {
                // Another attempt of the id may have committed on another node.
                Wants::Outcome(asked) if asked != *txn => {
                    Answer::Undecided { id: asked.to_string(), why: Refusal::Superseded }
                }
                Wants::Outcome(asked) => {
                    let id = asked.to_string();
                    Answer::Decided { id, committed: false, why: Some(why.clone()), token: None }
                }
                Wants::Start(_) => Answer::Undecided { id: String::new(), why: why.clone() },
                Wants::Put(_) => Answer::Refused(why.clone()),
            };
            turn.reply(waiter.ticket, answer);
        }
    }

    fn note_lost(&mut self, turn: &mut Turn<'_>, txn: &AttemptId, why: Refusal) {
        self.ended.note_aborted(txn.clone(), why.clone(), false);
        turn.effects.push(Effect::Ended { attempt: txn.clone(), end: End::Aborted(why) });
    }

    /// Caches what was just committed, and publishes it where others read plain keys.
    fn keep_values(&mut self, turn: &mut Turn<'_>, batch: &CommitBatch) {
        for (written, value) in batch.commit.keys.iter().zip(&batch.values) {
            let (key, version) = (written.key.clone(), batch.commit.version.clone());
            self.values.insert(key.clone(), version.clone(), value.clone());
            if self.config.plain_keys {
                let ask = Ask::Publish { key, version, value: value.clone() };
                self.ask(turn, ask, Purpose::Publish, None);
            }
        }
    }

    fn end_read_only(&mut self, turn: &mut Turn<'_>, txn: &AttemptId) {
        let others = self.attempts.get(txn).map(|a| a.travel.others()).unwrap_or_default();
        let waiters = self.forget_attempt(txn);
        // It has no effect, so nothing is stored; but asking again should give the same answer.
        self.ended.decide(txn.base(), Decided::Committed(None));
        turn.effects.push(Effect::Ended { attempt: txn.clone(), end: End::ReadOnly });
        self.tell_over(turn, txn, others, Some(None));
        for waiter in waiters {
            self.answer_waiter(turn, txn, waiter);
        }
    }

    /// A commit of an attempt that does not run here.
    fn commit_again(&mut self, turn: &mut Turn<'_>, asked: Asked, txn: &AttemptId) {
        match self.ended.decided(&txn.base()) {
            Some(Decided::Committed(token)) => {
                turn.reply(asked.ticket, committed(txn, token.clone()));
            }
            Some(Decided::Aborted) => {
                let why = Some(self.why_gone(txn));
                let id = txn.to_string();
                turn.reply(
                    asked.ticket,
                    Answer::Decided { id, committed: false, why, token: None },
                );
            }
            None => self.settle(turn, asked, txn),
        }
    }

    /// Finds out how the id of an attempt that does not run here ended; if it has not, ends it as
    /// aborted for good. An id that another attempt still works at is left open.
    pub(super) fn settle(&mut self, turn: &mut Turn<'_>, asked: Asked, txn: &AttemptId) {
        let base = txn.base();
        if self.attempts.get(txn).is_some() {
            self.give_up_attempt(turn, txn, Refusal::Undecided);
            self.wait_for(turn, txn, asked, Wants::Outcome(txn.clone()));
            return;
        }
        if let Some(current) = self.attempts.current(&base).cloned() {
            if !self.wait_for(turn, &current, asked, Wants::Outcome(txn.clone())) {
                let why = Refusal::Superseded;
                turn.reply(asked.ticket, Answer::Undecided { id: txn.to_string(), why });
            }
            return;
        }
        // Nor is one settled at which an attempt is just about to begin.
        if self.attempts.is_opening(&base) {
            let (id, why) = (txn.to_string(), Refusal::Superseded);
            return turn.reply(asked.ticket, Answer::Undecided { id, why });
        }
        let spent = turn.now.elapsed.saturating_sub(asked.at);
        let within = Some(self.config.outcome_within.saturating_sub(spent));
        let purpose = Purpose::Settle { asked, attempt: txn.clone() };
        // An outcome may have been there and be forgotten.
        let is_open = !self.is_too_old(turn, &base);
        let ask = if is_open { Ask::SettleAborted(base) } else { Ask::Outcome(base) };
        self.ask(turn, ask, purpose, within);
    }

    /// The outcome of an id that is too old to be decided now.
    pub(super) fn old_outcome(
        &mut self,
        turn: &mut Turn<'_>,
        asked: Asked,
        txn: &AttemptId,
        outcome: Option<Outcome>,
    ) {
        match outcome {
            Some(outcome) => self.settled(turn, asked, txn, &outcome),
            None => {
                let why = Refusal::TooOld(self.config.retry_window);
                turn.reply(asked.ticket, Answer::Undecided { id: txn.to_string(), why });
            }
        }
    }

    pub(super) fn settled(
        &mut self,
        turn: &mut Turn<'_>,
        asked: Asked,
        txn: &AttemptId,
        outcome: &Outcome,
    ) {
        self.note_outcome(turn, &txn.base(), outcome);
        self.commit_again(turn, asked, txn);
    }

    /// Learns how an id ended. A commit that is news here (sent by an incarnation that died before it
    /// landed) becomes readable before anybody is told of it.
    pub(super) fn note_outcome(&mut self, turn: &mut Turn<'_>, base: &BaseId, outcome: &Outcome) {
        let decided = match outcome {
            Outcome::Committed(commit) => {
                self.learn(turn, commit);
                let attempt = commit.version.writer.clone();
                Decided::Committed(Some(Token { attempt, place: None }))
            }
            Outcome::Aborted => Decided::Aborted,
        };
        self.ended.decide(base.clone(), decided);
    }

    /// Tells a request how the id of its attempt was decided.
    pub(super) fn answer_waiter(&mut self, turn: &mut Turn<'_>, txn: &AttemptId, waiter: Waiter) {
        self.timers.cancel(waiter.timer);
        let (is_committed, token) = match self.ended.decided(&txn.base()) {
            Some(Decided::Committed(token)) => (true, token.clone()),
            _ => (false, None),
        };
        let known = self.ended.why_aborted(txn).cloned().unwrap_or(Refusal::SettledAborted);
        let why = if is_committed { None } else { Some(known) };
        let answer = match waiter.wants {
            Wants::Outcome(asked) => {
                Answer::Decided { id: asked.to_string(), committed: is_committed, why, token }
            }
            Wants::Start(base) => {
                Answer::Decided { id: base.to_string(), committed: is_committed, why, token }
            }
            Wants::Put(results) if is_committed => Answer::Written(results),
            Wants::Put(_) => Answer::Refused(Refusal::SettledAborted),
        };
        turn.reply(waiter.ticket, answer);
    }
}

fn committed(txn: &AttemptId, token: Option<Token>) -> Answer {
    Answer::Decided { id: txn.to_string(), committed: true, why: None, token }
}
