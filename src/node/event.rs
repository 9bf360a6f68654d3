//! What reaches the state machine.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::peer::{Address, PeerMessage, Token};
use crate::storage::{LatticeType, PlainValue, StorageError, Swept};
use crate::txn::{AttemptId, BaseId, Commit, Key, Outcome};

/// The time at which an event is handled. The node has no clock of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Nanoseconds since the Unix epoch. May jump either way.
    pub wall_ns: u64,
    /// Time since some fixed moment. Never goes back. All durations are measured on it.
    pub elapsed: Duration,
}

/// Names a request until it is answered, which happens once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// A request for an outcome, which may have to go to several places before it is answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) ticket: Ticket,
    /// When it came. It is answered in time, wherever it went.
    pub(super) at: Duration,
}

/// Names something that was asked of the store until its result is handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OpId(pub u64);

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// A client begins a transaction, or tries again at one of its own naming.
    Start {
        /// Names the request.
        ticket: Ticket,
        /// The id that the client brought.
        id: Option<BaseId>,
        /// Commits that the transaction must be able to read.
        after: Vec<Token>,
    },
    /// A client reads keys, all of them as of one moment.
    Get {
        /// Names the request.
        ticket: Ticket,
        /// The running transaction; none to read outside of any.
        txn: Option<AttemptId>,
        /// The keys, in the order in which they are answered.
        keys: Vec<Key>,
    },
    /// A client writes keys.
    Put {
        /// Names the request.
        ticket: Ticket,
        /// The running transaction; none to write and commit at once.
        txn: Option<AttemptId>,
        /// The writes, in the order in which they are answered.
        writes: Vec<(Key, Bytes)>,
    },
    /// A client wants a running transaction to take effect, or asks how one ended.
    Commit {
        /// Names the request.
        ticket: Ticket,
        /// The attempt.
        txn: AttemptId,
        /// Nodes where parts of it ran, which are to be merged before.
        addresses: Vec<Address>,
    },
    /// A client wants a running transaction undone.
    Abort {
        /// Names the request.
        ticket: Ticket,
        /// The attempt.
        txn: AttemptId,
    },
    /// A client goes on here with a transaction that ran on another node.
    Continue {
        /// Names the request.
        ticket: Ticket,
        /// The attempt.
        txn: AttemptId,
        /// The node where it ran, as that node names itself.
        upstream: Address,
    },
    /// A client merges values of other lattices than last-writer-wins, outside of any transaction.
    Merge {
        /// Names the request.
        ticket: Ticket,
        /// Key, lattice type and serialized lattice, in the order in which they are answered.
        values: Vec<(Key, LatticeType, Bytes)>,
    },
    /// Commits of others were found in the store.
    Learned(Vec<Arc<Commit>>),
    /// The driver begins to look through the store's log for what others committed.
    LogIsBeingRead,
    /// It has come to the end, and has handed in all that it found.
    LogWasRead,
    /// These are all nodes from here on; this one may be among them.
    Members(Vec<Address>),
    /// These are told of all commits, too, and are no nodes.
    Listeners(Vec<Address>),
    /// A message of another node.
    Peer(PeerMessage),
    /// The store's answer to an effect.
    Stored {
        /// Names what was asked.
        op: OpId,
        /// What came of it.
        result: StoreResult,
    },
    /// Time passed; deadlines may have.
    Tick,
    /// No new transactions from here on; those that run may end.
    Drain,
}

/// What came of something that was asked of the store.
#[derive(Debug)]
pub enum StoreResult {
    /// Of [`Ask::Commit`](super::Ask::Commit) and [`Ask::SettleAborted`](super::Ask::SettleAborted):
    /// the outcome that counts.
    Decided(Result<Outcome, StorageError>),
    /// Of [`Ask::Outcome`](super::Ask::Outcome).
    Outcome(Result<Option<Outcome>, StorageError>),
    /// Of [`Ask::Versions`](super::Ask::Versions).
    Versions(Result<Vec<Option<Bytes>>, StorageError>),
    /// Of [`Ask::Plain`](super::Ask::Plain).
    Plain(Result<Vec<Option<PlainValue>>, StorageError>),
    /// Of [`Ask::Merge`](super::Ask::Merge), one result per value.
    Merged(Vec<Result<(), StorageError>>),
    /// Of [`Ask::Heads`](super::Ask::Heads), one for each key.
    Heads(Result<Vec<Option<Arc<Commit>>>, StorageError>),
    /// Of [`Ask::SetHeads`](super::Ask::SetHeads) and [`Ask::Collect`](super::Ask::Collect).
    Done(Result<(), StorageError>),
    /// Of [`Ask::Sweep`](super::Ask::Sweep).
    Swept(Result<Swept, StorageError>),
    /// Of [`Ask::Publish`](super::Ask::Publish).
    Published(Result<(), StorageError>),
}
