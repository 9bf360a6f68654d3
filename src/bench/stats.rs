//! Times, how they are handed from process to process, and what is read off them.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

const NS_MAX: u64 = 60_000_000_000;

/// How often each time (in nanoseconds) was seen: a histogram as text.
pub(super) type Counts = Vec<(u64, u64)>;

/// The times of one kind of operation.
pub(super) struct Times(Option<Histogram<u64>>);

impl Times {
    pub(super) fn new() -> Self {
        // The bounds are constants for which a histogram can be made.
        Self(Histogram::new_with_bounds(1, NS_MAX, 3).ok())
    }

    pub(super) fn record(&mut self, time: Duration) {
        self.add(u64::try_from(time.as_nanos()).unwrap_or(NS_MAX), 1);
    }

    pub(super) fn add(&mut self, ns: u64, count: u64) {
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record_n(ns.clamp(1, NS_MAX), count);
        }
    }

    pub(super) fn counts(&self) -> Counts {
        let recorded = self.0.iter().flat_map(Histogram::iter_recorded);
        recorded.map(|step| (step.value_iterated_to(), step.count_at_value())).collect()
    }

    pub(super) fn quantiles(&self) -> Option<Quantiles> {
        let histogram = self.0.as_ref().filter(|histogram| !histogram.is_empty())?;
        let micros = |quantile| histogram.value_at_quantile(quantile) as f64 / 1_000.0;
        Some(Quantiles { p50_us: micros(0.5), p99_us: micros(0.99) })
    }
}

/// What one client process saw.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Measured {
    /// For how long whole transactions were run.
    pub(super) seconds: f64,
    /// How many of them there were in that time.
    pub(super) transactions: u64,
    /// Transactions that were refused.
    pub(super) failed: u64,
    /// Requests in all, the warm-up's too.
    pub(super) requests: u64,
    /// Times by operation.
    pub(super) times: BTreeMap<String, Counts>,
}

/// Median and tail.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Quantiles {
    /// Median, in microseconds.
    pub p50_us: f64,
    /// 99th percentile, in microseconds.
    pub p99_us: f64,
}

impl Quantiles {
    /// The medians over rounds.
    pub(super) fn medians(rounds: &[Self]) -> Self {
        Self {
            p50_us: median(rounds.iter().map(|round| round.p50_us)),
            p99_us: median(rounds.iter().map(|round| round.p99_us)),
        }
    }
}

/// What several clients saw in one round.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub(super) transactions_per_s: f64,
    pub(super) failed: u64,
    pub(super) requests: u64,
    pub(super) times: BTreeMap<String, Quantiles>,
    /// CPU time of the process that answered, per request.
    pub(super) cpu_us_per_request: f64,
}

impl Round {
    pub(super) fn merge(clients: &[Measured]) -> Self {
        let mut times: BTreeMap<String, Times> = BTreeMap::new();
        for (operation, counts) in clients.iter().flat_map(|client| &client.times) {
            let merged = times.entry(operation.clone()).or_insert_with(Times::new);
            for (ns, count) in counts {
                merged.add(*ns, *count);
            }
        }
        let rate = |client: &Measured| client.transactions as f64 / client.seconds.max(1e-9);
        Self {
            transactions_per_s: clients.iter().map(rate).sum(),
            failed: clients.iter().map(|client| client.failed).sum(),
            requests: clients.iter().map(|client| client.requests).sum(),
            times: times
                .into_iter()
                .filter_map(|(operation, times)| Some((operation, times.quantiles()?)))
                .collect(),
            cpu_us_per_request: 0.0,
        }
    }
}

impl Round {
    pub(super) fn with_cpu(mut self, used: Duration) -> Self {
        self.cpu_us_per_request = used.as_secs_f64() * 1e6 / self.requests.max(1) as f64;
        self
    }
}

/// The median; 0 of nothing.
pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.len() % 2, values.get(middle)) {
        (_, None) => 0.0,
        (1, Some(value)) => *value,
        (_, Some(upper)) => f64::midpoint(*upper, values[middle - 1]),
    }
}

/// A figure and what it is compared with.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Compared {
    /// The floor's figure.
    pub floor: f64,
    /// The sidecar's figure.
    pub sidecar: f64,
    /// The second divided by the first.
    pub ratio: f64,
}

impl Compared {
    /// Compares the medians of a figure over rounds.
    pub(super) fn medians(
        floor: &[Round],
        sidecar: &[Round],
        figure: impl Fn(&Round) -> Option<f64>,
    ) -> Self {
        let floor = median(floor.iter().filter_map(&figure));
        let sidecar = median(sidecar.iter().filter_map(&figure));
        Self { floor, sidecar, ratio: ratio(floor, sidecar) }
    }

    /// Compares the rounds that took place next to each other: what disturbs a machine for longer than a
    /// round then disturbs both sides of a ratio. The ratio is the median of theirs.
    pub(super) fn in_turns(
        floor: &[Round],
        sidecar: &[Round],
        figure: impl Fn(&Round) -> Option<f64>,
    ) -> Self {
        let pairs = floor.iter().zip(sidecar);
        let ratios = pairs.filter_map(|(one, other)| Some(ratio(figure(one)?, figure(other)?)));
        Self { ratio: median(ratios), ..Self::medians(floor, sidecar, &figure) }
    }
}

fn ratio(floor: f64, sidecar: f64) -> f64 {
    if floor > 0.0 { sidecar / floor } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_being_handed_on() {
        let mut times = Times::new();
        for micros in 1..=1_000 {
            times.record(Duration::from_micros(micros));
        }
        let client = || Measured {
            seconds: 2.0,
            transactions: 10,
            times: BTreeMap::from([("get".to_owned(), times.counts())]),
            ..Measured::default()
        };
        let round = Round::merge(&[client(), client()]);
        assert_eq!(round.transactions_per_s, 10.0);
        let got = round.times["get"];
        assert!((499.0..502.0).contains(&got.p50_us), "{got:?}");
        assert!((988.0..992.0).contains(&got.p99_us), "{got:?}");
    }

    #[test]
    fn what_disturbs_both_disturbs_no_ratio() {
        let rounds = |rates: [f64; 3]| {
            rates.map(|transactions_per_s| Round { transactions_per_s, ..Round::default() })
        };
        let (floor, sidecar) = (rounds([100.0, 10.0, 50.0]), rounds([90.0, 9.0, 45.0]));
        let compared = Compared::in_turns(&floor, &sidecar, |round| Some(round.transactions_per_s));
        assert!((compared.ratio - 0.9).abs() < 1e-9, "{compared:?}");
        assert_eq!((compared.floor, compared.sidecar), (50.0, 45.0));
    }

    #[test]
    fn a_median_needs_no_order() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
        assert_eq!(median([].into_iter()), 0.0);
    }
}
