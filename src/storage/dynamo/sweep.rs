//! Looks through the table for what was not collected when it became garbage.
//!
//! One scan goes over everything, in one of as many segments as there are shares, so that each sweeper
//! reads and pays for its share only. A partition is in one segment, and its items follow each other.
//! What is found is checked against outcomes as they are now before it is deleted:
//!
//! - A version goes if a newer one of its key was committed before the bound. One that was never committed
//!   goes once it is old enough, after its id was settled.
//! - A part of a value goes if its version is not there and it is old enough.
//! - A record goes when none of its versions is there; an outcome that names no version when it is old.
//! - A log entry goes if its commit was collected, or if it is crossed out and so old that nothing sent
//!   before can land any more (see `mod.rs`). A closed log goes when it is empty.

use std::collections::HashMap;
use std::sync::Arc;

use super::Inner;
use super::collect::entry_of;
use super::commit::is_at;
use super::follow;
use super::item::{self, Item};
use super::logs::Log;
use super::names::{self, Kind, Name};
use super::record;
use super::table::{Range, Reading};
use crate::storage::{Share, StorageError, Sweep, Swept, codec, remains};
use crate::txn::{BaseId, Commit, Outcome, Version};

/// Where the next call begins.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    share: Option<Share>,
    behind: Option<Name>,
    /// The last committed version that was seen: the next one may supersede it.
    newest: Option<Name>,
}

/// What stands under an id, as a sweep needs it.
struct Decided {
    item: Item,
    outcome: Outcome,
}

impl Decided {
    fn commits(&self, version: &Version) -> bool {
        matches!(&self.outcome, Outcome::Committed(commit) if commit.version == *version)
    }
}

impl Inner {
    pub async fn sweep(&self, sweep: &Sweep) -> Result<Swept, StorageError> {
        let mut cursor = self.cursor.lock().await;
        if cursor.share != Some(sweep.share) {
            *cursor = Cursor { share: Some(sweep.share), ..Cursor::default() };
        }
        let segment = (sweep.share.part, sweep.share.of);
        let limit = sweep.entries_max.max(1);
        let page = self.table.scan(segment, Some(limit), cursor.behind.clone()).await?;
        let mut swept = Swept { looked_at: page.items.len() as u64, ..Swept::default() };
        let mut newest = cursor.newest.clone();
        let mut found: HashMap<_, Vec<Item>> = HashMap::new();
        for item in page.items {
            found.entry(kind(&item) as u8).or_default().push(item);
        }
        let mut of = |kind: Kind| found.remove(&(kind as u8)).unwrap_or_default();
        let versions = of(Kind::Version);
        self.sweep_versions(sweep, versions, &mut newest, &mut swept).await?;
        self.sweep_parts(sweep, of(Kind::Chunk), &mut swept).await?;
        self.sweep_outcomes(sweep, of(Kind::Outcome), &mut swept).await?;
        self.sweep_entries(sweep, of(Kind::Entry)).await?;
        self.sweep_logs(of(Kind::Closed)).await?;
        swept.end = page.next.is_none();
        cursor.newest = newest.filter(|_| !swept.end);
        cursor.behind = page.next;
        Ok(swept)
    }

    async fn sweep_versions(
        &self,
        sweep: &Sweep,
        items: Vec<Item>,
        newest: &mut Option<Name>,
        swept: &mut Swept,
    ) -> Result<(), StorageError> {
        let bound = sweep.superseded_before.max(sweep.orphans_before);
        let mut old = Vec::new();
        for item in &items {
            let name = item::name_of(item)?;
            let version = names::parse_stamp(&name.sk)?;
            if version.timestamp < bound {
                old.push((name, version));
            }
        }
        let ids = old.iter().map(|(_, version)| version.writer.base());
        let decided = self.decided(ids.collect()).await?;
        for (name, version) in old {
            let id = version.writer.base();
            if decided.get(&id).is_some_and(|decided| decided.commits(&version)) {
                if version.timestamp >= sweep.superseded_before {
                    continue;
                }
                let previous = newest.replace(name.clone());
                if let Some(previous) = previous.filter(|previous| previous.pk == name.pk) {
                    self.delete_version(previous).await?;
                    swept.versions += 1;
                }
            } else if version.timestamp < sweep.orphans_before {
                let outcome = self.settle_aborted(&id).await?;
                if !matches!(outcome, Outcome::Committed(commit) if commit.version == version) {
                    self.delete_version(name).await?;
                    swept.orphans += 1;
                }
            }
        }
        Ok(())
    }

    async fn sweep_parts(
        &self,
        sweep: &Sweep,
        parts: Vec<Item>,
        swept: &mut Swept,
    ) -> Result<(), StorageError> {
        let mut old = Vec::new();
        for item in &parts {
            let name = item::name_of(item)?;
            let version = names::parse_stamp(&name.sk)?;
            if version.timestamp < sweep.orphans_before {
                let whole = Name { pk: name.pk.replacen('c', "v", 1), sk: names::stamp(&version) };
                old.push((name, whole, version.writer.base()));
            }
        }
        let wholes = old.iter().map(|(_, whole, _)| whole.clone()).collect();
        let there = self.names_there(wholes).await?;
        let mut gone = Vec::new();
        for (name, whole, id) in old {
            if !there.contains(&whole) {
                // A commit that was under way until now does not come any more.
                self.settle_aborted(&id).await?;
                gone.push(name);
            }
        }
        swept.orphans += gone.iter().filter(|name| name.sk.ends_with("/000000")).count() as u64;
        self.table.delete_all(gone).await
    }

    async fn sweep_outcomes(
        &self,
        sweep: &Sweep,
        items: Vec<Item>,
        swept: &mut Swept,
    ) -> Result<(), StorageError> {
        let mut records = Vec::new();
        let mut gone = Vec::new();
        for decided in self.read_decided(items).await? {
            let Decided { item, outcome } = decided;
            if is_forgotten(&item, &outcome, sweep)? {
                swept.outcomes += 1;
                gone.extend(entry_of(&item));
                gone.push(item::name_of(&item)?);
            } else if let Outcome::Committed(commit) = outcome
                && !commit.keys.is_empty()
                && commit.version.timestamp < sweep.superseded_before
            {
                records.push(commit);
            }
        }
        self.table.delete_all(gone).await?;
        for commit in self.without_versions(records).await? {
            self.forget_record(&commit).await?;
            swept.records += 1;
        }
        Ok(())
    }

    /// Those of some commits none of whose versions is there. Most have their first one.
    async fn without_versions(
        &self,
        commits: Vec<Arc<Commit>>,
    ) -> Result<Vec<Arc<Commit>>, StorageError> {
        let (mut left, mut without) = (commits, Vec::new());
        for number in 0.. {
            let name = |commit: &Arc<Commit>| {
                commit.keys.get(number).map(|written| names::version(&written.key, &commit.version))
            };
            let there = self.names_there(left.iter().filter_map(name).collect()).await?;
            left.retain(|commit| match name(commit) {
                Some(name) => !there.contains(&name),
                None => {
                    without.push(commit.clone());
                    false
                }
            });
            if left.is_empty() {
                break;
            }
        }
        Ok(without)
    }

    async fn sweep_entries(&self, sweep: &Sweep, entries: Vec<Item>) -> Result<(), StorageError> {
        let mut gone = Vec::new();
        let mut old = Vec::new();
        for entry in entries {
            let name = item::name_of(&entry)?;
            if item::has(&entry, item::VOID) {
                if item::number_of(&entry, item::VOID)? < sweep.outcomes_before.0 {
                    gone.push(name);
                }
                continue;
            }
            let version = record::version_in(&entry)?;
            if version.timestamp < sweep.superseded_before.max(sweep.outcomes_before) {
                old.push((name, version));
            }
        }
        let asked = old.iter().map(|(_, version)| names::outcome(&version.writer.base()));
        let outcomes = follow::outcomes(&self.table, asked.collect()).await?;
        for (name, version) in old {
            let place = format!("{}/{}", name.pk.trim_start_matches("l="), name.sk);
            let is_garbage = match outcomes.get(&names::outcome(&version.writer.base())) {
                Some(outcome) => !is_at(outcome, &place),
                None => version.timestamp < sweep.outcomes_before,
            };
            if is_garbage {
                gone.push(name);
            }
        }
        self.table.delete_all(gone).await
    }

    async fn sweep_logs(&self, logs: Vec<Item>) -> Result<(), StorageError> {
        for item in logs {
            let log = Log::parse(&item)?;
            let first = Range { limit: Some(1), ..Range::default() };
            let first = self.table.query(&names::log(&log.name), &first).await?;
            if first.items.is_empty() {
                self.table.delete_all(vec![log.item_name()]).await?;
            }
        }
        Ok(())
    }

    async fn decided(&self, ids: Vec<BaseId>) -> Result<HashMap<BaseId, Decided>, StorageError> {
        let names = ids.iter().map(names::outcome).collect();
        let items = follow::outcomes(&self.table, names).await?.into_values().collect();
        let decided = self.read_decided(items).await?;
        decided.into_iter().map(|decided| Ok((id_of(&decided.item)?, decided))).collect()
    }

    /// The outcomes among the items of their partitions.
    async fn read_decided(&self, items: Vec<Item>) -> Result<Vec<Decided>, StorageError> {
        let is_outcome =
            |item: &Item| item::text_of(item, item::SK).is_ok_and(|sk| sk == names::OUTCOME);
        let items: Vec<_> = items.into_iter().filter(is_outcome).collect();
        let records = record::read_records(&self.table, items.clone()).await?;
        let both = items.into_iter().zip(records).map(|(item, record)| {
            let outcome = codec::decode_outcome(&id_of(&item)?, record)?;
            Ok(Decided { item, outcome })
        });
        both.collect()
    }

    async fn names_there(
        &self,
        names: Vec<Name>,
    ) -> Result<std::collections::HashSet<Name>, StorageError> {
        let found = self.table.get_all(names, Reading::Consistent, true).await?;
        found.iter().map(item::name_of).collect()
    }
}

fn kind(item: &Item) -> Kind {
    item::text_of(item, item::PK).map_or(Kind::Other, Kind::of)
}

pub(super) fn id_of(outcome: &Item) -> Result<BaseId, StorageError> {
    let pk = item::text_of(outcome, item::PK)?;
    BaseId::parse(pk.trim_start_matches("o="))
        .map_err(|error| StorageError::Damaged(format!("an outcome of {pk:?}: {error}")))
}

fn is_forgotten(item: &Item, outcome: &Outcome, sweep: &Sweep) -> Result<bool, StorageError> {
    let settled_at = match outcome {
        Outcome::Aborted => item::take_bytes(&mut item.clone()),
        Outcome::Committed(_) => None,
    };
    Ok(match settled_at.and_then(|record| codec::recorded_at(&record)) {
        Some(at) => at < sweep.outcomes_before,
        None => remains::is_old(&id_of(item)?, outcome, sweep.outcomes_before),
    })
}
