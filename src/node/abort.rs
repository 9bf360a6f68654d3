//! Abort: the client gives an attempt up. After its record was sent that is no longer the client's
//! decision, and it gets the outcome instead.

use super::attempts::{Phase, Wants};
use super::effect::Answer;
use super::event::{Asked, Ticket};
use super::{Decided, Node, Refusal, Turn};
use crate::txn::AttemptId;

impl Node {
    pub(super) fn abort(&mut self, turn: &mut Turn<'_>, ticket: Ticket, txn: &AttemptId) {
        let asked = Asked { ticket, at: turn.now.elapsed };
        if matches!(self.attempts.get(txn), Some(a) if matches!(a.phase, Phase::Committing { .. }))
        {
            self.wait_for(turn, txn, asked, Wants::Outcome(txn.clone()));
            return;
        }
        match self.attempts.get(txn) {
            Some(attempt) if attempt.travel.stayed_here() => {
                self.end_aborted(turn, txn, Refusal::AbortedByClient);
                return turn.reply(ticket, aborted(txn, None));
            }
            // Another node may be committing it.
            Some(_) => {
                self.give_up_attempt(turn, txn, Refusal::AbortedByClient);
                self.wait_for(turn, txn, asked, Wants::Outcome(txn.clone()));
                return;
            }
            None => {}
        }
        let base = txn.base();
        match self.ended.decided(&base) {
            Some(Decided::Committed(token)) => {
                let (id, token) = (txn.to_string(), token.clone());
                turn.reply(ticket, Answer::Decided { id, committed: true, why: None, token });
            }
            // It cannot take effect any more, whatever becomes of its id.
            _ if self.ended.why_without_effect(txn).is_some() => {
                let why = self.ended.why_without_effect(txn).cloned();
                turn.reply(ticket, aborted(txn, why));
            }
            Some(Decided::Aborted) => turn.reply(ticket, aborted(txn, None)),
            None => self.settle(turn, asked, txn),
        }
    }
}

fn aborted(txn: &AttemptId, why: Option<Refusal>) -> Answer {
    Answer::Decided { id: txn.to_string(), committed: false, why, token: None }
}
