//! Whether figures still grow after the warm-up: a line is fitted to the second half of the samples.

use serde::Serialize;

use super::sample::{Sample, Samples};
use crate::bench::table::Table;

/// A figure is flat if it rises by less than this part of its mean over the second half.
const FLAT: f64 = 0.05;

type Figure = (&'static str, fn(&Sample) -> u64);

const FIGURES: [Figure; 6] = [
    ("memory, bytes", |sample| sample.resident_bytes),
    ("disk, bytes", |sample| sample.disk_bytes),
    ("versions in the index", |sample| sample.index_versions),
    ("versions in the store", |sample| sample.store_versions),
    ("entries in the log", |sample| sample.log_entries),
    ("outcomes", |sample| sample.outcomes),
];

/// How all figures developed.
#[derive(Debug, Serialize)]
pub struct Growth {
    transactions: u64,
    transactions_per_s: f64,
    fits: Vec<Fit>,
}

/// One figure over the second half of the samples.
#[derive(Debug, Serialize)]
pub struct Fit {
    figure: &'static str,
    mean: f64,
    /// By how much it grows in a million transactions.
    per_million: f64,
    /// By which part of the mean it rises over the second half.
    rise: f64,
    is_flat: bool,
}

impl Growth {
    pub(super) fn of(samples: &Samples) -> Self {
        let taken = &samples.taken;
        let half = &taken[taken.len() / 2..];
        let span = |figure: fn(&Sample) -> f64| match (taken.first(), taken.last()) {
            (Some(first), Some(last)) => figure(last) - figure(first),
            _ => 0.0,
        };
        let transactions = span(|sample| sample.transactions as f64);
        Self {
            transactions: transactions as u64,
            transactions_per_s: transactions / span(|sample| sample.seconds).max(1e-9),
            fits: FIGURES.into_iter().map(|figure| Fit::of(figure, half)).collect(),
        }
    }

    pub(super) fn render(&self) -> String {
        let mut table =
            Table::new(&["second half", "mean", "growth per million transactions", "rise", ""]);
        for fit in &self.fits {
            table.row(vec![
                fit.figure.to_owned(),
                format!("{:.0}", fit.mean),
                format!("{:+.0}", fit.per_million),
                format!("{:+.1} %", 100.0 * fit.rise),
                if fit.is_flat { "flat".to_owned() } else { "NOT FLAT".to_owned() },
            ]);
        }
        let Self { transactions, transactions_per_s, .. } = self;
        format!("{transactions} transactions, {transactions_per_s:.0}/s\n{}", table.render())
    }
}

impl Fit {
    fn of((figure, read): Figure, samples: &[Sample]) -> Self {
        let points = samples.iter().map(|s| (s.transactions as f64 / 1e6, read(s) as f64));
        let points: Vec<(f64, f64)> = points.collect();
        let slope = slope(&points);
        let mean = mean(points.iter().map(|(_, y)| *y));
        let span = match (points.first(), points.last()) {
            (Some((first, _)), Some((last, _))) => last - first,
            _ => 0.0,
        };
        let rise = slope * span / mean.max(1e-9);
        Self { figure, mean, per_million: slope, rise, is_flat: rise < FLAT }
    }
}

/// Of the line with the least squares.
fn slope(points: &[(f64, f64)]) -> f64 {
    let mean_x = mean(points.iter().map(|(x, _)| *x));
    let mean_y = mean(points.iter().map(|(_, y)| *y));
    let covariance: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let variance: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    if variance > 0.0 { covariance / variance } else { 0.0 }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len().max(1) as f64;
    values.sum::<f64>() / count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(read: fn(u64) -> u64) -> Fit {
        let samples = (0..40).map(|n| Sample {
            transactions: 1_000_000 + n * 1_000,
            disk_bytes: read(n),
            ..Sample::default()
        });
        let samples: Vec<Sample> = samples.collect();
        Fit::of(FIGURES[1], &samples)
    }

    #[test]
    fn what_grows_is_told_from_what_goes_up_and_down() {
        let grows = fit(|n| 1_000 + 10 * n);
        assert!(!grows.is_flat && (grows.per_million - 10_000.0).abs() < 1e-3, "{grows:?}");
        let saw = fit(|n| 1_000 + 100 * (n % 5));
        assert!(saw.is_flat, "{saw:?}");
        let still = fit(|_| 7);
        assert!(still.is_flat && still.per_million == 0.0, "{still:?}");
    }
}
