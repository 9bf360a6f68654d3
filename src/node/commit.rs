//! Commit: the attempt's writes and its record become durable together, then readable, then the
//! client is told. In that order.
//!
//! From the moment the record is sent, only the store knows the outcome: nothing here may abort the
//! attempt, a failure to confirm is answered by sending the identical batch again, and a client that
//! cannot wait is told that the outcome is not known yet.

use std::sync::Arc;

use bytes::Bytes;

use super::attempts::{Phase, Waiter, Wants};
use super::effect::{Answer, Effect, End};
use super::event::Ticket;
use super::ops::Purpose;
use super::{Ask, Decided, Node, Refusal, Turn};
use crate::storage::{CommitBatch, StorageError};
use crate::txn::{AttemptId, BaseId, Commit, Key, Outcome, Version, WrittenKey};

impl Node {
    pub(super) fn commit(&mut self, turn: &mut Turn<'_>, ticket: Ticket, txn: &AttemptId) {
        match self.attempts.get(txn) {
            Some(attempt) if matches!(attempt.phase, Phase::Committing { .. }) => {}
            Some(attempt) if attempt.writes.is_empty() => {
                self.end_read_only(turn, txn);
                return turn.reply(ticket, committed(txn));
            }
            Some(_) => self.send_commit(turn, txn),
            None => return self.commit_again(turn, ticket, txn),
        }
        self.wait_for(turn, txn, ticket, Wants::Outcome(txn.clone()));
    }

    /// Fixes the write set and the timestamp, and sends both to the store.
    pub(super) fn send_commit(&mut self, turn: &mut Turn<'_>, txn: &AttemptId) {
        let Some(attempt) = self.attempts.get_mut(txn) else {
            return;
        };
        let sent = Phase::Committing { waiters: Vec::new() };
        if let Phase::Running { timer } = std::mem::replace(&mut attempt.phase, sent) {
            self.timers.cancel(timer);
        }
        self.clock.observe(attempt.reads.newest());
        self.clock.observe(self.index.newest());
        let timestamp = self.clock.next(turn.now.wall_ns);
        let version = Version { timestamp, writer: txn.clone() };
        let writes = self.attempts.take_writes(txn);
        let batch = self.batch(version, writes.into_writes());
        let purpose = Purpose::Commit { attempt: txn.clone() };
        self.ask(turn, Ask::Commit(batch), purpose, None);
    }

    fn batch(&self, version: Version, writes: impl Iterator<Item = (Key, Bytes)>) -> CommitBatch {
        let mut keys = Vec::new();
        let mut values = Vec::new();
        for (key, value) in writes {
            let fresh = self.index.versions(&key).is_empty();
            keys.push(WrittenKey { key, fresh });
            values.push(value);
        }
        let commit = Arc::new(Commit::new(version, keys, self.config.address.clone()));
        let sole = is_sole(&commit.version.writer);
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
        let waiters = self.take_waiters(txn);
        match outcome {
            Outcome::Committed(commit) if commit.version.writer == *txn => {
                self.tell(turn, &batch.commit);
                self.keep_values(turn, &batch);
                let end = End::Committed(batch.commit);
                turn.effects.push(Effect::Ended { attempt: txn.clone(), end });
            }
            // Another attempt of the id was first. This one's versions are nobody's.
            Outcome::Committed(_) => self.note_lost(turn, txn, Refusal::Fenced),
            Outcome::Aborted => self.note_lost(turn, txn, Refusal::SettledAborted),
        }
        for waiter in waiters {
            self.answer_waiter(turn, txn, waiter);
        }
    }

    /// The store will never hold the record of this attempt. Its id stays open.
    pub(super) fn commit_refused(
        &mut self,
        turn: &mut Turn<'_>,
        txn: &AttemptId,
        error: StorageError,
    ) {
        let why = Refusal::NotStored(error);
        let waiters = self.take_waiters(txn);
        self.note_lost(turn, txn, why.clone());
        for waiter in waiters {
            self.timers.cancel(waiter.timer);
            let answer = match waiter.wants {
                Wants::Outcome(asked) => {
                    let id = asked.to_string();
                    Answer::Decided { id, committed: false, why: Some(why.clone()) }
                }
                Wants::Start(_) => Answer::Undecided { id: String::new(), why: why.clone() },
                Wants::Put(_) => Answer::Refused(why.clone()),
            };
            turn.reply(waiter.ticket, answer);
        }
    }

    fn note_lost(&mut self, turn: &mut Turn<'_>, txn: &AttemptId, why: Refusal) {
        self.ended.note_aborted(txn.clone(), why.clone());
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
        if let Some(attempt) = self.attempts.remove(txn)
            && let Phase::Running { timer } = attempt.phase
        {
            self.timers.cancel(timer);
        }
        // It has no effect, so nothing is stored; but asking again should give the same answer.
        self.ended.decide(txn.base(), Decided::Committed(txn.clone()));
        turn.effects.push(Effect::Ended { attempt: txn.clone(), end: End::ReadOnly });
    }

    /// A commit of an attempt that does not run here.
    fn commit_again(&mut self, turn: &mut Turn<'_>, ticket: Ticket, txn: &AttemptId) {
        match self.ended.decided(&txn.base()) {
            Some(Decided::Committed(_)) => turn.reply(ticket, committed(txn)),
            Some(Decided::Aborted) => {
                let why = Some(self.why_gone(txn));
                let id = txn.to_string();
                turn.reply(ticket, Answer::Decided { id, committed: false, why });
            }
            None => self.settle(turn, ticket, txn),
        }
    }

    /// Finds out how the id of an attempt that does not run here ended; if it has not, ends it as
    /// aborted for good. An id that another attempt still works at is left open.
    pub(super) fn settle(&mut self, turn: &mut Turn<'_>, ticket: Ticket, txn: &AttemptId) {
        let base = txn.base();
        if let Some(current) = self.attempts.current(&base).cloned() {
            if !self.wait_for(turn, &current, ticket, Wants::Outcome(txn.clone())) {
                let why = Refusal::Superseded;
                turn.reply(ticket, Answer::Undecided { id: txn.to_string(), why });
            }
            return;
        }
        // Nor is one settled at which an attempt is just about to begin.
        if self.attempts.is_opening(&base) {
            let (id, why) = (txn.to_string(), Refusal::Superseded);
            return turn.reply(ticket, Answer::Undecided { id, why });
        }
        let within = Some(self.config.outcome_within);
        let purpose = Purpose::Settle { ticket, attempt: txn.clone() };
        self.ask(turn, Ask::SettleAborted(base), purpose, within);
    }

    pub(super) fn settled(
        &mut self,
        turn: &mut Turn<'_>,
        ticket: Ticket,
        txn: &AttemptId,
        outcome: &Outcome,
    ) {
        self.note_outcome(turn, &txn.base(), outcome);
        let committed = matches!(outcome, Outcome::Committed(_));
        let why = (!committed).then(|| self.why_gone(txn));
        turn.reply(ticket, Answer::Decided { id: txn.to_string(), committed, why });
    }

    /// Learns how an id ended. A commit that is news here (sent by an incarnation that died before it
    /// landed) becomes readable before anybody is told of it.
    pub(super) fn note_outcome(&mut self, turn: &mut Turn<'_>, base: &BaseId, outcome: &Outcome) {
        let decided = match outcome {
            Outcome::Committed(commit) => {
                self.learn(turn, commit);
                Decided::Committed(commit.version.writer.clone())
            }
            Outcome::Aborted => Decided::Aborted,
        };
        self.ended.decide(base.clone(), decided);
    }

    fn take_waiters(&mut self, txn: &AttemptId) -> Vec<Waiter> {
        match self.attempts.remove(txn).map(|attempt| attempt.phase) {
            Some(Phase::Committing { waiters }) => waiters,
            _ => Vec::new(),
        }
    }

    fn answer_waiter(&mut self, turn: &mut Turn<'_>, txn: &AttemptId, waiter: Waiter) {
        self.timers.cancel(waiter.timer);
        let is_committed = matches!(self.ended.decided(&txn.base()), Some(Decided::Committed(_)));
        let why = if is_committed { None } else { Some(Refusal::SettledAborted) };
        let answer = match waiter.wants {
            Wants::Outcome(asked) => {
                Answer::Decided { id: asked.to_string(), committed: is_committed, why }
            }
            Wants::Start(base) => {
                Answer::Decided { id: base.to_string(), committed: is_committed, why }
            }
            Wants::Put(results) if is_committed => Answer::Written(results),
            Wants::Put(_) => Answer::Refused(Refusal::SettledAborted),
        };
        turn.reply(waiter.ticket, answer);
    }
}

/// See [`CommitBatch::sole`]. Attempts run where their ids were made, so that the first one is enough.
fn is_sole(txn: &AttemptId) -> bool {
    txn.is_first()
}

fn committed(txn: &AttemptId) -> Answer {
    Answer::Decided { id: txn.to_string(), committed: true, why: None }
}
