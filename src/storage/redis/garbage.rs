//! Deleting what nobody needs any more.

use std::collections::HashSet;

use futures_util::future::try_join_all;
use redis::{FromRedisValue, Value};

use super::super::{Garbage, StorageError, codec, remains};
use super::fault::Fault;
use super::names::Names;
use super::outcomes::Writer;
use super::server::Server;
use crate::txn::{Commit, Key};

/// Names deleted by one command.
const NAMES_MAX: usize = 500;

/// Deletes what was collected, but for versions of these keys: what superseded them is lost.
pub(super) async fn collect(
    server: &Server,
    names: &Names,
    writer: Writer,
    garbage: &Garbage,
    lost: &HashSet<String>,
) -> Result<(), StorageError> {
    let is_superseded = |key: &&Key| !lost.contains(key.as_str());
    let versions = garbage.superseded.iter().flat_map(|gone| {
        let keys = gone.keys.iter().filter(is_superseded);
        keys.map(|key| names.version(key, &gone.commit.version))
    });
    delete(server, versions.collect()).await?;
    // The records go last: they say which versions there are, if this is cut short.
    let records = garbage.superseded.iter();
    let records =
        records.filter(|gone| gone.is_last && gone.keys.iter().all(|k| is_superseded(&k)));
    try_join_all(records.map(|gone| forget(server, names, writer, &gone.commit))).await?;
    Ok(())
}

/// Deletes what is under these names; answers how much there was.
pub(super) async fn delete(server: &Server, names: Vec<String>) -> Result<u64, Fault> {
    let slices = names.chunks(NAMES_MAX).map(async |slice| {
        let mut cmd = redis::cmd("UNLINK");
        cmd.arg(slice);
        server.ask(&cmd).await.map(count)
    });
    Ok(try_join_all(slices).await?.into_iter().sum())
}

/// Deletes the record of a commit; answers whether it was still in the log.
pub(super) async fn forget(
    server: &Server,
    names: &Names,
    writer: Writer,
    commit: &Commit,
) -> Result<bool, Fault> {
    let id = commit.version.writer.base();
    let partition = names.of_id(&id);
    let script = &server.scripts().forget;
    let mut call = script.call(&[&partition.outcomes, &partition.log]);
    let remains = codec::encode_outcome(&id, &remains::of(commit));
    call.arg(id.as_str()).arg(writer.sign(&remains));
    Ok(count(server.run(script, call).await?) > 0)
}

fn count(answer: Value) -> u64 {
    u64::from_redis_value(answer).unwrap_or(0)
}
