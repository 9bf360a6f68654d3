//! The way of an operation: tries, detours, pauses, and its end.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::addresses::{Addr, Addrs};
use super::op::{Ask, Op, Stage};
use super::peers::Silence;
use super::timers::Timer;
use super::{Core, Effect, OpId, PAUSE_MAX, Tuple};
use crate::anna::client::ClientError;
use crate::anna::lattice::Lattice;

/// Detours that are taken at once. After these there are pauses.
const DETOURS_AT_ONCE: u32 = 3;
/// A read of all replicas goes without those that were silent for so many tries, if others had a value.
const SILENCES_BORNE: u32 = 2;
/// The first pause after a detour.
const PAUSE: Duration = Duration::from_millis(10);

impl Core {
    pub(super) fn start(
        &mut self,
        now: Duration,
        id: OpId,
        key: Arc<str>,
        ask: Ask,
        effects: &mut Vec<Effect>,
    ) {
        let deadline = now + self.within;
        let op = Op {
            key,
            ask,
            began: now,
            deadline,
            stage: Stage::Looking,
            timer: self.timers.set(deadline, Timer::Op(id)),
            round: 0,
            silences: 0,
            detours: 0,
            named: Addrs::new(),
            settled: Addrs::new(),
            found: None,
            silent: Addrs::new(),
            requests: SmallVec::new(),
            sent: false,
        };
        self.ops.insert(id, op);
        self.begin(now, id, effects);
    }

    /// Begins a try: asks whom the key's addresses name, or looks these up first.
    pub(super) fn begin(&mut self, now: Duration, id: OpId, effects: &mut Vec<Effect>) {
        let Some(op) = self.ops.get_mut(&id) else {
            return;
        };
        if let Some(addrs) = self.cache.get(&op.key) {
            let addrs = addrs.clone();
            return self.ask(now, id, addrs, effects);
        }
        let (key, deadline) = (op.key.clone(), op.deadline);
        self.enter(id, Stage::Looking, deadline);
        self.look_up(now, key, Some(id), effects);
    }

    /// Asks the replicas that are to be asked.
    pub(super) fn ask(&mut self, now: Duration, id: OpId, named: Addrs, effects: &mut Vec<Effect>) {
        let Some(op) = self.ops.get_mut(&id) else {
            return;
        };
        op.named = named;
        if op.ask.wants_all() && op.is_settled() {
            return self.done_with_found(id, effects);
        }
        let mut targets: Addrs =
            op.named.iter().filter(|addr| !op.settled.contains(addr)).cloned().collect();
        if !op.ask.asks_all() {
            // One of those that seem to be the best.
            let rank = |addr: &Addr| (op.silent.contains(addr), self.peers.is_silent(addr));
            let best = targets.iter().map(rank).min();
            targets.retain(|addr| Some(rank(addr)) == best);
            let one = self.rng.usize(..targets.len().max(1));
            targets = targets.into_iter().skip(one).take(1).collect();
        }
        for to in targets {
            self.ready.entry((to, op.ask.kind())).or_default().push((id, op.round));
        }
        let silences = op.silences;
        let wait = self.patience(silences);
        self.enter(id, Stage::Asked, now + wait);
    }

    /// Ends the try and begins the next one, now or after a pause.
    pub(super) fn again(
        &mut self,
        now: Duration,
        id: OpId,
        pause: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let Some(op) = self.ops.get_mut(&id) else {
            return;
        };
        op.round += 1;
        self.counters.retries += 1;
        self.cache.remove_if(&op.key, &op.named);
        match pause {
            Duration::ZERO => self.begin(now, id, effects),
            pause => self.enter(id, Stage::Pausing, now + pause),
        }
    }

    /// Begins again as an answer says so. Who goes in circles does it ever more slowly.
    pub(super) fn detour(&mut self, now: Duration, id: OpId, effects: &mut Vec<Effect>) {
        let Some(op) = self.ops.get_mut(&id) else {
            return;
        };
        op.detours += 1;
        let pause = match op.detours.checked_sub(DETOURS_AT_ONCE + 1) {
            None => Duration::ZERO,
            Some(times) => self.growing(PAUSE, times, PAUSE_MAX),
        };
        self.again(now, id, pause, effects);
    }

    pub(super) fn enter(&mut self, id: OpId, stage: Stage, until: Duration) {
        if let Some(op) = self.ops.get_mut(&id) {
            self.timers.cancel(op.timer);
            op.stage = stage;
            op.timer = self.timers.set(until.min(op.deadline), Timer::Op(id));
        }
    }

    pub(super) fn op_due(&mut self, now: Duration, id: OpId, effects: &mut Vec<Effect>) {
        let Some(op) = self.ops.get_mut(&id) else {
            return;
        };
        let (stage, is_over) = (op.stage, now >= op.deadline);
        if stage == Stage::Asked {
            op.silences += 1;
            let can_do_without = op.found.is_some() && op.silences >= SILENCES_BORNE;
            if can_do_without {
                return self.done_with_found(id, effects);
            }
            self.counters.timeouts += 1;
            self.note_silence(now, id, effects);
        }
        if is_over {
            return self.time_out(now, id, effects);
        }
        match stage {
            Stage::Asked => self.again(now, id, Duration::ZERO, effects),
            Stage::Looking | Stage::Pausing => self.begin(now, id, effects),
        }
    }

    /// Draws the conclusions of a try without an answer about those who did not answer.
    pub(super) fn note_silence(&mut self, now: Duration, id: OpId, effects: &mut Vec<Effect>) {
        let Some(op) = self.ops.get_mut(&id) else {
            return;
        };
        for number in &op.requests {
            let Some(request) = self.requests.get(number) else {
                continue;
            };
            let is_current = |tuple: &Tuple| tuple.op == id && tuple.round == op.round;
            if !request.tuples.iter().any(is_current) {
                continue;
            }
            op.silent.retain(|addr| *addr != request.to);
            op.silent.push(request.to.clone());
            let silence = self.peers.timed_out(now, &request.to, request.at);
            if silence == Silence::Complete {
                self.counters.resets += 1;
                effects.push(Effect::Reset(request.to.clone()));
            }
        }
    }

    pub(super) fn time_out(&mut self, now: Duration, id: OpId, effects: &mut Vec<Effect>) {
        let Some(op) = self.ops.get(&id) else {
            return;
        };
        let no_servers = self.lookups.get(&op.key).is_some_and(|lookup| lookup.no_servers);
        let error = op.time_out(now, no_servers);
        self.cache.remove_if(&op.key, &op.named);
        self.done(id, Err(error), effects);
    }

    /// All replicas that could be asked have answered.
    pub(super) fn done_with_found(&mut self, id: OpId, effects: &mut Vec<Effect>) {
        let found = self.ops.get_mut(&id).and_then(|op| op.found.take());
        self.done(id, Ok(found), effects);
    }

    pub(super) fn done(
        &mut self,
        id: OpId,
        result: Result<Option<Lattice>, ClientError>,
        effects: &mut Vec<Effect>,
    ) {
        if self.forget(id).is_some() {
            effects.push(Effect::Done { op: id, result });
        }
    }

    pub(super) fn forget(&mut self, id: OpId) -> Option<Op> {
        let op = self.ops.remove(&id)?;
        self.timers.cancel(op.timer);
        for number in &op.requests {
            if let Some(request) = self.requests.get_mut(number) {
                request.tuples.retain(|tuple| tuple.op != id);
                if request.tuples.is_empty() {
                    self.requests.remove(number);
                }
            }
        }
        Some(op)
    }
}
