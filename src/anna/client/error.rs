//! What can go wrong.

use std::time::Duration;

use super::KEY_BYTES_MAX;
use crate::anna::lattice::LatticeError;
use crate::transport::TransportError;
use crate::wire::anna::LatticeType;

/// Why a client could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No endpoint of the routing tier was named.
    #[error("no address of Anna's routing tier was given")]
    NoRouting,
    /// An endpoint of the routing tier is none.
    #[error("{0:?} is no endpoint of Anna's routing tier: it should look like tcp://HOST:PORT")]
    BadRouting(String),
    /// The store cannot answer to this address.
    #[error("{0} is not an address that the store could answer to: give this machine's own")]
    Unspecified(std::net::IpAddr),
    /// The sockets could not be made.
    #[error("cannot listen for Anna's answers: {0}. The ip must be one of this machine's own")]
    Sockets(#[from] TransportError),
    /// The thread could not be started, or there is no randomness.
    #[error("cannot start the Anna client: {0}")]
    System(#[from] std::io::Error),
}

/// Why an operation failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// Nothing was sent: the routing tier runs, but no storage server does.
    #[error(transparent)]
    NoServers(NoServers),
    /// There was no answer in time.
    #[error("{silent} did not answer for key {key:?} within {waited:?}; {}", after_time_out(*sent))]
    TimedOut {
        /// The key.
        key: String,
        /// How long it took in all.
        waited: Duration,
        /// The operation was handed to a storage server at least once, so a write may take effect (see
        /// the [module's page](super)). Otherwise it cannot.
        sent: bool,
        /// Who was waited for last.
        silent: Silent,
    },
    /// The store did not take the value, as its type is not that of the value it has.
    #[error(
        "the store did not take the value for key {key:?}: a value of another type than {} is stored \
         there. Use another key, or write that type", kind.as_str_name()
    )]
    NotStored {
        /// The key.
        key: String,
        /// The type that was to be written.
        kind: LatticeType,
    },
    /// The key cannot be used.
    #[error(transparent)]
    BadKey(#[from] KeyError),
    /// Too much is under way.
    #[error(
        "too many operations on the store are under way: wait for some of them, then try again"
    )]
    Overloaded,
    /// The value can never be sent.
    #[error(
        "key and value have {bytes} bytes, but at most {bytes_max} fit into a message: split it"
    )]
    TooLarge {
        /// Bytes of key and value.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// The store's answer makes no sense.
    #[error(transparent)]
    Damaged(Damage),
    /// The client's thread has ended.
    #[error("the Anna client has ended: open another one")]
    Closed,
}

/// The routing tier knows no storage server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the routing tier knows no storage server, asked for {waited:?}: start one, then try again"
)]
pub struct NoServers {
    /// How long it was asked.
    pub waited: Duration,
}

/// Who did not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Silent {
    /// The routing tier: none of the endpoints that were configured.
    Routing,
    /// The storage thread at this endpoint.
    Storage(String),
}

impl std::fmt::Display for Silent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Routing => write!(f, "the store's routing tier"),
            Self::Storage(endpoint) => write!(f, "the storage server at {endpoint}"),
        }
    }
}

fn after_time_out(sent: bool) -> &'static str {
    match sent {
        true => "a write may have taken effect or not: read it back, or write it again",
        false => "nothing was sent to a storage server: try again",
    }
}

/// Why a key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is empty.
    #[error("the key is empty: the store has no such keys")]
    Empty,
    /// It is too long.
    #[error("the key has {bytes} bytes, but {KEY_BYTES_MAX} are the most: use a shorter one")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

/// What makes no sense about an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store's value of key {key:?} cannot be read: {why}. Something else wrote it")]
pub struct Damage {
    /// The key.
    pub key: String,
    /// What is wrong with its value.
    pub why: DamageKind,
}

/// See [`Damage`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DamageKind {
    /// The payload is not of its type.
    #[error(transparent)]
    Payload(#[from] LatticeError),
    /// The type is unknown.
    #[error("its type has the unknown number {0}")]
    Type(i32),
    /// The store itself says so.
    #[error("the store reports that value and type do not fit")]
    Reported,
}
