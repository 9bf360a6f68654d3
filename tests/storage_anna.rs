//! The Anna backend over the real protocol: Anna's client, sockets, and a server that answers as Anna
//! does.
//!
//! `AFT_TEST_ANNA=HOST[:PORT]` names the routing tier of an Anna to use instead of the server that comes
//! with this project (and `AFT_TEST_IP` this machine's address as that Anna sees it).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aft::anna::client::{Acks, Client, ClientConfig, parse_routing};
use aft::anna::server::{self, Handle, Options, PortOffset};
use aft::runtime::clock::random_seed;
use aft::storage::anna::{AnnaOptions, AnnaStore, Connection, Publication};
use aft::storage::{Storage, conformance};

/// The store under test.
struct Anna {
    routing: Vec<String>,
    ip: IpAddr,
    /// Different in each run, since an external store keeps what earlier runs left.
    run: u64,
    _server: Option<Handle>,
}

impl Anna {
    fn start() -> Self {
        let run = random_seed().expect("random bytes") >> 1;
        if let Ok(routing) = std::env::var("AFT_TEST_ANNA") {
            let ip = std::env::var("AFT_TEST_IP").unwrap_or_else(|_| "127.0.0.1".to_owned());
            let routing = parse_routing(&routing).expect("AFT_TEST_ANNA");
            return Self { routing, ip: ip.parse().expect("AFT_TEST_IP"), run, _server: None };
        }
        let options = Options { port_offset: PortOffset::Free, ..Options::default() };
        let server = server::start(options).expect("the server starts");
        let ip = "127.0.0.1".parse().expect("an address");
        Self { routing: server.routing().to_vec(), ip, run, _server: Some(server) }
    }

    async fn open(&self, incarnation: u64, acks: Acks) -> Arc<AnnaStore<Connection>> {
        self.open_as("node", incarnation, acks).await
    }

    async fn open_as(
        &self,
        node: &str,
        incarnation: u64,
        acks: Acks,
    ) -> Arc<AnnaStore<Connection>> {
        let config =
            ClientConfig { ip: self.ip, routing: self.routing.clone(), ..Default::default() };
        let client = Client::open(config).expect("a client");
        let options = AnnaOptions {
            node: format!("{node}-{}", self.run),
            host: self.ip.to_string(),
            incarnation: incarnation.to_string(),
            publication: Publication::default(),
            lands_within: Duration::from_secs(1),
            ..AnnaOptions::default()
        };
        let kv = Arc::new(Connection::new(client, acks));
        Arc::new(AnnaStore::open(kv, options).await.expect("the store opens"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    let anna = Anna::start();
    let store = anna.open(1, Acks::Any).await;
    conformance::run(store.clone(), anna.run).await;
    store.close().await;
    let again = anna.open(2, Acks::All).await;
    again.clear_up(u64::MAX).await.expect("clear_up");
    conformance::run(again, anna.run + 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_sidecars_conform() {
    let anna = Anna::start();
    let mut stores: Vec<Arc<dyn Storage>> = Vec::new();
    for (node, acks) in [("one", Acks::Any), ("two", Acks::Any), ("three", Acks::All)] {
        stores.push(anna.open_as(node, 1, acks).await);
    }
    conformance::run_together(stores, anna.run).await;
}
