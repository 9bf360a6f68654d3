//! Reading what the transaction itself wrote on another node: its holder is asked, and nobody else can
//! know. If the holder cannot tell, the transaction cannot go on, since any other value would be wrong.

use bytes::Bytes;

use super::calls::CallPurpose;
use super::effect::Answer;
use super::get::Get;
use super::peer::{Address, Origin, PeerMessage, Queried, Query};
use super::{Effect, Node, Refusal, Turn};
use crate::txn::{AttemptId, Key};

/// A get that waits for values of other nodes.
#[derive(Debug)]
pub(super) struct Asking {
    get: Get,
    /// Answers that are missing.
    open: usize,
}

impl Node {
    /// Asks for values that the attempt wrote elsewhere, and goes on with the get when all are here.
    pub(super) fn ask_holders(
        &mut self,
        turn: &mut Turn<'_>,
        txn: &AttemptId,
        get: Get,
        wanted: Vec<(Key, Origin)>,
    ) {
        let id = self.calls.next();
        self.asking.insert(id, Asking { get, open: wanted.len() });
        for (key, holder) in wanted {
            let number = self.calls.next();
            let attempt = self.attempts.get(txn);
            let visited = attempt.and_then(|attempt| attempt.travel.visited.get(&holder));
            let message = PeerMessage::Query(Query {
                reply_to: self.config.address.clone(),
                number,
                incarnation: holder.incarnation,
                puts: visited.map_or(0, |visited| visited.puts),
                attempt: txn.clone(),
                key: key.clone(),
            });
            let purpose = CallPurpose::Query { get: id, key };
            self.call(turn, number, holder.node, message, purpose);
        }
    }

    /// Another node reads what the attempt wrote here.
    pub(super) fn query(&mut self, turn: &mut Turn<'_>, asked: Query) {
        let is_meant = asked.incarnation.is_empty() || asked.incarnation == self.config.incarnation;
        let attempt = self.attempts.get_mut(&asked.attempt).filter(|_| is_meant);
        let (mut value, mut pointer) = (None, None);
        if let Some(attempt) = attempt {
            attempt.touched = turn.now.elapsed;
            pointer = attempt.travel.holder(&asked.key).map(|holder| holder.node.clone());
            // What was written since the asker came through is not its to see.
            let is_newer = !asked.incarnation.is_empty()
                && attempt.travel.written.get(&asked.key).is_some_and(|at| *at > asked.puts);
            let is_here = pointer.is_none() && !is_newer;
            value = attempt.writes.get(&asked.key).filter(|_| is_here).cloned();
        }
        let Query { reply_to, number, attempt, key, .. } = asked;
        self.tell_value(turn, reply_to, Queried { number, key, attempt, value, pointer });
    }

    fn tell_value(&self, turn: &mut Turn<'_>, to: Address, answer: Queried) {
        turn.effects.push(Effect::Send { to, message: PeerMessage::Queried(answer) });
    }

    /// A holder has answered.
    pub(super) fn queried(&mut self, turn: &mut Turn<'_>, answer: Queried) {
        let Some(CallPurpose::Query { get, key }) =
            self.calls.get(answer.number).map(|call| &call.purpose)
        else {
            return;
        };
        let asking = self.asking.get(get).and_then(|asking| asking.get.txn.as_ref());
        if *key != answer.key || asking.is_some_and(|txn| *txn != answer.attempt) {
            return;
        }
        let Some(call) = self.end_call(answer.number) else { return };
        let CallPurpose::Query { get, key } = call.purpose else { return };
        match answer.value {
            Some(value) => self.value_told(turn, get, key, value),
            None => self.query_failed(turn, get, Refusal::LostWrite(key, call.to)),
        }
    }

    fn value_told(&mut self, turn: &mut Turn<'_>, id: u64, key: Key, value: Bytes) {
        let Some(asking) = self.asking.get_mut(&id) else { return };
        asking.get.elsewhere.insert(key, value);
        asking.open -= 1;
        if asking.open == 0
            && let Some(asking) = self.asking.remove(&id)
        {
            self.choose(turn, asking.get);
        }
    }

    pub(super) fn query_failed(&mut self, turn: &mut Turn<'_>, id: u64, why: Refusal) {
        let Some(Asking { get, .. }) = self.asking.remove(&id) else { return };
        if let Some(txn) = &get.txn {
            self.end_aborted(turn, txn, why.clone());
        }
        turn.reply(get.ticket, Answer::Refused(why));
    }
}
