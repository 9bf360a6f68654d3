//! Node to node over ZeroMQ: each node binds a PULL socket per kind of message, peers connect PUSH.
//!
//! A question names the endpoint to which its answer goes; those are sockets of their own.

mod address;
mod codec;
mod travel;

use std::net::IpAddr;

use crate::node::PeerMessage;
use crate::transport::{Sockets, TransportError};

use address::NodeAddress;
pub use address::{BadAddress, check, name, normalize};
pub use codec::BadMessage;
pub(crate) use codec::{decode_anonymous, decode_list, encode_commits, encode_found};

/// The sockets of a node, before the port offset, in the order in which they are bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Socket {
    /// What was committed.
    Gossip = 7777,
    /// Answers to handovers.
    HandedOver = 9000,
    /// Answers about commits.
    CommitAnswers = 9001,
    /// Reads of buffered values.
    Queries = 9100,
    /// Answers to them.
    Queried = 9200,
    /// Handovers.
    HandOvers = 10000,
    /// Commits of transactions that ran on several nodes.
    Commits = 10100,
}

impl Socket {
    const ALL: [Self; 7] = [
        Self::Gossip,
        Self::HandedOver,
        Self::CommitAnswers,
        Self::Queries,
        Self::Queried,
        Self::HandOvers,
        Self::Commits,
    ];

    fn port(self) -> u16 {
        self as u16
    }

    fn decode(self, message: bytes::Bytes) -> Result<PeerMessage, BadMessage> {
        match self {
            Self::Gossip => codec::decode_list(message),
            Self::HandedOver => travel::decode_handed_over(message),
            Self::CommitAnswers => travel::decode_commit_response(message),
            Self::Queries => travel::decode_query(message),
            Self::Queried => travel::decode_queried(message),
            Self::HandOvers => travel::decode_hand_over(&message),
            Self::Commits => travel::decode_commit_request(message),
        }
    }
}

/// The ports of a node with this offset. Those beyond the last port are left out.
pub fn ports(offset: u16) -> impl Iterator<Item = u16> {
    Socket::ALL.into_iter().filter_map(move |socket| socket.port().checked_add(offset))
}

/// Where nodes and managers are told what was committed, before the port offset.
pub(crate) const GOSSIP_PORT: u16 = Socket::Gossip as u16;
/// Where a manager is asked which nodes there are, before the port offset.
pub(crate) const MEMBERS_PORT: u16 = 7007;

/// The endpoint of a port of the node or manager of this name; none if the offset leads beyond the last
/// port.
pub(crate) fn endpoint(name: &str, port: u16) -> Result<Option<String>, BadAddress> {
    NodeAddress::parse(name).map(|address| address.endpoint(port))
}

/// The longest message that is taken.
const MESSAGE_BYTES_MAX: usize = 512 << 20;

/// Why a node cannot be reached by others.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The offset leads beyond the last port.
    #[error("a port-offset of {0} is too large: ports end at 65535")]
    PortOffset(u16),
    /// A socket could not be bound.
    #[error("{0}; other nodes speak to this one there. Choose another --port-offset or --ip")]
    Socket(#[from] TransportError),
}

/// The sockets for other nodes.
pub struct Peers {
    /// This node.
    own: NodeAddress,
    /// The number of the first socket among all.
    first: usize,
    traffic: Traffic,
}

/// What went between this node and others since the start, before what TCP and ZeroMQ add.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Traffic {
    /// Messages that were to be sent.
    pub messages_sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Messages received.
    pub messages_received: u64,
    /// Their bytes.
    pub bytes_received: u64,
}

impl Peers {
    /// Binds the sockets of a node. `bound` is how many were bound before.
    pub fn bind(
        sockets: &mut Sockets,
        bound: usize,
        ip: IpAddr,
        offset: u16,
    ) -> Result<Self, PeerError> {
        let own = NodeAddress::new(ip, offset);
        for socket in Socket::ALL {
            let endpoint = own.endpoint(socket.port()).ok_or(PeerError::PortOffset(offset))?;
            sockets.bind(&endpoint, MESSAGE_BYTES_MAX)?;
        }
        Ok(Self { own, first: bound, traffic: Traffic::default() })
    }

    /// Takes one message from the socket of this number, if there is one.
    pub fn receive(
        &mut self,
        sockets: &Sockets,
        number: usize,
    ) -> Option<Result<PeerMessage, BadMessage>> {
        let socket = Socket::ALL.get(number.checked_sub(self.first)?)?;
        let message = sockets.inbox(number)?.receive()?;
        self.traffic.messages_received += 1;
        self.traffic.bytes_received += message.len() as u64;
        Some(socket.decode(message))
    }

    /// Sends a message to a node, or to the endpoint that a question named. A name that is none goes
    /// nowhere.
    pub fn send(&mut self, sockets: &mut Sockets, to: &str, message: &PeerMessage) {
        let (socket, bytes) = self.encode(message);
        let endpoint = if to.starts_with("tcp://") {
            Some(to.to_owned())
        } else {
            NodeAddress::parse(to).ok().and_then(|address| address.endpoint(socket.port()))
        };
        if let Some(endpoint) = endpoint {
            self.traffic.messages_sent += 1;
            self.traffic.bytes_sent += bytes.len() as u64;
            sockets.outbox().send(&endpoint, bytes);
        }
    }

    /// What was sent and received so far.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    fn encode(&self, message: &PeerMessage) -> (Socket, Vec<u8>) {
        let answered_at = |socket: Socket| self.own.endpoint(socket.port()).unwrap_or_default();
        match message {
            PeerMessage::Commits(batch) => (Socket::Gossip, codec::encode_commits(batch)),
            PeerMessage::Resend(asked) => (Socket::Gossip, codec::encode_resend(asked)),
            PeerMessage::Found(found) => (Socket::Gossip, codec::encode_found(found)),
            PeerMessage::Grace(ask) => (Socket::Gossip, codec::encode_grace(ask)),
            PeerMessage::Graced(answer) => (Socket::Gossip, codec::encode_graced(answer)),
            PeerMessage::HandOver(asked) => {
                let answer = answered_at(Socket::HandedOver);
                (Socket::HandOvers, travel::encode_hand_over(asked, &answer))
            }
            PeerMessage::HandedOver(answer) => {
                (Socket::HandedOver, travel::encode_handed_over(answer))
            }
            PeerMessage::Query(asked) => {
                let answer = answered_at(Socket::Queried);
                (Socket::Queries, travel::encode_query(asked, &answer))
            }
            PeerMessage::Queried(answer) => (Socket::Queried, travel::encode_queried(answer)),
            PeerMessage::Collect(asked) => {
                let answer = answered_at(Socket::CommitAnswers);
                (Socket::Commits, travel::encode_collect(asked, &answer))
            }
            PeerMessage::Collected(answer) => {
                (Socket::CommitAnswers, travel::encode_collected(answer))
            }
            PeerMessage::Over(told) => (Socket::Commits, travel::encode_over(told)),
            PeerMessage::Forward(asked) => {
                let answer = answered_at(Socket::CommitAnswers);
                (Socket::Commits, travel::encode_forward(asked, &answer))
            }
            PeerMessage::Forwarded(answer) => {
                (Socket::CommitAnswers, travel::encode_forwarded(answer))
            }
        }
    }
}
