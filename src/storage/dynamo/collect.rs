//! Deleting versions, and what was written of commits that have none left.

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::Inner;
use super::item::{self, Item};
use super::names::{self, Name};
use super::record;
use crate::storage::{Garbage, StorageError, Superseded, codec, remains};
use crate::txn::{Commit, Key, Version};

/// Deletions under way at once.
const PARALLEL_MAX: usize = 32;

impl Inner {
    pub async fn collect(&self, garbage: &Garbage) -> Result<(), StorageError> {
        stream::iter(garbage.superseded.iter().cloned().map(|gone| self.collect_from(gone)))
            .buffer_unordered(PARALLEL_MAX)
            .try_collect()
            .await
    }

    async fn collect_from(&self, gone: Superseded) -> Result<(), StorageError> {
        self.delete_versions(&gone.commit.version, gone.keys.iter()).await?;
        if gone.is_last { self.forget_record(&gone.commit).await } else { Ok(()) }
    }

    /// Deletes the versions of these keys that one commit wrote.
    pub async fn delete_versions<'a>(
        &self,
        version: &Version,
        keys: impl Iterator<Item = &'a Key>,
    ) -> Result<(), StorageError> {
        let names: Vec<_> = keys.map(|key| names::version(key, version)).collect();
        stream::iter(names.into_iter().map(|name| self.delete_version(name)))
            .buffer_unordered(PARALLEL_MAX)
            .try_collect()
            .await
    }

    /// Deletes a version with its parts: the version, once deleted, says how many there are, at no further
    /// cost. Parts that are left behind are found by a sweep.
    pub async fn delete_version(&self, name: Name) -> Result<(), StorageError> {
        let Some(gone) = self.table.take(name.clone()).await? else { return Ok(()) };
        let parts = item::number_of(&gone, item::PARTS)?;
        let pk = name.pk.replacen('v', "c", 1);
        let parts = (0..parts)
            .map(|number| Name { pk: pk.clone(), sk: format!("{}/{number:06}", name.sk) });
        self.table.delete_all(parts.collect()).await
    }

    /// Deletes a commit's log entry and the parts of its record, and leaves of its outcome that there was
    /// one. The outcome goes last, as it names the others.
    pub async fn forget_record(&self, commit: &Commit) -> Result<(), StorageError> {
        let id = commit.version.writer.base();
        let Some(outcome) = self.table.get(names::outcome(&id)).await? else { return Ok(()) };
        let Some(entry) = entry_of(&outcome) else { return Ok(()) };
        let mut gone = record::record_parts(&outcome)?;
        if record::version_in(&outcome)? != commit.version {
            return Ok(());
        }
        gone.push(entry);
        let at = item::text_of(&outcome, item::AT)?.to_owned();
        let remains = item::bytes(codec::encode_outcome(&id, &remains::of(commit)));
        let remains = item::with(item::keyed(names::outcome(&id)), item::BYTES, remains);
        self.table.delete_all(gone).await?;
        let values = vec![(":at", item::text(at))];
        // Somebody else may have done so first.
        self.table.put_if(remains, "won_by = :at", values).await?;
        Ok(())
    }
}

/// The log entry that announced the commit of an outcome.
pub(super) fn entry_of(outcome: &Item) -> Option<Name> {
    let (log, sequence) = item::text_of(outcome, item::AT).ok()?.rsplit_once('/')?;
    Some(Name { pk: names::log(log), sk: sequence.to_owned() })
}
