//! Which nodes live: those from which something was heard of late.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::node::Batch;
use crate::peer::{BadAddress, normalize};

/// More nodes are not taken note of. There are fewer, unless somebody makes names up.
const NODES_MAX: usize = 4096;

/// The life of a node that was heard of last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) incarnation: Arc<str>,
    /// When its last word came.
    pub(super) at: Duration,
    /// How many commits it has told of, by its own count.
    pub(super) told: u64,
}

/// See the [module's page](self).
pub(super) struct Nodes {
    timeout: Duration,
    lives: BTreeMap<Arc<str>, Life>,
}

impl Nodes {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, lives: BTreeMap::new() }
    }

    /// A node has told of its commits, or that there are none.
    pub(super) fn heard(&mut self, now: Duration, batch: &Batch) -> Result<(), BadAddress> {
        let node: Arc<str> = normalize(&batch.origin.node)?.into();
        let incarnation = batch.origin.incarnation.clone();
        let is_full = self.lives.len() >= NODES_MAX;
        match self.lives.get_mut(&node) {
            Some(life) if life.incarnation == incarnation => {
                life.at = now;
                life.told = life.told.max(batch.last);
                return Ok(());
            }
            Some(_) => tracing::info!("node {node} begins another life"),
            None if is_full => return Ok(()),
            None => tracing::info!("node {node} is there"),
        }
        self.lives.insert(node, Life { incarnation, at: now, told: batch.last });
        Ok(())
    }

    /// Drops those that are silent.
    pub(super) fn expire(&mut self, now: Duration) {
        let timeout = self.timeout;
        self.lives.retain(|node, life| {
            let lives = now < life.at + timeout;
            if !lives {
                tracing::warn!("node {node} was silent for {timeout:?} and is out");
            }
            lives
        });
    }

    /// When the next one is out, if it stays silent.
    pub(super) fn next_at(&self) -> Option<Duration> {
        self.lives.values().map(|life| life.at).min().map(|at| at + self.timeout)
    }

    /// Those that live, by name.
    pub(super) fn live(&self) -> &BTreeMap<Arc<str>, Life> {
        &self.lives
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Origin;
    use crate::txn::Timestamp;

    fn word(node: &str, incarnation: &str, last: u64) -> Batch {
        let origin = Origin { node: node.into(), incarnation: incarnation.into() };
        let (first, readable_to) = (last + 1, Timestamp(u64::MAX));
        Batch { origin, first, last, in_log_to: 0, readable_to, commits: Vec::new() }
    }

    fn names(nodes: &Nodes) -> Vec<&str> {
        nodes.live().keys().map(|name| &**name).collect()
    }

    #[test]
    fn who_is_silent_is_out_and_may_come_back() {
        let second = Duration::from_secs(1);
        let mut nodes = Nodes::new(5 * second);
        nodes.heard(second, &word("10.0.0.2:10", "a", 3)).unwrap();
        nodes.heard(3 * second, &word("10.0.0.1:0", "b", 0)).unwrap();
        assert_eq!(names(&nodes), ["10.0.0.1", "10.0.0.2:10"]);
        assert_eq!(nodes.next_at(), Some(6 * second));
        nodes.expire(6 * second);
        assert_eq!(names(&nodes), ["10.0.0.1"]);
        nodes.heard(7 * second, &word("10.0.0.2:10", "c", 1)).unwrap();
        assert_eq!(nodes.live()["10.0.0.2:10"].told, 1, "the new life counts from its own start");
    }

    #[test]
    fn names_that_are_none_are_refused() {
        let mut nodes = Nodes::new(Duration::from_secs(5));
        assert!(nodes.heard(Duration::ZERO, &word("somebody", "a", 3)).is_err());
        for number in 0..NODES_MAX + 10 {
            let name = format!("10.1.{}.{}", number / 256, number % 256);
            nodes.heard(Duration::ZERO, &word(&name, "a", 3)).unwrap();
        }
        assert_eq!(nodes.live().len(), NODES_MAX);
    }
}
