//! Node to node over ZeroMQ: each node binds a PULL socket per kind of message, peers connect PUSH.

mod address;
mod codec;

use std::net::IpAddr;

use crate::node::PeerMessage;
use crate::transport::{Sockets, TransportError};

pub use address::{BadAddress, check};
pub use codec::BadMessage;

/// Where commits are told, before the port offset.
const GOSSIP_PORT: u16 = 7777;
/// The longest message that is taken.
const MESSAGE_BYTES_MAX: usize = 256 << 20;

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
    /// The number of the gossip socket among all.
    gossip: usize,
}

impl Peers {
    /// Binds the sockets of a node. `bound` is how many were bound before.
    pub fn bind(
        sockets: &mut Sockets,
        bound: usize,
        ip: IpAddr,
        offset: u16,
    ) -> Result<Self, PeerError> {
        let name = format!("{}:{offset}", bracketed(ip));
        let address = address::NodeAddress::parse(&name).ok();
        let endpoint = address.and_then(|address| address.endpoint(GOSSIP_PORT));
        let endpoint = endpoint.ok_or(PeerError::PortOffset(offset))?;
        sockets.bind(&endpoint, MESSAGE_BYTES_MAX)?;
        Ok(Self { gossip: bound })
    }

    /// Takes one message from the socket of this number, if there is one.
    pub fn receive(
        &self,
        sockets: &Sockets,
        number: usize,
    ) -> Option<Result<PeerMessage, BadMessage>> {
        if number != self.gossip {
            return None;
        }
        let message = sockets.inbox(number)?.receive()?;
        Some(codec::decode(message))
    }

    /// Sends a message to a node. A name that is none goes nowhere.
    pub fn send(&self, sockets: &mut Sockets, to: &str, message: &PeerMessage) {
        let address = address::NodeAddress::parse(to).ok();
        if let Some(endpoint) = address.and_then(|address| address.endpoint(GOSSIP_PORT)) {
            sockets.outbox().send(&endpoint, codec::encode(message));
        }
    }
}

fn bracketed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}
