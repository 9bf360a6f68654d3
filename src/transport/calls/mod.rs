//! A Unix socket whose clients are answered on the connection by which they asked.
//!
//! What ZeroMQ does for messages between machines, a thread that reads and writes for each side, wakes four
//! threads more for each request and its answer, and costs some 20 KB for each connection. Between two processes
//! of one machine a stream with the length in front of each message (`frame.rs`) does as well, and who sends it
//! wakes the one who reads it.
//!
//! A client may ask for more before it was answered; answers come as they are found, and tell by a number which
//! request is meant. All who ask have their turns, one request each. Who does not take its answers is asked for no
//! further requests. What such clients hold here, and half a request of which the rest does not come, is bounded in
//! time; and in bytes, for all together: then the one goes first that did nothing for longest. Its connection is
//! closed, so that it knows. So it is if what comes cannot be understood.

mod connection;
mod frame;

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use rustix::event::{Timespec, epoll};

use super::{Drops, OutboxLimits, TransportError};
use connection::{Connection, Received};
use frame::READ_BYTES;
pub use frame::{BadFrame, TooLarge};
pub(super) use frame::{parse_answer_head, request};

/// What the kernel tells at once.
const EVENTS_MAX: usize = 256;
/// Clients that are let in before others are served.
const ACCEPTED_AT_ONCE: usize = 64;
/// When the process has no descriptors to spare, new clients wait so long before it is tried again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// That is said at most so often.
const WARN_PAUSE: Duration = Duration::from_secs(10);
/// Descriptors that are left to others: libzmq ends the process if it gets none. Half of them, if there are few.
const DESCRIPTORS_LEFT: usize = 2048;
/// In the place of a connection's number.
const LISTENER: u64 = 0;
const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// A request of a client, as far as its answer needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Caller {
    connection: u64,
    number: u32,
}

/// The connection: it names the client.
impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "call-{:x}", self.connection)
    }
}

/// A request and who waits for its answer.
#[derive(Debug)]
pub struct Call {
    /// Who.
    pub caller: Caller,
    /// What is asked.
    pub kind: u8,
    /// The request, unless it is too large.
    pub request: Result<Bytes, TooLarge>,
}

/// What came by a connection.
#[derive(Debug)]
pub enum Called {
    /// A request.
    Request(Call),
    /// Nothing that can be understood: the connection was closed.
    Bad(BadFrame),
}

pub(super) struct Callers {
    listener: UnixListener,
    /// Readable whenever there is something to do here.
    epoll: OwnedFd,
    message_bytes_max: usize,
    limits: OutboxLimits,
    connections: HashMap<u64, Connection>,
    /// The number of the next connection.
    next: u64,
    /// Those that may have requests, in their turn.
    ready: VecDeque<u64>,
    /// So many of them have their turn before the kernel is asked for others.
    turns: usize,
    /// Those of which something waits for the client.
    waiting: HashSet<u64>,
    queued_bytes: usize,
    held_bytes: usize,
    elapsed: Duration,
    /// New clients wait until then.
    accept_at: Option<Duration>,
    warn_at: Duration,
    clients_max: usize,
    drops: Drops,
    scratch: Box<[u8]>,
}

impl Callers {
    /// Listens at a path, where no other process does.
    pub(super) fn bind(
        path: &Path,
        message_bytes_max: usize,
        limits: OutboxLimits,
    ) -> Result<Self, TransportError> {
        let failed = |source| TransportError::Listen { path: path.to_owned(), source };
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(std::io::Error::from)?;
        let callers = Self {
            listener,
            epoll,
            message_bytes_max,
            limits,
            connections: HashMap::new(),
            // What is written about a client should not be taken for one of another process.
            next: u64::from(Rng::new().u32(1..)) << 32,
            ready: VecDeque::new(),
            turns: 0,
            waiting: HashSet::new(),
            queued_bytes: 0,
            held_bytes: 0,
            elapsed: Duration::ZERO,
            accept_at: None,
            warn_at: Duration::ZERO,
            clients_max: clients_max(),
            drops: Drops::default(),
            scratch: vec![0; READ_BYTES].into(),
        };
        callers.watch_listener(true)?;
        Ok(callers)
    }

    fn watch_listener(&self, is_wanted: bool) -> std::io::Result<()> {
        if is_wanted {
            let number = epoll::EventData::new_u64(LISTENER);
            epoll::add(&self.epoll, &self.listener, number, epoll::EventFlags::IN)?;
        } else {
            epoll::delete(&self.epoll, &self.listener)?;
        }
        Ok(())
    }

    /// The next request, if one is there.
    pub(super) fn receive(&mut self) -> Option<Called> {
        let mut has_looked = false;
        loop {
            if self.turns == 0 {
                if has_looked {
                    return None;
                }
                has_looked = true;
                self.look();
                self.turns = self.ready.len();
            }
            self.turns = self.turns.saturating_sub(1);
            let number = self.ready.pop_front()?;
            if let Some(called) = self.receive_from(number) {
                return Some(called);
            }
        }
    }

    fn receive_from(&mut self, number: u64) -> Option<Called> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let (max, now) = (self.message_bytes_max, self.elapsed);
        let received = self.change(number, |connection| {
            connection.is_queued = false;
            // Who does not take its answers is asked for nothing.
            match connection.queued() {
                0 => connection.receive(&mut scratch, max, now),
                _ => Received::Nothing,
            }
        });
        self.scratch = scratch;
        match received? {
            Received::Nothing => None,
            Received::End => {
                self.close(number);
                None
            }
            Received::Bad(why) => {
                self.close(number);
                Some(Called::Bad(why))
            }
            Received::Request(frame) => {
                let caller = Caller { connection: number, number: frame.number };
                Some(Called::Request(Call { caller, kind: frame.kind, request: frame.body }))
            }
        }
    }

    /// Asks the kernel what there is to do.
    fn look(&mut self) {
        let mut events = [MaybeUninit::uninit(); EVENTS_MAX];
        let Ok((events, _)) = epoll::wait(&self.epoll, &mut events, Some(&AT_ONCE)) else {
            // Interrupted: it is looked at again before anybody sleeps.
            return;
        };
        let now = self.elapsed;
        for event in events {
            match event.data.u64() {
                LISTENER => self.accept(),
                number if self.connections.get(&number).is_some_and(|c| c.queued() > 0) => {
                    let dropped = self.change(number, |connection| connection.flush(now));
                    self.drops.unreachable += dropped.unwrap_or_default() as u64;
                }
                number => self.queue(number),
            }
        }
    }

    /// Gives a connection its turn.
    fn queue(&mut self, number: u64) {
        if let Some(connection) = self.connections.get_mut(&number).filter(|c| !c.is_queued) {
            connection.is_queued = true;
            self.ready.push_back(number);
        }
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPTED_AT_ONCE {
            if self.connections.len() >= self.clients_max {
                return self.accept_later("the limit of open files");
            }
            match self.listener.accept() {
                Ok((stream, _)) => self.let_in(stream),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // The client has gone again.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return self.accept_later(&error.to_string()),
            }
        }
    }

    fn let_in(&mut self, stream: UnixStream) {
        let data = epoll::EventData::new_u64(self.next);
        let is_ready = stream.set_nonblocking(true).is_ok()
            && epoll::add(&self.epoll, &stream, data, epoll::EventFlags::IN).is_ok();
        // Otherwise it is closed, so that the client knows.
        if is_ready {
            self.connections.insert(self.next, Connection::new(stream));
            self.next += 1;
        }
    }

    fn accept_later(&mut self, why: &str) {
        if self.watch_listener(false).is_ok() {
            self.accept_at = Some(self.elapsed + ACCEPT_PAUSE);
        }
        if self.elapsed >= self.warn_at {
            self.warn_at = self.elapsed + WARN_PAUSE;
            let clients = self.connections.len();
            tracing::warn!(why, clients, "cannot take more clients now; they wait");
        }
    }

    /// Sends an answer, or as much of it as the client takes now.
    pub(super) fn send(&mut self, to: Caller, answer: Vec<u8>) {
        let now = self.elapsed;
        let dropped =
            self.change(to.connection, |connection| connection.send(to.number, answer, now));
        self.drops.unreachable += dropped.unwrap_or(1) as u64;
    }

    /// Does something with a connection, and keeps account of it. None if it is closed.
    fn change<T>(&mut self, number: u64, change: impl FnOnce(&mut Connection) -> T) -> Option<T> {
        let connection = self.connections.get_mut(&number)?;
        let (queued_before, held_before) = (connection.queued_bytes(), connection.held_bytes());
        let changed = change(connection);
        self.queued_bytes = self.queued_bytes - queued_before + connection.queued_bytes();
        self.held_bytes = self.held_bytes - held_before + connection.held_bytes();
        let has_more = connection.queued() == 0 && connection.has_more(self.message_bytes_max);
        if connection.is_waiting(self.message_bytes_max) {
            self.waiting.insert(number);
        } else {
            self.waiting.remove(&number);
        }
        let wanted = connection.wanted();
        if std::mem::replace(&mut connection.watched, wanted) != wanted {
            let data = epoll::EventData::new_u64(number);
            if epoll::modify(&self.epoll, connection.as_fd(), data, wanted).is_err() {
                self.close(number);
            }
        }
        if has_more {
            self.queue(number);
        }
        self.make_room();
        Some(changed)
    }

    /// Closes connections, if too much waits for clients.
    fn make_room(&mut self) {
        while self.held_bytes > self.limits.bytes_max {
            let moved_at = |number: &&u64| self.connections.get(number).map(|c| c.moved_at);
            let Some(number) = self.waiting.iter().min_by_key(moved_at).copied() else { return };
            let queued = self.connections.get(&number).map_or(0, Connection::queued);
            self.drops.full += queued as u64;
            self.close(number);
        }
    }

    /// Closes the connection of a client with which there is nothing more to speak.
    pub(super) fn hang_up(&mut self, on: Caller) {
        self.close(on.connection);
    }

    fn close(&mut self, number: u64) {
        let Some(connection) = self.connections.remove(&number) else { return };
        self.queued_bytes -= connection.queued_bytes();
        self.held_bytes -= connection.held_bytes();
        self.waiting.remove(&number);
        // A descriptor is there for whoever waits.
        if self.accept_at.is_some() {
            self.accept_at = Some(self.elapsed);
        }
    }

    /// Tells the time, and gives up on clients that did nothing for too long.
    pub(super) fn tick(&mut self, elapsed: Duration) {
        let stood_still = elapsed.saturating_sub(self.elapsed) > self.limits.stalled_max;
        self.elapsed = elapsed;
        if self.accept_at.is_some_and(|at| at <= elapsed) {
            let is_watched = self.watch_listener(true).is_ok();
            self.accept_at = (!is_watched).then_some(elapsed + ACCEPT_PAUSE);
        }
        if stood_still {
            // It was this process that did nothing.
            for number in &self.waiting {
                if let Some(connection) = self.connections.get_mut(number) {
                    connection.moved_at = elapsed;
                }
            }
        }
        let given_up = |number: &&u64| self.gives_up_at(number).is_some_and(|at| at <= elapsed);
        for number in self.waiting.iter().filter(given_up).copied().collect::<Vec<_>>() {
            let queued = self.connections.get(&number).map_or(0, Connection::queued);
            self.drops.stalled += queued as u64;
            self.close(number);
        }
    }

    fn gives_up_at(&self, number: &u64) -> Option<Duration> {
        let connection = self.connections.get(number)?;
        Some(connection.moved_at + self.limits.stalled_max)
    }

    /// When [`tick`](Self::tick) should be called next, if nothing else happens.
    pub(super) fn next_tick(&self) -> Option<Duration> {
        let stalled = self.waiting.iter().filter_map(|number| self.gives_up_at(number));
        stalled.chain(self.accept_at).min()
    }

    pub(super) fn drops(&self) -> Drops {
        self.drops
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// How many clients there are.
    pub(super) fn clients(&self) -> usize {
        self.connections.len()
    }

    /// Whether there are requests of which the descriptor says nothing.
    pub(super) fn may_have_more(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }

    /// As that of an [`Inbox`](super::Inbox).
    pub(super) fn poll_descriptor(&self) -> zmq::PollItem<'_> {
        zmq::PollItem::from_fd(self.descriptor(), zmq::POLLIN)
    }
}

/// How many clients there may be.
fn clients_max() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    limit - DESCRIPTORS_LEFT.min(limit / 2)
}

#[cfg(test)]
mod tests;
