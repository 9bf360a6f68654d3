//! The run itself: the queue of what happens when, on a virtual clock.
//!
//! Whatever happens to a node, its store or the network has a file of its own, each with a part of
//! [`World`]'s methods.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use foldhash::fast::{FixedState, FoldHasher};

use super::anna::{Call, CallResult};
use super::clients::{self, Actor, Clients};
use super::flawed::Travels;
use super::history::{History, Moment, Value};
use super::judge::Violation;
use super::network::Network;
use super::site::Site;
use super::storage::{Telling, Watched};
use super::weather::Weather;
use super::{Options, Report};
use crate::node::{Address, Answer, Ask, Event, OpId, Ticket};
use crate::storage::memory::MemoryStore;
use crate::txn::{BaseId, Commit, Consistency, Key, Outcome, Version};

/// When the virtual wall clock begins, in nanoseconds since the Unix epoch.
pub(super) const EPOCH_NS: u64 = 1_790_000_000_000_000_000;

/// Something that is going to happen. What names a life of a node happens only if that life goes on.
pub(super) enum Happening {
    /// An event reaches a node.
    Arrive { site: usize, life: Option<u64>, event: Event },
    /// The store does what was asked, and reports.
    Do { site: usize, life: u64, op: OpId, ask: Ask, report: Telling },
    /// An answer reaches its client.
    Answer { ticket: Ticket, answer: Answer },
    /// A client does its next step.
    Step(Actor),
    /// A node comes back.
    Restart { site: usize },
    /// A node that was stopped goes on.
    Thaw { site: usize, life: u64 },
    /// Nodes are cut off, or reach each other again.
    ChangeNetwork,
    /// Somebody writes past the sidecar.
    Foreign,
    /// A call of the simulated Anna is done, and its caller may be told.
    Apply { site: usize, life: u64, number: u64, call: Call, report: Telling },
    /// A call's result reaches its caller.
    Returned { site: usize, life: u64, number: u64, result: CallResult },
    /// A node looks for commits of others in the store.
    Follow { site: usize, life: u64 },
    /// A node clears up behind its predecessor.
    ClearUp { site: usize, life: u64 },
    /// With a flaw, a node that died says that it is there.
    Haunt { site: usize },
}

pub(super) struct World<'a> {
    pub(super) rng: Rng,
    pub(super) elapsed: Duration,
    pub(super) options: Options,
    pub(super) history: History,
    pub(super) weather: Weather,
    pub(super) consistency: &'a dyn Fn() -> Box<dyn Consistency>,
    pub(super) sites: Vec<Site>,
    pub(super) network: Network,
    pub(super) store: MemoryStore,
    pub(super) landed: BTreeSet<Version>,
    pub(super) clients: Clients,
    pub(super) report: Report,
    pub(super) lives: u64,
    pub(super) watched: Watched,
    /// Requests that a flaw answered.
    pub(super) answered_early: BTreeSet<Ticket>,
    pub(super) travels: Travels,
    queue: BTreeMap<(Duration, u64), Happening>,
    queued: u64,
    tickets: u64,
    moments: Moment,
    last_value: Value,
    requests: usize,
    /// When it is looked next for requests that were not answered.
    look_at: Duration,
    fingerprint: FoldHasher<'static>,
}

static SEEDLESS: LazyLock<FixedState> = LazyLock::new(|| FixedState::with_seed(0));

impl<'a> World<'a> {
    pub(super) fn new(
        seed: u64,
        options: &Options,
        consistency: &'a dyn Fn() -> Box<dyn Consistency>,
    ) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut weather = Weather::draw(&mut rng, options.nodes);
        if options.fair {
            weather.clear_up();
        }
        let mut world = Self {
            rng,
            elapsed: Duration::ZERO,
            options: options.clone(),
            history: History::default(),
            weather,
            consistency,
            sites: Site::all(options),
            network: Network::default(),
            store: MemoryStore::default(),
            landed: BTreeSet::new(),
            clients: Clients::new(options),
            report: Report::default(),
            lives: 0,
            watched: Watched::new(),
            answered_early: BTreeSet::new(),
            travels: Travels::default(),
            queue: BTreeMap::new(),
            queued: 0,
            tickets: 0,
            moments: 0,
            last_value: 0,
            requests: 0,
            look_at: Duration::ZERO,
            fingerprint: SEEDLESS.build_hasher(),
        };
        for site in 0..options.nodes {
            world.restart(site);
        }
        clients::set_out(&mut world);
        if options.nodes > 1 {
            world.change_network();
        }
        world.after(Duration::from_millis(50), Happening::Foreign);
        world
    }

    pub(super) fn run(mut self) -> (History, Report) {
        self.history.is_fair = self.weather.is_fair();
        while self.requests < self.options.requests && self.turn(Duration::MAX) {}
        self.come_to_rest();
        self.report.fingerprint = self.fingerprint.finish();
        (self.history, self.report)
    }

    /// Lets the next thing happen, if that is before `end`.
    pub(super) fn turn(&mut self, end: Duration) -> bool {
        let due = self.next_tick();
        let next = self.queue.first_key_value().map(|((at, _), _)| *at);
        let ticks = due.is_some_and(|(due, _)| next.is_none_or(|next| due < next));
        match (due, self.queue.first_entry()) {
            (Some((at, site)), _) if ticks && at <= end => {
                self.elapsed = self.elapsed.max(at);
                self.handle(site, Event::Tick);
            }
            (_, Some(first)) if !ticks && first.key().0 <= end => {
                let ((at, _), happening) = first.remove_entry();
                self.elapsed = self.elapsed.max(at);
                self.happen(happening);
            }
            _ => return false,
        }
        if self.elapsed >= self.look_at {
            self.look_at = self.elapsed + Duration::from_millis(500);
            self.look_for_unanswered();
        }
        true
    }

    /// The first deadline of a node that runs.
    fn next_tick(&self) -> Option<(Duration, usize)> {
        let due = |(place, site): (usize, &Site)| Some((site.next_deadline()?, place));
        self.sites.iter().enumerate().filter_map(due).min()
    }

    fn happen(&mut self, happening: Happening) {
        let Some(happening) = self.hold_if_frozen(happening) else { return };
        match happening {
            Happening::Arrive { site, life, event } => {
                if life.is_none_or(|life| self.lives(site, life)) {
                    self.handle(site, event);
                }
            }
            Happening::Do { site, life, op, ask, report } => {
                self.store_does(site, life, op, ask, report);
            }
            Happening::Answer { ticket, answer } => {
                self.note(0, digest(&answer), &answer);
                clients::answered(self, ticket, answer);
            }
            Happening::Step(actor) => clients::step(self, actor),
            Happening::Apply { site, life, number, call, report } => {
                self.apply(site, life, number, call, report);
            }
            Happening::Returned { site, life, number, result } if self.lives(site, life) => {
                self.with_anna(site, |anna| anna.returned(number, result));
            }
            Happening::Follow { site, life } if self.lives(site, life) => self.follow(site),
            Happening::ClearUp { site, life } if self.lives(site, life) => {
                let wall_ns = self.now(site).wall_ns;
                self.with_anna(site, |anna| anna.clear_up(wall_ns));
            }
            Happening::Thaw { site, life } if self.lives(site, life) => self.thaw(site),
            // Meant for a node that is dead.
            Happening::Returned { .. }
            | Happening::Follow { .. }
            | Happening::ClearUp { .. }
            | Happening::Thaw { .. } => {}
            Happening::Restart { site } => self.restart(site),
            Happening::ChangeNetwork => self.change_network(),
            Happening::Foreign => self.write_past_the_sidecar(),
            Happening::Haunt { site } => self.haunt(site),
        }
    }

    pub(super) fn after(&mut self, delay: Duration, happening: Happening) {
        self.queued += 1;
        self.queue.insert((self.elapsed + delay, self.queued), happening);
    }

    /// What is queued and fulfils a condition happens later, each by a time of its own.
    pub(super) fn put_off(
        &mut self,
        which: impl Fn(&Happening) -> bool,
        mut delay: impl FnMut(&mut Rng) -> Option<Duration>,
    ) {
        let chosen: Vec<_> =
            self.queue.iter().filter(|(_, what)| which(what)).map(|(at, _)| *at).collect();
        for at in chosen {
            if let Some(delay) = delay(&mut self.rng)
                && let Some(happening) = self.queue.remove(&at)
            {
                self.after(delay, happening);
            }
        }
    }

    /// Sends a request to a node, dead or alive.
    pub(super) fn request(&mut self, site: usize, make: impl FnOnce(Ticket) -> Event) -> Ticket {
        self.tickets += 1;
        self.requests += 1;
        let ticket = Ticket(self.tickets);
        let delay = Duration::from_micros(self.rng.u64(20..300));
        self.after(delay, Happening::Arrive { site, life: None, event: make(ticket) });
        ticket
    }

    /// The next moment in the order of all that clients do and see.
    pub(super) fn moment(&mut self) -> Moment {
        self.moments += 1;
        self.moments
    }

    pub(super) fn new_value(&mut self) -> Value {
        self.last_value += 1;
        self.last_value
    }

    pub(super) fn any_key(&mut self) -> Key {
        let number = self.rng.usize(0..self.options.keys);
        key(number)
    }

    pub(super) fn any_site(&mut self) -> usize {
        self.rng.usize(0..self.sites.len())
    }

    pub(super) fn address(&self, site: usize) -> Address {
        self.sites[site].address.clone()
    }

    /// The commit of an id, as the store has it.
    pub(super) fn committed(&self, id: &BaseId) -> Option<Arc<Commit>> {
        // The store may have collected it since.
        let mut landed = self.history.landed.iter().rev();
        let found = landed.find(|landed| landed.commit.version.writer.base() == *id);
        if let Some(landed) = found {
            return Some(landed.commit.clone());
        }
        let outcome = self.sites[0].anna.as_ref().and_then(|anna| anna.outcome(id));
        match outcome {
            Some(Outcome::Committed(commit)) => Some(commit),
            _ => None,
        }
    }

    pub(super) fn broken(&mut self, promise: &'static str, what: String) {
        self.report.violations.push(Violation { promise, what });
    }

    /// Makes something a part of the run's fingerprint, and of its trace if that is wanted.
    pub(super) fn note<T: Debug>(&mut self, site: usize, detail: u64, what: &T) {
        if self.options.trace {
            println!("{:.6} n{} {what:?}", self.elapsed.as_secs_f64(), site + 1);
        }
        std::mem::discriminant(what).hash(&mut self.fingerprint);
        (self.elapsed, site, detail).hash(&mut self.fingerprint);
    }
}

/// An answer in one number.
pub(super) fn digest(answer: &Answer) -> u64 {
    let mut hasher = SEEDLESS.build_hasher();
    match answer {
        Answer::Started(id) => id.hash(&mut hasher),
        Answer::Decided { id, committed, .. } => (id, committed).hash(&mut hasher),
        Answer::Values(values) => values.iter().for_each(|read| read.value.hash(&mut hasher)),
        Answer::Written(results) => results.iter().for_each(|r| r.is_ok().hash(&mut hasher)),
        Answer::Undecided { why, .. } | Answer::Refused(why) => why.label().hash(&mut hasher),
        Answer::Continued => {}
    }
    hasher.finish()
}

pub(super) fn key(number: usize) -> Key {
    // The name is never empty, so it is a key.
    Key::parse(&format!("k{number}")).unwrap_or_else(|_| unreachable!())
}

pub(super) fn encode(value: Value) -> Bytes {
    Bytes::copy_from_slice(&value.to_be_bytes())
}

pub(super) fn decode(bytes: &[u8]) -> Option<Value> {
    Some(Value::from_be_bytes(bytes.try_into().ok()?))
}
