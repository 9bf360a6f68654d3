//! Where versions and commits are kept: the [`Storage`] trait, one file per backend, and the
//! [`conformance`] suite that each backend passes.
//!
//! To add one, see `docs/adding-a-store.md`, whose worked example is `examples/store_in_a_file.rs`.
//!
//! A backend knows nothing of transactions that run. It makes versions and their commit durable
//! together, lets the first outcome of an id win, and hands the commits back in the order of its log.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::txn::{BaseId, Commit, Key, Outcome, Version};
pub(crate) use codec::{commit_of, record_of};

pub use crate::wire::anna::LatticeType;
pub use garbage::{Garbage, Share, Superseded, Sweep, Swept, Usage};

pub mod anna;
pub mod codec;
pub mod conformance;
#[cfg(feature = "dynamodb")]
pub mod dynamo;
pub mod embedded;
mod garbage;
pub mod memory;
#[cfg(any(feature = "redis", feature = "dynamodb"))]
mod original;
mod position;
#[cfg(any(feature = "dynamodb", feature = "s3"))]
mod ranges;
#[cfg(feature = "redis")]
pub mod redis;
mod remains;
#[cfg(feature = "s3")]
pub mod s3;

/// The largest value that any store takes, in bytes: a message may not exceed 2 GiB.
pub const VALUE_BYTES_MAX: usize = 1 << 30;

/// Why a storage operation did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// Nothing was written and nothing will be: the operation may be given up for good, unless it was
    /// asked for before without an answer. What became of that earlier call stays open.
    #[error("the store refused: {0}")]
    Refused(String),
    /// The same, and to ask again is of no use, as what is asked does not fit what the store holds or
    /// takes.
    #[error("the store cannot take it: {0}")]
    Unsuitable(String),
    /// It may or may not have been done. Repeating the identical operation is safe.
    #[error("the store did not confirm: {0}")]
    Unconfirmed(String),
    /// What was read cannot be understood.
    #[error("the store holds damaged data: {0}")]
    Damaged(String),
}

impl StorageError {
    /// Nothing was written and nothing will be.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Unsuitable(_))
    }
}

/// What a transaction makes durable.
#[derive(Debug, Clone)]
pub struct CommitBatch {
    /// The commit record.
    pub commit: Arc<Commit>,
    /// One value for each key of the commit's write set, in its order.
    pub values: Vec<Bytes>,
    /// This is the only proposal for the id of which that is said. The right to say so is with the first
    /// attempt at an id, in the process that made the id; it can be passed on with the attempt, to one
    /// process, which may be said to have it once. All others may still commit or settle the id. A
    /// store can use it to save steps; nothing is lost if it is not set.
    pub sole: bool,
}

/// A position in a store's commit log: everything before it was handed out. Opaque to all but the
/// backend that made it; the default is the beginning.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogPosition(pub Bytes);

/// A part of the commit log.
#[derive(Debug, Clone)]
pub struct LogPage {
    /// Commits in log order.
    pub commits: Vec<Arc<Commit>>,
    /// Where to go on.
    pub next: LogPosition,
    /// There is nothing behind `next` yet.
    pub end: bool,
}

/// Which part of the commit log is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogScope {
    /// All of it.
    All,
    /// What others than this process wrote.
    Others,
}

/// A value found under a user key's plain name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainValue {
    /// The last-writer-wins timestamp under which it is stored.
    pub timestamp: u64,
    /// The value; of other lattices than last-writer-wins, the serialized lattice.
    pub value: Bytes,
    /// How the store merges it with what others write.
    pub lattice: LatticeType,
    /// It was published by a sidecar after a commit, so it is not somebody else's.
    pub published: bool,
}

/// A durable store of versions and commits.
///
/// All operations are safe to repeat. Futures may be dropped; what they began may still happen.
#[async_trait]
pub trait Storage: Send + Sync + 'static {
    /// Makes the versions, the commit record, its log entry and the outcome of its id durable,
    /// unless the id has an outcome already: then nothing of the batch becomes visible.
    /// Answers the outcome that counts. The record is never durable before the versions.
    ///
    /// An id gets one outcome, however many processes commit or settle it at once, and however late
    /// anything arrives that was sent by one that died. Once an outcome was answered, here or elsewhere,
    /// all calls that begin afterwards answer it.
    async fn commit(&self, batch: CommitBatch) -> Result<Outcome, StorageError>;

    /// The outcome of an id, if it has one. If it has none, it may get one at any time by a commit that
    /// was sent before, also by a process that is dead.
    async fn outcome(&self, id: &BaseId) -> Result<Option<Outcome>, StorageError>;

    /// Makes `Aborted` the durable outcome of an id, unless it has one. Answers the outcome that
    /// counts.
    async fn settle_aborted(&self, id: &BaseId) -> Result<Outcome, StorageError>;

    /// The values of the versions asked for, in that order; `None` where there is no such version.
    async fn versions(&self, wanted: &[(Key, Version)])
    -> Result<Vec<Option<Bytes>>, StorageError>;

    /// The next commits of the log behind `position`, a bounded number of them. A position is good for
    /// the scope for which it was given.
    async fn commits_since(
        &self,
        position: &LogPosition,
        scope: LogScope,
    ) -> Result<LogPage, StorageError>;

    /// Whether the log tells commits in the order in which they were decided. Otherwise it does so for
    /// those of each of its parts.
    fn log_is_in_order(&self) -> bool {
        true
    }

    /// Whether the log tells of commits again, behind a position at which it has told of them, and for a while
    /// of such that were collected.
    fn log_tells_again(&self) -> bool {
        false
    }

    /// Whether other processes may append to the commit log while this one runs.
    fn is_shared(&self) -> bool {
        false
    }

    /// How long after its start a process should wait before it [clears up](Self::clear_up), since what
    /// a dead one sent may still land and could be left lying about. Nothing that is promised rests on
    /// it. `None` if nothing was under way.
    fn lands_within(&self) -> Option<Duration> {
        None
    }

    /// An id is in use: what can be found out beforehand for its commit may be.
    fn expect(&self, _id: &BaseId) {}

    /// Housekeeping, to be called about once a second.
    async fn tend(&self) -> Result<(), StorageError> {
        Ok(())
    }

    /// Clears up behind dead processes: takes over their logs and deletes what nobody will need. To be
    /// called once [`lands_within`](Self::lands_within) has passed, until it succeeds. Answers commits
    /// that they left and that were not in the log before. `wall_ns` is the time, in nanoseconds since
    /// the Unix epoch: what commits ahead of it overwrote is kept.
    async fn clear_up(&self, _wall_ns: u64) -> Result<Vec<Arc<Commit>>, StorageError> {
        Ok(Vec::new())
    }

    /// Whether garbage is collected here: [`heads`](Self::heads), [`collect`](Self::collect),
    /// [`sweep`](Self::sweep) and [`usage`](Self::usage) do what they say. Otherwise nodes keep all in
    /// memory and delete nothing.
    fn collects_garbage(&self) -> bool {
        false
    }

    /// The newest committed version of each key, in that order, as the commit that wrote it: at least as
    /// new as any that was handed to [`set_heads`](Self::set_heads), or superseded something that was
    /// [collected](Self::collect), before the call began. `None` where nothing was ever committed, as far as
    /// that tells. (Where heads come with each commit, also as new as any commit that was acknowledged.)
    async fn heads(&self, _keys: &[Key]) -> Result<Vec<Option<Arc<Commit>>>, StorageError> {
        Err(StorageError::Refused("this store does not tell the newest version of a key".into()))
    }

    /// Makes sure that [`heads`](Self::heads) finds these commits or newer ones. Nothing to do where a
    /// commit itself sees to that.
    async fn set_heads(&self, _newest: &[(Key, Arc<Commit>)]) -> Result<(), StorageError> {
        Ok(())
    }

    /// Deletes versions that nobody needs any more, with what remains of commits that have none left.
    /// What was deleted before is no error. Positions in the log stay good.
    async fn collect(&self, _garbage: &Garbage) -> Result<(), StorageError> {
        Ok(())
    }

    /// Looks through a further part of the store and deletes what is old enough. Where it was is
    /// remembered by this instance.
    async fn sweep(&self, _sweep: &Sweep) -> Result<Swept, StorageError> {
        Ok(Swept { end: true, ..Swept::default() })
    }

    /// How long to leave the store alone after it was looked through, unless an operator says otherwise.
    fn swept_each(&self) -> Duration {
        Duration::from_secs(600)
    }

    /// Counts what is there.
    async fn usage(&self) -> Result<Usage, StorageError> {
        Err(StorageError::Refused("this store does not count what it holds".into()))
    }

    /// Whether others than sidecars read and write user keys in this store under their plain names.
    /// Where nobody does, [`publish`](Self::publish) and [`plain`](Self::plain) are not called.
    fn has_plain_keys(&self) -> bool {
        false
    }

    /// Makes a committed value readable under its key's plain name, unless a newer one is there.
    async fn publish(
        &self,
        _key: &Key,
        _version: &Version,
        _value: &Bytes,
    ) -> Result<(), StorageError> {
        Ok(())
    }

    /// What stands under the plain names of keys, in that order.
    async fn plain(&self, keys: &[Key]) -> Result<Vec<Option<PlainValue>>, StorageError> {
        Ok(vec![None; keys.len()])
    }

    /// Merges a value of another lattice than last-writer-wins into a plain key.
    async fn merge(
        &self,
        _key: &Key,
        lattice: LatticeType,
        _payload: &Bytes,
    ) -> Result<(), StorageError> {
        Err(StorageError::Refused(format!(
            "this store does not merge values of lattice type {}",
            lattice.as_str_name()
        )))
    }

    /// Lets others know which user keys are cached on this node. Of two reports the one with the
    /// greater timestamp, in nanoseconds since the Unix epoch, stays.
    async fn advertise(&self, _cached: Vec<Key>, _wall_ns: u64) -> Result<(), StorageError> {
        Ok(())
    }

    /// What the way to the store has seen so far, by name, for people to look at.
    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    /// Ends background work and releases the store. Nothing may be asked of it afterwards.
    async fn close(&self) {}
}
