//! The thread that owns the sockets, and the handle by which others reach it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam::queue::SegQueue;
use foldhash::fast::FixedState;
use parking_lot::Mutex;
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::sync::oneshot;

use super::core::{Ask, Core, Counters, Effect, Event, OpId, ReplyTo};
use super::endpoint::is_tcp;
use super::{ClientConfig, ClientError, OpenError};
use crate::anna::lattice::Lattice;
use crate::transport::{Inbox, OutboxLimits, Sockets, Ticket, TransportError, Wake};

/// Messages taken from one socket before the others are looked at again.
const MESSAGES_PER_ROUND: usize = 64;
/// How soon a server that comes back is found.
const RECONNECT_MAX: Duration = Duration::from_millis(200);
/// The most sockets to the store: libzmq allows 1,023 in all, and closed ones count for a while.
const SOCKETS_MAX: usize = 900;
/// The numbers of the two reply sockets.
const KEYS: usize = 0;
const ADDRESSES: usize = 1;

type Answer = Result<Option<Lattice>, ClientError>;

enum Command {
    Start { op: OpId, key: Arc<str>, ask: Ask, waiter: Waiter },
    Cancel(OpId),
    Prefetch(Arc<str>),
    Close,
}

/// Whoever waits for an operation, and what it occupies until its end.
struct Waiter {
    answer: oneshot::Sender<Answer>,
    permit: Permit,
}

/// What the handle and the thread share.
struct Shared {
    commands: SegQueue<Command>,
    wake: Arc<Wake>,
    has_ended: AtomicBool,
    operations: AtomicUsize,
    bytes: AtomicUsize,
    /// Prefetch commands in the queue.
    prefetches: AtomicUsize,
    ids: AtomicU64,
    counters: Mutex<Counters>,
}

impl Shared {
    fn send(&self, command: Command) {
        self.commands.push(command);
        self.wake.wake();
    }
}

/// Counts an operation and its bytes while it exists.
struct Permit {
    shared: Arc<Shared>,
    bytes: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shared.operations.fetch_sub(1, Ordering::Relaxed);
        self.shared.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Hands operations to the thread; ends it when dropped.
pub(super) struct Handle {
    shared: Arc<Shared>,
    requests_max: usize,
    bytes_max: usize,
    /// Of one message, less what surrounds key and value in it.
    message_bytes_max: usize,
}

impl Handle {
    /// Runs an operation to its end.
    pub(super) async fn run(&self, key: &str, ask: Ask) -> Answer {
        let permit = self.admit(key.len() + ask.bytes())?;
        let (answer, receiver) = oneshot::channel();
        let op = self.shared.ids.fetch_add(1, Ordering::Relaxed);
        let waiter = Waiter { answer, permit };
        let mut guard = CancelOnDrop { shared: &self.shared, op, is_over: false };
        self.shared.send(Command::Start { op, key: key.into(), ask, waiter });
        if self.shared.has_ended.load(Ordering::SeqCst) {
            // Nobody takes commands any more; what waits in the queue would wait forever.
            while self.shared.commands.pop().is_some() {}
        }
        let answer = receiver.await;
        guard.is_over = true;
        answer.unwrap_or(Err(ClientError::Closed))
    }

    pub(super) fn prefetch(&self, key: &str) {
        let waiting = self.shared.prefetches.fetch_add(1, Ordering::Relaxed);
        if waiting >= self.requests_max || self.shared.has_ended.load(Ordering::SeqCst) {
            self.shared.prefetches.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        self.shared.send(Command::Prefetch(key.into()));
    }

    /// Runs an operation for which nobody waits, unless there is enough to do.
    pub(super) fn run_aside(&self, key: &str, ask: Ask) {
        let Ok(permit) = self.admit(key.len() + ask.bytes()) else { return };
        let is_busy = self.shared.operations.load(Ordering::Relaxed) > self.requests_max / 2;
        if is_busy || self.shared.has_ended.load(Ordering::SeqCst) {
            return;
        }
        let (answer, _) = oneshot::channel();
        let op = self.shared.ids.fetch_add(1, Ordering::Relaxed);
        let waiter = Waiter { answer, permit };
        self.shared.send(Command::Start { op, key: key.into(), ask, waiter });
    }

    pub(super) fn counters(&self) -> Counters {
        *self.shared.counters.lock()
    }

    fn admit(&self, bytes: usize) -> Result<Permit, ClientError> {
        let bytes_max = self.message_bytes_max.min(self.bytes_max);
        if bytes > bytes_max {
            return Err(ClientError::TooLarge { bytes, bytes_max });
        }
        let operations = self.shared.operations.fetch_add(1, Ordering::Relaxed) + 1;
        let all_bytes = self.shared.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        // From here on it is given back when dropped.
        let permit = Permit { shared: self.shared.clone(), bytes };
        if operations > self.requests_max || all_bytes > self.bytes_max {
            return Err(ClientError::Overloaded);
        }
        Ok(permit)
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("counters", &self.counters()).finish_non_exhaustive()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.send(Command::Close);
    }
}

struct CancelOnDrop<'a> {
    shared: &'a Shared,
    op: OpId,
    is_over: bool,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.shared.send(Command::Cancel(self.op));
        }
    }
}

/// Binds the sockets and starts the thread.
pub(super) fn start(config: ClientConfig) -> Result<Handle, OpenError> {
    if config.routing.is_empty() {
        return Err(OpenError::NoRouting);
    }
    if let Some(bad) = config.routing.iter().find(|endpoint| !is_tcp(endpoint)) {
        return Err(OpenError::BadRouting(bad.clone()));
    }
    if config.ip.is_unspecified() {
        return Err(OpenError::Unspecified(config.ip));
    }
    let mut sockets = Sockets::new(outbox_limits(&config))?;
    let reply_to = ReplyTo {
        keys: bind(&mut sockets, &config, KEYS)?,
        addresses: bind(&mut sockets, &config, ADDRESSES)?,
    };
    let mut seed = [0; 8];
    getrandom(&mut seed, GetRandomFlags::empty()).map_err(std::io::Error::from)?;
    let shared = Arc::new(Shared {
        commands: SegQueue::new(),
        wake: sockets.waker(),
        has_ended: AtomicBool::new(false),
        operations: AtomicUsize::new(0),
        bytes: AtomicUsize::new(0),
        prefetches: AtomicUsize::new(0),
        ids: AtomicU64::new(0),
        counters: Mutex::new(Counters::default()),
    });
    let driver = Driver {
        core: Core::new(&config, reply_to, u64::from_le_bytes(seed)),
        sockets,
        shared: shared.clone(),
        clock: Clock::start(),
        waiters: HashMap::default(),
        effects: Vec::new(),
        answers: Vec::new(),
    };
    std::thread::Builder::new().name("anna-client".to_owned()).spawn(move || driver.run())?;
    Ok(Handle {
        shared,
        requests_max: config.requests_max,
        bytes_max: config.bytes_max,
        message_bytes_max: config.message_bytes_max.saturating_sub(1024),
    })
}

fn outbox_limits(config: &ClientConfig) -> OutboxLimits {
    // Repetitions wait besides the first tries until their time is over.
    let bytes_max = config.bytes_max.saturating_mul(2).saturating_add(16 << 20);
    OutboxLimits {
        peers_max: config.sockets_max.clamp(config.routing.len() + 1, SOCKETS_MAX),
        bytes_per_peer_max: bytes_max,
        bytes_max,
        stalled_max: config.within,
        reconnect_max: RECONNECT_MAX,
        only_connected: true,
    }
}

fn bind(
    sockets: &mut Sockets,
    config: &ClientConfig,
    number: usize,
) -> Result<String, TransportError> {
    let endpoint = match config.ip {
        std::net::IpAddr::V4(ip) => format!("tcp://{ip}:*"),
        std::net::IpAddr::V6(ip) => format!("tcp://[{ip}]:*"),
    };
    sockets.bind(&endpoint, config.message_bytes_max)?;
    sockets.inbox(number).map_or(Ok(endpoint), Inbox::endpoint)
}

/// Time since the client was opened.
#[derive(Clone, Copy)]
struct Clock(Instant);

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "the client's one clock")]
    fn start() -> Self {
        Self(Instant::now())
    }

    fn now(self) -> Duration {
        self.0.elapsed()
    }
}

struct Driver {
    core: Core,
    sockets: Sockets,
    shared: Arc<Shared>,
    clock: Clock,
    waiters: HashMap<OpId, Waiter, FixedState>,
    effects: Vec<Effect>,
    /// Results of this round.
    answers: Vec<(Waiter, Answer)>,
}

impl Driver {
    fn run(mut self) {
        let mut readable = Vec::new();
        loop {
            let Some(mut busy) = self.serve_commands() else {
                return;
            };
            if !busy {
                self.shared.wake.may_sleep();
                match self.serve_commands() {
                    Some(more) => busy = more,
                    None => return,
                }
            }
            self.finish_round();
            let timeout = if busy { Some(Duration::ZERO) } else { self.sleep_for() };
            self.sockets.wait(timeout, &mut readable);
            self.shared.wake.is_awake();
            self.sockets.outbox().tick(self.clock.now());
            for socket in &readable {
                self.serve_socket(*socket);
            }
            self.finish_round();
        }
    }

    /// Whether there were any; none if this was the end.
    fn serve_commands(&mut self) -> Option<bool> {
        let mut any = false;
        while let Some(command) = self.shared.commands.pop() {
            any = true;
            let event = match command {
                Command::Start { op, key, ask, waiter } => {
                    self.waiters.insert(op, waiter);
                    Event::Start { op, key, ask }
                }
                Command::Cancel(op) => {
                    self.waiters.remove(&op);
                    Event::Cancel(op)
                }
                Command::Prefetch(key) => {
                    self.shared.prefetches.fetch_sub(1, Ordering::Relaxed);
                    Event::Prefetch(key)
                }
                Command::Close => return None,
            };
            self.core.handle(self.clock.now(), event, &mut self.effects);
        }
        Some(any)
    }

    fn serve_socket(&mut self, number: usize) {
        for _ in 0..MESSAGES_PER_ROUND {
            let Some(message) = self.sockets.inbox(number).and_then(Inbox::receive) else {
                return;
            };
            let event = match number {
                KEYS => Event::KeyAnswer(message),
                _ => Event::AddressAnswer(message),
            };
            self.core.handle(self.clock.now(), event, &mut self.effects);
        }
    }

    /// Does what all events of this round have led to.
    fn finish_round(&mut self) {
        let now = self.clock.now();
        self.note_departures(now);
        self.core.handle(now, Event::Tick, &mut self.effects);
        self.core.flush(now, &mut self.effects);
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            self.act(effect);
        }
        self.effects = effects;
        self.note_departures(now);
        // First the counters, then the results, so that whoever has a result finds it counted.
        *self.shared.counters.lock() = self.core.counters();
        for (waiter, answer) in self.answers.drain(..) {
            drop(waiter.permit);
            let _ = waiter.answer.send(answer);
        }
    }

    fn act(&mut self, effect: Effect) {
        match effect {
            Effect::Send { to, message, number, until } => {
                self.sockets.outbox().send_with(&to, message, Ticket { id: number, until });
            }
            Effect::Reset(addr) => self.sockets.outbox().reset(&addr),
            Effect::Done { op, result } => {
                if let Some(waiter) = self.waiters.remove(&op) {
                    self.answers.push((waiter, result));
                }
            }
        }
    }

    /// Before anything that ends operations: their errors tell whether they were sent.
    fn note_departures(&mut self, now: Duration) {
        for number in self.sockets.outbox().departed() {
            self.core.handle(now, Event::Departed(number), &mut self.effects);
        }
    }

    fn sleep_for(&mut self) -> Option<Duration> {
        let next = [self.core.next_deadline(), self.sockets.outbox().next_tick()];
        Some(next.into_iter().flatten().min()?.saturating_sub(self.clock.now()))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.shared.has_ended.store(true, Ordering::SeqCst);
        // Whoever waits is told by the loss of the other end.
        while self.shared.commands.pop().is_some() {}
    }
}
