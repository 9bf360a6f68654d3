//! The store has answered, or has not confirmed: then it is asked again, ever more slowly, until the
//! request behind the question is past its deadline. A commit is never given up.

use std::hash::BuildHasher;

use super::event::{OpId, StoreResult};
use super::ops::{Op, Purpose};
use super::{Ask, Node, StorageError, Timer, Turn};
use crate::txn::Outcome;

/// A publication that failed this often, while many others wait as well, is left to whoever publishes
/// the key next, or to the next incarnation.
const PUBLISH_TRIES: u32 = 5;
const PUBLICATIONS_MAX: usize = 10_000;

/// Garbage of which the deletion failed this often is left to a sweep.
const COLLECT_TRIES: u32 = 20;

impl Node {
    pub(super) fn stored(&mut self, turn: &mut Turn<'_>, id: OpId, result: StoreResult) {
        match failure(&result) {
            Some(error) => self.store_failed(turn, id, error),
            // Not there yet.
            None if matches!(&result, StoreResult::Outcome(Ok(None))) && self.is_session(id) => {
                self.ask_once_more(turn, id);
            }
            None if self.must_read_log(id, &result) => self.ask_once_more(turn, id),
            None => {
                if let Some(op) = self.close(id) {
                    self.store_answered(turn, op, result);
                }
            }
        }
    }

    fn store_answered(&mut self, turn: &mut Turn<'_>, op: Op, result: StoreResult) {
        match (op.purpose, op.ask, result) {
            (
                Purpose::Commit { attempt },
                Ask::Commit(batch),
                StoreResult::Decided(Ok(outcome)),
            ) => self.commit_decided(turn, &attempt, outcome, batch),
            (Purpose::Settle { asked, attempt }, _, StoreResult::Decided(Ok(outcome))) => {
                self.settled(turn, asked, &attempt, &outcome);
            }
            (Purpose::Settle { asked, attempt }, _, StoreResult::Outcome(Ok(outcome))) => {
                self.old_outcome(turn, asked, &attempt, outcome);
            }
            (Purpose::Start { ticket, base, .. }, _, StoreResult::Outcome(Ok(outcome))) => {
                self.start_outcome(turn, ticket, base, outcome);
            }
            (Purpose::GiveUp { attempt, why }, _, StoreResult::Decided(Ok(outcome))) => {
                self.gave_up(turn, &attempt, why, &outcome);
            }
            (Purpose::Session { waiting }, _, StoreResult::Outcome(Ok(Some(outcome)))) => {
                self.session_found(turn, waiting, &outcome);
            }
            (Purpose::Merge { ticket }, Ask::Merge(asked), StoreResult::Merged(results)) => {
                self.merged(turn, ticket, &asked, results);
            }
            (Purpose::Plain { get }, Ask::Plain(asked), StoreResult::Plain(Ok(found))) => {
                self.plain_found(turn, get, asked, found);
            }
            (
                Purpose::Values { reading, values, holes },
                Ask::Versions(wanted),
                StoreResult::Versions(Ok(found)),
            ) => {
                let fetched = holes.into_iter().zip(wanted).zip(found);
                let fetched =
                    fetched.map(|((hole, (key, version)), value)| (hole, key, version, value));
                self.values_fetched(turn, reading, values, fetched.collect());
            }
            (Purpose::Heads { get }, Ask::Heads(asked), StoreResult::Heads(Ok(heads))) => {
                self.heads_found(turn, get, asked, heads);
            }
            (Purpose::Evict, Ask::SetHeads(heads), _) => self.heads_set(&heads),
            (Purpose::Collect, ..) => self.deleted(turn),
            (Purpose::Sweep, _, StoreResult::Swept(Ok(swept))) => self.swept(turn, Some(swept)),
            _ => {}
        }
    }

    fn store_failed(&mut self, turn: &mut Turn<'_>, id: OpId, error: StorageError) {
        let publishing = self.ops.len();
        let Some(op) = self.ops.get_mut(id) else {
            return;
        };
        let never_sent = op.failures == 0 && error.is_refusal();
        if let (Purpose::Commit { attempt }, true) = (&op.purpose, never_sent) {
            let attempt = attempt.clone();
            self.close(id);
            return self.commit_refused(turn, &attempt, error);
        }
        let is_hopeless = matches!(error, StorageError::Unsuitable(_));
        op.failures += 1;
        op.last_error = Some(error);
        if matches!(op.purpose, Purpose::Sweep) {
            // It can wait for the next time.
            self.close(id);
            return self.swept(turn, None);
        }
        if matches!(op.purpose, Purpose::Collect) && (is_hopeless || op.failures >= COLLECT_TRIES) {
            // A sweep will find it.
            self.close(id);
            return self.deleted(turn);
        }
        let is_many = op.failures >= PUBLISH_TRIES && publishing > PUBLICATIONS_MAX;
        if matches!(op.purpose, Purpose::Publish) && (is_hopeless || is_many) {
            self.close(id);
            return;
        }
        self.ask_later(turn, id);
    }

    /// The answer was not what is waited for.
    fn ask_once_more(&mut self, turn: &Turn<'_>, id: OpId) {
        if let Some(op) = self.ops.get_mut(id) {
            op.failures += 1;
        }
        self.ask_later(turn, id);
    }

    fn ask_later(&mut self, turn: &Turn<'_>, id: OpId) {
        let Some(op) = self.ops.get_mut(id) else { return };
        let [chance, ..] = self.hasher.hash_one((id, op.failures)).to_ne_bytes();
        let again = turn.now.elapsed + op.pause(chance);
        self.timers.set(again, Timer::Again(id));
    }

    /// An outcome of which only remains are left says that newer versions are in the store's log. Whoever
    /// is told of it must find them here, and not too far ahead of this node's clock.
    fn must_read_log(&self, id: OpId, result: &StoreResult) -> bool {
        let (StoreResult::Outcome(Ok(Some(outcome))) | StoreResult::Decided(Ok(outcome))) = result
        else {
            return false;
        };
        let Outcome::Committed(commit) = outcome else { return false };
        let asked = self.ops.get(id).and_then(|op| op.purpose.asked_at());
        self.config.has_peers
            && commit.keys.is_empty()
            && asked.is_some_and(|asked| {
                self.is_any_obscured() || self.log_read.is_none_or(|read| read < asked)
            })
    }

    fn is_session(&self, id: OpId) -> bool {
        self.ops.get(id).is_some_and(|op| matches!(op.purpose, Purpose::Session { .. }))
    }

    /// The request behind a question to the store has waited long enough.
    pub(super) fn give_up(&mut self, turn: &mut Turn<'_>, id: OpId) {
        let Some(op) = self.close(id) else { return };
        match op.purpose {
            Purpose::Settle { asked, attempt } => {
                let why = super::Refusal::Undecided;
                let id = attempt.to_string();
                turn.reply(asked.ticket, super::Answer::Undecided { id, why });
            }
            Purpose::Start { ticket, base, .. } => {
                self.attempts.end_opening(&base);
                self.start_failed(turn, ticket, op.last_error);
            }
            Purpose::Plain { get } => self.get_failed(turn, get.ticket, op.last_error),
            Purpose::Merge { ticket } => self.get_failed(turn, ticket, op.last_error),
            Purpose::Heads { get } => {
                if let Ask::Heads(keys) = &op.ask {
                    self.heads.end(keys);
                }
                self.get_failed(turn, get.ticket, op.last_error);
            }
            Purpose::Values { reading, .. } => self.reading_failed(turn, &reading, op.last_error),
            Purpose::Session { mut waiting } => {
                let why = match op.last_error {
                    Some(error) => super::Refusal::Storage(error),
                    None => super::Refusal::NotReadable(waiting.after.swap_remove(0).attempt),
                };
                let answer = super::Answer::Undecided { id: String::new(), why };
                turn.reply(waiting.asked.ticket, answer);
            }
            Purpose::Commit { .. }
            | Purpose::GiveUp { .. }
            | Purpose::Collect
            | Purpose::Sweep
            | Purpose::Evict
            | Purpose::Publish => {}
        }
    }

    fn close(&mut self, id: OpId) -> Option<Op> {
        let op = self.ops.remove(id)?;
        if let Some(deadline) = op.deadline {
            self.timers.cancel(deadline);
        }
        Some(op)
    }
}

fn failure(result: &StoreResult) -> Option<StorageError> {
    match result {
        StoreResult::Decided(result) => result.as_ref().err().cloned(),
        StoreResult::Outcome(result) => result.as_ref().err().cloned(),
        StoreResult::Versions(result) => result.as_ref().err().cloned(),
        StoreResult::Plain(result) => result.as_ref().err().cloned(),
        StoreResult::Heads(result) => result.as_ref().err().cloned(),
        StoreResult::Done(result) => result.as_ref().err().cloned(),
        StoreResult::Swept(result) => result.as_ref().err().cloned(),
        StoreResult::Merged(_) => None,
        StoreResult::Published(result) => result.as_ref().err().cloned(),
    }
}
