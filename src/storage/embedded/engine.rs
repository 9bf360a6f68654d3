//! What lies where in fjall, opened and closed as a whole.
//!
//! | keyspace   | key                                             | value                          |
//! | ---------- | ----------------------------------------------- | ------------------------------ |
//! | `versions` | see [`names`](super::names)                      | the version, a `KeyValuePair`  |
//! | `outcomes` | the base id                                     | see [`decided`](super::decided) |
//! | `log`      | the entry's number from 0, 8 bytes big endian   | the commit's `TransactionRecord` |
//! | `state`    | `batch` and the store's id                      | a journal header               |
//!
//! When a commit is collected, its entry in the log is deleted; its outcome is what it was. The last entry
//! of the log is never deleted, as it is compared with the journal when the store is opened.

// fjall has no way to wait for its threads, so they are looked at again and again.
#![allow(clippy::disallowed_methods)]

use std::any::Any;
use std::io::ErrorKind;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fjall::config::CompressionPolicy;
use fjall::{
    AbstractTree, CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions,
    OwnedWriteBatch, PersistMode,
};
use parking_lot::RwLock;
use rustix::io::Errno;

use super::decided::{self, Decided};
use super::directory::Directory;
use super::journal::Header;
use super::{EmbeddedOptions, OpenError, names};
use crate::storage::codec::{self, VersionEncoder};
use crate::storage::{Garbage, LogPage, StorageError, Superseded, position};
use crate::txn::{BaseId, Commit, Key, Outcome, Version};

const KEYSPACES: [&str; 4] = ["versions", "outcomes", "log", "state"];
/// Smaller values stay in the tree; larger ones lie in files of their own, so that they are not written
/// again whenever parts of the tree are merged. Such a file is cleared up only when everything that names
/// it is merged at once, and that happens as long as all names take one level of the tree: 256 MiB, or
/// 40 GB of values of this size.
const SEPARATE_FROM_BYTES: u32 = 16 << 10;
/// The part of such a file that may be garbage.
const GARBAGE_MAX: f32 = 0.5;
/// Smaller ones make a start after a kill quicker, as less of the journal is not in data files yet: with a
/// quarter of both it takes half the time. But then merges write half as much again for each commit.
const VERSIONS_MEMTABLE_BYTES: u64 = 32 << 20;
const RECORDS_MEMTABLE_BYTES: u64 = 8 << 20;
/// When the finished journals hold more, what only the oldest holds is written to data files. fjall allows
/// no less, and finishes a journal when it holds 64 MB.
const JOURNALS_BYTES_MAX: u64 = 64 << 20;
const WORKER_THREADS: usize = 2;
/// fjall blocks a commit for ever if it has four memtables to flush, or 30 runs to merge, and the
/// thread that would do it has failed. These limits keep away from that.
const UNFLUSHED_MEMTABLES_MAX: usize = 1;
const UNMERGED_RUNS_MAX: usize = 24;
/// fjall begins to merge when there are as many.
const RUNS_TO_MERGE: usize = 4;
/// What is deleted in one batch with the commits that wait.
const DELETIONS_AT_ONCE: usize = 128;
const PAGE_COMMITS_MAX: usize = 1024;
const PAGE_BYTES_MAX: usize = 4 << 20;

/// Where the open engine is found; empty while it is being opened again.
#[derive(Clone, Default)]
pub(super) struct Slot(Arc<RwLock<Option<Arc<Engine>>>>);

impl Slot {
    pub fn get(&self) -> Option<Arc<Engine>> {
        self.0.read().clone()
    }

    pub fn fill(&self, engine: Engine) {
        *self.0.write() = Some(Arc::new(engine));
    }

    /// Takes the engine away and closes it, once nobody reads from it any more. Says whether it is sure that
    /// nothing more is written.
    pub fn close(&self) -> bool {
        let Some(mut engine) = self.0.write().take() else {
            return false;
        };
        let db = engine.path.clone();
        loop {
            match Arc::try_unwrap(engine) {
                Ok(alone) => break drop(alone),
                Err(shared) => engine = shared,
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        wait_until_closed(&db)
    }
}

/// fjall's threads let go of the journal a moment after the database is gone, and write what is left
/// in its buffer then. It must not be opened before. Says whether that could be seen.
fn wait_until_closed(db: &Path) -> bool {
    let holds_journal =
        || {
            let open = std::fs::read_dir("/proc/self/fd").ok()?;
            let mut names = open.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
            Some(names.any(|name| {
                name.parent() == Some(db) && name.extension().is_some_and(|e| e == "jnl")
            }))
        };
    loop {
        match holds_journal() {
            Some(true) => std::thread::sleep(Duration::from_millis(1)),
            seen => return seen.is_some(),
        }
    }
}

/// Why a batch was not written, or may not have been.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    /// An earlier failure, perhaps in the background, made the engine refuse all writes.
    #[error("an earlier failure made the engine refuse all writes")]
    Poisoned,
    /// It may or may not be in the journal, and on the disk.
    #[error("{0}")]
    Unknown(String),
}

/// An open fjall database.
pub(super) struct Engine {
    path: PathBuf,
    db: Database,
    versions: Keyspace,
    outcomes: Keyspace,
    log: Keyspace,
    state: Keyspace,
    header_key: [u8; 21],
}

impl Engine {
    /// Makes the files of a new store.
    pub fn create(directory: &Directory) -> Result<(), OpenError> {
        guarded(directory, || {
            let db = database(&directory.db(), &EmbeddedOptions::default())?;
            for name in KEYSPACES {
                db.keyspace(name, || keyspace_options(name))?;
            }
            db.persist(PersistMode::SyncAll)?;
            Ok(())
        })
    }

    /// Opens the files of an existing store, and reads its state.
    pub fn open(
        directory: &Directory,
        options: &EmbeddedOptions,
    ) -> Result<(Self, Header), OpenError> {
        let engine = guarded(directory, || {
            let db = database(&directory.db(), options)?;
            // A keyspace that is not there must not be made anew: its content is lost.
            if let Some(missing) = KEYSPACES.iter().find(|name| !db.keyspace_exists(name)) {
                return Ok(Err(format!("the keyspace {missing:?} is missing")));
            }
            let keyspace = |name| db.keyspace(name, || keyspace_options(name));
            Ok(Ok(Self {
                path: directory.db(),
                versions: keyspace("versions")?,
                outcomes: keyspace("outcomes")?,
                log: keyspace("log")?,
                state: keyspace("state")?,
                header_key: Header::key(directory.id()),
                db,
            }))
        })?;
        let damaged = |what| OpenError::Damaged { path: directory.db(), what };
        let engine = engine.map_err(damaged)?;
        let header = guarded(directory, || Ok(engine.header()))?.map_err(damaged)?;
        Ok((engine, header))
    }

    /// The last batch, checked against the end of the log.
    fn header(&self) -> Result<Header, String> {
        let text = |error: fjall::Error| error.to_string();
        let header = match self.state.get(self.header_key).map_err(text)? {
            None => Header::default(),
            Some(stored) => Header::decode(&stored).ok_or("the store's state cannot be read")?,
        };
        let last = match self.log.last_key_value() {
            None => None,
            Some(entry) => Some(entry.key().map_err(text)?),
        };
        let expected = header.next_entry.checked_sub(1).map(u64::to_be_bytes);
        if last.as_deref() == expected.as_ref().map(|key| &key[..]) {
            Ok(header)
        } else {
            Err(format!("the log does not end with entry {expected:?}"))
        }
    }

    pub fn outcome(&self, id: &BaseId) -> Result<Option<Outcome>, StorageError> {
        let Some(stored) = self.outcomes.get(id.as_str()).map_err(read_error)? else {
            return Ok(None);
        };
        let decided = Decided::read(Bytes::from_owner(stored));
        let record = match decided.entry {
            Some(entry) => self.log.get(entry.to_be_bytes()).map_err(read_error)?,
            None => None,
        };
        // Without an entry this is an aborted id, or a commit that was collected.
        let record = record.map_or(decided.record, Bytes::from_owner);
        codec::decode_outcome(id, record).map(Some)
    }

    /// The number of a commit's entry in the log, if it was there.
    fn entry_of(&self, commit: &Commit) -> Result<Option<u64>, StorageError> {
        let id = commit.version.writer.base();
        let stored = self.outcomes.get(id.as_str()).map_err(read_error)?;
        Ok(stored.and_then(|stored| Decided::read(Bytes::from_owner(stored)).entry))
    }

    pub fn versions(&self, wanted: &[(Key, Version)]) -> Result<Vec<Option<Bytes>>, StorageError> {
        let value = |(key, version): &(Key, Version)| {
            let name = names::version(key, version);
            match self.versions.get(name).map_err(read_error)? {
                Some(stored) => codec::decode_version(key, version, alone(stored)).map(Some),
                None => Ok(None),
            }
        };
        wanted.iter().map(value).collect()
    }

    /// The commit that wrote the newest version of a key. What is stored of a version is committed.
    pub fn head(&self, key: &Key) -> Result<Option<Arc<Commit>>, StorageError> {
        loop {
            let Some(newest) = self.versions.prefix(names::versions_of(key)).next_back() else {
                return Ok(None);
            };
            let name = newest.key().map_err(read_error)?;
            let (_, version) = names::parse_version(&name)?;
            match self.outcome(&version.writer.base())? {
                Some(Outcome::Committed(commit)) if !commit.keys.is_empty() => {
                    return Ok(Some(commit));
                }
                // A newer version came and this one was collected, both since it was looked up.
                _ if self.versions.get(&name).map_err(read_error)?.is_none() => {}
                _ => {
                    let what =
                        format!("the record of {version:?}, the newest of {key:?}, is missing");
                    return Err(StorageError::Damaged(what));
                }
            }
        }
    }

    /// What is to be deleted of what is garbage, in parts that are written one after the other.
    pub fn deletions(&self, garbage: &Garbage) -> Result<Vec<Deletions>, StorageError> {
        let mut parts = vec![Deletions::default()];
        for Superseded { commit, keys, is_last } in &garbage.superseded {
            let names = keys.iter().map(|key| names::version(key, &commit.version));
            let entry = if *is_last { self.entry_of(commit)? } else { None };
            if parts.last().is_none_or(Deletions::is_full) {
                parts.push(Deletions::default());
            }
            if let Some(part) = parts.last_mut() {
                // A version is never there without its record.
                part.versions.extend(names);
                part.entries.extend(entry);
            }
        }
        Ok(parts)
    }

    /// The versions from a name on, as names.
    pub fn version_names(
        &self,
        from: &[u8],
    ) -> impl Iterator<Item = Result<Vec<u8>, StorageError>> {
        let name = |entry: fjall::Guard| entry.key().map(|key| key.to_vec()).map_err(read_error);
        self.versions.range(from..).map(name)
    }

    /// The log from an entry on.
    pub fn log_entries(
        &self,
        from: u64,
    ) -> impl Iterator<Item = Result<(u64, Arc<Commit>), StorageError>> {
        self.log.range(from.to_be_bytes()..).map(|entry| {
            let (key, stored) = entry.into_inner().map_err(read_error)?;
            let number = entry_number(&key).ok_or_else(bad_entry)?;
            Ok((number, codec::decode_commit(Bytes::from_owner(stored))?))
        })
    }

    /// The outcomes from an id on.
    pub fn decided(
        &self,
        from: &str,
    ) -> impl Iterator<Item = Result<(String, Decided), StorageError>> {
        self.outcomes.range(from.as_bytes()..).map(|entry| {
            let (id, stored) = entry.into_inner().map_err(read_error)?;
            let id = String::from_utf8_lossy(&id).into_owned();
            Ok((id, Decided::read(Bytes::from_owner(stored))))
        })
    }

    /// Whether an entry of the log is there.
    pub fn has_entry(&self, entry: u64) -> Result<bool, StorageError> {
        self.log.contains_key(entry.to_be_bytes()).map_err(read_error)
    }

    /// Whether any version of a commit is still there.
    pub fn has_values_of(&self, commit: &Commit) -> Result<bool, StorageError> {
        for written in &commit.keys {
            let name = names::version(&written.key, &commit.version);
            if self.versions.contains_key(name).map_err(read_error)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub fn log_page(&self, from: u64) -> Result<LogPage, StorageError> {
        let (mut commits, mut next, mut bytes) = (Vec::new(), from, 0);
        for entry in self.log.range(from.to_be_bytes()..) {
            if commits.len() == PAGE_COMMITS_MAX || bytes >= PAGE_BYTES_MAX {
                return Ok(page(commits, next, false));
            }
            let (key, stored) = entry.into_inner().map_err(read_error)?;
            let number = entry_number(&key).ok_or_else(bad_entry)?;
            bytes += stored.len();
            commits.push(codec::decode_commit(Bytes::from_owner(stored))?);
            next = number + 1;
        }
        Ok(page(commits, next, true))
    }

    /// Waits until the engine may be given another batch without the danger that it never returns.
    pub fn wait_for_background(&self) -> Result<(), WriteError> {
        self.wait_while(|keyspace| {
            keyspace.sealed_memtable_count() > UNFLUSHED_MEMTABLES_MAX
                || keyspace.tree.l0_run_count() > UNMERGED_RUNS_MAX
        })
    }

    /// Writes everything that only the journal holds into data files. After a failed sync the journal
    /// may hold less on the disk than it shows when it is read.
    pub fn flush(&self) -> Result<(), WriteError> {
        self.begin_flush()?;
        self.wait_while(|keyspace| keyspace.sealed_memtable_count() > 0)
    }

    /// As [`flush`](Self::flush), and waits for the merges that are due: the next start would begin with
    /// them. Gives up when it takes too long. Says whether all was written.
    pub fn settle_within(&self, limit: Duration) -> Result<bool, WriteError> {
        let until = Instant::now() + limit;
        self.begin_flush()?;
        self.wait_while(|keyspace| {
            let is_due = keyspace.sealed_memtable_count() > 0
                || keyspace.tree.l0_run_count() >= RUNS_TO_MERGE;
            is_due && Instant::now() < until
        })?;
        Ok(self.keyspaces().iter().all(|keyspace| keyspace.sealed_memtable_count() == 0))
    }

    fn begin_flush(&self) -> Result<(), WriteError> {
        for keyspace in self.keyspaces() {
            keyspace.rotate_memtable().map_err(write_error)?;
        }
        Ok(())
    }

    fn wait_while(&self, busy: impl Fn(&Keyspace) -> bool) -> Result<(), WriteError> {
        while self.keyspaces().into_iter().any(&busy) {
            // The only way to learn that a background thread has failed.
            self.db.persist(PersistMode::Buffer).map_err(write_error)?;
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn keyspaces(&self) -> [&Keyspace; 4] {
        [&self.versions, &self.outcomes, &self.log, &self.state]
    }

    /// Bytes that are in the journal and not yet in data files.
    pub fn unflushed_bytes(&self) -> u64 {
        self.db.write_buffer_size()
    }

    /// Bytes on the disk.
    pub fn bytes(&self) -> Result<u64, StorageError> {
        self.db.disk_space().map_err(read_error)
    }

    /// Begins a batch. `header` is completed with what only the engine knows.
    pub fn batch(&self, mut header: Header) -> Batch<'_> {
        header.engine_sequence = self.db.seqno();
        let mut writes = self.db.batch().durability(Some(PersistMode::SyncData));
        writes.insert(&self.state, self.header_key, header.encode());
        Batch { engine: self, writes }
    }
}

/// A version that may be kept for long: small ones are part of a block of many.
fn alone(stored: fjall::Slice) -> Bytes {
    if stored.len() < SEPARATE_FROM_BYTES as usize {
        Bytes::copy_from_slice(&stored)
    } else {
        Bytes::from_owner(stored)
    }
}

fn bad_entry() -> StorageError {
    StorageError::Damaged("the number of an entry of the log cannot be read".into())
}

/// The number of a log entry as the log's key.
fn entry_number(stored: &[u8]) -> Option<u64> {
    stored.try_into().ok().map(u64::from_be_bytes)
}

fn page(commits: Vec<Arc<Commit>>, next: u64, end: bool) -> LogPage {
    LogPage { commits, next: position::encode(next), end }
}

/// What is to be deleted.
#[derive(Debug, Default)]
pub(super) struct Deletions {
    /// Names of versions.
    pub versions: Vec<Vec<u8>>,
    /// Entries of the log.
    pub entries: Vec<u64>,
    /// Ids whose outcome is forgotten.
    pub outcomes: Vec<BaseId>,
}

impl Deletions {
    pub fn is_empty(&self) -> bool {
        self.versions.is_empty() && self.entries.is_empty() && self.outcomes.is_empty()
    }

    /// Commits would wait noticeably if more were written with them.
    fn is_full(&self) -> bool {
        self.versions.len() + self.entries.len() + self.outcomes.len() >= DELETIONS_AT_ONCE
    }

    /// In parts that are written one after the other.
    pub fn split(self) -> Vec<Self> {
        let mut parts = Vec::new();
        let part = |versions: &[Vec<u8>]| Self { versions: versions.to_vec(), ..Self::default() };
        parts.extend(self.versions.chunks(DELETIONS_AT_ONCE).map(part));
        let part = |entries: &[u64]| Self { entries: entries.to_vec(), ..Self::default() };
        parts.extend(self.entries.chunks(DELETIONS_AT_ONCE).map(part));
        let part = |outcomes: &[BaseId]| Self { outcomes: outcomes.to_vec(), ..Self::default() };
        parts.extend(self.outcomes.chunks(DELETIONS_AT_ONCE).map(part));
        parts
    }
}

/// Writes that become durable together. Readers may see them one by one, in the order of insertion.
pub(super) struct Batch<'a> {
    engine: &'a Engine,
    writes: OwnedWriteBatch,
}

impl Batch<'_> {
    pub fn versions(&mut self, commit: &Commit, values: &[Bytes]) {
        let mut encoder = VersionEncoder::new(&commit.version);
        for (written, value) in commit.keys.iter().zip(values) {
            let name = names::version(&written.key, &commit.version);
            let stored = encoder.encode(&written.key, value);
            self.writes.insert(&self.engine.versions, name, stored);
        }
    }

    /// The record as a log entry, and the outcome, which names that entry.
    pub fn record(&mut self, entry: u64, commit: &Commit) {
        let stored = codec::encode_commit(commit);
        self.writes.insert(&self.engine.log, entry.to_be_bytes(), stored);
        let id = commit.version.writer.base();
        self.writes.insert(&self.engine.outcomes, id.as_str(), decided::committed(entry, commit));
    }

    /// `wall_ns` is the time, so that the outcome can be forgotten some day.
    pub fn aborted(&mut self, id: &BaseId, wall_ns: u64) {
        let stored = codec::encode_aborted(id, wall_ns);
        self.writes.insert(&self.engine.outcomes, id.as_str(), stored);
    }

    /// `name` as in [`names`].
    pub fn delete_version(&mut self, name: &[u8]) {
        self.writes.remove(&self.engine.versions, name);
    }

    pub fn delete_entry(&mut self, entry: u64) {
        self.writes.remove(&self.engine.log, entry.to_be_bytes());
    }

    pub fn delete_outcome(&mut self, id: &BaseId) {
        self.writes.remove(&self.engine.outcomes, id.as_str());
    }

    /// Returns when the batch is on the disk.
    pub fn write(self) -> Result<(), WriteError> {
        self.writes.commit().map_err(write_error)
    }
}

fn write_error(error: fjall::Error) -> WriteError {
    match error {
        fjall::Error::Poisoned => WriteError::Poisoned,
        error => WriteError::Unknown(error.to_string()),
    }
}

fn read_error(error: fjall::Error) -> StorageError {
    if is_environment(&error) {
        StorageError::Unconfirmed(error.to_string())
    } else {
        StorageError::Damaged(error.to_string())
    }
}

/// Tells what the machine refuses from what is wrong with the files: an offset or a name that was
/// read from a damaged file makes system calls fail too.
fn is_environment(error: &fjall::Error) -> bool {
    let (fjall::Error::Io(io) | fjall::Error::Storage(fjall::LsmError::Io(io))) = error else {
        return false;
    };
    let by_number = [Errno::IO, Errno::MFILE, Errno::NFILE, Errno::NOLCK].map(Errno::raw_os_error);
    let by_kind = [
        ErrorKind::StorageFull,
        ErrorKind::QuotaExceeded,
        ErrorKind::PermissionDenied,
        ErrorKind::ReadOnlyFilesystem,
        ErrorKind::OutOfMemory,
    ];
    by_kind.contains(&io.kind()) || io.raw_os_error().is_some_and(|n| by_number.contains(&n))
}

fn database(path: &Path, options: &EmbeddedOptions) -> fjall::Result<Database> {
    Database::builder(path)
        .cache_size(options.block_cache_bytes)
        .journal_compression(CompressionType::None)
        .max_journaling_size(JOURNALS_BYTES_MAX)
        .worker_threads(WORKER_THREADS)
        .manual_journal_persist(true)
        .open()
}

fn keyspace_options(name: &str) -> KeyspaceCreateOptions {
    let options = KeyspaceCreateOptions::default().manual_journal_persist(true);
    if name == "versions" {
        // Values are opaque and often compressed already.
        let values = KvSeparationOptions::default()
            .compression(CompressionType::None)
            .separation_threshold(SEPARATE_FROM_BYTES)
            .staleness_threshold(GARBAGE_MAX)
            // Of all such files, not only of the oldest.
            .age_cutoff(1.0);
        options
            .max_memtable_size(VERSIONS_MEMTABLE_BYTES)
            .data_block_compression_policy(CompressionPolicy::disabled())
            .with_kv_separation(Some(values))
    } else {
        options.max_memtable_size(RECORDS_MEMTABLE_BYTES)
    }
}

/// Runs something of fjall's that reads files as they are found: its errors and panics on damaged
/// files become errors that say where.
fn guarded<T>(
    directory: &Directory,
    open: impl FnOnce() -> fjall::Result<T>,
) -> Result<T, OpenError> {
    let path = directory.db();
    let open = std::panic::AssertUnwindSafe(open);
    match catch_unwind(open) {
        Ok(Ok(opened)) => Ok(opened),
        Ok(Err(fjall::Error::Locked)) => Err(OpenError::InUse(path)),
        Ok(Err(error)) if is_environment(&error) => {
            Err(OpenError::Io { path, source: std::io::Error::other(error) })
        }
        Ok(Err(error)) => Err(OpenError::Damaged { path, what: error.to_string() }),
        Err(panic) => Err(OpenError::Damaged { path, what: panic_text(&*panic) }),
    }
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    format!("reading it failed with {:?}", text.unwrap_or("a panic"))
}
