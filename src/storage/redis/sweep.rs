//! Looks through the store for what was not collected when it became garbage.
//!
//! Two walks, one behind the other: over the outcomes, which name all committed versions, and over the
//! names of versions, which finds those that no outcome names. Redis tells for each what was there all the
//! while; what comes or goes meanwhile may be told or not, so a later walk sees it.
//!
//! A version is superseded if its key's head is newer and old enough. Where the head is too young for
//! that, of two versions that the walk meets and that are both old enough the older one is superseded; so
//! the newer is remembered.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::try_join_all;
use redis::{Cmd, FromRedisValue, Value};

use super::super::{Storage, StorageError, Sweep, Swept, codec, remains};
use super::fault::Fault;
use super::server::Server;
use super::{RedisStore, garbage, heads, outcomes};
use crate::txn::{BaseId, Commit, Key, Outcome, Version};

/// Keys with young heads that are remembered. Of more, old versions stay until their heads are older.
const REMEMBERED_MAX: usize = 100_000;

/// How far a walk has come.
#[derive(Debug, Default)]
pub(super) struct Walk {
    place: Place,
    /// Of keys with young heads, the newest version met that was old enough to supersede others.
    newest: HashMap<Key, Version>,
}

#[derive(Debug, Clone)]
enum Place {
    Outcomes { partition: usize, cursor: u64 },
    Versions { masters: Vec<String>, cursor: u64 },
}

impl Default for Place {
    fn default() -> Self {
        Self::Outcomes { partition: 0, cursor: 0 }
    }
}

impl Walk {
    /// Looks at about as many entries as the sweep says.
    pub async fn go_on(
        &mut self,
        store: &RedisStore,
        sweep: &Sweep,
    ) -> Result<Swept, StorageError> {
        let mut swept = Swept::default();
        while !swept.end && swept.looked_at < sweep.entries_max.max(1) as u64 {
            // What fails is looked at again by the next call.
            let place = match self.place.clone() {
                Place::Outcomes { partition, cursor } => {
                    self.outcomes(store, sweep, partition, cursor, &mut swept).await?
                }
                Place::Versions { masters, cursor } => {
                    versions(store, sweep, masters, cursor, &mut swept).await?
                }
            };
            swept.end = place.is_none();
            self.place = place.unwrap_or_default();
        }
        Ok(swept)
    }

    async fn outcomes(
        &mut self,
        store: &RedisStore,
        sweep: &Sweep,
        partition: usize,
        cursor: u64,
        swept: &mut Swept,
    ) -> Result<Option<Place>, StorageError> {
        let Some(names) = store.names.partitions().get(partition) else {
            let masters = masters(&store.server).await?;
            return Ok(Some(Place::Versions { masters, cursor: 0 }));
        };
        let mut cmd = redis::cmd("HSCAN");
        cmd.arg(&names.outcomes).arg(cursor).arg("COUNT").arg(sweep.entries_max.max(1));
        let (next, found) = scanned(store.server.ask(&cmd).await?)?;
        let mut commits = Vec::new();
        let mut forgotten = Vec::new();
        for pair in found.chunks_exact(2) {
            swept.looked_at += 1;
            let id = id_of(&pair[0])?;
            if !sweep.share.has(id.as_str()) {
                continue;
            }
            match outcomes::decode(&id, pair[1].clone())? {
                Outcome::Committed(commit) if !commit.keys.is_empty() => commits.push(commit),
                outcome => {
                    let record = outcomes::record(pair[1].clone())?;
                    let at = codec::recorded_at(&record);
                    let is_old = at.is_some_and(|at| at < sweep.outcomes_before)
                        || remains::is_old(&id, &outcome, sweep.outcomes_before);
                    if is_old {
                        forgotten.push(id);
                    }
                }
            }
        }
        self.commits(store, sweep, commits, swept).await?;
        if !forgotten.is_empty() {
            let mut cmd = redis::cmd("HDEL");
            cmd.arg(&names.outcomes);
            forgotten.iter().for_each(|id| {
                cmd.arg(id.as_str());
            });
            swept.outcomes += number(store.server.ask(&cmd).await?);
        }
        Ok(Some(match next {
            0 => Place::Outcomes { partition: partition + 1, cursor: 0 },
            cursor => Place::Outcomes { partition, cursor },
        }))
    }

    /// Deletes what is superseded of these commits.
    async fn commits(
        &mut self,
        store: &RedisStore,
        sweep: &Sweep,
        commits: Vec<Arc<Commit>>,
        swept: &mut Swept,
    ) -> Result<(), StorageError> {
        let keys: BTreeSet<_> =
            commits.iter().flat_map(|c| c.keys.iter().map(|w| w.key.clone())).collect();
        let keys: Vec<_> = keys.into_iter().collect();
        let heads = heads::versions(&store.server, &store.names, &keys).await?;
        let mut heads: HashMap<_, _> = keys.into_iter().zip(heads).collect();
        raise_behind(store, &commits, &mut heads).await?;
        let mut versions = Vec::new();
        let mut records = Vec::new();
        for commit in commits {
            let mut left = 0;
            for written in &commit.keys {
                let Some(Some(head)) = heads.get(&written.key) else {
                    left += 1;
                    continue;
                };
                let (gone, stays) = self.judge(sweep, &written.key, &commit.version, head);
                versions.extend(gone.map(|version| store.names.version(&written.key, &version)));
                left += usize::from(stays);
            }
            if left == 0 {
                records.push(commit);
            }
        }
        swept.versions += garbage::delete(&store.server, versions).await?;
        let forget = records
            .iter()
            .map(|commit| garbage::forget(&store.server, &store.names, store.writer, commit));
        let gone = try_join_all(forget).await?;
        swept.records += gone.into_iter().filter(|was_there| *was_there).count() as u64;
        Ok(())
    }

    /// Which version of a key is superseded, now that `version` of it was met; and whether that one stays.
    fn judge(
        &mut self,
        sweep: &Sweep,
        key: &Key,
        version: &Version,
        head: &Version,
    ) -> (Option<Version>, bool) {
        let before = sweep.superseded_before;
        if version >= head || version.timestamp >= before {
            return (None, true);
        }
        if head.timestamp < before {
            self.newest.remove(key);
            return (Some(version.clone()), false);
        }
        match self.newest.get_mut(key) {
            Some(newest) if newest.timestamp >= before || newest == version => (None, true),
            Some(newest) if version < newest => (Some(version.clone()), false),
            Some(newest) => (Some(std::mem::replace(newest, version.clone())), true),
            None => {
                if self.newest.len() < REMEMBERED_MAX {
                    self.newest.insert(key.clone(), version.clone());
                }
                (None, true)
            }
        }
    }
}

/// Raises heads that somebody did not come to raise.
async fn raise_behind(
    store: &RedisStore,
    commits: &[Arc<Commit>],
    heads: &mut HashMap<Key, Option<Version>>,
) -> Result<(), StorageError> {
    let mut behind = HashMap::new();
    for commit in commits {
        for written in &commit.keys {
            let head = heads.entry(written.key.clone()).or_default();
            if head.as_ref().is_none_or(|head| *head < commit.version) {
                *head = Some(commit.version.clone());
                behind.insert(&written.key, &commit.version);
            }
        }
    }
    heads::raise(&store.server, &store.names, behind.into_iter()).await?;
    Ok(())
}

/// Values whose commit never came.
async fn versions(
    store: &RedisStore,
    sweep: &Sweep,
    mut masters: Vec<String>,
    cursor: u64,
    swept: &mut Swept,
) -> Result<Option<Place>, StorageError> {
    let Some(master) = masters.last() else { return Ok(None) };
    let (next, found) = scan(store, master, cursor, sweep.entries_max).await?;
    let mut old: BTreeMap<BaseId, Vec<(Key, Version)>> = BTreeMap::new();
    for name in found {
        swept.looked_at += 1;
        // Others may use names that begin like ours.
        let Some((key, version)) = store.names.parse_version(&name) else { continue };
        let id = version.writer.base();
        if version.timestamp < sweep.orphans_before && sweep.share.has(id.as_str()) {
            old.entry(id).or_default().push((key, version));
        }
    }
    let ids: Vec<_> = old.keys().cloned().collect();
    let stored = outcomes::find(&store.server, &store.names, &ids).await?;
    let mut orphans = Vec::new();
    for ((id, versions), stored) in old.into_iter().zip(stored) {
        let outcome = match stored {
            Some(stored) => outcomes::decode(&id, stored)?,
            None => store.settle_aborted(&id).await?,
        };
        let is_of = |key: &Key, version: &Version| match &outcome {
            Outcome::Committed(commit) => {
                commit.version == *version && commit.written(key).is_some()
            }
            Outcome::Aborted => false,
        };
        let lost = versions.iter().filter(|(key, version)| !is_of(key, version));
        orphans.extend(lost.map(|(key, version)| store.names.version(key, version)));
    }
    swept.orphans += garbage::delete(&store.server, orphans).await?;
    if next == 0 {
        masters.pop();
    }
    Ok((next > 0 || !masters.is_empty()).then_some(Place::Versions { masters, cursor: next }))
}

/// The addresses of the masters.
pub(super) async fn masters(server: &Server) -> Result<Vec<String>, Fault> {
    let answers = server.ask_masters(&redis::cmd("DBSIZE")).await?;
    Ok(answers.into_iter().map(|(address, _)| address).collect())
}

/// Some names of versions on one master, and the cursor behind them; 0 at the end.
pub(super) async fn scan(
    store: &RedisStore,
    master: &str,
    cursor: u64,
    count: usize,
) -> Result<(u64, Vec<Bytes>), Fault> {
    let mut cmd = redis::cmd("SCAN");
    cmd.arg(cursor).arg("MATCH").arg(store.names.all_versions()).arg("COUNT").arg(count.max(1));
    scanned(store.server.ask_master(master, &cmd).await?)
}

/// The answer to SCAN or HSCAN.
pub(super) fn scanned(answer: Value) -> Result<(u64, Vec<Bytes>), Fault> {
    let answer = <(u64, Vec<Vec<u8>>)>::from_redis_value(answer);
    let (next, found) = answer.map_err(|error| Fault::Other(error.to_string()))?;
    Ok((next, found.into_iter().map(Bytes::from).collect()))
}

pub(super) fn number(answer: Value) -> u64 {
    u64::from_redis_value(answer).unwrap_or(0)
}

pub(super) fn id_of(name: &[u8]) -> Result<BaseId, StorageError> {
    let text = String::from_utf8_lossy(name);
    let damaged = |error| StorageError::Damaged(format!("the id {text:?}: {error}"));
    BaseId::parse(&text).map_err(damaged)
}

/// A command about one name.
pub(super) fn about(command: &str, name: &str) -> Cmd {
    let mut cmd = redis::cmd(command);
    cmd.arg(name);
    cmd
}
