//! One node's life: it starts, is given events, dies between any two effects, comes back with another
//! incarnation and another wall clock, or is stopped for a while without noticing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::anna::{Anna, Call};
use super::network::address;
use super::world::{EPOCH_NS, Happening, World};
use super::{Flaw, Options, StoreKind, clients};
use fastrand::Rng;

use crate::node::{Address, Effect, End, Event, Node, NodeConfig, Now, PeerMessage, Ticket};
use crate::storage::{LogPage, LogPosition};
use crate::txn::Commit;

/// The most nodes of a run.
pub const SITES_MAX: usize = 9;
/// How often a node looks for commits of others in the store.
pub(super) const FOLLOWED_EACH: Duration = Duration::from_secs(1);
/// What a dead node sent lands within so many microseconds: longer than any node lives.
const LATEST_US: u64 = 60_000_000;
/// A node answers within this time, if it lives: a commit that was asked for at the wrong node waits for
/// another node first.
const ANSWERED_WITHIN: Duration = Duration::from_secs(13);
/// How far ahead of their own clock nodes believe each other.
const CLOCK_BOUND: Duration = Duration::from_secs(60);
/// A clock that is right is off by less than this.
const RIGHT_CLOCK_NS: i64 = 25_000_000_000;
/// Longer than the last retry comes late. Clocks that are wrong are so by less.
pub(super) const RETRY_WINDOW: Duration = Duration::from_secs(7200);
const SWEPT_EACH: Duration = Duration::from_secs(5);
const NEVER: Duration = Duration::from_secs(1_000_000);
const TRANSACTION_LIFE: Duration = Duration::from_secs(8);
const WRONG_CLOCK_NS: i64 = 3_600_000_000_000;

/// A place where a node runs, most of the time.
pub(super) struct Site {
    pub(super) address: Address,
    pub(super) node: Option<Node>,
    /// Takes the store's place.
    pub(super) anna: Option<Anna>,
    /// Which of the lives of all nodes this is.
    pub(super) life: u64,
    clock: WallClock,
    /// Requests the node has not answered, and since when.
    open: BTreeMap<Ticket, Duration>,
    /// How far the store's log was followed.
    position: LogPosition,
    /// What waits for a node that is stopped.
    frozen: Option<Vec<Happening>>,
    /// It has died and does not come back.
    pub(super) is_buried: bool,
}

/// A wall clock that is wrong.
#[derive(Default)]
struct WallClock {
    offset_ns: i64,
    /// Millionths by which it goes too fast.
    drift_ppm: i64,
}

impl WallClock {
    fn read(&self, elapsed: Duration) -> u64 {
        let elapsed = i64::try_from(elapsed.as_nanos()).unwrap_or(i64::MAX);
        let drift = elapsed / 1_000_000 * self.drift_ppm;
        EPOCH_NS.saturating_add_signed(elapsed + drift + self.offset_ns)
    }
}

impl Site {
    pub(super) fn all(options: &Options) -> Vec<Self> {
        let objects = Arc::default();
        let on_anna = options.store == StoreKind::Anna;
        let site = |number| Self {
            address: address(number),
            node: None,
            anna: on_anna.then(|| Anna::new(&objects, &address(number), options.garbage)),
            life: 0,
            clock: WallClock::default(),
            open: BTreeMap::new(),
            position: LogPosition::default(),
            frozen: None,
            is_buried: false,
        };
        (0..options.nodes.clamp(1, SITES_MAX)).map(site).collect()
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        if self.frozen.is_some() {
            return None;
        }
        self.node.as_ref().and_then(Node::next_deadline)
    }

    /// Nothing is under way here.
    pub(super) fn is_at_rest(&self) -> bool {
        if self.is_buried {
            return true;
        }
        let is_idle = self.node.as_ref().is_some_and(Node::is_idle);
        is_idle && self.frozen.is_none() && self.open.is_empty()
    }
}

impl World<'_> {
    pub(super) fn lives(&self, site: usize, life: u64) -> bool {
        let site = &self.sites[site];
        site.node.is_some() && site.life == life
    }

    pub(super) fn now(&self, site: usize) -> Now {
        let wall_ns = self.sites[site].clock.read(self.elapsed);
        Now { wall_ns, elapsed: self.elapsed }
    }

    pub(super) fn life(&self, site: usize) -> u64 {
        self.sites[site].life
    }

    pub(super) fn restart(&mut self, number: usize) {
        if self.sites[number].is_buried {
            return;
        }
        self.lives += 1;
        let life = self.lives;
        let clock = self.draw_clock();
        let small = self.rng.bool();
        let (commits, lands_within) = self.log_at_start(number, life);
        let config = NodeConfig {
            address: address(number),
            incarnation: life.to_string().into(),
            node_tag: number as u64,
            clock_bound: CLOCK_BOUND,
            plain_keys: true,
            has_peers: self.sites.len() > 1,
            idle_max: Duration::from_secs(2),
            lifetime_max: TRANSACTION_LIFE,
            // So small that versions have to be fetched, and outcomes asked for.
            cache_bytes_max: if small { 500 } else { 1 << 20 },
            ended_max: if small && self.sites.len() == 1 { 4 } else { 1_000 },
            collects: self.options.garbage,
            index_keys_max: if small { 2 } else { 1_000 },
            collect_each: Duration::from_millis(100),
            sweep_each: if self.options.flaw == Some(Flaw::Hoarding) { NEVER } else { SWEPT_EACH },
            retry_window: RETRY_WINDOW,
            ..NodeConfig::default()
        };
        let mut node = Node::new(config, (self.consistency)(), self.rng.u64(..));
        let site = &mut self.sites[number];
        (site.life, site.clock, site.frozen) = (life, clock, None);
        let now = self.now(number);
        for commit in &commits {
            node.load(now, commit);
        }
        self.sites[number].node = Some(node);
        if self.sites.len() > 1 || self.options.store == StoreKind::Anna {
            self.after(FOLLOWED_EACH, Happening::Follow { site: number, life });
        }
        if self.options.store == StoreKind::Anna {
            let late = lands_within.unwrap_or_default();
            self.after(late, Happening::ClearUp { site: number, life });
        }
        if self.sites.len() > 1 {
            let event = Event::Members((0..self.sites.len()).map(address).collect());
            let slow = self.rng.u32(0..10) == 0;
            let delay = Duration::from_micros(self.rng.u64(..if slow { 2_000_000 } else { 500 }));
            self.after(delay, Happening::Arrive { site: number, life: Some(life), event });
        }
    }

    fn draw_clock(&mut self) -> WallClock {
        let is_wrong = self.rng.f64() < self.weather.wrong_clock;
        let most = if is_wrong { WRONG_CLOCK_NS } else { RIGHT_CLOCK_NS };
        let drift = if is_wrong { 20_000 } else { 300 };
        WallClock { offset_ns: self.rng.i64(-most..most), drift_ppm: self.rng.i64(-drift..drift) }
    }

    /// What a node reads before it serves, and how long it lets the logs of its predecessors be.
    fn log_at_start(&mut self, number: usize, life: u64) -> (Vec<Arc<Commit>>, Option<Duration>) {
        if let Some(anna) = &mut self.sites[number].anna {
            let (commits, lands_within) = anna.open(life);
            let read = commits.clone();
            // To read an outcome can be to decide it.
            commits.into_iter().for_each(|commit| self.land_on_anna(commit));
            return (read, lands_within);
        }
        let (mut commits, mut position) = (Vec::new(), LogPosition::default());
        while let Ok(page) = self.store.commits_since_now(&position) {
            commits.extend(page.commits);
            position = page.next;
            if page.end {
                break;
            }
        }
        self.sites[number].position = position;
        (commits, None)
    }

    /// A node looks for commits of others in the store.
    pub(super) fn follow(&mut self, number: usize) {
        if self.options.store == StoreKind::Anna {
            return self.follow_on_anna(number);
        }
        let life = self.sites[number].life;
        self.after(FOLLOWED_EACH, Happening::Follow { site: number, life });
        if self.rng.f64() < self.weather.blind {
            return;
        }
        let page = self.store.commits_since_now(&self.sites[number].position);
        let begins = Event::LogIsBeingRead;
        self.after(
            Duration::ZERO,
            Happening::Arrive { site: number, life: Some(life), event: begins },
        );
        let Ok(LogPage { commits, next, .. }) = page else { return };
        self.sites[number].position = next;
        let delay = Duration::from_micros(self.rng.u64(50..5_000));
        if self.options.flaw == Some(Flaw::Unread) {
            let event = Event::LogWasRead;
            return self.after(delay, Happening::Arrive { site: number, life: Some(life), event });
        }
        for event in [Event::Learned(commits), Event::LogWasRead] {
            self.after(delay, Happening::Arrive { site: number, life: Some(life), event });
        }
    }

    pub(super) fn handle(&mut self, number: usize, event: Event) {
        let ticket = ticket_of(&event);
        self.note(number, ticket.map_or(0, |ticket| ticket.0), &event);
        let now = self.now(number);
        let elapsed = self.elapsed;
        // Gossip and ticks are so many that they would be all that nodes die of.
        let is_frequent = matches!(
            event,
            Event::Tick
                | Event::Peer(
                    PeerMessage::Commits(_) | PeerMessage::Grace(_) | PeerMessage::Graced(_)
                )
                | Event::Learned(_)
                | Event::LogIsBeingRead
                | Event::LogWasRead
        );
        let weight = if is_frequent { 0.02 } else { 1.0 };
        let site = &mut self.sites[number];
        if let Some(ticket) = ticket
            && site.node.is_some()
        {
            site.open.insert(ticket, elapsed);
        }
        self.watch_commit(&event);
        let Some(node) = &mut self.sites[number].node else { return };
        let mut effects = Vec::new();
        node.handle(now, event, &mut effects);
        // A node may die between any two of its effects, and before the first and after the last.
        let dies = self.rng.f64() < self.weather.crash * weight;
        let survived = if dies { self.rng.usize(0..=effects.len()) } else { effects.len() };
        for effect in effects.into_iter().take(survived) {
            self.act(number, effect);
        }
        if dies {
            self.crash(number);
        } else if self.rng.f64() < self.weather.freeze * weight {
            self.freeze(number);
        }
    }

    fn act(&mut self, number: usize, effect: Effect) {
        self.note_travels(number, &effect);
        match effect {
            Effect::Reply { ticket, answer } => {
                self.note(number, ticket.0, &"reply");
                if self.sites[number].open.remove(&ticket).is_none() {
                    self.broken("answered once", format!("{ticket:?} was answered again"));
                }
                if !self.was_answered_early(ticket) {
                    self.tell(ticket, answer);
                }
            }
            Effect::Store { op, ask } => {
                self.note(number, op.0, &ask);
                self.store_is_asked(number, op, ask);
            }
            Effect::Send { to, message } => {
                self.note(number, 0, &message);
                self.send(number, &to, message);
            }
            Effect::Ended { attempt, end } => {
                self.note(number, 0, &(&attempt, &end));
                if matches!(end, End::ReadOnly) {
                    self.history.without_effect.insert(attempt.base());
                }
            }
            Effect::Expect(_) | Effect::Quarantined(_) => {}
        }
    }

    /// An answer sets out to its client.
    pub(super) fn tell(&mut self, ticket: Ticket, answer: crate::node::Answer) {
        if self.rng.f64() >= self.weather.lose_answer {
            let delay = Duration::from_micros(self.rng.u64(20..300));
            self.after(delay, Happening::Answer { ticket, answer });
        }
    }

    /// Counts the transactions of a node's life that needed a version that was gone.
    pub(super) fn count_gone(&mut self, number: usize) {
        let node = self.sites[number].node.as_ref();
        self.report.gone += node.map_or(0, |node| node.status().garbage.gone);
    }

    /// A node dies for ever.
    pub(super) fn bury(&mut self, number: usize) {
        self.note(number, 0, &"bury");
        self.count_gone(number);
        let site = &mut self.sites[number];
        (site.node, site.frozen, site.is_buried) = (None, None, true);
        site.open.clear();
        if self.options.flaw == Some(Flaw::Haunted) {
            self.haunt(number);
        }
    }

    fn crash(&mut self, number: usize) {
        self.note(number, 0, &"crash");
        self.count_gone(number);
        let site = &mut self.sites[number];
        site.node = None;
        site.open.clear();
        if let Some(anna) = &mut site.anna {
            anna.crash();
            self.hold_up_writes(number);
        }
        clients::notice_crash(self, number);
        self.report.crashes += 1;
        let delay = Duration::from_millis(self.rng.u64(1..3_000));
        self.after(delay, Happening::Restart { site: number });
    }

    /// What the dead node sent may take its time.
    fn hold_up_writes(&mut self, number: usize) {
        let is_write = |happening: &Happening| matches!(happening, Happening::Apply { site, call: Call::Put(..), .. } if *site == number);
        let late = |rng: &mut Rng| Duration::from_micros(rng.u64(0..LATEST_US));
        self.put_off(is_write, |rng| rng.bool().then(|| late(rng)));
    }

    /// A node is stopped, often for longer than any of its time-outs.
    fn freeze(&mut self, number: usize) {
        self.note(number, 0, &"freeze");
        self.report.freezes += 1;
        let site = &mut self.sites[number];
        let life = site.life;
        site.frozen = Some(Vec::new());
        let most = if self.rng.bool() { 500 } else { 15_000 };
        let delay = Duration::from_millis(self.rng.u64(1..most));
        self.after(delay, Happening::Thaw { site: number, life });
    }

    pub(super) fn thaw(&mut self, number: usize) {
        self.note(number, 0, &"thaw");
        let site = &mut self.sites[number];
        // What could not be answered is answered now.
        site.open.values_mut().for_each(|since| *since = (*since).max(self.elapsed));
        for happening in site.frozen.take().unwrap_or_default() {
            self.after(Duration::ZERO, happening);
        }
    }

    /// What happens to a stopped node happens when it goes on.
    pub(super) fn hold_if_frozen(&mut self, happening: Happening) -> Option<Happening> {
        let (Happening::Arrive { site, .. }
        | Happening::Returned { site, .. }
        | Happening::Follow { site, .. }
        | Happening::ClearUp { site, .. }) = &happening
        else {
            return Some(happening);
        };
        match &mut self.sites[*site].frozen {
            Some(held) => {
                held.push(happening);
                None
            }
            None => Some(happening),
        }
    }

    pub(super) fn look_for_unanswered(&mut self) {
        let elapsed = self.elapsed;
        let mut late = Vec::new();
        for site in self.sites.iter_mut().filter(|site| site.frozen.is_none()) {
            site.open.retain(|ticket, since| {
                let is_late = elapsed > *since + ANSWERED_WITHIN;
                late.extend(is_late.then_some(*ticket));
                !is_late
            });
        }
        for ticket in late {
            self.broken("every request is answered", format!("{ticket:?} was not"));
        }
    }

    /// Commits before this, as a timestamp, have taken the place of what they superseded by the time that a
    /// sweep of this node is over.
    pub(super) fn swept_to(&self, number: usize) -> u64 {
        let age = TRANSACTION_LIFE + CLOCK_BOUND + Duration::from_secs(15);
        let age = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
        self.now(number).wall_ns.saturating_sub(age)
    }

    /// How far ahead of its clock a commit of another node may be for this one to read it, as a timestamp.
    pub(super) fn believes_to(&self, number: usize) -> u64 {
        let bound = u64::try_from(CLOCK_BOUND.as_nanos()).unwrap_or(u64::MAX);
        self.now(number).wall_ns.saturating_add(bound)
    }
}

fn ticket_of(event: &Event) -> Option<Ticket> {
    match event {
        Event::Start { ticket, .. }
        | Event::Get { ticket, .. }
        | Event::Put { ticket, .. }
        | Event::Commit { ticket, .. }
        | Event::Abort { ticket, .. }
        | Event::Continue { ticket, .. }
        | Event::Merge { ticket, .. } => Some(*ticket),
        Event::Learned(_)
        | Event::LogIsBeingRead
        | Event::LogWasRead
        | Event::Members(_)
        | Event::Listeners(_)
        | Event::Peer(_)
        | Event::Stored { .. }
        | Event::Tick
        | Event::Drain => None,
    }
}
