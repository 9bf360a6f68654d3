//! `aft bench soak`: whether what a sidecar needs stays bounded while the same keys are written again and
//! again, what collecting garbage costs, and whether a restart takes longer after more transactions.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use self::compare::Collecting;
use self::growth::Growth;
use self::restart::Restarts;
use self::sample::{Sample, Samples};
use super::children::Family;
use super::client::Plan;
use super::sidecar::{Kept, Language, Load, Server, load, load_on};
use super::{BenchError, ipc};

mod compare;
mod growth;
mod restart;
mod sample;

/// Long enough to be ended by the benchmark.
const SECONDS_MAX: f64 = 1e6;
/// So that outcomes are forgotten soon after their time. A sweep costs what the store holds, whatever is done
/// meanwhile: with this pause about a hundred times of what it costs by default.
const SWEEP_SECONDS: &str = "5";

/// Write the same keys for long, and see what grows.
///
/// Transactions of two reads and a write run on a fixed set of keys, without a pause, on a sidecar whose
/// windows are so short (a retry window of 20 s) that even outcomes are forgotten within the run. Memory, disk
/// and everything that is counted is looked at every few seconds, and written to --csv. Over the second half a
/// line is fitted to each figure: what keeps growing says so.
///
/// Then, in turns: throughput with garbage collected and with --collect-garbage false. Then: the time from
/// the start of a process until it is ready, on a store in which each key was written once, and on the same
/// store after --restart-after transactions; both after the process before was ended, and after it was killed.
#[derive(Debug, Clone, Args, Serialize)]
pub struct SoakOptions {
    /// How many keys there are
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    pub keys: usize,
    /// Size of values
    #[arg(long, default_value_t = 1024, value_name = "BYTES")]
    pub value_bytes: usize,
    /// Clients that write all the time
    #[arg(long, default_value_t = 8, value_name = "N")]
    pub clients: usize,
    /// For how long
    #[arg(long, default_value_t = 300.0, value_name = "SECONDS")]
    pub seconds: f64,
    /// End earlier, after so many transactions
    #[arg(long, value_name = "N")]
    pub transactions: Option<u64>,
    /// How often to look
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS")]
    pub sample_each: f64,
    /// Rounds of the comparison with a sidecar that keeps everything; 0 for none
    #[arg(long, default_value_t = 6, value_name = "N")]
    pub compare_rounds: usize,
    /// Seconds that each round lasts for each of the two
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    pub compare_seconds: f64,
    /// Transactions before the second restart; 0 for no restarts
    #[arg(long, default_value_t = 2_000_000, value_name = "N")]
    pub restart_after: u64,
    /// Where the samples are written, as comma-separated values
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub csv: Option<PathBuf>,
    /// Where sockets and stores are put; a real disk, or commits are too fast
    /// [default: the directory for temporary files]
    #[arg(long, value_name = "DIR")]
    #[serde(skip)]
    pub work_dir: Option<PathBuf>,
    /// Leave the stores and all logs where they are
    #[arg(long)]
    #[serde(skip)]
    pub keep: bool,
}

/// All that was measured.
#[derive(Debug, Serialize)]
pub struct SoakReport {
    version: &'static str,
    cpus: usize,
    options: SoakOptions,
    samples: Samples,
    growth: Growth,
    collecting: Option<Collecting>,
    restarts: Option<Restarts>,
}

/// Measures.
pub fn run(options: &SoakOptions) -> Result<SoakReport, BenchError> {
    let parent = options.work_dir.clone().unwrap_or_else(std::env::temp_dir);
    let soak = Soak { family: Family::begin(&parent, options.keep)?, options };
    let samples = soak.samples()?;
    let growth = Growth::of(&samples);
    let compares = options.compare_rounds > 0;
    let collecting = compares.then(|| Collecting::measure(&soak)).transpose()?;
    let restarts = (options.restart_after > 0).then(|| Restarts::measure(&soak)).transpose()?;
    Ok(SoakReport {
        version: env!("CARGO_PKG_VERSION"),
        cpus: std::thread::available_parallelism().map_or(0, usize::from),
        options: options.clone(),
        samples,
        growth,
        collecting,
        restarts,
    })
}

struct Soak<'a> {
    family: Family,
    options: &'a SoakOptions,
}

impl Soak<'_> {
    /// A sidecar with short windows, and a store of its own by this name.
    fn sidecar(&self, name: &str) -> Result<Server, BenchError> {
        self.sidecar_with(name, [("--sweep-each", SWEEP_SECONDS)])
    }

    fn sidecar_with<const N: usize>(
        &self,
        name: &str,
        more: [(&str, &str); N],
    ) -> Result<Server, BenchError> {
        let kept = Kept::Directory(self.store(name));
        let windows = [
            ("--txn-lifetime", "2"),
            ("--retry-window", "20"),
            ("--clock-bound", "1"),
            // Full before the second half.
            ("--cache-bytes-max", "67108864"),
        ];
        let windows = windows.into_iter().chain(more);
        let windows = windows.flat_map(|(option, value)| [option, value]);
        let windows: Vec<String> = windows.map(str::to_owned).collect();
        Server::sidecar_with(&self.family, name, &kept, &windows)
    }

    fn store(&self, name: &str) -> PathBuf {
        self.family.path().join(format!("{name}-store"))
    }

    fn work(&self, plan: Plan, threads: usize, seconds: f64) -> Load {
        Load {
            plan,
            threads,
            seconds,
            warmup_seconds: 0.0,
            writes: 1,
            value_bytes: self.options.value_bytes,
            keys: self.options.keys,
        }
    }

    /// Writes each key once.
    fn fill(&self, server: &Server) -> Result<(), BenchError> {
        load(&self.family, &[server], Language::Rust, 1, &self.work(Plan::Load, 1, SECONDS_MAX))?;
        Ok(())
    }

    fn samples(&self) -> Result<Samples, BenchError> {
        let sidecar = self.sidecar("soak")?;
        self.fill(&sidecar)?;
        let _client = load_on(
            &self.family,
            &sidecar,
            &self.work(Plan::Whole, self.options.clients, SECONDS_MAX),
        )?;
        let mut samples = Samples::begin(self.options.csv.as_deref())?;
        let progress = ipc::bar(self.options.seconds.ceil() as usize);
        progress.set_message("watching what grows");
        let began = Instant::now();
        loop {
            std::thread::sleep(Duration::from_secs_f64(self.options.sample_each));
            let sample = Sample::take(&sidecar, &self.store("soak"), began.elapsed())?;
            let is_enough = self.options.transactions.is_some_and(|n| sample.transactions >= n);
            samples.add(sample)?;
            progress.set_position(began.elapsed().as_secs());
            if is_enough || began.elapsed().as_secs_f64() >= self.options.seconds {
                break;
            }
        }
        progress.finish_and_clear();
        Ok(samples)
    }
}

impl SoakReport {
    /// For people.
    pub fn render(&self) -> String {
        let SoakOptions { keys, value_bytes, clients, .. } = self.options;
        let mut text = format!(
            "aft {} on {} CPUs, {keys} keys, values of {value_bytes} bytes, {clients} clients\n\n",
            self.version, self.cpus
        );
        text.push_str(&self.growth.render());
        let parts = [
            self.collecting.as_ref().map(Collecting::render),
            self.restarts.as_ref().map(Restarts::render),
        ];
        for part in parts.into_iter().flatten() {
            // Writing to a string does not fail.
            let _ = write!(text, "\n{part}");
        }
        text
    }
}
