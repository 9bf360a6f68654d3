//! What the original AFT left in the bucket.
//!
//! It kept each version as an object `data/<key>/<timestamp>/<id>` (a `KeyValuePair`), and each commit as
//! `transactions/<id>-<timestamp>` (a `TransactionRecord`). A version counts if its record exists.
//!
//! The newest values are served like those that others wrote past the sidecar: older than every version of
//! our own. Nothing is rewritten; a key that is written again gets a version here.

use std::collections::HashMap;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use prost::Message;
use tokio::sync::OnceCell;

use super::bucket::Bucket;
use crate::storage::{LatticeType, PlainValue, StorageError};
use crate::txn::Key;
use crate::wire::{KeyValuePair, TransactionRecord, TransactionStatus};

const RECORDS: &str = "transactions/";
/// Objects read at once.
const PARALLEL_MAX: usize = 64;

/// The newest version of each key, read when first needed.
#[derive(Debug)]
pub(super) struct Original {
    bucket: Bucket,
    newest: OnceCell<HashMap<String, Named>>,
}

/// A version of the original.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Named {
    timestamp: i64,
    id: String,
}

impl Original {
    /// `bucket` is all of it, whatever the prefix of our own names is.
    pub fn new(bucket: Bucket) -> Self {
        Self { bucket, newest: OnceCell::new() }
    }

    /// The values of keys, in that order.
    pub async fn values(&self, keys: &[Key]) -> Result<Vec<Option<PlainValue>>, StorageError> {
        let newest = self.newest.get_or_try_init(|| self.read_records()).await?;
        let values = keys.iter().map(|key| self.value(key.as_str(), newest.get(key.as_str())));
        stream::iter(values.collect::<Vec<_>>()).buffered(PARALLEL_MAX).try_collect().await
    }

    async fn value(
        &self,
        key: &str,
        named: Option<&Named>,
    ) -> Result<Option<PlainValue>, StorageError> {
        let Some(named) = named else { return Ok(None) };
        let name = format!("data/{key}/{}/{}", named.timestamp, named.id);
        let stored = match self.bucket.get(&name).await {
            // The client cannot ask for it by that name.
            Err(StorageError::Unsuitable(_)) => None,
            found => found?,
        };
        let pair = stored.and_then(|stored| KeyValuePair::decode(stored.bytes).ok());
        let pair = pair.filter(|pair| pair.key == key && pair.tid == named.id);
        Ok(pair.map(|pair| {
            let timestamp = u64::try_from(named.timestamp).unwrap_or(0);
            PlainValue { timestamp, value: pair.value, lattice: LatticeType::Lww, published: false }
        }))
    }

    async fn read_records(&self) -> Result<HashMap<String, Named>, StorageError> {
        let mut newest = HashMap::new();
        let mut behind: Option<String> = None;
        loop {
            let page = self.bucket.list(RECORDS, behind.as_deref()).await?;
            behind = page.names.last().map(|last| last.name.clone());
            let reads: Vec<_> =
                page.names.iter().map(|listed| self.bucket.get(&listed.name)).collect();
            let records: Vec<_> =
                stream::iter(reads).buffer_unordered(PARALLEL_MAX).try_collect().await?;
            records.into_iter().flatten().for_each(|record| note(&mut newest, &record.bytes));
            if page.end {
                break;
            }
        }
        tracing::info!(keys = newest.len(), "found what the original AFT left");
        Ok(newest)
    }
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
