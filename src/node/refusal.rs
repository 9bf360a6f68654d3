//! Why something that was asked for is not done, and what the asker should do about it.

use std::sync::Arc;
use std::time::Duration;

use crate::storage::{LatticeType, StorageError};
use crate::txn::{AttemptId, Key};

/// What to do about a [`Refusal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// The attempt is over and took no effect: begin again, under the same id if there is one.
    Retry,
    /// The call is wrong and stays wrong: correct it.
    Correct,
    /// The store or the node cannot do it now: ask again later.
    Later,
    /// It took too long: the same request may be repeated.
    Repeat,
    /// Whether the transaction took effect is not known yet: ask again with its id.
    AskAgain,
}

/// A reason, in the words that a user reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nothing is known of the attempt.
    #[error(
        "no such transaction runs on this node: it ended, timed out, or was lost in a restart; start it again"
    )]
    Unknown,
    /// A newer attempt of the same id has taken over.
    #[error("a newer attempt of this transaction id has taken over; this one has no effect")]
    Fenced,
    /// The client ended it.
    #[error("the transaction was aborted by its client; start it again to go on")]
    AbortedByClient,
    /// Nobody used it for too long.
    #[error("the transaction was idle for {0:?} and was aborted; start it again")]
    Idle(Duration),
    /// It ran for too long.
    #[error("the transaction ran for {0:?}, longer than one may, and was aborted; start it again")]
    Lifetime(Duration),
    /// Every known version of the key would show a fraction of some transaction.
    #[error(
        "no version of {0} fits what this transaction has read; it was aborted, start it again"
    )]
    NoFit(Key),
    /// The version of the key that fits was collected as garbage.
    #[error(
        "the fitting version of {0} is no longer stored; the transaction was aborted, start it again"
    )]
    Collected(Key),
    /// A foreign value changed between two reads of one transaction.
    #[error(
        "{0}, which is written past the sidecar, changed since this transaction read it; the transaction was aborted, start it again"
    )]
    ForeignChanged(Key),
    /// The store refused the commit.
    #[error("the commit could not be stored and the transaction was aborted: {0}")]
    NotStored(StorageError),
    /// The transaction was part of another node's life, which is over.
    #[error(
        "node {0} has restarted since this transaction began, or forgotten what ended there, so that what it did there may be lost; start it again"
    )]
    Restarted(Arc<str>),
    /// A value that the transaction wrote cannot be had.
    #[error(
        "what this transaction wrote to {0} is lost on node {1}; it was aborted, start it again"
    )]
    LostWrite(Key, Arc<str>),
    /// A node that is needed does not answer.
    #[error("node {0}, where a part of this transaction is, does not answer; start it again")]
    Silent(Arc<str>),
    /// Another node says no.
    #[error("node {0} says: {1}")]
    Elsewhere(Arc<str>, String),
    /// Another node has ended it.
    #[error("the transaction was ended at node {0}; start it again")]
    EndedElsewhere(Arc<str>),
    /// Two branches of the transaction do not fit together.
    #[error(
        "the branches of this transaction read {0} so that together they would show a fraction of another one; it was aborted, start it again"
    )]
    Fractured(Key),
    /// A branch went on after it was merged.
    #[error(
        "this transaction wrote on node {0} after it had gone on from there; only what is handed on can be committed"
    )]
    LatePut(Arc<str>),
    /// The transaction read what this node may not read yet.
    #[error(
        "the transaction read at node {0} what is far ahead of this machine's clock (clock-bound); set the clocks and start it again"
    )]
    FromTheFuture(Arc<str>),
    /// An outcome of the id was stored by somebody else first.
    #[error("the transaction id is settled as aborted; go on under a new id")]
    SettledAborted,

    /// Another write of the same request was refused.
    #[error("another write of this request was refused, so none of it was done")]
    Sibling,
    /// The transaction has committed.
    #[error("the transaction has committed already; begin a new one")]
    AlreadyCommitted,
    /// The transaction's commit is under way.
    #[error("the transaction is being committed; its reads and writes are over")]
    Committing,
    /// The value is too large.
    #[error("the value has {bytes} bytes, at most {max} are allowed (value-bytes-max)")]
    ValueTooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The transaction would hold too much.
    #[error(
        "the transaction would hold {bytes} bytes of writes, at most {max} are allowed (txn-bytes-max)"
    )]
    TransactionTooLarge {
        /// The size it would have.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The transaction would write too many keys.
    #[error("the transaction has written {max} keys, no more are allowed")]
    TooManyKeys {
        /// The limit.
        max: usize,
    },
    /// The id is older than outcomes are kept.
    #[error(
        "the id was made more than {0:?} ago; how it ended is no longer known, so it cannot be retried safely"
    )]
    TooOld(Duration),
    /// The node that was named cannot be asked.
    #[error(
        "node {0} is not a peer of this node, so the transaction cannot be continued from there"
    )]
    NoSuchPeer(Arc<str>),

    /// All running transactions together hold too much.
    #[error(
        "the transactions that run here hold all {max} bytes of buffer (buffer-bytes-max); try again later"
    )]
    BuffersFull {
        /// The limit.
        max: usize,
    },
    /// Too many transactions run.
    #[error("{max} transactions run here, no more are allowed (txn-max); try again later")]
    TooManyTransactions {
        /// The limit.
        max: usize,
    },
    /// The node is going down.
    #[error("this sidecar is shutting down and begins no new transactions")]
    Draining,
    /// The store did not answer usefully.
    #[error("{0}; try again later")]
    Storage(StorageError),
    /// The store did not answer in time.
    #[error("the store did not answer within {0:?}; ask again")]
    Deadline(Duration),

    /// The outcome is not known yet.
    #[error("the outcome is not known yet; ask again with the same id")]
    Undecided,
    /// The key holds a value of another lattice than last-writer-wins.
    #[error(
        "{0} holds a value of lattice type {kind}, which can only be read outside of transactions",
        kind = .1.as_str_name()
    )]
    OtherLattice(Key, LatticeType),
    /// A commit that is to be seen cannot be read here yet.
    #[error(
        "the commit {0} that this transaction is to see cannot be read on this node yet; try again later"
    )]
    NotReadable(AttemptId),
    /// Another attempt of the id runs, so the id's outcome is open.
    #[error(
        "a newer attempt of this transaction id runs, this one has no effect; the id's outcome is open, ask again"
    )]
    Superseded,
}

impl Refusal {
    /// What the asker should do.
    pub fn advice(&self) -> Advice {
        match self {
            Self::Unknown
            | Self::Fenced
            | Self::AbortedByClient
            | Self::Idle(_)
            | Self::Lifetime(_)
            | Self::NoFit(_)
            | Self::Collected(_)
            | Self::ForeignChanged(_)
            | Self::NotStored(_)
            | Self::Restarted(_)
            | Self::LostWrite(..)
            | Self::Silent(_)
            | Self::Elsewhere(..)
            | Self::EndedElsewhere(_)
            | Self::Fractured(_)
            | Self::LatePut(_)
            | Self::FromTheFuture(_)
            | Self::SettledAborted => Advice::Retry,
            Self::Sibling
            | Self::AlreadyCommitted
            | Self::Committing
            | Self::ValueTooLarge { .. }
            | Self::TransactionTooLarge { .. }
            | Self::TooManyKeys { .. }
            | Self::TooOld(_)
            | Self::OtherLattice(..)
            | Self::NoSuchPeer(_) => Advice::Correct,
            Self::BuffersFull { .. }
            | Self::TooManyTransactions { .. }
            | Self::Draining
            | Self::NotReadable(_)
            | Self::Storage(_) => Advice::Later,
            Self::Deadline(_) => Advice::Repeat,
            Self::Undecided | Self::Superseded => Advice::AskAgain,
        }
    }

    /// A short name, for counters.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Fenced => "fenced",
            Self::AbortedByClient => "client",
            Self::Idle(_) => "idle",
            Self::Lifetime(_) => "lifetime",
            Self::NoFit(_) => "no_fit",
            Self::Collected(_) => "collected",
            Self::ForeignChanged(_) => "foreign_changed",
            Self::NotStored(_) => "not_stored",
            Self::Restarted(_) => "restarted",
            Self::LostWrite(..) => "lost_write",
            Self::Silent(_) => "silent",
            Self::Elsewhere(..) => "elsewhere",
            Self::EndedElsewhere(_) => "ended_elsewhere",
            Self::Fractured(_) => "fractured",
            Self::LatePut(_) => "late_put",
            Self::FromTheFuture(_) => "from_the_future",
            Self::NotReadable(_) => "not_readable",
            Self::SettledAborted => "settled_aborted",
            Self::Sibling => "sibling",
            Self::AlreadyCommitted => "already_committed",
            Self::Committing => "committing",
            Self::ValueTooLarge { .. } => "value_too_large",
            Self::TransactionTooLarge { .. } => "transaction_too_large",
            Self::TooManyKeys { .. } => "too_many_keys",
            Self::TooOld(_) => "too_old",
            Self::NoSuchPeer(_) => "no_such_peer",
            Self::BuffersFull { .. } => "buffers_full",
            Self::TooManyTransactions { .. } => "too_many_transactions",
            Self::Draining => "draining",
            Self::Storage(_) => "storage",
            Self::Deadline(_) => "deadline",
            Self::Undecided => "undecided",
            Self::Superseded => "superseded",
            Self::OtherLattice(..) => "other_lattice",
        }
    }
}
