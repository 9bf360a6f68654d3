//! Counts what the store holds, by reading what the logs lead to.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{StorageError, Usage};
use super::kv::KeyValue;
use super::log::READ_AHEAD;
use super::names::LogName;
use super::objects::raised;
use super::pack::Found;
use super::{AnnaStore, graves, log, read, some_at_once};
use crate::txn::{AttemptId, BaseId, Key, Version};
use crate::wire::{LogEntry, LogState};

/// What was found so far.
#[derive(Default)]
struct Count {
    usage: Usage,
    seen: BTreeSet<BaseId>,
    /// The newest version of each key.
    newest: BTreeMap<Key, Version>,
}

impl<K: KeyValue> AnnaStore<K> {
    /// Counts. What no log leads to is not found.
    pub(super) async fn count(&self) -> Result<Usage, StorageError> {
        let mut count = Count::default();
        for (log, first) in read::logs(&*self.kv).await? {
            self.count_log(&log, first, &mut count).await?;
            let mut number = raised(&*self.kv, &log.first_graves()).await?;
            while let Some(bucket) = graves::bucket(&*self.kv, &log, number).await? {
                count.usage.remains += bucket.graves.len() as u64;
                number += 1;
            }
        }
        let mut usage = count.usage;
        usage.keys = count.newest.len() as u64;
        usage.superseded = usage.versions.saturating_sub(usage.keys);
        usage.outcomes += usage.remains;
        Ok(usage)
    }

    async fn count_log(
        &self,
        log: &LogName,
        mut next: u64,
        count: &mut Count,
    ) -> Result<(), StorageError> {
        loop {
            let buckets =
                (next..next + READ_AHEAD).map(|number| read::bucket(&*self.kv, log, number));
            let buckets: Vec<_> = some_at_once(buckets.collect()).await?;
            if buckets.iter().all(Option::is_none) {
                return Ok(());
            }
            for bucket in buckets.into_iter().flatten() {
                let found = bucket.entries.iter().map(|entry| self.found(entry));
                let found = some_at_once(found.collect()).await?;
                bucket.entries.iter().zip(found).for_each(|(entry, found)| count.add(entry, found));
            }
            next += READ_AHEAD;
        }
    }

    async fn found(&self, entry: &LogEntry) -> Result<Option<Found>, StorageError> {
        match AttemptId::parse(&entry.id) {
            Ok(writer) if entry.state() != LogState::Void => self.read_pack(&writer.base()).await,
            _ => Ok(None),
        }
    }
}

impl Count {
    fn add(&mut self, entry: &LogEntry, found: Option<Found>) {
        self.usage.log_entries += 1;
        let commit = found.as_ref().and_then(|found| found.commit().cloned());
        let (Some(found), Some(commit)) = (found, commit) else {
            if entry.state() == LogState::Open {
                self.usage.uncommitted += u64::from(log::keys(entry));
            }
            return;
        };
        let id = commit.version.writer.base();
        if commit.keys.is_empty() || !self.seen.insert(id) {
            return;
        }
        let (versions, bytes) = found.measure();
        self.usage.outcomes += 1;
        self.usage.versions += versions as u64;
        self.usage.bytes += bytes as u64;
        for (_, written) in commit.keys.iter().enumerate().filter(|(place, _)| found.has(*place)) {
            let newest = self.newest.entry(written.key.clone());
            let newest = newest.or_insert_with(|| commit.version.clone());
            *newest = newest.clone().max(commit.version.clone());
        }
    }
}
