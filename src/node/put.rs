//! Put: into the attempt's own buffer, seen by nobody else before the commit.

use bytes::Bytes;

use super::effect::{Answer, Effect};
use super::event::Ticket;
use super::{Node, Refusal, Turn};
use crate::txn::{AttemptId, Key};

/// The most keys that one transaction may write: a commit is one step, and others wait for it.
const TXN_KEYS_MAX: usize = 65_536;

impl Node {
    pub(super) fn put(
        &mut self,
        turn: &mut Turn<'_>,
        ticket: Ticket,
        txn: &AttemptId,
        writes: Vec<(Key, Bytes)>,
    ) {
        let answer = match self.use_attempt(turn, txn) {
            Ok(()) => {
                if let Some(attempt) = self.attempts.get_mut(txn) {
                    attempt.travel.steps += 1;
                    attempt.travel.puts += 1;
                    if attempt.writes.is_empty() {
                        turn.effects.push(Effect::Expect(txn.base()));
                    }
                }
                Answer::Written(self.buffer(txn, writes))
            }
            Err(why) => Answer::Refused(why),
        };
        turn.reply(ticket, answer);
    }

    /// Buffers writes one by one; those that exceed a limit are refused, the others stand.
    pub(super) fn buffer(
        &mut self,
        txn: &AttemptId,
        writes: Vec<(Key, Bytes)>,
    ) -> Vec<Result<(), Refusal>> {
        let mut results = Vec::with_capacity(writes.len());
        for (key, value) in writes {
            let result = self.has_room(txn, &key, &value);
            if result.is_ok() {
                self.attempts.write(txn, |buffer| buffer.put(key.clone(), value));
                if let Some(attempt) = self.attempts.get_mut(txn) {
                    attempt.travel.wrote(&key);
                }
            }
            results.push(result);
        }
        results
    }

    fn has_room(&self, txn: &AttemptId, key: &Key, value: &Bytes) -> Result<(), Refusal> {
        let limits = &self.config;
        if value.len() > limits.value_bytes_max {
            let max = limits.value_bytes_max;
            return Err(Refusal::ValueTooLarge { bytes: value.len(), max });
        }
        let Some(attempt) = self.attempts.get(txn) else {
            return Err(Refusal::Unknown);
        };
        if attempt.writes.key_count() >= TXN_KEYS_MAX && attempt.writes.get(key).is_none() {
            return Err(Refusal::TooManyKeys { max: TXN_KEYS_MAX });
        }
        let bytes = attempt.writes.bytes_after(key, value);
        if bytes > limits.txn_bytes_max {
            return Err(Refusal::TransactionTooLarge { bytes, max: limits.txn_bytes_max });
        }
        let others = self.attempts.buffered_bytes() - attempt.writes.bytes();
        if others + bytes > limits.buffer_bytes_max {
            return Err(Refusal::BuffersFull { max: limits.buffer_bytes_max });
        }
        Ok(())
    }
}
