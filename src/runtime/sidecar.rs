//! A sidecar's life: check everything, open the store, read its log, take the sockets, serve, drain.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::FixedState;
use std::hash::BuildHasher;
use tokio::signal::unix::{SignalKind, signal};

use super::admin;
use super::anna::{self, AnnaError};
use super::clock::{self, Clock};
use super::config::{ConsistencyKind, DEFAULT_ADMIN, Given, Settings, StorageKind};
#[cfg(feature = "dynamodb")]
use super::dynamo::{self, DynamoError};
use super::history::History;
use super::limits::raise_file_limit;
use super::members::{self, Members, Source};
#[cfg(feature = "redis")]
use super::redis::{self, RedisError};
use super::reload;
#[cfg(feature = "s3")]
use super::s3::{self, S3Error};
use super::shared;
use super::watch::SidecarWatch;
use super::worker::{Command, Handle, Worker};
use crate::frontend::ipc::{Directory, DirectoryError, Frontend, Kind, RequestLimits};
use crate::node::{Node, NodeConfig};
use crate::peer::{PeerError, Peers};
use crate::storage::embedded::{EmbeddedOptions, EmbeddedStore, OpenError};
use crate::storage::memory::MemoryStore;
use crate::storage::{LogPosition, LogScope, Storage, StorageError};
use crate::transport::{OutboxLimits, Sockets, TransportError};
use crate::txn::{Consistency, LastWriterWins, ReadAtomic};

/// How long SIGTERM waits for running transactions.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// How often a part of the commit log is asked for, if the store does not answer in time.
const LOG_TRIES: u32 = 10;

/// Why a sidecar did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum SidecarError {
    /// The socket directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The sockets.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The embedded store.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The sockets for other nodes.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// Anna.
    #[error(transparent)]
    Anna(#[from] AnnaError),
    /// Redis.
    #[cfg(feature = "redis")]
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// DynamoDB.
    #[cfg(feature = "dynamodb")]
    #[error(transparent)]
    DynamoDb(#[from] DynamoError),
    /// S3.
    #[cfg(feature = "s3")]
    #[error(transparent)]
    S3(#[from] S3Error),
    /// A store that this program was built without.
    #[error(
        "this aft cannot use --storage {storage}; build it with: cargo build --features {feature}"
    )]
    NotBuilt {
        /// The store.
        storage: &'static str,
        /// The feature that adds it.
        feature: &'static str,
    },
    /// The commit log.
    #[error("cannot read the commit log: {0}")]
    Log(StorageError),
    /// The admin port.
    #[error("cannot listen on {address} for the admin endpoint: {source}; choose another --admin")]
    Admin {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The history file.
    #[error("cannot write the history to {}: {source}", path.display())]
    History {
        /// Where.
        path: PathBuf,
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

fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> SidecarError {
    move |source| SidecarError::System { what, source }
}

/// Runs a sidecar in the calling thread until it is told to end. `given` is what the settings were made
/// from.
pub fn run(settings: &Settings, given: Given) -> Result<(), SidecarError> {
    tracing::info!(version = env!("CARGO_PKG_VERSION"), ?settings, "starting");
    let prometheus = admin::collect();
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("aft-io")
        .enable_all()
        .build()
        .map_err(system("an asynchronous runtime"))?;
    let near = runtime_of_store(settings.storage)?;
    let store_runtime = near.as_ref().unwrap_or(&runtime);
    // The store's futures are polled by this thread and may use that runtime's timers and threads.
    let context = store_runtime.handle().clone();
    let entered = context.enter();

    let directory = Directory::lock(&settings.ipc_dir)?;
    let refused = |source| SidecarError::Admin { address: settings.admin, source };
    let admin = runtime.block_on(admin::open(settings.admin, DEFAULT_ADMIN)).map_err(refused)?;
    let admin_address = admin.as_ref().map(|(_, address)| *address);
    let store = store_runtime.block_on(open_store(settings, runtime.handle()))?;
    let mut history = open_history(settings)?;
    let mut node = new_node(settings, &*store)?;
    let loaded = store_runtime.block_on(load(&*store, &mut node, history.as_mut()))?;
    let commits = loaded.commits;

    let limits = OutboxLimits { peers_max: settings.reply_sockets_max, ..OutboxLimits::default() };
    let mut sockets = Sockets::new(limits)?;
    let limits = RequestLimits {
        message_bytes_max: settings.message_bytes_max,
        keys_max: settings.keys_max,
    };
    let frontend = Frontend::bind(directory, &mut sockets, settings.node_address(), limits)?;
    let clock = Clock::start();
    let peers = if settings.is_clustered() {
        let bound = Kind::ALL.len();
        Some(Peers::bind(&mut sockets, bound, settings.ip, settings.port_offset)?)
    } else {
        None
    };
    let worker = Worker::new(node, frontend, peers, sockets, store.clone(), clock, history);
    let handle = worker.handle();
    let members = settings.is_clustered().then(|| follow_members(&runtime, settings, &handle));
    if let Some((listener, _)) = admin {
        let about = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "address": settings.node_address(),
            "ipc_dir": settings.ipc_dir,
            "storage": settings.storage,
            "consistency": settings.consistency,
            "commits_loaded": commits,
            "collects_garbage": settings.collect_garbage && store.collects_garbage(),
        });
        let watch = SidecarWatch {
            worker: handle.clone(),
            store: store.clone(),
            about,
            kind: settings.storage,
            counting: tokio::sync::Mutex::default(),
        };
        runtime.spawn(admin::serve(listener, Arc::new(watch), prometheus));
    }
    if store.is_shared() {
        let each = settings.anna_cache_report;
        let each = (each > 0.0).then(|| Duration::from_secs_f64(each));
        // Once before anything is served: what the store forgets from now on is noticed. A failure is
        // told by the next round.
        let _ = store_runtime.block_on(store.tend());
        shared::start(&runtime, &store, &handle, loaded.position, each);
    }
    drain_on_signal(&runtime, handle)?;
    if given.file.is_some() {
        let hangup = signal(SignalKind::hangup()).map_err(system("SIGHUP"))?;
        runtime.spawn(reload::on_signal(hangup, given, settings.clone(), members));
    }
    announce(settings, admin_address, commits);
    let near = worker.run(near)?;
    near.as_ref().unwrap_or(&runtime).block_on(store.close());
    // Nor is a name that does not resolve waited for.
    near.into_iter().for_each(tokio::runtime::Runtime::shutdown_background);
    // A question to a manager that does not answer is not waited for.
    drop(entered);
    runtime.shutdown_background();
    tracing::info!("ended");
    Ok(())
}

/// The runtime in which a store goes on whose part of the work is small: it has no threads, but goes on where
/// requests are served, so that a value is there without any change of threads. Others have the runtime of all.
fn runtime_of_store(storage: StorageKind) -> Result<Option<tokio::runtime::Runtime>, SidecarError> {
    if storage != StorageKind::Redis {
        return Ok(None);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map(Some).map_err(system("an asynchronous runtime"))
}

/// Keeps the worker told of the other nodes.
fn follow_members(
    runtime: &tokio::runtime::Runtime,
    settings: &Settings,
    worker: &Handle,
) -> Members {
    let members = Members::new(settings.node_address().into(), worker.clone());
    members.set(Source::Named, settings.peers());
    if let Some(manager) = settings.manager() {
        worker.send(Command::Listeners(vec![manager.clone()]));
        runtime.spawn(members::ask_manager(manager, members.clone()));
    }
    if !settings.dns.is_empty() {
        runtime.spawn(members::resolve(settings.dns.clone(), members.clone()));
    }
    members
}

fn announce(settings: &Settings, admin: Option<SocketAddr>, commits: usize) {
    use std::io::Write;
    let storage = settings.storage_shown();
    let ipc = settings.ipc_dir.display();
    // Whoever started us may have closed our output; that is no reason to fail.
    let mut out = std::io::stdout();
    let admin = admin.map_or("none".to_owned(), |address| address.to_string());
    let _ = writeln!(out, "ready ipc={ipc} storage={storage:?} admin={admin} commits={commits}");
    let _ = out.flush();
}

/// Opens the store as the settings say. What would hold up the present runtime goes on in `background`.
pub(crate) async fn open_store(
    settings: &Settings,
    background: &tokio::runtime::Handle,
) -> Result<Arc<dyn Storage>, SidecarError> {
    Ok(match settings.storage {
        StorageKind::Embedded => {
            Arc::new(EmbeddedStore::open(&settings.data_dir, EmbeddedOptions::default())?)
        }
        StorageKind::Memory => Arc::new(MemoryStore::default()),
        StorageKind::Anna => Arc::new(anna::open(settings).await?),
        #[cfg(feature = "redis")]
        StorageKind::Redis => Arc::new(redis::open(settings, background).await?),
        #[cfg(not(feature = "redis"))]
        StorageKind::Redis => {
            let (storage, feature, _) = ("redis", "redis", background);
            return Err(SidecarError::NotBuilt { storage, feature });
        }
        #[cfg(feature = "dynamodb")]
        StorageKind::DynamoDb => Arc::new(dynamo::open(settings).await?),
        #[cfg(not(feature = "dynamodb"))]
        StorageKind::DynamoDb => {
            let (storage, feature) = ("dynamodb", "dynamodb");
            return Err(SidecarError::NotBuilt { storage, feature });
        }
        #[cfg(feature = "s3")]
        StorageKind::S3 => Arc::new(s3::open(settings).await?),
        #[cfg(not(feature = "s3"))]
        StorageKind::S3 => {
            let (storage, feature) = ("s3", "s3");
            return Err(SidecarError::NotBuilt { storage, feature });
        }
    })
}

fn open_history(settings: &Settings) -> Result<Option<History>, SidecarError> {
    let path = &settings.history;
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    let failed = |source| SidecarError::History { path: path.clone(), source };
    History::create(path).map(Some).map_err(failed)
}

fn new_node(settings: &Settings, store: &dyn Storage) -> Result<Node, SidecarError> {
    let seed = clock::random_seed().map_err(system("random bytes"))?;
    let consistency: Box<dyn Consistency> = match settings.consistency {
        ConsistencyKind::ReadAtomic => Box::new(ReadAtomic),
        ConsistencyKind::Lww => Box::new(LastWriterWins),
    };
    Ok(Node::new(node_config(settings, store, seed), consistency, seed))
}

/// What a node is told of the settings.
pub(super) fn node_config(settings: &Settings, store: &dyn Storage, seed: u64) -> NodeConfig {
    let address: Arc<str> = settings.node_address().into();
    NodeConfig {
        node_tag: FixedState::with_seed(0).hash_one(&address),
        address,
        incarnation: format!("{seed:016x}").into(),
        clock_bound: Duration::from_secs_f64(settings.clock_bound),
        gossip_each: Duration::from_millis(settings.gossip_interval),
        has_peers: settings.is_clustered(),
        plain_keys: store.has_plain_keys(),
        idle_max: Duration::from_secs_f64(settings.txn_timeout),
        lifetime_max: Duration::from_secs_f64(settings.txn_lifetime),
        retry_window: Duration::from_secs_f64(settings.retry_window),
        value_bytes_max: settings.value_bytes_max,
        txn_bytes_max: settings.txn_bytes_max,
        buffer_bytes_max: settings.buffer_bytes_max,
        txn_max: settings.txn_max,
        cache_bytes_max: settings.cache_bytes_max,
        collects: settings.collect_garbage && store.collects_garbage(),
        index_keys_max: settings.index_keys_max,
        collect_each: Duration::from_secs_f64(settings.collect_each),
        sweep_each: match settings.sweep_each {
            0.0 => store.swept_each(),
            seconds => Duration::from_secs_f64(seconds),
        },
        orphans_after: Duration::from_secs_f64(settings.orphans_after),
        ..NodeConfig::default()
    }
}

/// What was read at the start.
struct Loaded {
    commits: usize,
    /// Where to read on.
    position: LogPosition,
}

/// Reads the store's whole log: after this the node knows every commit there is.
async fn load(
    store: &dyn Storage,
    node: &mut Node,
    mut history: Option<&mut History>,
) -> Result<Loaded, SidecarError> {
    let mut position = LogPosition::default();
    let (mut commits, mut failures, mut quarantined) = (0, 0, 0);
    let now = Clock::start().now();
    loop {
        let page = match store.commits_since(&position, LogScope::All).await {
            Ok(page) => page,
            Err(error @ StorageError::Unconfirmed(_)) if failures < LOG_TRIES => {
                failures += 1;
                tracing::warn!("reading the commit log again: {error}");
                continue;
            }
            Err(error) => return Err(SidecarError::Log(error)),
        };
        failures = 0;
        for commit in &page.commits {
            if !node.load(now, commit) {
                quarantined += 1;
            }
            if let Some(history) = &mut history {
                history.load(commit);
            }
        }
        make_room(store, node).await;
        commits += page.commits.len();
        tracing::debug!(commits, "reading the commit log");
        position = page.next;
        if page.end {
            if quarantined > 0 {
                tracing::warn!(
                    quarantined,
                    "commits are far ahead of this machine's clock and are not read yet (clock-bound)"
                );
            }
            return Ok(Loaded { commits, position });
        }
    }
}

/// Forgets keys that are too many while the log is read. If the store cannot confirm their heads they stay.
async fn make_room(store: &dyn Storage, node: &mut Node) {
    let heads = node.to_evict();
    if heads.is_empty() {
        return;
    }
    match store.set_heads(&heads).await {
        Ok(()) => node.evict(&heads),
        Err(error) => {
            tracing::warn!("more keys than index-keys-max are kept: {error}");
            node.keep(&heads);
        }
    }
}

fn drain_on_signal(runtime: &tokio::runtime::Runtime, worker: Handle) -> Result<(), SidecarError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(system("SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("SIGINT"))?;
    runtime.spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("draining");
        worker.send(Command::Drain(DRAIN_MAX));
    });
    Ok(())
}
