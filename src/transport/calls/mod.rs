//! A Unix socket whose clients are answered on the connection by which they asked.
//!
//! What ZeroMQ does for messages between machines, a thread that reads and writes for each side, wakes four
//! threads more for each request and its answer, and costs some 20 KB for each connection. Between two processes
//! of one machine a stream with the length in front of each message (`frame.rs`) does as well, and who sends it
//! wakes the one who reads it.
//!
//! A client may ask for more before it was answered; answers come as they are found, and tell by a number which
//! request is meant. Who does not take its answers is asked for no further requests. Those that it waits for
//! already are kept within the bounds of an [`Outbox`](super::Outbox); beyond them, or if it takes nothing for too
//! long, the connection is closed, so that it knows. So it is if what comes cannot be understood.

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
use connection::{Connection, Gone, READ_BYTES, Received};
pub use frame::BadFrame;
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
    /// The request.
    pub request: Bytes,
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
    /// Those with answers that wait to be taken.
    slow: HashSet<u64>,
    queued_bytes: usize,
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
            slow: HashSet::new(),
            queued_bytes: 0,
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
        self.next_of_ready().or_else(|| {
            self.look();
            self.next_of_ready()
        })
    }

    fn next_of_ready(&mut self) -> Option<Called> {
        while let Some(number) = self.ready.pop_front() {
            // Who does not take its answers is asked for nothing.
            let Some(connection) = self.connections.get_mut(&number).filter(|c| c.queued() == 0)
            else {
                continue;
            };
            match connection.receive(&mut self.scratch, self.message_bytes_max) {
                Received::Nothing => {}
                Received::End => self.close(number),
                Received::Bad(why) => {
                    self.close(number);
                    return Some(Called::Bad(why));
                }
                Received::Request(frame) => {
                    if connection.has_more(self.message_bytes_max) {
                        self.ready.push_back(number);
                    }
                    let caller = Caller { connection: number, number: frame.number };
                    let (kind, request) = (frame.kind, frame.body);
                    return Some(Called::Request(Call { caller, kind, request }));
                }
            }
        }
        None
    }

    /// Asks the kernel what there is to do.
    fn look(&mut self) {
        let mut events = [MaybeUninit::uninit(); EVENTS_MAX];
        let Ok((events, _)) = epoll::wait(&self.epoll, &mut events, Some(&AT_ONCE)) else {
            // Interrupted: it is looked at again before anybody sleeps.
            return;
        };
        for event in events {
            let number = event.data.u64();
            if number == LISTENER {
                self.accept();
            } else if self.slow.contains(&number) {
                self.change(number, Connection::flush);
            } else {
                self.ready.push_back(number);
            }
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
        let Some(connection) = self.connections.get_mut(&to.connection) else {
            self.drops.unreachable += 1;
            return;
        };
        let (before, bytes) = (connection.queued_bytes(), answer.len());
        let is_full = before > 0 && before + bytes > self.limits.bytes_per_peer_max;
        if is_full || self.queued_bytes + bytes > self.limits.bytes_max {
            self.drops.full += 1 + connection.queued() as u64;
            self.close(to.connection);
            return;
        }
        self.change(to.connection, |connection| connection.send(to.number, answer));
    }

    /// Does something with what waits for a client.
    fn change(&mut self, number: u64, change: impl FnOnce(&mut Connection) -> Result<(), Gone>) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let before = connection.queued_bytes();
        let changed = change(connection);
        let after = connection.queued_bytes();
        self.queued_bytes = self.queued_bytes - before + after;
        if changed.is_err() {
            self.drops.unreachable += connection.queued() as u64;
            self.close(number);
            return;
        }
        // It took something, or begins to wait. To wait behind others is neither.
        if after < before || before == 0 {
            connection.stalled_since = self.elapsed;
        }
        if before == 0 && after > 0 {
            self.slow.insert(number);
            self.watch(number, epoll::EventFlags::OUT);
        } else if before > 0 && after == 0 {
            self.slow.remove(&number);
            // It may have asked for more before.
            self.ready.push_back(number);
            self.watch(number, epoll::EventFlags::IN);
        }
    }

    fn watch(&mut self, number: u64, what: epoll::EventFlags) {
        let Some(connection) = self.connections.get(&number) else { return };
        let data = epoll::EventData::new_u64(number);
        if epoll::modify(&self.epoll, connection.as_fd(), data, what).is_err() {
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
        self.slow.remove(&number);
        // A descriptor is there for whoever waits.
        if self.accept_at.is_some() {
            self.accept_at = Some(self.elapsed);
        }
    }

    /// Tells the time, and gives up on clients that took nothing for too long.
    pub(super) fn tick(&mut self, elapsed: Duration) {
        self.elapsed = elapsed;
        if self.accept_at.is_some_and(|at| at <= elapsed) && self.watch_listener(true).is_ok() {
            self.accept_at = None;
        }
        let given_up = |number: &&u64| self.gives_up_at(number).is_some_and(|at| at <= elapsed);
        for number in self.slow.iter().filter(given_up).copied().collect::<Vec<_>>() {
            let queued = self.connections.get(&number).map_or(0, Connection::queued);
            self.drops.stalled += queued as u64;
            self.close(number);
        }
    }

    fn gives_up_at(&self, number: &u64) -> Option<Duration> {
        let connection = self.connections.get(number)?;
        Some(connection.stalled_since + self.limits.stalled_max)
    }

    /// When [`tick`](Self::tick) should be called next, if nothing else happens.
    pub(super) fn next_tick(&self) -> Option<Duration> {
        let stalled = self.slow.iter().filter_map(|number| self.gives_up_at(number));
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
