//! The Anna under test, and ways to it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;

use super::BenchError;
use super::children::{Family, Process};
use super::sidecar::{Kept, READY_MAX, said, this_program};
use crate::anna::client::{Acks, Client, ClientConfig, parse_routing};
use crate::anna::lattice::Lattice;
use crate::storage::StorageError;
use crate::storage::anna::{
    AnnaOptions as StoreOptions, AnnaStore, Connection, KeyValue, Publication,
};

/// Where all nodes are named.
const NODES: &str = "aft~nodes";

/// Longer than Anna's own pauses, of seconds when it has served some millions of requests.
const WITHIN: Duration = Duration::from_secs(30);

/// A store without a sidecar.
pub(super) type Store = AnnaStore<Unlisted>;

/// The Anna under test.
pub(super) struct Place {
    routing: String,
    ip: IpAddr,
    /// Distinguishes what this run leaves in the store.
    pub(super) run: String,
    own: Option<Process>,
}

impl Place {
    /// The Anna that was named, or one of our own.
    pub(super) fn find(
        family: &Family,
        routing: Option<&str>,
        ip: IpAddr,
    ) -> Result<Self, BenchError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let run = format!("{:x}", now.as_nanos());
        if let Some(routing) = routing {
            return Ok(Self { routing: routing.to_owned(), ip, run, own: None });
        }
        let mut command = this_program()?;
        command.args(["anna-server", "--port-offset", "free", "--ip", "127.0.0.1"]);
        let server = family.spawn("anna", &mut command)?;
        let ready = server.line("ready", READY_MAX)?;
        let routing = said(&ready, "routing").ok_or_else(|| server.failed("named no endpoint"))?;
        let ip = std::net::Ipv4Addr::LOCALHOST.into();
        Ok(Self { routing, ip, run, own: Some(server) })
    }

    /// For a sidecar.
    pub(super) fn kept(&self) -> Kept {
        Kept::Anna { routing: self.routing.clone(), ip: self.ip }
    }

    /// The process of the Anna that was started here, if it was.
    pub(super) fn pid(&self) -> Option<u32> {
        self.own.as_ref().map(Process::pid)
    }

    pub(super) fn client(&self) -> Result<Client, BenchError> {
        let routing = parse_routing(&self.routing).map_err(not_done)?;
        let config =
            ClientConfig { ip: self.ip, routing, within: WITHIN, ..ClientConfig::default() };
        Client::open(config).map_err(not_done)
    }

    /// A store for `node`, which only those with the same `node` know.
    pub(super) async fn store(
        &self,
        client: &Client,
        node: &str,
        incarnation: usize,
    ) -> Result<Arc<Store>, BenchError> {
        let node = format!("bench-{}-{node}", self.run);
        let kv = Unlisted {
            connection: Connection::new(client.clone(), Acks::Any),
            nodes: format!("{NODES}~{node}"),
        };
        let options = StoreOptions {
            node,
            host: self.ip.to_string(),
            incarnation: incarnation.to_string(),
            publication: Publication::default(),
            lands_within: Duration::from_secs(10),
            ..StoreOptions::default()
        };
        Ok(Arc::new(AnnaStore::open(Arc::new(kv), options).await?))
    }

    /// The process that was started here, if one was.
    pub(super) fn into_process(self) -> Option<Process> {
        self.own
    }

    pub(super) fn end(self) {
        if let Some(server) = self.own {
            server.end();
        }
    }
}

pub(super) fn not_done(why: impl std::fmt::Display) -> BenchError {
    BenchError::Answer(why.to_string())
}

/// A way to Anna on which the set that names all nodes is another one: sidecars, which follow the logs
/// of all nodes, would work while we measure, and we would read their logs.
pub(super) struct Unlisted {
    connection: Connection,
    nodes: String,
}

impl Unlisted {
    fn name<'a>(&'a self, key: &'a str) -> &'a str {
        if key == NODES { &self.nodes } else { key }
    }
}

#[async_trait]
impl KeyValue for Unlisted {
    async fn get(&self, key: &str) -> Result<Option<Lattice>, StorageError> {
        self.connection.get(self.name(key)).await
    }

    async fn get_newest(&self, key: &str) -> Result<Option<Lattice>, StorageError> {
        self.connection.get_newest(self.name(key)).await
    }

    async fn put(&self, key: &str, value: Lattice) -> Result<(), StorageError> {
        self.connection.put(self.name(key), value).await
    }

    fn expect(&self, key: &str) {
        self.connection.expect(key);
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        self.connection.counters()
    }
}
