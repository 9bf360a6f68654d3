//! The newest committed version of each key.
//!
//! Heads are for keys that left a node's index, which raises them before, and for who sweeps. So a commit does not
//! wait for its heads, which would take the server as long as all the rest of it: they are raised about a second
//! later, together with those of other commits, once for a key that was written often meanwhile. What a process
//! that dies does not come to, the next sweep does.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use redis::{Cmd, FromRedisValue};

use super::super::StorageError;
use super::fault::Fault;
use super::names::{self, Names};
use super::outcomes;
use super::server::{Server, strings};
use crate::txn::{Commit, Key, Outcome, Version};

/// Keys in one question.
const KEYS_MAX: usize = 1000;
/// Heads raised by one call. Others wait meanwhile.
const RAISED_AT_ONCE: usize = 100;
/// Such calls under way.
const CALLS_AT_ONCE: usize = 16;
/// How often heads are read again that name commits which were collected meanwhile.
const TRIES: usize = 5;

/// Heads to be raised.
#[derive(Default)]
pub(super) struct Pending(Mutex<HashMap<Key, Version>>);

impl Pending {
    pub fn note(&self, commit: &Commit) {
        let mut pending = self.0.lock();
        commit.keys.iter().for_each(|written| add(&mut pending, &written.key, &commit.version));
    }

    /// Raises them.
    pub async fn raise(&self, server: &Server, names: &Names) -> Result<(), Fault> {
        let some = std::mem::take(&mut *self.0.lock());
        let raised = raise(server, names, some.iter()).await;
        if raised.is_err() {
            let mut pending = self.0.lock();
            some.iter().for_each(|(key, version)| add(&mut pending, key, version));
        }
        raised.map(drop)
    }
}

fn add(pending: &mut HashMap<Key, Version>, key: &Key, version: &Version) {
    match pending.get_mut(key) {
        Some(known) if *known >= *version => {}
        Some(known) => *known = version.clone(),
        None => drop(pending.insert(key.clone(), version.clone())),
    }
}

/// The versions that are heads, in the order of the keys.
pub(super) async fn versions(
    server: &Server,
    names: &Names,
    keys: &[Key],
) -> Result<Vec<Option<Version>>, StorageError> {
    let mut by_partition: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (place, key) in keys.iter().enumerate() {
        by_partition.entry(names.of_key(key)).or_default().push(place);
    }
    let slices: Vec<_> = by_partition
        .iter()
        .flat_map(|(partition, places)| places.chunks(KEYS_MAX).map(move |part| (*partition, part)))
        .collect();
    let cmds: Vec<Cmd> = slices
        .iter()
        .map(|(partition, places)| {
            let mut cmd = redis::cmd("HMGET");
            cmd.arg(&names.partitions()[*partition].heads);
            for &place in *places {
                cmd.arg(keys[place].as_str());
            }
            cmd
        })
        .collect();
    let mut found = vec![None; keys.len()];
    for ((_, places), answer) in slices.iter().zip(server.ask_each(&cmds).await?) {
        for (&place, head) in places.iter().zip(strings(answer, places.len())?) {
            let parse = |head: &[u8]| {
                names::parse_head(head).ok_or_else(|| {
                    StorageError::Damaged(format!("the head of {:?} cannot be read", keys[place]))
                })
            };
            found[place] = head.as_deref().map(parse).transpose()?;
        }
    }
    Ok(found)
}

/// The commits that are heads, in the order of the keys.
pub(super) async fn commits(
    server: &Server,
    names: &Names,
    keys: &[Key],
) -> Result<Vec<Option<Arc<Commit>>>, StorageError> {
    let mut found: Vec<Option<Arc<Commit>>> = vec![None; keys.len()];
    let mut open: Vec<usize> = (0..keys.len()).collect();
    for _ in 0..TRIES {
        let asked: Vec<_> = open.iter().map(|&place| keys[place].clone()).collect();
        let heads = versions(server, names, &asked).await?;
        let heads: Vec<_> =
            open.into_iter().zip(heads).filter_map(|(place, head)| Some((place, head?))).collect();
        let ids: Vec<_> = heads.iter().map(|(_, head)| head.writer.base()).collect();
        let records = outcomes::find(server, names, &ids).await?;
        open = Vec::new();
        for (((place, head), id), stored) in heads.into_iter().zip(ids).zip(records) {
            let outcome = stored.map(|stored| outcomes::decode(&id, stored)).transpose()?;
            match outcome {
                Some(Outcome::Committed(commit))
                    if commit.version == head && commit.written(&keys[place]).is_some() =>
                {
                    found[place] = Some(commit);
                }
                // Superseded and collected since the head was read: there is a newer one.
                _ => open.push(place),
            }
        }
        if open.is_empty() {
            return Ok(found);
        }
    }
    let key = open.first().map(|&place| &keys[place]);
    Err(StorageError::Damaged(format!("the head of {key:?} names a commit that is not there")))
}

/// Makes sure that the heads are at least these. Answers the keys of commits that the server has acknowledged and
/// does not know any more, as far as it can be asked: these are not raised.
pub(super) async fn raise<'a>(
    server: &Server,
    names: &Names,
    newest: impl Iterator<Item = (&'a Key, &'a Version)>,
) -> Result<HashSet<String>, Fault> {
    let mut by_partition: BTreeMap<usize, Vec<(&Key, &Version)>> = BTreeMap::new();
    for (key, version) in newest {
        by_partition.entry(names.of_key(key)).or_default().push((key, version));
    }
    let script = &server.scripts().heads;
    let calls = by_partition.iter().flat_map(|(partition, raised)| {
        raised.chunks(RAISED_AT_ONCE).map(move |part| {
            let partition = &names.partitions()[*partition];
            let outcomes = names.is_whole().then_some(&partition.outcomes[..]);
            let touched: Vec<_> = std::iter::once(&partition.heads[..]).chain(outcomes).collect();
            let mut call = script.call(&touched);
            for (key, version) in part {
                let id = version.writer.base();
                call.arg(key.as_str()).arg(names::head(version)).arg(id.as_str());
            }
            call
        })
    });
    let calls = calls.map(|call| server.write_by(script, call)).collect::<Vec<_>>();
    let mut answers = stream::iter(calls).buffer_unordered(CALLS_AT_ONCE);
    let mut lost = HashSet::new();
    while let Some(answer) = answers.try_next().await? {
        lost.extend(Vec::<String>::from_redis_value(answer).unwrap_or_default());
    }
    Ok(lost)
}
