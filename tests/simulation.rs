//! The simulator over many seeds, and proof that its judge can fail.
//!
//! `AFT_SIM_SEEDS` sets how many seeds are run. A seed that fails is looked at with
//! `aft sim --seed S --trace`.

use aft::sim::{self, Flaw, Options, Report, StoreKind, canary};
use aft::txn::{Consistency, ReadAtomic};

/// A canary has to be caught within so many seeds.
const CANARY_SEEDS: u64 = 20;

fn seeds() -> u64 {
    let set = std::env::var("AFT_SIM_SEEDS").ok().and_then(|text| text.parse().ok());
    set.unwrap_or(3_000)
}

fn run(seed: u64, make: fn() -> Box<dyn Consistency>) -> Report {
    sim::run(seed, &Options::default(), &move || make())
}

fn run_on_anna(seed: u64, flaw: Option<Flaw>) -> Report {
    let options = Options { store: StoreKind::Anna, flaw, ..Options::default() };
    sim::run(seed, &options, &read_atomic)
}

fn read_atomic() -> Box<dyn Consistency> {
    Box::new(ReadAtomic)
}

#[test]
fn no_promise_is_broken_under_any_seed() {
    let mut total = Report::default();
    for seed in 0..seeds() {
        let report = run(seed, read_atomic);
        assert_eq!(report.violations, [], "seed {seed}");
        total.commits += report.commits;
        total.reads += report.reads;
        total.crashes += report.crashes;
    }
    // A simulation in which nothing happens proves nothing.
    assert!(total.commits as u64 > 5 * seeds(), "{total:?}");
    assert!(total.reads as u64 > 50 * seeds(), "{total:?}");
    assert!(total.crashes as u64 > seeds() / 2, "{total:?}");
}

#[test]
fn no_promise_is_broken_on_a_simulated_anna() {
    let mut total = Report::default();
    let seeds = seeds() / 2;
    for seed in 0..seeds {
        let report = run_on_anna(seed, None);
        assert_eq!(report.violations, [], "seed {seed}");
        total.commits += report.commits;
        total.crashes += report.crashes;
    }
    assert!(total.commits as u64 > 5 * seeds, "{total:?}");
    assert!(total.crashes as u64 > seeds / 2, "{total:?}");
}

#[test]
fn a_backend_that_takes_what_was_accepted_for_decided_is_caught() {
    let caught = |seed| !run_on_anna(seed, Some(Flaw::Trusting)).violations.is_empty();
    assert!((0..10 * CANARY_SEEDS).any(caught));
}

#[test]
fn a_store_that_forgets_is_caught() {
    let caught = |seed| !run_on_anna(seed, Some(Flaw::Forgetful)).violations.is_empty();
    assert!((0..CANARY_SEEDS).any(caught));
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..20 {
        assert_eq!(run(seed, read_atomic), run(seed, read_atomic), "seed {seed}");
        assert_eq!(run_on_anna(seed, None), run_on_anna(seed, None), "seed {seed} on Anna");
    }
    assert_ne!(run(1, read_atomic).fingerprint, run(2, read_atomic).fingerprint);
}

#[test]
fn reading_without_the_lower_bound_is_caught() {
    assert_caught(|| Box::new(canary::NoLowerBound));
}

#[test]
fn reading_without_the_upper_check_is_caught() {
    assert_caught(|| Box::new(canary::NoUpperCheck));
}

fn assert_caught(make: fn() -> Box<dyn Consistency>) {
    let fractured = |seed| {
        let violations = run(seed, make).violations;
        violations.iter().any(|violation| violation.promise == "no fractured reads")
    };
    assert!((0..CANARY_SEEDS).any(fractured), "not caught in {CANARY_SEEDS} seeds");
}
