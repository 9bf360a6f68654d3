//! How many commits there can be in a second, next to the PUTs that the store takes.

use std::sync::Arc;
use std::time::Instant;

use indicatif::ProgressBar;
use serde::Serialize;

use super::AnnaOptions;
use super::direct::{block_on, publish};
use crate::anna::client::{Acks, Client};
use crate::anna::lattice::Lattice;
use crate::bench::BenchError;
use crate::bench::batches::{Batches, Shape};
use crate::bench::children::Family;
use crate::bench::client::Plan;
use crate::bench::place::{Place, Store, not_done};
use crate::bench::sidecar::{Kept, Language, Load, Server, load};
use crate::bench::stats::median;
use crate::bench::table::{Table, times as ratio};
use crate::bench::target::Target;
use crate::storage::Storage;

const VALUE_BYTES: usize = 100;
/// Transactions should put through this share of what the store does by itself.
const SHARE_MIN: f64 = 0.5;
/// A client's requests for a transaction of one write.
const REQUESTS_PER_TRANSACTION: u64 = 3;

/// Medians over the rounds.
#[derive(Debug, Serialize)]
pub(super) struct Rates {
    outstanding: usize,
    new_keys: Rate,
    known_keys: Rate,
    direct: Rate,
    sidecar: Rate,
    /// Through a sidecar that keeps everything in memory: what is left without a store.
    in_memory: f64,
}

/// What was done per second, and what each of these took.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Rate {
    /// PUTs of the store's own, or transactions.
    done_per_s: f64,
    /// GETs and PUTs that one of these took.
    operations: f64,
    /// Messages to storage threads that one took.
    messages: f64,
    /// Look-ups of addresses that one took.
    lookups: f64,
}

/// What a client of Anna has counted.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    operations: u64,
    messages: u64,
    lookups: u64,
}

/// Measures.
pub(super) fn measure(
    family: &Family,
    place: &Place,
    sidecar: &Server,
    options: &AnnaOptions,
    progress: &ProgressBar,
) -> Result<Rates, BenchError> {
    progress.set_message("rates");
    let client = place.client()?;
    let store = block_on(place.store(&client, "rate", 1))?;
    let without = Server::sidecar(family, &Kept::Memory)?;
    let (mut new, mut known, mut direct, mut through) = (vec![], vec![], vec![], vec![]);
    let mut in_memory = Vec::new();
    for round in 0..options.rounds {
        let puts = |round| block_on(puts(place, client.clone(), options, round));
        known.push(puts(None)?);
        new.push(puts(Some(round))?);
        direct.push(block_on(commits(client.clone(), store.clone(), options))?);
        through.push(through_sidecar(family, sidecar, options)?);
        in_memory.push(through_sidecar(family, &without, options)?.done_per_s);
        progress.inc(2);
    }
    let outstanding = options.outstanding;
    let [new_keys, known_keys, direct, sidecar] = [new, known, direct, through].map(medians);
    without.process.end();
    let in_memory = median(in_memory.into_iter());
    Ok(Rates { outstanding, new_keys, known_keys, direct, sidecar, in_memory })
}

fn medians(rounds: Vec<Rate>) -> Rate {
    let middle = |figure: fn(&Rate) -> f64| median(rounds.iter().map(figure));
    Rate {
        done_per_s: middle(|rate| rate.done_per_s),
        operations: middle(|rate| rate.operations),
        messages: middle(|rate| rate.messages),
        lookups: middle(|rate| rate.lookups),
    }
}

/// PUTs of keys that are new, in a round; or of those that are not.
async fn puts(
    place: &Place,
    client: Client,
    options: &AnnaOptions,
    round: Option<usize>,
) -> Result<Rate, BenchError> {
    let keys = options.keys;
    let run = place.run.clone();
    let value: bytes::Bytes = vec![7; VALUE_BYTES].into();
    let put = {
        let client = client.clone();
        move |committer: usize, number: usize| {
            let key = match round {
                Some(round) => format!("bench-{run}-rate-{round}-{committer}-{number}"),
                None => format!("bench-{run}-rate-{}", (committer + 7 * number) % keys),
            };
            let value = Lattice::Lww { timestamp: number as u64, value: value.clone() };
            let client = client.clone();
            async move { client.put(&key, value, Acks::Any).await.map_err(not_done) }
        }
    };
    let works = (0..options.outstanding).map(|committer| {
        let (put, mut number) = (put.clone(), 0);
        move || {
            number += 1;
            put(committer, number)
        }
    });
    at_once(works.collect(), options.seconds_per_round, || counted(&client)).await
}

/// Transactions without a sidecar. One has ended when its value is published, too.
async fn commits(
    client: Client,
    store: Arc<Store>,
    options: &AnnaOptions,
) -> Result<Rate, BenchError> {
    let shape = Shape { writes: 1, value_bytes: VALUE_BYTES, keys: options.keys };
    let works = (0..options.outstanding).map(|committer| {
        let first = committer * options.keys / options.outstanding;
        let mut batches = Batches::new(committer, shape).beginning_at(first);
        let store = store.clone();
        move || {
            let (store, batch) = (store.clone(), batches.next());
            async move {
                store.expect(&batch.commit.version.writer.base());
                store.commit(batch.clone()).await?;
                publish(&store, &batch).await?;
                Ok::<_, BenchError>(())
            }
        }
    });
    at_once(works.collect(), options.seconds_per_round, || counted(&client)).await
}

/// Does each work again and again, all at once, for a while.
async fn at_once<W, F>(
    works: Vec<W>,
    seconds: f64,
    count: impl Fn() -> Counted,
) -> Result<Rate, BenchError>
where
    W: FnMut() -> F + Send + 'static,
    F: Future<Output = Result<(), BenchError>> + Send + 'static,
{
    let (began, before) = (Instant::now(), count());
    let tasks = works.into_iter().map(|mut work| {
        tokio::spawn(async move {
            let mut done = 0_u64;
            while began.elapsed().as_secs_f64() < seconds {
                work().await?;
                done += 1;
            }
            Ok::<_, BenchError>(done)
        })
    });
    let mut done = 0;
    for task in tasks.collect::<Vec<_>>() {
        done += task.await.map_err(not_done)??;
    }
    Ok(Rate::new(done as f64 / began.elapsed().as_secs_f64(), done, before, count()))
}

fn through_sidecar(
    family: &Family,
    sidecar: &Server,
    options: &AnnaOptions,
) -> Result<Rate, BenchError> {
    let seconds = options.seconds_per_round;
    let work = Load {
        plan: Plan::Commit,
        threads: options.outstanding,
        seconds,
        warmup_seconds: seconds / 5.0,
        writes: 1,
        value_bytes: VALUE_BYTES,
        keys: options.keys,
    };
    let before = counted_by(sidecar)?;
    let rounds = load(family, &[sidecar], Language::Rust, 1, &work)?;
    let after = counted_by(sidecar)?;
    let requests: u64 = rounds.iter().map(|round| round.requests).sum();
    let rate = rounds.iter().map(|round| round.transactions_per_s).sum();
    Ok(Rate::new(rate, requests / REQUESTS_PER_TRANSACTION, before, after))
}

fn counted(client: &Client) -> Counted {
    let counters = client.counters();
    Counted { operations: counters.tuples, messages: counters.requests, lookups: counters.lookups }
}

/// What the sidecar says of itself.
fn counted_by(sidecar: &Server) -> Result<Counted, BenchError> {
    let status = sidecar.status()?;
    let store = &status["store"];
    // A store in memory has nothing to count.
    let figure = |name: &str| store[name].as_u64().unwrap_or(0);
    Ok(Counted {
        operations: figure("keys"),
        messages: figure("requests"),
        lookups: figure("lookups"),
    })
}

impl Rate {
    fn new(done_per_s: f64, done: u64, before: Counted, after: Counted) -> Self {
        let each = |figure: fn(&Counted) -> u64| {
            figure(&after).saturating_sub(figure(&before)) as f64 / done.max(1) as f64
        };
        Self {
            done_per_s,
            operations: each(|counted| counted.operations),
            messages: each(|counted| counted.messages),
            lookups: each(|counted| counted.lookups),
        }
    }

    fn operations_per_s(&self) -> f64 {
        self.done_per_s * self.operations
    }
}

impl Rates {
    /// How long the store by itself would have taken for what these transactions made it do, as a share
    /// of the time that it took. What is looked up is new.
    fn share(&self, of: &Rate) -> f64 {
        let new = of.lookups.min(of.operations);
        let alone = new / self.new_keys.done_per_s.max(1e-9)
            + (of.operations - new) / self.known_keys.done_per_s.max(1e-9);
        alone * of.done_per_s
    }

    pub(super) fn targets(&self) -> Vec<Target> {
        let both = [("store", &self.direct), ("sidecar", &self.sidecar)];
        both.map(|(how, rate)| {
            let what = format!(
                "{} transactions at once, {how}, PUTs to the store's own",
                self.outstanding
            );
            Target::at_least(what, self.share(rate), SHARE_MIN)
        })
        .to_vec()
    }

    pub(super) fn render(&self) -> String {
        let head = format!("{} at once, {VALUE_BYTES} B", self.outstanding);
        let mut table = Table::new(&[
            &head,
            "done",
            "operations",
            "each",
            "messages",
            "look-ups",
            "to new",
            "to known",
            "to the same mix",
        ]);
        let rows = [
            ("PUT, new keys", &self.new_keys),
            ("PUT, known keys", &self.known_keys),
            ("transactions, store", &self.direct),
            ("transactions, sidecar", &self.sidecar),
        ];
        for (what, rate) in rows {
            let operations = rate.operations_per_s();
            table.row(vec![
                what.to_owned(),
                format!("{:.0}/s", rate.done_per_s),
                format!("{operations:.0}/s"),
                format!("{:.2}", rate.operations),
                format!("{:.2}", rate.messages),
                format!("{:.2}", rate.lookups),
                ratio(operations / self.new_keys.done_per_s.max(1e-9)),
                ratio(operations / self.known_keys.done_per_s.max(1e-9)),
                ratio(self.share(rate)),
            ]);
        }
        let in_memory = format!("{:.0}/s", self.in_memory);
        table.row(vec!["transactions, sidecar in memory".to_owned(), in_memory]);
        table.render()
    }
}
