//! Commits from the future: what other nodes committed under a timestamp that is far ahead of this
//! node's clock.
//!
//! Whatever is readable is followed by this node's own timestamps, so one record with a timestamp in the
//! next century would drag all nodes there, for good. Such a commit is kept aside, neither read nor
//! followed, until the clock has come near enough. A node believes much more of its own earlier lives: its
//! clock may have been set right since.

use std::sync::Arc;
use std::time::Duration;

use super::{Effect, Node, Now, Timer, Turn};
use crate::txn::{Commit, Key};

/// How far ahead of the clock a node's own earlier commits may be.
const OWN_CLOCK_BOUND: Duration = Duration::from_secs(7 * 24 * 3600);
/// Commits kept aside. More are dropped; the store's log still has them.
const QUARANTINED_MAX: usize = 10_000;

/// A commit from the future.
#[derive(Debug)]
pub(super) struct KeptAside {
    pub(super) commit: Arc<Commit>,
    /// It was in the store's log when this node began.
    since_start: bool,
}

impl Node {
    /// Learns a commit whose record is durable; from here on reads see it, unless it is from the future.
    /// To be called for all of the store's log before the first event. Answers whether it is readable.
    pub fn load(&mut self, now: Now, commit: &Arc<Commit>) -> bool {
        if self.ahead_of_time(now, commit).is_some() {
            if self.quarantined.len() < QUARANTINED_MAX
                && self.quarantined.iter().all(|known| known.commit.version != commit.version)
            {
                let since_start = !self.has_begun;
                self.quarantined.push(KeptAside { commit: commit.clone(), since_start });
            }
            return false;
        }
        self.clock.observe(commit.version.timestamp);
        self.index.install(commit);
        self.heads.appeared(commit);
        true
    }

    /// The same, while events are handled.
    pub(super) fn learn(&mut self, turn: &mut Turn<'_>, commit: &Arc<Commit>) {
        let known = self.quarantined.len();
        if !self.load(turn.now, commit) && self.quarantined.len() > known {
            turn.effects.push(Effect::Quarantined(commit.clone()));
            self.watch_quarantine(turn);
        }
    }

    /// Looks again when the first of them may be believed.
    pub(super) fn watch_quarantine(&mut self, turn: &Turn<'_>) {
        let kept = self.quarantined.iter();
        let waits = kept.filter_map(|kept| self.ahead_of_time(turn.now, &kept.commit));
        if let Some(wait) = waits.min() {
            self.timers.set(turn.now.elapsed.saturating_add(wait), Timer::Quarantine);
        }
    }

    pub(super) fn review_quarantine(&mut self, turn: &mut Turn<'_>) {
        for kept in std::mem::take(&mut self.quarantined) {
            if self.ahead_of_time(turn.now, &kept.commit).is_some() {
                self.quarantined.push(kept);
            } else {
                self.load(turn.now, &kept.commit);
            }
        }
        self.watch_quarantine(turn);
    }

    /// The greatest timestamp of another node's commit that is read at this time.
    pub(super) fn believes_to(&self, now: Now) -> u64 {
        let bound = u64::try_from(self.config.clock_bound.as_nanos()).unwrap_or(u64::MAX);
        now.wall_ns.saturating_add(bound)
    }

    /// Whether this key cannot be read: a newer version of it was kept aside when this node began, so that
    /// what was written before that, by other clocks, may have been collected by nodes that could read it.
    /// (What is kept aside later collects nothing, as this node is asked.) What is out of all reason does
    /// not make a key unreadable.
    pub(super) fn is_obscured(&self, now: Now, key: &Key) -> bool {
        self.quarantined.iter().any(|kept| {
            let ahead = self.ahead_of_time(now, &kept.commit);
            kept.since_start
                && ahead.is_some_and(|ahead| ahead < OWN_CLOCK_BOUND)
                && kept.commit.written(key).is_some()
        })
    }

    /// Whether any key [is obscured](Self::is_obscured).
    pub(super) fn is_any_obscured(&self) -> bool {
        self.quarantined.iter().any(|kept| kept.since_start)
    }

    /// Whether some version of this key is kept aside.
    pub(super) fn is_kept_aside(&self, key: &Key) -> bool {
        self.quarantined.len() >= QUARANTINED_MAX
            || self.quarantined.iter().any(|kept| kept.commit.written(key).is_some())
    }

    /// How long until a commit may be believed, if that is not yet.
    pub(super) fn ahead_of_time(&self, now: Now, commit: &Commit) -> Option<Duration> {
        let is_own = commit.replica == self.config.address;
        let bound = if is_own { OWN_CLOCK_BOUND } else { self.config.clock_bound };
        let bound = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        let latest = now.wall_ns.saturating_add(bound);
        let ahead = commit.version.timestamp.0.checked_sub(latest)?;
        (ahead > 0).then(|| Duration::from_nanos(ahead))
    }
}
