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
//! - `core`: the server without its sockets; `serve`: the loop around it; `admin`: control over HTTP.
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
mod core;
mod disk;
mod faults;
mod outgoing;
mod placement;
mod protocol;
mod router;
mod serve;
mod status;
mod store;
mod thread;
mod value;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use fastrand::Rng;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use self::core::{Server, Socket};
use self::serve::Loop;
use self::store::Store;
use crate::transport::{OutboxLimits, Sockets, TransportError, Wake};

pub use self::disk::DiskError;
pub use self::faults::{Misbehaviour, MisbehaviourError};
pub use self::placement::NoSuchThread;
pub use self::protocol::{ROUTING_PORT, ROUTING_THREADS_MAX, STORAGE_PORT, STORAGE_THREADS_MAX};
pub use self::status::{Counters, Status};

/// Offsets that [`PortOffset::Free`] tries: their ports are below those that the system gives to
/// outgoing connections.
const FREE_OFFSETS: std::ops::Range<u16> = 2_000..25_000;
const FREE_OFFSETS_TRIED_MAX: usize = 100;

/// How far the ports are from Anna's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortOffset {
    /// So far.
    Fixed(u16),
    /// As far as is needed to find ports that nobody uses.
    Free,
}

impl std::str::FromStr for PortOffset {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "free" => Ok(Self::Free),
            number => number.parse().map(Self::Fixed),
        }
    }
}

/// What a server is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it listens, and what it tells clients.
    pub ip: Ipv4Addr,
    /// Added to all of Anna's ports.
    pub port_offset: PortOffset,
    /// Storage threads, 1 to [`STORAGE_THREADS_MAX`]: as many sockets, over which keys are hashed.
    pub threads: usize,
    /// Routing threads, 1 to [`ROUTING_THREADS_MAX`].
    pub routing_threads: usize,
    /// Where values are kept. In memory if nowhere.
    pub data_dir: Option<PathBuf>,
    /// Whether writes are on the disk when they are acknowledged. If not, they survive the end of the
    /// process but not that of the machine.
    pub sync: bool,
    /// How it misbehaves at first.
    pub misbehaviour: Misbehaviour,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ip: Ipv4Addr::LOCALHOST,
            port_offset: PortOffset::Fixed(0),
            threads: 1,
            routing_threads: 1,
            data_dir: None,
            sync: true,
            misbehaviour: Misbehaviour::default(),
        }
    }
}

/// Why a server did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A socket could not be bound.
    #[error("{0}; is another server running? Choose another --port-offset")]
    Transport(#[from] TransportError),
    /// No free ports were found.
    #[error("found no offset at which all ports are free; the last try: {0}")]
    NoFreePorts(TransportError),
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
    check(&options)?;
    let store = match &options.data_dir {
        Some(directory) => Store::open(directory, options.sync)?,
        None => Store::default(),
    };
    let (sockets, port_offset) = bind(&options)?;
    let (routing, storage) = endpoints(&options, port_offset);
    let kinds = (0..routing.len()).map(Socket::Routing);
    let kinds = kinds.chain((0..storage.len()).map(Socket::Storage)).collect();
    let server = Server::new(routing.clone(), storage.clone(), store, options.misbehaviour);
    let server = Arc::new(Mutex::new(server));
    let (stop, wake) = (Arc::new(AtomicBool::new(false)), sockets.waker());
    let serve = Loop { server: server.clone(), sockets, kinds, stop: stop.clone() };
    let (end, ended) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("anna-server".into())
        .spawn(move || {
            // Nobody may wait for the end.
            let _ = end.send(serve.run());
        })
        .map_err(|source| ServerError::System { what: "a thread", source })?;
    let control = Control { server };
    Ok(Handle { control, port_offset, routing, storage, stop, wake, thread: Some(thread), ended })
}

fn check(options: &Options) -> Result<(), ServerError> {
    let threads = [
        ("storage", options.threads, STORAGE_THREADS_MAX),
        ("routing", options.routing_threads, ROUTING_THREADS_MAX),
    ];
    for (tier, count, max) in threads {
        if !(1..=max).contains(&count) {
            return Err(ServerError::Threads { tier, count, max });
        }
    }
    if let PortOffset::Fixed(offset) = options.port_offset
        && offset.checked_add(ROUTING_PORT + ROUTING_THREADS_MAX as u16).is_none()
    {
        return Err(ServerError::PortOffset(offset));
    }
    Ok(options.misbehaviour.check()?)
}

/// Binds all sockets: first those of routing, then those of storage.
fn bind(options: &Options) -> Result<(Sockets, u16), ServerError> {
    let bind_at = |offset| {
        let mut sockets = Sockets::new(OutboxLimits::default())?;
        let (routing, storage) = endpoints(options, offset);
        routing.iter().chain(&storage).try_for_each(|at| sockets.bind(at, usize::MAX))?;
        Ok::<_, TransportError>(sockets)
    };
    match options.port_offset {
        PortOffset::Fixed(offset) => Ok((bind_at(offset)?, offset)),
        PortOffset::Free => {
            let mut rng = Rng::new();
            let mut tries = 1;
            loop {
                let offset = rng.u16(FREE_OFFSETS);
                match bind_at(offset) {
                    Ok(sockets) => return Ok((sockets, offset)),
                    Err(error) if tries == FREE_OFFSETS_TRIED_MAX => {
                        return Err(ServerError::NoFreePorts(error));
                    }
                    Err(_) => tries += 1,
                }
            }
        }
    }
}

/// Endpoints of the routing threads, and of the storage threads.
fn endpoints(options: &Options, offset: u16) -> (Vec<String>, Vec<String>) {
    let many = |first: u16, count: usize| {
        let ports = (first + offset..).take(count);
        ports.map(|port| format!("tcp://{}:{port}", options.ip)).collect()
    };
    (many(ROUTING_PORT, options.routing_threads), many(STORAGE_PORT, options.threads))
}

/// Looks at a server and tells it what to do, from any thread. Cheap to clone.
#[derive(Clone)]
pub struct Control {
    server: Arc<Mutex<Server>>,
}

impl Control {
    /// Behaves like this from now on.
    pub fn misbehave(&self, misbehaviour: Misbehaviour) -> Result<(), MisbehaviourError> {
        misbehaviour.check()?;
        self.server.lock().misbehave(misbehaviour);
        Ok(())
    }

    /// Forgets all values and which keys it has seen, as Anna's memory tier at a restart. Replies that
    /// have not left never do.
    pub fn forget(&self) {
        self.server.lock().forget();
    }

    /// Gives some keys, with their values, to the storage thread with this number.
    pub fn move_keys(&self, keys: &[String], to: usize) -> Result<(), NoSuchThread> {
        self.server.lock().move_keys(keys, to)
    }

    /// Gives the keys of each storage thread, with their values, to that which is so many after it.
    pub fn rotate(&self, by: usize) {
        self.server.lock().rotate(by);
    }

    /// How it is doing.
    pub fn status(&self) -> Status {
        self.server.lock().status()
    }
}

/// A running server. Dropping it stops it.
pub struct Handle {
    control: Control,
    port_offset: u16,
    routing: Vec<String>,
    storage: Vec<String>,
    stop: Arc<AtomicBool>,
    wake: Arc<Wake>,
    thread: Option<JoinHandle<()>>,
    ended: oneshot::Receiver<Result<(), DiskError>>,
}

impl Handle {
    /// Looks at it and tells it what to do.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// How far its ports are from Anna's own.
    pub fn port_offset(&self) -> u16 {
        self.port_offset
    }

    /// Endpoints of the routing threads.
    pub fn routing(&self) -> &[String] {
        &self.routing
    }

    /// Endpoints of the storage threads.
    pub fn storage(&self) -> &[String] {
        &self.storage
    }

    /// Waits for its end, which nobody asked for.
    pub async fn ended(&mut self) -> Result<(), ServerError> {
        match (&mut self.ended).await {
            Ok(ended) => Ok(ended?),
            Err(_) => Err(ServerError::Panicked),
        }
    }

    /// Ends it when it has sent the replies that are due.
    pub fn stop(self) {}
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.wake.wake();
        if let Some(thread) = self.thread.take() {
            // A panic has been printed; there is nothing to add.
            let _ = thread.join();
        }
    }
}
