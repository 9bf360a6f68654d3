//! Messages over sockets: the only place that knows the `zmq` crate.
//!
//! One thread owns all sockets. It sleeps in [`Sockets::wait`] until a message can be read, a client
//! that was slow can take more, or another thread calls [`Wake::wake`]; it does not poll on a short
//! timer. Messages are single frames, requests and answers alike travel PUSH → PULL. The exceptions are
//! clients that are answered on their own connection, which is a plain Unix socket ([`Sockets::call`]), and
//! ZeroMQ's own request and reply, spoken by those who ask for the nodes of a cluster: [`Asker`], and
//! [`Sockets::answer`].
//!
//! ZeroMQ promises no delivery, so nothing here does: a message that cannot be delivered is dropped
//! and counted ([`Drops`]).
//!
//! [`Client`], [`CallingClient`] and [`Responder`] are the other side, for benchmarks and tests.

mod answerer;
mod asker;
mod calls;
mod client;
mod inbox;
mod outbox;
mod sleeper;
mod wake;

use std::fmt;
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use answerer::Answered;
use answerer::Answerer;
pub use asker::{AskError, Asker};
use calls::Callers;
pub use calls::{BadFrame, Call, Called, Caller, TooLarge};
pub use client::{CallingClient, Client, ClientContext, Responder};
pub use inbox::Inbox;
pub use outbox::{Drops, Outbox, OutboxLimits, Ticket};
use sleeper::Sleeper;
use tokio::runtime::Runtime;
pub use wake::Wake;

/// Why sockets could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// libzmq refused.
    #[error("cannot {what} {endpoint}: {source}")]
    Socket {
        /// What was tried.
        what: &'static str,
        /// On which endpoint.
        endpoint: String,
        /// libzmq's reason.
        source: zmq::Error,
    },
    /// Nobody can connect there.
    #[error("cannot listen at {}: {source}", path.display())]
    Listen {
        /// Where.
        path: PathBuf,
        /// The kernel's reason.
        source: std::io::Error,
    },
    /// Nobody takes calls there.
    #[error("cannot connect to {}: {source}", path.display())]
    Connect {
        /// Where.
        path: PathBuf,
        /// The kernel's reason.
        source: std::io::Error,
    },
    /// What is to be waited for could not be told to the kernel.
    #[error("cannot create an event descriptor: {0}")]
    Wake(#[from] std::io::Error),
}

/// Says which endpoint an error of libzmq is about.
fn failed(what: &'static str, endpoint: &str) -> impl FnOnce(zmq::Error) -> TransportError {
    let endpoint = endpoint.to_owned();
    move |source| TransportError::Socket { what, endpoint, source }
}

/// libzmq wants to be told. In endpoints, only addresses of IPv6 have brackets.
fn is_ipv6(endpoint: &str) -> bool {
    endpoint.contains('[')
}

/// Where an answer goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplyTo {
    /// To a socket that the client has bound.
    Endpoint(String),
    /// Back to where the request came from.
    Caller(Caller),
}

impl fmt::Display for ReplyTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint(endpoint) => f.write_str(endpoint),
            Self::Caller(caller) => caller.fmt(f),
        }
    }
}

/// How soon to see again whether a slow peer takes more, where nothing tells of it.
const RETRY: Duration = Duration::from_millis(5);

/// The number of the socket of [`Sockets::call`], which is not counted with the others.
pub const CALLS: usize = usize::MAX;

/// All sockets of one thread.
pub struct Sockets {
    // The first to be dropped: it looks at what the others own.
    sleeper: Option<Sleeper>,
    context: zmq::Context,
    limits: OutboxLimits,
    callers: Option<Callers>,
    inboxes: Vec<Inbox>,
    answerers: Vec<Answerer>,
    outbox: Outbox,
    wake: Arc<Wake>,
}

impl Sockets {
    /// No sockets yet.
    pub fn new(limits: OutboxLimits) -> Result<Self, TransportError> {
        let context = zmq::Context::new();
        let outbox = Outbox::new(context.clone(), limits.clone());
        Ok(Self {
            sleeper: None,
            context,
            limits,
            callers: None,
            inboxes: Vec::new(),
            answerers: Vec::new(),
            outbox,
            wake: Arc::new(Wake::new()?),
        })
    }

    /// Binds one more PULL socket. Its number is how many were bound before. For the port, `*` means one
    /// that the system chooses; [`Inbox::endpoint`] says which.
    pub fn bind(&mut self, endpoint: &str, message_bytes_max: usize) -> Result<(), TransportError> {
        self.inboxes.push(Inbox::bind(&self.context, endpoint, message_bytes_max)?);
        Ok(())
    }

    /// Listens for those who are answered on their own connection, at a path where no other process does.
    pub fn bind_callers(
        &mut self,
        path: &Path,
        message_bytes_max: usize,
    ) -> Result<(), TransportError> {
        self.callers = Some(Callers::bind(path, message_bytes_max, self.limits.clone())?);
        Ok(())
    }

    /// The next request of those, if one is there.
    pub fn call(&mut self) -> Option<Called> {
        self.callers.as_mut()?.receive()
    }

    /// Closes the connection of one of them: it asked for something that cannot be answered.
    pub fn hang_up(&mut self, on: Caller) {
        if let Some(callers) = &mut self.callers {
            callers.hang_up(on);
        }
    }

    /// How many of them there are.
    pub fn callers(&self) -> usize {
        self.callers.as_ref().map_or(0, Callers::clients)
    }

    /// Sends an answer, or queues it where the client is slow, or drops it and counts.
    pub fn reply(&mut self, to: &ReplyTo, bytes: Vec<u8>) {
        match (to, &mut self.callers) {
            (ReplyTo::Endpoint(endpoint), _) => self.outbox.send(endpoint, bytes),
            (ReplyTo::Caller(caller), Some(callers)) => callers.send(*caller, bytes),
            (ReplyTo::Caller(_), None) => {}
        }
    }

    /// As [`Outbox::tick`], for all that is on its way out.
    pub fn tick(&mut self, elapsed: Duration) {
        self.outbox.tick(elapsed);
        if let Some(callers) = &mut self.callers {
            callers.tick(elapsed);
        }
    }

    /// As [`Outbox::next_tick`].
    pub fn next_tick(&self) -> Option<Duration> {
        let callers = self.callers.as_ref().and_then(Callers::next_tick);
        self.outbox.next_tick().into_iter().chain(callers).min()
    }

    /// Bytes that wait for slow peers and clients.
    pub fn queued_bytes(&self) -> usize {
        self.outbox.queued_bytes() + self.callers.as_ref().map_or(0, Callers::queued_bytes)
    }

    /// Messages dropped so far.
    pub fn drops(&self) -> Drops {
        let callers = self.callers.as_ref().map(Callers::drops).unwrap_or_default();
        self.outbox.drops() + callers
    }

    /// Binds one more socket for those who ask and wait.
    pub fn bind_answerer(&mut self, endpoint: &str) -> Result<(), TransportError> {
        self.answerers.push(Answerer::bind(&self.context, endpoint)?);
        Ok(())
    }

    /// Answers all who ask by now, or a bounded number of them: then [`wait`](Self::wait) does not wait.
    pub fn answer(&self, mut reply: impl FnMut() -> Vec<u8>) -> Answered {
        let mut all = Answered::default();
        for answerer in &self.answerers {
            let Answered { answered, dropped } = answerer.answer(&mut reply);
            all.answered += answered;
            all.dropped += dropped;
        }
        all
    }

    /// The socket with this number.
    pub fn inbox(&self, number: usize) -> Option<&Inbox> {
        self.inboxes.get(number)
    }

    /// Where messages leave.
    pub fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// Wakes [`wait`](Self::wait) from any thread.
    pub fn waker(&self) -> Arc<Wake> {
        self.wake.clone()
    }

    /// Lets the tasks of a runtime without threads of its own go on while this thread sleeps in
    /// [`wait`](Self::wait). To be called when all sockets are bound.
    pub fn sleep_in(&mut self, runtime: Runtime) -> Result<(), TransportError> {
        let mut sleeper = Sleeper::new(runtime);
        let inboxes = self.inboxes.iter().map(Inbox::descriptor);
        let answerers = self.answerers.iter().map(Answerer::descriptor);
        let callers = self.callers.iter().map(Callers::descriptor);
        let wake = [self.wake.as_raw_fd()];
        let all: Vec<RawFd> =
            wake.into_iter().chain(inboxes).chain(answerers).chain(callers).collect();
        sleeper.watch(all)?;
        self.sleeper = Some(sleeper);
        Ok(())
    }

    /// Gives that runtime back, if there was one.
    pub fn wake_up(&mut self) -> Option<Runtime> {
        self.sleeper.take().map(Sleeper::into_runtime)
    }

    /// Sleeps until there is something to do, at most `timeout`, and puts the numbers of the sockets that
    /// can be read into `readable` ([`CALLS`] for the one of [`call`](Self::call)). [`Self::tick`] wants to be
    /// called then.
    pub fn wait(&mut self, timeout: Option<Duration>, readable: &mut Vec<usize>) {
        readable.clear();
        let slow = self.outbox.backlogged();
        let callers = self.callers.iter();
        let bound = self.inboxes.len() + self.answerers.len() + callers.len();
        let mut items = Vec::with_capacity(bound + 1 + slow.len());
        items.push(zmq::PollItem::from_fd(self.wake.as_raw_fd(), zmq::POLLIN));
        items.extend(self.inboxes.iter().map(Inbox::poll_descriptor));
        items.extend(self.answerers.iter().map(Answerer::poll_descriptor));
        items.extend(callers.map(Callers::poll_descriptor));
        items.extend(slow.iter().map(|socket| socket.as_poll_item(zmq::POLLOUT)));
        let may_have_more = self.inboxes.iter().any(Inbox::may_have_more)
            || self.answerers.iter().any(Answerer::may_have_more)
            || self.callers.as_ref().is_some_and(Callers::may_have_more);
        let mut timeout = if may_have_more { Some(Duration::ZERO) } else { timeout };
        if let Some(sleeper) = &self.sleeper {
            // The sleeper does not see when a slow peer can take more.
            let at_most =
                if slow.is_empty() { timeout } else { Some(RETRY.min(timeout.unwrap_or(RETRY))) };
            sleeper.sleep(at_most, || zmq::poll(&mut items, 0).is_ok_and(|count| count > 0));
            timeout = Some(Duration::ZERO);
        }
        // Rounded up: waking a moment before a deadline would only mean to sleep again.
        let millis = match timeout {
            None => -1,
            Some(time) => time.as_micros().div_ceil(1000).min(60_000) as i64,
        };
        // An interrupted poll is an empty one.
        let _ = zmq::poll(&mut items, millis);
        let (waked, rest) = items
            .split_first()
            .map_or((false, &[][..]), |(first, rest)| (first.is_readable(), rest));
        let inboxes = self.inboxes.iter().zip(rest).enumerate();
        readable.extend(
            inboxes
                .filter(|(_, (inbox, item))| inbox.may_have_more() || item.is_readable())
                .map(|(number, _)| number),
        );
        let mut calls = self.callers.iter().zip(rest.iter().take(bound).next_back());
        let has_calls = calls.any(|(callers, item)| callers.may_have_more() || item.is_readable());
        readable.extend(has_calls.then_some(CALLS));
        let some_can_take_more = rest.iter().skip(bound).any(|i| i.is_writable());
        drop(items);
        if waked {
            self.wake.clear();
        }
        if some_can_take_more {
            self.outbox.can_flush();
        }
    }
}
