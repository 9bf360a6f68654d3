//! All values, and the disk behind them if there is one.

use std::collections::HashMap;
use std::path::Path;

use bytes::Bytes;

use super::disk::{Disk, DiskError};
use super::value::Value;
use crate::wire::anna::LatticeType;

/// Keeps all values in memory. On the disk they are after [`persist`](Self::persist).
#[derive(Default)]
pub(super) struct Store {
    values: HashMap<String, Value>,
    disk: Option<Disk>,
    /// Keys that were written since they were persisted. Stays empty without a disk.
    dirty: Vec<String>,
}

impl Store {
    /// Reads what a directory holds, or begins an empty store there.
    pub fn open(directory: &Path, sync: bool) -> Result<Self, DiskError> {
        let (disk, values) = Disk::open(directory, sync)?;
        Ok(Self { values, disk: Some(disk), dirty: Vec::new() })
    }

    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// Merges a write into the key's value. Says whether it could: not if the write has no lattice
    /// type, or another than the key.
    ///
    /// A payload that cannot be read counts as the least value of its type, so the key gets its type.
    pub fn put(&mut self, key: &str, kind: LatticeType, payload: Bytes) -> bool {
        let written = Value::decode(kind, payload).unwrap_or_else(|_| Value::bottom(kind));
        let (Some(written), Some(bottom)) = (written, Value::bottom(kind)) else {
            return false;
        };
        let was_merged = match self.values.get_mut(key) {
            Some(value) => value.merge(written),
            None => {
                let mut value = bottom;
                let was_merged = value.merge(written);
                self.values.insert(key.to_owned(), value);
                was_merged
            }
        };
        if was_merged && self.disk.is_some() {
            self.dirty.push(key.to_owned());
        }
        was_merged
    }

    /// Makes all writes durable. They must not be acknowledged before.
    pub fn persist(&mut self) -> Result<(), DiskError> {
        let Some(disk) = self.disk.as_ref().filter(|_| !self.dirty.is_empty()) else {
            return Ok(());
        };
        self.dirty.sort_unstable();
        self.dirty.dedup();
        disk.write(self.dirty.iter().map(|key| (key.as_str(), self.values.get(key))))?;
        self.dirty.clear();
        Ok(())
    }

    /// Forgets everything.
    pub fn forget(&mut self) {
        let forgotten = std::mem::take(&mut self.values);
        if self.disk.is_some() {
            self.dirty.extend(forgotten.into_keys());
        }
    }

    /// How many keys have a value.
    pub fn key_count(&self) -> usize {
        self.values.len()
    }

    /// How many of these read as missing; takes time in proportion to the store.
    pub fn deleted_count(&self) -> usize {
        self.values.values().filter(|value| value.reads_as_missing()).count()
    }

    /// Bytes of all keys and payloads; takes time in proportion to the store.
    pub fn bytes(&self) -> usize {
        self.values.iter().map(|(key, value)| key.len() + value.encode().len()).sum()
    }
}
