//! Sockets for executors on the same machine, in one directory: six PULL sockets of ZeroMQ, one per kind of
//! request, where each request names the socket on which it wants its answer; and `call`, a plain Unix socket for
//! all kinds, where it is answered on the connection by which it came.

mod address;
mod answer;
mod directory;
mod request;
mod scan;
mod token;

use bytes::Bytes;

use crate::node::{Answer, Event, Ticket};
use crate::transport::{Call, Called, Caller, ReplyTo, Sockets, TooLarge, TransportError};
use crate::txn::Map;

pub use address::AddressError;
pub use directory::{Directory, DirectoryError};
pub use request::BadRequest;
use request::{Decoded, Pending, Way};

/// The name of the socket file for all kinds of request.
pub const CALL: &str = "call";

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

    /// The kind of this name.
    pub fn named(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name().as_bytes() == name)
    }

    /// What stands for it on `call`: from 1 for a start to 6 for an abort.
    pub fn code(self) -> u8 {
        self as u8 + 1
    }

    fn of_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

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
    /// answer; beyond that the connection is closed.
    pub message_bytes_max: usize,
    /// The most keys in one request.
    pub keys_max: usize,
}

/// What a message turned out to be.
pub enum Incoming {
    /// A request for the node.
    Event(Event),
    /// Bad input. It was answered if that was possible.
    Bad {
        /// The name of its kind, or of the socket.
        kind: &'static str,
        /// What is wrong with it.
        why: BadRequest,
    },
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
    /// Binds the sockets in a directory that was locked for this process. `address` is how this
    /// node is called in answers.
    pub fn bind(
        directory: Directory,
        sockets: &mut Sockets,
        address: String,
        limits: RequestLimits,
    ) -> Result<Self, TransportError> {
        // What is a little too large should be told so, not cut off.
        let hard_limit = limits.message_bytes_max.saturating_mul(4);
        // First, so that clients which find any of the others find it, too.
        sockets.bind_callers(&directory.path_of(CALL), limits.message_bytes_max)?;
        directory.open_to_group(CALL);
        for kind in Kind::ALL.map(Kind::name) {
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
        Some(self.take(sockets, kind, message, None, elapsed))
    }

    /// Takes one message from the socket for all kinds, if there is one.
    pub fn receive_call(
        &mut self,
        sockets: &mut Sockets,
        elapsed: std::time::Duration,
    ) -> Option<Incoming> {
        let bad = |why| Some(Incoming::Bad { kind: CALL, why });
        let Call { caller, kind, request } = match sockets.call()? {
            Called::Request(call) => call,
            Called::Bad(why) => return bad(BadRequest::Frame(why)),
        };
        let Some(kind) = Kind::of_code(kind) else {
            // The client would wait for an answer that none of its kinds of request has.
            sockets.hang_up(caller);
            return bad(BadRequest::Kind(kind));
        };
        Some(match request {
            Ok(request) => self.take(sockets, kind, request, Some(caller), elapsed),
            Err(TooLarge { bytes }) => {
                let decoded = request::too_large(kind, bytes, caller, &self.limits);
                self.serve(sockets, kind, decoded, elapsed)
            }
        })
    }

    fn take(
        &mut self,
        sockets: &mut Sockets,
        kind: Kind,
        message: Bytes,
        caller: Option<Caller>,
        elapsed: std::time::Duration,
    ) -> Incoming {
        let way = caller.map_or(Way::Named(&self.directory), Way::Back);
        let decoded = request::decode(kind, message, way, &self.limits);
        self.serve(sockets, kind, decoded, elapsed)
    }

    fn serve(
        &mut self,
        sockets: &mut Sockets,
        kind: Kind,
        decoded: Decoded,
        elapsed: std::time::Duration,
    ) -> Incoming {
        match decoded {
            Decoded::Request(pending, make_event) => {
                self.tickets += 1;
                let ticket = Ticket(self.tickets);
                self.waiting.insert(ticket, (pending, kind, elapsed));
                Incoming::Event(make_event(ticket))
            }
            Decoded::Bad { why, reply_to } => {
                if let Some(pending) = reply_to {
                    let bytes = answer::bad_request(&pending, &why, &self.address);
                    sockets.reply(&pending.reply_to, bytes);
                }
                Incoming::Bad { kind: kind.name(), why }
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
        sockets.reply(&pending.reply_to, bytes);
        Some(Answered { kind, since })
    }

    /// Where the answer to a request goes.
    pub fn reply_address(&self, ticket: Ticket) -> Option<&ReplyTo> {
        self.waiting.get(&ticket).map(|(pending, _, _)| &pending.reply_to)
    }

    /// Requests that wait for their answer.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}
