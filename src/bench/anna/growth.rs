//! What becomes of commits and of starting when many commits went before.

use std::sync::Arc;
use std::time::Instant;

use indicatif::ProgressBar;
use serde::Serialize;

use super::AnnaOptions;
use super::direct::{Direct, Work, block_on, publish};
use crate::bench::BenchError;
use crate::bench::batches::{Batches, Shape};
use crate::bench::place::{Place, Store, not_done};
use crate::bench::stats::Quantiles;
use crate::bench::table::{Table, micros, times as ratio};
use crate::bench::target::Target;
use crate::bench::turns::in_turns;
use crate::storage::{LogPosition, LogScope, Storage, StorageError};

/// Of the progress bar.
pub(super) const STEPS: usize = 4;

/// Commits before the first measurement.
const FEW: usize = 1_000;
const VALUE_BYTES: usize = 100;
/// A commit after many may take so many times as long as one after few.
const GROWTH_MAX: f64 = 1.15;

/// What was measured.
#[derive(Debug, Serialize)]
pub(super) struct Growth {
    live_keys: usize,
    /// After few commits, before the many were made; with a first PUT beside it.
    early: [Quantiles; 2],
    /// A first PUT, and a commit after few and one after many, in turns.
    late: [Quantiles; 3],
    starts: Vec<Start>,
}

/// Starting on a log.
#[derive(Debug, Serialize)]
struct Start {
    commits: usize,
    before: Reading,
    clear_up_us: f64,
    after: Reading,
}

/// Opening a store and reading its log.
#[derive(Debug, Clone, Copy, Serialize)]
struct Reading {
    open_us: f64,
    read_us: f64,
    commits: usize,
}

/// A log that grows.
struct Subject<'a> {
    place: &'a Place,
    node: &'static str,
    shape: Shape,
    outstanding: usize,
    direct: Direct,
    store: Arc<Store>,
}

/// Measures.
pub(super) fn measure(
    place: &Place,
    options: &AnnaOptions,
    progress: &ProgressBar,
) -> Result<Growth, BenchError> {
    let many = options.log_commits;
    let begin = |node| {
        progress.set_message(format!("a log of {node} commits"));
        block_on(Subject::begin(place, node, options))
    };
    let mut few = begin("few")?;
    block_on(few.fill(FEW))?;
    let [early_put, early] = commits(&mut [&mut few], options)?[..] else {
        return Err(BenchError::Answer("nothing was measured".to_owned()));
    };
    progress.inc(1);
    let mut lots = begin("many")?;
    block_on(lots.fill(many))?;
    progress.inc(1);
    let [put, late_few, late_many] = commits(&mut [&mut few, &mut lots], options)?[..] else {
        return Err(BenchError::Answer("nothing was measured".to_owned()));
    };
    let mut starts = Vec::new();
    for subject in [few, lots] {
        starts.push(block_on(subject.starts())?);
        progress.inc(1);
    }
    let (early, late) = ([early_put, early], [put, late_few, late_many]);
    Ok(Growth { live_keys: options.keys, early, late, starts })
}

/// First PUTs, and commits of each subject.
fn commits(
    subjects: &mut [&mut Subject<'_>],
    options: &AnnaOptions,
) -> Result<Vec<Quantiles>, BenchError> {
    let mut rounds: Vec<Vec<Quantiles>> = vec![Vec::new(); subjects.len() + 1];
    for _ in 0..options.rounds {
        let turns = in_turns(rounds.len(), options.seconds_per_round, |number, time, times| {
            let work = if number == 0 { Work::FirstPut } else { Work::ExpectedCommit };
            let Some(subject) = subjects.get_mut(number.saturating_sub(1)) else { return Ok(()) };
            block_on(subject.direct.repeat(work, time, |took| times.record(took)))
        })?;
        for (rounds, times) in rounds.iter_mut().zip(turns) {
            rounds.extend(times.quantiles());
        }
    }
    Ok(rounds.iter().map(|rounds| Quantiles::medians(rounds)).collect())
}

impl<'a> Subject<'a> {
    async fn begin(
        place: &'a Place,
        node: &'static str,
        options: &AnnaOptions,
    ) -> Result<Self, BenchError> {
        let client = place.client()?;
        let store = place.store(&client, node, 1).await?;
        let shape = Shape { writes: 1, value_bytes: VALUE_BYTES, keys: options.keys };
        let direct = Direct::new(place, client, store.clone(), shape);
        Ok(Self { place, node, shape, outstanding: options.outstanding, direct, store })
    }

    /// Commits until so many are done, many at once.
    async fn fill(&self, commits: usize) -> Result<(), BenchError> {
        let of = self.outstanding;
        let tasks = (0..of).map(|committer| {
            let first = committer * commits / of;
            let share = (committer + 1) * commits / of - first;
            let batches = Batches::new(committer, self.shape).beginning_at(first);
            tokio::spawn(commit_some(self.store.clone(), batches, share))
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.map_err(not_done)??;
        }
        Ok(())
    }

    /// Ends, and starts twice; the first of the two clears up.
    async fn starts(self) -> Result<Start, BenchError> {
        self.store.close().await;
        let (second, before) = self.start(2).await?;
        let began = Instant::now();
        second.clear_up(u64::MAX).await?;
        let clear_up_us = began.elapsed().as_secs_f64() * 1e6;
        second.close().await;
        let (_, after) = self.start(3).await?;
        Ok(Start { commits: before.commits, before, clear_up_us, after })
    }

    /// With a client that knows no addresses yet.
    async fn start(&self, incarnation: usize) -> Result<(Arc<Store>, Reading), BenchError> {
        let began = Instant::now();
        let client = self.place.client()?;
        let store = self.place.store(&client, self.node, incarnation).await?;
        let open_us = began.elapsed().as_secs_f64() * 1e6;
        let began = Instant::now();
        let (mut position, mut commits) = (LogPosition::default(), 0);
        loop {
            let page = store.commits_since(&position, LogScope::All).await?;
            commits += page.commits.len();
            position = page.next;
            if page.end {
                break;
            }
        }
        let read_us = began.elapsed().as_secs_f64() * 1e6;
        Ok((store, Reading { open_us, read_us, commits }))
    }
}

async fn commit_some(
    store: Arc<Store>,
    mut batches: Batches,
    commits: usize,
) -> Result<(), StorageError> {
    for _ in 0..commits {
        let batch = batches.next();
        store.expect(&batch.commit.version.writer.base());
        store.commit(batch.clone()).await?;
        publish(&store, &batch).await?;
    }
    Ok(())
}

impl Growth {
    /// A commit after many, to one after few in the same minutes.
    fn ratio(&self) -> f64 {
        let [_, few, many] = &self.late;
        many.p50_us / few.p50_us.max(1e-9)
    }

    pub(super) fn targets(&self) -> Vec<Target> {
        vec![Target::at_most(
            "commit after many commits, p50, to one after few",
            self.ratio(),
            GROWTH_MAX,
        )]
    }

    pub(super) fn render(&self) -> String {
        let [early_put, early_few] = &self.early;
        let [late_put, late_few, late_many] = &self.late;
        let many = self.starts.last().map_or(0, |start| start.commits);
        let mut table = Table::new(&["growing log", "p50", "p99", "to few", "to first PUT"]);
        for (what, figures, few, put) in [
            ("PUT, first touch, before".to_owned(), early_put, early_put, early_put),
            (format!("commit after {FEW}, before"), early_few, early_few, early_put),
            ("PUT, first touch".to_owned(), late_put, late_put, late_put),
            (format!("commit after {FEW}"), late_few, late_few, late_put),
            (format!("commit after {many}"), late_many, late_few, late_put),
        ] {
            table.row(vec![
                what,
                micros(figures.p50_us),
                micros(figures.p99_us),
                ratio(figures.p50_us / few.p50_us.max(1e-9)),
                ratio(figures.p50_us / put.p50_us.max(1e-9)),
            ]);
        }
        let head = format!("start, {} live keys", self.live_keys);
        let mut starts = Table::new(&[&head, "open", "read", "commits read", "clear up"]);
        for Start { commits, before, clear_up_us, after } in &self.starts {
            let row = |what: &str, reading: &Reading, clear_up| {
                let Reading { open_us, read_us, commits: read } = reading;
                vec![
                    format!("{what} {commits} commits"),
                    micros(*open_us),
                    micros(*read_us),
                    read.to_string(),
                    clear_up,
                ]
            };
            starts.row(row("after", before, micros(*clear_up_us)));
            starts.row(row("cleared up after", after, String::new()));
        }
        format!("{}\n{}", table.render(), starts.render())
    }
}
