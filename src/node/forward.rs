//! A commit asked for at a node from which the transaction has gone on: that node knows only a part of
//! it and does not decide. It asks on, along the way that the transaction went.

use super::calls::CallPurpose;
use super::effect::{Answer, Effect};
use super::event::{Asked, Ticket};
use super::peer::{Address, Forward, Forwarded, Over, PeerMessage};
use super::{Node, Refusal, Turn};
use crate::txn::AttemptId;

/// Longer ways are circles.
const HOPS_MAX: u32 = 16;
/// Tickets from here on are those of other nodes.
const FIRST_PEER_TICKET: u64 = 1 << 63;

impl Node {
    pub(super) fn forward(
        &mut self,
        turn: &mut Turn<'_>,
        asked: Asked,
        txn: &AttemptId,
        to: Address,
        addresses: Vec<Address>,
    ) {
        let hops = self.peer_tickets.get(&asked.ticket).map_or(0, |peer| peer.hops);
        if hops >= HOPS_MAX {
            let id = txn.to_string();
            return turn.reply(asked.ticket, Answer::Undecided { id, why: Refusal::Undecided });
        }
        let number = self.calls.next();
        let message = PeerMessage::Forward(Forward {
            reply_to: self.config.address.clone(),
            number,
            attempt: txn.clone(),
            addresses,
            hops: hops + 1,
        });
        let purpose = CallPurpose::Forward { asked, attempt: txn.clone() };
        self.call(turn, number, to, message, purpose);
    }

    /// Another node asks for a commit on behalf of its client.
    pub(super) fn forwarded_here(&mut self, turn: &mut Turn<'_>, asked: Forward) {
        let is_repeated = self
            .peer_tickets
            .values()
            .any(|open| open.reply_to == asked.reply_to && open.number == asked.number);
        if is_repeated {
            return;
        }
        let ticket = Ticket(FIRST_PEER_TICKET | self.calls.next());
        let (txn, addresses) = (asked.attempt.clone(), asked.addresses.clone());
        self.peer_tickets.insert(ticket, asked);
        let asked = Asked { ticket, at: turn.now.elapsed };
        self.commit(turn, asked, &txn, addresses);
    }

    /// Sends answers to commits that other nodes asked for back to them.
    pub(super) fn answer_peers(&mut self, turn: &mut Turn<'_>) {
        if self.peer_tickets.is_empty() {
            return;
        }
        for effect in turn.effects.iter_mut() {
            let Effect::Reply { ticket, answer } = effect else { continue };
            let Some(asked) = self.peer_tickets.remove(ticket) else { continue };
            let token = match answer {
                Answer::Decided { token, .. } => token.take(),
                _ => None,
            };
            let (committed, why) = match answer {
                Answer::Decided { committed, why, .. } => (Some(*committed), why.as_ref()),
                Answer::Undecided { why, .. } | Answer::Refused(why) => (None, Some(&*why)),
                _ => (None, None),
            };
            let why = why.map(ToString::to_string);
            let answer = Forwarded { number: asked.number, committed, why, token };
            let message = PeerMessage::Forwarded(answer);
            *effect = Effect::Send { to: asked.reply_to, message };
        }
    }

    /// The answer of the node that was asked.
    pub(super) fn forwarded(&mut self, turn: &mut Turn<'_>, answer: Forwarded) {
        let is_it = |purpose: &CallPurpose| matches!(purpose, CallPurpose::Forward { .. });
        if !self.calls.get(answer.number).is_some_and(|call| is_it(&call.purpose)) {
            return;
        }
        let Some(call) = self.end_call(answer.number) else { return };
        let CallPurpose::Forward { asked, attempt } = call.purpose else { return };
        let id = attempt.to_string();
        // It is over here, too; that it was told may have been lost on the way.
        let from = call.to.clone();
        match answer.committed {
            // The commit itself is not known here yet: who asks again is told by the store.
            Some(true) => self.leave(turn, &attempt),
            Some(false) => self.over(turn, Over { from, attempt: attempt.clone(), end: None }),
            None => {}
        }
        let why = answer.why.map(|why| Refusal::Elsewhere(call.to, why));
        let answer = match answer.committed {
            Some(committed) => Answer::Decided { id, committed, why, token: answer.token },
            None => Answer::Undecided { id, why: Refusal::Undecided },
        };
        turn.reply(asked.ticket, answer);
    }
}
