//! What gossip costs real processes: bytes, messages and CPU time, by the number of nodes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use indicatif::ProgressBar;
use serde::Serialize;

use super::ClusterOptions;
use super::executor::Executor;
use super::load::steadily;
use super::nodes::Cluster;
use crate::bench::BenchError;
use crate::bench::children::Family;
use crate::bench::messages::key;
use crate::bench::process;
use crate::bench::table::Table;

/// Keys that each node writes.
const KEYS: usize = 1_000;
/// Of each commit, as in the model.
pub(super) const WRITES: usize = 2;
const VALUE_BYTES: usize = 100;
/// Before commits are counted.
const WARM_UP: Duration = Duration::from_millis(300);

/// By the number of nodes.
#[derive(Debug, Serialize)]
pub(super) struct Traffic {
    rows: Vec<Row>,
}

/// All figures but the first are those of one node, on average.
#[derive(Debug, Serialize)]
struct Row {
    nodes: usize,
    /// What was reached.
    commits_per_s: f64,
    idle: Figures,
    busy: Figures,
    /// To all others together.
    gossip_bytes_per_commit: f64,
    open_files: f64,
}

/// Per second.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Figures {
    messages_sent: f64,
    bytes_sent: f64,
    cpu_ms: f64,
    /// Keys that were asked of the store, or written there.
    store_keys: f64,
    /// Of the store's process, if it was started here.
    store_cpu_ms: f64,
}

/// Counters since the start, over all nodes.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    messages_sent: u64,
    bytes_sent: u64,
    store_keys: u64,
    cpu: Duration,
    store_cpu: Duration,
}

/// Measures.
pub(super) fn measure(
    family: &Family,
    options: &ClusterOptions,
    progress: &ProgressBar,
) -> Result<Traffic, BenchError> {
    let mut rows = Vec::new();
    for &count in &options.nodes {
        progress.set_message(format!("gossip among {count} processes"));
        let cluster = Cluster::start(family, options, &format!("of-{count}"), count)?;
        rows.push(row(&cluster, options)?);
        cluster.end();
        progress.inc(1);
    }
    Ok(Traffic { rows })
}

fn row(cluster: &Cluster, options: &ClusterOptions) -> Result<Row, BenchError> {
    let nodes = cluster.nodes.len();
    let watched = Duration::from_secs_f64(options.watch_seconds);
    let idle = figures(cluster, || {
        std::thread::sleep(watched);
        Ok(())
    })?;
    let executors = cluster.executors()?;
    let (stop, commits) = (AtomicBool::new(false), AtomicU64::new(0));
    let (busy, counted) = std::thread::scope(|scope| {
        let (stop, commits) = (&stop, &commits);
        let spawn = |(number, executor)| {
            scope.spawn(move || commit(number, executor, options.rate, stop, commits))
        };
        let committers: Vec<_> = executors.into_iter().enumerate().map(spawn).collect();
        std::thread::sleep(WARM_UP);
        let (before, began) = (commits.load(Ordering::Relaxed), Instant::now());
        let busy = figures(cluster, || {
            std::thread::sleep(watched);
            Ok(())
        });
        let done = commits.load(Ordering::Relaxed) - before;
        let rate = done as f64 / began.elapsed().as_secs_f64() / nodes as f64;
        stop.store(true, Ordering::Relaxed);
        for committer in committers {
            let panicked = |_| BenchError::Answer("a thread panicked".to_owned());
            committer.join().map_err(panicked)??;
        }
        Ok::<_, BenchError>((busy?, rate))
    })?;
    let files =
        cluster.nodes.iter().filter_map(|one| process::open_files(one.server.process.pid()));
    Ok(Row {
        nodes,
        commits_per_s: counted,
        idle,
        busy,
        gossip_bytes_per_commit: busy.bytes_sent / counted.max(1e-9),
        open_files: files.sum::<usize>() as f64 / nodes as f64,
    })
}

fn commit(
    number: usize,
    mut executor: Executor,
    rate: f64,
    stop: &AtomicBool,
    commits: &AtomicU64,
) -> Result<(), BenchError> {
    let value = Bytes::from(vec![7; VALUE_BYTES]);
    let mut made = 0;
    steadily(rate, stop, || {
        let keys: [String; WRITES] =
            std::array::from_fn(|write| key(number * KEYS + (made * WRITES + write) % KEYS));
        made += 1;
        executor.write(&keys, &value)?;
        commits.fetch_add(1, Ordering::Relaxed);
        Ok(())
    })
    .map_err(BenchError::Answer)
}

/// What each node did in a second, while something went on.
fn figures(
    cluster: &Cluster,
    meanwhile: impl FnOnce() -> Result<(), BenchError>,
) -> Result<Figures, BenchError> {
    let (began, before) = (Instant::now(), counted(cluster)?);
    meanwhile()?;
    let (took, after) = (began.elapsed(), counted(cluster)?);
    let node_seconds = took.as_secs_f64() * cluster.nodes.len() as f64;
    let each = |figure: fn(&Counted) -> u64| {
        figure(&after).saturating_sub(figure(&before)) as f64 / node_seconds
    };
    let millis = |used: Duration| used.as_secs_f64() * 1e3;
    Ok(Figures {
        messages_sent: each(|counted| counted.messages_sent),
        bytes_sent: each(|counted| counted.bytes_sent),
        cpu_ms: millis(after.cpu.saturating_sub(before.cpu)) / node_seconds,
        store_keys: each(|counted| counted.store_keys),
        store_cpu_ms: millis(after.store_cpu.saturating_sub(before.store_cpu)) / took.as_secs_f64(),
    })
}

fn counted(cluster: &Cluster) -> Result<Counted, BenchError> {
    let cpu = |pid| process::cpu(pid).unwrap_or_default();
    let store_cpu = cluster.place.pid().map(cpu).unwrap_or_default();
    let mut sum = Counted { store_cpu, ..Counted::default() };
    for node in &cluster.nodes {
        sum.cpu += cpu(node.server.process.pid());
        let status = node.server.status()?;
        let peers = &status["sockets"]["peers"];
        sum.messages_sent += peers["messages_sent"].as_u64().unwrap_or(0);
        sum.bytes_sent += peers["bytes_sent"].as_u64().unwrap_or(0);
        sum.store_keys += status["store"]["keys"].as_u64().unwrap_or(0);
    }
    Ok(sum)
}

impl Traffic {
    pub(super) fn render(&self) -> String {
        let mut table = Table::new(&[
            "processes, figures per node",
            "commits",
            "messages",
            "gossip",
            "a commit",
            "CPU",
            "idle messages",
            "idle CPU",
            "idle store keys",
            "Anna's CPU",
            "idle",
            "files",
        ]);
        for row in &self.rows {
            let Row { nodes, commits_per_s, idle, busy, gossip_bytes_per_commit, open_files } = row;
            table.row(vec![
                nodes.to_string(),
                format!("{commits_per_s:.1}/s"),
                format!("{:.1}/s", busy.messages_sent),
                format!("{:.0} B/s", busy.bytes_sent),
                format!("{gossip_bytes_per_commit:.0} B"),
                format!("{:.2} ms/s", busy.cpu_ms),
                format!("{:.1}/s", idle.messages_sent),
                format!("{:.2} ms/s", idle.cpu_ms),
                format!("{:.0}/s", idle.store_keys),
                format!("{:.2} ms/s", busy.store_cpu_ms),
                format!("{:.2} ms/s", idle.store_cpu_ms),
                format!("{open_files:.0}"),
            ]);
        }
        table.render()
    }
}
