//! The embedded store: fjall by itself, each write one batch that is synced.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::ground::{Direct, Ground};
use crate::bench::BenchError;
use crate::bench::children::Family;
use crate::bench::place::not_done;
use crate::bench::sidecar::Kept;
use crate::storage::embedded::{EmbeddedOptions, EmbeddedStore};

struct Plain {
    database: Database,
    values: Keyspace,
}

/// Three stores in directories of their own.
pub(super) fn open(family: &Family) -> Result<Ground, BenchError> {
    let path = |name: &str| family.path().join(name);
    let database = Database::builder(path("direct")).open().map_err(not_done)?;
    let values = database.keyspace("values", KeyspaceCreateOptions::default).map_err(not_done)?;
    Ok(Ground {
        write: "fjall batch",
        direct: Arc::new(Plain { database, values }),
        store: Arc::new(EmbeddedStore::open(&path("store"), EmbeddedOptions::default())?),
        kept: Kept::Directory(path("of-sidecar")),
        _server: None,
    })
}

#[async_trait]
impl Direct for Plain {
    async fn write(&self, values: &[(String, Bytes)]) -> Result<(), BenchError> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for (name, value) in values {
            batch.insert(&self.values, name.as_bytes(), &value[..]);
        }
        let commit = move || batch.commit().map_err(not_done);
        tokio::task::spawn_blocking(commit).await.map_err(not_done)?
    }

    async fn read(&self, names: &[String]) -> Result<Vec<Bytes>, BenchError> {
        let missing = |name: &String| BenchError::Answer(format!("{name} is missing"));
        let read = |name: &String| {
            let found = self.values.get(name.as_bytes()).map_err(not_done)?;
            Ok(Bytes::copy_from_slice(&found.ok_or_else(|| missing(name))?))
        };
        names.iter().map(read).collect()
    }
}
