//! What gossip costs one node among many, without processes and sockets: real state machines on a
//! virtual clock, each of which commits at the same rate. Only what is sent to the first one is handed
//! over, so that many can be there; its own part is what is timed, with the encoding and decoding that
//! the daemon does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use indicatif::ProgressBar;
use serde::Serialize;

use super::ClusterOptions;
use super::traffic::WRITES;
use crate::bench::BenchError;
use crate::bench::messages::key;
use crate::bench::process;
use crate::bench::stats::median;
use crate::bench::table::{Table, micros};
use crate::node::{
    Ask, Batch, Effect, Event, Node, NodeConfig, Now, Origin, PeerMessage, StoreResult, Ticket,
};
use crate::peer::{decode_list, encode_commits};
use crate::storage::memory::MemoryStore;
use crate::txn::{AttemptId, Commit, Key, ReadAtomic, Timestamp, Version, WrittenKey};

/// So many are simulated for each number of nodes.
const INTERVALS: usize = 20;
const SECONDS_PER_INTERVAL: f64 = 1e-3;
/// Keys over which the commits are spread whose memory is looked at.
const KEYS: usize = 10_000;
const COMMITS_PER_BATCH: usize = 100;
const WALL_NS: u64 = 1_790_000_000_000_000_000;

/// By the number of nodes, and what is remembered.
#[derive(Debug, Serialize)]
pub(super) struct Model {
    rate: f64,
    rows: Vec<Row>,
    /// Heard of, in the index of one node.
    commits: usize,
    index_bytes_per_commit: f64,
}

/// Figures of one node.
#[derive(Debug, Serialize)]
struct Row {
    nodes: usize,
    /// Told to all others together.
    bytes_per_commit: f64,
    messages_per_s: f64,
    bytes_per_s: f64,
    /// To tell all others, and to hear all of them, in an interval: medians, by the clock on the wall.
    tell_us: f64,
    hear_us: f64,
    /// Both, as a share of one core.
    cpu_share: f64,
}

/// Measures.
pub(super) fn measure(
    options: &ClusterOptions,
    progress: &ProgressBar,
) -> Result<Model, BenchError> {
    // First, as memory that was used before would be used again.
    progress.set_message("what a node remembers");
    let index_bytes_per_commit = index_bytes(options.heard)?;
    progress.inc(1);
    let mut rows = Vec::new();
    for &count in &options.simulated {
        progress.set_message(format!("gossip among {count} simulated nodes"));
        rows.push(row(count, options)?);
        progress.inc(1);
    }
    Ok(Model { rate: options.rate, rows, commits: options.heard, index_bytes_per_commit })
}

fn row(count: usize, options: &ClusterOptions) -> Result<Row, BenchError> {
    let interval = options.gossip_interval as f64 * SECONDS_PER_INTERVAL;
    let mut world = World::new(count, Duration::from_secs_f64(interval));
    let mut sums = Interval::default();
    let (mut tells, mut hears) = (Vec::new(), Vec::new());
    let mut owed = 0.0;
    for _ in 0..INTERVALS {
        owed += options.rate * interval;
        while owed >= 1.0 {
            world.commit_everywhere()?;
            sums.commits += 1;
            owed -= 1.0;
        }
        let one = world.interval()?;
        sums.messages += one.messages;
        sums.bytes += one.bytes;
        tells.push(one.tell.as_secs_f64() * 1e6);
        hears.push(one.hear.as_secs_f64() * 1e6);
    }
    let seconds = INTERVALS as f64 * interval;
    let (tell_us, hear_us) = (median(tells.into_iter()), median(hears.into_iter()));
    Ok(Row {
        nodes: count,
        bytes_per_commit: sums.bytes as f64 / sums.commits.max(1) as f64,
        messages_per_s: sums.messages as f64 / seconds,
        bytes_per_s: sums.bytes as f64 / seconds,
        tell_us,
        hear_us,
        cpu_share: (tell_us + hear_us) / (interval * 1e6),
    })
}

/// What the first node sent in an interval, and how long it and hearing the others took.
#[derive(Default)]
struct Interval {
    commits: u64,
    messages: u64,
    bytes: u64,
    tell: Duration,
    hear: Duration,
}

/// Nodes on one store, of which each knows all others.
struct World {
    nodes: Vec<Node>,
    store: MemoryStore,
    each: Duration,
    elapsed: Duration,
    commits: usize,
}

fn address(number: usize) -> Arc<str> {
    format!("10.{}.{}.{}", number >> 16, number >> 8 & 0xff, number & 0xff).into()
}

fn new_node(number: usize, each: Duration) -> Node {
    let config = NodeConfig {
        address: address(number),
        incarnation: format!("{:016x}", number + 1).into(),
        node_tag: number as u64,
        gossip_each: each,
        has_peers: true,
        ..NodeConfig::default()
    };
    Node::new(config, Box::new(ReadAtomic), number as u64)
}

impl World {
    fn new(count: usize, each: Duration) -> Self {
        let members: Vec<_> = (0..count).map(address).collect();
        let nodes = (0..count).map(|number| new_node(number, each)).collect();
        let store = MemoryStore::new();
        let mut world = Self { nodes, store, each, elapsed: Duration::ZERO, commits: 0 };
        for number in 0..count {
            world.handle(number, Event::Members(members.clone()));
        }
        world
    }

    fn now(&self) -> Now {
        Now { wall_ns: WALL_NS + self.elapsed.as_nanos() as u64, elapsed: self.elapsed }
    }

    fn handle(&mut self, number: usize, event: Event) -> Vec<Effect> {
        let (now, mut effects) = (self.now(), Vec::new());
        if let Some(node) = self.nodes.get_mut(number) {
            node.handle(now, event, &mut effects);
        }
        effects
    }

    /// One commit on each node, of keys that no other writes soon.
    fn commit_everywhere(&mut self) -> Result<(), BenchError> {
        for number in 0..self.nodes.len() {
            self.commits += 1;
            let first = self.commits * WRITES;
            let writes = (first..first + WRITES).map(|one| Ok((named(one)?, Bytes::new())));
            let writes = writes.collect::<Result<_, BenchError>>()?;
            let ticket = Ticket(self.commits as u64);
            let effects = self.handle(number, Event::Put { ticket, txn: None, writes });
            self.serve(number, effects);
        }
        Ok(())
    }

    /// Answers what a node asks of the store, which it does to commit.
    fn serve(&mut self, number: usize, effects: Vec<Effect>) {
        for effect in effects {
            let Effect::Store { op, ask: Ask::Commit(batch) } = effect else {
                continue;
            };
            let result = StoreResult::Decided(self.store.commit_now(batch));
            let more = self.handle(number, Event::Stored { op, result });
            self.serve(number, more);
        }
    }

    /// An interval ends: all nodes tell, and the first one hears.
    fn interval(&mut self) -> Result<Interval, BenchError> {
        self.elapsed += self.each;
        let mut interval = Interval::default();
        let began = Instant::now();
        for effect in self.handle(0, Event::Tick) {
            if let Effect::Send { message: PeerMessage::Commits(batch), .. } = effect {
                interval.messages += 1;
                interval.bytes += encode_commits(&batch).len() as u64;
            }
        }
        interval.tell = began.elapsed();
        let first = address(0);
        let mut messages: Vec<Bytes> = Vec::new();
        for number in 1..self.nodes.len() {
            for effect in self.handle(number, Event::Tick) {
                match effect {
                    Effect::Send { to, message: PeerMessage::Commits(batch) } if to == first => {
                        messages.push(encode_commits(&batch).into());
                    }
                    _ => {}
                }
            }
        }
        let began = Instant::now();
        for message in messages {
            self.hear(message)?;
        }
        interval.hear = began.elapsed();
        Ok(interval)
    }

    fn hear(&mut self, message: Bytes) -> Result<(), BenchError> {
        let message = decode_list(message).map_err(|why| BenchError::Answer(why.to_string()))?;
        self.handle(0, Event::Peer(message));
        Ok(())
    }
}

fn named(number: usize) -> Result<Key, BenchError> {
    Key::parse(&key(number)).map_err(|why| BenchError::Answer(why.to_string()))
}

/// The memory that one commit of another node takes here.
fn index_bytes(commits: usize) -> Result<f64, BenchError> {
    let mut world = World::new(1, Duration::from_millis(100));
    let resident = || process::resident_bytes(std::process::id()).unwrap_or(0);
    let before = resident();
    let mut made = 0;
    while made < commits {
        let first = made as u64 + 1;
        let some = (0..COMMITS_PER_BATCH).map(|more| foreign_commit(made + more));
        let commits = some.collect::<Result<Vec<_>, _>>()?;
        made += commits.len();
        let origin = Origin { node: address(1), incarnation: "1".into() };
        let (last, readable_to) = (made as u64, Timestamp(u64::MAX));
        let batch = Batch { origin, first, last, in_log_to: 0, readable_to, commits };
        world.hear(encode_commits(&batch).into())?;
    }
    Ok(resident().saturating_sub(before) as f64 / made as f64)
}

fn foreign_commit(number: usize) -> Result<Arc<Commit>, BenchError> {
    let id = format!("01890a5d-ac96-774b-bcce-{number:012x}.1");
    let writer = AttemptId::parse(&id).map_err(|why| BenchError::Answer(why.to_string()))?;
    let version = Version { timestamp: Timestamp(WALL_NS + number as u64), writer };
    let keys = (0..WRITES).map(|write| {
        Ok(WrittenKey { key: named((number * WRITES + write) % KEYS)?, fresh: false })
    });
    let keys = keys.collect::<Result<_, BenchError>>()?;
    Ok(Arc::new(Commit::new(version, keys, address(1))))
}

impl Model {
    pub(super) fn render(&self) -> String {
        let head = format!("simulated, {} commits/s per node", self.rate);
        let mut table = Table::new(&[
            &head,
            "a commit",
            "messages",
            "gossip",
            "to tell, each interval",
            "to hear",
            "of a core",
        ]);
        for row in &self.rows {
            table.row(vec![
                row.nodes.to_string(),
                format!("{:.0} B", row.bytes_per_commit),
                format!("{:.0}/s", row.messages_per_s),
                format!("{:.0} B/s", row.bytes_per_s),
                micros(row.tell_us),
                micros(row.hear_us),
                format!("{:.2} %", row.cpu_share * 100.0),
            ]);
        }
        let Self { commits, index_bytes_per_commit, .. } = self;
        let memory = format!(
            "memory for a commit of {WRITES} keys that was heard of: {index_bytes_per_commit:.0} B ({commits} commits)\n"
        );
        table.render() + &memory
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_node_hears_of_all_commits_and_tells_all_others() {
        let mut world = World::new(5, Duration::from_millis(100));
        world.commit_everywhere().unwrap();
        let interval = world.interval().unwrap();
        assert_eq!(interval.messages, 4);
        assert_eq!(world.nodes[0].status().versions, 5 * WRITES);
        world.interval().unwrap();
        assert_eq!(world.nodes[0].status().versions, 5 * WRITES, "nothing is told twice");
    }
}
