//! Continue: a transaction that ran on another node goes on here. This node knows no peers, so the
//! only upstream that it can go on from is itself.

use super::effect::Answer;
use super::event::Ticket;
use super::{Address, Node, Refusal, Turn};
use crate::txn::AttemptId;

impl Node {
    pub(super) fn continue_from(
        &mut self,
        turn: &mut Turn<'_>,
        ticket: Ticket,
        txn: &AttemptId,
        upstream: Address,
    ) {
        let answer = if upstream != self.config.address {
            Answer::Refused(Refusal::NoSuchPeer(upstream))
        } else {
            match self.use_attempt(turn, txn) {
                Ok(()) => Answer::Continued,
                Err(why) => Answer::Refused(why),
            }
        };
        turn.reply(ticket, answer);
    }
}
