//! Commits and other outcomes. The order of the steps, and why it is the right one, is in `mod.rs`.

use std::sync::Arc;

use super::Inner;
use super::clock;
use super::item::{self, Item};
use super::names;
use super::own::Slot;
use super::record::{self, Record};
use super::table::Put;
use crate::storage::{CommitBatch, StorageError, codec};
use crate::txn::{BaseId, Commit, Outcome};

/// How often in a row the lease may end in the middle of one commit.
const PAUSES_MAX: u32 = 4;

impl Inner {
    pub async fn commit(self: Arc<Self>, batch: CommitBatch) -> Result<Outcome, StorageError> {
        codec::check(&batch)?;
        let record = Record::new(&batch.commit);
        let slot = self.own.claim(&self.table).await?;
        let versions = record::versions(&batch, &record);
        let (written, announced) =
            tokio::join!(self.table.put_all(versions), self.announce(&slot, &record));
        written?;
        let slot = self.hold(slot, announced?, &record).await?;
        self.decide(slot, batch.commit, &record).await
    }

    /// Puts the intent to commit into the log. Answers whether it is there.
    async fn announce(&self, slot: &Slot, record: &Record) -> Result<bool, StorageError> {
        let entry = record.add_to(item::keyed(slot.entry()));
        let entry = item::with(entry, item::LOW, item::number(slot.low));
        match self.table.put_new(entry).await? {
            Put::Done => Ok(true),
            // Nobody else uses the number, but whoever closed the log may have crossed it out.
            Put::Kept(found) => Ok(found.is_some_and(|found| !item::has(&found, item::VOID))),
        }
    }

    /// Makes sure of an entry that was confirmed while the log was open.
    async fn hold(
        &self,
        mut slot: Slot,
        mut is_there: bool,
        record: &Record,
    ) -> Result<Slot, StorageError> {
        for _ in 0..PAUSES_MAX {
            if is_there && slot.is_held() {
                return Ok(slot);
            }
            self.own.beat(&self.table).await?;
            if !(is_there && slot.is_current()) {
                slot = self.own.claim(&self.table).await?;
                is_there = self.announce(&slot, record).await?;
            }
        }
        Err(StorageError::Unconfirmed("this process stands still again and again".into()))
    }

    /// Creates the outcome: from here on it is committed.
    async fn decide(
        self: Arc<Self>,
        mut slot: Slot,
        commit: Arc<Commit>,
        record: &Record,
    ) -> Result<Outcome, StorageError> {
        let id = commit.version.writer.base();
        let outcome = record.add_to(item::keyed(names::outcome(&id)));
        let outcome = item::with(outcome, item::AT, item::text(slot.place()));
        slot.sending(id.clone());
        let found = match self.table.put_new(outcome).await? {
            Put::Done => {
                slot.settle();
                return Ok(Outcome::Committed(commit));
            }
            Put::Kept(found) => found.ok_or_else(|| vanished(&id))?,
        };
        let is_ours = is_at(&found, &slot.place());
        let outcome = record::read_outcome(&self.table, &id, found).await?;
        if is_ours {
            // The answer to the first attempt was lost.
            slot.settle();
        } else {
            slot.lost();
            tokio::spawn(self.clone().withdraw(slot, commit, outcome.clone()));
        }
        Ok(outcome)
    }

    /// Crosses out an entry that announced a commit which another outcome of its id has beaten, and
    /// deletes its versions, if no other entry announced the same and won.
    async fn withdraw(self: Arc<Self>, slot: Slot, commit: Arc<Commit>, outcome: Outcome) {
        if let Err(error) = self.cross_out(slot.entry()).await {
            return tracing::debug!("an entry of the log is crossed out later: {error}");
        }
        slot.settle();
        if outcome != Outcome::Committed(commit.clone()) {
            let keys = commit.keys.iter().map(|written| &written.key);
            if let Err(error) = self.delete_versions(&commit.version, keys).await {
                tracing::debug!("versions of a lost commit are left to be swept: {error}");
            }
        }
    }

    /// Makes a log entry one that announces nothing, also if it lands later.
    pub async fn cross_out(&self, entry: names::Name) -> Result<(), StorageError> {
        self.table.put(void(entry)).await
    }

    pub async fn outcome(&self, id: &BaseId) -> Result<Option<Outcome>, StorageError> {
        match self.table.get(names::outcome(id)).await? {
            Some(found) => record::read_outcome(&self.table, id, found).await.map(Some),
            None => Ok(None),
        }
    }

    pub async fn settle_aborted(&self, id: &BaseId) -> Result<Outcome, StorageError> {
        match self.abort(id).await? {
            Some(found) => record::read_outcome(&self.table, id, found).await,
            None => Ok(Outcome::Aborted),
        }
    }

    /// Settles an id. Answers the outcome that was there before, if there was one.
    pub async fn abort(&self, id: &BaseId) -> Result<Option<Item>, StorageError> {
        let record = item::bytes(codec::encode_aborted(id, clock::wall_ns()));
        let outcome = item::with(item::keyed(names::outcome(id)), item::BYTES, record);
        match self.table.put_new(outcome).await? {
            Put::Done => Ok(None),
            Put::Kept(found) => found.ok_or_else(|| vanished(id)).map(Some),
        }
    }
}

/// Whether an outcome is that of the commit which this entry announced.
pub(super) fn is_at(outcome: &Item, place: &str) -> bool {
    item::text_of(outcome, item::AT).is_ok_and(|at| at == place)
}

pub(super) fn void(entry: names::Name) -> Item {
    item::with(item::keyed(entry), item::VOID, item::number(clock::wall_ns()))
}

fn vanished(id: &BaseId) -> StorageError {
    StorageError::Unconfirmed(format!("the outcome of {id} is there and is not"))
}
