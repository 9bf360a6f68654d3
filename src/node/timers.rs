//! What is to happen when: deadlines, repetitions, idle limits.

use super::event::{OpId, Ticket};
use crate::txn::AttemptId;

/// Something that is due at some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Timer {
    /// Look whether the attempt was left by its client.
    Attempt(AttemptId),
    /// A request has waited long enough for the outcome of an attempt.
    Waiter(AttemptId, Ticket),
    /// A request has waited long enough for the store.
    Deadline(OpId),
    /// Ask the store again.
    Again(OpId),
    /// Look whether commits from the future may be believed by now.
    Quarantine,
    /// Ask another node again.
    CallAgain(u64),
    /// Another node has not answered in time.
    CallDeadline(u64),
    /// Tell other nodes what is new.
    Gossip,
    /// Look for garbage.
    Collect,
    /// Go on dropping garbage, and with a sweep.
    CollectPart,
    /// Tell those who only listen that this node is there.
    Heartbeat,
}
