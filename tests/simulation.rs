//! The simulator over many seeds, and proof that its judge can fail.
//!
//! `AFT_SIM_SEEDS` sets how many seeds are run. A seed that fails is looked at with
//! `aft sim --seed S --trace` and the options that the test's name tells.

use aft::sim::{self, Flaw, Options, Report, StoreKind, canary};
use aft::txn::{Consistency, ReadAtomic};

/// A canary has to be caught within so many seeds.
const CANARY_SEEDS: u64 = 40;

fn seeds() -> u64 {
    let set = std::env::var("AFT_SIM_SEEDS").ok().and_then(|text| text.parse().ok());
    set.unwrap_or(3_000)
}

fn read_atomic() -> Box<dyn Consistency> {
    Box::new(ReadAtomic)
}

fn run(seed: u64, make: fn() -> Box<dyn Consistency>) -> Report {
    sim::run(seed, &Options::default(), &move || make())
}

fn on_anna() -> Options {
    Options { store: StoreKind::Anna, ..Options::default() }
}

/// Every size of a cluster has its turn.
fn cluster(seed: u64, dag: bool) -> Options {
    let nodes = 2 + usize::try_from(seed % 8).unwrap_or_default();
    Options { nodes, dag, ..Options::default() }
}

/// Runs seeds and demands that nothing is broken, and that enough happens.
fn unbroken(seeds: u64, options: impl Fn(u64) -> Options) -> Report {
    let total = unbroken_in_any_weather(seeds, options);
    assert!(total.crashes as u64 > seeds / 2, "{total:?}");
    total
}

fn unbroken_in_any_weather(seeds: u64, options: impl Fn(u64) -> Options) -> Report {
    let mut total = Report::default();
    for seed in 0..seeds {
        let report = sim::run(seed, &options(seed), &read_atomic);
        assert_eq!(report.violations, [], "seed {seed}, {:?}", options(seed));
        total.commits += report.commits;
        total.spread_commits += report.spread_commits;
        total.reads += report.reads;
        total.crashes += report.crashes;
        total.freezes += report.freezes;
        total.messages += report.messages;
        total.gone += report.gone;
        total.refused += report.refused;
    }
    // A simulation in which nothing happens proves nothing.
    assert!(total.commits as u64 > 5 * seeds, "{total:?}");
    assert!(total.reads as u64 > 50 * seeds, "{total:?}");
    // Of a thousand reads less than one finds that garbage was collected too early.
    assert!(total.gone * 1_000 < total.reads as u64, "{total:?}");
    total
}

#[test]
fn no_promise_is_broken_under_any_seed() {
    unbroken(seeds(), |_| Options::default());
}

#[test]
fn no_promise_is_broken_on_a_simulated_anna() {
    unbroken(seeds() / 4, |_| on_anna());
}

#[test]
fn no_promise_is_broken_in_a_cluster() {
    let total = unbroken(seeds() / 3, |seed| cluster(seed, false));
    assert!(total.messages as u64 > 50 * seeds() / 3, "{total:?}");
    assert!(total.freezes as u64 > seeds() / 60, "{total:?}");
}

#[test]
fn no_promise_is_broken_by_transactions_over_several_nodes() {
    let total = unbroken(seeds() / 3, |seed| cluster(seed, true));
    assert!(total.spread_commits as u64 > seeds() / 3, "{total:?}");
}

/// Then nothing is deleted that a transaction which is under way may need, and reads are refused for want of
/// a version less than once in a thousand, also for other reasons.
#[test]
fn nothing_that_is_needed_is_deleted_in_fair_weather() {
    let options = |seed| Options { fair: true, ..cluster(seed, true) };
    let total = unbroken_in_any_weather(seeds() / 10, options);
    assert_eq!((total.crashes, total.gone), (0, 0));
    assert!(total.refused * 1_000 < total.reads, "{total:?}");
}

#[test]
fn no_promise_is_broken_in_a_cluster_on_a_simulated_anna() {
    let options = |seed| Options { store: StoreKind::Anna, ..cluster(seed % 3, true) };
    let total = unbroken(seeds() / 20, options);
    assert!(total.spread_commits as u64 > seeds() / 20, "{total:?}");
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..20 {
        for options in [Options::default(), on_anna(), cluster(seed, true)] {
            let [one, other] = [(); 2].map(|()| sim::run(seed, &options, &read_atomic));
            assert_eq!(one, other, "seed {seed}, {options:?}");
        }
    }
    assert_ne!(run(1, read_atomic).fingerprint, run(2, read_atomic).fingerprint);
}

#[test]
fn reading_without_the_lower_bound_is_caught() {
    assert_caught("no fractured reads", |seed| run(seed, || Box::new(canary::NoLowerBound)));
}

#[test]
fn reading_without_the_upper_check_is_caught() {
    assert_caught("no fractured reads", |seed| run(seed, || Box::new(canary::NoUpperCheck)));
}

#[test]
fn a_store_that_forgets_is_caught() {
    let options = Options { flaw: Some(Flaw::Forgetful), ..on_anna() };
    let caught = |seed| !sim::run(seed, &options, &read_atomic).violations.is_empty();
    assert!((0..CANARY_SEEDS).any(caught));
}

#[test]
fn newest_versions_that_are_lost_are_caught() {
    let options = Options { flaw: Some(Flaw::Headless), ..on_anna() };
    assert_caught("a session reads its own commits", |seed| sim::run(seed, &options, &read_atomic));
}

#[test]
fn garbage_that_stays_on_anna_is_caught() {
    let flaw = Some(Flaw::Hoarding);
    let options = Options { nodes: 4, dag: true, flaw, ..on_anna() };
    assert_caught("garbage is collected", |seed| sim::run(seed, &options, &read_atomic));
}

#[test]
fn a_transaction_that_forgets_what_it_read_elsewhere_is_caught() {
    assert_flaw_is_caught(Flaw::Amnesic, "repeatable reads");
    assert_flaw_is_caught(Flaw::Amnesic, "no fractured reads");
}

#[test]
fn branches_that_are_merged_unchecked_are_caught() {
    assert_flaw_is_caught(Flaw::Credulous, "no fractured reads");
}

#[test]
fn values_of_which_the_depth_is_not_told_are_caught() {
    assert_flaw_is_caught(Flaw::Shallow, "the deeper write counts");
}

#[test]
fn a_commit_that_is_told_before_it_is_durable_is_caught() {
    assert_flaw_is_caught(Flaw::Boastful, "nothing lost");
    assert_flaw_is_caught(Flaw::Boastful, "no dirty reads");
}

#[test]
fn a_commit_that_is_told_before_it_is_readable_is_caught() {
    assert_flaw_is_caught(Flaw::Tardy, "a session reads its own commits");
}

#[test]
fn gossip_that_was_lost_and_counts_as_heard_is_caught() {
    assert_flaw_is_caught(Flaw::Deaf, "a session reads its own commits");
}

#[test]
fn garbage_that_others_may_need_is_caught() {
    assert_haste_is_caught(Flaw::Hasty);
}

#[test]
fn garbage_that_transactions_elsewhere_may_need_is_caught() {
    assert_haste_is_caught(Flaw::Oblivious);
}

#[test]
fn counting_on_a_node_that_died_for_ever_is_caught() {
    assert_flaw_is_caught(Flaw::Haunted, "garbage is collected");
}

#[test]
fn a_log_that_was_not_read_is_caught() {
    assert_flaw_is_caught(Flaw::Unread, "commits are seen everywhere");
}

#[test]
fn garbage_that_stays_is_caught() {
    assert_flaw_is_caught(Flaw::Hoarding, "garbage is collected");
}

fn assert_flaw_is_caught(flaw: Flaw, promise: &str) {
    let options = Options { nodes: 4, dag: true, flaw: Some(flaw), ..Options::default() };
    assert_caught(promise, |seed| sim::run(seed, &options, &read_atomic));
}

/// A transaction must be under way that has read something of which a part was just superseded.
fn assert_haste_is_caught(flaw: Flaw) {
    let long = Options { clients: 3, keys: 6, requests: 2_500, ..Options::default() };
    let options = Options { nodes: 6, dag: true, fair: true, flaw: Some(flaw), ..long };
    assert_caught("what is needed stays", |seed| sim::run(seed, &options, &read_atomic));
}

fn assert_caught(promise: &str, run: impl Fn(u64) -> Report) {
    let caught = |seed| run(seed).violations.iter().any(|broken| broken.promise == promise);
    assert!((0..CANARY_SEEDS).any(caught), "not caught in {CANARY_SEEDS} seeds: {promise}");
}
