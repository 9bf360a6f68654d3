//! Looks through the store for what was not collected when it became garbage.
//!
//! Three walks, one after the other: over the versions, the commit log, and the outcomes. Each call goes
//! a bounded number of entries further. Nothing is locked meanwhile: what was garbage once stays garbage,
//! so what is found is handed to the thread that writes.
//!
//! A version is never here without its commit, so there are no orphans to look for.

use std::ops::ControlFlow;

use super::decided::Decided;
use super::engine::{Deletions, Engine};
use super::names;
use super::writer::wall_ns;
use crate::storage::{StorageError, Sweep, Swept};
use crate::txn::{BaseId, Key, Version};

/// Ids made by other nodes may be from the near future.
const CLOCKS_DIFFER_NS: u64 = 3_600_000_000_000;

/// Where the next call begins.
#[derive(Debug, Clone, Default)]
pub(super) enum Cursor {
    /// Behind this name of a version.
    Versions(Vec<u8>),
    /// At this entry of the log.
    Log(u64),
    /// Behind this id.
    Outcomes(String),
    #[default]
    Start,
}

/// What a call found, and where the next one begins.
pub(super) struct Found {
    pub deletions: Deletions,
    pub swept: Swept,
    pub next: Cursor,
}

/// Goes on from `cursor`.
pub(super) fn go_on(engine: &Engine, cursor: Cursor, sweep: &Sweep) -> Result<Found, StorageError> {
    let mut walk = Walk {
        engine,
        sweep,
        behind_young: ids_from(wall_ns().saturating_add(CLOCKS_DIFFER_NS)),
        deletions: Deletions::default(),
        swept: Swept::default(),
    };
    let next = match cursor {
        Cursor::Start => walk.versions(Vec::new())?,
        Cursor::Versions(behind) => walk.versions(behind)?,
        Cursor::Log(from) => walk.log(from)?,
        Cursor::Outcomes(behind) => walk.outcomes(behind)?,
    };
    let Walk { deletions, mut swept, .. } = walk;
    swept.versions = deletions.versions.len() as u64;
    swept.records = deletions.entries.len() as u64;
    swept.outcomes = deletions.outcomes.len() as u64;
    swept.end = matches!(next, Cursor::Start);
    Ok(Found { deletions, swept, next })
}

/// Where a walk over outcomes stops.
enum Stop {
    End,
    /// It has looked at enough for now, and this id is the next.
    Enough(String),
    /// Here the ids begin that nodes have made of late. They are nearly all there are, so they are passed
    /// over. What clients have named like them has its turn when the clock has moved on.
    Young,
}

struct Walk<'a> {
    engine: &'a Engine,
    sweep: &'a Sweep,
    /// Behind all ids that nodes have made up to now.
    behind_young: String,
    deletions: Deletions,
    swept: Swept,
}

/// The first id that a node may make at this time.
fn ids_from(wall_ns: u64) -> String {
    let id = uuid::Builder::from_unix_timestamp_millis(wall_ns / 1_000_000, &[0; 10]);
    id.into_uuid().to_string()
}

impl Walk<'_> {
    /// Superseded versions. The versions of a key follow each other, oldest first, so one is known to be
    /// superseded when the next is seen.
    fn versions(&mut self, behind: Vec<u8>) -> Result<Cursor, StorageError> {
        let mut previous: Option<(Vec<u8>, Key, Version)> = None;
        for name in self.engine.version_names(&behind) {
            let name = name?;
            let (key, version) = names::parse_version(&name)?;
            if let Some((older, of_key, _)) = previous.take()
                && of_key == key
                && version.timestamp < self.sweep.superseded_before
                && self.sweep.share.has(key.as_str())
            {
                self.deletions.versions.push(older);
            }
            if self.count().is_break() {
                // This one is the first of the next call, too, as the next one may supersede it.
                return Ok(Cursor::Versions(name));
            }
            previous = Some((name, key, version));
        }
        Ok(Cursor::Log(0))
    }

    /// Records of commits all of whose versions have gone.
    fn log(&mut self, from: u64) -> Result<Cursor, StorageError> {
        for entry in self.engine.log_entries(from) {
            let (number, commit) = entry?;
            if self.count().is_break() {
                return Ok(Cursor::Log(number));
            }
            let is_ours = self.sweep.share.has(commit.version.writer.as_str());
            // Of a younger one the versions may be collected just now, and the record with them.
            let is_old = commit.version.timestamp < self.sweep.superseded_before;
            if is_ours && is_old && !self.engine.has_values_of(&commit)? {
                self.deletions.entries.push(number);
            }
        }
        Ok(Cursor::Outcomes(String::new()))
    }

    /// Outcomes that nobody may ask for any more.
    fn outcomes(&mut self, behind: String) -> Result<Cursor, StorageError> {
        let mut from = behind;
        loop {
            match self.outcomes_from(&from)? {
                Stop::End => return Ok(Cursor::Start),
                Stop::Enough(id) => return Ok(Cursor::Outcomes(id)),
                Stop::Young => from.clone_from(&self.behind_young),
            }
        }
    }

    fn outcomes_from(&mut self, from: &str) -> Result<Stop, StorageError> {
        for entry in self.engine.decided(from) {
            let (id, decided) = entry?;
            if self.count().is_break() {
                return Ok(Stop::Enough(id));
            }
            let Ok(base) = BaseId::parse(&id) else { continue };
            let is_young = base.created_ns().is_some_and(|at| at >= self.sweep.outcomes_before.0);
            if is_young && id < self.behind_young {
                return Ok(Stop::Young);
            }
            if decided.at().is_some_and(|at| at < self.sweep.outcomes_before)
                && self.sweep.share.has(&id)
                && !self.has_record(&decided)?
            {
                self.deletions.outcomes.push(base);
            }
        }
        Ok(Stop::End)
    }

    /// The commit has versions, perhaps, that are to be found.
    fn has_record(&self, decided: &Decided) -> Result<bool, StorageError> {
        decided.entry.map_or(Ok(false), |entry| self.engine.has_entry(entry))
    }

    fn count(&mut self) -> ControlFlow<()> {
        self.swept.looked_at += 1;
        if self.swept.looked_at > self.sweep.entries_max.max(2) as u64 {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}
