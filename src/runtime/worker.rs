//! The loop around a node: one thread that owns the node and all sockets, and serves what it can
//! without another thread.
//!
//! Each round drains a bounded number of messages per socket and all answers of the store, acts on
//! them, and sleeps only when there is nothing left.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use crossbeam::queue::SegQueue;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::clock::Clock;
use super::counters::{Counters, SocketStatus};
use super::history::History;
use super::store::StoreDriver;
use crate::frontend::ipc::{Frontend, Incoming, Kind};
use crate::node::{Address, Effect, Event, Node, Now, Status};
use crate::peer::{BadMessage, Peers};
use crate::storage::Storage;
use crate::transport::{CALLS, Sockets, TransportError, Wake};
use crate::txn::{Commit, Key};

/// Messages taken from one socket before the others are looked at again.
const MESSAGES_PER_ROUND: usize = 64;
/// Bad messages are logged at most this often, each kind of them.
const LOG_PAUSE: Duration = Duration::from_secs(1);

/// What other threads ask of the worker.
pub(super) enum Command {
    /// Tell how things are.
    Status(oneshot::Sender<(Status, SocketStatus)>),
    /// The store's log begins to be looked through for what others committed.
    LogIsBeingRead,
    /// Commits of others were found in it.
    Learned(Vec<Arc<Commit>>),
    /// It was read to its end.
    LogWasRead,
    /// These are all nodes from here on.
    Members(Vec<Address>),
    /// These are told of all commits, too, and are no nodes.
    Listeners(Vec<Address>),
    /// Tell which keys are cached.
    CachedKeys(oneshot::Sender<Vec<Key>>),
    /// Begin nothing new, end when nothing runs, or after this time.
    Drain(Duration),
}

/// Hands commands to the worker from any thread.
#[derive(Clone)]
pub(super) struct Handle {
    commands: Arc<SegQueue<Command>>,
    wake: Arc<Wake>,
}

impl Handle {
    pub(super) fn send(&self, command: Command) {
        self.commands.push(command);
        self.wake.wake();
    }

    /// The keys that are cached; none if the worker has ended.
    pub(super) async fn cached_keys(&self) -> Option<Vec<Key>> {
        let (sender, receiver) = oneshot::channel();
        self.send(Command::CachedKeys(sender));
        receiver.await.ok()
    }

    /// How things are; none if the worker has ended.
    pub(super) async fn status(&self) -> Option<(Status, SocketStatus)> {
        let (sender, receiver) = oneshot::channel();
        self.send(Command::Status(sender));
        receiver.await.ok()
    }
}

/// See the [module's page](self).
pub(super) struct Worker {
    node: Node,
    frontend: Frontend,
    /// None if no other node is spoken to.
    peers: Option<Peers>,
    sockets: Sockets,
    store: StoreDriver,
    clock: Clock,
    counters: Counters,
    history: Option<History>,
    commands: Arc<SegQueue<Command>>,
    wake: Arc<Wake>,
    effects: Vec<Effect>,
    /// When a draining worker ends in any case.
    drain_until: Option<Duration>,
    quiet_until: Duration,
    unlogged: u64,
}

impl Worker {
    pub(super) fn new(
        node: Node,
        frontend: Frontend,
        peers: Option<Peers>,
        sockets: Sockets,
        store: Arc<dyn Storage>,
        clock: Clock,
        history: Option<History>,
    ) -> Self {
        let wake = sockets.waker();
        let mut worker = Self {
            node,
            frontend,
            peers,
            sockets,
            store: StoreDriver::new(store, Waker::from(wake.clone())),
            clock,
            counters: Counters::new(),
            history,
            commands: Arc::new(SegQueue::new()),
            wake,
            effects: Vec::new(),
            drain_until: None,
            quiet_until: Duration::ZERO,
            unlogged: 0,
        };
        // With its first event the node begins: it takes over no transaction that is older. The addresses
        // are its own from now on, so that no earlier life of it can still take part in one.
        worker.handle_event(worker.clock.now(), Event::Tick);
        worker
    }

    pub(super) fn handle(&self) -> Handle {
        Handle { commands: self.commands.clone(), wake: self.wake.clone() }
    }

    /// Serves until drained. Lets the tasks of a runtime without threads go on meanwhile, and gives it back.
    pub(super) fn run(mut self, near: Option<Runtime>) -> Result<Option<Runtime>, TransportError> {
        if let Some(runtime) = near {
            self.sockets.sleep_in(runtime)?;
        }
        let mut readable = Vec::new();
        loop {
            // What was asked before the end is answered, so the end waits for a round without messages.
            if self.is_overdue() || (readable.is_empty() && self.is_done()) {
                break;
            }
            // First without wanting to be waked: questions just asked wake us when they begin.
            let mut busy = self.serve_commands() | self.serve_store();
            if !busy {
                self.wake.may_sleep();
                busy = self.serve_commands() | self.serve_store();
            }
            let timeout =
                if busy || self.is_done() { Some(Duration::ZERO) } else { self.sleep_for() };
            self.sockets.wait(timeout, &mut readable);
            self.wake.is_awake();
            self.sockets.tick(self.clock.now().elapsed);
            for socket in &readable {
                match Kind::ALL.get(*socket) {
                    Some(kind) => self.serve_socket(*kind),
                    None if *socket == CALLS => self.serve_calls(),
                    None => self.serve_peers(*socket),
                }
            }
            self.tick();
        }
        Ok(self.sockets.wake_up())
    }

    fn serve_socket(&mut self, kind: Kind) {
        for _ in 0..MESSAGES_PER_ROUND {
            let now = self.clock.now();
            match self.frontend.receive(&mut self.sockets, kind, now.elapsed) {
                Some(incoming) => self.serve(now, incoming),
                None => break,
            }
        }
    }

    fn serve_calls(&mut self) {
        for _ in 0..MESSAGES_PER_ROUND {
            let now = self.clock.now();
            match self.frontend.receive_call(&mut self.sockets, now.elapsed) {
                Some(incoming) => self.serve(now, incoming),
                None => break,
            }
        }
    }

    fn serve(&mut self, now: Now, incoming: Incoming) {
        match incoming {
            Incoming::Event(event) => {
                if let Some(history) = &mut self.history {
                    history.requested(&event);
                }
                self.handle_event(now, event);
            }
            Incoming::Bad { kind, why } => {
                self.counters.bad(kind, &why);
                self.log_bad(now, kind, &why.to_string());
            }
        }
    }

    fn serve_peers(&mut self, socket: usize) {
        for _ in 0..MESSAGES_PER_ROUND {
            let Some(peers) = &mut self.peers else { return };
            match peers.receive(&self.sockets, socket) {
                Some(Ok(message)) => self.handle_event(self.clock.now(), Event::Peer(message)),
                // The original's: what it committed is found in the store when it is read.
                Some(Err(BadMessage::Anonymous)) => {}
                Some(Err(why)) => {
                    if let BadMessage::PersistPart { reply_to } = &why
                        && reply_to.starts_with("tcp://")
                    {
                        self.sockets.outbox().send(reply_to, why.to_string().into_bytes());
                    }
                    self.log_bad(self.clock.now(), "peer", &why.to_string());
                }
                None => return,
            }
        }
    }

    fn serve_store(&mut self) -> bool {
        let mut any = false;
        while let Some(event) = self.store.next() {
            any = true;
            self.handle_event(self.clock.now(), event);
        }
        any
    }

    fn serve_commands(&mut self) -> bool {
        let mut any = false;
        while let Some(command) = self.commands.pop() {
            any = true;
            match command {
                Command::Status(answer) => {
                    // So that the node tells ages as of now.
                    self.handle_event(self.clock.now(), Event::Tick);
                    let _ = answer.send((self.node.status(), self.socket_status()));
                }
                Command::Learned(commits) => {
                    if let Some(history) = &mut self.history {
                        commits.iter().for_each(|commit| history.load(commit));
                    }
                    self.handle_event(self.clock.now(), Event::Learned(commits));
                }
                Command::LogIsBeingRead => {
                    self.handle_event(self.clock.now(), Event::LogIsBeingRead);
                }
                Command::LogWasRead => self.handle_event(self.clock.now(), Event::LogWasRead),
                Command::Members(members) => {
                    self.handle_event(self.clock.now(), Event::Members(members));
                }
                Command::Listeners(listeners) => {
                    self.handle_event(self.clock.now(), Event::Listeners(listeners));
                }
                Command::CachedKeys(answer) => {
                    let _ = answer.send(self.node.cached_keys());
                }
                Command::Drain(within) => {
                    let now = self.clock.now();
                    self.drain_until = Some(now.elapsed + within);
                    self.handle_event(now, Event::Drain);
                }
            }
        }
        any
    }

    fn tick(&mut self) {
        let now = self.clock.now();
        if self.node.next_deadline().is_some_and(|due| due <= now.elapsed) {
            self.handle_event(now, Event::Tick);
        }
    }

    fn handle_event(&mut self, now: Now, event: Event) {
        let mut effects = std::mem::take(&mut self.effects);
        self.node.handle(now, event, &mut effects);
        for effect in effects.drain(..) {
            self.act(now, effect);
        }
        self.effects = effects;
    }

    fn act(&mut self, now: Now, effect: Effect) {
        match effect {
            Effect::Reply { ticket, answer } => {
                if let Some(history) = &mut self.history
                    && let Some(address) = self.frontend.reply_address(ticket)
                {
                    history.answered(ticket, &answer, &address.to_string());
                }
                let sockets = &mut self.sockets;
                if let Some(done) = self.frontend.answer(sockets, ticket, answer, now.wall_ns) {
                    // Not `now`: most answers are found within the instant of their request.
                    let took = self.clock.elapsed().saturating_sub(done.since);
                    self.counters.answered(done.kind, took);
                }
            }
            Effect::Store { op, ask } => self.store.ask(op, ask),
            Effect::Send { to, message } => {
                if let Some(peers) = &mut self.peers {
                    peers.send(&mut self.sockets, &to, &message);
                }
            }
            Effect::Quarantined(commit) => {
                let (by, version) = (&commit.replica, &commit.version);
                let why = format!(
                    "the commit {version:?} of {by} is far ahead of this machine's clock and is not read yet"
                );
                self.log_bad(now, "clock", &why);
            }
            Effect::Expect(id) => self.store.expect(&id),
            Effect::Ended { attempt, end } => {
                self.counters.ended(&end);
                if let Some(history) = &mut self.history {
                    history.ended(&attempt, &end);
                }
            }
        }
    }

    fn sleep_for(&mut self) -> Option<Duration> {
        let deadlines = [self.node.next_deadline(), self.sockets.next_tick(), self.drain_until];
        let next = deadlines.into_iter().flatten().min()?;
        Some(next.saturating_sub(self.clock.elapsed()))
    }

    /// A draining worker has nothing left to do.
    fn is_done(&mut self) -> bool {
        self.drain_until.is_some()
            && self.node.is_idle()
            && self.frontend.waiting() == 0
            && self.sockets.queued_bytes() == 0
    }

    fn is_overdue(&self) -> bool {
        self.drain_until.is_some_and(|until| self.clock.elapsed() >= until)
    }

    fn socket_status(&mut self) -> SocketStatus {
        let requests_waiting = self.frontend.waiting();
        SocketStatus {
            requests_waiting,
            reply_sockets: self.sockets.outbox().peer_count(),
            callers: self.sockets.callers(),
            reply_bytes_queued: self.sockets.queued_bytes(),
            peers: self.peers.as_ref().map(Peers::traffic).unwrap_or_default(),
            ..SocketStatus::default()
        }
        .with_drops(self.sockets.drops())
    }

    /// One line per second at most: a client that sends rubbish must not fill the disk with it.
    fn log_bad(&mut self, now: Now, socket: &'static str, why: &str) {
        if now.elapsed < self.quiet_until {
            self.unlogged += 1;
            return;
        }
        let not_logged = std::mem::take(&mut self.unlogged);
        tracing::warn!(socket, not_logged, "bad request: {why}");
        self.quiet_until = now.elapsed + LOG_PAUSE;
    }
}
