//! One node's protocol as a state machine without I/O: [`Node::handle`] takes what happened and when,
//! and says what to do about it.
//!
//! Nothing here reads a clock, draws random numbers, blocks or starts a thread. The daemon drives a
//! node with sockets and a store, the simulator with a virtual clock and a store that misbehaves; both
//! run the same code. One file per conversation: [`start`](self), get, put, commit, abort, continue.
//!
//! Two rules hold everywhere: each [`Ticket`] is answered exactly once and by its deadline, and what a
//! request decides it decides within one call of `handle`.

mod abort;
mod alone;
mod attempts;
mod calls;
mod collect;
mod commit;
mod config;
mod effect;
mod ended;
mod epochs;
mod event;
mod expire;
mod forward;
mod garbage;
mod get;
mod gossip;
mod grace;
mod handover;
mod heads;
mod merge;
mod ops;
mod over;
mod peer;
mod put;
mod quarantine;
mod query;
mod refusal;
mod session;
mod start;
mod stored;
mod timers;
mod travel;
mod values;

use std::time::Duration;

use foldhash::fast::FixedState;

use crate::storage::StorageError;
use crate::timers::Timers;
use crate::txn::{AttemptId, Consistency, HybridClock, IdSource, Key, Map, VersionIndex};

use attempts::{Attempts, Phase, Waiter};
use calls::Calls;
use ended::{Decided, Ended};
use garbage::Collector;
pub use garbage::GarbageCounts;
use gossip::Gossip;
pub use gossip::GossipCounts;
use grace::Graces;
use heads::Heads;
use ops::{Op, Ops, Purpose};
use quarantine::KeptAside;
use query::Asking;
use session::Waiting;
use timers::Timer;
use values::{Absent, Values};

pub use config::NodeConfig;
pub use effect::{Answer, Ask, Effect, End, ReadValue, Source};
use event::Asked;
pub use event::{Event, Now, OpId, StoreResult, Ticket};
pub use peer::{
    Address, Batch, Collect, Collected, Forward, Forwarded, Found, Grace, Graced, HandOver,
    HandedOver, Holder, Origin, Over, PeerMessage, Queried, Query, Resend, Token, View, Visit,
};
pub use refusal::{Advice, Refusal};

/// The state of one node. See the [module's page](self).
pub struct Node {
    config: NodeConfig,
    consistency: Box<dyn Consistency>,
    hasher: FixedState,
    clock: HybridClock,
    ids: IdSource,
    /// Every commit that is durable and was learned of. Nothing else is ever readable.
    index: VersionIndex,
    values: Values,
    /// Plain names under which nothing stood.
    absent: Absent,
    heads: Heads,
    attempts: Attempts,
    ended: Ended,
    ops: Ops,
    calls: Calls,
    /// Gets that wait for other nodes.
    asking: Map<u64, Asking>,
    /// Commits that other nodes asked for.
    peer_tickets: Map<Ticket, Forward>,
    timers: Timers<Timer>,
    gossip: Gossip,
    graces: Graces,
    garbage: Collector,
    /// Commits of other nodes that are too far ahead of this node's clock.
    quarantined: Vec<KeptAside>,
    draining: bool,
    /// When the last event was handled.
    elapsed: Duration,
    /// When the last look through the store's log began that came to its end.
    log_read: Option<Duration>,
    /// When the present one began.
    log_reading: Option<Duration>,
    /// The first event was handled.
    has_begun: bool,
    /// When.
    begun: Duration,
}

/// One call of [`Node::handle`]: when it happens and what comes of it.
struct Turn<'a> {
    now: Now,
    effects: &'a mut Vec<Effect>,
}

impl Turn<'_> {
    fn reply(&mut self, ticket: Ticket, answer: Answer) {
        self.effects.push(Effect::Reply { ticket, answer });
    }
}

/// What a node holds, for people and dashboards.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Status {
    /// Running attempts.
    pub transactions: usize,
    /// Bytes of writes buffered by them.
    pub buffered_bytes: usize,
    /// Questions to the store that are open.
    pub store_operations: usize,
    /// Keys with at least one committed version.
    pub keys: usize,
    /// Committed versions known.
    pub versions: usize,
    /// Bytes of values in the cache.
    pub cached_bytes: u64,
    /// No new transactions are begun.
    pub draining: bool,
    /// Commits told to other nodes, or to be told, since the start.
    pub commits_told: u64,
    /// Commits of other nodes that are kept aside, as they are too far ahead of this node's clock.
    pub quarantined: usize,
    /// The other nodes that are told of commits.
    pub members: Vec<String>,
    /// Those of them that were heard from of late.
    pub members_live: usize,
    /// What was said between nodes about commits.
    pub gossip: GossipCounts,
    /// What was forgotten.
    pub garbage: GarbageCounts,
    /// How long the oldest running attempt has been running, in milliseconds.
    pub oldest_transaction_ms: u64,
    /// Other nodes that told of their commits.
    pub heard: Vec<HeardStatus>,
}

/// What one life of another node told.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HeardStatus {
    /// The node.
    pub node: String,
    /// Which life of it.
    pub incarnation: String,
    /// Its commits up to this number have all arrived.
    pub complete_to: u64,
    /// The number of its last commit, as far as is known.
    pub last: u64,
    /// How long ago its last word came, in milliseconds, as of the last event.
    pub silent_ms: u64,
}

impl Node {
    /// A node that knows no commits yet. `seed` must differ between any two incarnations of nodes that
    /// share a store: ids are made from it.
    pub fn new(config: NodeConfig, consistency: Box<dyn Consistency>, seed: u64) -> Self {
        let hasher = &FixedState::with_seed(seed);
        Self {
            clock: HybridClock::new(config.node_tag),
            ids: IdSource::new(seed),
            index: VersionIndex::new(hasher),
            values: Values::new(config.cache_bytes_max, hasher),
            absent: Absent::new(config.absent_for, hasher),
            heads: Heads::new(config.absent_for, hasher),
            attempts: Attempts::new(hasher),
            ended: Ended::new(config.ended_max, hasher),
            ops: Ops::new(hasher),
            calls: Calls::new(seed, hasher),
            asking: Map::with_hasher(hasher.clone()),
            peer_tickets: Map::with_hasher(hasher.clone()),
            timers: Timers::default(),
            gossip: Gossip::new(Vec::new(), hasher),
            graces: Graces::default(),
            garbage: Collector::default(),
            quarantined: Vec::new(),
            draining: false,
            elapsed: Duration::ZERO,
            log_read: None,
            log_reading: None,
            has_begun: false,
            begun: Duration::ZERO,
            config,
            consistency,
            hasher: hasher.clone(),
        }
    }

    /// Handles one event. What is to be done about it is appended to `effects`.
    pub fn handle(&mut self, now: Now, event: Event, effects: &mut Vec<Effect>) {
        let turn = &mut Turn { now, effects };
        if !self.has_begun {
            (self.has_begun, self.begun) = (true, now.elapsed);
            self.watch_quarantine(turn);
        }
        self.start_gossip(turn);
        self.start_collecting(turn);
        match event {
            // A node of which nobody asks anything says that it is there, too.
            Event::Members(members) => {
                self.set_members(turn, members);
                self.start_gossip(turn);
            }
            Event::Listeners(listeners) => {
                self.set_listeners(listeners);
                self.start_gossip(turn);
            }
            Event::Peer(message) => self.heard(turn, message),
            Event::Start { ticket, id, after } => {
                let asked = Asked { ticket, at: turn.now.elapsed };
                self.start_after(turn, Waiting { asked, id, after });
            }
            Event::Get { ticket, txn, keys } => self.get(turn, ticket, txn, keys),
            Event::Put { ticket, txn: Some(txn), writes } => self.put(turn, ticket, &txn, writes),
            Event::Put { ticket, txn: None, writes } => self.put_alone(turn, ticket, writes),
            Event::Commit { ticket, txn, addresses } => {
                let asked = Asked { ticket, at: turn.now.elapsed };
                self.commit(turn, asked, &txn, addresses);
            }
            Event::Abort { ticket, txn } => self.abort(turn, ticket, &txn),
            Event::Continue { ticket, txn, upstream } => {
                self.continue_from(turn, ticket, &txn, upstream);
            }
            Event::Merge { ticket, values } => self.merge(turn, ticket, values),
            Event::Learned(commits) => commits.iter().for_each(|c| self.learn(turn, c)),
            Event::LogIsBeingRead => self.log_is_being_read(turn),
            Event::LogWasRead => self.log_was_read(),
            Event::Stored { op, result } => self.stored(turn, op, result),
            Event::Tick => {}
            Event::Drain => self.draining = true,
        }
        self.expire(turn);
        self.make_room(turn);
        self.answer_graces(turn);
        self.answer_peers(turn);
        self.elapsed = now.elapsed;
    }

    /// A message of another node.
    fn heard(&mut self, turn: &mut Turn<'_>, message: PeerMessage) {
        match message {
            PeerMessage::Commits(batch) => self.heard_commits(turn, batch),
            PeerMessage::Resend(resend) => self.resend(turn, &resend),
            PeerMessage::Found(found) => self.heard_found(turn, found),
            PeerMessage::Grace(ask) => self.grace_asked(turn, ask),
            PeerMessage::Graced(answer) => self.graced(&answer),
            PeerMessage::HandOver(asked) => self.hand_over(turn, asked),
            PeerMessage::HandedOver(answer) => self.handed_over(turn, answer),
            PeerMessage::Query(asked) => self.query(turn, asked),
            PeerMessage::Queried(answer) => self.queried(turn, answer),
            PeerMessage::Collect(asked) => self.collect(turn, asked),
            PeerMessage::Collected(answer) => self.collected(turn, answer),
            PeerMessage::Over(told) => self.over(turn, told),
            PeerMessage::Forward(asked) => self.forwarded_here(turn, asked),
            PeerMessage::Forwarded(answer) => self.forwarded(turn, answer),
        }
    }

    /// When [`Event::Tick`] is due if nothing else happens before, as [`Now::elapsed`].
    pub fn next_deadline(&self) -> Option<Duration> {
        self.timers.next_at()
    }

    /// Nothing runs and nothing is asked of the store or of other nodes.
    pub fn is_idle(&self) -> bool {
        self.attempts.len() == 0 && !self.ops.are_urgent() && self.calls.len() == 0
    }

    /// User keys of which a value is in memory, each once.
    pub fn cached_keys(&self) -> Vec<Key> {
        self.values.keys()
    }

    /// What the node holds now.
    pub fn status(&self) -> Status {
        Status {
            transactions: self.attempts.len(),
            buffered_bytes: self.attempts.buffered_bytes(),
            store_operations: self.ops.len(),
            keys: self.index.key_count(),
            versions: self.index.version_count(),
            cached_bytes: self.values.bytes(),
            draining: self.draining,
            quarantined: self.quarantined.len(),
            commits_told: self.gossip.told(),
            members: self.gossip.members(),
            members_live: self.gossip.members_live(self.elapsed, self.config.gossip_each).len(),
            gossip: self.gossip.counts(),
            garbage: self.garbage.counts(),
            oldest_transaction_ms: self.attempts.oldest_ms(self.elapsed),
            heard: self.gossip.heard_status(self.elapsed),
        }
    }

    /// Asks the store. With `within`, the request behind it is answered after that time in any case.
    fn ask(&mut self, turn: &mut Turn<'_>, ask: Ask, purpose: Purpose, within: Option<Duration>) {
        let op = self.ops.next_id();
        let deadline =
            within.map(|time| self.timers.set(turn.now.elapsed + time, Timer::Deadline(op)));
        let entry = Op { ask: ask.clone(), purpose, failures: 0, last_error: None, deadline };
        self.ops.insert(op, entry);
        turn.effects.push(Effect::Store { op, ask });
    }

    /// Ends an attempt whose record was never sent. It takes no effect.
    fn end_aborted(&mut self, turn: &mut Turn<'_>, id: &AttemptId, why: Refusal) {
        let Some(attempt) = self.attempts.get(id) else { return };
        if matches!(attempt.phase, Phase::Committing { .. }) {
            return;
        }
        let others = attempt.travel.others();
        let waiters = self.forget_attempt(id);
        self.ended.note_aborted(id.clone(), why.clone(), !others.is_empty());
        turn.effects.push(Effect::Ended { attempt: id.clone(), end: End::Aborted(why) });
        self.tell_over(turn, id, others, None);
        for waiter in waiters {
            self.timers.cancel(waiter.timer);
            let answer = Answer::Undecided { id: id.to_string(), why: Refusal::Superseded };
            turn.reply(waiter.ticket, answer);
        }
    }

    /// Drops an attempt. Whoever waits for its outcome is to be answered.
    fn forget_attempt(&mut self, id: &AttemptId) -> Vec<Waiter> {
        let attempt = self.attempts.remove(id);
        if let Some(attempt) = attempt.as_ref().filter(|attempt| !attempt.travel.stayed_here()) {
            self.ended.note_departed(id.clone(), attempt.begun);
        }
        match attempt.map(|attempt| attempt.phase) {
            Some(Phase::Running { timer } | Phase::HandedOut { timer, .. }) => {
                self.timers.cancel(timer);
                Vec::new()
            }
            Some(Phase::Preparing(prepare)) => prepare.waiters,
            Some(Phase::Committing { waiters }) => waiters,
            None => Vec::new(),
        }
    }

    /// Why an attempt cannot be used, if it cannot; otherwise notes that it was used now.
    fn use_attempt(&mut self, turn: &Turn<'_>, id: &AttemptId) -> Result<(), Refusal> {
        let Some(attempt) = self.attempts.get_mut(id) else {
            return Err(self.why_gone(id));
        };
        attempt.touched = turn.now.elapsed;
        match attempt.phase {
            Phase::Running { .. } => Ok(()),
            _ => Err(Refusal::Committing),
        }
    }

    fn why_gone(&self, id: &AttemptId) -> Refusal {
        if let Some(why) = self.ended.why_aborted(id) {
            return why.clone();
        }
        match self.ended.decided(&id.base()) {
            Some(Decided::Committed(_)) => Refusal::AlreadyCommitted,
            Some(Decided::Aborted) => Refusal::SettledAborted,
            None if self.attempts.current(&id.base()).is_some() => Refusal::Fenced,
            None => Refusal::Unknown,
        }
    }
}

/// The refusal that tells of a failed store.
fn store_refusal(error: Option<StorageError>, waited: Duration) -> Refusal {
    error.map_or(Refusal::Deadline(waited), Refusal::Storage)
}
