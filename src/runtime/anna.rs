//! Opens a store in Anna, as configured.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::clock::{self, Clock};
use super::config::{AnnaDurability, Settings};
use crate::anna::client::{Acks, Client, ClientConfig, OpenError, RoutingError, parse_routing};
use crate::storage::StorageError;
use crate::storage::anna::{AnnaOptions, AnnaStore, Connection, Publication};

/// How long a store that does not answer is waited for at the start.
const WAIT_MAX: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(500);
/// Operations on Anna under way at once.
const REQUESTS_MAX: usize = 65_536;

/// Why Anna cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AnnaError {
    /// The routing tier's address.
    #[error("anna-routing: {0}")]
    Routing(#[from] RoutingError),
    /// The client.
    #[error("cannot talk to Anna: {0}")]
    Client(#[from] OpenError),
    /// Nobody answers.
    #[error(
        "Anna does not answer at {routing} (anna-routing), tried for {waited:?}: {why}. Is it running, and can it reach this machine at {ip} (ip)?"
    )]
    Away {
        /// Where.
        routing: String,
        /// How long it was tried.
        waited: Duration,
        /// What happened last.
        why: StorageError,
        /// Where it answers to.
        ip: IpAddr,
    },
    /// The operating system.
    #[error("the operating system refused random bytes: {0}")]
    Random(std::io::Error),
}

/// Opens the store to read its logs, as somebody who writes nothing and of whom nobody there knows. Does
/// not wait for it.
pub(crate) fn open_to_read(
    ip: IpAddr,
    name: &str,
    routing: &str,
) -> Result<AnnaStore<Connection>, AnnaError> {
    let routing = parse_routing(routing)?;
    let client = Client::open(ClientConfig { ip, routing, ..ClientConfig::default() })?;
    let options = AnnaOptions {
        node: name.to_owned(),
        host: ip.to_string(),
        incarnation: String::new(),
        publication: Publication::default(),
        lands_within: Duration::ZERO,
        // What somebody of whom nobody knows writes down would be found by nobody.
        collects: false,
        ..AnnaOptions::default()
    };
    Ok(AnnaStore::open_to_read(Arc::new(Connection::new(client, Acks::Any)), options))
}

/// Opens the store; waits for one that is not there yet.
pub(super) async fn open(settings: &Settings) -> Result<AnnaStore<Connection>, AnnaError> {
    let defaults = ClientConfig::default();
    let client = Client::open(ClientConfig {
        ip: settings.ip,
        routing: parse_routing(&settings.anna_routing)?,
        requests_max: REQUESTS_MAX,
        bytes_max: settings.buffer_bytes_max.max(defaults.bytes_max),
        message_bytes_max: settings.message_bytes_max.max(defaults.message_bytes_max),
        ..defaults
    })?;
    let acks = match settings.anna_durability {
        AnnaDurability::Any => Acks::Any,
        AnnaDurability::All => Acks::All,
    };
    let kv = Arc::new(Connection::new(client, acks));
    let incarnation = format!("{:016x}", clock::random_seed().map_err(AnnaError::Random)?);
    let unpublished = settings.anna_unpublished.split(',').filter(|prefix| !prefix.is_empty());
    let options = AnnaOptions {
        node: settings.node_address(),
        host: settings.ip.to_string(),
        incarnation,
        publication: Publication { except: unpublished.map(str::to_owned).collect() },
        collects: settings.collect_garbage,
        lands_within: Duration::from_secs_f64(settings.anna_lands_within),
        ..AnnaOptions::default()
    };
    let clock = Clock::start();
    loop {
        let why = match AnnaStore::open(kv.clone(), options.clone()).await {
            Ok(store) => return Ok(store),
            Err(why) => why,
        };
        let waited = clock.elapsed();
        if waited >= WAIT_MAX {
            let routing = settings.anna_routing.clone();
            return Err(AnnaError::Away { routing, waited, why, ip: settings.ip });
        }
        tracing::warn!("waiting for Anna at {}: {why}", settings.anna_routing);
        tokio::time::sleep(PAUSE).await;
    }
}
