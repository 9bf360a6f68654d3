//! Grace periods: how a node finds out that nobody needs what it is about to forget.
//!
//! It asks all other nodes, and each answers when (1) it has looked through the store's log from some
//! moment after the question, so that it knows every commit that the asker knew, or newer ones, and (2) all
//! transactions have ended that ran there at that time. Whoever begins a transaction afterwards chooses
//! among the newer commits. A transaction that goes on from node to node is held by each of them until it
//! ends, so the one where it began answers for it.
//!
//! Nothing that is promised rests on an answer: who finds a version gone aborts and is told to try again.
//! So a node that is silent, or that runs a transaction for longer than transactions may, is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::epochs::Epochs;
use super::peer::{Address, Grace, Graced, Origin, PeerMessage};
use super::{Effect, Node, Turn};
use crate::txn::Timestamp;

/// A node that was silent for so long is not waited for.
const SILENT_MAX: Duration = Duration::from_secs(60);

/// A grace period that this node waits for.
#[derive(Debug)]
pub(super) struct Waiting {
    number: u64,
    /// Own attempts that began up to this epoch must end.
    epoch: u64,
    /// Who has not answered.
    others: BTreeSet<Address>,
    /// Newer commits are not readable everywhere: some clock is far behind.
    pub(super) readable_to: Timestamp,
    until: Duration,
}

/// A question of another node.
#[derive(Debug)]
struct Asked {
    asker: Origin,
    number: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The log was not read since.
    New,
    /// The log is being read, from a moment after the question.
    Reading,
    /// All is known that the asker knew. Attempts that began up to this epoch must end.
    Known(u64),
    Answered,
}

/// The questions that a node has asked and was asked.
#[derive(Debug, Default)]
pub(super) struct Graces {
    last: u64,
    /// By the asker. A later question takes the place of an earlier one.
    asked: BTreeMap<Address, Asked>,
    /// How many of them are not answered.
    open: usize,
}

impl Graces {
    fn count_open(&mut self) {
        self.open = self.asked.values().filter(|asked| asked.state != State::Answered).count();
    }
}

impl Node {
    /// Begins to wait until nobody needs what is superseded now.
    pub(super) fn ask_for_grace(&mut self, turn: &mut Turn<'_>) -> Waiting {
        self.graces.last += 1;
        let waiting = Waiting {
            number: self.graces.last,
            epoch: self.attempts.epochs.turn(),
            others: self.who_may_need(turn),
            readable_to: Timestamp(u64::MAX),
            // Longer than any transaction may run that has begun by now, or begins before all know.
            until: turn.now.elapsed + self.config.lifetime_max * 2 + SILENT_MAX,
        };
        self.ask_again_for_grace(turn, &waiting);
        waiting
    }

    fn who_may_need(&self, turn: &Turn<'_>) -> BTreeSet<Address> {
        self.gossip.members_not_silent(turn.now.elapsed, SILENT_MAX).unwrap_or_default()
    }

    /// Whether it is known whom to ask. If nobody tells for long, there is nobody.
    pub(super) fn knows_whom_to_ask(&self, turn: &Turn<'_>) -> bool {
        let is_told = self.gossip.members_not_silent(turn.now.elapsed, SILENT_MAX).is_some();
        !self.config.has_peers || is_told || turn.now.elapsed >= self.begun + SILENT_MAX
    }

    /// Up to which time commits are readable at all nodes, as far as those have said.
    pub(super) fn readable_everywhere(&self, turn: &Turn<'_>) -> Timestamp {
        match self.knows_whom_to_ask(turn) {
            true => self.gossip.readable_to(turn.now.elapsed, SILENT_MAX),
            false => Timestamp(0),
        }
    }

    /// Questions may be lost.
    pub(super) fn ask_again_for_grace(&self, turn: &mut Turn<'_>, waiting: &Waiting) {
        for to in waiting.others.iter().cloned() {
            let ask = Grace { asker: self.config.origin(), number: waiting.number };
            turn.effects.push(Effect::Send { to, message: PeerMessage::Grace(ask) });
        }
    }

    /// Whether nobody needs any more what was superseded when the grace period began.
    pub(super) fn is_granted(&self, turn: &Turn<'_>, waiting: &mut Waiting) -> bool {
        if !waiting.others.is_empty() {
            let others = self.who_may_need(turn);
            waiting.others.retain(|other| others.contains(other));
        }
        let own = self.attempts.epochs.is_over(waiting.epoch);
        (own && waiting.others.is_empty()) || turn.now.elapsed >= waiting.until
    }

    /// Another node wants to know when nobody needs any more what it has superseded.
    pub(super) fn grace_asked(&mut self, turn: &mut Turn<'_>, ask: Grace) {
        let known = self.graces.asked.get(&ask.asker.node);
        let is_new = known.is_none_or(|k| k.asker != ask.asker || k.number < ask.number);
        if is_new {
            let Grace { asker, number } = ask;
            let entry = Asked { number, state: State::New, asker: asker.clone() };
            self.graces.asked.insert(asker.node, entry);
            self.graces.count_open();
        } else if known.is_some_and(|k| k.number == ask.number && k.state == State::Answered) {
            self.grant(turn, &ask.asker, ask.number);
        }
    }

    /// The driver begins to look through the store's log.
    pub(super) fn log_is_being_read(&mut self, turn: &Turn<'_>) {
        self.log_reading = Some(turn.now.elapsed);
        let asked = self.graces.asked.values_mut();
        asked.filter(|asked| asked.state == State::New).for_each(|a| a.state = State::Reading);
    }

    /// The driver has come to the end of the log, and has handed in all that it found.
    pub(super) fn log_was_read(&mut self) {
        self.log_read = self.log_reading.take().or(self.log_read);
        if self.graces.open == 0 {
            return;
        }
        let epoch = self.attempts.epochs.turn();
        let asked = self.graces.asked.values_mut();
        let read = asked.filter(|asked| asked.state == State::Reading);
        read.for_each(|asked| asked.state = State::Known(epoch));
    }

    /// Answers those whose time has come.
    pub(super) fn answer_graces(&mut self, turn: &mut Turn<'_>) {
        if self.graces.open == 0 {
            return;
        }
        let epochs: &Epochs = &self.attempts.epochs;
        let mut due = Vec::new();
        for asked in self.graces.asked.values_mut() {
            if let State::Known(epoch) = asked.state
                && epochs.is_over(epoch)
            {
                asked.state = State::Answered;
                due.push((asked.asker.clone(), asked.number));
            }
        }
        for (asker, number) in due {
            self.grant(turn, &asker, number);
            self.graces.count_open();
        }
    }

    fn grant(&self, turn: &mut Turn<'_>, asker: &Origin, number: u64) {
        let readable_to =
            if self.quarantined.is_empty() { u64::MAX } else { self.believes_to(turn.now) };
        let message = PeerMessage::Graced(Graced {
            node: self.config.address.clone(),
            incarnation: asker.incarnation.clone(),
            number,
            readable_to: Timestamp(readable_to),
        });
        turn.effects.push(Effect::Send { to: asker.node.clone(), message });
    }

    /// Another node has nobody any more who needs what was superseded.
    pub(super) fn graced(&mut self, answer: &Graced) {
        if answer.incarnation != self.config.incarnation {
            return;
        }
        if let Some(waiting) = self.garbage.waiting()
            && waiting.number == answer.number
        {
            waiting.others.remove(&answer.node);
            waiting.readable_to = waiting.readable_to.min(answer.readable_to);
        }
    }

    /// Forgets the questions of nodes that are gone.
    pub(super) fn forget_graces(&mut self, members: &[Address]) {
        let members: BTreeSet<&Arc<str>> = members.iter().collect();
        self.graces.asked.retain(|asker, _| members.contains(asker));
        self.graces.count_open();
    }
}
