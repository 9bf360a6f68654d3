//! `aft sim`: runs the simulator, one seed or many.

use std::ops::Range;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use aft::sim::{self, Flaw, Options, Report, SITES_MAX, StoreKind, canary};
use aft::txn::{Consistency, ReadAtomic};
use clap::{Args, ValueEnum};
use parking_lot::Mutex;

/// Simulate nodes, their store, network and clients, with faults, and judge what happened.
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
    /// Begin with this seed instead
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    from: u64,
    /// Nodes in each run
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = nodes)]
    nodes: usize,
    /// Let half of the clients run transactions whose functions are spread over the nodes
    #[arg(long)]
    dag: bool,
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
    /// Nodes keep everything for ever
    #[arg(long)]
    no_garbage: bool,
    /// No node dies or stops, and clocks are about right
    #[arg(long)]
    fair: bool,

    /// Print everything that happens, in order
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Break something, to see that the judge notices
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

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Canary {
    /// Reads may be older than what was written together with an earlier read
    NoLowerBound,
    /// Reads may be newer than what was read before
    NoUpperCheck,
    /// Anna forgets some writes that it acknowledged
    Forgetful,
    /// Anna forgets which version of a key is the newest
    Headless,
    /// A transaction that goes on at another node loses what it has read
    Amnesic,
    /// What was read in two branches is not compared when they are merged
    Credulous,
    /// Nodes do not tell each other how deep in the graph a value was written
    Shallow,
    /// A commit is confirmed before it is stored
    Boastful,
    /// Clients are told of a commit before it can be read
    Tardy,
    /// Gossip that is lost counts as heard
    Deaf,
    /// Garbage is deleted while others may need it
    Hasty,
    /// Nodes forget what a transaction may need that has gone on to other nodes, or has come from there
    Oblivious,
    /// A node that has died for ever goes on saying that it is there
    Haunted,
    /// Nodes believe to have read the store's log, and have not
    Unread,
    /// Garbage is kept
    Hoarding,
}

fn nodes(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(nodes) if (1..=SITES_MAX).contains(&nodes) => Ok(nodes),
        _ => Err(format!("expected a number from 1 to {SITES_MAX}")),
    }
}

pub fn run(args: SimArgs) -> ExitCode {
    let seeds = match args.seed {
        Some(seed) => seed..seed.saturating_add(1),
        None => args.from..args.from.saturating_add(args.seeds),
    };
    let options = Options {
        nodes: args.nodes,
        dag: args.dag,
        clients: args.clients,
        keys: args.keys,
        store: match args.store {
            Store::Conditional => StoreKind::Conditional,
            Store::Anna => StoreKind::Anna,
        },
        requests: args.requests,
        garbage: !args.no_garbage,
        fair: args.fair,
        flaw: args.canary.and_then(flaw),
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
                    sum.gone += report.gone;
                    sum.refused += report.refused;
                    sum.forgot += report.forgot;
                    sum.spread_commits += report.spread_commits;
                    sum.messages += report.messages;
                    sum.fingerprint ^= report.fingerprint;
                }
            });
        }
    });
    let (sum, failed) = total.into_inner();
    println!(
        "{} seeds, {failed} failed: {} attempts, {} commits ({} of several nodes), {} reads ({} gone, {} refused in vain, {} where keys were forgotten), {} messages, {} crashes, fingerprint {:016x}",
        seeds.end.saturating_sub(seeds.start),
        sum.attempts,
        sum.commits,
        sum.spread_commits,
        sum.reads,
        sum.gone,
        sum.refused,
        sum.forgot,
        sum.messages,
        sum.crashes,
        sum.fingerprint
    );
    failed
}

fn consistency(canary: Option<Canary>) -> Box<dyn Consistency> {
    match canary {
        Some(Canary::NoLowerBound) => Box::new(canary::NoLowerBound),
        Some(Canary::NoUpperCheck) => Box::new(canary::NoUpperCheck),
        _ => Box::new(ReadAtomic),
    }
}

fn flaw(canary: Canary) -> Option<Flaw> {
    match canary {
        Canary::NoLowerBound | Canary::NoUpperCheck => None,
        Canary::Forgetful => Some(Flaw::Forgetful),
        Canary::Headless => Some(Flaw::Headless),
        Canary::Amnesic => Some(Flaw::Amnesic),
        Canary::Credulous => Some(Flaw::Credulous),
        Canary::Shallow => Some(Flaw::Shallow),
        Canary::Boastful => Some(Flaw::Boastful),
        Canary::Tardy => Some(Flaw::Tardy),
        Canary::Deaf => Some(Flaw::Deaf),
        Canary::Hasty => Some(Flaw::Hasty),
        Canary::Oblivious => Some(Flaw::Oblivious),
        Canary::Haunted => Some(Flaw::Haunted),
        Canary::Unread => Some(Flaw::Unread),
        Canary::Hoarding => Some(Flaw::Hoarding),
    }
}
