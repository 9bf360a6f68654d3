//! Commits and other outcomes. The order of the steps, and why it is the right one, is in `mod.rs`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use object_store::UpdateVersion;
use tokio::time::sleep;

use super::Inner;
use super::bucket::Put;
use super::names;
use super::pack::{self, Found};
use super::segment;
use crate::storage::{CommitBatch, StorageError, codec};
use crate::txn::{BaseId, Commit, Outcome};

/// Large values written at once for one commit.
const PARALLEL_MAX: usize = 8;
/// How often an object that others write at the same time is tried.
const TRIES: u32 = 8;
/// How long a log entry is waited for that its writer sent together with the outcome.
const ENTRY_PAUSES: [Duration; 3] =
    [Duration::from_millis(30), Duration::from_millis(100), Duration::from_millis(300)];

impl Inner {
    pub async fn commit(self: Arc<Self>, batch: CommitBatch) -> Result<Outcome, StorageError> {
        codec::check(&batch)?;
        let mut pack = pack::pack(&batch);
        let commit = batch.commit;
        let (id, writer) = (commit.version.writer.base(), &commit.version.writer);
        self.put_apart(&pack.apart).await?;
        let number = self.log.enter(&commit);
        let place = self.log.place(number);
        let outcome = pack.at(&place);
        let (decided, logged) =
            tokio::join!(self.decide(&id, outcome), self.log.flush(&self.bucket, number));
        match decided {
            Ok(None) => self.is_logged(&commit, logged),
            Ok(Some((found, _))) if found.is_that(&commit, &place) => {
                self.is_logged(&commit, logged)
            }
            Ok(Some((found, tag))) => {
                self.log.lose(writer);
                self.drop_lost().await;
                if found.commit().is_none_or(|winner| winner.version != commit.version) {
                    let names = pack.apart.iter().map(|(name, _)| name.clone());
                    self.delete_later(names.collect());
                }
                self.tell(&id, found, tag).await
            }
            Err(error) if error.is_refusal() => {
                self.log.give_up(writer);
                self.drop_lost().await;
                Err(error)
            }
            Err(error) => {
                self.log.doubt(writer);
                Err(error)
            }
        }
    }

    /// A commit has taken effect. It is told of when it is in the log, too.
    fn is_logged(
        &self,
        commit: &Arc<Commit>,
        logged: Result<(), StorageError>,
    ) -> Result<Outcome, StorageError> {
        if let Err(error) = logged {
            self.log.doubt(&commit.version.writer);
            return Err(StorageError::Unconfirmed(format!("the commit log: {error}")));
        }
        self.newest.note_commit(commit);
        self.log.settle(&commit.version.writer);
        Ok(Outcome::Committed(commit.clone()))
    }

    async fn put_apart(&self, values: &[(String, Bytes)]) -> Result<(), StorageError> {
        let puts: Vec<_> =
            values.iter().map(|(name, value)| self.bucket.put(name, value.clone())).collect();
        stream::iter(puts).buffer_unordered(PARALLEL_MAX).try_collect().await
    }

    /// Creates an outcome, unless there is one: then that is answered.
    async fn decide(
        &self,
        id: &BaseId,
        outcome: Bytes,
    ) -> Result<Option<(Found, UpdateVersion)>, StorageError> {
        let name = names::outcome(id);
        for _ in 0..TRIES {
            if self.bucket.put_new(&name, outcome.clone()).await? == Put::Done {
                return Ok(None);
            }
            // There may be none after all: two that create it at once are both told to try again.
            let found = self.find(id).await.map_err(unconfirmed)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Err(StorageError::Unconfirmed(format!("others decide {id} again and again")))
    }

    /// What is stored under an id.
    pub async fn find(&self, id: &BaseId) -> Result<Option<(Found, UpdateVersion)>, StorageError> {
        let object = self.bucket.get(&names::outcome(id)).await?;
        object.map(|object| Ok((Found::decode(id, object.bytes)?, object.tag))).transpose()
    }

    pub async fn outcome(&self, id: &BaseId) -> Result<Option<Outcome>, StorageError> {
        match self.find(id).await? {
            Some((found, tag)) => self.tell(id, found, tag).await.map(Some),
            None => Ok(None),
        }
    }

    pub async fn settle_aborted(&self, id: &BaseId) -> Result<Outcome, StorageError> {
        match self.decide(id, pack::aborted(id)).await? {
            None => Ok(Outcome::Aborted),
            Some((found, tag)) => self.tell(id, found, tag).await,
        }
    }

    /// Answers an outcome that was found. If it is a commit, whoever is told of it must find it in the log
    /// ever after, also if its writer died before the entry landed: then it gets another place there.
    async fn tell(
        &self,
        id: &BaseId,
        mut found: Found,
        mut tag: UpdateVersion,
    ) -> Result<Outcome, StorageError> {
        for _ in 0..TRIES {
            if found.is_only_remains() || self.stands_in_log(&found).await? {
                return Ok(found.outcome);
            }
            if self.enter_again(&found, tag).await? {
                return Ok(found.outcome);
            }
            let again = self.find(id).await?;
            (found, tag) = again.ok_or_else(|| vanished(id))?;
        }
        Err(StorageError::Unconfirmed(format!("others change the outcome of {id} again and again")))
    }

    async fn stands_in_log(&self, found: &Found) -> Result<bool, StorageError> {
        let Some(place) = found.place() else { return Ok(false) };
        if place.log == self.log.name {
            self.log.flush(&self.bucket, place.number).await?;
            if let Some(commit) = found.commit() {
                self.newest.note_commit(commit);
                self.log.settle(&commit.version.writer);
            }
            return Ok(true);
        }
        let alone = names::segment(&place.log, place.number, place.number);
        for pause in ENTRY_PAUSES {
            if self.bucket.get(&alone).await?.is_some()
                || !segment::covering(&self.bucket, &place).await?.is_empty()
            {
                return Ok(true);
            }
            sleep(pause).await;
        }
        Ok(false)
    }

    /// Gives a commit a place in this process's log. Answers whether that is where it stands now.
    pub async fn enter_again(
        &self,
        found: &Found,
        tag: UpdateVersion,
    ) -> Result<bool, StorageError> {
        let Some(commit) = found.commit() else { return Ok(true) };
        let (id, writer) = (commit.version.writer.base(), &commit.version.writer);
        tracing::info!("the commit {writer} is in no log; it is entered again");
        let number = self.log.enter(commit);
        self.log.flush(&self.bucket, number).await?;
        let moved = found.moved_to(&self.log.place(number));
        let done = self.bucket.put_if(&names::outcome(&id), moved, tag).await;
        match done {
            Ok(Put::Done) => {
                self.newest.note_commit(commit);
                self.log.settle(writer);
                Ok(true)
            }
            // If an earlier try was ours the next look finds it so.
            Ok(Put::Kept) => {
                let is_ours = self
                    .find(&id)
                    .await?
                    .is_some_and(|(found, _)| found.is_that(commit, &self.log.place(number)));
                if is_ours {
                    self.log.settle(writer);
                } else {
                    self.log.lose(writer);
                    self.drop_lost().await;
                }
                Ok(is_ours)
            }
            Err(error) => {
                self.log.doubt(writer);
                Err(error)
            }
        }
    }

    /// Finds out what became of commits that were left without an answer. The node asks for them again, but
    /// it may be that it need not know any more.
    pub async fn end_doubts(&self) -> Result<(), StorageError> {
        for (writer, number) in self.log.doubtful() {
            let Some((found, _)) = self.find(&writer.base()).await? else { continue };
            let is_it = found.place() == Some(self.log.place(number))
                && found.commit().is_some_and(|commit| commit.version.writer == writer);
            if !is_it {
                self.log.lose(&writer);
            } else {
                // It is told of as if somebody had asked.
                self.stands_in_log(&found).await?;
            }
        }
        Ok(())
    }

    /// Takes entries out of the log that count for nothing. What fails is tried again by housekeeping.
    async fn drop_lost(&self) {
        if let Err(error) = self.log.drop_lost(&self.bucket).await {
            tracing::debug!("an entry stays in the commit log for now: {error}");
        }
    }

    /// Deletes objects beside everything else. What fails is found by a sweep.
    fn delete_later(self: &Arc<Self>, names: Vec<String>) {
        if names.is_empty() {
            return;
        }
        let inner = self.clone();
        tokio::spawn(async move {
            if let Err(error) = inner.bucket.delete_all(&names).await {
                tracing::debug!("values without a commit stay for now: {error}");
            }
        });
    }
}

fn vanished(id: &BaseId) -> StorageError {
    StorageError::Unconfirmed(format!("the outcome of {id} was deleted while it was read"))
}

/// A failure after something may have been written.
fn unconfirmed(error: StorageError) -> StorageError {
    if error.is_refusal() { StorageError::Unconfirmed(error.to_string()) } else { error }
}
