//! tmp
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
use self::own::OwnLog;
use self::sweep::Cursor;
use self::table::Table;
use super::{
    CommitBatch, Garbage, LogPage, LogPosition, LogScope, Storage, StorageError, Sweep, Swept,
    Usage,
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
    cursor: tokio::sync::Mutex<Cursor>,
}

impl DynamoStore {
    /// Opens the table.
    ///
    /// # Errors
    /// [`OpenError`]; of its kinds, only [`OpenError::Away`] may go away by itself.
    pub async fn open(options: DynamoOptions) -> Result<Self, OpenError> {
        let client = options.place.connect().await?;
        let table = Table::new(client, options.place.table, options.incarnation);
        let own = OwnLog::new(options.node, options.incarnation, options.lease);
        let inner = Inner {
            table,
            own: Arc::new(own),
            silence: Silence::default(),
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

    async fn usage(&self) -> Result<Usage, StorageError> {
        self.run(|inner| async move { inner.usage().await }).await
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        self.inner.table.caller.counters()
    }

    async fn close(&self) {
        // Tells the others how far the log is settled, so that they need not look again.
        let _ = self.tend().await;
    }
}
