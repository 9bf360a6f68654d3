//! Looks through the bucket for what was not collected when it became garbage.
//!
//! In four stages, each in as many steps as it takes:
//!
//! 1. All logs are read. What stands there tells which commits are live, and of each key the newest version
//!    from before the bound.
//! 2. The logs' segments are gone through: versions that are superseded by that are collected, entries that
//!    count for nothing are taken out, and entries that never got an outcome are settled.
//! 3. Outcomes that are not live are read when they are old enough to go. A commit that stands in no log
//!    is entered again, if its writer has died in between; one that was half collected is finished.
//! 4. Values that stand apart go if nothing names them, after their id was settled.
//!
//! Nothing live is read in the last two stages: names tell enough, and a thousand of them cost one request.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::xxh3_64;

use super::Inner;
use super::bucket::{Listed, Put};
use super::names::{self, APART, LOGS, OUTCOMES};
use super::pack::{Found, Place};
use super::position::Position;
use super::segment::{self, Segment};
use crate::storage::{LogScope, Share, StorageError, Superseded, Sweep, Swept};
use crate::txn::{BaseId, Commit, Key, Outcome, Timestamp};

/// Objects worked on at once.
const PARALLEL_MAX: usize = 32;

/// Where the next call begins.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    share: Option<Share>,
    stage: Stage,
    survey: Survey,
    /// Names that were listed and not looked at.
    listed: VecDeque<Listed>,
    /// The last that was listed.
    behind: Option<String>,
    is_listed: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    #[default]
    Survey,
    Logs,
    Outcomes,
    Apart,
}

/// What the logs tell.
#[derive(Debug, Default)]
struct Survey {
    position: Position,
    /// Hashes of the ids of live commits.
    live: HashSet<u64>,
    /// Of each key, by its hash, the newest version from before the bound.
    newest: HashMap<[u8; 16], Timestamp>,
}

impl Survey {
    fn note(&mut self, commit: &Commit, bound: Timestamp) {
        self.live.insert(hash(&commit.version.writer.base()));
        let timestamp = commit.version.timestamp;
        if timestamp < bound {
            for written in &commit.keys {
                let known = self.newest.entry(digest(&written.key)).or_insert(timestamp);
                *known = (*known).max(timestamp);
            }
        }
    }

    fn is_live(&self, id: &BaseId) -> bool {
        self.live.contains(&hash(id))
    }

    fn superseded(&self, commit: &Commit) -> Vec<Key> {
        let is_old = |key: &Key| {
            self.newest.get(&digest(key)).is_some_and(|newest| *newest > commit.version.timestamp)
        };
        commit.keys.iter().map(|written| &written.key).filter(|key| is_old(key)).cloned().collect()
    }
}

fn hash(id: &BaseId) -> u64 {
    xxh3_64(id.as_str().as_bytes())
}

/// Two keys that were taken for one would cost one of them its newest version, so this is no mere hash.
fn digest(key: &Key) -> [u8; 16] {
    let whole: [u8; 32] = Sha256::digest(key.as_str().as_bytes()).into();
    let mut half = [0; 16];
    half.copy_from_slice(&whole[..16]);
    half
}

impl Inner {
    pub async fn sweep(&self, sweep: &Sweep) -> Result<Swept, StorageError> {
        let cursor = &mut *self.cursor.lock().await;
        if cursor.share != Some(sweep.share) {
            *cursor = Cursor { share: Some(sweep.share), ..Cursor::default() };
        }
        let mut swept = Swept::default();
        if cursor.stage == Stage::Survey {
            self.survey(sweep, cursor, &mut swept).await?;
            return Ok(swept);
        }
        let listed = self.next_names(cursor, sweep.entries_max.max(1)).await?;
        swept.looked_at = listed.len() as u64;
        match cursor.stage {
            Stage::Survey => {}
            Stage::Logs => self.sweep_logs(sweep, &cursor.survey, &listed, &mut swept).await?,
            Stage::Outcomes => {
                self.sweep_outcomes(sweep, &cursor.survey, &listed, &mut swept).await?;
            }
            Stage::Apart => {
                self.sweep_apart(sweep, &cursor.survey, listed.clone(), &mut swept).await?
            }
        }
        cursor.listed.drain(..listed.len());
        if cursor.listed.is_empty() && cursor.is_listed {
            (cursor.is_listed, cursor.behind) = (false, None);
            cursor.stage = match cursor.stage {
                Stage::Survey => Stage::Logs,
                Stage::Logs => Stage::Outcomes,
                Stage::Outcomes => Stage::Apart,
                Stage::Apart => {
                    swept.end = true;
                    cursor.survey = Survey::default();
                    Stage::Survey
                }
            };
        }
        Ok(swept)
    }

    async fn survey(
        &self,
        sweep: &Sweep,
        cursor: &mut Cursor,
        swept: &mut Swept,
    ) -> Result<(), StorageError> {
        let survey = &mut cursor.survey;
        let read = self.read_logs(survey.position.clone(), LogScope::All).await?;
        for (_, commit) in &read.commits {
            survey.note(commit, sweep.superseded_before);
        }
        swept.looked_at = read.commits.len() as u64;
        survey.position = read.next;
        if read.end {
            self.merge_old(sweep.share, sweep.orphans_before.0).await?;
            cursor.stage = Stage::Logs;
        }
        Ok(())
    }

    /// The next names of a stage. They stay until they were worked on.
    async fn next_names(
        &self,
        cursor: &mut Cursor,
        most: usize,
    ) -> Result<Vec<Listed>, StorageError> {
        let start = match cursor.stage {
            Stage::Survey | Stage::Logs => LOGS,
            Stage::Outcomes => OUTCOMES,
            Stage::Apart => APART,
        };
        if cursor.listed.is_empty() && !cursor.is_listed {
            let page = self.bucket.list(start, cursor.behind.as_deref()).await?;
            cursor.behind = page.names.last().map(|last| last.name.clone());
            cursor.listed = page.names.into();
            cursor.is_listed = page.end;
        }
        Ok(cursor.listed.iter().take(most).cloned().collect())
    }

    async fn sweep_logs(
        &self,
        sweep: &Sweep,
        survey: &Survey,
        listed: &[Listed],
        swept: &mut Swept,
    ) -> Result<(), StorageError> {
        let read = listed.iter().map(async |listed| {
            let segment = segment::read(&self.bucket, &listed.name).await?;
            Ok::<_, StorageError>((listed, segment))
        });
        let read: Vec<_> =
            stream::iter(read.collect::<Vec<_>>()).buffered(PARALLEL_MAX).try_collect().await?;
        let (mut superseded, mut entries) = (Vec::new(), Vec::new());
        for (listed, segment) in read {
            let Some((log, ..)) = names::parse_segment(&listed.name) else { continue };
            let Some(segment) = segment else { continue };
            let low = survey.position.marks.get(log).map_or(0, |mark| mark.low);
            self.settle_segment(sweep, &listed.name, low, &segment).await?;
            for entry in segment.entries {
                let commit = entry.commit;
                if !sweep.share.has(commit.version.writer.base().as_str()) {
                    continue;
                }
                let place = Place { log: log.to_owned(), number: entry.number };
                let writer = commit.version.writer.clone();
                if commit.keys.is_empty() {
                    if commit.version.timestamp < sweep.outcomes_before {
                        entries.push((place, writer));
                    }
                    continue;
                }
                let keys = survey.superseded(&commit);
                let is_last = keys.len() == commit.keys.len();
                if is_last {
                    entries.push((place, writer));
                }
                if !keys.is_empty() {
                    superseded.push(Superseded { commit, keys, is_last });
                }
            }
        }
        let collected = self.collect_all(superseded).await?;
        // Those of commits that were collected before, too.
        self.remove_entries(entries.into_iter()).await?;
        swept.versions += collected.versions;
        swept.records += collected.records;
        Ok(())
    }

    /// Finds out what became of entries that nobody has settled, as their writer is dead, and says so.
    async fn settle_segment(
        &self,
        sweep: &Sweep,
        name: &str,
        low: u64,
        segment: &Segment,
    ) -> Result<(), StorageError> {
        let Some((log, ..)) = names::parse_segment(name) else { return Ok(()) };
        let is_old = |commit: &Commit| commit.version.timestamp < sweep.orphans_before;
        let is_open = segment.entries.iter().any(|entry| entry.number >= low);
        let may_settle = is_open
            && !segment.is_settled
            && log != self.log.name
            && sweep.share.has(log)
            && segment.entries.iter().all(|entry| is_old(&entry.commit));
        if !may_settle {
            return Ok(());
        }
        let mut void = BTreeSet::new();
        for entry in &segment.entries {
            let place = Place { log: log.to_owned(), number: entry.number };
            let writer = &entry.commit.version.writer;
            let mut counts = self.counts(place.clone(), &entry.commit).await?;
            if counts.is_none() {
                self.settle_aborted(&writer.base()).await?;
                counts = self.counts(place, &entry.commit).await?;
            }
            if counts != Some(true) {
                void.insert((entry.number, writer.clone()));
            }
        }
        let is_void = |entry: &segment::Entry| {
            void.contains(&(entry.number, entry.commit.version.writer.clone()))
        };
        segment::remove_from(&self.bucket, name, &is_void).await?;
        segment::mark_settled(&self.bucket, name).await
    }

    async fn sweep_outcomes(
        &self,
        sweep: &Sweep,
        survey: &Survey,
        listed: &[Listed],
        swept: &mut Swept,
    ) -> Result<(), StorageError> {
        // An id that tells its age is read when it may be old enough to go.
        let may_go =
            |id: &BaseId| id.created_ns().is_none_or(|made| made < sweep.outcomes_before.0);
        let ids = listed.iter().filter_map(|listed| names::outcome_id(&listed.name));
        let ids =
            ids.filter(|id| sweep.share.has(id.as_str()) && !survey.is_live(id) && may_go(id));
        let read = ids.map(async |id| Ok::<_, StorageError>((self.find(&id).await?, id)));
        let read: Vec<_> = stream::iter(read.collect::<Vec<_>>())
            .buffer_unordered(PARALLEL_MAX)
            .try_collect()
            .await?;
        let mut gone = Vec::new();
        for (found, id) in read {
            let Some((found, tag)) = found else { continue };
            if found.is_only_remains() {
                if found.recorded_ns().is_some_and(|at| at < sweep.outcomes_before.0) {
                    gone.push(names::outcome(&id));
                }
            } else if let Outcome::Committed(commit) = &found.outcome
                && commit.version.timestamp < sweep.superseded_before
            {
                swept.records += u64::from(self.finish(&id, &found, tag).await?);
            }
        }
        swept.outcomes += gone.len() as u64;
        self.bucket.delete_all(&gone).await
    }

    /// A commit that is old and was in no log when all logs were read. Answers whether it is forgotten.
    async fn finish(
        &self,
        id: &BaseId,
        found: &Found,
        tag: object_store::UpdateVersion,
    ) -> Result<bool, StorageError> {
        let Some(place) = found.place() else { return Ok(false) };
        let mut is_there = false;
        for name in segment::covering(&self.bucket, &place).await? {
            let Some(segment) = segment::read(&self.bucket, &name).await? else { continue };
            is_there = true;
            let version = found.commit().map(|commit| &commit.version);
            if segment.entries.iter().any(|entry| Some(&entry.commit.version) == version) {
                return Ok(false);
            }
        }
        if !is_there {
            // Its writer died before the entry landed, or somebody in the middle of collecting it.
            self.enter_again(found, tag).await?;
            return Ok(false);
        }
        let Some(remains) = found.remains() else { return Ok(false) };
        let put = self.bucket.put_if(&names::outcome(id), remains, tag).await?;
        Ok(put == Put::Done)
    }

    async fn sweep_apart(
        &self,
        sweep: &Sweep,
        survey: &Survey,
        listed: Vec<Listed>,
        swept: &mut Swept,
    ) -> Result<(), StorageError> {
        let old = listed.into_iter().filter_map(|listed| {
            let version = names::apart_version(&listed.name)?;
            let id = version.writer.base();
            let is_old = version.timestamp < sweep.orphans_before;
            (is_old && sweep.share.has(id.as_str()) && !survey.is_live(&id))
                .then_some((listed.name, id))
        });
        let orphans = old.map(async |(name, id)| {
            // A commit that was under way until now does not come any more.
            self.settle_aborted(&id).await?;
            let found = self.find(&id).await?;
            let is_named = found.is_some_and(|(found, _)| {
                let all: BTreeSet<_> = found.positions().collect();
                found.apart(&all).contains(&name)
            });
            Ok::<_, StorageError>((!is_named).then_some(name))
        });
        let orphans: Vec<_> = stream::iter(orphans.collect::<Vec<_>>())
            .buffer_unordered(PARALLEL_MAX)
            .try_collect()
            .await?;
        let orphans: Vec<_> = orphans.into_iter().flatten().collect();
        swept.orphans += orphans.len() as u64;
        self.bucket.delete_all(&orphans).await
    }
}
