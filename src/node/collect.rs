//! Before the commit of a transaction that ran on several nodes: one of them, where the commit was asked
//! for, gathers everything that it wrote.
//!
//! Every other node is asked for the values that it holds. It hands them out if it has taken no write
//! that the asker does not know of, and takes none from then on. Then the asker has the whole
//! transaction, and commits it as if it had run here alone: versions, record and outcome are one step of
//! the store. So nobody is ever in doubt but the asker, no value is stored that is not committed, and a
//! node that handed out its values may die.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::attempts::{Phase, Waiter};
use super::calls::{CallPurpose, Continuation};
use super::ops::Purpose;
use super::peer::{Address, Collect, Collected, Origin, PeerMessage, Visit};
use super::{Ask, Effect, Node, Refusal, Turn};
use crate::txn::{AttemptId, Key};

/// A commit that gathers what the attempt did elsewhere.
#[derive(Debug, Default)]
pub(super) struct Prepare {
    /// Requests that are answered with the outcome.
    pub(super) waiters: Vec<Waiter>,
    /// Nodes whose branches the client wants merged.
    named: BTreeSet<Address>,
    /// Those of them that were merged because more had happened there than was known.
    merged_again: BTreeSet<Address>,
    /// Those that are to be asked for what they know.
    to_merge: BTreeSet<Address>,
    /// Those that were asked and have not answered.
    merging: BTreeSet<Address>,
    /// Nodes that have not handed out what they hold, with the question that counts: one asked before
    /// another branch was merged may have asked for too much.
    collecting: BTreeMap<Origin, u64>,
    has_collected: bool,
    pub(super) values: BTreeMap<Key, Bytes>,
}

impl Node {
    /// Fixes that the attempt is to be committed here. `named` are nodes whose branches are part of it.
    pub(super) fn prepare(&mut self, txn: &AttemptId, named: Vec<Address>) {
        let Some(attempt) = self.attempts.get_mut(txn) else { return };
        let named: BTreeSet<_> = named.into_iter().collect();
        let visited: BTreeSet<_> =
            attempt.travel.visited.keys().map(|origin| origin.node.clone()).collect();
        // Whether anything new happened where it came from is seen when that is collected.
        let to_merge = named.difference(&visited).cloned().collect();
        let prepare = Prepare { to_merge, named, ..Prepare::default() };
        let phase = Phase::Preparing(Box::new(prepare));
        if let Phase::Running { timer } = std::mem::replace(&mut attempt.phase, phase) {
            self.timers.cancel(timer);
        }
    }

    /// Does what comes next once all nodes have answered that were asked.
    pub(super) fn prepare_on(&mut self, turn: &mut Turn<'_>, txn: &AttemptId) {
        let Some(attempt) = self.attempts.get_mut(txn) else { return };
        let Phase::Preparing(prepare) = &mut attempt.phase else { return };
        let ask = std::mem::take(&mut prepare.to_merge);
        if !ask.is_empty() {
            prepare.merging.extend(ask.iter().cloned());
            for node in ask {
                self.ask_for(turn, txn, node.clone(), Continuation::Merged(node), 0);
            }
            return;
        }
        if !prepare.merging.is_empty() || !prepare.collecting.is_empty() {
            return;
        }
        if prepare.has_collected {
            return self.send_commit(turn, txn);
        }
        prepare.has_collected = true;
        prepare.values.clear();
        let mut held: BTreeMap<&Origin, Vec<Key>> = BTreeMap::new();
        for (key, holder) in &attempt.travel.held {
            held.entry(&holder.origin).or_default().push(key.clone());
        }
        let asked = attempt.travel.visited.iter().map(|(origin, visited)| {
            let visit = Visit { origin: origin.clone(), steps: visited.steps, puts: visited.puts };
            let is_named = prepare.named.contains(&origin.node);
            (visit, held.remove(origin).unwrap_or_default(), is_named)
        });
        let asked: Vec<_> = asked.collect();
        if asked.is_empty() {
            return self.send_commit(turn, txn);
        }
        for (visit, keys, is_named) in asked {
            let origin = visit.origin.clone();
            let number = self.ask_to_hand_out(turn, txn, visit, keys, is_named);
            if let Some(prepare) = self.preparing(txn) {
                prepare.collecting.insert(origin, number);
            }
        }
    }

    /// A branch that the client named has been merged.
    pub(super) fn merged_for_commit(
        &mut self,
        turn: &mut Turn<'_>,
        txn: &AttemptId,
        node: &Address,
    ) {
        let Some(prepare) = self.preparing(txn) else { return };
        prepare.merging.remove(node);
        self.prepare_on(turn, txn);
    }

    fn preparing(&mut self, txn: &AttemptId) -> Option<&mut Prepare> {
        match &mut self.attempts.get_mut(txn)?.phase {
            Phase::Preparing(prepare) => Some(prepare),
            _ => None,
        }
    }

    fn ask_to_hand_out(
        &mut self,
        turn: &mut Turn<'_>,
        txn: &AttemptId,
        visit: Visit,
        keys: Vec<Key>,
        is_named: bool,
    ) -> u64 {
        let number = self.calls.next();
        let from = visit.origin.clone();
        let message = PeerMessage::Collect(Collect {
            reply_to: self.config.address.clone(),
            coordinator: self.config.origin(),
            number,
            attempt: txn.clone(),
            visit,
            keys: keys.clone(),
            is_named,
        });
        let purpose = CallPurpose::Collect { attempt: txn.clone(), from: from.clone(), keys };
        self.call(turn, number, from.node, message, purpose);
        number
    }

    /// Another node is about to commit an attempt that ran here, too.
    pub(super) fn collect(&mut self, turn: &mut Turn<'_>, asked: Collect) {
        let values = self.hand_out(turn, &asked).map_err(|why| why.to_string());
        let message = PeerMessage::Collected(Collected { number: asked.number, values });
        turn.effects.push(Effect::Send { to: asked.reply_to, message });
    }

    fn hand_out(&mut self, turn: &mut Turn<'_>, asked: &Collect) -> Result<Vec<Bytes>, Refusal> {
        let txn = &asked.attempt;
        if asked.visit.origin.incarnation != self.config.incarnation {
            // Nothing was lost with that life, as far as anybody knows, unless the client says that there
            // is a branch to be merged.
            let is_empty = asked.keys.is_empty() && asked.visit.puts == 0 && !asked.is_named;
            let lost = Refusal::Restarted(self.config.address.clone());
            return if is_empty { Ok(Vec::new()) } else { Err(lost) };
        }
        let why_gone = self.why_gone(txn);
        let attempt = self.attempts.get_mut(txn).ok_or(why_gone)?;
        let timer = match &attempt.phase {
            Phase::Running { timer } => *timer,
            Phase::HandedOut { coordinator, timer } if *coordinator == asked.coordinator => *timer,
            _ => return Err(Refusal::Committing),
        };
        let handed = attempt.travel.handed_to.get(&asked.coordinator.node);
        if handed.is_some_and(|handed| handed.to.incarnation != asked.coordinator.incarnation) {
            // What the attempt did there in that life is gone, and the asker cannot know of it.
            return Err(Refusal::Restarted(asked.coordinator.node.clone()));
        }
        let travel = &attempt.travel;
        let is_stale = asked.is_named && travel.steps != asked.visit.steps;
        if is_stale || travel.puts != asked.visit.puts {
            return Err(Refusal::LatePut(self.config.address.clone()));
        }
        let mut values = Vec::with_capacity(asked.keys.len());
        for key in &asked.keys {
            let lost = || Refusal::LostWrite(key.clone(), self.config.address.clone());
            values.push(attempt.writes.get(key).cloned().ok_or_else(lost)?);
        }
        attempt.touched = turn.now.elapsed;
        let coordinator = asked.coordinator.clone();
        attempt.phase = Phase::HandedOut { coordinator, timer };
        Ok(values)
    }

    /// A node has answered.
    pub(super) fn collected(&mut self, turn: &mut Turn<'_>, answer: Collected) {
        let is_it = |purpose: &CallPurpose| matches!(purpose, CallPurpose::Collect { .. });
        if !self.calls.get(answer.number).is_some_and(|call| is_it(&call.purpose)) {
            return;
        }
        let Some(call) = self.end_call(answer.number) else { return };
        let CallPurpose::Collect { attempt: txn, from, keys } = call.purpose else { return };
        let Some(prepare) = self.preparing(&txn) else { return };
        if prepare.collecting.get(&from) != Some(&answer.number) {
            return;
        }
        match answer.values {
            Ok(values) if values.len() == keys.len() => {
                prepare.collecting.remove(&from);
                let bytes = values.iter().map(Bytes::len).sum();
                prepare.values.extend(keys.into_iter().zip(values));
                self.attempts.hold(&txn, bytes);
                self.prepare_on(turn, &txn);
            }
            // What happened there since is to be merged, says the client.
            Err(_)
                if prepare.named.contains(&from.node)
                    && prepare.merged_again.insert(from.node.clone()) =>
            {
                prepare.has_collected = false;
                prepare.collecting.clear();
                prepare.to_merge.insert(from.node);
                self.prepare_on(turn, &txn);
            }
            Ok(_) => self.give_up_attempt(turn, &txn, Refusal::Silent(from.node)),
            Err(why) => {
                self.give_up_attempt(turn, &txn, Refusal::Elsewhere(from.node, why));
            }
        }
    }

    /// A node did not answer. If nothing that it holds is needed, the commit goes on without it.
    pub(super) fn not_collected(
        &mut self,
        turn: &mut Turn<'_>,
        number: u64,
        txn: &AttemptId,
        from: &Origin,
        keys: &[Key],
    ) {
        let Some(prepare) = self.preparing(txn) else { return };
        if prepare.collecting.get(from) != Some(&number) {
            return;
        }
        prepare.collecting.remove(from);
        if keys.is_empty() && !prepare.named.contains(&from.node) {
            return self.prepare_on(turn, txn);
        }
        self.give_up_attempt(turn, txn, Refusal::Silent(from.node.clone()));
    }

    /// An attempt that other nodes know of will not be committed by this one. Whether it takes effect
    /// all the same is for the store to say: that, and not our opinion, is told to who asks.
    pub(super) fn give_up_attempt(&mut self, turn: &mut Turn<'_>, txn: &AttemptId, why: Refusal) {
        let Some(attempt) = self.attempts.get_mut(txn) else { return };
        let waiters = match &mut attempt.phase {
            Phase::Preparing(prepare) => std::mem::take(&mut prepare.waiters),
            Phase::Running { timer } | Phase::HandedOut { timer, .. } => {
                self.timers.cancel(*timer);
                Vec::new()
            }
            Phase::Committing { .. } => return,
        };
        attempt.phase = Phase::Committing { waiters };
        self.attempts.take_writes(txn);
        let purpose = Purpose::GiveUp { attempt: txn.clone(), why };
        self.ask(turn, Ask::SettleAborted(txn.base()), purpose, None);
    }
}
