//! Start: a new transaction, or a new attempt at an id that the client brought.
//!
//! A retry never resumes. It gets an attempt of its own with an empty buffer, and the attempts before
//! it are fenced, so that a function which was given up for dead and is not cannot add to its writes.

use std::time::Duration;

use super::attempts::{Attempt, FirstSay, Phase, Waiter, Wants};
use super::effect::Answer;
use super::event::{Asked, Ticket};
use super::ops::Purpose;
use super::travel::Travel;
use super::{Ask, Decided, Node, Refusal, Timer, Turn};
use crate::storage::StorageError;
use crate::txn::{AttemptId, BaseId, Outcome, ReadSet, WriteBuffer};

impl Node {
    pub(super) fn start(&mut self, turn: &mut Turn<'_>, asked: Asked, id: Option<BaseId>) {
        if let Err(why) = self.may_begin() {
            return turn.reply(asked.ticket, refused_start(why));
        }
        match id {
            None => {
                let attempt = self.ids.base(turn.now.wall_ns);
                self.begin(turn, attempt.clone(), turn.now.elapsed, FirstSay::Here);
                turn.reply(asked.ticket, Answer::Started(attempt));
            }
            Some(base) if self.is_too_old(turn, &base) => {
                let why = Refusal::TooOld(self.config.retry_window);
                turn.reply(asked.ticket, refused_start(why));
            }
            Some(base) => self.retry(turn, asked, base),
        }
    }

    /// Begins an attempt at `base` unless its outcome is known or about to be.
    fn retry(&mut self, turn: &mut Turn<'_>, asked: Asked, base: BaseId) {
        if self.answer_decided_start(turn, asked.ticket, &base)
            || self.wait_to_start(turn, asked.ticket, &base)
        {
            return;
        }
        self.fence(turn, &base);
        self.attempts.begin_opening(&base);
        let spent = turn.now.elapsed.saturating_sub(asked.at);
        let within = Some(self.config.request_within.saturating_sub(spent));
        let (ticket, at) = (asked.ticket, asked.at);
        let purpose = Purpose::Start { ticket, base: base.clone(), at };
        self.ask(turn, Ask::Outcome(base), purpose, within);
    }

    /// The store was asked for the outcome of an id that a client wants to try again.
    pub(super) fn start_outcome(
        &mut self,
        turn: &mut Turn<'_>,
        ticket: Ticket,
        base: BaseId,
        outcome: Option<Outcome>,
    ) {
        self.attempts.end_opening(&base);
        if let Some(outcome) = outcome {
            self.note_outcome(turn, &base, &outcome);
        }
        // Another attempt may have begun, or ended, while the store was asked.
        if self.answer_decided_start(turn, ticket, &base) || self.wait_to_start(turn, ticket, &base)
        {
            return;
        }
        if let Err(why) = self.may_begin() {
            return turn.reply(ticket, refused_start(why));
        }
        self.fence(turn, &base);
        let attempt = self.ids.attempt(&base);
        self.begin(turn, attempt.clone(), turn.now.elapsed, FirstSay::No);
        turn.reply(ticket, Answer::Started(attempt));
    }

    pub(super) fn start_failed(
        &self,
        turn: &mut Turn<'_>,
        ticket: Ticket,
        error: Option<StorageError>,
    ) {
        let why = super::store_refusal(error, self.config.request_within);
        turn.reply(ticket, refused_start(why));
    }

    /// Makes room in the tables for an attempt that runs from now on.
    pub(super) fn begin(
        &mut self,
        turn: &Turn<'_>,
        id: AttemptId,
        begun: Duration,
        first_say: FirstSay,
    ) {
        let idle_end = turn.now.elapsed + self.config.idle_max;
        let first_look = idle_end.min(begun + self.config.lifetime_max);
        let timer = self.timers.set(first_look, Timer::Attempt(id.clone()));
        let attempt = Attempt {
            reads: ReadSet::new(&self.hasher),
            writes: WriteBuffer::default(),
            begun,
            touched: turn.now.elapsed,
            phase: Phase::Running { timer },
            held_bytes: 0,
            first_say,
            travel: Travel::default(),
            epoch: 0,
        };
        self.attempts.insert(id, attempt);
    }

    pub(super) fn may_begin(&self) -> Result<(), Refusal> {
        if self.draining {
            return Err(Refusal::Draining);
        }
        let max = self.config.txn_max;
        if self.attempts.len() >= max {
            return Err(Refusal::TooManyTransactions { max });
        }
        Ok(())
    }

    pub(super) fn is_too_old(&self, turn: &Turn<'_>, base: &BaseId) -> bool {
        let window_ns = u64::try_from(self.config.retry_window.as_nanos()).unwrap_or(u64::MAX);
        base.created_ns()
            .is_some_and(|created| created.saturating_add(window_ns) < turn.now.wall_ns)
    }

    fn answer_decided_start(&self, turn: &mut Turn<'_>, ticket: Ticket, base: &BaseId) -> bool {
        let Some(decided) = self.ended.decided(base) else {
            return false;
        };
        let (committed, token) = match decided {
            Decided::Committed(token) => (true, token.clone()),
            Decided::Aborted => (false, None),
        };
        let why = (!committed).then_some(Refusal::SettledAborted);
        turn.reply(ticket, Answer::Decided { id: base.to_string(), committed, why, token });
        true
    }

    /// An attempt whose record was sent cannot be fenced: whoever wants to try again waits for it.
    fn wait_to_start(&mut self, turn: &Turn<'_>, ticket: Ticket, base: &BaseId) -> bool {
        let Some(current) = self.attempts.current(base).cloned() else {
            return false;
        };
        let asked = Asked { ticket, at: turn.now.elapsed };
        self.wait_for(turn, &current, asked, Wants::Start(base.clone()))
    }

    fn fence(&mut self, turn: &mut Turn<'_>, base: &BaseId) {
        if let Some(earlier) = self.attempts.current(base).cloned() {
            self.end_aborted(turn, &earlier, Refusal::Fenced);
        }
    }

    /// Lets a request wait for the outcome of an attempt, if its record was sent.
    pub(super) fn wait_for(
        &mut self,
        turn: &Turn<'_>,
        attempt: &AttemptId,
        asked: Asked,
        wants: Wants,
    ) -> bool {
        let within = match wants {
            Wants::Outcome(_) => self.config.outcome_within,
            Wants::Start(_) | Wants::Put(_) => self.config.request_within,
        };
        let Some(entry) = self.attempts.get_mut(attempt) else {
            return false;
        };
        let Some(waiters) = entry.phase.waiters() else { return false };
        let Asked { ticket, at: since } = asked;
        let at = (since + within).max(turn.now.elapsed);
        let timer = self.timers.set(at, Timer::Waiter(attempt.clone(), ticket));
        waiters.push(Waiter { ticket, wants, timer });
        true
    }
}

/// No attempt was begun, so none is named.
fn refused_start(why: Refusal) -> Answer {
    Answer::Undecided { id: String::new(), why }
}
