//! The default store: an embedded log-structured database (fjall) in a directory on this machine.
//!
//! One thread writes. It takes all commits that wait, decides each against the outcomes stored, makes
//! all of them durable with one sync, and answers: so commits that arrive together share the price of
//! a sync, and one that arrives alone waits for nobody. Reads run on the blocking pool of the tokio
//! runtime in which the store is used.
//!
//! When the database fails to write, it refuses all further writes. The writer then opens it again,
//! as often as it takes; meanwhile everything is answered `Unconfirmed`.

mod guard;
mod tables;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use async_trait::async_trait;
use bytes::Bytes;
use crossbeam::channel::{Sender, TrySendError, bounded};
use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;

use super::{CommitBatch, LogPage, LogPosition, Storage, StorageError};
use crate::txn::{BaseId, Key, Outcome, Version};
use guard::Guard;
use tables::Tables;
use writer::{Request, Writer};

/// Requests that may wait for the writer. More are refused.
const WAITING_MAX: usize = 65_536;

/// Sizes of the embedded store.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// Block cache, in bytes.
    pub cache_bytes: u64,
    /// Size at which a table's changes in memory are written out, in bytes.
    pub memtable_bytes: u64,
    /// Size of the journal at which changes are written out to shorten it, in bytes.
    pub journal_bytes: u64,
    /// Room on the disk below which commits are refused, in bytes.
    pub reserve_bytes: u64,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 64 << 20,
            memtable_bytes: 32 << 20,
            journal_bytes: 256 << 20,
            reserve_bytes: 16 << 20,
        }
    }
}

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the store in {} is in use by another process; stop it, or choose another --data-dir", .0.display())]
    InUse(PathBuf),
    /// The directory holds something else.
    #[error("{} holds files that are not a store of this program; choose an empty directory as --data-dir", .0.display())]
    NotAStore(PathBuf),
    /// The directory was written by another version of this program.
    #[error(
        "the store in {} has format {found}, this program reads format {expected}; use the version that wrote it, or another --data-dir",
        path.display()
    )]
    Format {
        /// The directory.
        path: PathBuf,
        /// What it holds.
        found: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// Something that was stored is gone or unreadable.
    #[error(
        "the store in {} is damaged: {why}. Put a copy of the directory back, or move the directory away to begin with an empty store",
        path.display()
    )]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The file system refused.
    #[error("cannot use {} as a store: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// See the [module's page](self).
pub struct EmbeddedStore {
    tables: SharedTables,
    requests: Sender<Request>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// The open database; none while it is being opened again.
type SharedTables = Arc<RwLock<Option<Tables>>>;

impl EmbeddedStore {
    /// Opens the store in a directory, or makes one in an empty or missing directory. Blocks until
    /// the journal is read.
    pub fn open(path: &Path, options: EmbeddedOptions) -> Result<Self, OpenError> {
        let guard = Guard::take(path)?;
        let tables = Tables::open(path, &options)?;
        let last = tables.last_position().map_err(|why| damaged(path, &why.to_string()))?;
        guard.check(last)?;
        let shared: SharedTables = Arc::new(RwLock::new(Some(tables)));
        let (requests, waiting) = bounded(WAITING_MAX);
        let writer = Writer::new(path, options, guard, shared.clone(), waiting, last);
        let thread = std::thread::Builder::new().name("aft-store".to_owned());
        let io = |source| OpenError::Io { path: path.to_owned(), source };
        let writer = thread.spawn(move || writer.run()).map_err(io)?;
        Ok(Self { tables: shared, requests, writer: Mutex::new(Some(writer)) })
    }

    /// Sends to the writer and waits for its answer.
    async fn write(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<Outcome, StorageError>>) -> Request,
    ) -> Result<Outcome, StorageError> {
        let (answer, answered) = oneshot::channel();
        self.requests.try_send(request(answer)).map_err(|error| match error {
            TrySendError::Full(_) => {
                StorageError::Refused("too many commits wait for the disk".to_owned())
            }
            TrySendError::Disconnected(_) => {
                StorageError::Refused("the store is closed".to_owned())
            }
        })?;
        answered.await.unwrap_or_else(|_| {
            Err(StorageError::Unconfirmed("the store was closed meanwhile".to_owned()))
        })
    }

    /// Runs a read where blocking does no harm.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Tables) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let tables = self.tables.clone();
        let done = tokio::task::spawn_blocking(move || {
            let tables = tables.read().clone();
            let reopening = || StorageError::Unconfirmed("the store is being reopened".to_owned());
            read(&tables.ok_or_else(reopening)?)
        });
        done.await.unwrap_or_else(|error| Err(StorageError::Unconfirmed(error.to_string())))
    }
}

#[async_trait]
impl Storage for EmbeddedStore {
    async fn commit(&self, batch: CommitBatch) -> Result<Outcome, StorageError> {
        self.write(|answer| Request::Commit { batch, answer }).await
    }

    async fn outcome(&self, id: &BaseId) -> Result<Option<Outcome>, StorageError> {
        let id = id.clone();
        self.read(move |tables| tables.outcome(&id)).await
    }

    async fn settle_aborted(&self, id: &BaseId) -> Result<Outcome, StorageError> {
        self.write(|answer| Request::SettleAborted { id: id.clone(), answer }).await
    }

    async fn versions(
        &self,
        wanted: &[(Key, Version)],
    ) -> Result<Vec<Option<Bytes>>, StorageError> {
        let wanted = wanted.to_vec();
        let read = move |tables: &Tables| {
            wanted.iter().map(|(key, version)| tables.version(key, version)).collect()
        };
        self.read(read).await
    }

    async fn commits_since(&self, position: &LogPosition) -> Result<LogPage, StorageError> {
        let position = position.clone();
        self.read(move |tables| tables.log_page(&position)).await
    }

    async fn close(&self) {
        let _ = self.requests.send(Request::Close);
        let writer = self.writer.lock().take();
        let join = tokio::task::spawn_blocking(move || writer.map(JoinHandle::join));
        if !matches!(join.await, Ok(None | Some(Ok(())))) {
            tracing::error!("the store's writer ended badly");
        }
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        let _ = self.requests.send(Request::Close);
        if let Some(writer) = self.writer.lock().take() {
            let _ = writer.join();
        }
    }
}

fn damaged(path: &Path, why: &str) -> OpenError {
    OpenError::Damaged { path: path.to_owned(), why: why.to_owned() }
}
