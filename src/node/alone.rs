//! Requests that name no transaction: each is one of its own. A get reads one snapshot (see
//! [`super::get`]), a put has committed when it is answered.

use bytes::Bytes;

use super::attempts::{FirstSay, Wants};
use super::effect::Answer;
use super::event::{Asked, Ticket};
use super::{Node, Refusal, Turn};
use crate::txn::Key;

impl Node {
    pub(super) fn put_alone(
        &mut self,
        turn: &mut Turn<'_>,
        ticket: Ticket,
        writes: Vec<(Key, Bytes)>,
    ) {
        if writes.is_empty() {
            return turn.reply(ticket, Answer::Written(Vec::new()));
        }
        if let Err(why) = self.may_begin() {
            return turn.reply(ticket, Answer::Refused(why));
        }
        let id = self.ids.base(turn.now.wall_ns);
        self.begin(turn, id.clone(), turn.now.elapsed, FirstSay::Here);
        let results = self.buffer(&id, writes);
        // Half of a request must not take effect: it is all of its writes or none.
        if let Some(why) = results.iter().find_map(|result| result.as_ref().err()).cloned() {
            self.end_aborted(turn, &id, why);
            let results = results.into_iter().map(|result| result.and(Err(Refusal::Sibling)));
            return turn.reply(ticket, Answer::Written(results.collect()));
        }
        self.send_commit(turn, &id);
        let asked = Asked { ticket, at: turn.now.elapsed };
        self.wait_for(turn, &id, asked, Wants::Put(results));
    }
}
