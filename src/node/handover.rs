//! Continue: a transaction that ran on another node goes on here.
//!
//! The node asks the other one for the transaction's [`View`]: what it read, with the write sets of
//! those commits, what it found missing, what it wrote and where the values are. Values stay where they
//! are until they are read or committed. If the transaction runs here already, the two are branches that
//! come together (fan-in), or it has come back to where it was.

use std::time::Duration;

use super::attempts::{FirstSay, Phase};
use super::calls::{CallPurpose, Continuation};
use super::effect::Answer;
use super::event::Ticket;
use super::peer::{Address, HandOver, HandedOver, Holder, PeerMessage, View, Visit};
use super::travel::{Handed, Order};
use super::{Effect, Node, Refusal, Turn};
use crate::txn::{AttemptId, Pinned, ReadSet};

/// Clocks that should go at one rate differ by less than this part of it.
const RATES_DIFFER: u32 = 512;

/// An answer that took long leaves open how old a transaction is. So often it is asked for again.
const TRIES_MAX: u32 = 4;
/// The first answer may have taken so long for that, the second half of it, and so on: whoever waits is
/// answered in time.
const ASKED_AGAIN_WITHIN: Duration = Duration::from_millis(900);

/// A transaction is handed to at most so many nodes by one.
const NODES_MAX: usize = 1024;

impl Node {
    pub(super) fn continue_from(
        &mut self,
        turn: &mut Turn<'_>,
        ticket: Ticket,
        txn: &AttemptId,
        upstream: Address,
    ) {
        let refusal = if upstream == self.config.address || self.attempts.get(txn).is_some() {
            self.use_attempt(turn, txn).err()
        } else if self.ended.is_over(txn) {
            Some(self.why_gone(txn))
        } else {
            None
        };
        match refusal {
            Some(why) => turn.reply(ticket, Answer::Refused(why)),
            None if upstream == self.config.address => turn.reply(ticket, Answer::Continued),
            None if !self.config.has_peers => {
                turn.reply(ticket, Answer::Refused(Refusal::NoSuchPeer(upstream)));
            }
            None => self.ask_for(turn, txn, upstream, Continuation::Reply(ticket), 0),
        }
    }

    /// Asks a node for its view of an attempt. Each time anew: what was answered to an earlier question
    /// may be older than what is asked for now.
    pub(super) fn ask_for(
        &mut self,
        turn: &mut Turn<'_>,
        txn: &AttemptId,
        upstream: Address,
        then: Continuation,
        tries: u32,
    ) {
        let number = self.calls.next();
        let message = PeerMessage::HandOver(HandOver {
            reply_to: self.config.address.clone(),
            asker: Some(self.config.origin()),
            number,
            attempt: txn.clone(),
        });
        let purpose = CallPurpose::HandOver { attempt: txn.clone(), then, tries };
        self.call(turn, number, upstream, message, purpose);
    }

    /// Another node goes on with an attempt.
    pub(super) fn hand_over(&mut self, turn: &mut Turn<'_>, asked: HandOver) {
        let view = self.view_for(turn, &asked);
        let HandOver { number, attempt, reply_to, .. } = asked;
        let from = self.config.origin();
        let message = PeerMessage::HandedOver(HandedOver { from, number, attempt, view });
        turn.effects.push(Effect::Send { to: reply_to, message });
    }

    fn view_for(&mut self, turn: &mut Turn<'_>, asked: &HandOver) -> Result<View, String> {
        let txn = &asked.attempt;
        self.use_attempt(turn, txn).map_err(|why| why.to_string())?;
        let me = self.config.origin();
        let attempt = self.attempts.get_mut(txn).ok_or_else(|| Refusal::Unknown.to_string())?;
        let mut first_say = false;
        if let Some(asker) = &asked.asker {
            let travel = &mut attempt.travel;
            if travel.handed_to.len() >= NODES_MAX {
                return Err(format!("it has been on {NODES_MAX} nodes, no more are allowed"));
            }
            let handed = Handed { to: asker.clone(), number: asked.number };
            let before = travel.handed_to.insert(asker.node.clone(), handed);
            if before.as_ref().is_some_and(|b| b.to.incarnation != asker.incarnation) {
                // What the attempt did there since is gone.
                let why = Refusal::Restarted(asker.node.clone());
                self.end_aborted(turn, txn, why.clone());
                return Err(why.to_string());
            }
            // The same question may come again after the attempt has come back.
            if before.is_none_or(|before| before.number < asked.number) {
                travel.ahead.retain(|node| *node != asker.node);
                travel.ahead.push(asker.node.clone());
            }
            first_say = attempt.first_say.give(asker, asked.number);
        }
        let travel = &attempt.travel;
        let own = attempt.writes.keys().filter(|key| !travel.held.contains_key(*key));
        let held_here = |key: &crate::txn::Key| Holder {
            depth: travel.depths.get(key).copied().unwrap_or(0),
            origin: me.clone(),
        };
        let own = own.map(|key| (key.clone(), held_here(key)));
        let held = travel.held.iter().map(|(key, holder)| (key.clone(), holder.clone()));
        let visit_here = Visit { origin: me.clone(), steps: travel.steps, puts: travel.puts };
        let elsewhere = travel.visited.iter().map(|(origin, visited)| Visit {
            origin: origin.clone(),
            steps: visited.steps,
            puts: visited.puts,
        });
        let pins = attempt.reads.pins().into_iter();
        Ok(View {
            reads: pins.map(|(key, pinned)| (key.clone(), pinned.clone())).collect(),
            missing: attempt.reads.missing().into_iter().cloned().collect(),
            writes: held.chain(own).collect(),
            visited: std::iter::once(visit_here).chain(elsewhere).collect(),
            depth: travel.depth,
            first_say,
            age: turn.now.elapsed.saturating_sub(attempt.begun),
        })
    }

    /// A node has answered.
    pub(super) fn handed_over(&mut self, turn: &mut Turn<'_>, answer: HandedOver) {
        let HandedOver { from, number, attempt, view } = answer;
        let Some(number) = self.calls.hand_over(number, &attempt, &from.node) else { return };
        let Some(call) = self.end_call(number) else { return };
        let CallPurpose::HandOver { then, tries, .. } = call.purpose else { return };
        let taken = match view {
            Ok(mut view) => {
                let took = turn.now.elapsed.saturating_sub(call.since);
                view.age = oldest(view.age + took);
                let is_soon = tries < TRIES_MAX && took * (tries + 1) < ASKED_AGAIN_WITHIN;
                if is_soon && self.may_be_too_old(turn, &attempt, &view) {
                    return self.ask_for(turn, &attempt, from.node, then, tries + 1);
                }
                let is_merge = matches!(then, Continuation::Merged(_));
                self.take_over(turn, &attempt, &from.node, view, is_merge)
            }
            Err(why) => Err(Refusal::Elsewhere(from.node, why)),
        };
        match taken {
            Ok(()) => self.go_on(turn, &attempt, then),
            Err(why) => self.not_handed_over(turn, &attempt, why, then),
        }
    }

    /// Goes on with an attempt as `view` has it.
    fn take_over(
        &mut self,
        turn: &mut Turn<'_>,
        txn: &AttemptId,
        from: &Address,
        view: View,
        is_merge: bool,
    ) -> Result<(), Refusal> {
        if self.ended.is_over(txn) {
            return Err(self.why_gone(txn));
        }
        let me = self.config.origin();
        let from_the_future = |commit| self.ahead_of_time(turn.now, commit).is_some();
        let commits = view.reads.iter().filter_map(|(_, pinned)| match pinned {
            Pinned::Committed(commit) => Some(commit),
            Pinned::Foreign(_) => None,
        });
        if commits.clone().any(|commit| from_the_future(commit)) {
            return Err(Refusal::FromTheFuture(from.clone()));
        }
        let begun = turn.now.elapsed.checked_sub(view.age);
        if self.attempts.get(txn).is_none() {
            self.may_begin()?;
            match begun.filter(|begun| self.has_never_been_here(*begun)) {
                Some(begun) => self.begin(turn, txn.clone(), begun, FirstSay::No),
                // It may have been here, and nobody would know what of it is lost.
                None => return Err(Refusal::Restarted(me.node)),
            }
        }
        let Some(attempt) = self.attempts.get_mut(txn) else { return Ok(()) };
        attempt.begun = begun.unwrap_or_default().min(attempt.begun);
        if !matches!(attempt.phase, Phase::Running { .. } | Phase::Preparing(_)) {
            return Err(Refusal::Committing);
        }
        if let Some(node) = attempt.travel.restarted(&me, &view) {
            return Err(Refusal::Restarted(node));
        }
        if view.first_say {
            attempt.first_say = FirstSay::Here;
        }
        // It has come back from wherever it has been, also from nodes that went on to others.
        let has_been_on = |node: &Address| view.visited.iter().any(|v| v.origin.node == *node);
        attempt.travel.ahead.retain(|node| node != from && !has_been_on(node));
        match attempt.travel.order(&me, &view) {
            Order::Known => return Ok(()),
            // The values are being gathered of what was known when the commit was asked for.
            _ if !is_merge && matches!(attempt.phase, Phase::Preparing(_)) => {
                return Err(Refusal::Committing);
            }
            Order::Newer => {
                let mut reads = ReadSet::new(&self.hasher);
                reads.join(view.reads.clone(), view.missing.clone()).map_err(Refusal::Fractured)?;
                reads.replace(&mut attempt.reads);
            }
            Order::Parallel => {
                let (reads, missing) = (view.reads.clone(), view.missing.clone());
                attempt.reads.join(reads, missing).map_err(Refusal::Fractured)?;
            }
        }
        attempt.travel.add(&me, &view, attempt.writes.keys());
        if attempt.travel.steps > 0 {
            // Whoever went on from here before does not have this.
            attempt.travel.steps += 1;
        }
        Ok(())
    }

    /// Whether an attempt that is not known here may have been, as far as this view tells.
    fn may_be_too_old(&self, turn: &Turn<'_>, txn: &AttemptId, view: &View) -> bool {
        let begun = turn.now.elapsed.checked_sub(view.age);
        self.attempts.get(txn).is_none()
            && !begun.is_some_and(|begun| self.has_never_been_here(begun))
    }

    /// Whether a transaction that is not known here and began at `begun` was never here: not in an earlier
    /// life of this node either, and not so long ago that it is forgotten.
    fn has_never_been_here(&self, begun: Duration) -> bool {
        begun >= self.begun && !self.ended.may_have_forgotten(begun)
    }

    fn go_on(&mut self, turn: &mut Turn<'_>, txn: &AttemptId, then: Continuation) {
        match then {
            Continuation::Reply(ticket) => turn.reply(ticket, Answer::Continued),
            Continuation::Merged(node) => self.merged_for_commit(turn, txn, &node),
        }
    }

    /// The attempt cannot go on here. If it runs here, it is over.
    pub(super) fn not_handed_over(
        &mut self,
        turn: &mut Turn<'_>,
        txn: &AttemptId,
        why: Refusal,
        then: Continuation,
    ) {
        let runs = self.attempts.get(txn).map(|attempt| &attempt.phase);
        match runs {
            Some(Phase::Running { .. }) => self.end_aborted(turn, txn, why.clone()),
            Some(Phase::Preparing(_)) => self.give_up_attempt(turn, txn, why.clone()),
            Some(_) => {}
            None if self.ended.is_over(txn) => {}
            None => self.ended.note_aborted(txn.clone(), why.clone(), true),
        }
        match then {
            Continuation::Reply(ticket) => turn.reply(ticket, Answer::Refused(why)),
            Continuation::Merged(_) => {}
        }
    }
}

/// How long ago something happened at most, of which another clock says so.
fn oldest(age: Duration) -> Duration {
    age.saturating_add(age / RATES_DIFFER)
}
