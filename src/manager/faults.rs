//! Which commits stand in the store's log and were told by nobody: their node has died, or cannot be
//! heard, between the commit and its telling.
//!
//! Versions that were told, or found, are remembered for a while, since log and gossip come in any order and
//! a node that takes over a dead one's log writes the commits into its own once more. What is older than
//! that while when it turns up in a log is left alone: it is such a copy, or it is found by the nodes, which
//! follow the logs as well. So memory does not grow with the log, but with what is committed in that time.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::txn::{Commit, Version};

/// How long a version is remembered; and how old a commit may be, by its timestamp, to be told.
const HORIZON: Duration = Duration::from_secs(60);
/// Versions remembered at most. With fewer than the horizon's worth of them some commits may be taken for
/// untold ones, and told once more.
const KNOWN_MAX: usize = 500_000;
/// Commits that wait for being told, at most; the oldest do not wait any longer.
const WAITING_MAX: usize = 50_000;

/// See the [module's page](self).
pub(super) struct Faults {
    bound: Duration,
    /// Told by their nodes, or found.
    known: HashSet<Version>,
    known_since: VecDeque<(Duration, Version)>,
    /// In the log, and not told yet.
    waiting: HashMap<Version, Arc<Commit>>,
    waiting_since: VecDeque<(Duration, Version)>,
}

impl Faults {
    /// Commits are told within `bound` after they were seen in the log, or are found.
    pub(super) fn new(bound: Duration) -> Self {
        Self {
            bound,
            known: HashSet::new(),
            known_since: VecDeque::new(),
            waiting: HashMap::new(),
            waiting_since: VecDeque::new(),
        }
    }

    /// Nodes told of commits.
    pub(super) fn told(&mut self, now: Duration, commits: &[Arc<Commit>]) {
        for commit in commits {
            self.waiting.remove(&commit.version);
            self.know(now, &commit.version);
        }
    }

    /// Commits were seen in the log. `wall_ns` is the time, in nanoseconds since the Unix epoch.
    pub(super) fn logged(&mut self, now: Duration, wall_ns: u64, commits: Vec<Arc<Commit>>) {
        let horizon = u64::try_from(HORIZON.as_nanos()).unwrap_or(u64::MAX);
        let oldest = wall_ns.saturating_sub(horizon);
        for commit in commits {
            let version = &commit.version;
            let is_old = version.timestamp.0 < oldest;
            if is_old || self.known.contains(version) || self.waiting.contains_key(version) {
                continue;
            }
            self.waiting_since.push_back((now, version.clone()));
            self.waiting.insert(version.clone(), commit);
        }
    }

    /// The commits that nobody told in time, each once.
    pub(super) fn overdue(&mut self, now: Duration) -> Vec<Arc<Commit>> {
        let mut overdue = Vec::new();
        while let Some((since, version)) = self.waiting_since.front()
            && (now >= *since + self.bound || self.waiting.len() > WAITING_MAX)
        {
            let found = self.waiting.remove(version);
            let version = version.clone();
            self.waiting_since.pop_front();
            if let Some(commit) = found {
                self.know(now, &version);
                overdue.push(commit);
            }
        }
        self.forget(now);
        overdue
    }

    /// When [`overdue`](Self::overdue) may have something.
    pub(super) fn next_at(&self) -> Option<Duration> {
        self.waiting_since.front().map(|(since, _)| *since + self.bound)
    }

    /// How many commits wait for being told.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn know(&mut self, now: Duration, version: &Version) {
        if self.known.insert(version.clone()) {
            self.known_since.push_back((now, version.clone()));
        }
        self.forget(now);
    }

    fn forget(&mut self, now: Duration) {
        while let Some((since, version)) = self.known_since.front()
            && (now >= *since + HORIZON || self.known.len() > KNOWN_MAX)
        {
            self.known.remove(version);
            self.known_since.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::txn::{AttemptId, Timestamp};

    const SECOND: Duration = Duration::from_secs(1);
    const WALL_NS: u64 = 1_790_000_000_000_000_000;

    fn commit(number: u64) -> Arc<Commit> {
        let writer = AttemptId::parse(&format!("t{number}.1")).unwrap();
        let version = Version { timestamp: Timestamp(WALL_NS + number), writer };
        Arc::new(Commit::new(version, Vec::new(), "10.0.0.7".into()))
    }

    #[test]
    fn only_what_nobody_tells_is_found_and_once() {
        let mut faults = Faults::new(SECOND);
        faults.told(Duration::ZERO, &[commit(1)]);
        faults.logged(SECOND, WALL_NS, vec![commit(1), commit(2), commit(3)]);
        faults.told(SECOND, &[commit(2)]);
        assert_eq!(faults.next_at(), Some(2 * SECOND), "some time to be told is left");
        assert!(faults.overdue(SECOND).is_empty());
        assert_eq!(faults.overdue(2 * SECOND), [commit(3)]);
        assert_eq!((faults.waiting(), faults.next_at()), (0, None));
        // The log of a dead incarnation is taken over by the next one.
        faults.logged(3 * SECOND, WALL_NS, vec![commit(1), commit(2), commit(3)]);
        assert!(faults.overdue(9 * SECOND).is_empty());
    }

    #[test]
    fn what_is_old_is_left_alone_and_forgotten() {
        let mut faults = Faults::new(SECOND);
        faults.told(Duration::ZERO, &[commit(1)]);
        let later_ns = WALL_NS + HORIZON.as_nanos() as u64 + 1000;
        assert!(faults.overdue(HORIZON).is_empty());
        assert!(faults.known.is_empty() && faults.known_since.is_empty());
        faults.logged(HORIZON, later_ns, vec![commit(1), commit(2)]);
        assert_eq!(faults.waiting(), 0);
    }

    #[test]
    fn memory_is_bounded() {
        let mut faults = Faults::new(SECOND);
        let many = WAITING_MAX + 10;
        faults.logged(SECOND, WALL_NS, (0..many as u64).map(commit).collect());
        assert_eq!(faults.overdue(SECOND).len(), 10, "the oldest do not wait any longer");
        assert_eq!(faults.waiting(), WAITING_MAX);
    }
}
