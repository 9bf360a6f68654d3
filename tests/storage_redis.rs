//! The Redis backend on real servers.
//!
//! `AFT_TEST_REDIS=URL` names a server to use instead of those that are started here, for the tests that
//! do not have to stop theirs.
#![cfg(feature = "redis")]

#[path = "common/redis.rs"]
mod servers;

use std::sync::Arc;
use std::time::Duration;

use aft::runtime::clock::random_seed;
use aft::storage::redis::{Address, OpenError, RedisOptions, RedisStore};
use aft::storage::{Storage, conformance};
use servers::{RedisCluster, RedisServer};

fn random() -> u64 {
    random_seed().expect("random bytes") >> 1
}

fn options(urls: &str) -> RedisOptions {
    RedisOptions {
        address: Address::parse(urls, "").expect("an address"),
        prefix: "test:".to_owned(),
        timeout: Duration::from_secs(3),
        wait: 0,
        wait_within: Duration::from_secs(1),
        replica_reads: false,
        instance: random(),
    }
}

async fn open(options: RedisOptions) -> Arc<RedisStore> {
    Arc::new(RedisStore::open(options).await.expect("the store opens"))
}

/// The server to use, and the guard that ends it.
fn any_server() -> (String, Option<RedisServer>) {
    match std::env::var("AFT_TEST_REDIS") {
        Ok(url) => (url, None),
        Err(_) => {
            let server = RedisServer::start(&[]);
            (server.url(), Some(server))
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    let (url, _server) = any_server();
    let run = random();
    conformance::run(open(options(&url)).await, run).await;
    // A store that was used before serves as well, under another prefix, too.
    conformance::run(open(options(&url)).await, run + 1).await;
    let other = RedisOptions { prefix: "a{b}[*]:".to_owned(), ..options(&url) };
    conformance::run(open(other).await, run + 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_sidecars_conform() {
    let (url, _server) = any_server();
    let mut stores: Vec<Arc<dyn Storage>> = Vec::new();
    for _ in 0..3 {
        stores.push(open(options(&url)).await);
    }
    conformance::run_together(stores, random()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_conforms() {
    let cluster = RedisCluster::start();
    let run = random();
    conformance::run(open(options(&cluster.servers[0].url())).await, run).await;
    let reads = RedisOptions { replica_reads: true, ..options(&cluster.urls()) };
    conformance::run(open(reads.clone()).await, run + 1).await;
    let mut stores: Vec<Arc<dyn Storage>> = Vec::new();
    for _ in 0..3 {
        stores.push(open(reads.clone()).await);
    }
    conformance::run_together(stores, run + 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_would_lose_data_are_refused() {
    let server = RedisServer::start(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let refused = RedisStore::open(options(&server.url())).await.err().expect("it is refused");
    assert!(matches!(refused, OpenError::Evicts { .. }), "{refused}");
}
