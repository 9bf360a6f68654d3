//! A store in one table of Amazon DynamoDB, for any number of sidecars.
//!
//! DynamoDB writes single items under conditions, and reads a partition in the order of its sort keys.
//! What the names and attributes are is in `names.rs` and `item.rs`.
//!
//! # A commit
//!
//! 1. All at once: the versions, and an *entry* in the log of this process that holds the commit record.
//!    The entry is an intent: it says which commit may come.
//! 2. When all of that is confirmed: the *outcome* of the id, created only if there is none. It holds the
//!    record and names the entry. From here on it is committed.
//!
//! These are two round trips. The record is never durable before the versions, since it is not sent before
//! they are confirmed. Whoever finds an entry looks at the outcome of its id: the entry counts if the
//! outcome names it. So a writer may die at any moment: before the second step nothing is visible, after
//! it the entry is there for everyone to find. An aborted id has an outcome that names no entry. The first
//! outcome wins, since DynamoDB creates an item once; an answer that was lost is found again, since the
//! item that is there names the entry of whoever made it. An entry that lost is *crossed out*, not
//! deleted: entries are only ever created where there is none, so one that lands late finds the number
//! taken.
//!
//! # The log
//!
//! Each process has a log of its own, a partition in which it numbers its entries from 0. All logs are
//! listed (`logs.rs`). Nothing in this depends on a clock that is set right, nor on how long
//! requests are under way: a position says for each log which numbers were seen, and a number that is
//! missing stays wanted until it is known not to come.
//!
//! *Low* of a log is the least number that is not settled: an entry is settled when it is a commit's, or
//! crossed out. Its writer tells low in each entry and, once a second, in the list. What is true of low
//! once stays true. A follower reads the list, then each log from where it is, with consistent reads:
//!
//! - What is below the low that it knew *before* it read the entry counts unless it is crossed out; no
//!   outcome is read. That is how a start reads a log of any length, a megabyte a request.
//! - Above it the follower asks for the outcomes, 100 a request. What has none yet is asked for again next
//!   time.
//! - Then it goes on from that low, and remembers which numbers above it were seen. So an entry that lands
//!   late, or whose commit comes late, lies above the position or is none that counts.
//!
//! A low that it learns from an entry is used the next time: what was settled when that entry was
//! written may have landed after the reader had passed its number.
//!
//! Entries of commits that were collected are deleted. A number that is missing below low means nothing.
//!
//! # A writer that died
//!
//! It leaves entries that nobody settles. Each process *beats* every few seconds: it counts up in the list.
//! Whoever sees the count of another stand still for three leases closes that log (`close.rs`): it marks
//! it, under the condition that the count is still the same, settles all entries, and lists it as closed at
//! its end. What lands behind that is no part of the log. A process that ends in good order closes its own.
//!
//! The writer may be alive, only slow. So before it sends a record it makes sure that its last confirmed
//! beat was *sent* within the last lease, and its entry was confirmed before. Suppose that holds at time t,
//! by the writer's clock; the beat was applied after t - lease. Who closes the log has seen no later count
//! for three leases, measured from after that beat was applied. So the mark is set after t + 2 leases, and
//! the entries are read after that: the entry, confirmed before t, is among them, and is settled or found
//! to be a commit. The pause between looking at the clock and sending does not matter, nor how long the
//! record is under way: if it comes after the id was settled its condition fails. If the lease is over,
//! the writer beats first; if that fails the log was closed, and the entry is written to a new one. This
//! rests on clocks (which count while a machine is suspended) that run at the same speed within a factor
//! of two.
//!
//! Crossed out entries are deleted by sweeps after the retry window (hours): DynamoDB refuses requests that
//! were signed more than 15 minutes ago, so nothing lands as late as that.
//!
//! # What it costs
//!
//! Write units are counted per item and kilobyte begun. For a transaction of *n* small values:
//!
//! | | write units | sequential round trips |
//! | --- | --- | --- |
//! | entry with the versions, then the outcome (this) | n + 2 | 2 |
//! | all in one `TransactWriteItems` (up to 100 items, 4 MB) | 2n + 4 | 1 |
//! | versions, then `TransactWriteItems` of record and entry | n + 4 | 2 |
//!
//! The first was chosen: it costs half of the second for any transaction and has no limit on its size.
//! What a transaction of DynamoDB saves in round trips it mostly spends in its own two phases, and
//! conflicts between transactions have to be repeated.
//! A log record of more than 8 KiB (some hundred keys) is kept apart, once, as it would otherwise be paid
//! for twice.
//!
//! Reading a version costs half a unit for each 4 KB begun: it never changes, so an eventually consistent
//! read is enough, repeated with a consistent one if it finds nothing. Following costs each process a unit
//! a second for the list (4 KB hold about 30 logs) and one for each other log.
//!
//! All entries of a process go to one partition, which takes 1000 write units a second: so many small
//! transactions can one process commit. Processes do not share this limit.
//!
//! `heads` needs nothing besides: versions of a key are one partition, read from its newest end, and the
//! outcome tells whether a version counts.

mod call;
mod clock;
mod close;
mod collect;
mod commit;
mod connect;
mod follow;
mod heads;
mod item;
mod logs;
mod names;
mod original;
mod own;
mod position;
mod record;
mod sweep;
mod table;
mod usage;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use self::close::Silence;
pub use self::connect::{Credentials, OpenError, Place};
use self::original::Original;
use self::own::OwnLog;
use self::sweep::Cursor;
use self::table::Table;
use super::{
    CommitBatch, Garbage, LogPage, LogPosition, LogScope, PlainValue, Storage, StorageError, Sweep,
    Swept, Usage,
};
use crate::txn::{BaseId, Commit, Key, Outcome, Version};

/// How to use a table.
#[derive(Debug, Clone)]
pub struct DynamoOptions {
    /// Where it is.
    pub place: Place,
    /// This node's address, for people who look at the table.
    pub node: String,
    /// A number that no other process has, nor had.
    pub incarnation: u64,
    /// How long this process may be without word to the table before it may not commit any more without
    /// asking. After three times as long others close its log.
    pub lease: Duration,
    /// The table of an original AFT, of which what it left is read.
    pub original: Option<String>,
}

/// The lease that all processes on one table use.
pub const LEASE: Duration = Duration::from_secs(20);

/// A [`Storage`] in one table of DynamoDB.
#[derive(Debug)]
pub struct DynamoStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    table: Table,
    own: Arc<OwnLog>,
    silence: Silence,
    original: Option<Original>,
    cursor: tokio::sync::Mutex<Cursor>,
}

impl DynamoStore {
    /// Opens the table.
    ///
    /// # Errors
    /// [`OpenError`]; of its kinds, only [`OpenError::Away`] may go away by itself.
    pub async fn open(options: DynamoOptions) -> Result<Self, OpenError> {
        let client = options.place.connect().await?;
        let original = match options.original {
            Some(table) => {
                options.place.check_original(&client, &table).await?;
                Some(Original::new(client.clone(), table))
            }
            None => None,
        };
        let table = Table::new(client, options.place.table, options.incarnation);
        let own = OwnLog::new(options.node, options.incarnation, options.lease);
        let inner = Inner {
            table,
            own: Arc::new(own),
            silence: Silence::default(),
            original,
            cursor: tokio::sync::Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Does something on the runtime's threads and to its end, also if nobody waits for it any more: the
    /// caller may be a thread that serves requests.
    async fn run<T, F>(&self, work: impl FnOnce(Arc<Inner>) -> F) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StorageError>> + Send + 'static,
    {
        tokio::spawn(work(self.inner.clone()))
            .await
            .map_err(|error| StorageError::Unconfirmed(format!("the work ended early: {error}")))?
    }
}

#[async_trait]
impl Storage for DynamoStore {
    async fn commit(&self, batch: CommitBatch) -> Result<Outcome, StorageError> {
        self.run(|inner| inner.commit(batch)).await
    }

    async fn outcome(&self, id: &BaseId) -> Result<Option<Outcome>, StorageError> {
        let id = id.clone();
        self.run(|inner| async move { inner.outcome(&id).await }).await
    }

    async fn settle_aborted(&self, id: &BaseId) -> Result<Outcome, StorageError> {
        let id = id.clone();
        self.run(|inner| async move { inner.settle_aborted(&id).await }).await
    }

    async fn versions(
        &self,
        wanted: &[(Key, Version)],
    ) -> Result<Vec<Option<Bytes>>, StorageError> {
        let wanted = wanted.to_vec();
        self.run(|inner| async move { record::read_versions(&inner.table, &wanted).await }).await
    }

    async fn commits_since(
        &self,
        position: &LogPosition,
        scope: LogScope,
    ) -> Result<LogPage, StorageError> {
        let position = position.clone();
        self.run(move |inner| async move { inner.commits_since(&position, scope).await }).await
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn tend(&self) -> Result<(), StorageError> {
        self.run(|inner| async move { inner.tend().await }).await
    }

    fn collects_garbage(&self) -> bool {
        true
    }

    async fn heads(&self, keys: &[Key]) -> Result<Vec<Option<Arc<Commit>>>, StorageError> {
        let keys = keys.to_vec();
        self.run(|inner| async move { inner.heads(&keys).await }).await
    }

    async fn collect(&self, garbage: &Garbage) -> Result<(), StorageError> {
        let garbage = garbage.clone();
        self.run(|inner| async move { inner.collect(&garbage).await }).await
    }

    async fn sweep(&self, sweep: &Sweep) -> Result<Swept, StorageError> {
        let sweep = *sweep;
        self.run(move |inner| async move { inner.sweep(&sweep).await }).await
    }

    /// Each look reads, and pays for, the whole table.
    fn swept_each(&self) -> Duration {
        Duration::from_secs(24 * 3600)
    }

    fn has_plain_keys(&self) -> bool {
        self.inner.original.is_some()
    }

    async fn plain(&self, keys: &[Key]) -> Result<Vec<Option<PlainValue>>, StorageError> {
        let keys = keys.to_vec();
        self.run(|inner| async move {
            match &inner.original {
                Some(original) => original.values(&inner.table.caller, &keys).await,
                None => Ok(vec![None; keys.len()]),
            }
        })
        .await
    }

    async fn usage(&self) -> Result<Usage, StorageError> {
        self.run(|inner| async move { inner.usage().await }).await
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        self.inner.table.caller.counters()
    }

    async fn close(&self) {
        let finished = self.run(|inner| async move { inner.own.finish(&inner.table).await }).await;
        if let Err(error) = finished {
            // Others close it when it has been silent for long enough.
            tracing::info!("the commit log is left open: {error}");
        }
    }
}
