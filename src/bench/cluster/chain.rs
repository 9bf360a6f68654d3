//! Two functions in one transaction: both on one node, or each on its own, in turns within one run.
//!
//! What the second node adds is told in round trips between nodes. One of those is what a ZeroMQ
//! responder over TCP takes, in the same turns. Part of what is added is the store's: a commit on
//! another node than the one that made the id has to ask the store for a promise before.

use std::time::{Duration, Instant};

use bytes::Bytes;
use indicatif::ProgressBar;
use serde::Serialize;

use super::ClusterOptions;
use super::executor::{Executor, Refused};
use super::nodes::Cluster;
use crate::bench::BenchError;
use crate::bench::children::Family;
use crate::bench::messages::{Requests, key};
use crate::bench::sidecar::Server;
use crate::bench::stats::{Quantiles, Times, median};
use crate::bench::table::{Table, micros};
use crate::bench::target::Target;
use crate::bench::turns::in_turns;
use crate::frontend::ipc::Kind;
use crate::transport::{Client, ClientContext};

/// What a second node adds, in round trips.
const ADDED_MAX: f64 = 2.0;
/// Keys that are only read.
const READ_KEYS: usize = 64;
const KEYS_PER_REQUEST: usize = 16;
const LOADED_MAX: Duration = Duration::from_secs(30);
const ECHO_MAX: Duration = Duration::from_secs(10);
const LOOK_EACH: Duration = Duration::from_millis(5);

/// Where the two functions run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kinds {
    OneNode,
    TwoNodes,
    /// And the second function reads what the first one wrote.
    TwoNodesReading,
}

impl Kinds {
    const ALL: [Self; 3] = [Self::OneNode, Self::TwoNodes, Self::TwoNodesReading];

    fn name(self) -> &'static str {
        match self {
            Self::OneNode => "both functions on one node",
            Self::TwoNodes => "one on each of two",
            Self::TwoNodesReading => "the same, and B reads A's write",
        }
    }
}

/// Medians over the rounds.
#[derive(Debug, Serialize)]
pub(super) struct Chains {
    chains: Vec<Chain>,
    /// A message to a responder over TCP and back.
    round_trip: Quantiles,
    /// A request to a node that needs no other: a start. Going on is one of these and a round trip.
    request_p50_us: f64,
    refused: u64,
}

/// One kind of chain.
#[derive(Debug, Clone, Serialize)]
struct Chain {
    kind: Kinds,
    /// From the start to the answer COMMITTED.
    whole: Quantiles,
    /// Up to the request to commit.
    functions_p50_us: f64,
    /// The request to go on at the second node.
    go_on_p50_us: f64,
    commit_p50_us: f64,
    /// What it takes longer than on one node, in round trips.
    added_trips: f64,
    /// That part of it which came before the commit.
    added_trips_before_commit: f64,
}

/// When each part of one chain was over.
struct Parts {
    start: Duration,
    functions: Duration,
    go_on: Duration,
    whole: Duration,
}

/// The times of one kind in one round.
struct PartTimes {
    start: Times,
    functions: Times,
    go_on: Times,
    commit: Times,
}

impl PartTimes {
    fn new() -> Self {
        let new = Times::new;
        Self { start: new(), functions: new(), go_on: new(), commit: new() }
    }

    fn record(&mut self, parts: &Parts) {
        self.start.record(parts.start);
        self.functions.record(parts.functions);
        self.go_on.record(parts.go_on);
        self.commit.record(parts.whole.saturating_sub(parts.functions));
    }

    fn medians(&self) -> [f64; 4] {
        let p50 = |times: &Times| times.quantiles().map_or(0.0, |quantiles| quantiles.p50_us);
        [p50(&self.functions), p50(&self.go_on), p50(&self.commit), p50(&self.start)]
    }
}

/// Measures.
pub(super) fn measure(
    family: &Family,
    options: &ClusterOptions,
    progress: &ProgressBar,
) -> Result<Chains, BenchError> {
    progress.set_message("chains of functions on one node and on two");
    let cluster = Cluster::start(family, options, "chain", 2)?;
    let (responder, sockets) = Server::floor_on_tcp(family)?;
    let mut run = Run::begin(&cluster, options, &sockets)?;
    run.load()?;
    let mut wholes = vec![Vec::new(); Kinds::ALL.len() + 1];
    let mut parts = vec![Vec::new(); Kinds::ALL.len()];
    for _ in 0..options.rounds {
        let (times, of_parts) = run.round(options.seconds_per_round)?;
        for (wholes, times) in wholes.iter_mut().zip(times) {
            wholes.extend(times.quantiles());
        }
        for (parts, times) in parts.iter_mut().zip(of_parts) {
            parts.push(times.medians());
        }
        progress.inc(1);
    }
    let refused = run.refused;
    responder.process.end();
    cluster.end();
    let round_trip = wholes.pop().map(|rounds| Quantiles::medians(&rounds));
    let nothing = || BenchError::Answer("no chain was finished".to_owned());
    let starts = parts.iter().flatten().map(|parts| parts[3]);
    let request_p50_us = median(starts);
    let chains = Kinds::ALL.into_iter().zip(wholes.iter().zip(&parts));
    let chains = chains.map(|(kind, (wholes, parts))| Chain::new(kind, wholes, parts)).collect();
    let round_trip = round_trip.ok_or_else(nothing)?;
    Ok(Chains { chains, round_trip, request_p50_us, refused }.compared())
}

/// The two nodes and the responder, with their clients.
struct Run {
    executors: [Executor; 2],
    first_address: String,
    echo: Client,
    echo_request: Vec<u8>,
    value: Bytes,
    read_keys: Vec<String>,
    made: usize,
    refused: u64,
    why_refused: Option<Refused>,
}

impl Run {
    fn begin(
        cluster: &Cluster,
        options: &ClusterOptions,
        sockets: &[String],
    ) -> Result<Self, BenchError> {
        let executors = <[Executor; 2]>::try_from(cluster.executors()?);
        let not_two = |_| BenchError::Answer("two nodes are needed".to_owned());
        let echo = Client::open(&ClientContext::default(), sockets, "tcp://127.0.0.1:*", ECHO_MAX)?;
        let answer_endpoint = echo.answer_endpoint().to_owned();
        Ok(Self {
            executors: executors.map_err(not_two)?,
            first_address: cluster.nodes[0].address.clone(),
            echo_request: Requests { answer_endpoint, value: Bytes::new() }.start(),
            echo,
            value: vec![7; options.value_bytes].into(),
            read_keys: (0..READ_KEYS).map(key).collect(),
            made: 0,
            refused: 0,
            why_refused: None,
        })
    }

    /// Writes what is read, and waits until both nodes have it in their caches.
    fn load(&mut self) -> Result<(), BenchError> {
        let until = Instant::now() + LOADED_MAX;
        for keys in self.read_keys.chunks(KEYS_PER_REQUEST) {
            let [first, second] = &mut self.executors;
            first.write(keys, &self.value).map_err(BenchError::Answer)?;
            for executor in [first, second] {
                let is_there = |values: Vec<Bytes>| values.iter().all(|found| *found == self.value);
                while !is_there(executor.get_alone(keys).map_err(BenchError::Answer)?) {
                    if Instant::now() > until {
                        let why = "a node does not read what the other one wrote";
                        return Err(BenchError::Answer(why.to_owned()));
                    }
                    std::thread::sleep(LOOK_EACH);
                }
            }
        }
        Ok(())
    }

    /// The times of each kind of chain and, last, of the responder; and those of the chains' parts.
    fn round(&mut self, seconds: f64) -> Result<(Vec<Times>, Vec<PartTimes>), BenchError> {
        let new = || Kinds::ALL.map(|_| PartTimes::new()).into_iter().collect::<Vec<_>>();
        let mut parts = new();
        let times = in_turns(Kinds::ALL.len() + 1, seconds, |number, time, times| {
            let until = Instant::now() + time;
            while Instant::now() < until {
                match (Kinds::ALL.get(number), parts.get_mut(number)) {
                    (Some(kind), Some(parts)) => self.chain(*kind, times, parts)?,
                    _ => times.record(self.round_trip()?),
                }
            }
            Ok(())
        })?;
        match &self.why_refused {
            Some(why) if times.iter().any(|times| times.quantiles().is_none()) => {
                Err(BenchError::Answer(format!("no chain was finished: {why}")))
            }
            _ => Ok((times, parts)),
        }
    }

    fn round_trip(&self) -> Result<Duration, BenchError> {
        let began = Instant::now();
        let answer = self.echo.call(Kind::Start as usize, self.echo_request.clone());
        let silent = || BenchError::Answer("the responder does not answer".to_owned());
        answer.map(|_| began.elapsed()).ok_or_else(silent)
    }

    fn chain(
        &mut self,
        kind: Kinds,
        times: &mut Times,
        parts: &mut PartTimes,
    ) -> Result<(), BenchError> {
        match self.try_chain(kind) {
            Ok(done) => {
                times.record(done.whole);
                parts.record(&done);
            }
            // Of these an end must come, too.
            Err(why) if self.refused >= 100 => return Err(BenchError::Answer(why)),
            Err(why) => {
                self.refused += 1;
                self.why_refused = Some(why);
            }
        }
        Ok(())
    }

    fn try_chain(&mut self, kind: Kinds) -> Result<Parts, Refused> {
        self.made += 1;
        let (size, made) = (self.value.len(), self.made);
        let reads: [&str; 4] =
            std::array::from_fn(|number| self.read_keys[(made * 4 + number) % READ_KEYS].as_str());
        // Not those that are read.
        let writes = [key(READ_KEYS + made % 1_000), key(READ_KEYS + 1_000 + made % 1_000)];
        let [first, second] = &mut self.executors;
        let began = Instant::now();
        let txn = first.start()?;
        let start = began.elapsed();
        first.put(&txn, &writes[0], &self.value)?;
        first.get(&txn, reads[0], size)?;
        first.get(&txn, reads[1], size)?;
        let mut go_on = Duration::ZERO;
        let next = if kind == Kinds::OneNode {
            first
        } else {
            let began = Instant::now();
            second.go_on(&txn, &self.first_address)?;
            go_on = began.elapsed();
            second
        };
        let written = kind == Kinds::TwoNodesReading;
        next.put(&txn, &writes[1], &self.value)?;
        next.get(&txn, if written { &writes[0] } else { reads[2] }, size)?;
        next.get(&txn, reads[3], size)?;
        let functions = began.elapsed();
        next.commit(&txn)?;
        Ok(Parts { start, functions, go_on, whole: began.elapsed() })
    }
}

impl Chain {
    fn new(kind: Kinds, wholes: &[Quantiles], parts: &[[f64; 4]]) -> Self {
        let part = |number: usize| median(parts.iter().map(|parts| parts[number]));
        Self {
            kind,
            whole: Quantiles::medians(wholes),
            functions_p50_us: part(0),
            go_on_p50_us: part(1),
            commit_p50_us: part(2),
            added_trips: 0.0,
            added_trips_before_commit: 0.0,
        }
    }
}

impl Chains {
    fn compared(mut self) -> Self {
        let Some(one) = self.chains.first().cloned() else { return self };
        let trip = self.round_trip.p50_us.max(1e-9);
        for chain in &mut self.chains {
            chain.added_trips = (chain.whole.p50_us - one.whole.p50_us) / trip;
            chain.added_trips_before_commit =
                (chain.functions_p50_us - one.functions_p50_us) / trip;
        }
        self
    }

    pub(super) fn targets(&self) -> Vec<Target> {
        let two = self.chains.iter().find(|chain| chain.kind == Kinds::TwoNodes);
        let target = |chain: &Chain| {
            let what = "what a second node adds to a chain, p50, in round trips between nodes";
            Target::at_most(what, chain.added_trips, ADDED_MAX)
        };
        two.map(target).into_iter().collect()
    }

    pub(super) fn render(&self) -> String {
        let head = ["two functions", "p50", "p99", "functions", "continue", "commit", "added"];
        let mut table = Table::new(&[&head[..], &["before commit"]].concat());
        for chain in &self.chains {
            table.row(vec![
                chain.kind.name().to_owned(),
                micros(chain.whole.p50_us),
                micros(chain.whole.p99_us),
                micros(chain.functions_p50_us),
                micros(chain.go_on_p50_us),
                micros(chain.commit_p50_us),
                format!("{:.2} trips", chain.added_trips),
                format!("{:.2} trips", chain.added_trips_before_commit),
            ]);
        }
        let Quantiles { p50_us, p99_us } = self.round_trip;
        let trip = "round trip over TCP without logic".to_owned();
        table.row(vec![trip, micros(p50_us), micros(p99_us)]);
        table.row(vec!["one request to a node".to_owned(), micros(self.request_p50_us)]);
        format!("{}refused: {}\n", table.render(), self.refused)
    }
}
