//! What nodes say to each other.

use std::sync::Arc;

use crate::txn::Commit;

/// How a node is called: `IP`, or `IP:OFFSET`.
pub type Address = Arc<str>;

/// One life of one node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// The node.
    pub node: Address,
    /// Tells its lives apart.
    pub incarnation: Arc<str>,
}

/// A message from one node to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerMessage {
    /// What the sender committed.
    Commits(Batch),
    /// Some of what the receiver committed did not arrive.
    Resend(Resend),
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
