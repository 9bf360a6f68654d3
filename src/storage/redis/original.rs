//! What the original AFT left in a Redis.
//!
//! It kept each version as a string `data/<key>/<timestamp>/<id>` (a `KeyValuePair`), and each commit as
//! `transactions/<id>-<timestamp>` (a `TransactionRecord`), which it found by scanning. A version counts if
//! its record exists.
//!
//! The newest values are served like those that others wrote past the sidecar: older than every version of
//! our own. Nothing is rewritten; a key that is written again gets a version here.

use std::collections::HashMap;

use futures_util::future::try_join_all;
use prost::Message;
use tokio::sync::OnceCell;

use super::super::{LatticeType, PlainValue, StorageError};
use super::server::Server;
use super::sweep::{masters, scanned};
use crate::txn::Key;
use crate::wire::{KeyValuePair, TransactionRecord, TransactionStatus};

/// Names looked at by one SCAN, and read by one MGET.
const COUNT: usize = 500;

/// The newest version of each key, read when first needed.
#[derive(Default)]
pub(super) struct Original {
    newest: OnceCell<HashMap<String, Named>>,
}

/// A version of the original.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Named {
    timestamp: i64,
    id: String,
}

impl Named {
    fn version(&self, key: &str) -> String {
        format!("data/{key}/{}/{}", self.timestamp, self.id)
    }
}

impl Original {
    /// The values of keys, in that order.
    pub async fn values(
        &self,
        server: &Server,
        keys: &[Key],
    ) -> Result<Vec<Option<PlainValue>>, StorageError> {
        let newest = self.newest.get_or_try_init(|| read_records(server)).await?;
        let found = keys.iter().map(async |key| {
            let Some(named) = newest.get(key.as_str()) else { return Ok(None) };
            let stored = server.strings(&[named.version(key.as_str())]).await?.pop().flatten();
            let pair = stored.and_then(|stored| KeyValuePair::decode(stored).ok());
            let pair = pair.filter(|pair| pair.key == key.as_str() && pair.tid == named.id);
            Ok::<_, StorageError>(pair.map(|pair| plain_value(named, pair)))
        });
        try_join_all(found).await
    }
}

fn plain_value(named: &Named, pair: KeyValuePair) -> PlainValue {
    let timestamp = u64::try_from(named.timestamp).unwrap_or(0);
    PlainValue { timestamp, value: pair.value, lattice: LatticeType::Lww, published: false }
}

async fn read_records(server: &Server) -> Result<HashMap<String, Named>, StorageError> {
    let mut newest = HashMap::new();
    for master in masters(server).await? {
        let mut cursor = 0;
        loop {
            let mut cmd = redis::cmd("SCAN");
            cmd.arg(cursor).arg("MATCH").arg("transactions/*").arg("COUNT").arg(COUNT);
            let (next, names) = scanned(server.ask_master(&master, &cmd).await?)?;
            let names: Vec<_> =
                names.iter().filter_map(|name| String::from_utf8(name.to_vec()).ok()).collect();
            for names in names.chunks(COUNT) {
                let records = server.strings(names).await?;
                records.into_iter().flatten().for_each(|stored| note(&mut newest, &stored));
            }
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
    }
    tracing::info!(keys = newest.len(), "found what the original AFT left");
    Ok(newest)
}

/// Notes what a record wrote. Anybody may have written under such a name; what is no record proves nothing.
fn note(newest: &mut HashMap<String, Named>, stored: &[u8]) {
    let Ok(record) = TransactionRecord::decode(stored) else { return };
    if record.status() != TransactionStatus::Committed {
        return;
    }
    let named = Named { timestamp: record.timestamp, id: record.id };
    for key in record.write_set {
        let known = newest.entry(key).or_insert_with(|| named.clone());
        if *known < named {
            *known = named.clone();
        }
    }
}
