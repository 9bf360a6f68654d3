//! Counts what is in the table, by reading all of it.

use std::collections::HashSet;

use xxhash_rust::xxh3::xxh3_64;

use super::Inner;
use super::item::{self, Item};
use super::names::{self, Kind};
use super::sweep::id_of;
use crate::storage::{StorageError, Usage, codec, remains};

/// What a count has seen.
#[derive(Debug, Default)]
struct Census {
    usage: Usage,
    /// Hashes of versions that are committed.
    committed: HashSet<u64>,
    /// For each version item the hash of its partition and of its version; those of a key follow each
    /// other, oldest first.
    versions: Vec<(u64, u64)>,
}

impl Inner {
    pub async fn usage(&self) -> Result<Usage, StorageError> {
        let mut census = Census::default();
        let mut behind = None;
        loop {
            let page = self.table.scan((0, 1), None, behind).await?;
            for item in &page.items {
                census.count(item)?;
            }
            behind = page.next;
            if behind.is_none() {
                return Ok(census.result());
            }
        }
    }
}

impl Census {
    fn count(&mut self, item: &Item) -> Result<(), StorageError> {
        let name = item::name_of(item)?;
        self.usage.bytes += item::size_of(item) as u64;
        match Kind::of(&name.pk) {
            Kind::Version => {
                let hashes = (xxh3_64(name.pk.as_bytes()), xxh3_64(name.sk.as_bytes()));
                self.versions.push(hashes);
            }
            Kind::Outcome if name.sk == names::OUTCOME => {
                self.usage.outcomes += 1;
                self.count_outcome(item)?;
            }
            Kind::Entry if !item::has(item, item::VOID) => self.usage.log_entries += 1,
            _ => {}
        }
        Ok(())
    }

    fn count_outcome(&mut self, item: &Item) -> Result<(), StorageError> {
        if item::has(item, item::VERSION) {
            let stamp = item::text_of(item, item::VERSION)?;
            self.committed.insert(xxh3_64(stamp.as_bytes()));
            return Ok(());
        }
        let bytes = item::take_bytes(&mut item.clone()).unwrap_or_default();
        let outcome = codec::decode_outcome(&id_of(item)?, bytes.into())?;
        if remains::is_only(&outcome) {
            self.usage.remains += 1;
        }
        if let crate::txn::Outcome::Committed(commit) = outcome {
            self.committed.insert(xxh3_64(names::stamp(&commit.version).as_bytes()));
        }
        Ok(())
    }

    fn result(mut self) -> Usage {
        let mut last = None;
        for (key, version) in self.versions {
            self.usage.versions += 1;
            if !self.committed.contains(&version) {
                self.usage.uncommitted += 1;
            } else if last.replace(key) == Some(key) {
                self.usage.superseded += 1;
            } else {
                self.usage.keys += 1;
            }
        }
        self.usage
    }
}
