//! What the original AFT left in a store of named strings.
//!
//! It kept each version under `data/<key>/<timestamp>/<id>` (a `KeyValuePair`), and each commit under
//! `transactions/<id>-<timestamp>` (a `TransactionRecord`), which it found by listing. A version counts if
//! its record exists.
//!
//! The newest values are served like those that others wrote past the sidecar: older than every version of
//! our own. Nothing is rewritten; a key that is written again gets a version here.

use std::collections::HashMap;

use bytes::Bytes;
use prost::Message;

use super::{LatticeType, PlainValue};
use crate::txn::Key;
use crate::wire::{KeyValuePair, TransactionRecord, TransactionStatus};

/// What the names of all records begin with.
pub(super) const RECORDS: &str = "transactions/";

/// The newest version of each key, as its records tell.
#[derive(Debug, Default)]
pub(super) struct Newest(HashMap<String, Named>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Named {
    timestamp: i64,
    id: String,
}

impl Newest {
    /// Notes what a record wrote. Anybody may have written under such a name; what is no record proves
    /// nothing.
    pub fn note(&mut self, stored: &[u8]) {
        let Ok(record) = TransactionRecord::decode(stored) else { return };
        if record.status() != TransactionStatus::Committed {
            return;
        }
        let named = Named { timestamp: record.timestamp, id: record.id };
        for key in record.write_set {
            let known = self.0.entry(key).or_insert_with(|| named.clone());
            if *known < named {
                *known = named.clone();
            }
        }
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The name of the newest version of a key.
    pub fn name_of(&self, key: &Key) -> Option<String> {
        let Named { timestamp, id } = self.0.get(key.as_str())?;
        Some(format!("data/{key}/{timestamp}/{id}"))
    }

    /// The newest value of a key, from what stands under that name.
    pub fn value(&self, key: &Key, stored: Bytes) -> Option<PlainValue> {
        let named = self.0.get(key.as_str())?;
        let pair = KeyValuePair::decode(stored).ok()?;
        let is_it = pair.key == key.as_str() && pair.tid == named.id;
        is_it.then(|| PlainValue {
            timestamp: u64::try_from(named.timestamp).unwrap_or(0),
            value: pair.value,
            lattice: LatticeType::Lww,
            published: false,
        })
    }
}
