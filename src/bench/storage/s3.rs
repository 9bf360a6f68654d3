//! S3: a PUT for each value and a GET for each, all at once, by the same client.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::try_join_all;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::StorageBenchOptions;
use super::ground::{Direct, Ground};
use crate::bench::BenchError;
use crate::bench::place::not_done;
use crate::bench::sidecar::Kept;
use crate::storage::s3::{LISTING_MAX, Place, S3Options, S3Store};

const BUCKET: &str = "aft-bench";
const REGION: &str = "us-east-1";

struct Plain {
    client: AmazonS3,
    prefix: String,
}

/// The server that was named. Credentials come from the environment.
pub(super) async fn open(options: &StorageBenchOptions, run: &str) -> Result<Ground, BenchError> {
    let none = || BenchError::Answer("name an S3 server with --s3-url".to_owned());
    let url = options.s3_url.clone().ok_or_else(none)?;
    let store = S3Store::open(S3Options {
        place: Place {
            bucket: BUCKET.to_owned(),
            prefix: format!("bench-{run}-store"),
            endpoint: Some(url.clone()),
            region: Some(REGION.to_owned()),
            create: true,
            credentials: None,
        },
        node: "bench".to_owned(),
        incarnation: 1,
        listing_max: LISTING_MAX,
        original: false,
    });
    let store = store.await.map_err(not_done)?;
    let client = AmazonS3Builder::from_env()
        .with_bucket_name(BUCKET)
        .with_region(REGION)
        .with_endpoint(&url)
        .with_allow_http(true)
        .build()
        .map_err(not_done)?;
    Ok(Ground {
        write: "PUTs",
        direct: Arc::new(Plain { client, prefix: format!("bench-{run}-direct") }),
        store: Arc::new(store),
        kept: Kept::S3 { url, bucket: BUCKET.to_owned(), prefix: format!("bench-{run}-sidecar") },
        _server: None,
    })
}

impl Plain {
    fn path(&self, name: &str) -> Path {
        Path::from(format!("{}/{name}", self.prefix))
    }
}

#[async_trait]
impl Direct for Plain {
    async fn write(&self, values: &[(String, Bytes)]) -> Result<(), BenchError> {
        let puts = values.iter().map(async |(name, value)| {
            self.client.put(&self.path(name), value.clone().into()).await.map(drop)
        });
        try_join_all(puts).await.map(drop).map_err(not_done)
    }

    async fn read(&self, names: &[String]) -> Result<Vec<Bytes>, BenchError> {
        let gets = names.iter().map(async |name| {
            let path = self.path(name);
            self.client.get_opts(&path, Default::default()).await?.bytes().await
        });
        try_join_all(gets).await.map_err(not_done)
    }
}
