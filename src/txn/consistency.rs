//! Which committed version a read returns: the one decision that makes a consistency level.
//!
//! [`ReadAtomic`] is the level that AFT promises (Sreekanti et al., EuroSys 2020, section 3; Bailis et
//! al., SIGMOD 2014). [`LastWriterWins`] is what the store alone would give, for comparison and for
//! functions that want the newest value and nothing else.

use std::sync::Arc;

use super::{Commit, Key, Known, Pinned, ReadSet};

/// What a read of one key may return.
#[derive(Debug, Clone)]
pub enum Choice {
    /// The version that this commit wrote.
    Committed(Arc<Commit>),
    /// No committed version: a foreign value if there is one, else nothing.
    NoCommitted,
    /// There are versions, but each would show a fraction of some transaction next to what was read
    /// before. The transaction cannot go on.
    NoFit,
}

/// A consistency level. Implementations decide; the caller keeps the [`ReadSet`].
pub trait Consistency: Send {
    /// Chooses among the committed versions of `key` for a transaction that has read `reads`. The
    /// transaction's own writes were considered before.
    fn choose(&self, key: &Key, known: Known<'_>, reads: &ReadSet) -> Choice;

    /// Whether what is read binds later reads of the same transaction.
    fn binds_reads(&self) -> bool {
        true
    }
}

/// No fractions, no dirty reads, repeatable reads.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReadAtomic;

impl Consistency for ReadAtomic {
    fn choose(&self, key: &Key, known: Known<'_>, reads: &ReadSet) -> Choice {
        match reads.pinned(key) {
            Some(Pinned::Committed(commit)) => return Choice::Committed(commit.clone()),
            Some(Pinned::Foreign(_)) => return Choice::NoCommitted,
            None => {}
        }
        let lower = reads.lower(key);
        let newest_fitting = known
            .versions
            .iter()
            .rev()
            .take_while(|commit| lower.is_none_or(|bound| commit.version >= bound.version))
            .find(|commit| !reads.fractured_by(commit, key));
        // Below the floor there may be versions between the bound and those that do not fit.
        let lower = lower.filter(|bound| bound.version.timestamp >= known.floor);
        match (newest_fitting.or(lower), known.versions.first()) {
            (Some(commit), _) => Choice::Committed(commit.clone()),
            (None, None) => Choice::NoCommitted,
            (None, Some(oldest)) if !known.is_pruned && is_fresh(oldest, key) => {
                Choice::NoCommitted
            }
            (None, Some(_)) => Choice::NoFit,
        }
    }
}

/// The oldest version known is the first there ever was, so "nothing" is the version before it.
fn is_fresh(oldest: &Commit, key: &Key) -> bool {
    oldest.written(key).is_some_and(|written| written.fresh)
}

/// The newest committed version, whatever was read before.
#[derive(Debug, Clone, Copy, Default)]
pub struct LastWriterWins;

impl Consistency for LastWriterWins {
    fn choose(&self, _key: &Key, known: Known<'_>, _reads: &ReadSet) -> Choice {
        known
            .versions
            .last()
            .map_or(Choice::NoCommitted, |newest| Choice::Committed(newest.clone()))
    }

    fn binds_reads(&self) -> bool {
        false
    }
}
