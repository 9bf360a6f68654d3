//! Sessions over several nodes: a transaction that must see a commit made on another node begins when
//! that commit can be read here.
//!
//! Usually gossip was faster. If it was not, the store is asked for the commit: it is there, since nobody
//! is told of a commit before.

use super::event::Asked;
use super::ops::Purpose;
use super::peer::Token;
use super::{Answer, Ask, Decided, Node, Refusal, Turn};
use crate::txn::{BaseId, Outcome};

/// A start that waits for commits of others.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) asked: Asked,
    pub(super) id: Option<BaseId>,
    /// Those that may not be readable yet; the first one is being looked up.
    pub(super) after: Vec<Token>,
}

impl Node {
    /// Begins when all commits in `after` are readable.
    pub(super) fn start_after(&mut self, turn: &mut Turn<'_>, mut waiting: Waiting) {
        waiting.after.retain(|token| !self.is_readable(token));
        let Some(first) = waiting.after.first() else {
            return self.start(turn, waiting.asked, waiting.id);
        };
        let ask = Ask::Outcome(first.attempt.base());
        let spent = turn.now.elapsed.saturating_sub(waiting.asked.at);
        let within = Some(self.config.request_within.saturating_sub(spent));
        self.ask(turn, ask, Purpose::Session { waiting }, within);
    }

    /// The store told of the commit that a start waits for.
    pub(super) fn session_found(
        &mut self,
        turn: &mut Turn<'_>,
        mut waiting: Waiting,
        outcome: &Outcome,
    ) {
        let token = waiting.after.remove(0);
        self.note_outcome(turn, &token.attempt.base(), outcome);
        let from_the_future = match outcome {
            Outcome::Committed(commit) => self.ahead_of_time(turn.now, commit).is_some(),
            Outcome::Aborted => false,
        };
        if from_the_future {
            let why = Refusal::NotReadable(token.attempt);
            return turn.reply(waiting.asked.ticket, Answer::Undecided { id: String::new(), why });
        }
        self.start_after(turn, waiting);
    }

    /// Whether this node knows the commit, or for each of its keys a newer one.
    fn is_readable(&self, token: &Token) -> bool {
        // The token may name another attempt of the id than the one that committed.
        let base = token.attempt.base();
        let is_kept_aside =
            self.quarantined.iter().any(|kept| kept.commit.version.writer.base() == base);
        if is_kept_aside {
            return false;
        }
        // An attempt of the id that ended here without writes says nothing of another one.
        if let Some(Decided::Committed(Some(_))) = self.ended.decided(&base) {
            return true;
        }
        let Some((origin, number)) = &token.place else { return false };
        // Gossip leaves out what was overwritten, and what overwrote it may be kept aside.
        if self.quarantined.iter().any(|kept| kept.commit.replica == origin.node) {
            return false;
        }
        *origin == self.config.origin() || self.gossip.has_heard(origin, *number)
    }
}
