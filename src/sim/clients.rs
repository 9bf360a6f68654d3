//! Clients that do what clients do, and what they should not: leave, come back too late, retry under
//! one id, work at one id at the same time, ask for outcomes again and again.

use std::collections::BTreeMap;
use std::time::Duration;

use super::history::{Attempt, Operation, Value, Verdict};
use super::world::{Happening, World, decode, encode};
use crate::node::{Answer, Event, ReadValue, Refusal, Ticket};
use crate::txn::{AttemptId, BaseId, Key, Version};

/// A client gives up waiting for an answer after this time.
const PATIENCE: Duration = Duration::from_secs(12);

/// All clients of a run.
pub(super) struct Clients {
    clients: Vec<Client>,
    waiting: BTreeMap<Ticket, usize>,
    stopped: bool,
    named: usize,
}

impl Clients {
    pub(super) fn new(count: usize) -> Self {
        let clients = (0..count).map(|_| Client::default()).collect();
        Self { clients, waiting: BTreeMap::new(), stopped: false, named: 0 }
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
}

/// One client: one session, one request at a time.
#[derive(Default)]
pub(super) struct Client {
    /// The newest version of each key that this session knows to have committed itself.
    floor: BTreeMap<Key, Version>,
    /// The attempt it works on, as a place in the history.
    attempt: Option<usize>,
    outstanding: Option<Outstanding>,
    state: State,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Working,
    /// It asked for the commit and does not know the outcome.
    InDoubt,
    /// The attempt is over.
    Over,
}

struct Outstanding {
    ticket: Ticket,
    until: Duration,
    asked: Asked,
}

enum Asked {
    Start {
        id: Option<BaseId>,
    },
    /// Of which attempt, and which keys.
    Get {
        place: usize,
        keys: Vec<Key>,
    },
    /// Of which attempt, and as which of its operations.
    Put {
        place: usize,
        operation: usize,
    },
    Outcome {
        place: usize,
    },
}

impl Client {
    /// The node died, and some clients notice before their patience is over.
    pub(super) fn notice_crash(world: &mut World<'_>) {
        for me in 0..world.options.clients {
            let delay = Duration::from_millis(world.rng.u64(0..4_000));
            let until = world.elapsed + delay;
            let notices = world.rng.bool();
            if let Some(waiting) = &mut client(world, me).outstanding
                && notices
            {
                waiting.until = waiting.until.min(until);
                world.after(delay, Happening::Step { client: me });
            }
        }
    }

    /// The client does its next step.
    pub(super) fn step(world: &mut World<'_>, me: usize) {
        if world.clients().stopped {
            return;
        }
        let elapsed = world.elapsed;
        if let Some(waiting) = &client(world, me).outstanding
            && elapsed < waiting.until
        {
            return;
        }
        // Whatever was asked was lost. What it did is not known.
        if let Some(lost) = client(world, me).outstanding.take() {
            world.clients().waiting.remove(&lost.ticket);
        }
        let asked = match client(world, me).attempt {
            None => Self::begin(world, me),
            Some(place) => Self::go_on(world, me, place),
        };
        if let Some((ticket, asked)) = asked {
            client(world, me).outstanding =
                Some(Outstanding { ticket, until: elapsed + PATIENCE, asked });
            world.clients().waiting.insert(ticket, me);
            world.after(PATIENCE, Happening::Step { client: me });
        }
    }

    fn begin(world: &mut World<'_>, me: usize) -> Option<(Ticket, Asked)> {
        match world.rng.u32(0..100) {
            0..65 => Some(Self::ask_start(world, None)),
            65..84 => {
                let id = world.clients().shared_id();
                Some(Self::ask_start(world, id))
            }
            84..92 => {
                let place = Self::record(world, me, None);
                Some(Self::ask_get(world, place, None))
            }
            _ => {
                let place = Self::record(world, me, None);
                Some(Self::ask_put(world, place, None))
            }
        }
    }

    fn go_on(world: &mut World<'_>, me: usize, place: usize) -> Option<(Ticket, Asked)> {
        let id = world.history.attempts.get(place)?.id.clone()?;
        let dice = world.rng.u32(0..100);
        match client(world, me).state {
            State::Working => match dice {
                0..45 => Some(Self::ask_get(world, place, Some(id))),
                45..78 => Some(Self::ask_put(world, place, Some(id))),
                78..92 => Some(Self::ask_commit(world, me, place, id)),
                92..95 => Some(Self::ask_abort(world, me, place, id)),
                95..98 => Self::leave(world, me, Duration::from_millis(1)),
                // Longer than a transaction may be idle.
                _ => {
                    world.after(Duration::from_secs(3), Happening::Step { client: me });
                    None
                }
            },
            State::InDoubt if dice < 75 => Some(Self::ask_commit(world, me, place, id)),
            State::InDoubt if dice < 92 => Some(Self::ask_start(world, Some(id.base()))),
            State::Over if dice < 12 => Some(Self::ask_commit(world, me, place, id)),
            State::Over if dice < 30 => Some(Self::ask_start(world, Some(id.base()))),
            State::InDoubt | State::Over => Self::leave(world, me, Duration::from_millis(1)),
        }
    }

    fn leave(world: &mut World<'_>, me: usize, pause: Duration) -> Option<(Ticket, Asked)> {
        client(world, me).attempt = None;
        world.after(pause, Happening::Step { client: me });
        None
    }

    fn ask_start(world: &mut World<'_>, id: Option<BaseId>) -> (Ticket, Asked) {
        let named = id.clone();
        let ticket = world.request(|ticket| Event::Start { ticket, id: named, after: Vec::new() });
        (ticket, Asked::Start { id })
    }

    fn ask_get(world: &mut World<'_>, place: usize, txn: Option<AttemptId>) -> (Ticket, Asked) {
        let count = world.rng.usize(1..=3);
        let keys: Vec<_> = (0..count).map(|_| world.any_key()).collect();
        let asked = keys.clone();
        let ticket = world.request(|ticket| Event::Get { ticket, txn, keys });
        (ticket, Asked::Get { place, keys: asked })
    }

    fn ask_put(world: &mut World<'_>, place: usize, txn: Option<AttemptId>) -> (Ticket, Asked) {
        let count = world.rng.usize(1..=3);
        let mut writes: Vec<(Key, Value)> = Vec::new();
        for _ in 0..count {
            let write = (world.any_key(), world.new_value());
            writes.push(write);
        }
        let sent = writes.iter().map(|(key, value)| (key.clone(), encode(*value))).collect();
        let mut operation = 0;
        if let Some(attempt) = world.history.attempts.get_mut(place) {
            operation = attempt.operations.len();
            attempt.operations.push(Operation::Write { writes, acknowledged: false });
        }
        let ticket = world.request(|ticket| Event::Put { ticket, txn, writes: sent });
        (ticket, Asked::Put { place, operation })
    }

    fn ask_commit(
        world: &mut World<'_>,
        me: usize,
        place: usize,
        txn: AttemptId,
    ) -> (Ticket, Asked) {
        client(world, me).state = State::InDoubt;
        let ticket = world.request(|ticket| Event::Commit { ticket, txn, addresses: Vec::new() });
        (ticket, Asked::Outcome { place })
    }

    fn ask_abort(
        world: &mut World<'_>,
        me: usize,
        place: usize,
        txn: AttemptId,
    ) -> (Ticket, Asked) {
        client(world, me).state = State::InDoubt;
        let ticket = world.request(|ticket| Event::Abort { ticket, txn });
        (ticket, Asked::Outcome { place })
    }

    /// Writes a new attempt into the history.
    fn record(world: &mut World<'_>, me: usize, id: Option<AttemptId>) -> usize {
        let session_floor = client(world, me).floor.clone();
        let attempt = Attempt { id, session_floor, operations: Vec::new(), verdicts: Vec::new() };
        world.history.attempts.push(attempt);
        world.history.attempts.len() - 1
    }

    /// An answer has come.
    pub(super) fn answered(world: &mut World<'_>, ticket: Ticket, answer: Answer) {
        // One that comes after the client gave up is recognised and dropped.
        let Some(me) = world.clients().waiting.remove(&ticket) else {
            return;
        };
        let Some(waiting) = client(world, me).outstanding.take() else {
            return;
        };
        match (waiting.asked, answer) {
            (Asked::Start { .. }, Answer::Started(id)) => {
                let place = Self::record(world, me, Some(id));
                client(world, me).attempt = Some(place);
                client(world, me).state = State::Working;
            }
            (Asked::Start { id: Some(id) }, Answer::Decided { committed, .. }) => {
                Self::start_decided(world, &id, committed);
                client(world, me).attempt = None;
            }
            (Asked::Start { .. }, _) => client(world, me).attempt = None,
            (Asked::Get { place, keys }, Answer::Values(values)) => {
                Self::note_reads(world, place, keys, &values);
            }
            (Asked::Put { place, operation }, Answer::Written(results)) => {
                if results.iter().all(Result::is_ok) {
                    Self::acknowledge(world, place, operation);
                }
                if client(world, me).attempt.is_none() {
                    Self::learn(world, me, place, Verdict::Committed);
                }
            }
            (
                Asked::Get { .. } | Asked::Put { .. },
                Answer::Refused(Refusal::Storage(_) | Refusal::Deadline(_)),
            ) => {}
            (Asked::Get { .. } | Asked::Put { .. }, Answer::Refused(_)) => {
                client(world, me).state = State::Over;
            }
            (Asked::Outcome { place }, Answer::Decided { committed, why, .. }) => {
                client(world, me).state = State::Over;
                let verdict = match (committed, why) {
                    (true, _) => Verdict::Committed,
                    (false, Some(Refusal::SettledAborted)) => Verdict::SettledAborted,
                    (false, _) => Verdict::Aborted,
                };
                Self::learn(world, me, place, verdict);
            }
            _ => {}
        }
        let pause = Duration::from_micros(world.rng.u64(10..3_000));
        world.after(pause, Happening::Step { client: me });
    }

    fn note_reads(world: &mut World<'_>, place: usize, keys: Vec<Key>, values: &[ReadValue]) {
        let at = world.elapsed;
        let seen = keys.into_iter().zip(values);
        let seen = seen.map(|(key, read)| (key, read.value.as_deref().and_then(decode))).collect();
        if let Some(attempt) = world.history.attempts.get_mut(place) {
            attempt.operations.push(Operation::Read { seen, at });
        }
    }

    fn acknowledge(world: &mut World<'_>, place: usize, operation: usize) {
        let attempt = world.history.attempts.get_mut(place);
        let operation = attempt.and_then(|attempt| attempt.operations.get_mut(operation));
        if let Some(Operation::Write { acknowledged, .. }) = operation {
            *acknowledged = true;
        }
    }

    /// A verdict on an attempt: noted, and from here on the session knows of its commit.
    fn learn(world: &mut World<'_>, me: usize, place: usize, verdict: Verdict) {
        let Some(attempt) = world.history.attempts.get_mut(place) else {
            return;
        };
        let told_committed = verdict == Verdict::Committed;
        attempt.verdicts.push(verdict);
        let Some(id) = attempt.id.clone().filter(|_| told_committed) else {
            return;
        };
        let Some(commit) = world.committed(&id.base()) else {
            return;
        };
        let floor = &mut client(world, me).floor;
        for written in &commit.keys {
            let known = floor.entry(written.key.clone()).or_insert_with(|| commit.version.clone());
            *known = (*known).clone().max(commit.version.clone());
        }
    }

    /// A start was answered with the outcome of its id: every attempt of it that is on record was told.
    fn start_decided(world: &mut World<'_>, id: &BaseId, committed: bool) {
        let of_id = |attempt: &&mut Attempt| attempt.id.as_ref().is_some_and(|a| a.base() == *id);
        let verdict = if committed { Verdict::Committed } else { Verdict::SettledAborted };
        // Only the attempts that wrote are judged; it is enough to tell one of them.
        if let Some(attempt) = world.history.attempts.iter_mut().filter(of_id).last() {
            attempt.verdicts.push(verdict);
        }
    }
}

fn client<'a>(world: &'a mut World<'_>, me: usize) -> &'a mut Client {
    &mut world.clients().clients[me]
}
