//! The client without its sockets: what is asked of whom, when, and what an answer means.
//!
//! [`Core::handle`] takes what happened and when, and adds what to do about it to a list. Like the
//! protocol's own state machine it reads no clock and draws no randomness of its own, so that a test can
//! lose, repeat and delay messages as it likes.
//!
//! An operation goes through *tries*: find the key's addresses, ask one of them (or all), wait. A try
//! ends when its time is over or an answer says to begin again; the operation ends when it has its
//! result or its own time is over. Requests of earlier tries stay known until then, for an answer to one
//! of them is as good as any.

mod addresses;
mod answer;
mod batch;
mod lookups;
mod op;
mod peers;
#[cfg(test)]
mod tests;
mod timers;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foldhash::fast::FixedState;
use prost::Message;
use smallvec::SmallVec;

use self::addresses::{Addr, AddressCache, Addrs};
use self::answer::Verdict;
use self::batch::{Item, Kind};
use self::lookups::{Lookup, Lookups, Routing};
pub(super) use self::op::Ask;
use self::op::{Op, Stage};
use self::peers::{Peers, Silence};
use self::timers::{Timer, Timers};
use super::endpoint::is_tcp;
use super::{Acks, ClientConfig, ClientError};
use crate::anna::lattice::Lattice;
use crate::wire::anna::{AnnaError, KeyAddressRequest, KeyAddressResponse, KeyResponse, KeyTuple};

/// Names an operation.
pub(super) type OpId = u64;

/// Detours that are taken at once. After these there are pauses.
const DETOURS_AT_ONCE: u32 = 3;
/// The first pause after a detour.
const PAUSE: Duration = Duration::from_millis(10);
/// The first pause after the answer that there are no servers.
const NO_SERVERS_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// Tries of one look-up whose answers are still welcome.
const LOOKUP_NUMBERS_MAX: usize = 4;
/// Tries of a look-up for which no operation waits.
const PREFETCH_TRIES: u32 = 2;
/// Replicas of one key; more are ignored.
const REPLICAS_MAX: usize = 64;

/// What happened.
pub(super) enum Event {
    /// An operation begins. Its number is new.
    Start { op: OpId, key: Arc<str>, ask: Ask },
    /// Nobody waits for the operation any more.
    Cancel(OpId),
    /// Somebody will need the key's addresses.
    Prefetch(Arc<str>),
    /// A message came to the socket for answers of storage threads.
    KeyAnswer(Bytes),
    /// A message came to the socket for answers of routing threads.
    AddressAnswer(Bytes),
    /// The message with this number was handed to the network.
    Departed(u64),
    /// Time has passed.
    Tick,
}

/// What to do.
#[derive(Debug)]
pub(super) enum Effect {
    /// Send, unless it cannot be handed over before `until`; tell if it was.
    Send { to: Addr, message: Vec<u8>, number: u64, until: Duration },
    /// Give up the connection to this address.
    Reset(Addr),
    /// The operation has ended. A PUT has no value.
    Done { op: OpId, result: Result<Option<Lattice>, ClientError> },
}

/// What has happened since the client was opened, and how things are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages for storage threads.
    pub requests: u64,
    /// Keys in them.
    pub tuples: u64,
    /// Messages for routing threads.
    pub lookups: u64,
    /// Tries of operations after the first.
    pub retries: u64,
    /// Tries, of operations and of look-ups, that had no answer.
    pub timeouts: u64,
    /// Answers that a storage thread does not keep the key.
    pub wrong_threads: u64,
    /// Answers that nobody waits for, or not any more.
    pub late: u64,
    /// Messages that cannot be understood.
    pub malformed: u64,
    /// Connections given up because nothing came back.
    pub resets: u64,
    /// Keys whose addresses are known now.
    pub addresses_cached: u64,
    /// Operations under way now.
    pub operations_open: u64,
}

/// Where answers are awaited.
pub(super) struct ReplyTo {
    pub(super) keys: String,
    pub(super) addresses: String,
}

/// A message to a storage thread, as long as some of it may be answered.
struct Request {
    to: Addr,
    at: Duration,
    tuples: SmallVec<[Tuple; 1]>,
}

struct Tuple {
    key: Arc<str>,
    op: OpId,
    round: u32,
}

/// See the [module's page](self).
pub(super) struct Core {
    try_within: Duration,
    within: Duration,
    lookups_max: usize,
    reply_to: ReplyTo,
    /// Begins all ids of ours, so that answers to another client at the same address are not ours.
    prefix: String,
    rng: fastrand::Rng,
    numbers: u64,
    ops: HashMap<OpId, Op, FixedState>,
    requests: HashMap<u64, Request, FixedState>,
    /// What goes out with the next [`flush`](Self::flush), and in which round of the operation.
    ready: BTreeMap<(Addr, Kind), Vec<(OpId, u32)>>,
    lookups: Lookups,
    /// The keys of open look-ups by the numbers of their tries.
    lookup_numbers: HashMap<u64, Arc<str>, FixedState>,
    routing: Routing,
    cache: AddressCache,
    peers: Peers,
    timers: Timers,
    counters: Counters,
}

impl Core {
    /// `seed` has to be another one for each client.
    pub(super) fn new(config: &ClientConfig, reply_to: ReplyTo, seed: u64) -> Self {
        let mut peers = Peers::default();
        let routing = Routing::new(config.routing.iter().map(|endpoint| peers.intern(endpoint)));
        Self {
            try_within: config.try_within.max(Duration::from_millis(1)),
            within: config.within,
            lookups_max: config.requests_max,
            reply_to,
            prefix: format!("{seed:016x}"),
            rng: fastrand::Rng::with_seed(seed),
            numbers: 0,
            ops: HashMap::default(),
            requests: HashMap::default(),
            ready: BTreeMap::new(),
            lookups: Lookups::default(),
            lookup_numbers: HashMap::default(),
            routing,
            cache: AddressCache::new(config.addresses_max),
            peers,
            timers: Timers::default(),
            counters: Counters::default(),
        }
    }

    /// Takes an event. What is to be sent to storage threads comes with [`flush`](Self::flush).
    pub(super) fn handle(&mut self, now: Duration, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Start { op, key, ask } => self.start(now, op, key, ask, effects),
            Event::Cancel(op) => drop(self.forget(op)),
            Event::Prefetch(key) => self.prefetch(now, key, effects),
            Event::KeyAnswer(bytes) => self.key_answer(now, bytes, effects),
            Event::AddressAnswer(bytes) => self.address_answer(now, bytes, effects),
            Event::Departed(number) => self.departed(number),
            Event::Tick => {
                while let Some(timer) = self.timers.pop_due(now) {
                    match timer {
                        Timer::Op(op) => self.op_due(now, op, effects),
                        Timer::Lookup(key) => self.lookup_due(now, key, effects),
                    }
                }
            }
        }
    }

    /// Sends what has become ready since the last time; to be called when all events that came together
    /// were handed in.
    pub(super) fn flush(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        for ((to, kind), ready) in std::mem::take(&mut self.ready) {
            let items = ready.into_iter().filter_map(|(op, round)| self.item(op, round)).collect();
            for batch in batch::cut(items) {
                self.send(now, &to, kind, &batch, effects);
            }
        }
    }

    /// When [`Event::Tick`] should come, if nothing else happens.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.timers.next_at()
    }

    pub(super) fn counters(&self) -> Counters {
        Counters {
            addresses_cached: self.cache.len() as u64,
            operations_open: self.ops.len() as u64,
            ..self.counters
        }
    }

    fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// The number in the id of an answer, if it is one of ours, and what follows it.
    fn number_in<'a>(&self, id: &'a str) -> Option<(u64, &'a str)> {
        let rest = id.strip_prefix(self.prefix.as_str())?.strip_prefix(':')?;
        let (number, rest) = rest.split_once(':').unwrap_or((rest, ""));
        Some((number.parse().ok()?, rest))
    }

    /// How long to wait for an answer.
    fn patience(&mut self, silences: u32) -> Duration {
        // The last of several tries should not take most of the time.
        self.growing(self.try_within, silences, self.try_within.max(self.within / 2))
    }

    /// How long to wait: twice as long each time, and not all at the same time.
    fn growing(&mut self, first: Duration, times: u32, max: Duration) -> Duration {
        let length = first.saturating_mul(1 << times.min(16)).min(max);
        match times {
            0 => length,
            _ => length.mul_f64(0.75 + 0.5 * self.rng.f64()),
        }
    }
}

/// Operations.
impl Core {
    fn start(
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
            silent: Addrs::new(),
            requests: SmallVec::new(),
            sent: false,
        };
        self.ops.insert(id, op);
        self.begin(now, id, effects);
    }

    /// Begins a try: asks whom the key's addresses name, or looks these up first.
    fn begin(&mut self, now: Duration, id: OpId, effects: &mut Vec<Effect>) {
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
    fn ask(&mut self, now: Duration, id: OpId, named: Addrs, effects: &mut Vec<Effect>) {
        let Some(op) = self.ops.get_mut(&id) else {
            return;
        };
        op.named = named;
        if op.ask.wants_all() && op.is_settled() {
            return self.done(id, Ok(None), effects);
        }
        let mut targets: Addrs =
            op.named.iter().filter(|addr| !op.settled.contains(addr)).cloned().collect();
        if !matches!(op.ask, Ask::Put { acks: Acks::All, .. }) {
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
    fn again(&mut self, now: Duration, id: OpId, pause: Duration, effects: &mut Vec<Effect>) {
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
    fn detour(&mut self, now: Duration, id: OpId, effects: &mut Vec<Effect>) {
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

    fn enter(&mut self, id: OpId, stage: Stage, until: Duration) {
        if let Some(op) = self.ops.get_mut(&id) {
            self.timers.cancel(op.timer);
            op.stage = stage;
            op.timer = self.timers.set(until.min(op.deadline), Timer::Op(id));
        }
    }

    fn op_due(&mut self, now: Duration, id: OpId, effects: &mut Vec<Effect>) {
        let Some(op) = self.ops.get_mut(&id) else {
            return;
        };
        let (stage, is_over) = (op.stage, now >= op.deadline);
        if stage == Stage::Asked {
            op.silences += 1;
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
    fn note_silence(&mut self, now: Duration, id: OpId, effects: &mut Vec<Effect>) {
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

    fn time_out(&mut self, now: Duration, id: OpId, effects: &mut Vec<Effect>) {
        let Some(op) = self.ops.get(&id) else {
            return;
        };
        let no_servers = self.lookups.get(&op.key).is_some_and(|lookup| lookup.no_servers);
        let error = op.time_out(now, no_servers);
        self.cache.remove_if(&op.key, &op.named);
        self.done(id, Err(error), effects);
    }

    fn done(
        &mut self,
        id: OpId,
        result: Result<Option<Lattice>, ClientError>,
        effects: &mut Vec<Effect>,
    ) {
        if self.forget(id).is_some() {
            effects.push(Effect::Done { op: id, result });
        }
    }

    fn forget(&mut self, id: OpId) -> Option<Op> {
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

/// Messages to storage threads and their answers.
impl Core {
    /// None if the operation has ended or begun again in the meantime.
    fn item(&self, id: OpId, round: u32) -> Option<Item> {
        let op = self.ops.get(&id).filter(|op| op.round == round)?;
        let value = match &op.ask {
            Ask::Get { .. } => None,
            Ask::Put { kind, payload, .. } => Some((*kind, payload.clone())),
        };
        let (key, addresses, alone) = (op.key.clone(), op.named.len(), op.silences > 0);
        Some(Item { op: id, round, key, addresses, value, alone })
    }

    fn send(
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

    fn departed(&mut self, number: u64) {
        for tuple in self.requests.get(&number).iter().flat_map(|request| &request.tuples) {
            if let Some(op) = self.ops.get_mut(&tuple.op) {
                op.sent = true;
            }
        }
    }

    fn key_answer(&mut self, now: Duration, bytes: Bytes, effects: &mut Vec<Effect>) {
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
    fn refused(&mut self, now: Duration, number: u64, error: i32, effects: &mut Vec<Effect>) {
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

    fn tuple_answer(
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
            Verdict::Found(value) => self.done(id, Ok(Some(value)), effects),
            Verdict::Failed(error) => self.done(id, Err(error), effects),
            Verdict::Missing | Verdict::Stored if op.ask.wants_all() => {
                op.settle(from);
                if op.is_settled() {
                    self.done(id, Ok(None), effects);
                } else if is_current && op.ask.kind() == Kind::Get {
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
    fn take(&mut self, number: u64, key: &str) -> Option<(OpId, bool)> {
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

/// Look-ups.
impl Core {
    fn prefetch(&mut self, now: Duration, key: Arc<str>, effects: &mut Vec<Effect>) {
        if !self.cache.contains(&key) && self.lookups.len() < self.lookups_max {
            self.look_up(now, key, None, effects);
        }
    }

    /// Asks for the key's addresses, unless that is under way.
    fn look_up(
        &mut self,
        now: Duration,
        key: Arc<str>,
        waiter: Option<OpId>,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(lookup) = self.lookups.get_mut(&key) {
            lookup.waiters.extend(waiter);
            // Those who wait by now have made it slow; who comes new shall not wait that long.
            if !lookup.is_pausing && now >= lookup.since + self.try_within {
                self.ask_routing(now, key, effects);
            }
            return;
        }
        let lookup = Lookup {
            numbers: SmallVec::new(),
            tries: 0,
            since: now,
            asked: SmallVec::new(),
            is_pausing: false,
            no_servers: false,
            waiters: waiter.into_iter().collect(),
            timer: self.timers.set(now, Timer::Lookup(key.clone())),
        };
        self.lookups.insert(key.clone(), lookup);
        self.ask_routing(now, key, effects);
    }

    fn ask_routing(&mut self, now: Duration, key: Arc<str>, effects: &mut Vec<Effect>) {
        let number = self.next_number();
        let tries = self.lookups.get(&key).map_or(0, |lookup| lookup.tries);
        let until = now + self.patience(tries);
        let Some(lookup) = self.lookups.get_mut(&key) else {
            return;
        };
        let targets = self.routing.choose(now, tries > 0, &mut self.rng);
        if lookup.numbers.len() >= LOOKUP_NUMBERS_MAX {
            self.lookup_numbers.remove(&lookup.numbers.remove(0));
        }
        lookup.numbers.push(number);
        self.lookup_numbers.insert(number, key.clone());
        self.timers.cancel(lookup.timer);
        lookup.tries += 1;
        lookup.since = now;
        lookup.is_pausing = false;
        lookup.asked = targets.iter().map(|(endpoint, _)| *endpoint).collect();
        lookup.timer = self.timers.set(until, Timer::Lookup(key.clone()));
        self.counters.lookups += targets.len() as u64;
        for (endpoint, to) in targets {
            let request = KeyAddressRequest {
                response_address: self.reply_to.addresses.clone(),
                keys: vec![key.to_string()],
                request_id: format!("{}:{number}:{endpoint}", self.prefix),
            };
            let message = request.encode_to_vec();
            effects.push(Effect::Send { to, message, number, until });
        }
    }

    fn lookup_due(&mut self, now: Duration, key: Arc<str>, effects: &mut Vec<Effect>) {
        let Some(lookup) = self.lookups.get_mut(&key) else {
            return;
        };
        if !lookup.is_pausing {
            self.counters.timeouts += 1;
            lookup.no_servers = false;
            for endpoint in &lookup.asked {
                let Some(addr) = self.routing.addr(*endpoint) else {
                    continue;
                };
                let silence = self.peers.timed_out(now, addr, lookup.since);
                if silence == Silence::Complete {
                    self.counters.resets += 1;
                    effects.push(Effect::Reset(addr.clone()));
                }
                if silence != Silence::None {
                    self.routing.set_alive(*endpoint, false);
                }
            }
        }
        let waits = |id: &mut OpId| {
            let op = self.ops.get(id);
            op.is_some_and(|op| op.stage == Stage::Looking && op.key == key)
        };
        lookup.waiters.retain(waits);
        if lookup.waiters.is_empty() && lookup.tries >= PREFETCH_TRIES {
            self.end_lookup(&key);
        } else {
            self.ask_routing(now, key, effects);
        }
    }

    fn end_lookup(&mut self, key: &str) -> Option<Lookup> {
        let lookup = self.lookups.remove(key)?;
        for number in &lookup.numbers {
            self.lookup_numbers.remove(number);
        }
        self.timers.cancel(lookup.timer);
        Some(lookup)
    }

    fn address_answer(&mut self, now: Duration, bytes: Bytes, effects: &mut Vec<Effect>) {
        let Ok(answer) = KeyAddressResponse::decode(bytes) else {
            self.counters.malformed += 1;
            return;
        };
        let Some((number, endpoint)) = self.number_in(&answer.response_id) else {
            self.counters.late += 1;
            return;
        };
        if let Ok(endpoint) = endpoint.parse() {
            self.routing.set_alive(endpoint, true);
            if let Some(addr) = self.routing.addr(endpoint) {
                self.peers.answered(now, addr);
            }
        }
        let Some(key) = self.lookup_numbers.get(&number).cloned() else {
            self.counters.late += 1;
            return;
        };
        let named = answer.addresses.into_iter().find(|address| address.key == *key);
        let ips = named.map(|address| address.ips).unwrap_or_default();
        let addrs = self.replicas(&ips);
        match addrs.is_empty() {
            false => self.found(now, key, addrs, effects),
            true if ips.is_empty() => self.no_servers(now, key),
            // The timer tries again.
            true => self.counters.malformed += 1,
        }
    }

    /// The addresses that can be used, each once.
    fn replicas(&mut self, ips: &[String]) -> Addrs {
        let mut addrs = Addrs::new();
        for ip in ips.iter().filter(|ip| is_tcp(ip)).take(REPLICAS_MAX) {
            let addr = self.peers.intern(ip);
            if !addrs.contains(&addr) {
                addrs.push(addr);
            }
        }
        addrs
    }

    fn found(&mut self, now: Duration, key: Arc<str>, addrs: Addrs, effects: &mut Vec<Effect>) {
        self.cache.insert(key.clone(), addrs.clone());
        let waiters = self.end_lookup(&key).map(|lookup| lookup.waiters).unwrap_or_default();
        for id in waiters {
            let op = self.ops.get(&id);
            if op.is_some_and(|op| op.stage == Stage::Looking && op.key == key) {
                self.ask(now, id, addrs.clone(), effects);
            }
        }
    }

    fn no_servers(&mut self, now: Duration, key: Arc<str>) {
        let tries = self.lookups.get(&key).map_or(0, |lookup| lookup.tries);
        let pause = self.growing(NO_SERVERS_PAUSE, tries.saturating_sub(1), PAUSE_MAX);
        let Some(lookup) = self.lookups.get_mut(&key).filter(|lookup| !lookup.is_pausing) else {
            return;
        };
        lookup.no_servers = true;
        lookup.is_pausing = true;
        self.timers.cancel(lookup.timer);
        lookup.timer = self.timers.set(now + pause, Timer::Lookup(key));
    }
}
