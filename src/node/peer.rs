//! What nodes say to each other.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::txn::{AttemptId, Commit, Key, Pinned, Timestamp};

/// How a node is called: `IP`, or `IP:OFFSET`. An answer may also go to an endpoint.
pub type Address = Arc<str>;

/// One life of one node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// The node.
    pub node: Address,
    /// Tells its lives apart.
    pub incarnation: Arc<str>,
}

/// A message from one node to another. Any may be lost, late, or come twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerMessage {
    /// What the sender committed.
    Commits(Batch),
    /// Some of what the receiver committed did not arrive.
    Resend(Resend),
    /// What others committed and did not tell.
    Found(Found),
    /// When does nobody need any more what is superseded?
    Grace(Grace),
    /// The answer to that: now.
    Graced(Graced),
    /// A transaction goes on at another node, which needs to know what it has done.
    HandOver(HandOver),
    /// The answer to that.
    HandedOver(HandedOver),
    /// A transaction reads a key that it wrote on another node.
    Query(Query),
    /// The answer to that.
    Queried(Queried),
    /// A transaction is about to commit.
    Collect(Collect),
    /// The answer to that.
    Collected(Collected),
    /// A transaction is over.
    Over(Over),
    /// Somebody asks for a commit at a node from which the transaction has gone on.
    Forward(Forward),
    /// The answer to that.
    Forwarded(Forwarded),
}

/// Commits of one origin, which counts its commits from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Who committed.
    pub origin: Origin,
    /// The first number that this is about.
    pub first: u64,
    /// The last one. One less than `first` if nothing is new.
    pub last: u64,
    /// Numbers up to this one are not told any more: they stand in the store's log.
    pub in_log_to: u64,
    /// Later commits of others cannot be read there yet, by its clock; 0 if it does not say.
    pub readable_to: Timestamp,
    /// The commits. Those of the numbers that are missing were overwritten by later ones, key by key.
    pub commits: Vec<Arc<Commit>>,
}

/// A question for commits that were not received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resend {
    /// Who asks.
    pub asker: Address,
    /// The life of the node that is asked.
    pub incarnation: Arc<str>,
    /// The first number asked for.
    pub first: u64,
    /// The last one.
    pub last: u64,
}

/// Commits that a manager found in the store's log, since nobody told it of them in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The manager.
    pub manager: Address,
    /// The commits, of any origin.
    pub commits: Vec<Arc<Commit>>,
}

/// Asks a node to answer when it knows all that the asker knows now, and all transactions have ended that
/// began there before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grace {
    /// Who asks.
    pub asker: Origin,
    /// Names the question to its asker; later ones have greater numbers.
    pub number: u64,
}

/// The answer to [`Grace`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graced {
    /// Who answers.
    pub node: Address,
    /// The life of the asker in which it asked.
    pub incarnation: Arc<str>,
    /// Which question.
    pub number: u64,
    /// Later commits cannot be read there yet, as its clock is behind.
    pub readable_to: Timestamp,
}

/// What a transaction has done so far, on all nodes where it ran, as one of them knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// What it read. Each commit comes with its whole write set, so that the next node can keep to it
    /// whether it has heard of that commit or not.
    pub reads: Vec<(Key, Pinned)>,
    /// Keys that it found to have no value.
    pub missing: Vec<Key>,
    /// What it wrote, and where the value is.
    pub writes: Vec<(Key, Holder)>,
    /// Where it ran.
    pub visited: Vec<Visit>,
    /// How many nodes it came through, on the longest way.
    pub depth: u32,
    /// With it goes the right to the first proposal of a commit, which the sender gives up.
    pub first_say: bool,
    /// How long ago it began, at most.
    pub age: Duration,
}

/// Where a value that a running transaction wrote is kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder {
    /// How many nodes the transaction had come through when it wrote it.
    pub depth: u32,
    /// Who keeps it.
    pub origin: Origin,
}

/// What a transaction did on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visit {
    /// Which node.
    pub origin: Origin,
    /// How many requests it made there that read or wrote.
    pub steps: u64,
    /// How many of them wrote.
    pub puts: u64,
}

/// Asks for the [`View`] of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandOver {
    /// Where the answer goes.
    pub reply_to: Address,
    /// Who asks; not known of the original's nodes.
    pub asker: Option<Origin>,
    /// Names the question to its asker; later ones have greater numbers.
    pub number: u64,
    /// The transaction.
    pub attempt: AttemptId,
}

/// The answer to [`HandOver`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandedOver {
    /// Who answers.
    pub from: Origin,
    /// The number of the question; 0 from the original's nodes.
    pub number: u64,
    /// The transaction.
    pub attempt: AttemptId,
    /// What it has done, or why it cannot go on.
    pub view: Result<View, String>,
}

/// Asks for a buffered value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Where the answer goes.
    pub reply_to: Address,
    /// Names the question to its asker.
    pub number: u64,
    /// The life of the node that is asked; empty if the asker does not care.
    pub incarnation: Arc<str>,
    /// How many requests of the transaction that wrote there are known to the asker. What was written
    /// later is of a branch that the asker has not merged.
    pub puts: u64,
    /// The transaction.
    pub attempt: AttemptId,
    /// The key.
    pub key: Key,
}

/// The answer to [`Query`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queried {
    /// The number of the question.
    pub number: u64,
    /// The key.
    pub key: Key,
    /// The transaction.
    pub attempt: AttemptId,
    /// The value; none if it is not here.
    pub value: Option<Bytes>,
    /// Who has it instead, as far as is known.
    pub pointer: Option<Address>,
}

/// Asks for all that a transaction wrote at a node. From then on it writes no more there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collect {
    /// Where the answer goes.
    pub reply_to: Address,
    /// Who is about to commit.
    pub coordinator: Origin,
    /// Names the question to its asker.
    pub number: u64,
    /// The transaction.
    pub attempt: AttemptId,
    /// What is known of it there. If there is more, the transaction must not commit.
    pub visit: Visit,
    /// Which of the values are needed.
    pub keys: Vec<Key>,
    /// The client has named the node: what happened there since has to be merged, also if nothing was
    /// written.
    pub is_named: bool,
}

/// The answer to [`Collect`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collected {
    /// The number of the question.
    pub number: u64,
    /// The values of the keys, in their order, or why the transaction must not commit.
    pub values: Result<Vec<Bytes>, String>,
}

/// Tells how a transaction ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Over {
    /// Who tells.
    pub from: Address,
    /// The transaction.
    pub attempt: AttemptId,
    /// What it wrote, if it took effect and wrote; none if it did not take effect.
    pub end: Option<Option<Arc<Commit>>>,
}

/// Asks a node to which a transaction has gone on to commit it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// Where the answer goes.
    pub reply_to: Address,
    /// Names the question to its asker.
    pub number: u64,
    /// The transaction.
    pub attempt: AttemptId,
    /// Nodes whose branches are to be merged before.
    pub addresses: Vec<Address>,
    /// Over how many nodes this came.
    pub hops: u32,
}

/// The answer to [`Forward`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarded {
    /// The number of the question.
    pub number: u64,
    /// Whether it took effect, if that is known.
    pub committed: Option<bool>,
    /// Why not.
    pub why: Option<String>,
    /// Shows the commit to other nodes, if there is one.
    pub token: Option<Token>,
}

/// Names a commit to another node, which may not have heard of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The transaction that committed.
    pub attempt: AttemptId,
    /// Who committed it, and as which of its commits, if whoever gave the token knew.
    pub place: Option<(Origin, u64)>,
}
