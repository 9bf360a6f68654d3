//! `aft bench storage`: what transactions cost next to the store's own client, for each store.
//!
//! The same bytes are written and read directly, through the backend in this process, and through a
//! sidecar, in turns within one run. Four questions, a file each: commits (`commit`), reads at a steady
//! rate (`pace`), the paper's transaction (`paper`), and memory for idle clients (`idle`).

mod anna;
mod commit;
#[cfg(feature = "dynamodb")]
mod dynamo;
mod embedded;
mod ground;
mod idle;
mod pace;
mod paper;
#[cfg(feature = "redis")]
mod redis;
mod run;
#[cfg(feature = "s3")]
mod s3;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;

use self::commit::Commits;
use self::ground::Ground;
use self::idle::Idle;
use self::pace::Paced;
use self::paper::Paper;
use self::run::Run;
use super::children::Family;
use super::ipc::bar;
use super::target::Target;
use super::{BenchError, system};

/// Shapes of commits: how many values, and how large.
const SHAPES: [(usize, usize); 2] = [(2, 4096), (16, 1024)];

/// Which store is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreName {
    /// On the disk; directly: fjall.
    Embedded,
    /// Redis; directly: MULTI/EXEC and MGET.
    #[cfg(feature = "redis")]
    Redis,
    /// Anna; directly: PUTs and GETs.
    Anna,
    /// DynamoDB; directly: BatchWriteItem and GetItem.
    #[cfg(feature = "dynamodb")]
    #[value(name = "dynamodb")]
    DynamoDb,
    /// S3; directly: PUTs and GETs.
    #[cfg(feature = "s3")]
    S3,
}

/// Measure commits, reads and the paper's transaction next to the store's own client.
///
/// Stores that are not named are started: redis-server without persistence, aft anna-server in memory,
/// ministack for DynamoDB (pip install ministack), which is so slow that --rate 100 is enough. In a store
/// that others use it leaves keys behind that begin with "bench", and tables with "aft-bench".
#[derive(Debug, Clone, Args, Serialize)]
pub struct StorageBenchOptions {
    /// Stores, one after the other
    #[arg(long, value_delimiter = ',', default_value = "embedded", value_name = "STORE,…")]
    pub store: Vec<StoreName>,
    /// A Redis to use [default: one of our own]
    #[arg(long, value_name = "URL")]
    #[serde(skip)]
    pub redis_url: Option<String>,
    /// A DynamoDB to use, with the credentials and the region of the environment [default: one of our own]
    #[cfg(feature = "dynamodb")]
    #[arg(long, value_name = "URL")]
    pub dynamodb_endpoint: Option<String>,
    /// The routing tier of an Anna to use [default: one of our own]
    #[arg(long, value_name = "HOST[:PORT]")]
    pub anna_routing: Option<String>,
    /// An S3 server to use, with credentials from the environment; there is none of our own
    #[arg(long, value_name = "URL")]
    pub s3_url: Option<String>,
    /// Seconds for which each kind of work is done in a round
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS")]
    pub seconds_per_round: f64,
    /// Rounds
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub rounds: usize,
    /// Size of values that are read, and of the paper's
    #[arg(long, default_value_t = 4096, value_name = "BYTES")]
    pub value_bytes: usize,
    /// How many keys there are
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub keys: usize,
    /// Reads per second of the open loop
    #[arg(long, default_value_t = 1000.0, value_name = "N")]
    pub rate: f64,
    /// Clients that run the paper's transaction
    #[arg(long, default_value_t = 4, value_name = "N")]
    pub clients: usize,
    /// Where sockets, logs and the embedded store are put; a real disk, or its commits are too fast
    /// [default: the directory for temporary files]
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
pub struct StorageReport {
    version: &'static str,
    cpus: usize,
    options: StorageBenchOptions,
    stores: Vec<OfStore>,
    targets: Vec<Target>,
}

/// What was measured of one store.
#[derive(Debug, Serialize)]
struct OfStore {
    store: StoreName,
    commits: Vec<Commits>,
    paced: Paced,
    paper: Paper,
    idle: Idle,
}

/// Measures.
pub fn run(options: &StorageBenchOptions) -> Result<StorageReport, BenchError> {
    if options.keys < SHAPES.iter().map(|(writes, _)| *writes).max().unwrap_or(1) {
        return Err(BenchError::Answer("so few keys cannot be written at once".to_owned()));
    }
    let parent = options.work_dir.clone().unwrap_or_else(std::env::temp_dir);
    let family = Family::begin(&parent, options.keep)?;
    // As many threads as a sidecar has for its store.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(system("make a runtime"))?;
    let stores = options.store.iter().map(|store| measure(&family, options, &runtime, *store));
    let stores = stores.collect::<Result<Vec<_>, _>>()?;
    let targets = stores.iter().flat_map(OfStore::targets).collect();
    Ok(StorageReport {
        version: env!("CARGO_PKG_VERSION"),
        cpus: std::thread::available_parallelism().map_or(0, usize::from),
        options: options.clone(),
        stores,
        targets,
    })
}

fn measure(
    family: &Family,
    options: &StorageBenchOptions,
    runtime: &tokio::runtime::Runtime,
    store: StoreName,
) -> Result<OfStore, BenchError> {
    let progress = bar(SHAPES.len() + 3);
    let _entered = runtime.enter();
    let ground = runtime.block_on(open(family, options, store))?;
    let run = Run::begin(family, options, runtime, ground, store.name().to_owned())?;
    let step = |what: &str| {
        progress.inc(1);
        progress.set_message(format!("{}: {what}", store.name()));
    };
    // Before much memory is in use that could be given back.
    let idle = idle::measure(&run)?;
    step("reads");
    let paced = pace::measure(&run)?;
    step("the paper's transaction");
    let paper = paper::measure(&run)?;
    step("commits");
    // Last, as they leave values of other sizes under the keys.
    let commits = SHAPES.map(|(writes, bytes)| commit::measure(&run, writes, bytes));
    let commits = commits.into_iter().collect::<Result<Vec<_>, _>>()?;
    progress.finish_and_clear();
    runtime.block_on(run.ground.store.close());
    Ok(OfStore { store, commits, paced, paper, idle })
}

async fn open(
    family: &Family,
    options: &StorageBenchOptions,
    store: StoreName,
) -> Result<Ground, BenchError> {
    match store {
        StoreName::Embedded => embedded::open(family),
        #[cfg(feature = "redis")]
        StoreName::Redis => redis::open(family, options, &distinct()).await,
        StoreName::Anna => anna::open(family, options).await,
        #[cfg(feature = "dynamodb")]
        StoreName::DynamoDb => dynamo::open(family, options, &distinct()).await,
        #[cfg(feature = "s3")]
        StoreName::S3 => s3::open(options, &distinct()).await,
    }
}

/// Differs from what other runs leave in a store.
#[cfg(any(feature = "redis", feature = "dynamodb", feature = "s3"))]
fn distinct() -> String {
    use std::time::{SystemTime, UNIX_EPOCH};
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{:x}", now.as_nanos())
}

impl StoreName {
    fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            #[cfg(feature = "redis")]
            Self::Redis => "redis",
            Self::Anna => "anna",
            #[cfg(feature = "dynamodb")]
            Self::DynamoDb => "dynamodb",
            #[cfg(feature = "s3")]
            Self::S3 => "s3",
        }
    }
}

impl OfStore {
    fn targets(&self) -> Vec<Target> {
        let name = self.store.name();
        // How a commit compares was promised for Redis.
        let is_promised = name == "redis";
        let commits = self.commits.iter().filter(|_| is_promised);
        let mut targets: Vec<_> = commits.flat_map(|commits| commits.targets(name)).collect();
        targets.extend(self.paced.targets(name));
        targets.extend(self.idle.targets(name));
        targets
    }

    fn render(&self) -> String {
        let mut parts = vec![format!("{}\n", self.store.name())];
        parts.extend(self.commits.iter().map(Commits::render));
        parts.push(self.paced.render());
        parts.push(self.paper.render());
        parts.join("\n")
    }
}

impl StorageReport {
    /// For people.
    pub fn render(&self) -> String {
        let mut parts = vec![format!(
            "aft {} on {} CPUs, values of {} B, {} keys, {} rounds of {} s\n",
            self.version,
            self.cpus,
            self.options.value_bytes,
            self.options.keys,
            self.options.rounds,
            self.options.seconds_per_round
        )];
        parts.extend(self.stores.iter().map(OfStore::render));
        parts.push(Target::render_all(&self.targets));
        parts.join("\n")
    }
}
