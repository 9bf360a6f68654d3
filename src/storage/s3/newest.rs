//! The newest committed version of each key.
//!
//! Each commit stands in the log as long as it has a version that nothing supersedes. So the newest version
//! of a key is the newest in the logs; and who has read them, and reads what was added since, knows it. What
//! is known of keys is kept here until `set_heads` writes it down as an object: that
//! is when the node forgets the key, too, so that no more is kept here than there. The newest of both is the
//! head.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use parking_lot::Mutex;

use super::Inner;
use super::bucket::{Object, Put};
use super::names;
use super::position::Position;
use crate::storage::{LogScope, StorageError, codec};
use crate::txn::{Commit, Key};

/// Heads read or written at once.
const PARALLEL_MAX: usize = 64;
/// How often a head that others write at the same time is tried.
const TRIES: u32 = 20;

/// What was read of the logs, and not written down as heads.
#[derive(Debug, Default)]
pub(super) struct Newest {
    state: Mutex<State>,
    /// Held by whoever reads the logs for this.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    commits: HashMap<Key, Arc<Commit>>,
    /// What others wrote before this was noted. What this process wrote always is.
    position: Position,
}

impl Newest {
    pub fn note_commit(&self, commit: &Arc<Commit>) {
        self.state.lock().note(commit);
    }

    /// Commits that stand between two positions.
    pub fn note_page(&self, from: &Position, to: &Position, commits: &[Arc<Commit>]) {
        let state = &mut *self.state.lock();
        commits.iter().for_each(|commit| state.note(commit));
        for (log, mark) in &to.marks {
            let known = state.position.marks.entry(log.clone()).or_default();
            if *known == from.marks.get(log).cloned().unwrap_or_default() {
                *known = mark.clone();
            }
        }
        state.position.marks.retain(|log, _| to.marks.contains_key(log));
    }

    fn position(&self) -> Position {
        self.state.lock().position.clone()
    }

    fn get(&self, key: &Key) -> Option<Arc<Commit>> {
        self.state.lock().commits.get(key).cloned()
    }

    /// A head is written down that is at least as new as `commit`.
    fn forget(&self, key: &Key, commit: &Commit) {
        let state = &mut *self.state.lock();
        if state.commits.get(key).is_some_and(|known| known.version <= commit.version) {
            state.commits.remove(key);
        }
    }
}

impl State {
    fn note(&mut self, commit: &Arc<Commit>) {
        for written in &commit.keys {
            let known = self.commits.entry(written.key.clone()).or_insert_with(|| commit.clone());
            if known.version < commit.version {
                *known = commit.clone();
            }
        }
    }
}

impl Inner {
    pub async fn heads(&self, keys: &[Key]) -> Result<Vec<Option<Arc<Commit>>>, StorageError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        self.catch_up().await?;
        stream::iter(keys.iter().cloned().map(|key| self.head(key)))
            .buffered(PARALLEL_MAX)
            .try_collect()
            .await
    }

    /// Reads what was added to the logs.
    async fn catch_up(&self) -> Result<(), StorageError> {
        let _turn = self.newest.turn.lock().await;
        loop {
            let from = self.newest.position();
            let read = self.read_logs(from.clone(), LogScope::Others).await?;
            let commits: Vec<_> = read.commits.into_iter().map(|(_, commit)| commit).collect();
            self.newest.note_page(&from, &read.next, &commits);
            if read.end {
                return Ok(());
            }
        }
    }

    async fn head(&self, key: Key) -> Result<Option<Arc<Commit>>, StorageError> {
        // In this order: what is written down in between is forgotten after that.
        let in_log = self.newest.get(&key);
        let written = self.written_head(&key).await?.map(|(commit, _)| commit);
        Ok(in_log.into_iter().chain(written).max_by(|a, b| a.version.cmp(&b.version)))
    }

    async fn written_head(&self, key: &Key) -> Result<Option<(Arc<Commit>, Object)>, StorageError> {
        let name = names::head(key);
        let Some(object) = self.bucket.get(&name).await? else { return Ok(None) };
        let commit = codec::decode_commit(object.bytes.clone())?;
        if commit.written(key).is_none() {
            return Err(StorageError::Damaged(format!("{name} is not the head of its key")));
        }
        Ok(Some((commit, object)))
    }

    pub async fn set_heads(&self, newest: &[(Key, Arc<Commit>)]) -> Result<(), StorageError> {
        stream::iter(newest.iter().cloned().map(|(key, commit)| self.set_head(key, commit)))
            .buffer_unordered(PARALLEL_MAX)
            .try_collect()
            .await
    }

    async fn set_head(&self, key: Key, commit: Arc<Commit>) -> Result<(), StorageError> {
        let name = names::head(&key);
        for _ in 0..TRIES {
            // Heads that were not written down before are the most.
            let stored = || codec::encode_commit(&commit).into();
            let put = match self.written_head(&key).await? {
                Some((known, _)) if known.version >= commit.version => Put::Done,
                Some((_, object)) => self.bucket.put_if(&name, stored(), object.tag).await?,
                None => self.bucket.put_new(&name, stored()).await?,
            };
            if put == Put::Done {
                self.newest.forget(&key, &commit);
                return Ok(());
            }
        }
        Err(StorageError::Unconfirmed(format!("others write {name} again and again")))
    }
}
