//! `aft bench ipc`: each kind of request and whole transactions, through the sidecar and against the
//! floor in turns, with several numbers of clients, and what the sidecar uses when nobody asks
//! anything of it.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::children::Family;
use super::client::Plan;
use super::process;
use super::sidecar::{Kept, Language, Load, Server, load, python_is_missing};
use super::stats::{Compared, Round};
use super::table::{Table, micros, times as ratio};
use super::{BenchError, system};

/// A pause after the load, in which the sidecar may finish what it put off.
const SETTLE: Duration = Duration::from_secs(3);

/// Operations in the order in which they are shown. Those of the first group end in an abort and wait
/// for no disk; those of the second belong to whole transactions.
const OPERATIONS: [&str; 9] = [
    "start",
    "get",
    "put",
    "abort",
    "start in txn",
    "get in txn",
    "put in txn",
    "commit",
    "transaction",
];

/// Which store the sidecar uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Store {
    /// On the disk.
    Embedded,
    /// In memory: what commits cost without a disk.
    Memory,
}

/// Measure requests and transactions next to an echo without logic.
///
/// The same clients talk in turns, of a tenth of a second each, to the sidecar and to a responder that
/// only echoes prepared answers; ratios are of the medians over all rounds of this one run. "start" to "abort" are requests
/// of transactions that are aborted, the rest belongs to transactions of start, two gets, a put and a
/// commit. Reads are of values that the sidecar has in its cache. "rust-call" are clients that speak to the
/// sidecar over its socket `call`, which the responder does not have: its figures are those of ZeroMQ all the same.
#[derive(Debug, Clone, Args, Serialize)]
pub struct IpcOptions {
    /// Numbers of client processes
    #[arg(long, value_delimiter = ',', default_value = "1,4,16", value_name = "N,N,…")]
    pub clients: Vec<usize>,
    /// Seconds that a round lasts for each of the two, its warm-up aside
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    pub seconds_per_round: f64,
    /// Rounds for each number of clients
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub rounds: usize,
    /// Size of values
    #[arg(long, default_value_t = 4096, value_name = "BYTES")]
    pub value_bytes: usize,
    /// How many keys there are
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub keys: usize,
    /// The sidecar's store
    #[arg(long, default_value = "embedded")]
    pub storage: Store,
    /// Measure with Python clients too [default: if python3 and pyzmq are there]
    #[arg(long, overrides_with = "no_python")]
    #[serde(skip)]
    pub python: bool,
    /// Measure with Rust clients only
    #[arg(long)]
    #[serde(skip)]
    pub no_python: bool,
    /// Seconds for which the idle sidecar is watched
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    pub idle_seconds: f64,
    /// Where sockets and the store are put; a real disk, or commits are too fast
    /// [default: the directory for temporary files]
    #[arg(long, value_name = "DIR")]
    #[serde(skip)]
    pub work_dir: Option<PathBuf>,
    /// Leave the store and all logs where they are
    #[arg(long)]
    #[serde(skip)]
    pub keep: bool,
}

/// All that was measured.
#[derive(Debug, Serialize)]
pub struct IpcReport {
    version: &'static str,
    cpus: usize,
    options: IpcOptions,
    python_missing: Option<String>,
    cells: Vec<Cell>,
    idle: Idle,
}

/// One number of clients of one kind.
#[derive(Debug, Serialize)]
pub struct Cell {
    client: Language,
    clients: usize,
    operations: Vec<Row>,
    transactions_per_s: Compared,
    server_cpu_us_per_request: Compared,
    failed: u64,
}

/// One operation.
#[derive(Debug, Serialize)]
pub struct Row {
    operation: &'static str,
    p50_us: Compared,
    p99_us: Compared,
}

/// The sidecar after the load.
#[derive(Debug, Serialize)]
pub struct Idle {
    cpu_percent: f64,
    resident_bytes: u64,
}

/// Measures.
pub fn run(options: &IpcOptions) -> Result<IpcReport, BenchError> {
    let missing = if options.no_python { None } else { python_is_missing() };
    if let (true, Some(why)) = (options.python, &missing) {
        return Err(BenchError::Answer(why.clone()));
    }
    let parent = options.work_dir.clone().unwrap_or_else(std::env::temp_dir);
    let bench = Bench { family: Family::begin(&parent, options.keep)?, options };
    let floor = Server::floor(&bench.family, options.value_bytes)?;
    let kept = match options.storage {
        Store::Embedded => Kept::Directory(bench.family.path().join("store")),
        Store::Memory => Kept::Memory,
    };
    let sidecar = Server::sidecar(&bench.family, &kept)?;
    load(&bench.family, &[&sidecar], Language::Rust, 1, &bench.work(Plan::Load))?;
    let cells = bench.cells(&floor, &sidecar, missing.is_none() && !options.no_python)?;
    let idle = bench.idle(&sidecar)?;
    sidecar.process.end();
    Ok(IpcReport {
        version: env!("CARGO_PKG_VERSION"),
        cpus: std::thread::available_parallelism().map_or(0, usize::from),
        options: options.clone(),
        python_missing: missing,
        cells,
        idle,
    })
}

struct Bench<'a> {
    family: Family,
    options: &'a IpcOptions,
}

impl Bench<'_> {
    fn work(&self, plan: Plan) -> Load {
        Load {
            plan,
            threads: 1,
            seconds: self.options.seconds_per_round,
            warmup_seconds: (self.options.seconds_per_round / 4.0).min(1.0),
            writes: 1,
            value_bytes: self.options.value_bytes,
            keys: self.options.keys,
        }
    }

    fn cells(
        &self,
        floor: &Server,
        sidecar: &Server,
        python: bool,
    ) -> Result<Vec<Cell>, BenchError> {
        let languages =
            [(Language::Rust, true), (Language::RustCalling, true), (Language::Python, python)];
        let wanted: Vec<(Language, usize)> = languages
            .into_iter()
            .filter(|(_, is_wanted)| *is_wanted)
            .flat_map(|(language, _)| self.options.clients.iter().map(move |n| (language, *n)))
            .collect();
        let progress = bar(wanted.len() * self.options.rounds);
        let cells = wanted.into_iter().map(|(language, clients)| {
            progress.set_message(format!("{clients} {} clients", language.name()));
            self.cell(floor, sidecar, language, clients, &progress)
        });
        let cells = cells.collect();
        progress.finish_and_clear();
        cells
    }

    fn cell(
        &self,
        floor: &Server,
        sidecar: &Server,
        language: Language,
        clients: usize,
        progress: &ProgressBar,
    ) -> Result<Cell, BenchError> {
        let work = self.work(Plan::Mix);
        let (mut floors, mut sidecars) = (Vec::new(), Vec::new());
        for _ in 0..self.options.rounds {
            let servers = [floor, sidecar];
            let rounds = load(&self.family, &servers, language, clients, &work)?;
            let (of_floor, of_sidecar): (Vec<_>, Vec<_>) =
                rounds.into_iter().enumerate().partition(|(server, _)| *server == 0);
            floors.extend(of_floor.into_iter().map(|(_, round)| round));
            sidecars.extend(of_sidecar.into_iter().map(|(_, round)| round));
            progress.inc(1);
        }
        Ok(Cell::new(language, clients, &floors, &sidecars))
    }

    fn idle(&self, sidecar: &Server) -> Result<Idle, BenchError> {
        std::thread::sleep(SETTLE);
        let pid = sidecar.process.pid();
        let gone = || sidecar.process.failed("ended while it was idle");
        let before = process::cpu(pid).ok_or_else(gone)?;
        let watched = Duration::try_from_secs_f64(self.options.idle_seconds)
            .map_err(|why| system("watch the idle sidecar")(std::io::Error::other(why)))?;
        std::thread::sleep(watched);
        let used = process::cpu(pid).ok_or_else(gone)?.saturating_sub(before);
        Ok(Idle {
            cpu_percent: 100.0 * used.as_secs_f64() / self.options.idle_seconds.max(1e-9),
            resident_bytes: process::resident_bytes(pid).ok_or_else(gone)?,
        })
    }
}

/// Shown on standard error, if that is a terminal.
pub(super) fn bar(steps: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} ({eta} left)");
    let bar = ProgressBar::new(steps as u64);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

impl Cell {
    fn new(client: Language, clients: usize, floor: &[Round], sidecar: &[Round]) -> Self {
        let compared =
            |figure: &dyn Fn(&Round) -> Option<f64>| Compared::medians(floor, sidecar, figure);
        let row = |operation| Row {
            operation,
            p50_us: compared(&|round| Some(round.times.get(operation)?.p50_us)),
            p99_us: compared(&|round| Some(round.times.get(operation)?.p99_us)),
        };
        Self {
            client,
            clients,
            operations: OPERATIONS.into_iter().map(row).collect(),
            transactions_per_s: compared(&|round| Some(round.transactions_per_s)),
            server_cpu_us_per_request: compared(&|round| Some(round.cpu_us_per_request)),
            failed: floor.iter().chain(sidecar).map(|round| round.failed).sum(),
        }
    }

    fn render(&self) -> String {
        let mut table = Table::new(&[
            &format!("{} x {}", self.clients, self.client.name()),
            "floor p50",
            "sidecar p50",
            "ratio",
            "floor p99",
            "sidecar p99",
            "ratio",
        ]);
        for Row { operation, p50_us, p99_us } in &self.operations {
            let figures = [p50_us, p99_us].into_iter();
            let figures =
                figures.flat_map(|c| [micros(c.floor), micros(c.sidecar), ratio(c.ratio)]);
            table.row(std::iter::once((*operation).to_owned()).chain(figures).collect());
        }
        let rate = |rate: f64| format!("{rate:.0}/s");
        for (name, figure, unit) in [
            ("transactions", &self.transactions_per_s, &rate as &dyn Fn(f64) -> String),
            ("CPU per request", &self.server_cpu_us_per_request, &micros),
        ] {
            let cells =
                [name.to_owned(), unit(figure.floor), unit(figure.sidecar), ratio(figure.ratio)];
            table.row(cells.to_vec());
        }
        let mut text = table.render();
        if self.failed > 0 {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{} transactions were refused", self.failed);
        }
        text
    }
}

impl IpcReport {
    /// For people.
    pub fn render(&self) -> String {
        let mut text = format!(
            "aft {} on {} CPUs, values of {} bytes, {} rounds of {} s\n\n",
            self.version,
            self.cpus,
            self.options.value_bytes,
            self.options.rounds,
            self.options.seconds_per_round
        );
        for cell in &self.cells {
            text.push_str(&cell.render());
            text.push('\n');
        }
        if let Some(why) = &self.python_missing {
            // Writing to a string does not fail.
            let _ = writeln!(text, "no Python clients: {why}");
        }
        let _ = writeln!(
            text,
            "the idle sidecar uses {:.3} % of a CPU and {:.1} MiB",
            self.idle.cpu_percent,
            self.idle.resident_bytes as f64 / f64::from(1 << 20)
        );
        text
    }
}
