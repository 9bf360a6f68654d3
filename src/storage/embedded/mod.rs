//! A durable store in a directory of the node's own machine.
//!
//! Built on the log-structured engine fjall. A commit is one atomic batch of the engine: the
//! versions, the outcome of the id and the log entry are in its journal together or not at all, and
//! the journal is synced to the disk before anybody is told.
//!
//! - `writer`: one thread owns all writes. What waits when it comes round becomes one batch with
//!   one sync, so that many committers share the cost of the disk, while a lone one waits for nobody.
//! - `readers`: a few threads that read, so that whoever asks is never blocked by the disk.
//! - `engine`, `names`, `decided`: what lies where in fjall, opened and closed as a whole.
//! - `sweep`: looks for garbage that was not collected.
//! - `directory`: the directory belongs to one process, and holds a store of ours or nothing.
//! - `journal`, `manifest`, `mark`: what is looked at before fjall may touch the files, since
//!   fjall repairs what it takes for a torn end, and would repair damage by forgetting commits.
//!
//! # How long a start takes
//!
//! A store that is closed writes what only its journal holds to data files, and then empties the journal:
//! the next start has none to read, however many commits there ever were. It also waits for merges that
//! are due, as the next start would share the machine with them. After the death of the process,
//! or if the disk takes more than two seconds for that, a start reads the journal twice: to check it, and
//! fjall once more to have what is not in data files yet. fjall begins another journal when one holds
//! 64 MB, at the next time that it writes a memtable to a data file (neither can be set), and removes the
//! old one when its content is in data files. So there is one journal of up to 64 MB and what fills a
//! memtable, and for a moment the one before.
//!
//! # What damage is noticed
//!
//! When the store is opened, and it then refuses to open and changes nothing (but see below):
//! - any change in the part of the journal that holds batches, and a journal that was cut or is gone;
//! - any change in the files that say what belongs to the store (`format`, `db/version`, and each
//!   keyspace's `current` and manifest), and such a file that is gone;
//! - after the death of the process: that the last acknowledged batch is not there. After a power
//!   failure this one check is weaker: the mark that tells which batch was the last may then be as old
//!   as what the kernel had not written back (typically seconds). Until then a damaged *last* batch is
//!   taken for one that was being written when the power failed, and dropped.
//!
//! Then, or when it is read ([`StorageError::Damaged`]): changed blocks and values in data files, since
//! each has a checksum, data files that are gone, and records that are missing although their versions
//! are there.
//!
//! It is fjall that finds this damage, while it opens one keyspace after the other. In those before, it
//! has then removed what a store does not need: manifests other than the one that `current` names, and
//! data files that this one does not list. They are what merges and crashes leave behind. Nothing that
//! the store consists of is changed.
//!
//! Not noticed: all files replaced together by an older copy of themselves; after a power failure,
//! damage to the very beginning of a journal that holds no more than two batches. (Where it is the
//! only batch and the mark tells of it, the store is refused, but the engine has cut the journal.)

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;

use self::engine::{Deletions, Engine, Slot};
use self::readers::Readers;
use self::writer::{Done, Proposal, Request, Submit, Writer};
use super::{
    CommitBatch, Garbage, LogPage, LogPosition, LogScope, Storage, StorageError, Sweep, Swept,
    Usage, codec, position,
};
use crate::txn::{BaseId, Commit, Key, Outcome, Version};

mod decided;
mod directory;
mod engine;
mod journal;
mod manifest;
mod mark;
mod names;
mod readers;
mod space;
mod sweep;
#[cfg(test)]
mod tests;
mod usage;
mod writer;

/// How an embedded store uses the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddedOptions {
    /// Memory for blocks of data files that were read, in bytes.
    pub block_cache_bytes: u64,
    /// How much of the file system is left free, in bytes. Commits are refused before they would use
    /// it, because background work (and a restart) needs room too.
    pub disk_reserve_bytes: u64,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self { block_cache_bytes: 32 << 20, disk_reserve_bytes: 16 << 20 }
    }
}

/// Why a store was not opened. Nothing that was in the directory was lost by trying.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another store of this one, works in the directory.
    #[error("{path}: in use by another process; give each node its own data directory", path = .0.display())]
    InUse(PathBuf),
    /// The directory holds something that is not a store.
    #[error(
        "{path} is not a store, and not empty (it holds {found:?}); name another directory",
        path = .path.display()
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// One of the names in it.
        found: String,
    },
    /// The store was made by an incompatible version.
    #[error(
        "{path}: {found:?} is not a format that this version reads; open the store with the version \
         that made it, or move the directory away to begin empty",
        path = .path.display()
    )]
    Format {
        /// The file that says so.
        path: PathBuf,
        /// What it says.
        found: String,
    },
    /// Opening the store would lose commits that were acknowledged, or serve wrong data.
    #[error(
        "{path} is damaged: {what}; restore a copy of the whole store, or move its directory away to \
         begin empty",
        path = .path.display()
    )]
    Damaged {
        /// The file or directory that is damaged.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The operating system refused something.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
}

/// A [`Storage`] in a directory.
///
/// Its futures may be polled by any executor. Dropping it waits for the commits that were asked for, and
/// closes it as `close` does.
pub struct EmbeddedStore {
    writer: RwLock<Option<Submit>>,
    readers: RwLock<Option<Readers>>,
    thread: Mutex<Option<Thread>>,
    sweep: Mutex<sweep::Cursor>,
}

struct Thread {
    handle: JoinHandle<()>,
    ended: oneshot::Receiver<()>,
}

impl EmbeddedStore {
    /// Opens the store in a directory, which is made if it does not exist. Blocks while the journal is
    /// read that a killed process has left (at most some 64 MB).
    ///
    /// # Errors
    ///
    /// Says which file is wrong and what can be done. The directory can then be tried again.
    pub fn open(path: impl Into<PathBuf>, options: EmbeddedOptions) -> Result<Self, OpenError> {
        let path = path.into();
        let engine = Slot::default();
        let (writer, submit) = Writer::open(&path, options, engine.clone())?;
        let spawn_failed = directory::at(&path);
        let readers = Readers::start(engine).map_err(&spawn_failed)?;
        let (end, ended) = oneshot::channel();
        let handle = std::thread::Builder::new()
            .name("aft-store-write".into())
            .spawn(move || {
                writer.run();
                // Nobody waits for the end if the store was dropped without `close`.
                let _ = end.send(());
            })
            .map_err(&spawn_failed)?;
        Ok(Self {
            writer: RwLock::new(Some(submit)),
            readers: RwLock::new(Some(readers)),
            thread: Mutex::new(Some(Thread { handle, ended })),
            sweep: Mutex::default(),
        })
    }

    async fn decide(&self, proposal: Proposal, bytes: u64) -> Result<Outcome, StorageError> {
        match self.write(Request::Decide(proposal), bytes).await? {
            Done::Decided(outcome) => Ok(outcome),
            Done::Deleted => Err(StorageError::Unconfirmed("something else was done".into())),
        }
    }

    /// Deletes one part after the other. Each is written together with the commits that wait then.
    async fn delete(&self, parts: Vec<Deletions>) -> Result<(), StorageError> {
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            self.write(Request::Delete(part), 0).await?;
        }
        Ok(())
    }

    async fn write(&self, request: Request, bytes: u64) -> Result<Done, StorageError> {
        let answer = match &*self.writer.read() {
            Some(writer) => writer.submit(request, bytes)?,
            None => return Err(closed()),
        };
        answer.await.unwrap_or_else(|_| {
            let what = "the thread that writes has ended";
            Err(StorageError::Unconfirmed(what.into()))
        })
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Engine) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let answer = match &*self.readers.read() {
            Some(readers) => readers.submit(read)?,
            None => return Err(closed()),
        };
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Lets the threads end when they have done what they were asked for.
    fn stop(&self) -> Option<Thread> {
        self.readers.write().take();
        self.writer.write().take();
        self.thread.lock().take()
    }
}

fn closed() -> StorageError {
    StorageError::Refused("the store is closed".into())
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        if let Some(thread) = self.stop() {
            join(thread.handle);
        }
    }
}

fn join(handle: JoinHandle<()>) {
    if handle.join().is_err() {
        tracing::error!("the thread that writes to the store has panicked");
    }
}

#[async_trait]
impl Storage for EmbeddedStore {
    async fn commit(&self, batch: CommitBatch) -> Result<Outcome, StorageError> {
        codec::check(&batch)?;
        let bytes = writer::size(&batch);
        self.decide(Proposal::Commit(batch), bytes).await
    }

    async fn outcome(&self, id: &BaseId) -> Result<Option<Outcome>, StorageError> {
        let id = id.clone();
        self.read(move |engine| engine.outcome(&id)).await
    }

    async fn settle_aborted(&self, id: &BaseId) -> Result<Outcome, StorageError> {
        self.decide(Proposal::Abort(id.clone()), 0).await
    }

    async fn versions(
        &self,
        wanted: &[(Key, Version)],
    ) -> Result<Vec<Option<Bytes>>, StorageError> {
        let wanted = wanted.to_vec();
        self.read(move |engine| engine.versions(&wanted)).await
    }

    async fn commits_since(
        &self,
        position: &LogPosition,
        _scope: LogScope,
    ) -> Result<LogPage, StorageError> {
        let from = position::decode(position)?;
        self.read(move |engine| engine.log_page(from)).await
    }

    fn collects_garbage(&self) -> bool {
        true
    }

    async fn heads(&self, keys: &[Key]) -> Result<Vec<Option<Arc<Commit>>>, StorageError> {
        let keys = keys.to_vec();
        self.read(move |engine| keys.iter().map(|key| engine.head(key)).collect()).await
    }

    async fn collect(&self, garbage: &Garbage) -> Result<(), StorageError> {
        let garbage = garbage.clone();
        let parts = self.read(move |engine| engine.deletions(&garbage)).await?;
        self.delete(parts).await
    }

    async fn sweep(&self, sweep: &Sweep) -> Result<Swept, StorageError> {
        let (cursor, sweep) = (self.sweep.lock().clone(), *sweep);
        let found = self.read(move |engine| sweep::go_on(engine, cursor, &sweep)).await?;
        self.delete(found.deletions.split()).await?;
        *self.sweep.lock() = found.next;
        Ok(found.swept)
    }

    async fn usage(&self) -> Result<Usage, StorageError> {
        self.read(usage::count).await
    }

    async fn close(&self) {
        if let Some(thread) = self.stop() {
            // The sender is dropped without a message only if the thread panicked.
            let _ = thread.ended.await;
            join(thread.handle);
        }
    }
}
