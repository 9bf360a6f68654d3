//! What a store may forget, and what it says of what it holds.
//!
//! Garbage is deleted in two ways. A node that knows that nobody needs certain versions any more has them
//! [collected](super::Storage::collect) at once. Whatever is missed that way (by a restart, by a node
//! that had forgotten the key, by a writer that died) is found by [sweeping](super::Storage::sweep): all
//! of the store is looked through, bit by bit, and what is old enough goes.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::txn::{Commit, Key, Timestamp};

/// Versions that nobody needs any more.
#[derive(Debug, Clone, Default)]
pub struct Garbage {
    /// The commits that wrote them.
    pub superseded: Vec<Superseded>,
    /// For each of their keys a newer commit, the newest that the collector knows. A store whose
    /// [heads](super::Storage::heads) do not come with each commit makes these durable as heads before
    /// it deletes anything.
    pub newest: Vec<(Key, Arc<Commit>)>,
}

/// What goes of one commit.
#[derive(Debug, Clone)]
pub struct Superseded {
    /// The commit.
    pub commit: Arc<Commit>,
    /// The keys of which its version goes.
    pub keys: Vec<Key>,
    /// With these, all of its versions are superseded: its record and its log entry go as well. Of its
    /// outcome there remains that it was committed, when, and nothing of its write set.
    pub is_last: bool,
}

/// One of several parts into which the work on a store is divided, so that any number of processes can
/// share it without speaking to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Which part, from 0.
    pub part: u32,
    /// Of how many; at least 1.
    pub of: u32,
}

impl Share {
    /// All of it.
    pub const ALL: Self = Self { part: 0, of: 1 };

    /// Whether something of this name belongs to this part.
    pub fn has(self, name: &str) -> bool {
        xxh3_64(name.as_bytes()) % u64::from(self.of.max(1)) == u64::from(self.part)
    }
}

/// What a sweep may delete. Times are nanoseconds since the Unix epoch.
#[derive(Debug, Clone, Copy)]
pub struct Sweep {
    /// A version goes if a newer one of its key was committed before this: no transaction that may still
    /// run began before that.
    pub superseded_before: Timestamp,
    /// Outcomes go that are older than this, unless they are the record of a version that stays.
    pub outcomes_before: Timestamp,
    /// Values go whose commit has not come and that are older than this. Before that ABORTED is made the
    /// outcome of their id, so that it does not come later.
    pub orphans_before: Timestamp,
    /// Which part of the keys and ids is looked at.
    pub share: Share,
    /// About how many entries are looked at in one call.
    pub entries_max: usize,
}

/// What one call of a sweep came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Swept {
    /// Entries looked at.
    pub looked_at: u64,
    /// Superseded versions deleted.
    pub versions: u64,
    /// Records and log entries of commits deleted, all of whose versions had gone.
    pub records: u64,
    /// Outcomes forgotten.
    pub outcomes: u64,
    /// Values deleted whose commit never came.
    pub orphans: u64,
    /// The whole store was looked through; the next call begins anew.
    pub end: bool,
}

impl std::ops::AddAssign for Swept {
    fn add_assign(&mut self, more: Self) {
        self.looked_at += more.looked_at;
        self.versions += more.versions;
        self.records += more.records;
        self.outcomes += more.outcomes;
        self.orphans += more.orphans;
        self.end = more.end;
    }
}

/// What a store holds. Counting may mean to read all of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Usage {
    /// Keys that have a committed version.
    pub keys: u64,
    /// Versions, committed or not.
    pub versions: u64,
    /// Those of them that a newer committed version supersedes.
    pub superseded: u64,
    /// Those of them whose commit has not come (yet).
    pub uncommitted: u64,
    /// Entries in the commit log.
    pub log_entries: u64,
    /// Outcomes of ids: records, aborted ones, and what remains of collected ones.
    pub outcomes: u64,
    /// Those of them that say no more than that there was a commit or an abort.
    pub remains: u64,
    /// Bytes that all of it takes, as far as the store tells.
    pub bytes: u64,
}
