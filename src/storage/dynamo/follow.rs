//! Reading the logs of all writers. Why nothing is missed is argued in `mod.rs`.

use std::collections::HashMap;
use std::sync::Arc;

use super::Inner;
use super::commit::is_at;
use super::item::{self, Item};
use super::logs::{self, Log};
use super::names::{self, Name};
use super::own;
use super::position::{Mark, Position};
use super::record;
use super::table::{Range, Reading, Table};
use crate::storage::{LogPage, LogPosition, LogScope, StorageError};
use crate::txn::Commit;

/// A page ends behind the entries of the request that brought this many commits.
const COMMITS_MAX: usize = 1024;
/// Entries read in one request.
const ENTRIES_MAX: usize = 1000;

impl Inner {
    pub async fn commits_since(
        &self,
        position: &LogPosition,
        scope: LogScope,
    ) -> Result<LogPage, StorageError> {
        let mut position = Position::decode(position)?;
        // Before any entry: what is settled now was there before it is read.
        let open = logs::open(&self.table).await?;
        self.silence.notice(&open.logs);
        let mut logs = open.logs;
        let has_closed = position.closings != Some(open.closings);
        if has_closed {
            let closed = logs::closed(&self.table).await?;
            logs.retain(|log| closed.iter().all(|closed| closed.name != log.name));
            logs.extend(closed);
            position.marks.retain(|name, _| logs.iter().any(|log| log.name == *name));
        }
        let mut commits = Vec::new();
        let mut end = true;
        for log in &logs {
            if scope == LogScope::Others && self.own.is_own(&log.name) {
                continue;
            }
            if commits.len() >= COMMITS_MAX {
                end = false;
                break;
            }
            let mark = position.marks.entry(log.name.clone()).or_default();
            end &= read_on(&self.table, log, mark, &mut commits).await?;
        }
        if has_closed && end {
            position.closings = Some(open.closings);
        }
        Ok(LogPage { commits, next: position.encode()?, end })
    }
}

/// Reads a log from a mark on, and moves the mark. Answers whether it is at the end.
async fn read_on(
    table: &Table,
    log: &Log,
    mark: &mut Mark,
    commits: &mut Vec<Arc<Commit>>,
) -> Result<bool, StorageError> {
    let low = log.low.max(mark.low);
    if log.is_closed && mark.done >= log.low {
        return Ok(true);
    }
    let mut range = Range {
        from: Some(names::sequence_text(mark.done)),
        limit: Some(ENTRIES_MAX),
        ..Range::default()
    };
    loop {
        let page = table.query(&names::log(&log.name), &range).await?;
        let mut read_to = low;
        let mut news = Vec::new();
        for entry in page.items {
            let sequence = names::parse_sequence(item::text_of(&entry, item::SK)?)?;
            if log.is_closed && sequence >= log.low {
                break;
            }
            read_to = sequence + 1;
            mark.low = mark.low.max(item::number_of(&entry, item::LOW)?);
            if !mark.seen.has(sequence) {
                news.push((sequence, entry));
            }
        }
        let counting = which_count(table, log, low, news, mark).await?;
        commits.extend(record::read_commits(table, counting).await?);
        if page.next.is_none() {
            mark.done = mark.done.max(low);
            mark.seen.drop_before(mark.done);
            return Ok(true);
        }
        mark.done = mark.done.max(read_to.min(low));
        mark.seen.drop_before(mark.done);
        if commits.len() >= COMMITS_MAX {
            return Ok(false);
        }
        range.behind = page.next;
    }
}

/// Those of some entries that are commits. Which ones need not be looked at again is marked.
async fn which_count(
    table: &Table,
    log: &Log,
    low: u64,
    entries: Vec<(u64, Item)>,
    mark: &mut Mark,
) -> Result<Vec<Item>, StorageError> {
    let mut asked = HashMap::new();
    for (sequence, entry) in &entries {
        if *sequence >= low && !item::has(entry, item::VOID) {
            let id = record::version_in(entry)?.writer.base();
            asked.insert(*sequence, names::outcome(&id));
        }
    }
    let outcomes = outcomes(table, asked.values().cloned().collect()).await?;
    let mut counting = Vec::new();
    for (sequence, entry) in entries {
        let counts = match asked.get(&sequence) {
            // It is settled, so that it counts unless it was crossed out.
            None => !item::has(&entry, item::VOID),
            Some(name) => match outcomes.get(name) {
                Some(outcome) => is_at(outcome, &own::place(&log.name, sequence)),
                // It has no outcome yet. It is looked at again.
                None => continue,
            },
        };
        if sequence >= low {
            mark.seen.insert(sequence);
        }
        if counts {
            counting.push(entry);
        }
    }
    Ok(counting)
}

/// The outcomes that are there, by name.
pub(super) async fn outcomes(
    table: &Table,
    names: Vec<Name>,
) -> Result<HashMap<Name, Item>, StorageError> {
    let found = table.get_all(names, Reading::Consistent, false).await?;
    found.into_iter().map(|item| Ok((item::name_of(&item)?, item))).collect()
}
