//! Merge: values of other lattices than last-writer-wins go through to the store, which merges them.
//!
//! Such values grow by themselves whatever the order in which they arrive, so they need no transaction
//! and get none: nothing here promises that two of them become visible together.

use bytes::Bytes;

use super::effect::Answer;
use super::event::Ticket;
use super::ops::Purpose;
use super::{Ask, Node, Refusal, StorageError, Turn};
use crate::storage::LatticeType;
use crate::txn::Key;

impl Node {
    pub(super) fn merge(
        &mut self,
        turn: &mut Turn<'_>,
        ticket: Ticket,
        values: Vec<(Key, LatticeType, Bytes)>,
    ) {
        let within = Some(self.config.request_within);
        self.ask(turn, Ask::Merge(values), Purpose::Merge { ticket }, within);
    }

    pub(super) fn merged(
        &mut self,
        turn: &mut Turn<'_>,
        ticket: Ticket,
        asked: &[(Key, LatticeType, Bytes)],
        results: Vec<Result<(), StorageError>>,
    ) {
        asked.iter().for_each(|(key, ..)| self.absent.forget(key));
        let results = results.into_iter().map(|result| result.map_err(Refusal::Storage));
        turn.reply(ticket, Answer::Written(results.collect()));
    }
}
