//! The run itself: the queue of what happens when, the node, the store and its misbehaviour.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use foldhash::fast::FixedState;

use super::anna::{Anna, Call, CallResult, Ended};
use super::clients::{Client, Clients};
use super::history::{History, Landed, Value, Verdict};
use super::judge::Violation;
use super::{Flaw, Options, Report, StoreKind, anna};
use crate::anna::lattice::Lattice;
use crate::node::{
    Answer, Ask, Effect, End, Event, Node, NodeConfig, Now, OpId, StoreResult, Ticket,
};
use crate::storage::memory::MemoryStore;
use crate::storage::{LogPage, LogPosition, StorageError};
use crate::txn::{BaseId, Commit, Consistency, Key, Outcome, Version};

/// When the virtual wall clock begins, in nanoseconds since the Unix epoch.
const EPOCH_NS: u64 = 1_790_000_000_000_000_000;
/// How long everything may take that is still under way when the last request was made.
const QUIESCENCE: Duration = Duration::from_secs(120);
/// What a dead node sent lands within so many microseconds: longer than any node lives.
const LATEST_US: u64 = 60_000_000;
/// How often a node looks for commits of others in the store.
const FOLLOWED_EACH: Duration = Duration::from_secs(1);
/// A node answers within this time, if it lives.
const ANSWERED_WITHIN: Duration = Duration::from_secs(11);

/// Something that is going to happen.
pub(super) enum Happening {
    /// A request reaches the node.
    Request(Event),
    /// The store does what was asked, and reports.
    Do { op: OpId, ask: Ask, incarnation: u64, report: Telling },
    /// The store's report reaches the node.
    Done { op: OpId, result: StoreResult, incarnation: u64 },
    /// An answer reaches its client.
    Answer { ticket: Ticket, answer: Answer },
    /// A client does its next step.
    Step { client: usize },
    /// The node comes back.
    Restart,
    /// Somebody writes past the sidecar.
    Foreign,
    /// A call of the simulated Anna is done, and its caller may be told.
    Apply { number: u64, call: Call, report: Telling },
    /// A call's result reaches its caller.
    Returned { number: u64, result: CallResult },
    /// The node looks for commits of others in the store.
    Follow { incarnation: u64 },
    /// The node clears up behind its predecessor.
    ClearUp { incarnation: u64 },
    /// Something came of either.
    Learned { commits: Vec<Arc<Commit>>, incarnation: u64 },
}

/// Whether and how what the store did is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Telling {
    Truth,
    Failure,
    Silence,
}

/// How a run misbehaves, drawn once per seed, so that some seeds are calm and some wild.
#[derive(Debug)]
struct Weather {
    fail_before: f64,
    fail_after: f64,
    fail_then_do: f64,
    refuse: f64,
    slow: f64,
    crash: f64,
    lose_answer: f64,
}

pub(super) struct World<'a> {
    pub(super) rng: Rng,
    pub(super) elapsed: Duration,
    pub(super) options: Options,
    pub(super) history: History,
    queue: BTreeMap<(Duration, u64), Happening>,
    queued: u64,
    weather: Weather,
    consistency: &'a dyn Fn() -> Box<dyn Consistency>,
    node: Option<Node>,
    incarnation: u64,
    wall_offset_ns: i64,
    store: MemoryStore,
    /// Takes the store's place.
    anna: Option<Anna>,
    clients: Clients,
    tickets: u64,
    /// Requests the node has not answered, and since when.
    open: BTreeMap<Ticket, Duration>,
    last_value: Value,
    requests: usize,
    report: Report,
    fingerprint: foldhash::fast::FoldHasher<'static>,
}

impl<'a> World<'a> {
    pub(super) fn new(
        seed: u64,
        options: &Options,
        consistency: &'a dyn Fn() -> Box<dyn Consistency>,
    ) -> Self {
        let mut rng = Rng::with_seed(seed);
        let weather = Weather::draw(&mut rng);
        let clients = Clients::new(options.clients);
        let mut world = Self {
            rng,
            elapsed: Duration::ZERO,
            options: options.clone(),
            history: History::default(),
            queue: BTreeMap::new(),
            queued: 0,
            weather,
            consistency,
            node: None,
            incarnation: 0,
            wall_offset_ns: 0,
            store: MemoryStore::default(),
            anna: (options.store == StoreKind::Anna).then(Anna::new),
            clients,
            tickets: 0,
            open: BTreeMap::new(),
            last_value: 0,
            requests: 0,
            report: Report::default(),
            fingerprint: SEEDLESS.build_hasher(),
        };
        world.restart();
        for client in 0..options.clients {
            world.after(Duration::from_millis(client as u64), Happening::Step { client });
        }
        world.after(Duration::from_millis(50), Happening::Foreign);
        world
    }

    pub(super) fn run(mut self) -> (History, Report) {
        while self.requests < self.options.requests && self.turn() {}
        // Faults stop; what is under way ends, and everything that was left is forgotten.
        self.weather = Weather::calm();
        self.clients.stop();
        let end = self.elapsed + QUIESCENCE;
        while self.queue.first_key_value().is_some_and(|((at, _), _)| *at <= end) && self.turn() {}
        self.quiescent();
        self.collect();
        self.logged();
        self.report.fingerprint = self.fingerprint.finish();
        (self.history, self.report)
    }

    /// Lets the next thing happen.
    fn turn(&mut self) -> bool {
        let due = self.node.as_ref().and_then(Node::next_deadline);
        let next = self.queue.first_key_value().map(|((at, _), _)| *at);
        match (next, due) {
            (None, None) => return false,
            (Some(next), Some(due)) if due < next => self.tick(due),
            (None, Some(due)) => self.tick(due),
            (Some(_), _) => {
                if let Some(((at, _), happening)) = self.queue.pop_first() {
                    self.elapsed = self.elapsed.max(at);
                    self.happen(happening);
                }
            }
        }
        self.look_for_unanswered();
        true
    }

    fn tick(&mut self, at: Duration) {
        self.elapsed = self.elapsed.max(at);
        self.handle(Event::Tick);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Request(event) => self.handle(event),
            Happening::Do { op, ask, incarnation, report } => {
                self.store_does(op, ask, incarnation, report)
            }
            Happening::Done { op, result, incarnation } if incarnation == self.incarnation => {
                self.handle(Event::Stored { op, result });
            }
            // Meant for a node that is dead.
            Happening::Done { .. } => {}
            Happening::Answer { ticket, answer } => {
                self.note(&(&ticket, &answer));
                Client::answered(self, ticket, answer);
            }
            Happening::Step { client } => Client::step(self, client),
            Happening::Apply { number, call, report } => self.apply(number, call, report),
            Happening::Returned { number, result } => {
                if let Some(anna) = &self.anna {
                    anna.returned(number, result);
                }
                self.poll_anna();
            }
            Happening::Follow { incarnation } if incarnation == self.incarnation => {
                self.with_anna(Anna::follow);
            }
            Happening::ClearUp { incarnation } if incarnation == self.incarnation => {
                self.with_anna(Anna::clear_up);
            }
            Happening::Learned { commits, incarnation } if incarnation == self.incarnation => {
                self.handle(Event::Learned(commits));
            }
            Happening::Follow { .. } | Happening::ClearUp { .. } | Happening::Learned { .. } => {}
            Happening::Restart => self.restart(),
            Happening::Foreign => self.write_past_the_sidecar(),
        }
    }

    pub(super) fn after(&mut self, delay: Duration, happening: Happening) {
        self.queued += 1;
        self.queue.insert((self.elapsed + delay, self.queued), happening);
    }

    pub(super) fn clients(&mut self) -> &mut Clients {
        &mut self.clients
    }

    /// Sends a request to the node, dead or alive.
    pub(super) fn request(&mut self, make: impl FnOnce(Ticket) -> Event) -> Ticket {
        self.tickets += 1;
        self.requests += 1;
        let ticket = Ticket(self.tickets);
        let delay = Duration::from_micros(self.rng.u64(20..300));
        self.after(delay, Happening::Request(make(ticket)));
        ticket
    }

    pub(super) fn new_value(&mut self) -> Value {
        self.last_value += 1;
        self.last_value
    }

    pub(super) fn any_key(&mut self) -> Key {
        let number = self.rng.usize(0..self.options.keys);
        key(number)
    }

    /// The commit of an id, as the store has it.
    pub(super) fn committed(&self, id: &BaseId) -> Option<Arc<Commit>> {
        let outcome = match &self.anna {
            Some(anna) => anna.outcome(id),
            None => self.store.outcome_now(id),
        };
        match outcome {
            Some(Outcome::Committed(commit)) => Some(commit),
            _ => None,
        }
    }

    fn now(&self) -> Now {
        let elapsed = u64::try_from(self.elapsed.as_nanos()).unwrap_or(u64::MAX);
        let wall_ns = EPOCH_NS.saturating_add(elapsed).saturating_add_signed(self.wall_offset_ns);
        Now { wall_ns, elapsed: self.elapsed }
    }

    fn handle(&mut self, event: Event) {
        self.note(&event);
        if let Event::Start { ticket, .. }
        | Event::Get { ticket, .. }
        | Event::Put { ticket, .. }
        | Event::Commit { ticket, .. }
        | Event::Abort { ticket, .. }
        | Event::Continue { ticket, .. } = &event
            && self.node.is_some()
        {
            self.open.insert(*ticket, self.elapsed);
        }
        let now = self.now();
        let Some(node) = &mut self.node else { return };
        let mut effects = Vec::new();
        node.handle(now, event, &mut effects);
        // A node may die between any two of its effects, and before the first and after the last.
        let dies = self.rng.f64() < self.weather.crash;
        let survived = if dies { self.rng.usize(0..=effects.len()) } else { effects.len() };
        for effect in effects.into_iter().take(survived) {
            self.act(effect);
        }
        if dies {
            self.crash();
        }
    }

    fn act(&mut self, effect: Effect) {
        self.note(&effect);
        match effect {
            Effect::Reply { ticket, answer } => {
                if self.open.remove(&ticket).is_none() {
                    self.broken("answered once", format!("{ticket:?} was answered again"));
                }
                if self.rng.f64() >= self.weather.lose_answer {
                    let delay = Duration::from_micros(self.rng.u64(20..300));
                    self.after(delay, Happening::Answer { ticket, answer });
                }
            }
            Effect::Store { op, ask } => self.store_is_asked(op, ask),
            Effect::Ended { attempt, end: End::ReadOnly } => {
                self.history.without_effect.insert(attempt.base());
            }
            Effect::Ended { .. } => {}
            Effect::Expect(_) | Effect::Send { .. } | Effect::Quarantined(_) => {}
        }
    }

    fn store_is_asked(&mut self, op: OpId, ask: Ask) {
        if self.anna.is_some() {
            return self.with_anna(|anna| anna.ask(op, ask));
        }
        let (weather, incarnation) = (&self.weather, self.incarnation);
        let longest_us = if self.rng.f64() < weather.slow { 8_000_000 } else { 5_000 };
        let is_commit = matches!(ask, Ask::Commit(_));
        let dice = self.rng.f64();
        let mut threshold = 0.0;
        let mut falls_below = |share: f64| {
            threshold += share;
            dice < threshold
        };
        let before = falls_below(weather.fail_before);
        let after = falls_below(weather.fail_after);
        let then_do = falls_below(weather.fail_then_do);
        let refuse = falls_below(if is_commit { weather.refuse } else { 0.0 });
        let soon = Duration::from_micros(self.rng.u64(50..longest_us));
        if before || refuse {
            let result = failed(&ask, refuse);
            return self.after(soon, Happening::Done { op, result, incarnation });
        }
        if then_do {
            let result = failed(&ask, false);
            self.after(soon, Happening::Done { op, result, incarnation });
            let late = soon + Duration::from_micros(self.rng.u64(0..10_000_000));
            let report = Telling::Silence;
            return self.after(late, Happening::Do { op, ask, incarnation, report });
        }
        let report = if after { Telling::Failure } else { Telling::Truth };
        self.after(soon, Happening::Do { op, ask, incarnation, report });
    }

    fn store_does(&mut self, op: OpId, ask: Ask, incarnation: u64, report: Telling) {
        let failure = failed(&ask, false);
        let truth = match ask {
            Ask::Commit(batch) => {
                let id = batch.commit.version.writer.base();
                let is_news = self.store.outcome_now(&id).is_none();
                let outcome = self.store.commit_now(batch.clone());
                if is_news && outcome.is_ok() {
                    let (at, values) = (self.elapsed, Vec::new());
                    self.history.landed.push(Landed { commit: batch.commit, at, values });
                }
                StoreResult::Decided(outcome)
            }
            Ask::SettleAborted(id) => StoreResult::Decided(Ok(self.store.settle_aborted_now(&id))),
            Ask::Outcome(id) => StoreResult::Outcome(Ok(self.store.outcome_now(&id))),
            Ask::Versions(wanted) => StoreResult::Versions(Ok(self.store.versions_now(&wanted))),
            Ask::Plain(keys) => StoreResult::Plain(Ok(self.store.plain_now(&keys))),
            // Clients of the simulation do not.
            Ask::Merge(values) => StoreResult::Merged(vec![Ok(()); values.len()]),
            Ask::Publish { key, version, value } => {
                self.store.publish_now(&key, &version, &value);
                StoreResult::Published(Ok(()))
            }
        };
        let result = match report {
            Telling::Truth => truth,
            Telling::Failure => failure,
            Telling::Silence => return,
        };
        let delay = Duration::from_micros(self.rng.u64(50..5_000));
        self.after(delay, Happening::Done { op, result, incarnation });
    }

    /// Does something with the simulated Anna, and what follows from it.
    fn with_anna(&mut self, act: impl FnOnce(&mut Anna)) {
        if let Some(anna) = &mut self.anna {
            act(anna);
        }
        self.poll_anna();
    }

    fn poll_anna(&mut self) {
        let Some(anna) = &mut self.anna else { return };
        let (ended, calls) = anna.poll();
        for end in ended {
            self.ended(end);
        }
        for (number, call) in calls {
            self.called(number, call);
        }
    }

    fn ended(&mut self, end: Ended) {
        let incarnation = self.incarnation;
        match end {
            Ended::Asked(op, result) => {
                self.after(Duration::ZERO, Happening::Done { op, result, incarnation });
            }
            Ended::Followed(page) => {
                if let Ok(LogPage { commits, next, .. }) = page {
                    if let Some(anna) = &mut self.anna {
                        anna.followed_to(next);
                    }
                    self.after(Duration::ZERO, Happening::Learned { commits, incarnation });
                }
                self.after(FOLLOWED_EACH, Happening::Follow { incarnation });
            }
            Ended::ClearedUp(Ok(commits)) => {
                self.after(Duration::ZERO, Happening::Learned { commits, incarnation });
            }
            Ended::ClearedUp(Err(_)) => {
                self.after(FOLLOWED_EACH, Happening::ClearUp { incarnation });
            }
        }
    }

    /// A call of the simulated Anna sets out.
    fn called(&mut self, number: u64, call: Call) {
        let longest_us = if self.rng.f64() < self.weather.slow { 2_000_000 } else { 2_000 };
        let soon = Duration::from_micros(self.rng.u64(50..longest_us));
        let weather = &self.weather;
        let dice = self.rng.f64();
        let (before, after) = (weather.fail_before, weather.fail_before + weather.fail_after);
        let then_do = after + weather.fail_then_do;
        let failed = || Err(StorageError::Unconfirmed("simulated".to_owned()));
        if dice < before {
            let refused = self.rng.bool();
            let result =
                if refused { Err(StorageError::Refused("simulated".to_owned())) } else { failed() };
            return self.after(soon, Happening::Returned { number, result });
        }
        if dice < after {
            return self.after(soon, Happening::Apply { number, call, report: Telling::Failure });
        }
        if dice < then_do {
            self.after(soon, Happening::Returned { number, result: failed() });
            let late = soon + Duration::from_micros(self.rng.u64(0..3_000_000));
            let report = Telling::Silence;
            return self.after(late, Happening::Apply { number, call, report });
        }
        self.after(soon, Happening::Apply { number, call, report: Telling::Truth });
    }

    fn apply(&mut self, number: u64, call: Call, report: Telling) {
        self.note(&call);
        let Some(anna) = &self.anna else { return };
        let id = anna::outcome_id(&call);
        let forget = self.options.flaw == Some(Flaw::Forgetful) && self.rng.u32(0..100) == 0;
        let blind = self.options.flaw == Some(Flaw::Trusting) && anna::reads_promise(&call);
        let found = if forget || blind { None } else { anna.apply(call) };
        if let Some(commit) = id.and_then(|id| self.committed(&id)) {
            self.landed(commit);
        }
        let result = match report {
            Telling::Truth => Ok(found),
            Telling::Failure => Err(StorageError::Unconfirmed("simulated".to_owned())),
            Telling::Silence => return,
        };
        let delay = Duration::from_micros(self.rng.u64(50..2_000));
        self.after(delay, Happening::Returned { number, result });
    }

    fn landed(&mut self, commit: Arc<Commit>) {
        if self.history.landed.iter().all(|landed| landed.commit != commit) {
            let (at, values) = (self.elapsed, Vec::new());
            self.history.landed.push(Landed { commit, at, values });
        }
    }

    fn crash(&mut self) {
        self.node = None;
        Client::notice_crash(self);
        if let Some(anna) = &mut self.anna {
            anna.crash();
            self.hold_up_writes();
        }
        self.open.clear();
        self.report.crashes += 1;
        let delay = Duration::from_millis(self.rng.u64(1..3_000));
        self.after(delay, Happening::Restart);
    }

    /// What the dead node sent may take its time.
    fn hold_up_writes(&mut self) {
        let is_write = |happening: &Happening| {
            matches!(happening, Happening::Apply { call: Call::Put(..), .. })
        };
        let sent: Vec<_> =
            self.queue.iter().filter(|(_, h)| is_write(h)).map(|(at, _)| *at).collect();
        for at in sent {
            if self.rng.bool()
                && let Some(write) = self.queue.remove(&at)
            {
                let delay = Duration::from_micros(self.rng.u64(0..LATEST_US));
                self.after(delay, write);
            }
        }
    }

    fn restart(&mut self) {
        self.incarnation += 1;
        // Another boot, another wall clock.
        self.wall_offset_ns = self.rng.i64(-3_600_000_000_000..3_600_000_000_000);
        let small = self.rng.bool();
        let (commits, lands_within) = self.log_at_start();
        let config = NodeConfig {
            plain_keys: true,
            idle_max: Duration::from_secs(2),
            lifetime_max: Duration::from_secs(8),
            // So small that versions have to be fetched, and outcomes asked for.
            cache_bytes_max: if small { 500 } else { 1 << 20 },
            ended_max: if small { 4 } else { 1_000 },
            ..NodeConfig::default()
        };
        let mut node = Node::new(config, (self.consistency)(), self.rng.u64(..));
        let now = self.now();
        for commit in &commits {
            node.load(now, commit);
        }
        self.node = Some(node);
        if self.anna.is_some() {
            let incarnation = self.incarnation;
            self.after(FOLLOWED_EACH, Happening::Follow { incarnation });
            let late = lands_within.unwrap_or_default();
            self.after(late, Happening::ClearUp { incarnation });
        }
    }

    /// What a node reads before it serves, and how long it lets the logs of its predecessors be.
    fn log_at_start(&mut self) -> (Vec<Arc<Commit>>, Option<Duration>) {
        if let Some(anna) = &mut self.anna {
            let (commits, lands_within) = anna.open(self.incarnation);
            // To read an outcome can be to decide it.
            commits.iter().for_each(|commit| self.landed(commit.clone()));
            return (commits, lands_within);
        }
        let (mut commits, mut position) = (Vec::new(), LogPosition::default());
        while let Ok(page) = self.store.commits_since_now(&position) {
            commits.extend(page.commits);
            position = page.next;
            if page.end {
                break;
            }
        }
        (commits, None)
    }

    fn write_past_the_sidecar(&mut self) {
        let (key, value) = (self.any_key(), self.new_value());
        self.history.foreign.insert(value, key.clone());
        // Some clocks are behind those of the sidecar, some ahead.
        let timestamp = EPOCH_NS + self.rng.u64(0..200) * 1_000_000_000;
        if let Some(anna) = &self.anna {
            let value = encode(value);
            anna.apply(Call::Put(key.to_string(), Lattice::Lww { timestamp, value }));
        }
        self.store.plant_foreign(&key, timestamp, encode(value));
        if !self.clients.are_stopped() {
            let delay = Duration::from_millis(self.rng.u64(10..2_000));
            self.after(delay, Happening::Foreign);
        }
    }

    fn look_for_unanswered(&mut self) {
        let late = |since: &Duration| self.elapsed > *since + ANSWERED_WITHIN;
        let late: Vec<_> =
            self.open.iter().filter(|(_, since)| late(since)).map(|(t, _)| *t).collect();
        for ticket in late {
            self.open.remove(&ticket);
            self.broken("every request is answered", format!("{ticket:?} was not"));
        }
    }

    /// Long after the last request nothing runs and nothing is held.
    fn quiescent(&mut self) {
        let Some(node) = &self.node else {
            return self.broken("comes back", "the node stayed dead".to_owned());
        };
        let status = node.status();
        if !node.is_idle() || status.buffered_bytes != 0 {
            self.broken("bounded", format!("long after the last request: {status:?}"));
        }
    }

    /// Writes down what the store holds in the end.
    fn collect(&mut self) {
        for landed in &mut self.history.landed {
            let version = &landed.commit.version;
            let names: Vec<_> =
                landed.commit.keys.iter().map(|w| (w.key.clone(), version.clone())).collect();
            let values = match &mut self.anna {
                Some(anna) => anna.versions(&names),
                None => self.store.versions_now(&names),
            };
            landed.values = values.into_iter().map(|v| decode(&v?)).collect();
        }
        let keys: Vec<_> = (0..self.options.keys).map(key).collect();
        let plain = match &mut self.anna {
            Some(anna) => anna.plain(&keys),
            None => self.store.plain_now(&keys),
        };
        for (key, plain) in keys.iter().zip(plain) {
            let Some(plain) = plain else { continue };
            let Some(value) = decode(&plain.value) else {
                continue;
            };
            self.history.plain.push((key.clone(), value, plain.published));
        }
    }

    /// Whoever starts next learns from the logs what clients were told has committed.
    fn logged(&mut self) {
        let Some(anna) = &mut self.anna else { return };
        let mut newest: BTreeMap<Key, Version> = BTreeMap::new();
        for commit in anna.logged() {
            for written in &commit.keys {
                let version =
                    newest.entry(written.key.clone()).or_insert_with(|| commit.version.clone());
                *version = version.clone().max(commit.version.clone());
            }
        }
        let told =
            self.history.attempts.iter().filter(|a| a.verdicts.contains(&Verdict::Committed));
        let told: BTreeSet<_> = told.filter_map(|a| Some(a.id.as_ref()?.base())).collect();
        let mut lost = Vec::new();
        for landed in &self.history.landed {
            let version = &landed.commit.version;
            let missing = |key: &Key| newest.get(key).is_none_or(|known| known < version);
            if told.contains(&version.writer.base())
                && let Some(written) = landed.commit.keys.iter().find(|w| missing(&w.key))
            {
                lost.push(format!("{} at {version:?} is in no log", written.key));
            }
        }
        lost.into_iter().for_each(|what| self.broken("nothing lost", what));
    }

    fn broken(&mut self, promise: &'static str, what: String) {
        self.report.violations.push(Violation { promise, what });
    }

    fn note(&mut self, what: &impl std::fmt::Debug) {
        let line = format!("{:?} {what:?}", self.elapsed);
        if self.options.trace {
            println!("{line}");
        }
        self.fingerprint.write(line.as_bytes());
    }
}

static SEEDLESS: std::sync::LazyLock<FixedState> =
    std::sync::LazyLock::new(|| FixedState::with_seed(0));

impl Weather {
    fn draw(rng: &mut Rng) -> Self {
        let mut share = |most: f64| if rng.bool() { rng.f64() * most } else { 0.0 };
        Self {
            fail_before: share(0.2),
            fail_after: share(0.2),
            fail_then_do: share(0.15),
            refuse: share(0.15),
            slow: share(0.3),
            crash: share(0.03),
            lose_answer: share(0.05),
        }
    }

    fn calm() -> Self {
        Self {
            fail_before: 0.0,
            fail_after: 0.0,
            fail_then_do: 0.0,
            refuse: 0.0,
            slow: 0.0,
            crash: 0.0,
            lose_answer: 0.0,
        }
    }
}

fn failed(ask: &Ask, refused: bool) -> StoreResult {
    let error = if refused {
        StorageError::Refused("simulated".to_owned())
    } else {
        StorageError::Unconfirmed("simulated".to_owned())
    };
    match ask {
        Ask::Commit(_) | Ask::SettleAborted(_) => StoreResult::Decided(Err(error)),
        Ask::Outcome(_) => StoreResult::Outcome(Err(error)),
        Ask::Versions(_) => StoreResult::Versions(Err(error)),
        Ask::Plain(_) => StoreResult::Plain(Err(error)),
        Ask::Publish { .. } => StoreResult::Published(Err(error)),
        Ask::Merge(values) => StoreResult::Merged(vec![Err(error); values.len()]),
    }
}

fn key(number: usize) -> Key {
    // The number is never empty, so it is a key.
    Key::parse(&format!("k{number}")).unwrap_or_else(|_| unreachable!())
}

pub(super) fn encode(value: Value) -> Bytes {
    Bytes::copy_from_slice(&value.to_be_bytes())
}

pub(super) fn decode(bytes: &[u8]) -> Option<Value> {
    Some(Value::from_be_bytes(bytes.try_into().ok()?))
}
