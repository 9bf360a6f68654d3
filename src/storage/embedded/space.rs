//! How much room the file system has.
//!
//! Commits are refused while there is still enough of it to finish what was begun: a full disk then
//! costs new commits, and nothing else.

use std::path::PathBuf;

/// Watches the file system of a directory.
#[derive(Debug)]
pub(super) struct Space {
    path: PathBuf,
    reserve_bytes: u64,
}

impl Space {
    pub fn new(path: PathBuf, reserve_bytes: u64) -> Self {
        Self { path, reserve_bytes }
    }

    /// How many bytes commits may still use, if `unflushed` bytes wait to be written a second time
    /// (from the journal into data files). The system's word is taken; if it says nothing, there is
    /// no limit, and a full disk is found out by writing.
    pub fn free_for_commits(&self, unflushed_bytes: u64) -> u64 {
        let Ok(stat) = rustix::fs::statvfs(&self.path) else {
            return u64::MAX;
        };
        let block = stat.f_frsize;
        // Merging data files needs room in proportion to the store, which the disk was chosen for.
        let for_merging = stat.f_blocks.saturating_mul(block) / 64;
        let available = stat.f_bavail.saturating_mul(block);
        available
            .saturating_sub(self.reserve_bytes)
            .saturating_sub(for_merging.min(256 << 20))
            .saturating_sub(unflushed_bytes)
    }
}
