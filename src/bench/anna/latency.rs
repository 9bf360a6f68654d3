//! How long one commit takes, next to one PUT of a new key.

use indicatif::ProgressBar;
use serde::Serialize;

use super::AnnaOptions;
use super::direct::{Direct, Work, block_on};
use crate::bench::BenchError;
use crate::bench::batches::Shape;
use crate::bench::client::{ClientOptions, Plan, Session};
use crate::bench::place::Place;
use crate::bench::sidecar::Server;
use crate::bench::stats::Quantiles;
use crate::bench::table::{Table, micros, times as ratio};
use crate::bench::target::Target;
use crate::bench::turns::in_turns;
use crate::transport::ClientContext;

/// A commit may take so many times as long as a first PUT of one of its values.
const COMMIT_TO_PUT_MAX: f64 = 2.5;

/// One size of values: medians over the rounds.
#[derive(Debug, Serialize)]
pub(super) struct Latency {
    value_bytes: usize,
    writes: usize,
    direct: Vec<(Work, Figures)>,
    sidecar: Figures,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Figures {
    #[serde(flatten)]
    times: Quantiles,
    /// Compared with a PUT of a new key.
    p50_ratio: f64,
    p99_ratio: f64,
}

/// Measures with values of one size.
pub(super) fn measure(
    place: &Place,
    sidecar: &Server,
    options: &AnnaOptions,
    value_bytes: usize,
    progress: &ProgressBar,
) -> Result<Latency, BenchError> {
    progress.set_message(format!("single operations of {value_bytes} bytes"));
    let AnnaOptions { writes, keys, seconds_per_round: seconds, .. } = *options;
    let client = place.client()?;
    let node = format!("latency-{value_bytes}");
    let store = block_on(place.store(&client, &node, 1))?;
    let shape = Shape { writes, value_bytes, keys };
    let mut direct = Direct::new(place, client, store, shape);
    let mut session = session(sidecar, shape)?;
    // The last one is for the sidecar.
    let mut rounds: Vec<Vec<Quantiles>> = vec![Vec::new(); Work::ALL.len() + 1];
    for _ in 0..options.rounds {
        let turns = in_turns(rounds.len(), seconds, |number, time, times| {
            let record = |took| times.record(took);
            match Work::ALL.get(number) {
                Some(work) => block_on(direct.repeat(*work, time, record)),
                None => session.write_for(time, record),
            }
        })?;
        for (rounds, times) in rounds.iter_mut().zip(turns) {
            rounds.extend(times.quantiles());
        }
        progress.inc(1);
    }
    let first = rounds.first().map(|rounds| Quantiles::medians(rounds));
    let figures = |rounds: &Vec<Quantiles>| Figures::new(Quantiles::medians(rounds), first);
    let through = rounds.pop().map(|rounds| figures(&rounds));
    let sidecar = through.unwrap_or_else(|| figures(&Vec::new()));
    let direct = Work::ALL.into_iter().zip(rounds.iter().map(figures)).collect();
    Ok(Latency { value_bytes, writes, direct, sidecar })
}

/// A client of the sidecar in this very thread.
fn session(sidecar: &Server, shape: Shape) -> Result<Session, BenchError> {
    let options = ClientOptions {
        ipc_dir: vec![sidecar.ipc_dir.clone()],
        name: format!("latency-{}", shape.value_bytes),
        call: true,
        plan: Plan::Commit,
        threads: 1,
        seconds: 0.0,
        warmup_seconds: 0.0,
        writes: shape.writes,
        value_bytes: shape.value_bytes,
        keys: shape.keys,
    };
    Session::open(&ClientContext::default(), &options, &sidecar.ipc_dir, 0)
}

impl Figures {
    fn new(times: Quantiles, first: Option<Quantiles>) -> Self {
        let to = |figure: fn(&Quantiles) -> f64| {
            first.as_ref().map_or(0.0, |first| figure(&times) / figure(first).max(1e-9))
        };
        Self { times, p50_ratio: to(|times| times.p50_us), p99_ratio: to(|times| times.p99_us) }
    }

    fn row(&self, what: String) -> Vec<String> {
        let Self { times, p50_ratio, p99_ratio } = self;
        let times =
            [micros(times.p50_us), ratio(*p50_ratio), micros(times.p99_us), ratio(*p99_ratio)];
        std::iter::once(what).chain(times).collect()
    }
}

impl Latency {
    pub(super) fn targets(&self) -> Vec<Target> {
        let commit = self.direct.iter().find(|(work, _)| *work == Work::ExpectedCommit);
        let both =
            [("store", commit.map(|(_, figures)| figures)), ("sidecar", Some(&self.sidecar))];
        let both = both.into_iter().filter_map(|(how, figures)| Some((how, figures?)));
        both.map(|(how, figures)| {
            let what = format!(
                "commit of {} x {} B, {how}, p50, to a first PUT",
                self.writes, self.value_bytes
            );
            Target::at_most(what, figures.p50_ratio, COMMIT_TO_PUT_MAX)
        })
        .collect()
    }

    pub(super) fn render(&self) -> String {
        let head = format!("values of {} B, {} a commit", self.value_bytes, self.writes);
        let mut table = Table::new(&[&head, "p50", "to first PUT", "p99", "to first PUT"]);
        for (work, figures) in &self.direct {
            table.row(figures.row(work.name().to_owned()));
        }
        table.row(self.sidecar.row("commit, sidecar".to_owned()));
        table.render()
    }
}
