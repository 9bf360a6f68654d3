//! What the state machine wants done, and the answers it gives.

use std::sync::Arc;

use bytes::Bytes;

use super::event::{OpId, Ticket};
use super::peer::{Address, PeerMessage, Token};
use super::refusal::Refusal;
use crate::storage::{CommitBatch, Garbage, LatticeType, Sweep};
use crate::txn::{AttemptId, BaseId, Commit, Key, Version};

/// Something for the driver to do, in the order given.
#[derive(Debug)]
pub enum Effect {
    /// Answer a request.
    Reply {
        /// Which request.
        ticket: Ticket,
        /// With what.
        answer: Answer,
    },
    /// Ask the store; hand the result in as [`Event::Stored`](super::Event::Stored).
    Store {
        /// Names the result.
        op: OpId,
        /// What to ask.
        ask: Ask,
    },
    /// Send a message to another node. It may be lost.
    Send {
        /// Which.
        to: Address,
        /// What.
        message: PeerMessage,
    },
    /// A commit of another node is too far ahead of this node's clock to be read. For counters and logs;
    /// nothing needs to be done.
    Quarantined(Arc<Commit>),
    /// An attempt has begun to write: the store may prepare for its commit. Nothing needs to be done.
    Expect(BaseId),
    /// An attempt ended. For counters and histories; nothing needs to be done.
    Ended {
        /// The attempt.
        attempt: AttemptId,
        /// How.
        end: End,
    },
}

/// What is asked of the store: the calls of [`Storage`](crate::storage::Storage), as data. Each may be
/// repeated as it is.
#[derive(Debug, Clone)]
pub enum Ask {
    /// Make a transaction durable.
    Commit(CommitBatch),
    /// Settle an id as aborted.
    SettleAborted(BaseId),
    /// Look up the outcome of an id.
    Outcome(BaseId),
    /// Read values of versions.
    Versions(Vec<(Key, Version)>),
    /// Look up plain keys.
    Plain(Vec<Key>),
    /// Merge values into plain keys.
    Merge(Vec<(Key, LatticeType, Bytes)>),
    /// Look up the newest versions of keys.
    Heads(Vec<Key>),
    /// Make sure that these are found as the newest versions.
    SetHeads(Vec<(Key, Arc<Commit>)>),
    /// Delete versions that nobody needs.
    Collect(Arc<Garbage>),
    /// Look through a part of the store for what is old.
    Sweep(Sweep),
    /// Publish a committed value under its plain key.
    Publish {
        /// The key.
        key: Key,
        /// The committed version.
        version: Version,
        /// Its value.
        value: Bytes,
    },
}

/// How an attempt ended.
#[derive(Debug, Clone)]
pub enum End {
    /// Its writes took effect.
    Committed(Arc<Commit>),
    /// It committed without having written.
    ReadOnly,
    /// Another node has ended it.
    Elsewhere,
    /// It took no effect.
    Aborted(Refusal),
}

/// The answer to a request.
#[derive(Debug, Clone)]
pub enum Answer {
    /// To a start: the attempt to work under.
    Started(AttemptId),
    /// To a start that brought an id, to a commit or an abort: the id is decided.
    Decided {
        /// The attempt that was asked for, or the base id.
        id: String,
        /// Whether it took effect.
        committed: bool,
        /// Why not, if more is known than that it did not.
        why: Option<Refusal>,
        /// Shows the commit to other nodes, if there is one.
        token: Option<Token>,
    },
    /// To a start, commit or abort: no decision can be told. Not a statement about the outcome.
    Undecided {
        /// The attempt that was asked for; empty if none was begun.
        id: String,
        /// Why.
        why: Refusal,
    },
    /// To a get: one entry per key.
    Values(Vec<ReadValue>),
    /// To a put: one entry per write.
    Written(Vec<Result<(), Refusal>>),
    /// To a continue: the attempt may go on here.
    Continued,
    /// To a get, put or continue: it was not done.
    Refused(Refusal),
}

/// One key's part of the answer to a get.
#[derive(Debug, Clone)]
pub struct ReadValue {
    /// The value; none if the key has none.
    pub value: Option<Bytes>,
    /// Where the value comes from.
    pub source: Source,
}

/// Where a value that was read comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// The transaction's own last write.
    OwnWrite,
    /// A committed version.
    Committed(Version),
    /// A value that was written past the sidecars, with its last-writer-wins timestamp.
    Foreign(u64),
    /// A value of another lattice, serialized.
    Lattice(LatticeType),
    /// The key has no value.
    Nothing,
}
