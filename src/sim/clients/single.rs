//! Clients that stay on one node with each transaction, and move to another between two.

use std::time::Duration;

use super::session::Session;
use super::{Actor, Heard, Outstanding, record};
use crate::sim::world::{Happening, World};
use crate::txn::AttemptId;

/// One client: one session, one request at a time.
pub(super) struct Client {
    pub(super) session: Session,
    pub(super) outstanding: Option<Outstanding>,
    /// The node it works at.
    site: usize,
    /// The attempt it works on, as a place in the history.
    attempt: Option<usize>,
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

impl Client {
    pub(super) fn new(site: usize) -> Self {
        Self {
            session: Session::default(),
            outstanding: None,
            site,
            attempt: None,
            state: State::Working,
        }
    }

    pub(super) fn next(world: &mut World<'_>, me: usize) {
        match world.clients.clients[me].attempt {
            None => Self::begin(world, me),
            Some(place) => Self::go_on(world, me, place),
        }
    }

    fn begin(world: &mut World<'_>, me: usize) {
        if world.options.nodes > 1 && world.rng.u32(0..100) < 30 {
            world.clients.clients[me].site = world.any_site();
        }
        let (actor, site) = (Actor::Client(me), world.clients.clients[me].site);
        match world.rng.u32(0..100) {
            0..65 => world.ask_start(actor, site, None),
            65..84 => {
                let id = world.clients.shared_id();
                world.ask_start(actor, site, id);
            }
            dice => {
                let floor = world.clients.clients[me].session.floor(&world.address(site), false);
                let place = record(world, None, site, floor);
                if dice < 92 {
                    let keys = world.some_keys();
                    world.ask_get(actor, site, place, None, keys);
                } else {
                    world.ask_put(actor, site, place, None);
                }
            }
        }
    }

    fn go_on(world: &mut World<'_>, me: usize, place: usize) {
        let Some(id) = world.name_of(place) else { return };
        let Self { site, state, .. } = world.clients.clients[me];
        let actor = Actor::Client(me);
        let dice = world.rng.u32(0..100);
        match state {
            State::Working => match dice {
                0..45 => {
                    let keys = world.some_keys();
                    world.ask_get(actor, site, place, Some(id), keys);
                }
                45..78 => world.ask_put(actor, site, place, Some(id)),
                78..92 => Self::ask_commit(world, me, place, id),
                92..95 => {
                    world.clients.clients[me].state = State::InDoubt;
                    let site = Self::here_or_elsewhere(world, me);
                    world.ask_abort(actor, site, place, id);
                }
                95..98 => Self::leave(world, me),
                // Longer than a transaction may be idle.
                _ => world.after(Duration::from_secs(3), Happening::Step(actor)),
            },
            State::InDoubt if dice < 75 => Self::ask_commit(world, me, place, id),
            State::Over if dice < 12 => Self::ask_commit(world, me, place, id),
            State::InDoubt if dice < 92 => Self::retry(world, me, &id),
            State::Over if dice < 30 => Self::retry(world, me, &id),
            State::InDoubt | State::Over => Self::leave(world, me),
        }
    }

    fn ask_commit(world: &mut World<'_>, me: usize, place: usize, id: AttemptId) {
        let is_first = world.clients.clients[me].state == State::Working;
        world.clients.clients[me].state = State::InDoubt;
        let here = world.clients.clients[me].site;
        let site = if is_first { here } else { Self::here_or_elsewhere(world, me) };
        world.ask_commit(Actor::Client(me), site, place, id, Vec::new());
    }

    /// Tries again under the same id, maybe at another node.
    fn retry(world: &mut World<'_>, me: usize, id: &AttemptId) {
        world.clients.clients[me].site = Self::here_or_elsewhere(world, me);
        let site = world.clients.clients[me].site;
        world.ask_start(Actor::Client(me), site, Some(id.base()));
    }

    fn here_or_elsewhere(world: &mut World<'_>, me: usize) -> usize {
        if world.options.nodes > 1 && world.rng.u32(0..100) < 25 {
            return world.any_site();
        }
        world.clients.clients[me].site
    }

    fn leave(world: &mut World<'_>, me: usize) {
        world.clients.clients[me].attempt = None;
        world.after(Duration::from_millis(1), Happening::Step(Actor::Client(me)));
    }

    pub(super) fn hears(world: &mut World<'_>, me: usize, heard: Heard) {
        let client = &mut world.clients.clients[me];
        match heard {
            Heard::Started(place) => {
                client.attempt = Some(place);
                client.state = State::Working;
            }
            Heard::NotStarted => client.attempt = None,
            Heard::Over => client.state = State::Over,
            Heard::Done | Heard::Unclear => {}
        }
    }
}
