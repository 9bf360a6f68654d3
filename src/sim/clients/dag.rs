//! Clients whose transactions are graphs of functions: each function runs on some node, goes on from
//! where its parents ran, and the whole commits at one of its last functions.
//!
//! What goes wrong in such graphs: functions that die in the middle and are run again, elsewhere or at the
//! same node, while the first run goes on as a zombie; writes at a node from which the transaction has gone
//! on already; branches that nobody merges; commits asked for at the wrong node, and again at another.

use std::collections::VecDeque;
use std::time::Duration;

use super::session::Session;
use super::{Actor, Asked, Heard, Outstanding, note_asked};
use crate::node::Event;
use crate::sim::history::What;
use crate::sim::world::{Happening, World};
use crate::txn::AttemptId;

const FUNCTIONS_MAX: usize = 6;

/// A client with one such transaction at a time.
#[derive(Default)]
pub(super) struct Dag {
    pub(super) session: Session,
    pub(super) outstanding: Option<Outstanding>,
    /// The attempt, as a place in the history.
    place: Option<usize>,
    functions: Vec<Function>,
    /// A function that has to be run again, or given up.
    failed: Option<usize>,
    state: State,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Idle,
    Running,
    /// All functions ran.
    Ready,
    /// The commit was asked for, and the outcome is not known.
    InDoubt,
    Over,
}

struct Function {
    site: usize,
    parents: Vec<usize>,
    is_done: bool,
    /// The run that counts.
    run: Option<usize>,
}

/// One run of a function.
pub(super) struct Run {
    pub(super) outstanding: Option<Outstanding>,
    /// Its operations, as places among those of the attempt.
    pub(super) operations: Vec<usize>,
    /// It was given up; what it does may count, or not.
    pub(super) is_loose: bool,
    dag: usize,
    /// Which function, if its end is waited for.
    function: Option<usize>,
    place: usize,
    site: usize,
    todo: VecDeque<Todo>,
    last: Option<Todo>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Todo {
    Continue(usize),
    Get,
    Put,
}

impl Dag {
    pub(super) fn next(world: &mut World<'_>, me: usize) {
        let actor = Actor::Dag(me);
        let Self { place, state, failed, .. } = world.clients.dags[me];
        let Some((place, id)) = place.and_then(|place| Some((place, world.name_of(place)?))) else {
            let site = world.any_site();
            let is_shared = world.rng.u32(0..100) < 12;
            let id = if is_shared { world.clients.shared_id() } else { None };
            return world.ask_start(actor, site, id);
        };
        let dice = world.rng.u32(0..100);
        match state {
            State::Idle | State::Running => match failed {
                None => {}
                Some(function) if dice < 60 => Self::run_again(world, me, function),
                Some(_) if dice < 80 => Self::ask_abort(world, me, place, id),
                // Something is missing, and it commits all the same.
                Some(_) if dice < 90 => Self::ask_commit(world, me, place, id),
                Some(_) => Self::leave(world, me),
            },
            State::Ready if dice < 94 => Self::ask_commit(world, me, place, id),
            State::Ready if dice < 97 => Self::ask_abort(world, me, place, id),
            State::InDoubt if dice < 75 => Self::ask_commit(world, me, place, id),
            State::Over if dice < 15 => Self::ask_commit(world, me, place, id),
            State::InDoubt if dice < 90 => Self::start_again(world, me, &id),
            State::Over if dice < 25 => Self::start_again(world, me, &id),
            State::Ready | State::InDoubt | State::Over => Self::leave(world, me),
        }
    }

    pub(super) fn hears(world: &mut World<'_>, me: usize, heard: Heard) {
        match heard {
            Heard::Started(place) => Self::plan(world, me, place),
            Heard::NotStarted => world.clients.dags[me].place = None,
            Heard::Over => world.clients.dags[me].state = State::Over,
            Heard::Done | Heard::Unclear => {}
        }
    }

    /// Draws a graph and lets its first function run.
    fn plan(world: &mut World<'_>, me: usize, place: usize) {
        let count = world.rng.usize(1..=FUNCTIONS_MAX);
        let site = world.history.attempts[place].site;
        let mut functions = vec![Function { site, parents: Vec::new(), is_done: false, run: None }];
        for number in 1..count {
            let mut parents = vec![world.rng.usize(0..number)];
            // Chains are as frequent as all other shapes.
            if world.rng.bool() {
                parents[0] = number - 1;
            }
            if number > 1 && world.rng.u32(0..100) < 40 {
                parents.push(world.rng.usize(0..number));
            }
            parents.sort_unstable();
            parents.dedup();
            let site = world.any_site();
            functions.push(Function { site, parents, is_done: false, run: None });
        }
        let dag = &mut world.clients.dags[me];
        dag.place = Some(place);
        dag.functions = functions;
        dag.failed = None;
        dag.state = State::Running;
        Self::run_ready(world, me);
    }

    /// Runs what can run: all functions whose parents have.
    fn run_ready(world: &mut World<'_>, me: usize) {
        for number in 0..world.clients.dags[me].functions.len() {
            let functions = &world.clients.dags[me].functions;
            let function = &functions[number];
            if function.run.is_none() && function.parents.iter().all(|p| functions[*p].is_done) {
                Run::begin(world, me, number);
            }
        }
    }

    fn run_again(world: &mut World<'_>, me: usize, number: usize) {
        let dag = &mut world.clients.dags[me];
        dag.failed = None;
        // The attempt lives where it was begun, so its first function cannot move.
        if number > 0 && world.rng.bool() {
            let site = world.any_site();
            world.clients.dags[me].functions[number].site = site;
        }
        Run::begin(world, me, number);
    }

    fn has_run(world: &mut World<'_>, me: usize, function: usize) {
        world.clients.dags[me].functions[function].is_done = true;
        Self::run_ready(world, me);
        let dag = &mut world.clients.dags[me];
        if dag.state == State::Running && dag.functions.iter().all(|function| function.is_done) {
            dag.state = State::Ready;
            world.after(Duration::ZERO, Happening::Step(Actor::Dag(me)));
        }
    }

    /// Where the graph ends, one node named once.
    fn sinks(&self) -> Vec<usize> {
        let is_parent = |number| self.functions.iter().any(|f| f.parents.contains(&number));
        let sinks = self.functions.iter().enumerate().filter(|(number, _)| !is_parent(*number));
        let mut sinks: Vec<_> = sinks.map(|(_, function)| function.site).collect();
        sinks.sort_unstable();
        sinks.dedup();
        sinks
    }

    fn ask_commit(world: &mut World<'_>, me: usize, place: usize, id: AttemptId) {
        let is_again = world.clients.dags[me].state == State::InDoubt;
        world.clients.dags[me].state = State::InDoubt;
        let sinks = world.clients.dags[me].sinks();
        let is_astray = world.rng.u32(0..100) < if is_again { 40 } else { 8 };
        let site =
            if is_astray { world.any_site() } else { sinks[world.rng.usize(0..sinks.len())] };
        let mut named: Vec<_> = sinks.into_iter().filter(|sink| *sink != site).collect();
        match world.rng.u32(0..100) {
            // Not all ends are named: what is not stays without effect.
            0..6 => named.truncate(1),
            6..12 if is_astray => named.clear(),
            12..16 => named.extend(world.clients.dags[me].functions.iter().map(|f| f.site)),
            _ => {}
        }
        world.ask_commit(Actor::Dag(me), site, place, id, named);
    }

    fn ask_abort(world: &mut World<'_>, me: usize, place: usize, id: AttemptId) {
        world.clients.dags[me].state = State::InDoubt;
        let site = world.any_site();
        world.ask_abort(Actor::Dag(me), site, place, id);
    }

    fn start_again(world: &mut World<'_>, me: usize, id: &AttemptId) {
        let site = world.any_site();
        world.ask_start(Actor::Dag(me), site, Some(id.base()));
    }

    fn leave(world: &mut World<'_>, me: usize) {
        let dag = &mut world.clients.dags[me];
        dag.place = None;
        dag.state = State::Idle;
        world.after(Duration::from_millis(1), Happening::Step(Actor::Dag(me)));
    }
}

impl Run {
    fn begin(world: &mut World<'_>, dag: usize, function: usize) {
        let Some(place) = world.clients.dags[dag].place else { return };
        let functions = &world.clients.dags[dag].functions;
        let site = functions[function].site;
        let parents = &functions[function].parents;
        let mut upstream: Vec<_> = parents.iter().map(|parent| functions[*parent].site).collect();
        world.rng.shuffle(&mut upstream);
        let mut todo: VecDeque<_> =
            upstream.into_iter().filter(|from| *from != site).map(Todo::Continue).collect();
        for _ in 0..world.rng.usize(1..=3) {
            todo.push_back(if world.rng.u32(0..100) < 55 { Todo::Get } else { Todo::Put });
        }
        let me = Self::spawn(world, dag, Some(function), place, site, todo);
        world.clients.dags[dag].functions[function].run = Some(me);
    }

    fn spawn(
        world: &mut World<'_>,
        dag: usize,
        function: Option<usize>,
        place: usize,
        site: usize,
        todo: VecDeque<Todo>,
    ) -> usize {
        let me = world.clients.runs.len();
        world.clients.runs.push(Self {
            outstanding: None,
            operations: Vec::new(),
            is_loose: function.is_none(),
            dag,
            function,
            place,
            site,
            todo,
            last: None,
        });
        let delay = Duration::from_micros(world.rng.u64(10..2_000));
        world.after(delay, Happening::Step(Actor::Run(me)));
        me
    }

    pub(super) fn next(world: &mut World<'_>, me: usize, was_lost: bool) {
        let Self { place, site, last, .. } = world.clients.runs[me];
        let Some(id) = world.name_of(place) else { return };
        let is_loose = world.clients.runs[me].is_loose;
        let dies = world.rng.u32(0..100) < 2;
        if !is_loose && (was_lost || dies) {
            return Self::fail(world, me, true);
        }
        if let Some(Todo::Continue(upstream)) = last {
            Self::write_late(world, me, upstream);
        }
        let todo = world.clients.runs[me].todo.pop_front();
        world.clients.runs[me].last = todo;
        let actor = Actor::Run(me);
        match todo {
            Some(Todo::Continue(upstream)) => world.ask_continue(actor, site, place, id, upstream),
            Some(Todo::Get) => {
                let keys = world.some_keys();
                world.ask_get(actor, site, place, Some(id), keys);
            }
            Some(Todo::Put) => world.ask_put(actor, site, place, Some(id)),
            None => Self::end(world, me),
        }
    }

    /// Now and then somebody writes where the transaction has gone on from already.
    fn write_late(world: &mut World<'_>, me: usize, upstream: usize) {
        if world.rng.u32(0..100) < 3 {
            let Self { dag, place, .. } = world.clients.runs[me];
            Self::spawn(world, dag, None, place, upstream, VecDeque::from([Todo::Put]));
        }
    }

    pub(super) fn hears(world: &mut World<'_>, me: usize, heard: Heard) {
        let is_continue = matches!(world.clients.runs[me].last, Some(Todo::Continue(_)));
        match heard {
            Heard::Over => Self::fail(world, me, false),
            // What the parents did must be known before anything is done.
            Heard::Unclear if is_continue => Self::fail(world, me, false),
            _ => {}
        }
    }

    fn end(world: &mut World<'_>, me: usize) {
        if let Some((dag, function)) = Self::counts(world, me) {
            world.clients.runs[me].function = None;
            Dag::has_run(world, dag, function);
        }
    }

    /// The function whose run this is, if its end is waited for.
    fn counts(world: &World<'_>, me: usize) -> Option<(usize, usize)> {
        let run = &world.clients.runs[me];
        let dag = &world.clients.dags[run.dag];
        let function = run.function?;
        let counts = dag.place == Some(run.place)
            && dag.functions.get(function).is_some_and(|f| f.run == Some(me));
        counts.then_some((run.dag, function))
    }

    /// The run is given up. Whoever gave it up may be wrong, and it goes on.
    fn fail(world: &mut World<'_>, me: usize, may_go_on: bool) {
        let counts = Self::counts(world, me);
        let run = &mut world.clients.runs[me];
        run.is_loose = true;
        run.function = None;
        let goes_on = may_go_on && world.rng.u32(0..100) < 40;
        let run = &mut world.clients.runs[me];
        if !goes_on {
            run.todo.clear();
        }
        let (place, operations) = (run.place, run.operations.clone());
        if let Some(attempt) = world.history.attempts.get_mut(place) {
            for operation in operations {
                attempt.operations[operation].is_loose = true;
            }
        }
        if goes_on {
            let delay = Duration::from_millis(world.rng.u64(1..500));
            world.after(delay, Happening::Step(Actor::Run(me)));
        }
        if let Some((dag, function)) = counts {
            world.clients.dags[dag].failed = Some(function);
            let delay = Duration::from_millis(world.rng.u64(1..100));
            world.after(delay, Happening::Step(Actor::Dag(dag)));
        }
    }
}

impl World<'_> {
    fn ask_continue(
        &mut self,
        actor: Actor,
        site: usize,
        place: usize,
        txn: AttemptId,
        upstream: usize,
    ) {
        let from = self.address(upstream);
        let operation = note_asked(self, actor, place, site, What::Continue { upstream });
        let ticket = self.request(site, |ticket| Event::Continue { ticket, txn, upstream: from });
        self.wait(actor, site, ticket, Asked::Continue { place, operation });
    }
}
