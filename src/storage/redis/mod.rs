//! A store in Redis or Valkey: one server, a master that sentinels watch, or a cluster.
//!
//! `names` lists what is stored. Redis runs one command, transaction or script after the other, and
//! that is what the promises of [`Storage`] rest on:
//!
//! - **One outcome.** It is created by `HSETNX` in a script, with its log entry.
//! - **On one server** a commit is one round trip (`commit`): the versions (`MSET`), and right behind them the
//!   script that decides and writes the log entry. The values do not pass through the
//!   script: Lua would copy and hash each of them, which took twice as long. So a commit that finds its id
//!   decided otherwise has written versions that no record names, and deletes them again; if it dies
//!   before, a sweep finds them. They are never visible.
//! - **In a cluster** the versions lie in slots of their own and are written first; then the script runs
//!   where the record is; then the commit is acknowledged. A commit that dies in between is undecided, and
//!   repeating it does the rest.
//! - **The newest version** of each key is written down soon after (`heads`).
//! - **The log** is argued in `log`.
//!
//! What a server acknowledges can be lost by it: with its power, or by a failover, as replicas hear of
//! writes after the client. Then outcomes, too, can be lost, and decided again and otherwise. `docs/stores.md`
//! says what to set, and what [waiting for replicas](RedisOptions::wait) is worth.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::try_join_all;
use redis::Value;
use tokio::time::timeout;

use super::{
    CommitBatch, Garbage, LogPage, LogPosition, LogScope, PlainValue, Storage, StorageError, Sweep,
    Swept, Usage, codec,
};
use crate::txn::{BaseId, Commit, Key, Outcome, Version};

mod address;
mod check;
mod commit;
mod fault;
mod garbage;
mod heads;
mod link;
mod log;
mod names;
mod original;
mod outcomes;
mod scripts;
mod server;
mod sweep;
mod usage;

pub use address::{Address, UrlError};
pub use check::OpenError;

use address::Topology;
use check::Info;
use fault::Fault;
use link::{Link, Way};
use names::Names;
use original::Original;
use outcomes::Writer;
use server::{Replicas, Server};

/// The largest string that Redis takes (`proto-max-bulk-len`), less what is stored with a value.
const VALUE_BYTES_MAX: usize = (512 << 20) - (1 << 17);
/// The most that Redis takes from one client before it does it (`client-query-buffer-limit`), about.
const COMMIT_BYTES_MAX: usize = 900 << 20;
/// How long the end may take.
const CLOSE_MAX: Duration = Duration::from_secs(1);
/// Names in one question, so that no answer gets too large.
const NAMES_MAX: usize = 128;

/// How a store in Redis is opened.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// Where the servers are.
    pub address: Address,
    /// What all names begin with.
    pub prefix: String,
    /// For one operation, with all its repetitions. Large ones get more.
    pub timeout: Duration,
    /// Replicas that have to have a commit before it is acknowledged; 0 for none.
    pub wait: usize,
    /// How long these are waited for.
    pub wait_within: Duration,
    /// Values are read from a cluster's replicas, and from its masters what is not there yet.
    pub replica_reads: bool,
    /// What the original AFT left there is read.
    pub original: bool,
    /// Tells this process from others, in this life.
    pub instance: u64,
    /// Where large requests are sent from, if that is not to hold up the present runtime.
    pub background: Option<tokio::runtime::Handle>,
}

/// See the [module's page](self).
pub struct RedisStore {
    server: Arc<Server>,
    names: Arc<Names>,
    writer: Writer,
    heads: heads::Pending,
    walk: tokio::sync::Mutex<sweep::Walk>,
    original: Option<Original>,
}

impl RedisStore {
    /// Connects, looks whether the servers can be trusted with data, and claims the prefix.
    pub async fn open(options: RedisOptions) -> Result<Self, OpenError> {
        // A process that uses two TLS libraries has to choose; a second choice changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let address = options.address.clone();
        let failed = |fault| OpenError::of(&address, fault);
        let topology = look_at(&options).await?;
        let way = Way {
            address: address.clone(),
            topology,
            from_replicas: options.replica_reads && topology == Topology::Cluster,
            timeout: options.timeout,
        };
        let replicas = Replicas { count: options.wait, within: options.wait_within };
        let replicas = (options.wait > 0).then_some(replicas);
        let server = Server::open(way, replicas, options.background).await.map_err(failed)?;
        let foreign =
            |name: String, why| OpenError::Foreign { address: address.to_string(), name, why };

        let format = Names::format(&options.prefix);
        let mut claimed = Value::Nil;
        for cmd in check::claim(&options.prefix, topology) {
            claimed = match server.ask(&cmd).await {
                Err(Fault::WrongType(why)) => return Err(foreign(format, why)),
                answer => answer.map_err(failed)?,
            };
        }
        let partitions = check::partitions(claimed).map_err(|why| foreign(format, why))?;
        let names = Names::new(&options.prefix, partitions);
        let types = check::types(&names);
        let asked: Vec<_> = types.iter().map(|(name, _)| sweep::about("TYPE", name)).collect();
        let answers = server.ask_each(&asked).await.map_err(failed)?;
        for ((name, wanted), answer) in types.into_iter().zip(answers) {
            if !check::is_type(answer, wanted).map_err(failed)? {
                return Err(foreign(name, format!("it is no {wanted}")));
            }
        }
        Ok(Self {
            server: Arc::new(server),
            names: Arc::new(names),
            writer: Writer(options.instance.to_be_bytes()),
            heads: heads::Pending::default(),
            walk: Default::default(),
            original: options.original.then(Original::default),
        })
    }

    /// What has to hold before an outcome is told that somebody else, or an earlier call, has stored.
    async fn before_telling(&self, id: &BaseId) -> Result<(), Fault> {
        if self.server.waits() {
            // The name of the sequence begins with the tag, so this goes to the server of the outcome.
            let touched = format!("{}-told", self.names.of_id(id).sequence);
            self.server.settle_on_replicas(&touched).await?;
        }
        Ok(())
    }

    /// Answers the keys whose newest commits the server has lost.
    async fn raise_heads(
        &self,
        newest: &[(Key, Arc<Commit>)],
    ) -> Result<HashSet<String>, StorageError> {
        let newest = newest.iter().map(|(key, commit)| (key, &commit.version));
        let lost = heads::raise(&self.server, &self.names, newest).await?;
        if let Some(key) = lost.iter().next() {
            tracing::warn!(
                keys = lost.len(),
                key,
                "the server has lost commits that it acknowledged"
            );
        }
        Ok(lost)
    }

    /// Asks for the time, which the store has no other way to know.
    async fn wall_ns(&self) -> Result<u64, Fault> {
        let answers = self.server.ask_masters(&redis::cmd("TIME")).await?;
        let answer = answers.into_iter().next().map(|(_, answer)| answer).unwrap_or_default();
        let parts: Vec<u64> = redis::FromRedisValue::from_redis_value(answer)
            .map_err(|error: redis::ParsingError| Fault::Other(error.to_string()))?;
        match parts[..] {
            [seconds, micros] => Ok(seconds.saturating_mul(1_000_000_000) + micros * 1000),
            _ => Err(Fault::Other("the time was answered as something else".to_owned())),
        }
    }
}

/// Asks a server what it is, and refuses it where it would lose data.
async fn look_at(options: &RedisOptions) -> Result<Topology, OpenError> {
    let address = &options.address;
    let failed = |fault| OpenError::of(address, fault);
    let way = Way {
        address: address.clone(),
        topology: Topology::One,
        from_replicas: false,
        timeout: options.timeout,
    };
    // Tried directly first, as this tells a wrong password from a server that is away.
    if let Err(error) = address.connect_one(options.timeout).await {
        return Err(failed(Fault::of_client(&error)));
    }
    let link = Link::open(way);
    let info = match link.ask(&Info::question()).await {
        Ok(answer) => Info::of(answer),
        // Whoever may not ask has to know.
        Err(Fault::Refused(why)) if why.starts_with("NOPERM") => Info::default(),
        Err(fault) => return Err(failed(fault)),
    };
    let topology = info.topology();
    info.check(address, topology)?;
    info.warn(address);
    Ok(topology)
}

#[async_trait]
impl Storage for RedisStore {
    async fn commit(&self, batch: CommitBatch) -> Result<Outcome, StorageError> {
        codec::check(&batch)?;
        check_sizes(&batch)?;
        let CommitBatch { commit, values, .. } = batch;
        let id = commit.version.writer.base();
        let answer = self.decide(&commit, &values).await?;
        let Some(found) = outcomes::in_answer(&id, answer)? else {
            self.heads.note(&commit);
            return Ok(Outcome::Committed(commit));
        };
        if found != Outcome::Committed(commit.clone()) {
            self.delete_versions_of(&commit).await;
        }
        self.before_telling(&id).await?;
        Ok(found)
    }

    async fn outcome(&self, id: &BaseId) -> Result<Option<Outcome>, StorageError> {
        let mut cmd = redis::cmd("HGET");
        cmd.arg(&self.names.of_id(id).outcomes).arg(id.as_str());
        let found = outcomes::in_answer(id, self.server.ask(&cmd).await?)?;
        if found.is_some() {
            self.before_telling(id).await?;
        }
        Ok(found)
    }

    async fn settle_aborted(&self, id: &BaseId) -> Result<Outcome, StorageError> {
        let record = codec::encode_aborted(id, self.wall_ns().await?);
        let script = &self.server.scripts().settle;
        let mut call = script.call(&[&self.names.of_id(id).outcomes]);
        call.arg(id.as_str()).arg(self.writer.sign(&record));
        let answer = self.server.write_by(script, call).await?;
        let Some(found) = outcomes::in_answer(id, answer)? else { return Ok(Outcome::Aborted) };
        self.before_telling(id).await?;
        Ok(found)
    }

    async fn versions(
        &self,
        wanted: &[(Key, Version)],
    ) -> Result<Vec<Option<Bytes>>, StorageError> {
        let slices = wanted.chunks(NAMES_MAX).map(async |slice| {
            let names: Vec<_> = slice.iter().map(|(k, v)| self.names.version(k, v)).collect();
            let stored = self.server.strings(&names).await?;
            let found = slice.iter().zip(stored).map(|((key, version), stored)| {
                stored.map(|stored| codec::decode_version(key, version, stored)).transpose()
            });
            found.collect::<Result<Vec<_>, StorageError>>()
        });
        Ok(try_join_all(slices).await?.concat())
    }

    async fn commits_since(
        &self,
        position: &LogPosition,
        scope: LogScope,
    ) -> Result<LogPage, StorageError> {
        log::page(&self.server, &self.names, self.writer, position, scope).await
    }

    fn log_is_in_order(&self) -> bool {
        self.names.is_whole()
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn tend(&self) -> Result<(), StorageError> {
        Ok(self.heads.raise(&self.server, &self.names).await?)
    }

    async fn close(&self) {
        // Nobody waits long for what a sweep does as well.
        let _ = timeout(CLOSE_MAX, self.tend()).await;
    }

    fn collects_garbage(&self) -> bool {
        true
    }

    async fn heads(&self, keys: &[Key]) -> Result<Vec<Option<Arc<Commit>>>, StorageError> {
        heads::commits(&self.server, &self.names, keys).await
    }

    async fn set_heads(&self, newest: &[(Key, Arc<Commit>)]) -> Result<(), StorageError> {
        self.raise_heads(newest).await.map(drop)
    }

    async fn collect(&self, garbage: &Garbage) -> Result<(), StorageError> {
        let lost = self.raise_heads(&garbage.newest).await?;
        garbage::collect(&self.server, &self.names, self.writer, garbage, &lost).await
    }

    async fn sweep(&self, sweep: &Sweep) -> Result<Swept, StorageError> {
        self.walk.lock().await.go_on(self, sweep).await
    }

    fn has_plain_keys(&self) -> bool {
        self.original.is_some()
    }

    async fn plain(&self, keys: &[Key]) -> Result<Vec<Option<PlainValue>>, StorageError> {
        match &self.original {
            Some(original) => original.values(&self.server, keys).await,
            None => Ok(vec![None; keys.len()]),
        }
    }

    async fn usage(&self) -> Result<Usage, StorageError> {
        self.tend().await?;
        usage::count(self).await
    }
}

/// Refuses what Redis would end the connection for.
fn check_sizes(batch: &CommitBatch) -> Result<(), StorageError> {
    let unsuitable = |what: String| Err(StorageError::Unsuitable(what));
    if let Some(value) = batch.values.iter().find(|value| value.len() > VALUE_BYTES_MAX) {
        let bytes = value.len();
        return unsuitable(format!("a value has {bytes} bytes, Redis takes {VALUE_BYTES_MAX}"));
    }
    let bytes: usize = batch.values.iter().map(Bytes::len).sum();
    if bytes > COMMIT_BYTES_MAX {
        return unsuitable(format!("a commit has {bytes} bytes, Redis takes {COMMIT_BYTES_MAX}"));
    }
    Ok(())
}
