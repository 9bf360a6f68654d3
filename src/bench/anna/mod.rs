//! `aft bench anna`: what a transaction costs next to the plain PUTs of the Anna that holds it.
//!
//! Anna's own speed is the floor: the same client, the same store and the same sizes, in turns within
//! one run. Four questions, a file each: how long a commit takes (`latency`), how many of them there
//! can be (`rate`), and what becomes of both when the log has grown, and of starting (`growth`).

mod direct;
mod growth;
mod latency;
mod rate;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use self::growth::Growth;
use self::latency::Latency;
use self::rate::Rates;
use super::BenchError;
use super::children::Family;
use super::ipc::bar;
use super::place::Place;
use super::sidecar::Server;
use super::target::Target;

/// Measure transactions next to the plain PUTs of the Anna in which they are stored.
///
/// Without --routing it starts an Anna-speaking server of its own, in memory. In a store that others
/// use it leaves keys behind that begin with "bench" or with "aft~".
#[derive(Debug, Clone, Args, Serialize)]
pub struct AnnaOptions {
    /// Where the routing tier of an Anna listens [default: an aft anna-server of its own]
    #[arg(long, value_name = "HOST[:PORT]")]
    pub routing: Option<String>,
    /// This machine's address, as that Anna can reach it
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub ip: IpAddr,
    /// Seconds for which each kind of work is done in a round
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS")]
    pub seconds_per_round: f64,
    /// Rounds
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub rounds: usize,
    /// Sizes of the values of single PUTs and of transactions
    #[arg(long, value_delimiter = ',', default_value = "100,1024,4096", value_name = "BYTES,…")]
    pub value_bytes: Vec<usize>,
    /// Writes of a transaction whose commit is timed
    #[arg(long, default_value_t = 16, value_name = "N")]
    pub writes: usize,
    /// PUTs, and transactions of one write, under way at once where rates are measured
    #[arg(long, default_value_t = 64, value_name = "N")]
    pub outstanding: usize,
    /// Keys that transactions write again and again
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub keys: usize,
    /// Commits after which a commit is timed again, and the log is read; 0 leaves this out
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    pub log_commits: usize,
    /// Where sockets and logs are put [default: the directory for temporary files]
    #[arg(long, value_name = "DIR")]
    #[serde(skip)]
    pub work_dir: Option<PathBuf>,
    /// Leave all logs where they are
    #[arg(long)]
    #[serde(skip)]
    pub keep: bool,
}

/// All that was measured.
#[derive(Debug, Serialize)]
pub struct AnnaReport {
    version: &'static str,
    cpus: usize,
    options: AnnaOptions,
    latency: Vec<Latency>,
    rates: Rates,
    growth: Option<Growth>,
    targets: Vec<Target>,
}

/// Measures.
pub fn run(options: &AnnaOptions) -> Result<AnnaReport, BenchError> {
    if options.keys < options.writes {
        let why = format!("{} writes need as many keys", options.writes);
        return Err(BenchError::Answer(why));
    }
    let parent = options.work_dir.clone().unwrap_or_else(std::env::temp_dir);
    let family = Family::begin(&parent, options.keep)?;
    let place = Place::find(&family, options.routing.as_deref(), options.ip)?;
    let progress = bar(options.rounds * (options.value_bytes.len() + 2) + growth::STEPS);
    let sidecar = Server::sidecar(&family, &place.kept())?;
    let sizes = options.value_bytes.iter();
    let latency = sizes
        .map(|size| latency::measure(&place, &sidecar, options, *size, &progress))
        .collect::<Result<Vec<_>, _>>()?;
    let rates = rate::measure(&family, &place, &sidecar, options, &progress)?;
    sidecar.process.end();
    let growth = match options.log_commits {
        0 => None,
        _ => Some(growth::measure(&place, options, &progress)?),
    };
    progress.finish_and_clear();
    place.end();
    let targets = latency.iter().flat_map(Latency::targets);
    let targets = targets.chain(rates.targets()).chain(growth.iter().flat_map(Growth::targets));
    Ok(AnnaReport {
        version: env!("CARGO_PKG_VERSION"),
        cpus: std::thread::available_parallelism().map_or(0, usize::from),
        options: options.clone(),
        targets: targets.collect(),
        latency,
        rates,
        growth,
    })
}

impl AnnaReport {
    /// For people.
    pub fn render(&self) -> String {
        let mut parts = vec![format!(
            "aft {} on {} CPUs, Anna: {}, {} rounds of {} s\n",
            self.version,
            self.cpus,
            self.options.routing.as_deref().unwrap_or("aft anna-server, in memory"),
            self.options.rounds,
            self.options.seconds_per_round
        )];
        parts.extend(self.latency.iter().map(Latency::render));
        parts.push(self.rates.render());
        parts.extend(self.growth.iter().map(Growth::render));
        parts.push(Target::render_all(&self.targets));
        parts.join("\n")
    }
}
