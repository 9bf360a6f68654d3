//! Messages to storage threads, and their answers.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use super::addresses::Addr;
use super::answer::{self, Verdict};
use super::batch::{self, Item, Kind};
use super::op::Ask;
use super::{Core, Effect, OpId, Request, Tuple};
use crate::wire::anna::{AnnaError, KeyResponse, KeyTuple};

impl Core {
    /// None if the operation has ended or begun again in the meantime.
    pub(super) fn item(&self, id: OpId, round: u32) -> Option<Item> {
        let op = self.ops.get(&id).filter(|op| op.round == round)?;
        let value = match &op.ask {
            Ask::Get { .. } => None,
            Ask::Put { kind, payload, .. } => Some((*kind, payload.clone())),
        };
        let (key, addresses, alone) = (op.key.clone(), op.named.len(), op.silences > 0);
        Some(Item { op: id, round, key, addresses, value, alone })
    }

    pub(super) fn send(
        &mut self,
        now: Duration,
        to: &Addr,
        kind: Kind,
        batch: &[Item],
        effects: &mut Vec<Effect>,
    ) {
        let number = self.next_number();
        let id = format!("{}:{number}", self.prefix);
        let message = batch::encode(kind, batch, &self.reply_to.keys, id);
        let mut until = Duration::MAX;
        for item in batch {
            if let Some(op) = self.ops.get_mut(&item.op) {
                op.requests.push(number);
                until = until.min(op.timer.at());
            }
        }
        let tuple = |item: &Item| Tuple { key: item.key.clone(), op: item.op, round: item.round };
        let tuples = batch.iter().map(tuple).collect();
        self.requests.insert(number, Request { to: to.clone(), at: now, tuples });
        self.counters.requests += 1;
        self.counters.tuples += batch.len() as u64;
        effects.push(Effect::Send { to: to.clone(), message, number, until });
    }

    pub(super) fn departed(&mut self, number: u64) {
        for tuple in self.requests.get(&number).iter().flat_map(|request| &request.tuples) {
            if let Some(op) = self.ops.get_mut(&tuple.op) {
                op.sent = true;
            }
        }
    }

    pub(super) fn key_answer(&mut self, now: Duration, bytes: Bytes, effects: &mut Vec<Effect>) {
        let message_bytes = bytes.len();
        let Ok(answer) = KeyResponse::decode(bytes) else {
            self.counters.malformed += 1;
            return;
        };
        let number = self.number_in(&answer.response_id).map_or(0, |(number, _)| number);
        let Some(request) = self.requests.get(&number) else {
            self.counters.late += 1;
            return;
        };
        let from = request.to.clone();
        self.peers.answered(now, &from);
        if answer.tuples.is_empty() {
            return self.refused(now, number, answer.error, effects);
        }
        for tuple in answer.tuples {
            self.tuple_answer(now, number, &from, tuple, message_bytes, effects);
        }
    }

    /// The server did not look at the keys: all of them begin again.
    pub(super) fn refused(
        &mut self,
        now: Duration,
        number: u64,
        error: i32,
        effects: &mut Vec<Effect>,
    ) {
        if error == i32::from(AnnaError::NoError) {
            self.counters.malformed += 1;
            return;
        }
        let request = self.requests.remove(&number);
        for Tuple { op: id, round, .. } in request.into_iter().flat_map(|request| request.tuples) {
            if let Some(op) = self.ops.get_mut(&id) {
                op.requests.retain(|other| *other != number);
                if op.round == round {
                    self.detour(now, id, effects);
                }
            }
        }
    }

    pub(super) fn tuple_answer(
        &mut self,
        now: Duration,
        number: u64,
        from: &Addr,
        mut tuple: KeyTuple,
        message_bytes: usize,
        effects: &mut Vec<Effect>,
    ) {
        let Some((id, is_current)) = self.take(number, &tuple.key) else {
            self.counters.late += 1;
            return;
        };
        let Some(op) = self.ops.get_mut(&id) else {
            return;
        };
        if tuple.invalidate {
            self.cache.remove(&tuple.key);
        }
        // A slice would keep the whole message in memory.
        if message_bytes > 2 * tuple.payload.len() + 1024 {
            tuple.payload = Bytes::copy_from_slice(&tuple.payload);
        }
        match answer::verdict(&op.ask, tuple) {
            Verdict::Found(value) if op.ask.asks_all() => {
                op.settle(from);
                op.merge(value);
                if op.is_settled() {
                    self.done_with_found(id, effects);
                }
            }
            Verdict::Found(value) => self.done(id, Ok(Some(value)), effects),
            Verdict::Failed(error) => self.done(id, Err(error), effects),
            Verdict::Missing | Verdict::Stored if op.ask.wants_all() => {
                op.settle(from);
                if op.is_settled() {
                    self.done_with_found(id, effects);
                } else if is_current && op.ask.kind() == Kind::Get && !op.ask.asks_all() {
                    let named = op.named.clone();
                    self.ask(now, id, named, effects);
                }
            }
            Verdict::Missing | Verdict::Stored => self.done(id, Ok(None), effects),
            Verdict::Elsewhere { wrong_thread } => {
                self.counters.wrong_threads += u64::from(wrong_thread);
                if is_current {
                    self.detour(now, id, effects);
                }
            }
        }
    }

    /// Strikes a key off a request. Gives the operation, and whether this is its current try.
    pub(super) fn take(&mut self, number: u64, key: &str) -> Option<(OpId, bool)> {
        let request = self.requests.get_mut(&number)?;
        let place = request.tuples.iter().position(|tuple| &*tuple.key == key)?;
        let Tuple { op: id, round, .. } = request.tuples.remove(place);
        if request.tuples.is_empty() {
            self.requests.remove(&number);
        }
        let op = self.ops.get_mut(&id)?;
        op.requests.retain(|other| *other != number);
        Some((id, op.round == round))
    }
}
