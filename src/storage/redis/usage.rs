//! Counting what is there, by looking at all of it.

use std::collections::HashSet;

use super::super::{StorageError, Usage, remains};
use super::sweep::{about, id_of, masters, number, scan, scanned};
use super::{RedisStore, heads, outcomes};
use crate::txn::{BaseId, Outcome};

/// Entries in one question.
const COUNT: usize = 1000;

/// Counts everything.
pub(super) async fn count(store: &RedisStore) -> Result<Usage, StorageError> {
    let mut usage = Usage::default();
    for partition in store.names.partitions() {
        usage.keys += number(store.server.ask(&about("HLEN", &partition.heads)).await?);
        usage.log_entries += number(store.server.ask(&about("ZCARD", &partition.log)).await?);
        count_outcomes(store, &partition.outcomes, &mut usage).await?;
    }
    for master in masters(&store.server).await? {
        let mut cursor = 0;
        loop {
            let (next, names) = scan(store, &master, cursor, COUNT).await?;
            count_versions(store, &names, &mut usage).await?;
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
    }
    Ok(usage)
}

async fn count_outcomes(
    store: &RedisStore,
    name: &str,
    usage: &mut Usage,
) -> Result<(), StorageError> {
    let mut cursor = 0;
    loop {
        let mut cmd = redis::cmd("HSCAN");
        cmd.arg(name).arg(cursor).arg("COUNT").arg(COUNT);
        let (next, found) = scanned(store.server.ask(&cmd).await?)?;
        for pair in found.chunks_exact(2) {
            usage.outcomes += 1;
            usage.bytes += (pair[0].len() + pair[1].len()) as u64;
            let outcome = outcomes::decode(&id_of(&pair[0])?, pair[1].clone())?;
            usage.remains += u64::from(remains::is_only(&outcome));
        }
        cursor = next;
        if cursor == 0 {
            return Ok(());
        }
    }
}

async fn count_versions(
    store: &RedisStore,
    names: &[bytes::Bytes],
    usage: &mut Usage,
) -> Result<(), StorageError> {
    let sizes: Vec<_> = names
        .iter()
        .map(|name| {
            let mut cmd = redis::cmd("STRLEN");
            cmd.arg(&name[..]);
            cmd
        })
        .collect();
    for (name, size) in names.iter().zip(store.server.ask_each(&sizes).await?) {
        usage.bytes += name.len() as u64 + number(size);
    }
    let versions: Vec<_> = names.iter().filter_map(|n| store.names.parse_version(n)).collect();
    let keys: Vec<_> = versions.iter().map(|(key, _)| key.clone()).collect();
    let heads = heads::versions(&store.server, &store.names, &keys).await?;
    let ids: HashSet<BaseId> = versions.iter().map(|(_, version)| version.writer.base()).collect();
    let ids: Vec<_> = ids.into_iter().collect();
    let stored = outcomes::find(&store.server, &store.names, &ids).await?;
    let mut committed = HashSet::new();
    for (id, stored) in ids.iter().zip(stored) {
        if let Some(stored) = stored
            && let Outcome::Committed(commit) = outcomes::decode(id, stored)?
        {
            committed.insert(commit.version.clone());
        }
    }
    for ((_, version), head) in versions.iter().zip(heads) {
        usage.versions += 1;
        if !committed.contains(version) {
            usage.uncommitted += 1;
        } else if head.is_some_and(|head| head > *version) {
            usage.superseded += 1;
        }
    }
    Ok(())
}
