//! The paper's transaction: two functions, each of which reads two values and writes one, under keys of
//! which few are used often (Zipf). Directly, the same reads and writes take effect one by one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fastrand::Rng;
use serde::Serialize;

use super::run::{Directly, Run};
use crate::bench::BenchError;
use crate::bench::cluster::executor::Executor;
use crate::bench::messages::key;
use crate::bench::stats::{Quantiles, Times, median};
use crate::bench::table::{Table, micros, times as ratio};

const FUNCTIONS: usize = 2;
const READS: usize = 2;
const ZIPF: f64 = 1.0;

/// Medians over the rounds: directly, and through the sidecar.
#[derive(Debug, Serialize)]
pub(super) struct Paper {
    clients: usize,
    times: [Quantiles; 2],
    per_s: [f64; 2],
    /// Transactions that were refused and not counted.
    refused: u64,
}

/// Measures.
pub(super) fn measure(run: &Run<'_>) -> Result<Paper, BenchError> {
    let zipf = Zipf::new(run.options.keys);
    let clients = run.options.clients;
    let mut executors =
        (0..clients).map(|_| run.executor(&run.sidecar)).collect::<Result<Vec<_>, _>>()?;
    let (mut times, mut rates): ([Vec<Quantiles>; 2], [Vec<f64>; 2]) = Default::default();
    let mut refused = 0;
    for round in 0..run.options.rounds {
        for way in 0..2 {
            let stop = AtomicBool::new(false);
            let began = Instant::now();
            let done = std::thread::scope(|scope| {
                let clients: Vec<_> = executors
                    .iter_mut()
                    .enumerate()
                    .map(|(number, executor)| {
                        let client = Client {
                            directly: run.directly.clone(),
                            value: run.value.clone(),
                            zipf: &zipf,
                            random: Rng::with_seed((round * 1000 + number) as u64),
                        };
                        let stop = &stop;
                        scope.spawn(move || client.repeat((way == 1).then_some(executor), stop))
                    })
                    .collect();
                std::thread::sleep(Duration::from_secs_f64(run.options.seconds_per_round));
                stop.store(true, Ordering::Relaxed);
                let panicked = |_| BenchError::Answer("a client panicked".to_owned());
                let done = clients.into_iter().map(|client| client.join().map_err(panicked)?);
                done.collect::<Result<Vec<_>, _>>()
            })?;
            let seconds = began.elapsed().as_secs_f64();
            let mut all = Times::new();
            let mut count = 0;
            for (times, failed) in done {
                refused += failed;
                for (ns, seen) in times.counts() {
                    all.add(ns, seen);
                    count += seen;
                }
            }
            if let (Some(times), Some(rates)) = (times.get_mut(way), rates.get_mut(way)) {
                times.extend(all.quantiles());
                rates.push(count as f64 / seconds);
            }
        }
    }
    Ok(Paper {
        clients,
        times: times.map(|rounds| Quantiles::medians(&rounds)),
        per_s: rates.map(|rounds| median(rounds.into_iter())),
        refused,
    })
}

struct Client<'a> {
    directly: Directly<'a>,
    value: Bytes,
    zipf: &'a Zipf,
    random: Rng,
}

impl Client<'_> {
    /// One after the other, through the sidecar or not; answers how many were refused, too.
    fn repeat(
        mut self,
        mut executor: Option<&mut Executor>,
        stop: &AtomicBool,
    ) -> Result<(Times, u64), BenchError> {
        let (mut times, mut refused) = (Times::new(), 0);
        while !stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            match &mut executor {
                Some(executor) => {
                    if self.transaction(executor).is_err() {
                        refused += 1;
                        continue;
                    }
                }
                None => self.directly()?,
            }
            times.record(began.elapsed());
        }
        Ok((times, refused))
    }

    fn transaction(&mut self, executor: &mut Executor) -> Result<(), String> {
        let txn = executor.start()?;
        for _ in 0..FUNCTIONS {
            for _ in 0..READS {
                let key = key(self.zipf.draw(&mut self.random));
                executor.get(&txn, &key, self.value.len())?;
            }
            let key = key(self.zipf.draw(&mut self.random));
            executor.put(&txn, &key, &self.value)?;
        }
        executor.commit(&txn)
    }

    fn directly(&mut self) -> Result<(), BenchError> {
        for _ in 0..FUNCTIONS {
            for _ in 0..READS {
                let key = self.directly.key(self.zipf.draw(&mut self.random));
                self.directly.read(&[key])?;
            }
            let key = self.directly.key(self.zipf.draw(&mut self.random));
            self.directly.write(&[(key, self.value.clone())])?;
        }
        Ok(())
    }
}

/// Numbers of which the n-th is drawn 1/n as often as the first.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(count: usize) -> Self {
        let mut sum = 0.0;
        let sums = (1..=count).map(|n| {
            sum += (n as f64).powf(-ZIPF);
            sum
        });
        Self(sums.collect())
    }

    fn draw(&self, random: &mut Rng) -> usize {
        let at = random.f64() * self.0.last().copied().unwrap_or(0.0);
        self.0.partition_point(|sum| *sum < at).min(self.0.len().saturating_sub(1))
    }
}

impl Paper {
    pub(super) fn render(&self) -> String {
        let head = format!(
            "2 functions of 1 write, 2 reads; {} clients, {} refused",
            self.clients, self.refused
        );
        let mut table = Table::new(&[&head, "p50", "ratio", "p99", "ratio", "done", "ratio"]);
        let [direct, _] = self.times;
        for (way, name) in ["direct", "sidecar, one transaction"].into_iter().enumerate() {
            let (Some(times), Some(rate)) = (self.times.get(way), self.per_s.get(way)) else {
                continue;
            };
            table.row(vec![
                name.to_owned(),
                micros(times.p50_us),
                ratio(times.p50_us / direct.p50_us.max(1e-9)),
                micros(times.p99_us),
                ratio(times.p99_us / direct.p99_us.max(1e-9)),
                format!("{rate:.0}/s"),
                ratio(rate / self.per_s[0].max(1e-9)),
            ]);
        }
        table.render()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_drawn_twice_as_often_as_the_second() {
        let (zipf, mut random) = (Zipf::new(1000), Rng::with_seed(1));
        let mut drawn = [0_u32; 1000];
        (0..200_000).for_each(|_| drawn[zipf.draw(&mut random)] += 1);
        let ratio = f64::from(drawn[0]) / f64::from(drawn[1]);
        assert!((1.9..2.1).contains(&ratio), "{ratio}");
        assert!(drawn[999] > 0);
    }
}
