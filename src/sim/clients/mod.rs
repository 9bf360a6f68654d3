//! Clients: what they ask for, what they do with the answers, and what of it is written down for the
//! judge.
//!
//! [`single`] clients stay on one node with each transaction, [`dag`] clients run a transaction's
//! functions on many. Both do what clients should not: leave, come back too late, retry under one id,
//! work at one id at the same time, ask for outcomes again and again, and at the wrong node.

mod dag;
mod session;
mod single;

use std::collections::BTreeMap;
use std::time::Duration;

use self::dag::{Dag, Run};
use self::session::Session;
use self::single::Client;
use super::Options;
use super::history::{Attempt, Floor, Operation, Refused, Told, Value, Verdict, What};
use super::world::{Happening, World, decode, encode};
use crate::node::{Answer, Event, ReadValue, Refusal, Ticket, Token};
use crate::txn::{AttemptId, BaseId, Key};

/// A client gives up waiting for an answer after this time.
const PATIENCE: Duration = Duration::from_secs(12);

/// Whoever makes requests, one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Actor {
    /// A client that stays on one node with each transaction.
    Client(usize),
    /// A client whose transactions run on many nodes.
    Dag(usize),
    /// One run of a function of such a transaction.
    Run(usize),
    /// Somebody who looks what can be read in the end.
    Probe(usize),
}

/// All clients of a run.
pub(super) struct Clients {
    clients: Vec<Client>,
    dags: Vec<Dag>,
    runs: Vec<Run>,
    /// Questions of those who look in the end.
    probes: Vec<Option<Outstanding>>,
    waiting: BTreeMap<Ticket, (Actor, Asked)>,
    stopped: bool,
    named: usize,
}

#[derive(Debug, Clone, Copy)]
struct Outstanding {
    ticket: Ticket,
    site: usize,
    until: Duration,
}

/// What was asked for, as far as the answer is written down.
enum Asked {
    Start {
        id: Option<BaseId>,
        site: usize,
        floor: Floor,
    },
    /// Of which attempt, and as which of its operations.
    Get {
        place: usize,
        operation: usize,
    },
    Put {
        place: usize,
        operation: usize,
    },
    Continue {
        place: usize,
        operation: usize,
    },
    Outcome {
        place: usize,
        site: usize,
    },
}

/// What an answer means to whoever asked.
enum Heard {
    /// The attempt, as a place in the history, runs.
    Started(usize),
    /// None was begun.
    NotStarted,
    /// What was asked for was done.
    Done,
    /// It was not, or nobody knows; it may be asked for again.
    Unclear,
    /// The attempt is over.
    Over,
}

impl Clients {
    pub(super) fn new(options: &Options) -> Self {
        let dags = if options.dag { options.clients.div_ceil(2) } else { 0 };
        let clients = options.clients - dags;
        Self {
            clients: (0..clients).map(|me| Client::new(me % options.nodes)).collect(),
            dags: (0..dags).map(|_| Dag::default()).collect(),
            runs: Vec::new(),
            probes: vec![None; options.nodes],
            waiting: BTreeMap::new(),
            stopped: false,
            named: 0,
        }
    }

    /// No client does anything new from here on.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
    }

    pub(super) fn are_stopped(&self) -> bool {
        self.stopped
    }

    /// An id that other clients may be using too.
    fn shared_id(&mut self) -> Option<BaseId> {
        self.named += 1;
        BaseId::parse(&format!("shared-{}", self.named / 3)).ok()
    }

    fn actors(&self) -> impl Iterator<Item = Actor> + use<> {
        let clients = (0..self.clients.len()).map(Actor::Client);
        clients.chain((0..self.dags.len()).map(Actor::Dag))
    }

    fn outstanding(&mut self, actor: Actor) -> &mut Option<Outstanding> {
        match actor {
            Actor::Client(me) => &mut self.clients[me].outstanding,
            Actor::Dag(me) => &mut self.dags[me].outstanding,
            Actor::Run(me) => &mut self.runs[me].outstanding,
            Actor::Probe(site) => &mut self.probes[site],
        }
    }

    fn session(&mut self, actor: Actor) -> Option<&mut Session> {
        match actor {
            Actor::Client(me) => Some(&mut self.clients[me].session),
            Actor::Dag(me) => Some(&mut self.dags[me].session),
            Actor::Run(_) | Actor::Probe(_) => None,
        }
    }
}

/// All clients begin.
pub(super) fn set_out(world: &mut World<'_>) {
    for (number, actor) in world.clients.actors().enumerate() {
        world.after(Duration::from_millis(number as u64), Happening::Step(actor));
    }
}

/// A node died, and some clients notice before their patience is over.
pub(super) fn notice_crash(world: &mut World<'_>, site: usize) {
    let waiting: Vec<_> = world.clients.waiting.values().map(|(actor, _)| *actor).collect();
    for actor in waiting {
        let delay = Duration::from_millis(world.rng.u64(0..4_000));
        let until = world.elapsed + delay;
        let notices = world.rng.bool();
        if let Some(outstanding) = world.clients.outstanding(actor)
            && outstanding.site == site
            && notices
        {
            outstanding.until = outstanding.until.min(until);
            world.after(delay, Happening::Step(actor));
        }
    }
}

/// A client does its next step.
pub(super) fn step(world: &mut World<'_>, actor: Actor) {
    if world.clients.stopped {
        return;
    }
    let elapsed = world.elapsed;
    let outstanding = world.clients.outstanding(actor);
    if outstanding.is_some_and(|waiting| elapsed < waiting.until) {
        return;
    }
    // Whatever was asked was lost. What it did is not known.
    let lost = outstanding.take();
    if let Some(lost) = lost {
        world.clients.waiting.remove(&lost.ticket);
    }
    match actor {
        Actor::Client(me) => Client::next(world, me),
        Actor::Dag(me) => Dag::next(world, me),
        Actor::Run(me) => Run::next(world, me, lost.is_some()),
        Actor::Probe(_) => {}
    }
}

/// An answer has come.
pub(super) fn answered(world: &mut World<'_>, ticket: Ticket, answer: Answer) {
    // One that comes after the client gave up is recognised and dropped.
    let Some((actor, asked)) = world.clients.waiting.remove(&ticket) else {
        return;
    };
    *world.clients.outstanding(actor) = None;
    let heard = write_down(world, actor, asked, answer);
    match actor {
        Actor::Client(me) => Client::hears(world, me, heard),
        Actor::Dag(me) => Dag::hears(world, me, heard),
        Actor::Run(me) => Run::hears(world, me, heard),
        Actor::Probe(_) => return,
    }
    let pause = Duration::from_micros(world.rng.u64(10..3_000));
    world.after(pause, Happening::Step(actor));
}

fn write_down(world: &mut World<'_>, actor: Actor, asked: Asked, answer: Answer) -> Heard {
    match (asked, answer) {
        (Asked::Start { site, floor, .. }, Answer::Started(id)) => {
            Heard::Started(record(world, Some(id), site, floor))
        }
        (Asked::Start { id: Some(id), .. }, Answer::Decided { committed, .. }) => {
            start_decided(world, &id, committed);
            Heard::NotStarted
        }
        (Asked::Start { .. }, _) => Heard::NotStarted,
        (Asked::Get { place, operation }, Answer::Values(values)) => {
            note_reads(world, place, operation, &values);
            note_done(world, place, operation);
            Heard::Done
        }
        (
            Asked::Get { place, operation },
            Answer::Refused(Refusal::NoFit(key) | Refusal::Collected(key)),
        ) => {
            note_refused(world, place, operation, key);
            Heard::Over
        }
        (Asked::Put { place, operation }, Answer::Written(results)) => {
            if !results.iter().all(Result::is_ok) {
                return Heard::Unclear;
            }
            note_done(world, place, operation);
            let is_alone = world.history.attempts.get(place).is_some_and(|a| a.id.is_none());
            if is_alone {
                learn(world, actor, place, 0, Verdict::Committed, None);
            }
            Heard::Done
        }
        (Asked::Continue { place, operation }, Answer::Continued) => {
            note_done(world, place, operation);
            Heard::Done
        }
        (Asked::Outcome { place, site }, Answer::Decided { committed, why, token, .. }) => {
            let verdict = match (committed, why) {
                (true, _) => Verdict::Committed,
                (false, Some(Refusal::SettledAborted)) => Verdict::SettledAborted,
                (false, _) => Verdict::Aborted,
            };
            learn(world, actor, place, site, verdict, token);
            Heard::Over
        }
        (Asked::Outcome { .. }, _) => Heard::Unclear,
        (_, Answer::Refused(Refusal::Storage(_) | Refusal::Deadline(_))) => Heard::Unclear,
        _ => Heard::Over,
    }
}

/// Writes a new attempt into the history.
fn record(world: &mut World<'_>, id: Option<AttemptId>, site: usize, floor: Floor) -> usize {
    let attempt = Attempt { id, site, floor, operations: Vec::new(), verdicts: Vec::new() };
    world.history.attempts.push(attempt);
    world.history.attempts.len() - 1
}

/// Notes something that was asked for, as one of the operations of an attempt.
fn note_asked(world: &mut World<'_>, actor: Actor, place: usize, site: usize, what: What) -> usize {
    let asked = world.moment();
    let operation = Operation { site, asked, done: None, is_loose: false, what };
    note(world, actor, place, operation)
}

fn note(world: &mut World<'_>, actor: Actor, place: usize, mut operation: Operation) -> usize {
    let Some(attempt) = world.history.attempts.get_mut(place) else {
        return 0;
    };
    let number = attempt.operations.len();
    if let Actor::Run(me) = actor {
        let run = &mut world.clients.runs[me];
        run.operations.push(number);
        operation.is_loose = run.is_loose;
    }
    attempt.operations.push(operation);
    number
}

fn note_done(world: &mut World<'_>, place: usize, operation: usize) {
    let now = world.moment();
    let attempt = world.history.attempts.get_mut(place);
    if let Some(operation) = attempt.and_then(|attempt| attempt.operations.get_mut(operation)) {
        operation.done = Some(now);
    }
}

fn note_reads(world: &mut World<'_>, place: usize, operation: usize, values: &[ReadValue]) {
    let now = world.elapsed;
    let attempt = world.history.attempts.get_mut(place);
    let operation = attempt.and_then(|attempt| attempt.operations.get_mut(operation));
    if let Some(What::Read { seen, at }) = operation.map(|operation| &mut operation.what) {
        *at = now;
        for ((_, value), read) in seen.iter_mut().zip(values) {
            *value = read.value.as_deref().and_then(decode);
        }
    }
}

fn note_refused(world: &mut World<'_>, attempt: usize, operation: usize, key: Key) {
    let asked = world.history.attempts.get(attempt).and_then(|a| a.operations.get(operation));
    let node = asked.and_then(|asked| world.sites[asked.site].node.as_ref());
    let forgot = node.is_none_or(|node| node.status().garbage.heads > 0);
    let at = world.elapsed;
    world.history.refused.push(Refused { attempt, operation, key, forgot, at });
}

/// A verdict on an attempt: noted, and from here on the session knows of its commit.
fn learn(
    world: &mut World<'_>,
    actor: Actor,
    place: usize,
    site: usize,
    verdict: Verdict,
    token: Option<Token>,
) {
    let at = world.elapsed;
    let Some(attempt) = world.history.attempts.get_mut(place) else {
        return;
    };
    attempt.verdicts.push(Told { verdict, at });
    let Some(id) = attempt.id.clone().filter(|_| verdict == Verdict::Committed) else {
        return;
    };
    let told_by = world.address(site);
    // Without a token it may be an attempt without writes that was told of, and not that commit.
    let is_ambiguous = token.is_none() && world.history.without_effect.contains(&id.base());
    if let Some(commit) = world.committed(&id.base()).filter(|_| !is_ambiguous)
        && let Some(session) = world.clients.session(actor)
    {
        session.learn(commit, token, &told_by);
    }
}

/// A start was answered with the outcome of its id: every attempt of it that is on record was told.
fn start_decided(world: &mut World<'_>, id: &BaseId, committed: bool) {
    let at = world.elapsed;
    let of_id = |attempt: &&mut Attempt| attempt.id.as_ref().is_some_and(|a| a.base() == *id);
    let verdict = if committed { Verdict::Committed } else { Verdict::SettledAborted };
    // Only the attempts that wrote are judged; it is enough to tell one of them.
    if let Some(attempt) = world.history.attempts.iter_mut().rev().find(of_id) {
        attempt.verdicts.push(Told { verdict, at });
    }
}

/// The questions that all kinds of clients ask.
impl World<'_> {
    fn wait(&mut self, actor: Actor, site: usize, ticket: Ticket, asked: Asked) {
        let until = self.elapsed + PATIENCE;
        *self.clients.outstanding(actor) = Some(Outstanding { ticket, site, until });
        self.clients.waiting.insert(ticket, (actor, asked));
        self.after(PATIENCE, Happening::Step(actor));
    }

    fn ask_start(&mut self, actor: Actor, site: usize, id: Option<BaseId>) {
        let shows_tokens = self.rng.u32(0..100) < 80;
        let at = self.address(site);
        let (mut floor, mut after) = (Floor { promise: "", versions: BTreeMap::new() }, Vec::new());
        if let Some(session) = self.clients.session(actor) {
            floor = session.floor(&at, shows_tokens);
            after = if shows_tokens { session.tokens(&at) } else { after };
        }
        let named = id.clone();
        let ticket = self.request(site, |ticket| Event::Start { ticket, id: named, after });
        self.wait(actor, site, ticket, Asked::Start { id, site, floor });
    }

    fn ask_get(
        &mut self,
        actor: Actor,
        site: usize,
        place: usize,
        txn: Option<AttemptId>,
        keys: Vec<Key>,
    ) {
        let seen = keys.iter().map(|key| (key.clone(), None)).collect();
        let what = What::Read { seen, at: Duration::ZERO };
        let operation = note_asked(self, actor, place, site, what);
        let ticket = self.request(site, |ticket| Event::Get { ticket, txn, keys });
        self.wait(actor, site, ticket, Asked::Get { place, operation });
    }

    fn ask_put(&mut self, actor: Actor, site: usize, place: usize, txn: Option<AttemptId>) {
        let count = self.rng.usize(1..=3);
        let writes: Vec<(Key, Value)> =
            (0..count).map(|_| (self.any_key(), self.new_value())).collect();
        let sent = writes.iter().map(|(key, value)| (key.clone(), encode(*value))).collect();
        let operation = note_asked(self, actor, place, site, What::Write { writes });
        let ticket = self.request(site, |ticket| Event::Put { ticket, txn, writes: sent });
        self.wait(actor, site, ticket, Asked::Put { place, operation });
    }

    fn ask_commit(
        &mut self,
        actor: Actor,
        site: usize,
        place: usize,
        txn: AttemptId,
        named: Vec<usize>,
    ) {
        let addresses = named.iter().map(|named| self.address(*named)).collect();
        note_asked(self, actor, place, site, What::Commit { named });
        let ticket = self.request(site, |ticket| Event::Commit { ticket, txn, addresses });
        self.wait(actor, site, ticket, Asked::Outcome { place, site });
    }

    fn ask_abort(&mut self, actor: Actor, site: usize, place: usize, txn: AttemptId) {
        let ticket = self.request(site, |ticket| Event::Abort { ticket, txn });
        self.wait(actor, site, ticket, Asked::Outcome { place, site });
    }

    fn some_keys(&mut self) -> Vec<Key> {
        let count = self.rng.usize(1..=3);
        (0..count).map(|_| self.any_key()).collect()
    }

    fn name_of(&self, place: usize) -> Option<AttemptId> {
        self.history.attempts.get(place)?.id.clone()
    }

    /// Reads all keys at a node, where all that `floor` says must be seen.
    pub(super) fn probe(&mut self, site: usize, floor: Floor) {
        let place = record(self, None, site, floor);
        let keys = (0..self.options.keys).map(super::world::key).collect();
        self.ask_get(Actor::Probe(site), site, place, None, keys);
    }

    /// The nodes at which a probe was not answered.
    pub(super) fn open_probes(&self) -> Vec<usize> {
        let open = self.clients.probes.iter().enumerate();
        open.filter_map(|(site, probe)| probe.is_some().then_some(site)).collect()
    }
}
