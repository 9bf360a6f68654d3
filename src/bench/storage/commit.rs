//! How long one commit takes, and how many there can be, next to direct writes of the same bytes.

use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;
use serde::Serialize;

use super::run::Run;
use crate::bench::BenchError;
use crate::bench::batches::{Batches, Shape};
use crate::bench::messages::key;
use crate::bench::place::not_done;
use crate::bench::stats::{Quantiles, median};
use crate::bench::table::{Table, micros, times as ratio};
use crate::bench::target::Target;
use crate::bench::turns::in_turns;
use crate::storage::{CommitBatch, record_of};

/// A commit may take so many times as long as a direct write of its bytes.
const RATIO_MAX: f64 = 1.3;
/// Commits under way at once where rates are measured.
const AT_ONCE: usize = 64;

const WAYS: [&str; 3] = ["direct", "store", "sidecar"];

/// One shape of commits: medians over the rounds, in the order of [`WAYS`].
#[derive(Debug, Serialize)]
pub(super) struct Commits {
    writes: usize,
    value_bytes: usize,
    write: &'static str,
    times: Vec<Quantiles>,
    /// Direct and store, [`AT_ONCE`] under way.
    per_s: [f64; 2],
}

/// Measures commits of so many values of a size.
pub(super) fn measure(run: &Run<'_>, writes: usize, bytes: usize) -> Result<Commits, BenchError> {
    let shape = Shape { writes, value_bytes: bytes, keys: run.options.keys };
    let mut batches = Batches::new(0, shape);
    let mut executor = run.executor(&run.sidecar)?;
    let value = Bytes::from(vec![7; bytes]);
    let mut rounds: [Vec<Quantiles>; 3] = Default::default();
    for _ in 0..run.options.rounds {
        let turns = in_turns(WAYS.len(), run.options.seconds_per_round, |way, time, times| {
            let until = Instant::now() + time;
            while Instant::now() < until {
                let batch = batches.next();
                let began = match way {
                    0 => {
                        let values = plain(run, &batch, &value);
                        let began = Instant::now();
                        run.directly.write(&values)?;
                        began
                    }
                    1 => {
                        let began = Instant::now();
                        run.runtime.block_on(run.ground.store.commit(batch))?;
                        began
                    }
                    _ => {
                        let txn = executor.start().map_err(BenchError::Answer)?;
                        for written in &batch.commit.keys {
                            let put = executor.put(&txn, written.key.as_str(), &value);
                            put.map_err(BenchError::Answer)?;
                        }
                        let began = Instant::now();
                        executor.commit(&txn).map_err(BenchError::Answer)?;
                        began
                    }
                };
                times.record(began.elapsed());
            }
            Ok(())
        })?;
        for (rounds, times) in rounds.iter_mut().zip(turns) {
            rounds.extend(times.quantiles());
        }
    }
    let times = rounds.iter().map(|rounds| Quantiles::medians(rounds)).collect();
    Ok(Commits {
        writes,
        value_bytes: bytes,
        write: run.ground.write,
        times,
        per_s: rates(run, shape)?,
    })
}

/// What a commit stores, under names that are new: its values, and as much as its record.
fn plain(run: &Run<'_>, batch: &CommitBatch, value: &Bytes) -> Vec<(String, Bytes)> {
    let record = record_of(&batch.commit).encode_to_vec();
    let names = batch.commit.keys.iter().map(|_| (run.new_name(), value.clone()));
    names.chain(std::iter::once((run.new_name(), record.into()))).collect()
}

fn rates(run: &Run<'_>, shape: Shape) -> Result<[f64; 2], BenchError> {
    let mut rounds: [Vec<f64>; 2] = Default::default();
    let seconds = Duration::from_secs_f64(run.options.seconds_per_round / 2.0);
    for round in 0..run.options.rounds {
        for (way, rounds) in rounds.iter_mut().enumerate() {
            rounds.push(run.runtime.block_on(rate(run, shape, way, round, seconds))?);
        }
    }
    Ok(rounds.map(|rounds| median(rounds.into_iter())))
}

async fn rate(
    run: &Run<'_>,
    shape: Shape,
    way: usize,
    round: usize,
    time: Duration,
) -> Result<f64, BenchError> {
    let began = Instant::now();
    let tasks: Vec<_> = (0..AT_ONCE)
        .map(|task| {
            let (direct, store) = (run.ground.direct.clone(), run.ground.store.clone());
            let mut batches = Batches::new(1 + round * AT_ONCE + task, shape).beginning_at(task);
            let name = run.new_name();
            let value = Bytes::from(vec![7; shape.value_bytes]);
            tokio::spawn(async move {
                let mut done = 0_u64;
                while began.elapsed() < time {
                    if way == 0 {
                        let named = |n| (format!("{name}-{done}-{n}"), value.clone());
                        let record = (format!("{name}-{done}"), Bytes::from(key(0).repeat(8)));
                        let values: Vec<_> = (0..shape.writes).map(named).collect();
                        direct.write(&[values, vec![record]].concat()).await?;
                    } else {
                        store.commit(batches.next()).await?;
                    }
                    done += 1;
                }
                Ok::<_, BenchError>(done)
            })
        })
        .collect();
    let mut done = 0;
    for task in tasks {
        done += task.await.map_err(not_done)??;
    }
    Ok(done as f64 / began.elapsed().as_secs_f64())
}

impl Commits {
    fn ratio(&self, way: usize) -> Option<f64> {
        Some(self.times.get(way)?.p50_us / self.times.first()?.p50_us.max(1e-9))
    }

    pub(super) fn targets(&self, store: &str) -> Vec<Target> {
        let what = format!(
            "{store}: commit of {} x {} B, p50, to {}",
            self.writes, self.value_bytes, self.write
        );
        self.ratio(1).map(|ratio| Target::at_most(what, ratio, RATIO_MAX)).into_iter().collect()
    }

    pub(super) fn render(&self) -> String {
        let head = format!("commit of {} x {} B", self.writes, self.value_bytes);
        let mut table = Table::new(&[
            &head,
            "p50",
            "to direct",
            "p99",
            "to direct",
            &format!("{AT_ONCE} at once"),
        ]);
        let direct = self.times.first().copied().unwrap_or(Quantiles { p50_us: 0.0, p99_us: 0.0 });
        for (way, times) in WAYS.iter().zip(&self.times).enumerate() {
            let (name, times) = times;
            let name = if way == 0 { self.write } else { name };
            let rate = self.per_s.get(way).map_or(String::new(), |rate| format!("{rate:.0}/s"));
            table.row(vec![
                name.to_owned(),
                micros(times.p50_us),
                ratio(times.p50_us / direct.p50_us.max(1e-9)),
                micros(times.p99_us),
                ratio(times.p99_us / direct.p99_us.max(1e-9)),
                rate,
            ]);
        }
        table.render()
    }
}
