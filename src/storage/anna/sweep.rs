//! Looking for garbage that was missed.
//!
//! All that is alive stands in the log of some incarnation that lives, which walks through its own: that is
//! how nodes share the work here. An entry that the head of a key supersedes is garbage; one that is newer than
//! the head becomes it, for whoever comes by after this one.
//!
//! A head that is too young to have superseded anything hides older ones that have. So of keys that have such
//! a head it is remembered, from one walk to the next, what else was seen of them.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::{Garbage, StorageError, Superseded, Sweep, Swept, remains};
use super::kv::KeyValue;
use super::pack::Found;
use super::read::{self, Resolved};
use super::{AnnaStore, heads, some_at_once};
use crate::txn::{BaseId, Commit, Key, Timestamp, Version};
use crate::wire::{Grave, LogEntry, LogState};

/// Keys of which something is remembered, at most. What is left out waits for another walk.
const KEYS_MAX: usize = 100_000;

/// How far a walk is.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// The part of the log that is next.
    next: u64,
    /// What was seen of keys that have a superseded version, in this walk and in the one before.
    seen: HashMap<Key, Seen>,
    before: HashMap<Key, Seen>,
}

/// What was seen of a key.
#[derive(Debug, Clone, Default)]
struct Seen {
    /// The newest version that is old enough to have superseded others.
    old: Option<Version>,
    /// One that will be.
    young: Option<Version>,
}

impl Walk {
    /// Notes a version and the head that supersedes it. Answers whether the version is garbage.
    fn is_garbage(&mut self, key: &Key, version: &Version, head: Version, old: Timestamp) -> bool {
        if self.seen.len() >= KEYS_MAX && !self.seen.contains_key(key) {
            return head.timestamp < old;
        }
        let seen = self.seen.entry(key.clone());
        let seen = seen.or_insert_with(|| self.before.get(key).cloned().unwrap_or_default());
        let mut known = vec![version.clone(), head];
        known.extend(seen.young.take());
        for one in known {
            if one.timestamp < old {
                seen.old = seen.old.take().max(Some(one));
            } else {
                seen.young = Some(one);
            }
        }
        seen.old.as_ref() > Some(version)
    }
}

impl<K: KeyValue> AnnaStore<K> {
    /// Goes through a further part of the own log, and at its end through the ids that are to be forgotten.
    pub(super) async fn sweep_own(&self, sweep: &Sweep) -> Result<Swept, StorageError> {
        let mut swept = Swept::default();
        let entries_max = u64::try_from(sweep.entries_max).unwrap_or(u64::MAX);
        loop {
            let next = self.walk.lock().next.max(self.log.first());
            if next > self.log.current() {
                break;
            }
            if swept.looked_at >= entries_max {
                return Ok(swept);
            }
            self.sweep_bucket(next, sweep, &mut swept).await?;
            self.walk.lock().next = next + 1;
        }
        {
            let walk = &mut *self.walk.lock();
            (walk.next, walk.before) = (0, std::mem::take(&mut walk.seen));
        }
        self.compact().await?;
        self.adopt(sweep).await?;
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
            let key = &written.key;
            match head.map(|head| head.version) {
                Some(head) if head > commit.version => {
                    if self.walk.lock().is_garbage(key, &commit.version, head, before) {
                        superseded.push(key.clone());
                    }
                }
                Some(head) if head == commit.version => {}
                _ => newest.push(key.clone()),
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
