//! What an incarnation does for those before it on the same node.
//!
//! A crash leaves commits behind that are marked open, values that were committed and not published,
//! and values of commits that never came to be. And each incarnation leaves a log behind. Some time
//! after the start, when what was sent before it has most likely landed, all of this is cleared away: the
//! old logs are read, what is live in them is copied into this incarnation's own log, and they are
//! deleted. What lands even later is safe, and at worst lies about: it was never answered, and if
//! somebody asks for its outcome, that enters a log then.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::future::try_join_all;

use super::super::StorageError;
use super::compact::left_before;
use super::graves::{self, grave};
use super::kv::KeyValue;
use super::log::{self, READ_AHEAD};
use super::names::{self, LogName};
use super::objects::{delete, raise, raised};
use super::pack;
use super::paxos;
use super::read::{self, Resolved};
use super::{AnnaStore, some_at_once};
use crate::txn::{AttemptId, Commit, Key, Version};
use crate::wire::{LogBucket, LogEntry, LogState};

/// Commits that are copied before they are written.
const COPIED_AT_ONCE: usize = 256;

/// A commit that took effect, and whether its values were published.
struct Survivor {
    commit: Arc<Commit>,
    is_published: bool,
}

/// What a log left behind.
#[derive(Default)]
pub(super) struct Remains {
    survivors: Vec<Survivor>,
    seen: HashSet<Version>,
    /// Those of the survivors that were left open.
    late: Vec<Arc<Commit>>,
    /// Objects to delete.
    pub(super) debris: Vec<String>,
}

impl<K: KeyValue> AnnaStore<K> {
    /// Takes over the logs of dead incarnations. Safe to repeat when it failed. Answers the commits
    /// that were left open and took effect.
    pub(super) async fn take_over(
        &self,
        dead: &[LogName],
        wall_ns: u64,
    ) -> Result<Vec<Arc<Commit>>, StorageError> {
        let mut remains = Remains::default();
        for log in dead {
            self.look_through(log, &mut remains).await?;
        }
        self.enter_survivors(&remains, wall_ns).await?;
        let is_dead = |one: &String| dead.iter().any(|log| log.incarnation == *one);
        self.report(|logs| {
            logs.ended.retain(|one| !is_dead(one));
            logs.firsts.retain(|one, _| !is_dead(one));
            logs.gone.extend(dead.iter().map(|log| log.incarnation.clone()));
            logs.gone.sort();
            logs.gone.dedup();
        })
        .await?;
        delete(&*self.kv, &remains.debris).await?;
        for log in dead {
            self.take_over_graves(log).await?;
        }
        Ok(remains.late)
    }

    /// Copies what is alive into the own log.
    pub(super) async fn enter_survivors(
        &self,
        remains: &Remains,
        wall_ns: u64,
    ) -> Result<(), StorageError> {
        let mut newest: HashMap<&Key, &Version> = HashMap::new();
        // What is ahead of the clock cannot be read everywhere yet, so that what it overwrote is needed.
        let is_ahead = |commit: &Commit| commit.version.timestamp.0 > wall_ns;
        for survivor in remains.survivors.iter().filter(|survivor| !is_ahead(&survivor.commit)) {
            for written in &survivor.commit.keys {
                let version = newest.entry(&written.key).or_insert(&survivor.commit.version);
                *version = (*version).max(&survivor.commit.version);
            }
        }
        for (number, survivor) in remains.survivors.iter().enumerate() {
            let commit = &survivor.commit;
            let is_newest =
                |key: &Key| is_ahead(commit) || newest.get(key) == Some(&&commit.version);
            let live: Vec<_> =
                commit.keys.iter().map(|written| &written.key).filter(|k| is_newest(k)).collect();
            // What is not in a log is not found when its versions are to be deleted.
            if live.is_empty() && !self.collects {
                continue;
            }
            if !survivor.is_published {
                self.publish_all(&commit.version, &live).await?;
            }
            self.log.enter(commit, LogState::Published);
            if number % COPIED_AT_ONCE == 0 {
                self.log.flush_all(&*self.kv).await?;
            }
        }
        self.log.flush_all(&*self.kv).await
    }

    /// Takes over the list of ids that are to be forgotten, part by part.
    async fn take_over_graves(&self, log: &LogName) -> Result<(), StorageError> {
        let mut number = raised(&*self.kv, &log.first_graves()).await?;
        // Each was written before the next one was begun.
        while let Some(bucket) = graves::bucket(&*self.kv, log, number).await? {
            self.graves.note(bucket.graves);
            self.graves.flush(&*self.kv).await?;
            raise(&*self.kv, &log.first_graves(), number + 1).await?;
            delete(&*self.kv, &[log.graves(number)]).await?;
            number += 1;
        }
        if number > 0 {
            delete(&*self.kv, &[log.first_graves()]).await?;
        }
        Ok(())
    }

    async fn look_through(&self, log: &LogName, remains: &mut Remains) -> Result<(), StorageError> {
        let (_, about) = read::node_logs(&*self.kv, &log.node).await?;
        let lost = about.firsts.get(&log.incarnation).copied().unwrap_or(0);
        let mut next = read::first_of(&*self.kv, log).await?.max(lost);
        remains.debris.extend(left_before(next).map(|number| log.bucket(number)));
        if next > 0 {
            remains.debris.push(log.first());
        }
        loop {
            let numbers: Vec<_> = (next..next + READ_AHEAD).collect();
            let buckets = numbers.iter().map(|number| read::bucket(&*self.kv, log, *number));
            let buckets = try_join_all(buckets).await?;
            if buckets.iter().all(Option::is_none) {
                return Ok(());
            }
            for (number, bucket) in numbers.iter().zip(buckets) {
                let Some(bucket) = bucket else { continue };
                self.sort_out(bucket, remains).await?;
                remains.debris.push(log.bucket(*number));
            }
            next += READ_AHEAD;
        }
    }

    /// Finds out what became of the entries of a part of a log, for good.
    pub(super) async fn sort_out(
        &self,
        bucket: LogBucket,
        remains: &mut Remains,
    ) -> Result<(), StorageError> {
        let resolved = bucket.entries.iter().map(|entry| self.resolve_for_good(entry));
        let resolved = try_join_all(resolved).await?;
        for (entry, resolved) in bucket.entries.iter().zip(resolved) {
            match resolved {
                // Copied before by an incarnation that did not come to the end.
                Resolved::Committed(commit) if !remains.seen.insert(commit.version.clone()) => {}
                Resolved::Committed(commit) => {
                    if entry.state() == LogState::Open {
                        remains.late.push(commit.clone());
                    }
                    let is_published = entry.state() == LogState::Published;
                    remains.survivors.push(Survivor { commit, is_published });
                }
                // It may be a commit that was told. Better another time.
                Resolved::Contested(id) => return Err(paxos::contested(&id)),
                Resolved::Void | Resolved::Open => {
                    remains.debris.extend(self.orphans(entry).await?);
                }
            }
        }
        Ok(())
    }

    /// What becomes of an entry. If garbage is collected, or values of it would be deleted, it is decided first:
    /// an outcome that lands later would be found by nobody, and must not name them.
    async fn resolve_for_good(&self, entry: &LogEntry) -> Result<Resolved, StorageError> {
        let resolved = read::resolve(&self.proposer, entry).await?;
        let is_open = matches!(resolved, Resolved::Open);
        if !is_open || (!self.collects && self.orphans(entry).await?.is_empty()) {
            return Ok(resolved);
        }
        let Ok(writer) = AttemptId::parse(&entry.id) else { return Ok(resolved) };
        let id = writer.base();
        match self.proposer.propose(&id, &pack::aborted(&id), || ()).await {
            Ok(_) => {}
            Err(undecided) if undecided.is_forgotten => return Ok(Resolved::Void),
            Err(undecided) => return Err(undecided.into()),
        }
        self.graves.note(log::timestamp(entry).map(|at| grave(&id, at)));
        read::resolve(&self.proposer, entry).await
    }

    /// The values that an attempt without effect left.
    pub(super) async fn orphans(&self, entry: &LogEntry) -> Result<Vec<String>, StorageError> {
        let Ok(writer) = AttemptId::parse(&entry.id) else {
            return Ok(Vec::new());
        };
        let names = (0..log::keys(entry)).map(|position| names::apart(&writer, position));
        let found = names.map(|name| async {
            let is_there = self.kv.get(&name).await?.is_some();
            Ok(is_there.then_some(name))
        });
        Ok(some_at_once(found.collect()).await?.into_iter().flatten().collect())
    }

    pub(super) async fn publish_all(
        &self,
        version: &Version,
        keys: &[&Key],
    ) -> Result<(), StorageError> {
        let wanted: Vec<_> = keys.iter().map(|key| ((*key).clone(), version.clone())).collect();
        let values = self.read_versions(&wanted).await?;
        for (key, value) in keys.iter().zip(values) {
            if let Some(value) = value {
                match self.put_plain(key, version, &value).await {
                    // Another type stands there: not ours to change.
                    Ok(()) | Err(StorageError::Unsuitable(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}
