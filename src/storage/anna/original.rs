//! What the original AFT left in an Anna.
//!
//! It kept a key's newest value under the plain name (a `KeyValuePair`, with the constant 10 as
//! last-writer-wins timestamp), and put it there before the commit record, so a value counts only if
//! its record exists. Keys whose name holds "funcs" stand under a name that holds the version instead,
//! which is found through the records; all records are named in one set.
//!
//! Such values are served like those that others wrote past the sidecar: older than every version of
//! our own. Nothing is rewritten; a key that is written again gets a version here.

use std::collections::HashMap;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use prost::Message;
use tokio::sync::OnceCell;

use super::super::{LatticeType, PlainValue, StorageError};
use super::kv::KeyValue;
use super::objects::{lww, string_set};
use crate::txn::Key;
use crate::wire::{KeyValuePair, TransactionRecord, TransactionStatus};

/// The set that names all records.
const TRANSACTIONS: &str = "Transactions";
/// What the names of keys hold that have no plain name.
const UNPUBLISHED: &str = "funcs";
const READS_AT_ONCE: usize = 64;

/// The versions that have no plain name, read when first needed.
#[derive(Default)]
pub(super) struct Original {
    versions: OnceCell<HashMap<String, Named>>,
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

    fn record(&self) -> String {
        format!("transactions/{}-{}", self.id, self.timestamp)
    }
}

impl Original {
    /// The value of a key that has no plain name, if there is one.
    pub(super) async fn unpublished(
        &self,
        kv: &impl KeyValue,
        key: &Key,
    ) -> Result<Option<PlainValue>, StorageError> {
        if !key.as_str().contains(UNPUBLISHED) {
            return Ok(None);
        }
        let versions = self.versions.get_or_try_init(|| read_records(kv)).await?;
        let Some(newest) = versions.get(key.as_str()) else { return Ok(None) };
        let Some((timestamp, stored)) = lww(kv.get(&newest.version(key.as_str())).await?)? else {
            return Ok(None);
        };
        let pair = KeyValuePair::decode(stored).ok();
        let pair = pair.filter(|pair| pair.key == key.as_str() && pair.tid == newest.id);
        Ok(pair.map(|pair| plain_value(timestamp, pair)))
    }
}

/// Whether a pair is one that the original stored.
pub(super) fn is_by_original(pair: &KeyValuePair, key: &Key) -> bool {
    pair.mark == 0 && pair.key == key.as_str() && !pair.tid.is_empty() && pair.timestamp > 0
}

/// What the original stored under a plain name, if its transaction committed.
pub(super) async fn published(
    kv: &impl KeyValue,
    timestamp: u64,
    pair: KeyValuePair,
) -> Result<Option<PlainValue>, StorageError> {
    let named = Named { timestamp: pair.timestamp, id: pair.tid.clone() };
    let committed = read_record(kv, &named.record()).await?.is_some();
    Ok(committed.then(|| plain_value(timestamp, pair)))
}

fn plain_value(timestamp: u64, pair: KeyValuePair) -> PlainValue {
    PlainValue { timestamp, value: pair.value, lattice: LatticeType::Lww, published: false }
}

async fn read_record(
    kv: &impl KeyValue,
    name: &str,
) -> Result<Option<TransactionRecord>, StorageError> {
    let Some((_, stored)) = lww(kv.get(name).await?)? else { return Ok(None) };
    // Anybody may have written there; what is no record proves nothing.
    let record = TransactionRecord::decode(stored).ok();
    Ok(record.filter(|record| record.status() == TransactionStatus::Committed))
}

/// The newest version of each key that has no plain name.
async fn read_records(kv: &impl KeyValue) -> Result<HashMap<String, Named>, StorageError> {
    let names = match kv.get(TRANSACTIONS).await {
        Ok(found) => string_set(found).unwrap_or_default(),
        Err(error) => return Err(error),
    };
    let reads: Vec<_> = names.iter().map(|name| read_record(kv, name)).collect();
    let records: Vec<_> = stream::iter(reads).buffered(READS_AT_ONCE).try_collect().await?;
    let mut newest: HashMap<String, Named> = HashMap::new();
    for record in records.into_iter().flatten() {
        let named = Named { timestamp: record.timestamp, id: record.id };
        for key in record.write_set.into_iter().filter(|key| key.contains(UNPUBLISHED)) {
            let known = newest.entry(key).or_insert_with(|| named.clone());
            if *known < named {
                *known = named.clone();
            }
        }
    }
    Ok(newest)
}
