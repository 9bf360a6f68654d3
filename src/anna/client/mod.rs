//! A client of Anna: reads and writes lattice values, from any thread and any executor.
//!
//! ```no_run
//! use aft::anna::client::{Acks, Client, ClientConfig, parse_routing};
//! use aft::anna::lattice::Lattice;
//!
//! # async fn demo() -> Result<(), Box<dyn std::error::Error>> {
//! let config = ClientConfig {
//!     ip: "10.0.0.5".parse()?, // this machine, as the store sees it
//!     routing: parse_routing("10.0.0.7")?,
//!     ..ClientConfig::default()
//! };
//! let client = Client::open(config)?;
//! let value = Lattice::Lww { timestamp: 7, value: "moin".into() };
//! client.put("greeting", value, Acks::Any).await?;
//! assert!(client.get("greeting").await?.is_some());
//! # Ok(())
//! # }
//! ```
//!
//! # How it talks to the store
//!
//! The routing tier says which storage threads keep a key. The client remembers that, for
//! [`ClientConfig::addresses_max`] keys, asks one of these threads, and repeats what is not answered:
//! with another replica or a fresh look-up, waiting longer each time, until [`ClientConfig::within`] is
//! over. A storage thread that says that it does not keep the key (any more) makes for a new look-up at
//! once. Requests to one storage thread that are ready at the same time travel in one message.
//!
//! All of that is a state machine without I/O (`core`), run by one thread that owns the sockets
//! (`driver`).
//!
//! # What a time-out leaves open
//!
//! A write that ended in [`ClientError::TimedOut`] with `sent: false` never left this process and never
//! will. With `sent: true` it may have taken effect, or may take effect later, but only so:
//!
//! - Nothing is handed to the network after the call has ended, or after [`ClientConfig::within`] if its
//!   future was dropped.
//! - What was handed over goes to the server process that was connected at that time, or to nobody. It
//!   is not kept for a server that was down, nor for one that has been started again since.
//! - So a late write needs that very process to be alive still, and to have been stalled or cut off. It
//!   may be suspended or swamped with work, for as long as that lasts. Or the network may have been down:
//!   the client closes a connection that is silent, and what the kernel then still holds it goes on
//!   sending for under two minutes (Linux's defaults, within one data centre).
//!
//! Whoever needs a bound must have one on how long a storage process can stall and live. Nobody needs
//! one for last-writer-wins values of increasing timestamps, or for sets: writing those late, or twice,
//! changes nothing that the same write in time would not have changed.

mod config;
mod core;
mod driver;
mod endpoint;
mod error;

use std::sync::Arc;

use bytes::Bytes;

pub use self::config::ClientConfig;
pub use self::core::Counters;
pub use self::endpoint::{RoutingError, parse_routing};
pub use self::error::{ClientError, Damage, DamageKind, KeyError, NoServers, OpenError, Silent};

use self::core::{Ask, Whom};
use self::driver::Handle;
use super::lattice::Lattice;

/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 32 * 1024;

/// Whose word it takes for a write to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Acks {
    /// One replica's. The others hear of the value from it, some time later.
    Any,
    /// That of all replicas which the routing tier names.
    All,
}

/// A handle of a client; clones are cheap and share everything. The last one to be dropped ends it.
///
/// The futures may be polled by any executor. To drop one gives the operation up: a write may have been
/// sent already.
#[derive(Debug, Clone)]
pub struct Client(Arc<Handle>);

impl Client {
    /// Binds the sockets and starts the thread. Whether there is a store is not asked.
    pub fn open(config: ClientConfig) -> Result<Self, OpenError> {
        Ok(Self(Arc::new(driver::start(config)?)))
    }

    /// The value of a key, from any replica that has an answer. None if that has no value, an empty
    /// value or an empty set.
    pub async fn get(&self, key: &str) -> Result<Option<Lattice>, ClientError> {
        check(key)?;
        self.0.run(key, Ask::Get { whom: Whom::Any }).await
    }

    /// The same, but a replica that has no value is not believed before all others say so too.
    pub async fn get_from_all(&self, key: &str) -> Result<Option<Lattice>, ClientError> {
        check(key)?;
        self.0.run(key, Ask::Get { whom: Whom::UntilFound }).await
    }

    /// What all replicas hold together: the newest, or the union. Replicas that do not answer are left
    /// out if others have a value.
    pub async fn get_merged(&self, key: &str) -> Result<Option<Lattice>, ClientError> {
        check(key)?;
        self.0.run(key, Ask::Get { whom: Whom::All }).await
    }

    /// Merges a value into that of the key.
    pub async fn put(&self, key: &str, value: Lattice, acks: Acks) -> Result<(), ClientError> {
        check(key)?;
        let (kind, payload): (_, Bytes) = (value.kind(), value.to_payload());
        self.0.run(key, Ask::Put { kind, payload, acks }).await.map(drop)
    }

    /// Looks up where the key is kept, so that the next operation on it saves a round trip. Does not
    /// wait and cannot fail; does nothing while too many look-ups are under way.
    pub fn prefetch(&self, key: &str) {
        if check(key).is_ok() {
            self.0.prefetch(key);
        }
    }

    /// Reads the key and tells nobody. A storage thread that is asked for a key for the first time looks
    /// up how often it is replicated, which takes as long again; the next operation saves that, and the
    /// look-up of the addresses. Does not wait and cannot fail; does nothing while there is much to do.
    pub fn touch(&self, key: &str) {
        if check(key).is_ok() {
            self.0.run_aside(key, Ask::Get { whom: Whom::All });
        }
    }

    /// What has happened since the start.
    pub fn counters(&self) -> Counters {
        self.0.counters()
    }
}

/// An empty key ends the storage process, and with it all other keys that it keeps.
fn check(key: &str) -> Result<(), KeyError> {
    match key.len() {
        0 => Err(KeyError::Empty),
        bytes if bytes > KEY_BYTES_MAX => Err(KeyError::TooLong { bytes }),
        _ => Ok(()),
    }
}
