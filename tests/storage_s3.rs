//! The S3 backend against a real server (see `common/ministack.rs`), through its client.
// A test gives up by the real clock.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aft::runtime::clock::random_seed;
use aft::storage::s3::{Credentials, OpenError, Place, S3Options, S3Store};
use aft::storage::{
    CommitBatch, Garbage, LogPosition, LogScope, Share, Storage, StorageError, Superseded, Sweep,
    Swept, conformance,
};
use aft::txn::{AttemptId, Commit, Key, Outcome, Timestamp, Version, WrittenKey};
use bytes::Bytes;
use rustix::process::Signal;

use crate::common::http_proxy::{Act, Proxy, Request};
use crate::common::ministack::Server;

/// The bucket under test.
#[derive(Clone)]
struct Bucket {
    url: String,
    name: String,
    run: u64,
}

impl Bucket {
    fn new(url: String) -> Self {
        let run = random_seed().unwrap() >> 1;
        Self { url, name: format!("aft-{run}"), run }
    }

    /// The same bucket, reached over another address.
    fn over(&self, proxy: &Proxy) -> Self {
        Self { url: proxy.url.clone(), ..self.clone() }
    }

    fn place(&self) -> Place {
        Place {
            bucket: self.name.clone(),
            prefix: "aft/test".into(),
            endpoint: Some(self.url.clone()),
            region: Some("us-east-1".into()),
            create: true,
            // Our own server takes any; another one gets those of the environment.
            credentials: std::env::var("AFT_TEST_S3").is_err().then(|| Credentials {
                key_id: "test".into(),
                secret: "test".into(),
            }),
        }
    }

    async fn try_open(&self) -> Result<Arc<S3Store>, OpenError> {
        let incarnation = random_seed().unwrap();
        let options = S3Options { place: self.place(), node: "node".into(), incarnation };
        S3Store::open(options).await.map(Arc::new)
    }

    async fn open(&self) -> Arc<S3Store> {
        self.try_open().await.unwrap()
    }
}

/// A server of this test's own, unless one is named.
fn serve() -> (Option<Server>, Bucket) {
    match std::env::var("AFT_TEST_S3") {
        Ok(url) => (None, Bucket::new(url)),
        Err(_) => {
            let server = Server::start();
            let bucket = Bucket::new(server.url());
            (Some(server), bucket)
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    let (_server, bucket) = serve();
    conformance::run(bucket.open().await, bucket.run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_sidecars_conform() {
    let (_server, bucket) = serve();
    let stores: Vec<Arc<dyn Storage>> =
        vec![bucket.open().await, bucket.open().await, bucket.open().await];
    conformance::run_together(stores, bucket.run).await;
}
