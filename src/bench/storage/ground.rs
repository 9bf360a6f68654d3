//! A store under test, and the three ways to it.
//!
//! To add a store, write a file beside [`redis`](super::redis) that makes a [`Ground`], and name it in
//! [`StoreName`](super::StoreName).

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::bench::BenchError;
use crate::bench::children::Process;
use crate::bench::sidecar::Kept;
use crate::storage::Storage;

/// What a program would do with the store if there were no `aft`: nothing but its client, with as much
/// pipelining as that has.
#[async_trait]
pub(super) trait Direct: Send + Sync {
    /// Writes all of it, as one where the store can, and as durably as it does by itself.
    async fn write(&self, values: &[(String, Bytes)]) -> Result<(), BenchError>;

    /// Reads, at once. What is missing is an error.
    async fn read(&self, names: &[String]) -> Result<Vec<Bytes>, BenchError>;
}

/// A store that runs.
pub(super) struct Ground {
    /// How writes are done directly, in a word.
    pub write: &'static str,
    pub direct: Arc<dyn Direct>,
    /// The backend, in this process.
    pub store: Arc<dyn Storage>,
    /// For a sidecar.
    pub kept: Kept,
    /// The store's own process, if it was started here. It ends when this goes.
    pub _server: Option<Process>,
}
