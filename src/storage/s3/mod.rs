//! A store in one bucket of Amazon S3, or of what speaks its protocol, for any number of sidecars.
//!
//! S3 writes single objects, creates one only if there is none, replaces one only if it is still as it was
//! read, and lists names in their order. What it answered is seen by all that is asked afterwards, listings
//! included. A request takes tens of milliseconds and is what is paid for, however small. What the
//! names are is in `names.rs`.
//!
//! # A commit
//!
//! Two objects are written at the same time:
//!
//! - the *outcome* of the id, created only if there is none: the record with all small values (`pack.rs`),
//!   and the place in the log;
//! - a *segment* of the log of this process, with the record. Commits that come while segments are under way
//!   share the next one (`log.rs`).
//!
//! The client is told when both are confirmed: one round trip. Values too large to be packed are written
//! before. An aborted id has an outcome that says so. The first outcome wins, since an object is created
//! once; who is told that there is one reads it, and so finds out if an attempt of its own, of which the
//! answer was lost, was the first.
//!
//! **A log entry counts if the outcome of its id names its place.** So whichever of the two lands first, and
//! however late the other one, nobody takes for committed what is not:
//!
//! | landed | what it is |
//! | --- | --- |
//! | the entry only | nothing, until the outcome lands, or another one does (`settle_aborted`, by whoever asks) |
//! | the outcome only | a commit of which nobody was told. Whoever asks for it waits a moment for the entry, then enters the commit into its own log and names that place in the outcome, under the condition that it is as it was read; then the answer is given |
//! | both | committed |
//!
//! The second row is what makes it possible to write both at once: what was answered is always in a log, also
//! if its writer died in the middle. If the first entry lands after all, it does not count any more.
//! No clock is read for any of this, nobody has to be declared dead, and nothing is waited for.
//!
//! One log for all would have to be appended to by conditional writes of one name, one after the other. An
//! outcome cannot be found by its name, which is that of an id; and who lists names behind the last one that
//! was seen misses what lands later under a smaller one. Hence logs of processes.
//!
//! # Reading the logs
//!
//! A follower lists the segments of all logs, a thousand in a request, and reads those that it has not seen
//! (`follow.rs`). As it compares names and does not go on behind the last one, nothing is missed that lands
//! late. The outcome of an entry need not be read if the entry is *settled*: each segment says up to which
//! number its writer knows of all entries that they took effect or were taken out, and has them confirmed. So
//! only the last segments of a log cost more than themselves, once for each follower.
//! What is said of that counts for segments that are read after it was said.
//!
//! Entries go with their commits, segments with their entries, and small neighbours are merged (`merge.rs`).
//! So listing and reading cost by what is live and not by what ever was.
//!
//! # What it costs
//!
//! | | requests |
//! | --- | --- |
//! | commit | 1 PUT, and a share of 1 PUT: at most about 2 for each time that a PUT takes, of one sidecar. A PUT more for each large value |
//! | read of a version that is not cached | 1 GET, 2 if it is large; one for all small ones of a commit |
//! | each sidecar, each second | 1 LIST for each 1000 segments; 1 GET for each new segment of others, 1 for each of its entries that is not settled |
//! | deletion of a version | 1 GET, 1 PUT; with the last one of a commit 1 GET and 1 PUT for its segment, which go together for all that is deleted at once |
//! | key that leaves the index | 1 GET, 1 PUT |
//!
//! Alternatives: the entry before the outcome costs the same and takes twice as long. An object for each
//! version, named by its key, makes the newest version of a key easy to find and costs *n* PUTs more.
//! A segment that is written again with each entry is one name, but two PUTs at once to one name are
//! two chances to lose what was acknowledged.
//!
//! # What is deleted
//!
//! A version in an outcome goes when the outcome is written again without it, on the condition that nobody
//! else has changed it. With the last one the outcome becomes what remains: that the id was committed, and
//! when. S3 does not know of names that were deleted, so a write that is still under way then could make the
//! object again. Of outcomes that is prevented by keeping what remains far longer than a signed request is
//! valid (15 minutes). A segment that comes back so holds commits that are superseded; nodes find that out,
//! collect them again, and sweeps take it away.

mod bucket;
mod call;
mod clock;
mod collect;
mod commit;
mod connect;
mod follow;
mod log;
mod merge;
mod names;
mod newest;
mod original;
mod pack;
mod position;
mod read;
mod segment;
mod sweep;
mod usage;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use self::bucket::Bucket;
pub use self::connect::{Credentials, OpenError, Place};
use self::log::OwnLog;
use self::merge::Merges;
use self::newest::Newest;
use self::original::Original;
use self::sweep::Cursor;
use super::{
    CommitBatch, Garbage, LogPage, LogPosition, LogScope, PlainValue, Storage, StorageError, Sweep,
    Swept, Usage,
};
use crate::txn::{BaseId, Commit, Key, Outcome, Version};

/// How to use a bucket.
#[derive(Debug, Clone)]
pub struct S3Options {
    /// Where it is.
    pub place: Place,
    /// This node's address, for people who look at the bucket.
    pub node: String,
    /// A number that no other process has, nor had.
    pub incarnation: u64,
    /// The longest that others take to list what is in the bucket.
    pub listing_max: Duration,
    /// Read what the original AFT left in the bucket.
    pub original: bool,
}

/// The longest that a process takes to list a bucket, as all processes that use it assume.
pub const LISTING_MAX: Duration = Duration::from_secs(30);

/// A [`Storage`] in a bucket of S3.
#[derive(Debug)]
pub struct S3Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    bucket: Bucket,
    log: OwnLog,
    newest: Newest,
    merges: Merges,
    original: Option<Original>,
    cursor: tokio::sync::Mutex<Cursor>,
}

impl S3Store {
    /// Opens the bucket.
    ///
    /// # Errors
    /// [`OpenError`]; of its kinds, only [`OpenError::Away`] may go away by itself.
    pub async fn open(options: S3Options) -> Result<Self, OpenError> {
        let S3Options { place, node, incarnation, listing_max, original } = options;
        let (bucket, whole) = place.connect(incarnation).await?;
        let inner = Inner {
            bucket,
            log: OwnLog::new(names::log(incarnation, &node)),
            newest: Newest::default(),
            merges: Merges::new(listing_max),
            original: original.then(|| Original::new(whole)),
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
impl Storage for S3Store {
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
        self.run(|inner| async move { inner.versions(&wanted).await }).await
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

    async fn set_heads(&self, newest: &[(Key, Arc<Commit>)]) -> Result<(), StorageError> {
        let newest = newest.to_vec();
        self.run(|inner| async move { inner.set_heads(&newest).await }).await
    }

    async fn collect(&self, garbage: &Garbage) -> Result<(), StorageError> {
        let garbage = garbage.clone();
        self.run(|inner| async move { inner.collect(&garbage).await }).await
    }

    async fn sweep(&self, sweep: &Sweep) -> Result<Swept, StorageError> {
        let sweep = *sweep;
        self.run(move |inner| async move { inner.sweep(&sweep).await }).await
    }

    /// Each look lists, and pays for, the whole bucket.
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
                Some(original) => original.values(&keys).await,
                None => Ok(vec![None; keys.len()]),
            }
        })
        .await
    }

    async fn usage(&self) -> Result<Usage, StorageError> {
        self.run(|inner| async move { inner.usage().await }).await
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        self.inner.bucket.caller.counters()
    }

    async fn close(&self) {
        if let Err(error) = self.run(|inner| async move { inner.tend().await }).await {
            // What is missing in the log is entered by whoever asks for it.
            tracing::info!("the commit log is left as it is: {error}");
        }
    }
}

impl Inner {
    async fn tend(&self) -> Result<(), StorageError> {
        self.log.flush_all(&self.bucket).await?;
        self.end_doubts().await?;
        self.log.drop_lost(&self.bucket).await?;
        self.merge_own().await
    }
}
