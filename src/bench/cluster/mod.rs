//! `aft bench cluster`: what several nodes on one store cost each other.
//!
//! Four questions, a file each: what a transaction over two nodes takes next to one on a single node
//! (`chain`), how soon a commit is read elsewhere (`visibility`), what gossip costs real processes
//! (`traffic`), and what it costs a node among more of them than a machine can run (`model`).

mod chain;
pub(super) mod executor;
mod load;
mod model;
mod nodes;
mod traffic;
mod visibility;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use self::chain::Chains;
use self::model::Model;
use self::nodes::NODES_MAX;
use self::traffic::Traffic;
use self::visibility::Visibility;
use super::BenchError;
use super::children::Family;
use super::ipc::bar;
use super::process;
use super::target::Target;

/// Measure transactions over several nodes, and gossip.
///
/// Without --anna-routing each part starts an Anna-speaking server of its own, in memory. In a store
/// that others use it leaves keys behind that begin with "bench" or with "aft~".
#[derive(Debug, Clone, Args, Serialize)]
pub struct ClusterOptions {
    /// Where the routing tier of an Anna listens [default: an aft anna-server of its own]
    #[arg(long, value_name = "HOST[:PORT]")]
    pub anna_routing: Option<String>,
    /// This machine's address, as that Anna can reach it
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub ip: IpAddr,
    /// How often nodes tell each other of their commits, in milliseconds
    #[arg(long, default_value_t = 100, value_name = "MILLISECONDS")]
    pub gossip_interval: u64,
    /// Size of the values that transactions read and write
    #[arg(long, default_value_t = 4096, value_name = "BYTES")]
    pub value_bytes: usize,
    /// Rounds in which chains of functions are timed
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub rounds: usize,
    /// Seconds for which each kind of chain is run in a round
    #[arg(long, default_value_t = 3.0, value_name = "SECONDS")]
    pub seconds_per_round: f64,
    /// Nodes on which commits are looked for
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub visible_nodes: usize,
    /// Commits per second on each of them
    #[arg(long, default_value_t = 20.0, value_name = "RATE")]
    pub visible_rate: f64,
    /// Pause between two looks, in milliseconds
    #[arg(long, default_value_t = 2.0, value_name = "MILLISECONDS")]
    pub look_each: f64,
    /// Numbers of nodes, as processes, of which the gossip is measured
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8", value_name = "N,N,…")]
    pub nodes: Vec<usize>,
    /// Commits per second on each of them, and on each simulated one
    #[arg(long, default_value_t = 10.0, value_name = "RATE")]
    pub rate: f64,
    /// Seconds for which visibility, idle nodes and busy nodes are watched, each
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    pub watch_seconds: f64,
    /// Numbers of nodes, in one process and without sockets, of which one's gossip is measured
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "2,4,8,16,64,250,1000",
        value_name = "N,N,…"
    )]
    pub simulated: Vec<usize>,
    /// Commits of which a simulated node hears, to see what memory that takes
    #[arg(long, default_value_t = 200_000, value_name = "N")]
    pub heard: usize,
    /// Small numbers everywhere: whether it works, in some seconds
    #[arg(long)]
    pub quick: bool,
    /// Where sockets and logs are put [default: the directory for temporary files]
    #[arg(long, value_name = "DIR")]
    #[serde(skip)]
    pub work_dir: Option<PathBuf>,
    /// Leave all logs where they are
    #[arg(long)]
    #[serde(skip)]
    pub keep: bool,
}

impl ClusterOptions {
    fn effective(&self) -> Self {
        let mut options = self.clone();
        if options.quick {
            options.rounds = 1;
            options.seconds_per_round = options.seconds_per_round.min(0.2);
            options.visible_nodes = options.visible_nodes.min(2);
            options.nodes = vec![1, 2];
            options.watch_seconds = options.watch_seconds.min(1.0);
            options.simulated = vec![2, 16];
            options.heard = options.heard.min(5_000);
        }
        options
    }

    fn check(&self) -> Result<(), BenchError> {
        let counts = self.nodes.iter().chain([&self.visible_nodes]);
        if counts.into_iter().any(|count| !(1..=NODES_MAX).contains(count)) {
            let why = format!("from 1 to {NODES_MAX} nodes can run on one address");
            return Err(BenchError::Answer(why));
        }
        if self.rate <= 0.0 || self.visible_rate <= 0.0 {
            return Err(BenchError::Answer("a rate should be greater than 0".to_owned()));
        }
        Ok(())
    }
}

/// All that was measured.
#[derive(Debug, Serialize)]
pub struct ClusterReport {
    version: &'static str,
    cpus: usize,
    /// Threads that wanted to run on the machine in the minute before: what else there was.
    load_before: Option<f64>,
    options: ClusterOptions,
    chains: Chains,
    visibility: Visibility,
    traffic: Traffic,
    model: Model,
    targets: Vec<Target>,
}

/// Measures.
pub fn run(options: &ClusterOptions) -> Result<ClusterReport, BenchError> {
    let options = options.effective();
    options.check()?;
    let parent = options.work_dir.clone().unwrap_or_else(std::env::temp_dir);
    let load_before = process::load_average();
    let family = Family::begin(&parent, options.keep)?;
    let progress = bar(options.rounds + 1 + options.nodes.len() + options.simulated.len() + 1);
    let chains = chain::measure(&family, &options, &progress)?;
    let visibility = visibility::measure(&family, &options, &progress)?;
    let traffic = traffic::measure(&family, &options, &progress)?;
    let model = model::measure(&options, &progress)?;
    progress.finish_and_clear();
    Ok(ClusterReport {
        version: env!("CARGO_PKG_VERSION"),
        cpus: std::thread::available_parallelism().map_or(0, usize::from),
        load_before,
        targets: chains.targets().into_iter().chain(visibility.targets()).collect(),
        options,
        chains,
        visibility,
        traffic,
        model,
    })
}

impl ClusterReport {
    /// For people.
    pub fn render(&self) -> String {
        let head = format!(
            "aft {} on {} CPUs, load {:.1} before, Anna: {}, gossip each {} ms\n",
            self.version,
            self.cpus,
            self.load_before.unwrap_or_default(),
            self.options.anna_routing.as_deref().unwrap_or("aft anna-server, in memory"),
            self.options.gossip_interval,
        );
        [
            head,
            self.chains.render(),
            self.visibility.render(),
            self.traffic.render(),
            self.model.render(),
            Target::render_all(&self.targets),
        ]
        .join("\n")
    }
}
