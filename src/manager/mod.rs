//! `aft manager`: knows which nodes there are, and finds the commits of which nobody told.
//!
//! Nodes send it what they send each other, and a heartbeat each second (`nodes.rs`). Whoever asks is told
//! the addresses of those that live. If it is given the store, it follows the commit logs there, and tells
//! all nodes of commits whose own node died, or was cut off, before it did (`faults.rs`).
//!
//! No promise rests on it. Nodes keep the members that they have heard of while it is away, and follow the
//! logs themselves, each second. It keeps nothing on a disk: a second after its start it has heard of all.
//!
//! One thread owns the sockets and all that is known (`server.rs`); `follow.rs` reads the store beside it.

mod faults;
mod follow;
mod nodes;
mod server;
mod watch;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::peer::BadAddress;
use crate::runtime::config::Settings;
use crate::runtime::rest::{self, RestError};
use crate::runtime::{admin, limits};
use crate::storage::Storage;
use crate::transport::TransportError;

use server::{Handle, Server};
pub use server::{NodeStatus, Status};
use watch::ManagerWatch;

/// Where the admin endpoint is unless told otherwise.
pub const DEFAULT_ADMIN: SocketAddr =
    SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9466);

/// How a manager works.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it listens. Nodes know it by this address.
    pub ip: IpAddr,
    /// Added to its ports.
    pub port_offset: u16,
    /// A node that was silent for so long is out.
    pub node_timeout: Duration,
    /// A commit that is in the store's log is told to it within this time, or is found by it.
    pub gossip_bound: Duration,
}

/// Why a manager did not start.
#[derive(Debug, thiserror::Error)]
pub enum ManagerError {
    /// The offset leads beyond the last port.
    #[error("a port-offset of {0} is too large: ports end at 65535")]
    PortOffset(u16),
    /// Its own name.
    #[error(transparent)]
    Address(#[from] BadAddress),
    /// The sockets.
    #[error("{0}; nodes speak to the manager there. Choose another --port-offset or --ip")]
    Socket(#[from] TransportError),
    /// The store.
    #[error(transparent)]
    Store(#[from] RestError),
    /// The admin port.
    #[error("cannot listen on {address} for the admin endpoint: {source}; choose another --admin")]
    Admin {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The operating system.
    #[error("the operating system refused {what}: {source}")]
    System {
        /// What.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> ManagerError {
    move |source| ManagerError::System { what, source }
}

/// A manager that serves, on a thread of its own.
pub struct Manager {
    handle: Handle,
    thread: JoinHandle<()>,
    following: Option<tokio::task::AbortHandle>,
}

impl Manager {
    /// Binds the sockets and begins to serve. With a store it follows its log, as a task of the runtime
    /// in which this is called.
    pub fn start(options: &Options, store: Option<Arc<dyn Storage>>) -> Result<Self, ManagerError> {
        let server = Server::bind(options, store.is_some())?;
        let handle = server.handle();
        let following = store.map(|store| {
            let follow = follow::follow(store, handle.clone(), options.gossip_bound);
            tokio::spawn(follow).abort_handle()
        });
        let thread = std::thread::Builder::new().name("aft-manager".into());
        let thread = thread.spawn(move || server.run()).map_err(system("a thread"))?;
        Ok(Self { handle, thread, following })
    }

    /// How things are; none if it has ended.
    pub async fn status(&self) -> Option<Status> {
        self.handle.status().await
    }

    /// Ends it, and waits until its sockets are free again.
    pub fn end(self) {
        if let Some(following) = self.following {
            following.abort();
        }
        self.handle.end();
        // It ends by itself only if it panics, which was reported then.
        let _ = self.thread.join();
    }
}

/// Runs a manager until the process is told to end. `store` says which store the nodes share, if it is to look
/// there for commits of which nobody told.
pub fn run(
    options: &Options,
    store: Option<&Settings>,
    admin: SocketAddr,
) -> Result<(), ManagerError> {
    let storage = store.map_or("none".to_owned(), Settings::storage_shown);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), ?options, storage, "starting");
    let prometheus = admin::collect();
    limits::raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("aft-io")
        .enable_all()
        .build()
        .map_err(system("an asynchronous runtime"))?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(system("SIGTERM"))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(system("SIGINT"))?;
        let listener = admin::open(admin, DEFAULT_ADMIN).await;
        let listener = listener.map_err(|source| ManagerError::Admin { address: admin, source })?;
        let name = crate::peer::name(options.ip, options.port_offset);
        let opening = async {
            match store {
                Some(settings) => rest::open_shared(settings, &name).await.map(Some),
                None => Ok(None),
            }
        };
        // One that is away is waited for.
        let store = tokio::select! {
            opened = opening => opened?,
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        };
        let manager = Manager::start(options, store)?;
        let address = listener.as_ref().map(|(_, address)| *address);
        if let Some((listener, _)) = listener {
            let watch = ManagerWatch::new(manager.handle.clone(), name.clone());
            tokio::spawn(admin::serve(listener, Arc::new(watch), prometheus));
        }
        announce(&name, &storage, address);
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        manager.end();
        Ok::<(), ManagerError>(())
    })?;
    // What is under way to the store changes nothing there.
    runtime.shutdown_background();
    tracing::info!("ended");
    Ok(())
}

fn announce(name: &str, storage: &str, admin: Option<SocketAddr>) {
    use std::io::Write;
    let admin = admin.map_or("none".to_owned(), |address| address.to_string());
    // Whoever started us may have closed our output; that is no reason to fail.
    let mut out = std::io::stdout();
    let _ = writeln!(out, "ready address={name} storage={storage:?} admin={admin}");
    let _ = out.flush();
}
