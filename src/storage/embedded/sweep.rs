//! Looks through the store for what was not collected when it became garbage.
//!
//! Three walks, one after the other: over the versions, the commit log, and the outcomes. Each call goes
//! a bounded number of entries further. Nothing is locked meanwhile: what was garbage once stays garbage,
//! so what is found is handed to the thread that writes.
//!
//! A version is never here without its commit, so there are no orphans to look for.

use std::ops::ControlFlow;

use super::engine::{Deletions, Engine};
use super::names;
use crate::storage::{StorageError, Sweep, Swept};
use crate::txn::{BaseId, Key, Version};

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
    let mut walk = Walk { engine, sweep, deletions: Deletions::default(), swept: Swept::default() };
    let next = match cursor {
        Cursor::Start => walk.versions(Vec::new())?,
        Cursor::Versions(behind) => walk.versions(behind)?,
        Cursor::Log(from) => walk.log(from)?,
        Cursor::Outcomes(behind) => walk.outcomes(behind)?,
    };
    let Walk { deletions, mut swept, .. } = walk;
    swept.versions = deletions.versions.len() as u64;
    swept.records = deletions.records.len() as u64;
    swept.outcomes = deletions.outcomes.len() as u64;
    swept.end = matches!(next, Cursor::Start);
    Ok(Found { deletions, swept, next })
}

struct Walk<'a> {
    engine: &'a Engine,
    sweep: &'a Sweep,
    deletions: Deletions,
    swept: Swept,
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
            if is_ours && !self.engine.has_values_of(&commit)? {
                self.deletions.records.push((number, commit));
            }
        }
        Ok(Cursor::Outcomes(String::new()))
    }

    /// Outcomes that nobody may ask for any more.
    fn outcomes(&mut self, behind: String) -> Result<Cursor, StorageError> {
        for entry in self.engine.remains(&behind) {
            let (id, remains) = entry?;
            if self.count().is_break() {
                return Ok(Cursor::Outcomes(id));
            }
            let decided = remains.and_then(|remains| remains.decided);
            if decided.is_some_and(|at| at < self.sweep.outcomes_before)
                && self.sweep.share.has(&id)
                && let Ok(id) = BaseId::parse(&id)
            {
                self.deletions.outcomes.push(id);
            }
        }
        Ok(Cursor::Start)
    }

    fn count(&mut self) -> ControlFlow<()> {
        self.swept.looked_at += 1;
        if self.swept.looked_at > self.sweep.entries_max.max(2) as u64 {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}
