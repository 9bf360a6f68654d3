//! What a read takes at a steady rate, whether or not the one before has ended: an open loop.
//!
//! A time counts from the moment at which the request was due if the client was still busy then, so that
//! waiting for a slow answer is not left out. What the sidecar adds is the difference to the store's own
//! client, which asks the same store at the same rate in turns with it; the sidecar that is measured has no
//! cache.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::run::Run;
use crate::bench::BenchError;
use crate::bench::messages::key;
use crate::bench::stats::{Quantiles, Times};
use crate::bench::table::{Table, micros};
use crate::bench::target::Target;

const P50_ADDED_MAX_US: f64 = 120.0;
const P99_ADDED_MAX_US: f64 = 660.0;

/// Medians over the rounds.
#[derive(Debug, Serialize)]
pub(super) struct Paced {
    per_s: f64,
    direct: Quantiles,
    cached: Quantiles,
    /// None if the store admits one sidecar only.
    uncached: Option<Quantiles>,
}

/// Measures.
pub(super) fn measure(run: &Run<'_>) -> Result<Paced, BenchError> {
    let mut ways: Vec<Box<dyn FnMut(usize) -> Result<(), BenchError> + '_>> =
        vec![Box::new(|number| run.directly.read(&[run.directly.key(number)]))];
    for server in std::iter::once(&run.sidecar).chain(&run.uncached) {
        let mut executor = run.executor(server)?;
        ways.push(Box::new(move |number| {
            executor.get_alone(&[key(number)]).map(drop).map_err(BenchError::Answer)
        }));
    }
    let mut rounds = vec![Vec::new(); ways.len()];
    for _ in 0..run.options.rounds {
        for (once, rounds) in ways.iter_mut().zip(&mut rounds) {
            let mut times = Times::new();
            paced(
                run.options.rate,
                run.options.seconds_per_round,
                run.options.keys,
                once,
                &mut times,
            )?;
            rounds.extend(times.quantiles());
        }
    }
    let mut medians = rounds.iter().map(|rounds| Quantiles::medians(rounds));
    let none = Quantiles { p50_us: 0.0, p99_us: 0.0 };
    Ok(Paced {
        per_s: run.options.rate,
        direct: medians.next().unwrap_or(none),
        cached: medians.next().unwrap_or(none),
        uncached: medians.next(),
    })
}

fn paced(
    rate: f64,
    seconds: f64,
    keys: usize,
    mut once: impl FnMut(usize) -> Result<(), BenchError>,
    times: &mut Times,
) -> Result<(), BenchError> {
    let period = Duration::from_secs_f64(1.0 / rate);
    let mut due = Instant::now();
    for number in 0..(rate * seconds) as usize {
        let ready = Instant::now();
        let began = if ready < due {
            std::thread::sleep(due - ready);
            Instant::now()
        } else {
            due
        };
        // All keys, in no order that a cache would like.
        once(number * 7919 % keys.max(1))?;
        times.record(began.elapsed());
        due += period;
    }
    Ok(())
}

impl Paced {
    pub(super) fn targets(&self, store: &str) -> Vec<Target> {
        let Some(uncached) = &self.uncached else { return Vec::new() };
        let added = |name: &str, figure: fn(&Quantiles) -> f64, max: f64| {
            let what = format!("{store}: us added to a read at {:.0}/s, {name}", self.per_s);
            Target::at_most(what, figure(uncached) - figure(&self.direct), max)
        };
        vec![
            added("p50", |q| q.p50_us, P50_ADDED_MAX_US),
            added("p99", |q| q.p99_us, P99_ADDED_MAX_US),
        ]
    }

    pub(super) fn render(&self) -> String {
        let head = format!("read at {:.0}/s", self.per_s);
        let mut table = Table::new(&[&head, "p50", "added", "p99", "added"]);
        let rows = [("direct", Some(&self.direct)), ("sidecar", self.uncached.as_ref())];
        for (name, times) in rows.into_iter().chain([("sidecar, cached", Some(&self.cached))]) {
            let Some(times) = times else { continue };
            let added = |own: f64, direct: f64| format!("{:+.1} us", own - direct);
            table.row(vec![
                name.to_owned(),
                micros(times.p50_us),
                added(times.p50_us, self.direct.p50_us),
                micros(times.p99_us),
                added(times.p99_us, self.direct.p99_us),
            ]);
        }
        table.render()
    }
}
