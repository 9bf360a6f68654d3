//! Anna: PUTs at once, each acknowledged by one replica.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::try_join_all;

use super::StorageBenchOptions;
use super::ground::{Direct, Ground};
use crate::anna::client::{Acks, Client};
use crate::anna::lattice::Lattice;
use crate::bench::BenchError;
use crate::bench::children::Family;
use crate::bench::place::{Place, not_done};

struct Plain(Client);

/// An Anna that was named, or one of our own in memory.
pub(super) async fn open(
    family: &Family,
    options: &StorageBenchOptions,
) -> Result<Ground, BenchError> {
    let ip = std::net::Ipv4Addr::LOCALHOST.into();
    let place = Place::find(family, options.anna_routing.as_deref(), ip)?;
    let client = place.client()?;
    let store = place.store(&client, "storage", 1).await?;
    let kept = place.kept();
    Ok(Ground {
        write: "PUTs",
        direct: Arc::new(Plain(client)),
        store,
        kept,
        _server: place.into_process(),
    })
}

#[async_trait]
impl Direct for Plain {
    async fn write(&self, values: &[(String, Bytes)]) -> Result<(), BenchError> {
        let puts = values.iter().map(|(name, value)| {
            let value = Lattice::Lww { timestamp: 1, value: value.clone() };
            self.0.put(name, value, Acks::Any)
        });
        try_join_all(puts).await.map(drop).map_err(not_done)
    }

    async fn read(&self, names: &[String]) -> Result<Vec<Bytes>, BenchError> {
        let found = try_join_all(names.iter().map(|name| self.0.get(name)));
        let found = found.await.map_err(not_done)?.into_iter().zip(names);
        let value = |(found, name): (Option<Lattice>, &String)| match found {
            Some(Lattice::Lww { value, .. }) => Ok(value),
            _ => Err(BenchError::Answer(format!("{name} is missing"))),
        };
        found.map(value).collect()
    }
}
