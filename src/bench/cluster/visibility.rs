//! How long after the answer COMMITTED on one node a read on another one returns what was committed.
//!
//! Each node commits at a steady rate, and each commit writes its number under the node's own probe key.
//! One reader per node reads the probe keys of all others, all in one request, with short pauses. The
//! first time that it sees a number, all up to that are visible there. So every commit is measured on
//! every node, by few reads, and what the looking adds is at most the time between two looks.

use std::collections::BTreeMap;
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
use crate::bench::stats::{Quantiles, Times};
use crate::bench::table::{Table, micros};
use crate::bench::target::Target;

/// The 99th percentile, in intervals.
const P99_MAX: f64 = 1.5;
/// What was committed in the beginning does not count.
const WARM_UP: Duration = Duration::from_millis(500);
/// After the last commit.
const SEEN_MAX: Duration = Duration::from_secs(20);
/// A probe is written together with one of so many keys.
const KEYS: usize = 1_000;

/// What was seen.
#[derive(Debug, Serialize)]
pub(super) struct Visibility {
    nodes: usize,
    interval_us: f64,
    commits: usize,
    /// Of every commit, on every other node.
    seen_after: Quantiles,
    p50_intervals: f64,
    p99_intervals: f64,
    /// Between the beginnings of two looks.
    look_each: Quantiles,
    /// One look.
    look_takes: Quantiles,
}

/// What the threads share.
struct Shared {
    /// The number of each node's last commit.
    last: Vec<AtomicU64>,
    stop_committing: AtomicBool,
    stop_reading: AtomicBool,
}

/// When the commit of each number was answered on one node.
type Answered = BTreeMap<u64, Instant>;

/// What one reader saw.
struct Looks {
    /// Node, the greatest number seen there before, that seen now, and when.
    news: Vec<(usize, u64, u64, Instant)>,
    each: Times,
    takes: Times,
}

/// Measures.
pub(super) fn measure(
    family: &Family,
    options: &ClusterOptions,
    progress: &ProgressBar,
) -> Result<Visibility, BenchError> {
    progress.set_message("how soon commits are read on other nodes");
    let cluster = Cluster::start(family, options, "visible", options.visible_nodes)?;
    let (answered, looks) = watch(&cluster, options)?;
    cluster.end();
    progress.inc(1);
    evaluate(options, &answered, looks)
}

fn watch(
    cluster: &Cluster,
    options: &ClusterOptions,
) -> Result<(Vec<Answered>, Vec<Looks>), BenchError> {
    let shared = Shared {
        last: cluster.nodes.iter().map(|_| AtomicU64::new(0)).collect(),
        stop_committing: AtomicBool::new(false),
        stop_reading: AtomicBool::new(false),
    };
    let (committers, readers) = (cluster.executors()?, cluster.executors()?);
    let panicked = || BenchError::Answer("a thread panicked".to_owned());
    std::thread::scope(|scope| {
        let shared = &shared;
        let commit =
            |(number, executor)| scope.spawn(move || commit(number, executor, options, shared));
        let look =
            |(number, executor)| scope.spawn(move || look(number, executor, options, shared));
        let committers: Vec<_> = committers.into_iter().enumerate().map(commit).collect();
        let readers: Vec<_> = readers.into_iter().enumerate().map(look).collect();
        std::thread::sleep(WARM_UP + Duration::from_secs_f64(options.watch_seconds));
        shared.stop_committing.store(true, Ordering::Relaxed);
        let answered = committers.into_iter().map(|one| one.join().map_err(|_| panicked())?);
        let answered = answered.collect::<Result<Vec<_>, BenchError>>();
        shared.stop_reading.store(true, Ordering::Relaxed);
        let looks = readers.into_iter().map(|one| one.join().map_err(|_| panicked())?);
        Ok((answered?, looks.collect::<Result<_, BenchError>>()?))
    })
}

fn probe(node: usize) -> String {
    format!("bench-probe-{node}")
}

fn commit(
    number: usize,
    mut executor: Executor,
    options: &ClusterOptions,
    shared: &Shared,
) -> Result<Answered, BenchError> {
    let mut answered = Answered::new();
    let other = Bytes::from(vec![7; options.value_bytes]);
    let mut next = 0_u64;
    steadily(options.visible_rate, &shared.stop_committing, || {
        next += 1;
        let txn = executor.start()?;
        executor.put(&txn, &probe(number), &next.to_be_bytes().to_vec().into())?;
        executor.put(&txn, &key(number * KEYS + next as usize % KEYS), &other)?;
        executor.commit(&txn)?;
        answered.insert(next, Instant::now());
        shared.last[number].store(next, Ordering::Relaxed);
        Ok(())
    })
    .map_err(BenchError::Answer)?;
    Ok(answered)
}

fn look(
    own: usize,
    mut executor: Executor,
    options: &ClusterOptions,
    shared: &Shared,
) -> Result<Looks, BenchError> {
    let others: Vec<usize> = (0..shared.last.len()).filter(|other| *other != own).collect();
    let keys: Vec<String> = others.iter().map(|other| probe(*other)).collect();
    let mut seen = vec![0; others.len()];
    let mut looks = Looks { news: Vec::new(), each: Times::new(), takes: Times::new() };
    let pause = Duration::from_secs_f64(options.look_each / 1_000.0);
    let (mut before, mut give_up) = (Instant::now(), None);
    loop {
        let began = Instant::now();
        let values = executor.get_alone(&keys).map_err(BenchError::Answer)?;
        let now = Instant::now();
        looks.each.record(began - before);
        looks.takes.record(now - began);
        before = began;
        for ((value, other), seen) in values.iter().zip(&others).zip(&mut seen) {
            let number = <[u8; 8]>::try_from(&value[..]).map_or(0, u64::from_be_bytes);
            if number > *seen {
                looks.news.push((*other, *seen, number, now));
                *seen = number;
            }
        }
        if shared.stop_reading.load(Ordering::Relaxed) {
            let last = others.iter().map(|other| shared.last[*other].load(Ordering::Relaxed));
            if last.zip(&seen).all(|(last, seen)| *seen >= last) {
                return Ok(looks);
            }
            if now > *give_up.get_or_insert(now + SEEN_MAX) {
                let why = format!("node {own} does not read the last commits of others");
                return Err(BenchError::Answer(why));
            }
        }
        std::thread::sleep(pause);
    }
}

fn evaluate(
    options: &ClusterOptions,
    answered: &[Answered],
    looks: Vec<Looks>,
) -> Result<Visibility, BenchError> {
    let firsts = answered.iter().filter_map(|of_node| of_node.values().next());
    let counts_from = firsts.max().map(|first| *first + WARM_UP);
    let counts = |when: &Instant| counts_from.is_some_and(|from| *when >= from);
    let (mut seen_after, mut look_each, mut look_takes) =
        (Times::new(), Times::new(), Times::new());
    for reader in looks {
        for (node, before, number, when) in reader.news {
            let newly = answered[node].range(before + 1..=number).map(|(_, answered)| answered);
            for answered in newly.filter(|answered| counts(answered)) {
                // It may be read before its own client was told.
                seen_after.record(when.saturating_duration_since(*answered));
            }
        }
        reader.each.counts().into_iter().for_each(|(ns, count)| look_each.add(ns, count));
        reader.takes.counts().into_iter().for_each(|(ns, count)| look_takes.add(ns, count));
    }
    let nothing = || BenchError::Answer("no commit was seen on another node".to_owned());
    let seen_after = seen_after.quantiles().ok_or_else(nothing)?;
    let interval_us = options.gossip_interval as f64 * 1e3;
    Ok(Visibility {
        nodes: answered.len(),
        interval_us,
        commits: answered.iter().flat_map(BTreeMap::values).filter(|when| counts(when)).count(),
        seen_after,
        p50_intervals: seen_after.p50_us / interval_us,
        p99_intervals: seen_after.p99_us / interval_us,
        look_each: look_each.quantiles().ok_or_else(nothing)?,
        look_takes: look_takes.quantiles().ok_or_else(nothing)?,
    })
}

impl Visibility {
    pub(super) fn targets(&self) -> Vec<Target> {
        let what = "commit to read on another node, p99, in gossip intervals";
        vec![Target::at_most(what, self.p99_intervals, P99_MAX)]
    }

    pub(super) fn render(&self) -> String {
        let head = format!("{} commits on {} nodes", self.commits, self.nodes);
        let mut table = Table::new(&[&head, "p50", "p99", "p50, intervals", "p99, intervals"]);
        let Self { seen_after, look_each, look_takes, p50_intervals, p99_intervals, .. } = self;
        table.row(vec![
            "from COMMITTED to being read".to_owned(),
            micros(seen_after.p50_us),
            micros(seen_after.p99_us),
            format!("{p50_intervals:.2}"),
            format!("{p99_intervals:.2}"),
        ]);
        let share = |us: f64| format!("{:.2}", us / self.interval_us);
        for (what, times) in [("between two looks", look_each), ("a look", look_takes)] {
            let Quantiles { p50_us, p99_us } = *times;
            let cells = [micros(p50_us), micros(p99_us), share(p50_us), share(p99_us)];
            table.row(std::iter::once(what.to_owned()).chain(cells).collect());
        }
        table.render()
    }
}
