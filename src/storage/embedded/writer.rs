//! The thread that owns all writes.
//!
//! It takes everything that waits, settles who is first for each id, writes what is new as one batch
//! with one sync, and answers all. While it syncs, the next batch gathers by itself.
//!
//! When the engine fails, it is closed and opened again, which settles what became of the last batch:
//! the same requests are then looked at once more, and find their outcome or are written again.

// The pauses between attempts to open again are real time.
#![allow(clippy::disallowed_methods)]

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam::channel::{self, Receiver, RecvTimeoutError, Sender, TrySendError};
use tokio::sync::oneshot;

use super::directory::Directory;
use super::engine::{Deletions, Engine, Slot, WriteError, panic_text};
use super::journal::{self, Header};
use super::mark::Mark;
use super::space::Space;
use super::{EmbeddedOptions, OpenError, manifest};
use crate::storage::{CommitBatch, StorageError};
use crate::txn::{BaseId, Outcome};

const WAITING_MAX: usize = 4096;
const WAITING_BYTES_MAX: u64 = 512 << 20;
const BATCH_REQUESTS_MAX: usize = 1024;
const BATCH_BYTES_MAX: u64 = 32 << 20;
/// Bytes on the disk beside the keys and values of a commit, at most, for each key.
const OVERHEAD_BYTES: u64 = 512;
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// Who ends a process kills it soon if it does not end. What is not written by then is read from the
/// journal at the next start.
const SETTLE_AT_END_MAX: Duration = Duration::from_secs(2);

type Answer = Result<Done, StorageError>;

/// What can be asked of the writer.
pub(super) enum Request {
    Decide(Proposal),
    Delete(Deletions),
}

/// An outcome that counts if the id has none yet.
pub(super) enum Proposal {
    Commit(CommitBatch),
    Abort(BaseId),
}

/// What the writer has done.
#[derive(Clone)]
pub(super) enum Done {
    /// The outcome that counts.
    Decided(Outcome),
    Deleted,
}

impl Proposal {
    fn id(&self) -> BaseId {
        match self {
            Self::Commit(batch) => batch.commit.version.writer.base(),
            Self::Abort(id) => id.clone(),
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::Commit(batch) => size(batch),
            Self::Abort(_) => OVERHEAD_BYTES,
        }
    }
}

/// About how many bytes a commit takes on the disk.
pub(super) fn size(batch: &CommitBatch) -> u64 {
    let values: usize = batch.values.iter().map(|value| value.len()).sum();
    // A key stands in its version (twice) and in both records.
    let keys: usize =
        (batch.commit.keys.iter()).map(|written| written.key.as_str().len() * 4).sum();
    (values + keys) as u64 + OVERHEAD_BYTES * (batch.commit.keys.len() as u64 + 1)
}

struct Waiting {
    request: Request,
    bytes: u64,
    reply: oneshot::Sender<Answer>,
}

/// Hands requests to the writer, which ends when this is dropped and it has done what it was asked.
pub(super) struct Submit {
    queue: Sender<Waiting>,
    waiting_bytes: Arc<AtomicU64>,
}

impl Submit {
    pub fn submit(
        &self,
        request: Request,
        bytes: u64,
    ) -> Result<oneshot::Receiver<Answer>, StorageError> {
        let (reply, answer) = oneshot::channel();
        let before = self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let give_up = || self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        if before > 0 && before + bytes > WAITING_BYTES_MAX {
            give_up();
            return Err(StorageError::Refused(format!(
                "{before} bytes wait to be written already; try again later"
            )));
        }
        let waiting = Waiting { request, bytes, reply };
        self.queue.try_send(waiting).map_err(|error| {
            give_up();
            match error {
                TrySendError::Full(_) => StorageError::Refused(format!(
                    "{WAITING_MAX} commits wait to be written already; try again later"
                )),
                TrySendError::Disconnected(_) => super::closed(),
            }
        })?;
        Ok(answer)
    }
}

/// The state of the thread that writes.
pub(super) struct Writer {
    queue: Receiver<Waiting>,
    waiting_bytes: Arc<AtomicU64>,
    engine: Slot,
    options: EmbeddedOptions,
    space: Space,
    mark: Mark,
    /// The last batch in the engine. Valid while there is an engine.
    last: Header,
    /// The journal may show what is not on the disk, since a sync failed.
    suspect: bool,
    /// Failures since the last batch that went well.
    failures: u32,
    retry_at: Instant,
    // Last, so that the directory is unlocked when all else is closed.
    directory: Directory,
}

impl Writer {
    /// Opens the store, fills the slot, and prepares to write.
    pub fn open(
        path: &Path,
        options: EmbeddedOptions,
        engine: Slot,
    ) -> Result<(Self, Submit), OpenError> {
        let directory = Directory::open(path, |new| {
            Engine::create(new)?;
            Mark::create(&new.mark(), new.id()).map(drop)
        })?;
        let (queue, incoming) = channel::bounded(WAITING_MAX);
        let waiting_bytes = Arc::<AtomicU64>::default();
        let mut writer = Self {
            queue: incoming,
            waiting_bytes: waiting_bytes.clone(),
            engine,
            space: Space::new(directory.db(), options.disk_reserve_bytes),
            mark: Mark::open(&directory.mark(), directory.id())?,
            options,
            last: Header::default(),
            suspect: false,
            failures: 0,
            retry_at: Instant::now(),
            directory,
        };
        writer.open_engine()?;
        let submit = Submit { queue, waiting_bytes };
        Ok((writer, submit))
    }

    fn open_engine(&mut self) -> Result<(), OpenError> {
        let (db, store) = (self.directory.db(), self.directory.id());
        let acknowledged = self.mark.acknowledged();
        manifest::check(&db)?;
        journal::check(&db, store, acknowledged)?;
        let (engine, last) = Engine::open(&self.directory, &self.options)?;
        if last.batch < acknowledged {
            return Err(OpenError::Damaged {
                path: db,
                what: format!(
                    "it ends with batch {}, but batch {acknowledged} was acknowledged",
                    last.batch
                ),
            });
        }
        self.last = last;
        self.engine.fill(engine);
        Ok(())
    }

    /// Serves until nobody can ask any more.
    pub fn run(mut self) {
        self.serve_all();
        self.end();
    }

    pub(super) fn serve_all(&mut self) {
        loop {
            let first = if self.engine.get().is_some() {
                self.queue.recv().map_err(RecvTimeoutError::from)
            } else {
                self.queue.recv_deadline(self.retry_at)
            };
            match first {
                Ok(first) => {
                    let waiting = self.gather(first);
                    self.serve(waiting);
                }
                Err(RecvTimeoutError::Timeout) => {
                    let _ = self.engine_or_retry();
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Closes the store so that the next start has nothing to read from the journal. The journal is
    /// emptied when all else is done: a process that is killed on the way has lost nothing.
    fn end(&mut self) {
        let is_flushed = self.settle_at_end();
        let is_closed = self.engine.close();
        self.mark.sync();
        if is_flushed
            && is_closed
            && let Err(error) = journal::clear(&self.directory.db())
        {
            tracing::warn!(%error, "the next start reads the journal again");
        }
    }

    fn settle_at_end(&self) -> bool {
        let Some(engine) = self.engine.get() else {
            return false;
        };
        match engine.settle_within(SETTLE_AT_END_MAX) {
            Ok(is_flushed) => is_flushed,
            Err(error) => {
                tracing::warn!(%error, "the next start reads what could not be written to data files");
                false
            }
        }
    }

    /// Everything that waits, up to a limit.
    fn gather(&self, first: Waiting) -> Vec<Waiting> {
        let mut bytes = first.bytes;
        let mut gathered = vec![first];
        while gathered.len() < BATCH_REQUESTS_MAX && bytes < BATCH_BYTES_MAX {
            match self.queue.try_recv() {
                Ok(waiting) => {
                    bytes += waiting.bytes;
                    gathered.push(waiting);
                }
                Err(_) => break,
            }
        }
        gathered
    }

    fn serve(&mut self, waiting: Vec<Waiting>) {
        let answers = self.answers(&waiting);
        let bytes = waiting.iter().map(|waiting| waiting.bytes).sum();
        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        for (waiting, answer) in waiting.into_iter().zip(answers) {
            // Whoever asked may have given up.
            let _ = waiting.reply.send(answer);
        }
    }

    fn answers(&mut self, waiting: &[Waiting]) -> Vec<Answer> {
        loop {
            let engine = match self.engine_or_retry() {
                Ok(engine) => engine,
                Err(why) => return vec![Err(StorageError::Unconfirmed(why)); waiting.len()],
            };
            let attempt = AssertUnwindSafe(|| self.attempt(&engine, waiting));
            let failure = match catch_unwind(attempt) {
                Ok(Ok(answers)) => {
                    self.failures = 0;
                    return answers;
                }
                Ok(Err(failure)) => failure,
                Err(panic) => WriteError::Unknown(panic_text(&*panic)),
            };
            drop(engine);
            self.fail(&failure);
        }
    }

    /// Closes the engine. It may be opened again at once the first time, later after more failures.
    fn fail(&mut self, failure: &WriteError) {
        tracing::error!(?failure, failures = self.failures, "the store failed; opening it again");
        self.suspect |= matches!(failure, WriteError::Unknown(_));
        self.engine.close();
        self.delay();
    }

    fn delay(&mut self) {
        let delay = match self.failures {
            0 => Duration::ZERO,
            n => RETRY_MIN.saturating_mul(1 << n.min(10)).min(RETRY_MAX),
        };
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Instant::now() + delay;
    }

    fn engine_or_retry(&mut self) -> Result<Arc<Engine>, String> {
        if let Some(engine) = self.engine.get() {
            return Ok(engine);
        }
        if Instant::now() < self.retry_at {
            return Err("the store failed and is being opened again".into());
        }
        match self.open_engine() {
            Ok(()) => tracing::info!("the store is open again"),
            Err(error) => {
                tracing::error!(%error, "the store cannot be opened again yet");
                self.delay();
            }
        }
        self.engine.get().ok_or_else(|| "the store failed and cannot be opened again yet".into())
    }

    fn attempt(&mut self, engine: &Engine, waiting: &[Waiting]) -> Result<Vec<Answer>, WriteError> {
        if self.suspect {
            engine.flush()?;
            self.suspect = false;
        }
        engine.wait_for_background()?;
        let mut plan = Plan {
            engine,
            free_bytes: self.space.free_for_commits(engine.unflushed_bytes()),
            settled: HashMap::new(),
            new: Vec::new(),
            deletions: Vec::new(),
        };
        let answers = waiting.iter().map(|waiting| plan.add(&waiting.request)).collect();
        let Plan { new, deletions, .. } = plan;
        if !new.is_empty() || !deletions.is_empty() {
            self.write(engine, &new, &deletions)?;
        }
        Ok(answers)
    }

    fn write(
        &mut self,
        engine: &Engine,
        new: &[(&Proposal, Outcome)],
        deletions: &[&Deletions],
    ) -> Result<(), WriteError> {
        let commits = new.iter().filter(|(proposal, _)| matches!(proposal, Proposal::Commit(_)));
        let header = Header {
            batch: self.last.batch + 1,
            next_entry: self.last.next_entry + commits.count() as u64,
            engine_sequence: 0,
        };
        let mut batch = engine.batch(header);
        let mut entry = self.last.next_entry;
        for (proposal, _) in new {
            match proposal {
                Proposal::Commit(commit) => {
                    batch.versions(&commit.commit, &commit.values);
                    // After its versions: whoever sees it sees them.
                    batch.record(entry, &commit.commit);
                    entry += 1;
                }
                Proposal::Abort(id) => batch.aborted(id, wall_ns()),
            }
        }
        for deletions in deletions {
            deletions.versions.iter().for_each(|name| batch.delete_version(name));
            // The last entry is compared with the journal when the store is opened. A sweep finds it later.
            let entries = deletions.entries.iter().filter(|entry| *entry + 1 != header.next_entry);
            entries.for_each(|entry| batch.delete_entry(*entry));
            deletions.outcomes.iter().for_each(|id| batch.delete_outcome(id));
        }
        batch.write()?;
        self.last = header;
        self.mark.advance(header.batch);
        Ok(())
    }
}

/// Nanoseconds since the Unix epoch.
pub(super) fn wall_ns() -> u64 {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX)
}

/// What a batch will hold.
struct Plan<'a> {
    engine: &'a Engine,
    free_bytes: u64,
    settled: HashMap<BaseId, Outcome>,
    new: Vec<(&'a Proposal, Outcome)>,
    deletions: Vec<&'a Deletions>,
}

impl<'a> Plan<'a> {
    fn add(&mut self, request: &'a Request) -> Answer {
        match request {
            Request::Decide(proposal) => self.settle(proposal).map(Done::Decided),
            Request::Delete(deletions) => {
                self.deletions.push(deletions);
                Ok(Done::Deleted)
            }
        }
    }

    /// The outcome of the id, which is a new one if it has none.
    fn settle(&mut self, proposal: &'a Proposal) -> Result<Outcome, StorageError> {
        let id = proposal.id();
        if let Some(outcome) = self.settled.get(&id) {
            return Ok(outcome.clone());
        }
        if let Some(outcome) = self.engine.outcome(&id)? {
            return Ok(outcome);
        }
        // Each byte is written twice: to the journal, and later to a data file.
        let needed = proposal.bytes().saturating_mul(2);
        self.free_bytes = self.free_bytes.checked_sub(needed).ok_or_else(|| {
            StorageError::Refused(
                "the disk is full; make room on the file system of the data directory".into(),
            )
        })?;
        let outcome = match proposal {
            Proposal::Commit(batch) => Outcome::Committed(batch.commit.clone()),
            Proposal::Abort(_) => Outcome::Aborted,
        };
        self.settled.insert(id, outcome.clone());
        self.new.push((proposal, outcome.clone()));
        Ok(outcome)
    }
}
