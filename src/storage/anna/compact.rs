//! Deleting: what was collected, and the parts of this incarnation's log in which little is alive.

use std::sync::Arc;

use futures_util::future::try_join_all;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::super::{Garbage, StorageError, Superseded, remains};
use super::graves::grave;
use super::ids::Known;
use super::kv::KeyValue;
use super::log::BUCKETS_AT_ONCE;
use super::objects::{delete, lww, raise};
use super::pack::{Found, Left};
use super::{AnnaStore, heads, names, read, some_at_once};
use crate::txn::{Commit, Outcome};

/// Outcomes written at once.
const WRITES_AT_ONCE: usize = 64;

/// What deleting came to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Deleted {
    pub(super) versions: u64,
    pub(super) records: u64,
}

/// A commit of which something goes.
struct Going {
    commit: Arc<Commit>,
    /// None if there is nothing to delete.
    left: Option<Left>,
    /// Its log entry is dead.
    is_over: bool,
}

impl<K: KeyValue> AnnaStore<K> {
    /// Deletes what is superseded. The order is such that whatever is cut short can be done again, and nobody
    /// is led to what is gone.
    pub(super) async fn delete(&self, garbage: &Garbage) -> Result<Deleted, StorageError> {
        heads::set(&*self.kv, &garbage.newest).await?;
        let looked_at = garbage.superseded.iter().map(|gone| self.look_at(gone)).collect();
        let going: Vec<Going> = some_at_once(looked_at).await?;
        let left = || going.iter().filter_map(|one| Some((one, one.left.as_ref()?)));
        let buried = left().filter(|(_, left)| left.is_remains);
        self.graves.note(buried.map(|(one, _)| {
            let version = &one.commit.version;
            grave(&version.writer.base(), version.timestamp)
        }));
        self.graves.flush(&*self.kv).await?;
        let apart: Vec<_> = left().flat_map(|(_, left)| left.apart.iter().cloned()).collect();
        delete(&*self.kv, &apart).await?;
        let writes: Vec<_> = left().map(|(one, left)| self.cut_down(&one.commit, left)).collect();
        stream::iter(writes).buffer_unordered(WRITES_AT_ONCE).try_collect::<Vec<()>>().await?;
        for one in going.iter().filter(|one| one.is_over) {
            let writer = &one.commit.version.writer;
            self.log.bury(writer);
            self.ids.note(&writer.base(), Known::Decided(remains::of(&one.commit)));
        }
        Ok(Deleted {
            versions: left().map(|(_, left)| left.versions as u64).sum(),
            records: left().filter(|(_, left)| left.is_remains).count() as u64,
        })
    }

    async fn look_at(&self, gone: &Superseded) -> Result<Going, StorageError> {
        let commit = gone.commit.clone();
        let id = commit.version.writer.base();
        let stored = lww(self.kv.get_newest(&names::outcome(&id)).await?)?;
        let Some((_, stored)) = stored else {
            // Even that it was committed is forgotten.
            self.log.bury(&commit.version.writer);
            return Ok(Going { commit, left: None, is_over: false });
        };
        let found = Found::decode(&id, stored)?;
        let of_it = |found: &&Found| found.commit().is_some_and(|c| c.version == commit.version);
        let Some(found) = Some(&found).filter(of_it) else {
            return Ok(Going { commit, left: None, is_over: false });
        };
        let left = found.without(&gone.keys, gone.is_last);
        let was_over = matches!(&found.outcome, Outcome::Committed(c) if c.keys.is_empty());
        let is_over = was_over || left.as_ref().is_some_and(|left| left.is_remains);
        Ok(Going { commit, left, is_over })
    }

    async fn cut_down(&self, commit: &Commit, left: &Left) -> Result<(), StorageError> {
        let id = commit.version.writer.base();
        self.proposer.leave(&id, left.outcome.clone(), left.worth).await
    }

    /// Takes the oldest parts of the log away, as long as less than half of it is alive.
    pub(super) async fn compact(&self) -> Result<(), StorageError> {
        // Others are at it.
        let Ok(_turn) = self.compacting.try_lock() else { return Ok(()) };
        loop {
            let numbers = self.log.sparse();
            let Some(last) = numbers.last() else { return Ok(()) };
            let first = last + 1;
            let log = &self.log.name;
            try_join_all(numbers.iter().map(|number| self.log.flush_closed(&*self.kv, *number)))
                .await?;
            let stored = numbers.iter().map(|number| async {
                if self.log.in_memory(*number).is_some() {
                    return Ok::<_, StorageError>(None);
                }
                let bucket = read::bucket(&*self.kv, log, *number).await?;
                Ok(Some(bucket.unwrap_or_default().entries))
            });
            let stored = try_join_all(stored).await?;
            let mut void = Vec::new();
            for (number, stored) in numbers.iter().zip(stored) {
                // It has left the memory meanwhile. Another time.
                let Some(some) = self.log.copy(*number, stored) else { return Ok(()) };
                void.extend(some);
            }
            self.log.flush_copies(&*self.kv).await?;
            for entry in &void {
                delete(&*self.kv, &self.orphans(entry).await?).await?;
            }
            // Readers are told before anything is missing.
            raise(&*self.kv, &log.first(), first).await?;
            let names: Vec<_> = numbers.iter().map(|number| log.bucket(*number)).collect();
            delete(&*self.kv, &names).await?;
            self.log.gone_to(first);
        }
    }
}

/// Parts of a log in front of its first one that may be left, if whoever took them away died.
pub(super) fn left_before(first: u64) -> std::ops::Range<u64> {
    first.saturating_sub(BUCKETS_AT_ONCE as u64)..first
}
