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
mod operations;
mod peers;
mod routing;
mod storage;
#[cfg(test)]
mod tests;
mod timers;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foldhash::fast::FixedState;
use smallvec::SmallVec;

use self::addresses::{Addr, AddressCache};
use self::batch::Kind;
use self::lookups::{Lookups, Routing};
use self::op::Op;
pub(super) use self::op::{Ask, Whom};
use self::peers::Peers;
use self::timers::Timer;
use super::{ClientConfig, ClientError};
use crate::anna::lattice::Lattice;
use crate::timers::Timers;

/// Names an operation.
pub(super) type OpId = u64;

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_millis(500);

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
    timers: Timers<Timer>,
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
