//! Deleting versions, and what was written of commits that have none left.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use object_store::UpdateVersion;

use super::Inner;
use super::bucket::Put;
use super::names;
use super::pack::{self, Found, Place};
use super::segment;
use crate::storage::{Garbage, StorageError, Superseded};
use crate::txn::AttemptId;

/// Objects worked on at once.
const PARALLEL_MAX: usize = 32;
/// How often an outcome that others change at the same time is read again.
const TRIES: u32 = 8;

/// How much was deleted.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Collected {
    pub versions: u64,
    pub records: u64,
}

/// A commit of which something goes, as it stands in the store.
struct Doomed {
    gone: Superseded,
    found: Found,
    tag: UpdateVersion,
    /// The values that go.
    positions: BTreeSet<u32>,
    /// Nothing is left then.
    is_last: bool,
}

impl Inner {
    /// Deletes versions. Values in the outcome's object go by writing it again without them.
    ///
    /// Of a commit that has none left the log entry goes first, then the outcome is replaced by what remains,
    /// as it names the others. A segment is read once for all that goes of it.
    pub async fn collect(&self, garbage: &Garbage) -> Result<(), StorageError> {
        self.collect_all(garbage.superseded.clone()).await.map(drop)
    }

    /// The same. Answers how much went.
    pub async fn collect_all(&self, gone: Vec<Superseded>) -> Result<Collected, StorageError> {
        let (mut left, mut all) = (gone, Collected::default());
        for _ in 0..TRIES {
            left = self.collect_some(left, &mut all).await?;
            if left.is_empty() {
                return Ok(all);
            }
        }
        Err(StorageError::Unconfirmed("others change what is to be deleted again and again".into()))
    }

    /// Answers what others have changed meanwhile.
    async fn collect_some(
        &self,
        gone: Vec<Superseded>,
        all: &mut Collected,
    ) -> Result<Vec<Superseded>, StorageError> {
        let found = gone.into_iter().map(|gone| self.look_at(gone));
        let doomed: Vec<_> =
            stream::iter(found).buffer_unordered(PARALLEL_MAX).try_collect().await?;
        let doomed: Vec<Doomed> = doomed.into_iter().flatten().collect();
        let last = doomed.iter().filter(|doomed| doomed.is_last);
        self.remove_entries(last.filter_map(|doomed| {
            Some((doomed.found.place()?, doomed.gone.commit.version.writer.clone()))
        }))
        .await?;
        let deleted: Vec<_> = stream::iter(doomed.into_iter().map(|doomed| self.delete(doomed)))
            .buffer_unordered(PARALLEL_MAX)
            .try_collect()
            .await?;
        let mut left = Vec::new();
        for deleted in deleted {
            match deleted {
                Ok(part) => {
                    all.versions += part.versions;
                    all.records += part.records;
                }
                Err(changed) => left.push(changed),
            }
        }
        Ok(left)
    }

    async fn look_at(&self, gone: Superseded) -> Result<Option<Doomed>, StorageError> {
        let id = gone.commit.version.writer.base();
        let Some((found, tag)) = self.find(&id).await? else { return Ok(None) };
        let is_it = found.commit().is_some_and(|c| c.version == gone.commit.version);
        if !is_it || found.place().is_none() {
            return Ok(None);
        }
        let all: BTreeSet<_> = found.positions().collect();
        let meant = gone.keys.iter().filter_map(|key| pack::position(&gone.commit, key));
        let positions: BTreeSet<_> =
            if gone.is_last { all.clone() } else { meant.filter(|p| all.contains(p)).collect() };
        let is_last = gone.is_last || positions == all;
        let is_nothing = positions.is_empty() && !is_last;
        Ok((!is_nothing).then_some(Doomed { gone, found, tag, positions, is_last }))
    }

    /// Takes entries out of logs.
    pub async fn remove_entries(
        &self,
        entries: impl Iterator<Item = (Place, AttemptId)>,
    ) -> Result<(), StorageError> {
        let mut places: BTreeMap<Place, BTreeSet<AttemptId>> = BTreeMap::new();
        for (place, attempt) in entries {
            places.entry(place).or_default().insert(attempt);
        }
        let removals =
            places.iter().map(|(place, attempts)| segment::remove(&self.bucket, place, attempts));
        stream::iter(removals.collect::<Vec<_>>())
            .buffer_unordered(PARALLEL_MAX)
            .try_collect()
            .await
    }

    /// Deletes values. Answers what was to be deleted if somebody else has changed it.
    async fn delete(&self, doomed: Doomed) -> Result<Result<Collected, Superseded>, StorageError> {
        let Doomed { gone, found, tag, positions, is_last } = doomed;
        let name = names::outcome(&gone.commit.version.writer.base());
        let remains = if is_last { found.remains() } else { None };
        let smaller = remains.unwrap_or_else(|| found.without(&positions));
        if self.bucket.put_if(&name, smaller, tag).await? == Put::Kept {
            return Ok(Err(gone));
        }
        let apart = found.apart(&positions);
        if !apart.is_empty() {
            // What is left behind is found by a sweep.
            self.bucket.delete_all(&apart).await?;
        }
        Ok(Ok(Collected { versions: positions.len() as u64, records: u64::from(is_last) }))
    }
}
