//! What all measurements of one store have in common: the store, the sidecars, the keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::StorageBenchOptions;
use super::ground::{Direct, Ground};
use crate::bench::BenchError;
use crate::bench::children::Family;
use crate::bench::cluster::executor::Executor;
use crate::bench::messages::key;
use crate::bench::sidecar::Server;

/// Keys that one loading transaction writes.
const KEYS_AT_ONCE: usize = 16;

/// The way without a sidecar, for any thread.
#[derive(Clone)]
pub(super) struct Directly<'a> {
    runtime: &'a tokio::runtime::Runtime,
    direct: Arc<dyn Direct>,
    name: String,
}

impl Directly<'_> {
    /// The n-th key, as it is named without a sidecar.
    pub fn key(&self, number: usize) -> String {
        format!("bench-{}-{}", self.name, key(number))
    }

    pub fn write(&self, values: &[(String, Bytes)]) -> Result<(), BenchError> {
        self.runtime.block_on(self.direct.write(values))
    }

    pub fn read(&self, names: &[String]) -> Result<(), BenchError> {
        self.runtime.block_on(self.direct.read(names)).map(drop)
    }
}

/// One store with its sidecars, and values under all keys by each way.
pub(super) struct Run<'a> {
    pub options: &'a StorageBenchOptions,
    pub runtime: &'a tokio::runtime::Runtime,
    pub ground: Ground,
    pub directly: Directly<'a>,
    /// With the cache that a sidecar has by itself.
    pub sidecar: Server,
    /// Without any, so that each read goes to the store; none if the store admits one sidecar only.
    pub uncached: Option<Server>,
    pub value: Bytes,
    made: AtomicU64,
}

impl<'a> Run<'a> {
    pub fn begin(
        family: &Family,
        options: &'a StorageBenchOptions,
        runtime: &'a tokio::runtime::Runtime,
        ground: Ground,
        name: String,
    ) -> Result<Self, BenchError> {
        let sidecar = Server::sidecar_with(family, &format!("{name}-s"), &ground.kept, &[])?;
        let uncached = match ground.kept.admits_several() {
            true => {
                let more = ["--cache-bytes-max", "1", "--port-offset", "100"].map(str::to_owned);
                Some(Server::sidecar_with(family, &format!("{name}-u"), &ground.kept, &more)?)
            }
            false => None,
        };
        let value = vec![7; options.value_bytes].into();
        let directly = Directly { runtime, direct: ground.direct.clone(), name };
        let made = AtomicU64::new(0);
        let run = Self { options, runtime, ground, directly, sidecar, uncached, value, made };
        run.load()?;
        Ok(run)
    }

    /// A client of a sidecar, with sockets of its own.
    pub fn executor(&self, server: &Server) -> Result<Executor, BenchError> {
        Executor::open(&server.ipc_dir)
    }

    /// A name that was not used before.
    pub fn new_name(&self) -> String {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        format!("bench-{}-{number:012}", self.directly.name)
    }

    fn load(&self) -> Result<(), BenchError> {
        let mut executor = self.executor(&self.sidecar)?;
        let numbers: Vec<usize> = (0..self.options.keys).collect();
        for some in numbers.chunks(KEYS_AT_ONCE) {
            let keys: Vec<_> = some.iter().map(|n| key(*n)).collect();
            executor.write(&keys, &self.value).map_err(BenchError::Answer)?;
            let values: Vec<_> =
                some.iter().map(|n| (self.directly.key(*n), self.value.clone())).collect();
            self.directly.write(&values)?;
        }
        Ok(())
    }
}
