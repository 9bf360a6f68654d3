//! ZeroMQ IPC sockets for executors on the same machine: six PULL sockets in one directory, one per
//! kind of request. Each request names the socket on which it wants its answer.

mod address;
mod answer;
mod directory;
mod request;
mod scan;
mod token;

use bytes::Bytes;

use crate::node::{Answer, Event, Ticket};
use crate::transport::{Sockets, TransportError};
use crate::txn::Map;

pub use address::AddressError;
pub use directory::{Directory, DirectoryError};
pub use request::BadRequest;
use request::{Decoded, Pending};

/// The kinds of request, in the order in which their sockets are bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Begin a transaction.
    Start,
    /// Read keys.
    Get,
    /// Write keys.
    Put,
    /// Go on with a transaction of another node.
    Continue,
    /// Commit.
    Commit,
    /// Abort.
    Abort,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::Start, Self::Get, Self::Put, Self::Continue, Self::Commit, Self::Abort];

    /// The name of its socket file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Get => "get",
            Self::Put => "put",
            Self::Continue => "continue",
            Self::Commit => "commit",
            Self::Abort => "abort",
        }
    }
}

/// Limits on what one request may hold.
#[derive(Debug, Clone)]
pub struct RequestLimits {
    /// The largest message that is served, in bytes. One up to four times as large is refused with an
    /// answer; beyond that libzmq closes the connection.
    pub message_bytes_max: usize,
    /// The most keys in one request.
    pub keys_max: usize,
}

/// What a message turned out to be.
pub enum Incoming {
    /// A request for the node.
    Event(Event),
    /// Bad input. It was answered if that was possible.
    Bad(BadRequest),
}

/// A request that was answered: for counters.
pub struct Answered {
    /// Its kind.
    pub kind: Kind,
    /// When it came, as handed to [`Frontend::receive`].
    pub since: std::time::Duration,
}

/// The IPC frontend: remembers for each ticket where its answer goes.
pub struct Frontend {
    directory: Directory,
    address: String,
    limits: RequestLimits,
    waiting: Map<Ticket, (Pending, Kind, std::time::Duration)>,
    tickets: u64,
}

impl Frontend {
    /// Binds the six sockets in a directory that was locked for this process. `address` is how this
    /// node is called in answers.
    pub fn bind(
        directory: Directory,
        sockets: &mut Sockets,
        address: String,
        limits: RequestLimits,
    ) -> Result<Self, TransportError> {
        // What is a little too large should be told so, not cut off.
        let hard_limit = limits.message_bytes_max.saturating_mul(4);
        for kind in Kind::ALL {
            sockets.bind(&directory.endpoint(kind), hard_limit)?;
            directory.open_to_group(kind);
        }
        Ok(Self { directory, address, limits, waiting: Map::default(), tickets: 0 })
    }

    /// Takes one message from the socket of `kind`, if there is one.
    pub fn receive(
        &mut self,
        sockets: &mut Sockets,
        kind: Kind,
        elapsed: std::time::Duration,
    ) -> Option<Incoming> {
        let message = sockets.inbox(kind as usize)?.receive()?;
        Some(self.take(sockets, kind, message, elapsed))
    }

    fn take(
        &mut self,
        sockets: &mut Sockets,
        kind: Kind,
        message: Bytes,
        elapsed: std::time::Duration,
    ) -> Incoming {
        match request::decode(kind, message, &self.directory, &self.limits) {
            Decoded::Request(pending, make_event) => {
                self.tickets += 1;
                let ticket = Ticket(self.tickets);
                self.waiting.insert(ticket, (pending, kind, elapsed));
                Incoming::Event(make_event(ticket))
            }
            Decoded::Bad { why, reply_to } => {
                if let Some(pending) = reply_to {
                    let bytes = answer::bad_request(&pending, &why, &self.address);
                    sockets.outbox().send(&pending.endpoint, bytes);
                }
                Incoming::Bad(why)
            }
        }
    }

    /// Sends the answer to a request. A second answer to the same ticket goes nowhere.
    pub fn answer(
        &mut self,
        sockets: &mut Sockets,
        ticket: Ticket,
        answer: Answer,
        wall_ns: u64,
    ) -> Option<Answered> {
        let (pending, kind, since) = self.waiting.remove(&ticket)?;
        let bytes = answer::encode(&pending, answer, &self.address, wall_ns);
        sockets.outbox().send(&pending.endpoint, bytes);
        Some(Answered { kind, since })
    }

    /// Where the answer to a request goes.
    pub fn reply_address(&self, ticket: Ticket) -> Option<&str> {
        self.waiting.get(&ticket).map(|(pending, _, _)| pending.endpoint.as_str())
    }

    /// Requests that wait for their answer.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}
