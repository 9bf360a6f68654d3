//! Read-atomic reading with one of its two checks left out. For showing that the judge has teeth.

use crate::txn::{Choice, Consistency, Key, Known, LastWriterWins, Pinned, ReadSet};

/// Ignores what earlier reads demand: may return a version older than a co-written one read before.
#[derive(Debug, Clone, Copy)]
pub struct NoLowerBound;

impl Consistency for NoLowerBound {
    fn choose(&self, key: &Key, known: Known<'_>, reads: &ReadSet) -> Choice {
        if let Some(Pinned::Committed(commit)) = reads.pinned(key) {
            return Choice::Committed(commit.clone());
        }
        // Without the bound the oldest fitting version is as good as any.
        let fitting = known.versions.iter().find(|commit| !reads.fractured_by(commit, key));
        fitting.map_or(Choice::NoCommitted, |commit| Choice::Committed(commit.clone()))
    }
}

/// Ignores what was read before: may return a version whose co-written keys were read too old.
#[derive(Debug, Clone, Copy)]
pub struct NoUpperCheck;

impl Consistency for NoUpperCheck {
    fn choose(&self, key: &Key, known: Known<'_>, reads: &ReadSet) -> Choice {
        match reads.pinned(key) {
            Some(Pinned::Committed(commit)) => Choice::Committed(commit.clone()),
            _ => LastWriterWins.choose(key, known, reads),
        }
    }
}
