//! Reading the logs of all nodes, from a position on.
//!
//! What is alive in a part of a log is entered elsewhere before that part is taken away, and it is told
//! between the two where the log begins now, or that it is gone. So whoever finds, after a look at
//! everything, that no log begins elsewhere than before, has missed nothing; otherwise it looks again.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::{join_all, try_join, try_join_all};
use prost::Message;
use serde::{Deserialize, Serialize};

use super::super::{LogPage, LogPosition, StorageError, codec};
use super::kv::KeyValue;
use super::log::READ_AHEAD;
use super::names::{self, LogName};
use super::objects::{lww, raised, string_set};
use super::pack::Found;
use super::paxos::{Proposer, Standing};
use crate::txn::{AttemptId, BaseId, Commit};
use crate::wire::{LogBucket, LogEntry, LogState, NodeLogs};

/// Buckets read for one page, over all logs, about.
const PAGE_BUCKETS: usize = 16;

/// How far each log was read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Position {
    logs: BTreeMap<String, Cursor>,
}

/// How far one log was read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Cursor {
    /// Nothing from this bucket on was seen.
    next: u64,
    /// Buckets that may have more to say.
    unfinished: BTreeMap<u64, Seen>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Seen {
    /// How many entries were looked at.
    entries: usize,
    /// Those of which the outcome was not there yet.
    open: Vec<usize>,
}

/// One bucket, as far as it was not handed out before.
struct Part {
    commits: Vec<Arc<Commit>>,
    seen: Seen,
    /// It will say no more.
    finished: bool,
}

/// The next commits behind a position. `skip` is a log to leave out.
pub(super) async fn commits_since(
    proposer: &Proposer<impl KeyValue>,
    position: &LogPosition,
    skip: Option<&LogName>,
) -> Result<LogPage, StorageError> {
    let mut position = decode(position)?;
    let logs = logs(&*proposer.kv).await?;
    let names: Vec<_> = logs.iter().map(|(log, _)| log.to_string()).collect();
    // Logs that are gone were copied into others.
    position.logs.retain(|name, _| names.contains(name));
    let (mut commits, mut end) = (Vec::new(), true);
    for ((log, first), name) in logs.iter().zip(names) {
        if skip == Some(log) {
            continue;
        }
        if commits.len() >= PAGE_BUCKETS * 64 {
            end = false;
            break;
        }
        let cursor = position.logs.entry(name).or_default();
        cursor.next = cursor.next.max(*first);
        cursor.unfinished.retain(|number, _| number >= first);
        end &= advance(proposer, log, cursor, &mut commits).await?;
    }
    end = end && self::logs(&*proposer.kv).await? == logs;
    let next = serde_json::to_vec(&position).map_err(|e| StorageError::Refused(e.to_string()))?;
    Ok(LogPage { commits, next: LogPosition(next.into()), end })
}

/// All logs there are, and the number of the first part of each.
pub(super) async fn logs(kv: &impl KeyValue) -> Result<Vec<(LogName, u64)>, StorageError> {
    let nodes = string_set(kv.get_newest(names::NODES).await?)?;
    let of_nodes = try_join_all(nodes.iter().map(|node| logs_of(kv, node))).await?;
    let firsts = of_nodes.into_iter().flat_map(|(logs, about)| {
        logs.into_iter().map(move |log| (about.firsts.get(&log.incarnation).copied(), log))
    });
    let firsts = firsts.map(|(lost, log)| async move {
        let first = first_of(kv, &log).await?.max(lost.unwrap_or(0));
        Ok((log, first))
    });
    try_join_all(firsts).await
}

/// The first part of a log that was not taken away.
pub(super) async fn first_of(kv: &impl KeyValue, log: &LogName) -> Result<u64, StorageError> {
    raised(kv, &log.first()).await
}

/// The logs of one node, and what is known of them.
pub(super) async fn logs_of(
    kv: &impl KeyValue,
    node: &str,
) -> Result<(Vec<LogName>, NodeLogs), StorageError> {
    let name = names::incarnations(node);
    let (incarnations, about) = try_join(kv.get_newest(&name), node_logs(kv, node)).await?;
    let mut incarnations = string_set(incarnations)?;
    let (_, about) = about;
    incarnations.retain(|one| !about.gone.contains(one));
    let log = |incarnation| LogName { node: node.to_owned(), incarnation };
    Ok((incarnations.into_iter().map(log).collect(), about))
}

/// What became of a node's incarnations, and the timestamp under which it is written down.
pub(super) async fn node_logs(
    kv: &impl KeyValue,
    node: &str,
) -> Result<(u64, NodeLogs), StorageError> {
    let stored = lww(kv.get_newest(&names::node_logs(node)).await?)?;
    let Some((timestamp, bytes)) = stored else { return Ok((0, NodeLogs::default())) };
    let logs = NodeLogs::decode(bytes)
        .map_err(|e| StorageError::Damaged(format!("the logs of node {node}: {e}")))?;
    Ok((timestamp, logs))
}

/// Reads on in one log. Answers whether its end was reached.
async fn advance(
    proposer: &Proposer<impl KeyValue>,
    log: &LogName,
    cursor: &mut Cursor,
    commits: &mut Vec<Arc<Commit>>,
) -> Result<bool, StorageError> {
    let ahead = cursor.next..cursor.next + READ_AHEAD + PAGE_BUCKETS as u64;
    let numbers: Vec<_> = cursor.unfinished.keys().copied().chain(ahead).collect();
    let parts = join_all(numbers.iter().map(|number| {
        let seen = cursor.unfinished.get(number).cloned().unwrap_or_default();
        read_bucket(proposer, log, *number, seen)
    }));
    let mut found = Vec::with_capacity(numbers.len());
    for part in parts.await {
        found.push(part?);
    }
    let last = numbers.iter().zip(&found).filter(|(_, part)| part.is_some()).map(|(n, _)| *n).max();
    let Some(last) = last else { return Ok(true) };
    for (number, part) in numbers.into_iter().zip(found) {
        // A bucket that is not there, before one that is, is still being written.
        let missing = || Part { commits: Vec::new(), seen: Seen::default(), finished: false };
        if number > last {
            continue;
        }
        let part = part.unwrap_or_else(missing);
        commits.extend(part.commits);
        if part.finished {
            cursor.unfinished.remove(&number);
        } else {
            cursor.unfinished.insert(number, part.seen);
        }
    }
    let was_next = cursor.next;
    cursor.next = cursor.next.max(last + 1);
    Ok(cursor.next < was_next + PAGE_BUCKETS as u64)
}

async fn read_bucket(
    proposer: &Proposer<impl KeyValue>,
    log: &LogName,
    number: u64,
    seen: Seen,
) -> Result<Option<Part>, StorageError> {
    let Some(bucket) = bucket(&*proposer.kv, log, number).await? else {
        return Ok(None);
    };
    let indices = seen.open.iter().copied().chain(seen.entries..bucket.entries.len());
    let entries: Vec<_> =
        indices.filter_map(|index| Some((index, bucket.entries.get(index)?))).collect();
    let states = try_join_all(entries.iter().map(|(_, entry)| resolve(proposer, entry))).await?;
    let mut part = Part {
        commits: Vec::new(),
        seen: Seen { entries: bucket.entries.len(), open: Vec::new() },
        finished: false,
    };
    for ((index, _), state) in entries.into_iter().zip(states) {
        match state {
            Resolved::Committed(commit) => part.commits.push(commit),
            Resolved::Void => {}
            Resolved::Open | Resolved::Contested(_) => part.seen.open.push(index),
        }
    }
    part.finished = bucket.closed && part.seen.open.is_empty();
    Ok(Some(part))
}

/// One bucket of a log, if it is there.
pub(super) async fn bucket(
    kv: &impl KeyValue,
    log: &LogName,
    number: u64,
) -> Result<Option<LogBucket>, StorageError> {
    let name = log.bucket(number);
    let Some((_, bytes)) = lww(kv.get_newest(&name).await?)? else {
        return Ok(None);
    };
    let bucket = LogBucket::decode(bytes);
    bucket
        .map(Some)
        .map_err(|e| StorageError::Damaged(format!("the commit log's part {name:?}: {e}")))
}

/// What an entry says, after the outcome was asked where that is needed.
pub(super) enum Resolved {
    Committed(Arc<Commit>),
    Void,
    /// Sent, and not there (yet).
    Open,
    /// Others decide about it at this moment.
    Contested(BaseId),
}

pub(super) async fn resolve(
    proposer: &Proposer<impl KeyValue>,
    entry: &LogEntry,
) -> Result<Resolved, StorageError> {
    match (entry.state(), &entry.record) {
        (LogState::Void, _) => return Ok(Resolved::Void),
        (LogState::Committed | LogState::Published, Some(record)) => {
            return codec::commit_of(record).map(Resolved::Committed);
        }
        _ => {}
    }
    let writer = AttemptId::parse(&entry.id).map_err(|error| {
        StorageError::Damaged(format!("a log entry's id {:?}: {error}", entry.id))
    })?;
    let id = writer.base();
    let stored = match proposer.standing(&id).await? {
        Standing::Open => return Ok(Resolved::Open),
        Standing::Contested => return Ok(Resolved::Contested(id)),
        Standing::Decided(stored) => stored,
    };
    let found = Found::decode(&id, stored)?;
    match found.commit() {
        Some(commit) if commit.version.writer == writer && !is_collected(commit, entry) => {
            Ok(Resolved::Committed(commit.clone()))
        }
        _ => Ok(Resolved::Void),
    }
}

/// Whether nothing is left of what an entry tells of, as newer commits have superseded it.
fn is_collected(commit: &Commit, entry: &LogEntry) -> bool {
    let wrote_nothing = entry.record.as_ref().is_some_and(|record| record.write_set.is_empty());
    commit.keys.is_empty() && !wrote_nothing
}

fn decode(position: &LogPosition) -> Result<Position, StorageError> {
    if position.0.is_empty() {
        return Ok(Position::default());
    }
    serde_json::from_slice(&position.0).map_err(|_| {
        StorageError::Refused(
            "the log position is not one of this store; read the log from its beginning".into(),
        )
    })
}
