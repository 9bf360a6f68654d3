//! The newest committed version of each key.
//!
//! On a single server the script that decides a commit raises its heads, so they are as new as any commit.
//! In a cluster they are raised when the commit is decided and before it is acknowledged, and again by
//! whoever finds its outcome.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::try_join_all;
use redis::Cmd;

use super::super::StorageError;
use super::fault::Fault;
use super::names::{self, Names};
use super::outcomes;
use super::server::{Server, strings};
use crate::txn::{Commit, Key, Outcome, Version};

/// Keys in one question.
const KEYS_MAX: usize = 1000;
/// How often heads are read again that name commits which were collected meanwhile.
const TRIES: usize = 5;

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

/// Makes sure that the heads are at least these.
pub(super) async fn raise<'a>(
    server: &Server,
    names: &Names,
    newest: impl Iterator<Item = (&'a Key, &'a Version)>,
) -> Result<(), Fault> {
    let mut by_partition: BTreeMap<usize, Vec<(&str, String)>> = BTreeMap::new();
    for (key, version) in newest {
        let raised = by_partition.entry(names.of_key(key)).or_default();
        raised.push((key.as_str(), names::head(version)));
    }
    let script = &server.scripts().heads;
    let calls = by_partition.iter().flat_map(|(partition, raised)| {
        raised.chunks(KEYS_MAX).map(move |part| {
            let mut call = script.call(&[&names.partitions()[*partition].heads]);
            for (key, head) in part {
                call.arg(*key).arg(head);
            }
            call
        })
    });
    try_join_all(calls.map(|call| server.write_by(script, call))).await?;
    Ok(())
}
