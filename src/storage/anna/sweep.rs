//! Looking for garbage that was missed.
//!
//! All that is alive stands in the log of some incarnation that lives, which walks through its own: that is
//! how nodes share the work here. An entry that the head of a key supersedes gives the garbage; one that is
//! newer than the head becomes it, for whoever comes by after this one.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::{Garbage, StorageError, Superseded, Sweep, Swept, remains};
use super::kv::KeyValue;
use super::pack::Found;
use super::read::{self, Resolved};
use super::{AnnaStore, heads, some_at_once};
use crate::txn::{BaseId, Commit, Key, Timestamp, Version};
use crate::wire::{Grave, LogEntry, LogState};

impl<K: KeyValue> AnnaStore<K> {
    /// Goes through a further part of the own log, and at its end through the ids that are to be forgotten.
    pub(super) async fn sweep_own(&self, sweep: &Sweep) -> Result<Swept, StorageError> {
        let mut swept = Swept::default();
        let entries_max = u64::try_from(sweep.entries_max).unwrap_or(u64::MAX);
        let mut next = self.swept_to.load(Ordering::Relaxed).max(self.log.first());
        while next <= self.log.current() {
            if swept.looked_at >= entries_max {
                self.swept_to.store(next, Ordering::Relaxed);
                return Ok(swept);
            }
            self.sweep_bucket(next, sweep, &mut swept).await?;
            next += 1;
        }
        self.swept_to.store(0, Ordering::Relaxed);
        self.compact().await?;
        swept.outcomes = self.forget_old(sweep.outcomes_before).await?;
        swept.end = true;
        Ok(swept)
    }

    async fn sweep_bucket(
        &self,
        number: u64,
        sweep: &Sweep,
        swept: &mut Swept,
    ) -> Result<(), StorageError> {
        let entries = match self.log.in_memory(number) {
            Some(entries) => entries,
            None => {
                let bucket = read::bucket(&*self.kv, &self.log.name, number).await?;
                bucket.unwrap_or_default().entries
            }
        };
        swept.looked_at += entries.len() as u64;
        let entries = self.log.alive(number, entries);
        let commits = entries.iter().map(|entry| self.committed(entry));
        let commits = some_at_once(commits.collect()).await?;
        let before = sweep.superseded_before;
        let old = commits.into_iter().flatten().filter(|c| c.version.timestamp < before);
        let old: Vec<_> = old.collect();
        let superseded = old.iter().map(|commit| self.superseded(commit, before));
        let superseded = some_at_once(superseded.collect()).await?;
        let mut garbage = Garbage::default();
        for (commit, (keys, newest)) in old.iter().zip(superseded) {
            garbage.newest.extend(newest.into_iter().map(|key| (key, commit.clone())));
            if !keys.is_empty() || commit.keys.is_empty() {
                let is_last = keys.len() == commit.keys.len();
                garbage.superseded.push(Superseded { commit: commit.clone(), keys, is_last });
            }
        }
        let deleted = self.delete(&garbage).await?;
        swept.versions += deleted.versions;
        swept.records += deleted.records;
        Ok(())
    }

    /// The commit of an entry that took effect.
    async fn committed(&self, entry: &LogEntry) -> Result<Option<Arc<Commit>>, StorageError> {
        if matches!(entry.state(), LogState::Open | LogState::Void) {
            // One that is open is under way.
            return Ok(None);
        }
        match read::resolve(&self.proposer, entry).await? {
            Resolved::Committed(commit) => Ok(Some(commit)),
            Resolved::Void | Resolved::Open | Resolved::Contested(_) => Ok(None),
        }
    }

    /// The keys of a commit that were superseded before this, and those of which it is newer than the head.
    async fn superseded(
        &self,
        commit: &Commit,
        before: Timestamp,
    ) -> Result<(Vec<Key>, Vec<Key>), StorageError> {
        let found = commit.keys.iter().map(|written| heads::get(&*self.kv, &written.key));
        let found = some_at_once(found.collect()).await?;
        let (mut superseded, mut newest) = (Vec::new(), Vec::new());
        for (written, head) in commit.keys.iter().zip(found) {
            let by = |head: &Version| *head > commit.version && head.timestamp < before;
            match head.map(|head| head.version) {
                Some(head) if by(&head) => superseded.push(written.key.clone()),
                Some(head) if head >= commit.version => {}
                _ => newest.push(written.key.clone()),
            }
        }
        Ok((superseded, newest))
    }

    /// Forgets ids that are so old that nobody may ask for them.
    async fn forget_old(&self, before: Timestamp) -> Result<u64, StorageError> {
        let mut count = 0;
        for number in self.graves.due(&*self.kv, before).await? {
            let graves = self.graves.read(&*self.kv, number).await?;
            let is_old = |grave: &Grave| grave.timestamp < before.0.cast_signed();
            let (old, young): (Vec<_>, Vec<_>) = graves.into_iter().partition(is_old);
            let forgotten = old.iter().map(|grave| self.forget(grave)).collect();
            let forgotten = some_at_once(forgotten).await?;
            count += forgotten.into_iter().filter(|was_there| *was_there).count() as u64;
            self.graves.keep(&*self.kv, number, young).await?;
        }
        Ok(count)
    }

    /// Forgets how an id ended, unless there is more of it. Answers whether there was anything.
    async fn forget(&self, grave: &Grave) -> Result<bool, StorageError> {
        let Ok(id) = BaseId::parse(&grave.id) else { return Ok(false) };
        let found: Option<Found> = self.read_pack(&id).await?;
        if found.is_none_or(|found| !remains::is_only(&found.outcome)) {
            return Ok(false);
        }
        self.proposer.forget(&id).await?;
        self.ids.forget(&id);
        Ok(true)
    }
}
