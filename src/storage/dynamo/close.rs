//! Closing the logs of writers that fell silent, and settling what was left open: one's own entries, too.
//!
//! A log is closed in three steps, each of which may be repeated, by several at once, and by others than
//! those who began: it is marked, under the condition that the writer's count still stands where it stood
//! for three leases; each number up to the last entry is settled (a missing entry is crossed out before it
//! lands, an id without an outcome is settled as aborted, an entry whose id had another outcome is crossed
//! out); then it is listed as closed at that number, and not among the open ones any more.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use parking_lot::Mutex;

use super::commit::{is_at, void};
use super::follow;
use super::item::{self, Item};
use super::logs::{self, Log};
use super::names;
use super::own::{self, Unsettled};
use super::table::{Put, Range};
use super::{Inner, clock, record};
use crate::storage::StorageError;
use crate::txn::BaseId;

/// So many leases without a sign of life close a log.
const SILENT_LEASES: u32 = 3;

/// Since when the writers of logs gave no sign of life.
#[derive(Debug, Default)]
pub(super) struct Silence {
    heard: Mutex<HashMap<String, Heard>>,
}

#[derive(Debug)]
struct Heard {
    log: Log,
    since: Duration,
}

impl Silence {
    /// These are all logs that are open.
    pub fn notice(&self, logs: &[Log]) {
        let now = clock::elapsed();
        let mut heard = self.heard.lock();
        heard.retain(|name, _| logs.iter().any(|log| log.name == *name));
        for log in logs {
            match heard.get_mut(&log.name) {
                Some(known) if known.log.beat == log.beat => known.log = log.clone(),
                _ => {
                    let log = log.clone();
                    heard.insert(log.name.clone(), Heard { log, since: now });
                }
            }
        }
    }

    fn for_longer_than(&self, silence: Duration) -> Vec<Log> {
        let now = clock::elapsed();
        let heard = self.heard.lock();
        let silent = heard.values().filter(|known| now.saturating_sub(known.since) > silence);
        silent.map(|known| known.log.clone()).collect()
    }
}

impl Inner {
    pub async fn tend(&self) -> Result<(), StorageError> {
        self.own.beat_if_due(&self.table).await?;
        for open in self.own.unsettled() {
            self.settle_own(&open).await?;
        }
        let silent = self.silence.for_longer_than(self.own.lease * SILENT_LEASES);
        for log in silent.into_iter().filter(|log| !self.own.is_own(&log.name)) {
            self.close_log(log).await?;
        }
        Ok(())
    }

    /// Finds out what became of an entry of one's own.
    async fn settle_own(&self, open: &Unsettled) -> Result<(), StorageError> {
        let Some((id, age)) = &open.sent else {
            self.cross_out(open.entry.clone()).await?;
            self.own.settled(&open.entry);
            return Ok(());
        };
        let outcome = self.table.get(names::outcome(id)).await?;
        let outcome = match outcome {
            Some(outcome) => outcome,
            // The record may still be under way, and whoever asked for the commit may ask again.
            None if *age < self.own.lease * SILENT_LEASES => return Ok(()),
            None => self.abort(id).await?.unwrap_or_default(),
        };
        let log = open.entry.pk.trim_start_matches("l=");
        if !is_at(&outcome, &own::place(log, open.sequence)) {
            self.cross_out(open.entry.clone()).await?;
        }
        self.own.settled(&open.entry);
        Ok(())
    }

    async fn close_log(&self, log: Log) -> Result<(), StorageError> {
        let closing = Log { is_closing: true, ..log.clone() };
        if !log.is_closing {
            let condition = "beat = :beat AND attribute_not_exists(closing)";
            let values = vec![(":beat", item::number(log.beat))];
            let marked = self.table.put_if(closing.to_item(), condition, values).await?;
            if let Put::Kept(_) = marked {
                return Ok(());
            }
            tracing::warn!(
                node = log.node,
                "closing the commit log {}: its writer is silent",
                log.name
            );
        }
        let end = self.settle_entries(&log).await?;
        logs::close(&self.table, Log { low: end, ..closing }).await
    }

    /// Settles each number of a log up to its last entry, and answers the one behind that.
    async fn settle_entries(&self, log: &Log) -> Result<u64, StorageError> {
        let mut entries = self.entries_from(log).await?;
        let end = entries.last_key_value().map_or(log.low, |(last, _)| last + 1);
        for sequence in log.low..end {
            if entries.contains_key(&sequence) {
                continue;
            }
            let crossed = void(names::entry(&log.name, sequence));
            if let Put::Kept(Some(landed)) = self.table.put_new(crossed).await? {
                entries.insert(sequence, landed);
            }
        }
        entries.retain(|_, entry| !item::has(entry, item::VOID));
        let mut ids: BTreeMap<u64, BaseId> = BTreeMap::new();
        for (&sequence, entry) in &entries {
            ids.insert(sequence, record::version_in(entry)?.writer.base());
        }
        let asked = ids.values().map(names::outcome).collect();
        let mut outcomes = follow::outcomes(&self.table, asked).await?;
        for (sequence, id) in ids {
            let outcome = match outcomes.remove(&names::outcome(&id)) {
                Some(outcome) => outcome,
                None => self.abort(&id).await?.unwrap_or_default(),
            };
            if !is_at(&outcome, &own::place(&log.name, sequence)) {
                self.cross_out(names::entry(&log.name, sequence)).await?;
            }
        }
        Ok(end)
    }

    async fn entries_from(&self, log: &Log) -> Result<BTreeMap<u64, Item>, StorageError> {
        let mut entries = BTreeMap::new();
        let mut range = Range { from: Some(names::sequence_text(log.low)), ..Range::default() };
        loop {
            let page = self.table.query(&names::log(&log.name), &range).await?;
            for entry in page.items {
                let sequence = names::parse_sequence(item::text_of(&entry, item::SK)?)?;
                entries.insert(sequence, entry);
            }
            if page.next.is_none() {
                return Ok(entries);
            }
            range.behind = page.next;
        }
    }
}
