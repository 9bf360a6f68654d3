//! What remains of an outcome when its commit was collected: that there was one, and when.
//!
//! It is kept as a commit without keys, which nothing else is, until nobody may ask for its id any more.

use std::sync::Arc;

use crate::txn::{BaseId, Commit, Outcome, Timestamp};

/// What remains of the outcome of a collected commit.
pub(super) fn of(commit: &Commit) -> Outcome {
    Outcome::Committed(of_commit(commit))
}

/// What remains of a collected commit.
pub(super) fn of_commit(commit: &Commit) -> Arc<Commit> {
    Arc::new(Commit::new(commit.version.clone(), Vec::new(), commit.replica.clone()))
}

/// Whether an outcome names no version.
pub(super) fn is_only(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Committed(commit) => commit.keys.is_empty(),
        Outcome::Aborted => true,
    }
}

/// Whether an outcome may be forgotten. An aborted one is as old as its id tells; ids that do not tell
/// (clients may choose them) are kept.
pub(super) fn is_old(id: &BaseId, outcome: &Outcome, before: Timestamp) -> bool {
    match outcome {
        Outcome::Committed(commit) => commit.keys.is_empty() && commit.version.timestamp < before,
        Outcome::Aborted => id.created_ns().is_some_and(|made| made < before.0),
    }
}
