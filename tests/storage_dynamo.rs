//! The DynamoDB backend against a real server (see `storage_dynamo/server.rs`), through its client.
#![cfg(feature = "dynamodb")]
#![allow(clippy::unwrap_used)]
// A test gives up by the real clock.
#![allow(clippy::disallowed_methods)]

#[path = "storage_dynamo/server.rs"]
mod server;

use std::sync::Arc;
use std::time::Duration;

use aft::runtime::clock::random_seed;
use aft::storage::dynamo::{DynamoOptions, DynamoStore, OpenError, Place};
use aft::storage::{Storage, conformance};

use server::Server;

/// The table under test. The server's credentials are any.
struct Table {
    url: String,
    name: String,
    run: u64,
    lease: Duration,
}

impl Table {
    fn new(url: String) -> Self {
        let run = random_seed().unwrap() >> 1;
        // Read once by each client, and the same in all tests of this process.
        Self { url, name: format!("aft-{run}"), run, lease: Duration::from_secs(20) }
    }

    fn place(&self) -> Place {
        Place {
            table: self.name.clone(),
            endpoint: Some(self.url.clone()),
            region: Some("us-east-1".into()),
            create: true,
        }
    }

    async fn open(&self) -> Arc<DynamoStore> {
        let options = DynamoOptions {
            place: self.place(),
            node: "node".into(),
            incarnation: random_seed().unwrap(),
            lease: self.lease,
        };
        Arc::new(DynamoStore::open(options).await.unwrap())
    }
}

/// A server of this test's own, unless one is named.
fn serve() -> (Option<Server>, Table) {
    match std::env::var("AFT_TEST_DYNAMODB") {
        Ok(url) => (None, Table::new(url)),
        Err(_) => {
            let server = Server::start();
            let table = Table::new(server.url());
            (Some(server), table)
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    let (_server, table) = serve();
    conformance::run(table.open().await, table.run).await;
    let again = table.open().await;
    conformance::run(again.clone(), table.run + 1).await;
    println!("{:?}", again.counters());
}

#[tokio::test(flavor = "multi_thread")]
async fn several_sidecars_conform() {
    let (_server, table) = serve();
    let stores: Vec<Arc<dyn Storage>> =
        vec![table.open().await, table.open().await, table.open().await];
    conformance::run_together(stores, table.run).await;
}
