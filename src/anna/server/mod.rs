//! A small store that speaks Anna's protocol, for tests, demonstrations and laptops.
//!
//! It answers as Anna does where a client can tell the difference: which keys are answered together
//! and which alone, what is acknowledged and not stored, what is never answered. It is a single
//! process without replication, gossip or elasticity, so it is no replacement for Anna, and it can be
//! told to misbehave ([`Misbehaviour`]) as a cluster in trouble does.
//!
//! In a test:
//!
//! ```
//! use aft::anna::server::{self, Options, PortOffset};
//!
//! let options = Options { port_offset: PortOffset::Free, ..Options::default() };
//! let server = server::start(options).unwrap();
//! println!("routing is at {}", server.routing()[0]);
//! ```
//!
//! # Layout
//!
//! - `options`, `handle`: what is asked for and what is got.
//! - `machine`: the server without its sockets; `serve`: the loop around it; `admin`: control over HTTP.
//! - `router`, `thread`: the two tiers, which decide what is answered; `placement`: who owns a key.
//! - `store`, `value`, `disk`: what is stored, and how two writes of a key become one value.
//! - `faults`, `outgoing`: what goes wrong on purpose.
//!
//! # Where it differs from Anna
//!
//! - An empty key ends Anna's storage process. Here it is ignored and logged, as is one that is longer
//!   than the disk takes.
//! - A message that cannot be decoded is ignored; Anna makes use of what it could read of it.
//! - Each key has one replica. Replication factors written as metadata are stored and have no effect.
//! - Routing knows a new key at once, Anna only after it has asked a storage thread.

pub mod admin;
mod disk;
mod faults;
mod handle;
mod machine;
mod options;
mod outgoing;
mod placement;
mod protocol;
mod router;
mod serve;
mod status;
mod store;
mod thread;
mod value;

use fastrand::Rng;

use self::machine::{Server, Socket};
use self::store::Store;
use crate::transport::{OutboxLimits, Sockets, TransportError};

pub use self::disk::DiskError;
pub use self::faults::{Misbehaviour, MisbehaviourError};
pub use self::handle::{Control, Handle};
pub use self::options::{Options, PortOffset};
pub use self::placement::NoSuchThread;
pub use self::protocol::{ROUTING_PORT, ROUTING_THREADS_MAX, STORAGE_PORT, STORAGE_THREADS_MAX};
pub use self::status::{Counters, Status};

/// Offsets that [`PortOffset::Free`] tries: their ports are below those that the system gives to
/// outgoing connections.
const FREE_OFFSETS: std::ops::Range<u16> = 2_000..25_000;
const FREE_OFFSETS_TRIED_MAX: usize = 100;

/// Why a server did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A socket could not be bound.
    #[error("{0}; is another server running? Choose another --port-offset")]
    Transport(#[from] TransportError),
    /// The ports would be beyond the last one.
    #[error("a port offset of {0} is too large: ports end at 65535")]
    PortOffset(u16),
    /// So many threads are not possible.
    #[error("{count} {tier} threads are not possible: choose between 1 and {max}")]
    Threads {
        /// Which threads.
        tier: &'static str,
        /// How many were asked for.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// The misbehaviour is none that can be.
    #[error(transparent)]
    Misbehaviour(#[from] MisbehaviourError),
    /// The values cannot be read or written.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The operating system refused something.
    #[error("the operating system refused {what}: {source}")]
    System {
        /// What.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The thread that serves has panicked.
    #[error("the server has panicked")]
    Panicked,
}

/// Starts a server in a thread of its own.
pub fn start(options: Options) -> Result<Handle, ServerError> {
    options.check()?;
    let store = match &options.data_dir {
        Some(directory) => Store::open(directory, options.sync)?,
        None => Store::default(),
    };
    let (sockets, port_offset) = bind(&options)?;
    let (routing, storage) = (options.routing(port_offset), options.storage(port_offset));
    let kinds = (0..routing.len()).map(Socket::Routing);
    let kinds = kinds.chain((0..storage.len()).map(Socket::Storage)).collect();
    let server = Server::new(routing, storage, store, options.misbehaviour);
    Handle::run(server, sockets, kinds, port_offset)
        .map_err(|source| ServerError::System { what: "a thread", source })
}

/// Binds all sockets, first those of routing, then those of storage. Says how far their ports are from
/// Anna's own.
fn bind(options: &Options) -> Result<(Sockets, u16), ServerError> {
    let mut offsets = Rng::new();
    let mut tried = 0;
    loop {
        tried += 1;
        let (offset, is_last) = match options.port_offset {
            PortOffset::Fixed(offset) => (offset, true),
            PortOffset::Free => (offsets.u16(FREE_OFFSETS), tried == FREE_OFFSETS_TRIED_MAX),
        };
        match bind_at(options, offset) {
            Ok(sockets) => return Ok((sockets, offset)),
            Err(error) if is_last => return Err(error.into()),
            Err(_) => {}
        }
    }
}

fn bind_at(options: &Options, offset: u16) -> Result<Sockets, TransportError> {
    let mut sockets = Sockets::new(OutboxLimits::default())?;
    let endpoints = options.routing(offset).into_iter().chain(options.storage(offset));
    for endpoint in endpoints {
        sockets.bind(&endpoint, usize::MAX)?;
    }
    Ok(sockets)
}
