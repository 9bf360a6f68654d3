//! The end of a transaction is told to all nodes where it ran, so that they need not hold it any longer.
//! Nothing rests on it: a node that does not hear of it holds the transaction until its time is up.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::attempts::Phase;
use super::peer::{Address, Over, PeerMessage, Token};
use super::{Decided, Effect, End, Node, Refusal, Turn};
use crate::txn::{AttemptId, Commit};

impl Node {
    /// Tells others how an attempt ended: with a commit, without writes, or not at all.
    pub(super) fn tell_over(
        &self,
        turn: &mut Turn<'_>,
        txn: &AttemptId,
        others: BTreeSet<Address>,
        end: Option<Option<Arc<Commit>>>,
    ) {
        for to in others {
            let from = self.config.address.clone();
            let over = Over { from, attempt: txn.clone(), end: end.clone() };
            turn.effects.push(Effect::Send { to, message: PeerMessage::Over(over) });
        }
    }

    /// An attempt was committed by another node. What it did here is of no use any more.
    pub(super) fn leave(&mut self, turn: &mut Turn<'_>, txn: &AttemptId) {
        let phase = self.attempts.get(txn).map(|attempt| &attempt.phase);
        if matches!(phase, Some(Phase::Running { .. } | Phase::HandedOut { .. })) {
            self.forget_attempt(txn);
            self.ended.note_aborted(txn.clone(), Refusal::AlreadyCommitted, true);
            turn.effects.push(Effect::Ended { attempt: txn.clone(), end: End::Elsewhere });
        }
    }

    /// An attempt has ended on another node.
    pub(super) fn over(&mut self, turn: &mut Turn<'_>, told: Over) {
        let Over { from, attempt: txn, end } = told;
        if let Some(Some(commit)) = &end {
            self.learn(turn, commit);
            let token = Token { attempt: commit.version.writer.clone(), place: None };
            self.ended.decide(txn.base(), Decided::Committed(Some(token)));
        }
        let Some(attempt) = self.attempts.get(&txn) else { return };
        let mut others = attempt.travel.others();
        others.remove(&from);
        match (&attempt.phase, &end) {
            // Only the store knows.
            (Phase::Committing { .. }, _) => return,
            (Phase::Preparing(_), None) => {
                return self.give_up_attempt(turn, &txn, Refusal::EndedElsewhere(from));
            }
            _ => {}
        }
        if end == Some(None) {
            self.ended.decide(txn.base(), Decided::Committed(None));
        }
        let waiters = self.forget_attempt(&txn);
        if end.is_none() {
            self.ended.note_aborted(txn.clone(), Refusal::EndedElsewhere(from), true);
        }
        turn.effects.push(Effect::Ended { attempt: txn.clone(), end: End::Elsewhere });
        self.tell_over(turn, &txn, others, end);
        for waiter in waiters {
            self.answer_waiter(turn, &txn, waiter);
        }
    }
}
