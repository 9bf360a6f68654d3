//! `aft bench commit`: how much is gained when commits that arrive together share a sync.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::batches::{Batches, Shape};
use super::children::Family;
use super::client::Plan;
use super::ipc::bar;
use super::sidecar::{Kept, Language, Load, Server, load};
use super::stats::{Measured, Quantiles, Round, Times, median};
use super::table::{Table, micros, times as ratio};
use super::{BenchError, system};
use crate::storage::embedded::{EmbeddedOptions, EmbeddedStore};
use crate::storage::{Storage, StorageError};

const WARMUP_SECONDS: f64 = 0.3;
/// The operation that is timed, in the clients' words.
const COMMIT: &str = "commit";
/// The sidecar's clients need keys to exist as little as the store does; this many are written.
const KEYS: usize = 100_000;

/// Measure commits by several committers at once.
///
/// Each committer writes one new value per commit and waits until it is durable: against the embedded
/// store directly, and through a sidecar (start, put, commit). Next to them stands what the disk does:
/// one thread that appends as many bytes to a file and syncs it.
#[derive(Debug, Clone, Args, Serialize)]
pub struct CommitOptions {
    /// Numbers of committers
    #[arg(long, value_delimiter = ',', default_value = "1,4,16,64", value_name = "N,N,…")]
    pub committers: Vec<usize>,
    /// Seconds that a round lasts
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    pub seconds_per_round: f64,
    /// Rounds
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub rounds: usize,
    /// Size of values
    #[arg(long, default_value_t = 1024, value_name = "BYTES")]
    pub value_bytes: usize,
    /// Where the stores are put; a real disk, or there is nothing to measure
    /// [default: the directory for temporary files]
    #[arg(long, value_name = "DIR")]
    #[serde(skip)]
    pub data_dir: Option<PathBuf>,
    /// Leave the stores and all logs where they are
    #[arg(long)]
    #[serde(skip)]
    pub keep: bool,
}

/// All that was measured.
#[derive(Debug, Serialize)]
pub struct CommitReport {
    version: &'static str,
    cpus: usize,
    options: CommitOptions,
    append_and_sync: Figures,
    store: Vec<Figures>,
    sidecar: Vec<Figures>,
}

/// One number of committers: medians over the rounds.
#[derive(Debug, Serialize)]
pub struct Figures {
    committers: usize,
    commits_per_s: f64,
    p50_us: f64,
    p99_us: f64,
    /// Commits per second relative to the first number of committers.
    gain: f64,
}

/// Measures.
pub fn run(options: &CommitOptions) -> Result<CommitReport, BenchError> {
    let parent = options.data_dir.clone().unwrap_or_else(std::env::temp_dir);
    let family = Family::begin(&parent, options.keep)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().build().map_err(system("make a runtime"))?;
    let open = EmbeddedStore::open(family.path().join("library"), EmbeddedOptions::default());
    let library = Library { store: Arc::new(open?), runtime };
    let sidecar = Server::sidecar(&family, &Kept::Directory(family.path().join("store")))?;
    let measured = all_rounds(options, &family, &library, &sidecar)?;
    sidecar.process.end();
    let figures = |rounds: &[Vec<Round>]| {
        let first = rounds.first().map_or(0.0, |first| rate(first));
        let numbers = options.committers.iter().zip(rounds);
        numbers.map(|(n, rounds)| Figures::new(*n, rounds, first)).collect()
    };
    Ok(CommitReport {
        version: env!("CARGO_PKG_VERSION"),
        cpus: std::thread::available_parallelism().map_or(0, usize::from),
        options: options.clone(),
        append_and_sync: Figures::new(1, &measured.disk, rate(&measured.disk)),
        store: figures(&measured.store),
        sidecar: figures(&measured.sidecar),
    })
}

/// Rounds by number of committers.
struct Rounds {
    disk: Vec<Round>,
    store: Vec<Vec<Round>>,
    sidecar: Vec<Vec<Round>>,
}

fn all_rounds(
    options: &CommitOptions,
    family: &Family,
    library: &Library,
    sidecar: &Server,
) -> Result<Rounds, BenchError> {
    let none = || options.committers.iter().map(|_| Vec::new()).collect();
    let mut rounds = Rounds { disk: Vec::new(), store: none(), sidecar: none() };
    let progress = bar(options.rounds * (1 + 2 * options.committers.len()));
    for _ in 0..options.rounds {
        let file = family.path().join("appended");
        rounds.disk.push(append_and_sync(&file, options)?);
        progress.inc(1);
        for (number, committers) in options.committers.iter().enumerate() {
            let direct = library.commit(*committers, options)?;
            progress.inc(1);
            let work = Load {
                plan: Plan::Commit,
                threads: *committers,
                seconds: options.seconds_per_round,
                warmup_seconds: WARMUP_SECONDS,
                writes: 1,
                value_bytes: options.value_bytes,
                keys: KEYS,
            };
            let through = load(family, &[sidecar], Language::Rust, 1, &work)?;
            progress.inc(1);
            if let Some(store) = rounds.store.get_mut(number) {
                store.push(direct);
            }
            if let Some(sidecar) = rounds.sidecar.get_mut(number) {
                sidecar.extend(through);
            }
        }
    }
    progress.finish_and_clear();
    Ok(rounds)
}

/// What the disk gives to one writer.
fn append_and_sync(path: &Path, options: &CommitOptions) -> Result<Round, BenchError> {
    let failed = || system(format!("append to {}", path.display()));
    let mut file = File::create(path).map_err(failed())?;
    let value = vec![7; options.value_bytes];
    let mut round = Timed::begin();
    while round.lasts(options.seconds_per_round) {
        let began = Instant::now();
        file.write_all(&value).map_err(failed())?;
        file.sync_data().map_err(failed())?;
        round.done(began);
    }
    Ok(Round::merge(&[round.end()]))
}

/// Counts commits, after a warm-up.
struct Timed {
    began: Instant,
    counted: u64,
    times: Times,
}

impl Timed {
    fn begin() -> Self {
        Self {
            began: Instant::now() + Duration::from_secs_f64(WARMUP_SECONDS),
            counted: 0,
            times: Times::new(),
        }
    }

    fn lasts(&self, seconds: f64) -> bool {
        self.began.elapsed().as_secs_f64() < seconds
    }

    fn done(&mut self, began: Instant) {
        if began >= self.began {
            self.counted += 1;
            self.times.record(began.elapsed());
        }
    }

    fn end(self) -> Measured {
        Measured {
            seconds: self.began.elapsed().as_secs_f64(),
            transactions: self.counted,
            times: [(COMMIT.to_owned(), self.times.counts())].into(),
            ..Measured::default()
        }
    }
}

/// The embedded store without a sidecar. Its committers are tasks of one thread, as in the sidecar.
struct Library {
    store: Arc<EmbeddedStore>,
    runtime: tokio::runtime::Runtime,
}

impl Library {
    fn commit(&self, committers: usize, options: &CommitOptions) -> Result<Round, BenchError> {
        let tasks: Vec<_> = (0..committers)
            .map(|number| {
                let shape = Shape { writes: 1, value_bytes: options.value_bytes, keys: KEYS };
                let batches = Batches::new(number, shape);
                let work = commit_on(self.store.clone(), batches, options.seconds_per_round);
                self.runtime.spawn(work)
            })
            .collect();
        let mut measured = Vec::new();
        for task in tasks {
            let joined = self.runtime.block_on(task);
            let done = joined.map_err(|why| BenchError::Answer(format!("a committer: {why}")))?;
            measured.push(done?);
        }
        Ok(Round::merge(&measured))
    }
}

async fn commit_on(
    store: Arc<EmbeddedStore>,
    mut batches: Batches,
    seconds: f64,
) -> Result<Measured, StorageError> {
    let mut round = Timed::begin();
    while round.lasts(seconds) {
        let batch = batches.next();
        let began = Instant::now();
        store.commit(batch).await?;
        round.done(began);
    }
    Ok(round.end())
}

fn rate(rounds: &[Round]) -> f64 {
    median(rounds.iter().map(|round| round.transactions_per_s))
}

impl Figures {
    fn new(committers: usize, rounds: &[Round], first: f64) -> Self {
        let times = |figure: fn(&Quantiles) -> f64| {
            let times = rounds.iter().filter_map(|round| round.times.get(COMMIT));
            median(times.map(figure))
        };
        let commits_per_s = rate(rounds);
        Self {
            committers,
            commits_per_s,
            p50_us: times(|times| times.p50_us),
            p99_us: times(|times| times.p99_us),
            gain: if first > 0.0 { commits_per_s / first } else { 0.0 },
        }
    }

    fn row(&self, what: &str, disk: &Self) -> Vec<String> {
        vec![
            format!("{what}, {}", self.committers),
            format!("{:.0}/s", self.commits_per_s),
            ratio(self.gain),
            ratio(self.commits_per_s / disk.commits_per_s.max(1e-9)),
            micros(self.p50_us),
            micros(self.p99_us),
        ]
    }
}

impl CommitReport {
    /// For people.
    pub fn render(&self) -> String {
        let mut table = Table::new(&["committers", "commits", "gain", "to the disk", "p50", "p99"]);
        let disk = &self.append_and_sync;
        table.row(disk.row("append and sync", disk));
        for (what, figures) in [("store", &self.store), ("sidecar", &self.sidecar)] {
            for figures in figures {
                table.row(figures.row(what, disk));
            }
        }
        format!(
            "aft {} on {} CPUs, values of {} bytes, {} rounds of {} s\n\n{}",
            self.version,
            self.cpus,
            self.options.value_bytes,
            self.options.rounds,
            self.options.seconds_per_round,
            table.render()
        )
    }
}
