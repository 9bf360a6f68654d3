//! What a node is told about itself.

use std::sync::Arc;
use std::time::Duration;

use super::peer::Origin;
use crate::storage::{Share, Sweep};
use crate::txn::Timestamp;

/// Limits and names of one node.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// How this node is called in answers and records: `IP` or `IP:OFFSET`.
    pub address: Arc<str>,
    /// Tells the lives of this node apart.
    pub incarnation: Arc<str>,
    /// How far ahead of this node's clock the commits of others may be.
    pub clock_bound: Duration,
    /// How often other nodes are told what was committed here.
    pub gossip_each: Duration,
    /// The low bits of this node's timestamps.
    pub node_tag: u64,
    /// Others read and write user keys in the store under their plain names.
    pub plain_keys: bool,
    /// A transaction that its client does not use for this long is aborted.
    pub idle_max: Duration,
    /// A transaction that runs for this long is aborted.
    pub lifetime_max: Duration,
    /// An id that was made longer ago than this is not retried: its outcome may be forgotten.
    pub retry_window: Duration,
    /// A start, get or put is answered within this time.
    pub request_within: Duration,
    /// A commit or abort is answered within this time.
    pub outcome_within: Duration,
    /// Another node answers within this time, or is given up. At most half of the two before.
    pub peer_within: Duration,
    /// Other nodes can be asked.
    pub has_peers: bool,
    /// How long "nothing there" is believed of a plain key.
    pub absent_for: Duration,
    /// The largest value, in bytes.
    pub value_bytes_max: usize,
    /// The most that one transaction may buffer, in bytes.
    pub txn_bytes_max: usize,
    /// The most that all running transactions may buffer, in bytes.
    pub buffer_bytes_max: usize,
    /// The most transactions that may run at once.
    pub txn_max: usize,
    /// The size of the value cache, in bytes.
    pub cache_bytes_max: u64,
    /// How many ended attempts are remembered.
    pub ended_max: usize,
    /// The store collects garbage, and finds the newest versions of keys.
    pub collects: bool,
    /// About how many keys the version index holds.
    pub index_keys_max: usize,
    /// How often garbage is looked for.
    pub collect_each: Duration,
    /// How long the store is left alone after it was looked through for garbage.
    pub sweep_each: Duration,
    /// Entries of the store that are looked at in one go.
    pub sweep_entries: usize,
    /// Values whose commit has not come after this time are deleted. Longer than a transaction may live.
    pub orphans_after: Duration,
}

impl NodeConfig {
    /// Who this node is to others.
    pub(super) fn origin(&self) -> Origin {
        Origin { node: self.address.clone(), incarnation: self.incarnation.clone() }
    }

    /// What may be deleted at this time, in nanoseconds since the Unix epoch.
    pub fn sweep(&self, wall_ns: u64, share: Share) -> Sweep {
        let before = |age: Duration| {
            let age = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
            Timestamp(wall_ns.saturating_sub(age))
        };
        Sweep {
            // Whoever runs by then began when all knew of it; clocks may differ.
            superseded_before: before(self.lifetime_max + self.clock_bound),
            // Twice, so that a clock that is wrong by less than the window opens no id again.
            outcomes_before: before(self.retry_window * 2),
            orphans_before: before(self.orphans_after + self.clock_bound),
            share,
            entries_max: self.sweep_entries,
        }
    }
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            address: "127.0.0.1".into(),
            incarnation: "".into(),
            clock_bound: Duration::from_secs(60),
            gossip_each: Duration::from_millis(100),
            node_tag: 0,
            plain_keys: false,
            idle_max: Duration::from_secs(60),
            lifetime_max: Duration::from_secs(600),
            retry_window: Duration::from_secs(7200),
            request_within: Duration::from_secs(4),
            outcome_within: Duration::from_secs(10),
            peer_within: Duration::from_secs(2),
            has_peers: false,
            absent_for: Duration::from_millis(20),
            value_bytes_max: 64 << 20,
            txn_bytes_max: 256 << 20,
            buffer_bytes_max: 1 << 30,
            txn_max: 250_000,
            cache_bytes_max: 256 << 20,
            ended_max: 100_000,
            collects: false,
            index_keys_max: 10_000_000,
            collect_each: Duration::from_secs(1),
            sweep_each: Duration::from_secs(600),
            sweep_entries: 10_000,
            orphans_after: Duration::from_secs(3600),
        }
    }
}
