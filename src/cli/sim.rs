//! `aft sim`: runs the simulator, one seed or many.

use std::ops::Range;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use aft::sim::{self, Options, Report, StoreKind, canary};
use aft::txn::{Consistency, ReadAtomic};
use clap::{Args, ValueEnum};
use parking_lot::Mutex;

/// Simulate a node, its store and its clients, with faults, and judge what happened.
///
/// The same seed gives the same run. A seed that failed is run again with --seed.
#[derive(Args)]
pub struct SimArgs {
    /// Run this one seed
    #[arg(long, value_name = "SEED", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Run so many seeds, beginning with 0
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    seeds: u64,
    /// Requests in each run
    #[arg(long, value_name = "N", default_value_t = Options::default().requests)]
    requests: usize,
    /// Clients in each run
    #[arg(long, value_name = "N", default_value_t = Options::default().clients)]
    clients: usize,
    /// Keys in each run
    #[arg(long, value_name = "N", default_value_t = Options::default().keys)]
    keys: usize,
    /// What keeps the commits
    #[arg(long, value_enum, default_value = "conditional")]
    store: Store,
    /// Print everything that happens, in order
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Leave a check out, to see that the judge notices
    #[arg(long, value_enum)]
    canary: Option<Canary>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Store {
    /// A store that creates an outcome only if there is none
    Conditional,
    /// Objects that merge, as in Anna, under the backend that makes a store of them
    Anna,
}

#[derive(Clone, Copy, ValueEnum)]
enum Canary {
    NoLowerBound,
    NoUpperCheck,
}

pub fn run(args: SimArgs) -> ExitCode {
    let seeds = match args.seed {
        Some(seed) => seed..seed.saturating_add(1),
        None => 0..args.seeds,
    };
    let options = Options {
        clients: args.clients,
        keys: args.keys,
        store: match args.store {
            Store::Conditional => StoreKind::Conditional,
            Store::Anna => StoreKind::Anna,
        },
        requests: args.requests,
        flaw: None,
        trace: args.trace,
    };
    let failed = run_all(seeds, &options, args.canary);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_all(seeds: Range<u64>, options: &Options, canary: Option<Canary>) -> u64 {
    let next = AtomicU64::new(seeds.start);
    let total = Mutex::new((Report::default(), 0));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let report = sim::run(seed, options, &|| consistency(canary));
                    let (sum, failed) = &mut *total.lock();
                    for violation in &report.violations {
                        println!("seed {seed}: {violation}");
                    }
                    *failed += u64::from(!report.violations.is_empty());
                    sum.commits += report.commits;
                    sum.attempts += report.attempts;
                    sum.reads += report.reads;
                    sum.crashes += report.crashes;
                    sum.fingerprint ^= report.fingerprint;
                }
            });
        }
    });
    let (sum, failed) = total.into_inner();
    println!(
        "{} seeds, {failed} failed: {} attempts, {} commits, {} reads, {} crashes, fingerprint {:016x}",
        seeds.end.saturating_sub(seeds.start),
        sum.attempts,
        sum.commits,
        sum.reads,
        sum.crashes,
        sum.fingerprint
    );
    failed
}

fn consistency(canary: Option<Canary>) -> Box<dyn Consistency> {
    match canary {
        None => Box::new(ReadAtomic),
        Some(Canary::NoLowerBound) => Box::new(canary::NoLowerBound),
        Some(Canary::NoUpperCheck) => Box::new(canary::NoUpperCheck),
    }
}
