//! Anna as a store: the key-value store that Cloudburst lives with.
//!
//! Anna merges and replicates single objects. It has no conditional write, no listing, no deletion and
//! no write of two objects at once, so what a [`Storage`] promises is made of other things:
//!
//! - **A commit is one object**: its record and its values (`pack.rs`), proposed under the name of its
//!   id. In the same moment the commit enters the log of this incarnation (`log.rs`) as *open*; the
//!   client is told when it is decided and in the log. Values too large to be packed are written before,
//!   each under a name of its own.
//! - **One outcome per id**: that object and a second one, of promises, make a consensus among all that
//!   ever commit or settle the id, dead or alive (`paxos.rs`). For the first attempt at an id that the
//!   sidecar made itself it is one write and one read.
//! - **Listing** is replaced by the logs: a set names the nodes, a set of each node names its
//!   incarnations, and each incarnation's log is a chain of numbered buckets (`read.rs`).
//! - **Deletion** is writing an empty value with a greater timestamp, which Anna takes for no value.
//! - **Garbage** (`compact.rs`) is written down by time before it is cut down (`graves.rs`), as nothing can be
//!   found again by looking. What was missed is found by walking through the own log (`sweep.rs`).
//! - **Plain names** (`plain.rs`) hold the newest committed value of each key, for others to read.
//!
//! A later incarnation clears up behind the earlier ones (`recover.rs`), and other nodes behind those that do
//! not come back (`adopt.rs`). What the original AFT left is read
//! where it stands (`original.rs`).
//!
//! | name | object |
//! | --- | --- |
//! | `aft~o~<id>` | the outcome of an id, with the values of its commit (`StoredOutcome`) |
//! | `aft~b~<id>` | the ballot below which no outcome is accepted any more (its timestamp) |
//! | `aft~v~<attempt>~<position>` | a large value (`KeyValuePair`) |
//! | `aft~h~k~<key>`, `aft~h~x~<hash of a long key>` | a key's newest version (`StoredHead`) |
//! | `aft~l~<node>~<incarnation>~<number>` | a part of a log (`LogBucket`) |
//! | `aft~f~<node>~<incarnation>` | the number of its first part (its timestamp) |
//! | `aft~d~<node>~<incarnation>~<number>` | a part of a list of collected ids (`GraveBucket`) |
//! | `aft~e~<node>~<incarnation>` | the number of its first part (its timestamp) |
//! | `aft~n~<node>` | the incarnations of a node (a set) |
//! | `aft~g~<node>` | what became of them (`NodeLogs`) |
//! | `aft~nodes` | the nodes (a set) |
//! | `aft~a~<node>` | which incarnation of a node lives |
//! | a user key | its newest committed value (`KeyValuePair`), or what others wrote |

mod adopt;
mod compact;
mod connection;
mod graves;
mod heads;
mod ids;
mod kv;
mod lease;
mod log;
mod names;
mod objects;
mod original;
mod pack;
mod paxos;
mod plain;
mod read;
mod recover;
mod sweep;
mod usage;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::Mutex as Turnstile;

pub use connection::Connection;
pub use kv::KeyValue;
pub use names::RESERVED;
pub(crate) use names::{is_head, is_promise, outcome_id};
pub use plain::Publication;

use super::{
    CommitBatch, Garbage, LatticeType, LogPage, LogPosition, LogScope, PlainValue, Storage,
    StorageError, Sweep, Swept, Usage, codec,
};
use crate::anna::lattice::Lattice;
use crate::txn::{BaseId, Commit, Key, Outcome, Timestamp, Version};
use crate::wire::{LogState, NodeLogs};
use adopt::Sightings;
use graves::{Graves, grave};
use ids::{Ids, Known};
use lease::Lease;
use log::Log;
use names::LogName;
use objects::lww;
use original::Original;
use pack::{Found, Place};
use paxos::{Proposer, Standing, Undecided};
use sweep::Walk;

/// Objects read at once for one request.
const READS_AT_ONCE: usize = 256;
/// Large values written at once for one commit.
const LARGE_VALUES_AT_ONCE: usize = 8;

/// The results of reads, in their order.
async fn some_at_once<T>(
    reads: Vec<impl Future<Output = Result<T, StorageError>>>,
) -> Result<Vec<T>, StorageError> {
    stream::iter(reads).buffered(READS_AT_ONCE).try_collect().await
}

/// The outcome of an id, if it is decided, read through `find`, which gives an object as it stands. For
/// the simulator, which looks at the store from outside.
pub(crate) fn stored_outcome(
    id: &BaseId,
    find: impl Fn(&str) -> Option<Lattice>,
) -> Option<Outcome> {
    let (accepted_at, stored) = lww(find(&names::outcome(id))).ok()??;
    let promised = lww(find(&names::promise(id))).ok()?.map_or(0, |(ballot, _)| ballot);
    if promised >= accepted_at {
        return None;
    }
    Found::decode(id, stored).ok().map(|found| found.outcome)
}

/// The values of a commit, as they stand, in the order of its write set. For the simulator as well.
pub(crate) fn stored_values(
    commit: &Commit,
    find: impl Fn(&str) -> Option<Lattice>,
) -> Vec<Option<Bytes>> {
    let id = commit.version.writer.base();
    let stored = lww(find(&names::outcome(&id))).ok().flatten();
    let found = stored.and_then(|(_, stored)| Found::decode(&id, stored).ok());
    let value = |key: &Key| match found.as_ref()?.place(key) {
        Place::Here(value) => Some(value),
        Place::Nowhere => None,
        Place::Apart(name) => {
            let (_, stored) = lww(find(&name)).ok()??;
            codec::decode_version(key, &commit.version, stored).ok()
        }
    };
    commit.keys.iter().map(|written| value(&written.key)).collect()
}

/// How a store in Anna is used.
#[derive(Debug, Clone)]
pub struct AnnaOptions {
    /// The name of this node, different from all others on the same store.
    pub node: String,
    /// The address of the machine, under which Cloudburst looks for what is cached on it.
    pub host: String,
    /// The name of this incarnation of it, never used before.
    pub incarnation: String,
    /// Which user keys are published.
    pub publication: Publication,
    /// How long a write is expected to be under way after its sender died, at most.
    pub lands_within: Duration,
    /// Garbage is collected.
    pub collects: bool,
    /// Commits in each part of a log.
    pub bucket_entries: usize,
}

impl Default for AnnaOptions {
    fn default() -> Self {
        Self {
            node: String::new(),
            host: String::new(),
            incarnation: String::new(),
            publication: Publication::default(),
            lands_within: Duration::ZERO,
            collects: true,
            bucket_entries: 64,
        }
    }
}

/// A [`Storage`] in Anna.
pub struct AnnaStore<K> {
    kv: Arc<K>,
    proposer: Proposer<K>,
    log: Log,
    ids: Ids,
    host: String,
    original: Original,
    publication: Publication,
    lands_within: Duration,
    collects: bool,
    graves: Graves,
    /// Taken by whoever compacts the log, and by whoever writes down what became of incarnations.
    compacting: Turnstile<()>,
    reporting: Turnstile<()>,
    walk: Mutex<Walk>,
    /// How often the logs of others were read to their end, and what was seen of them.
    followed: AtomicU64,
    sightings: Mutex<Sightings>,
    /// Logs of incarnations that are over.
    dead: Mutex<Vec<LogName>>,
    /// One of them was not ended in order, so that writes of its log may be under way.
    after_crash: bool,
    lease: Lease,
    /// The store has lost that there is this log.
    is_forgotten: AtomicBool,
    /// The bucket of the log that was being filled when the store was last known to have lost nothing.
    bucket_when_tended: AtomicU64,
}

impl<K: KeyValue> AnnaStore<K> {
    /// Announces a new incarnation.
    ///
    /// # Errors
    /// If Anna does not answer, or what it holds under our names cannot be understood.
    pub async fn open(kv: Arc<K>, options: AnnaOptions) -> Result<Self, StorageError> {
        let (dead, about) = read::logs_of(&*kv, &options.node).await?;
        let after_crash = dead.iter().any(|log| !about.ended.contains(&log.incarnation));
        let store = Self { dead: Mutex::new(dead), after_crash, ..Self::open_to_read(kv, options) };
        store.register().await?;
        Ok(store)
    }

    /// Opens the store for somebody who only reads. Nobody there knows of it, so nothing may be written,
    /// nor the store be closed.
    pub fn open_to_read(kv: Arc<K>, options: AnnaOptions) -> Self {
        let AnnaOptions { node, host, incarnation, publication, .. } = options;
        let log = LogName { node, incarnation };
        Self {
            proposer: Proposer::new(kv.clone(), &log),
            graves: Graves::new(log.clone()),
            log: Log::new(log, options.bucket_entries),
            collects: options.collects,
            compacting: Turnstile::default(),
            reporting: Turnstile::default(),
            walk: Mutex::default(),
            followed: AtomicU64::new(0),
            sightings: Mutex::default(),
            dead: Mutex::new(Vec::new()),
            kv,
            ids: Ids::default(),
            host,
            original: Original::default(),
            publication,
            lands_within: options.lands_within,
            after_crash: false,
            lease: Lease::default(),
            is_forgotten: AtomicBool::new(false),
            bucket_when_tended: AtomicU64::new(0),
        }
    }

    /// Makes this incarnation's log one that others find. In sets, so that no late write of a
    /// predecessor can undo it.
    async fn register(&self) -> Result<(), StorageError> {
        let LogName { node, incarnation } = &self.log.name;
        let own = Lattice::Set(vec![incarnation.clone().into()]);
        self.kv.put(&names::incarnations(node), own).await?;
        self.kv.put(names::NODES, Lattice::Set(vec![node.clone().into()])).await
    }

    /// The store has lost what it had. What is written from now on can be found again.
    async fn register_again(&self) -> Result<(), StorageError> {
        self.register().await?;
        let own = self.log.name.incarnation.clone();
        let first = self.bucket_when_tended.load(Ordering::Relaxed);
        self.report(|logs| {
            logs.firsts.insert(own, first);
        })
        .await
    }

    /// Writes down what became of incarnations. If that is lost, later ones have more to look at.
    async fn report(&self, change: impl FnOnce(&mut NodeLogs)) -> Result<(), StorageError> {
        let _turn = self.reporting.lock().await;
        let node = &self.log.name.node;
        let (timestamp, mut logs) = read::node_logs(&*self.kv, node).await?;
        change(&mut logs);
        let object = Lattice::Lww { timestamp: timestamp + 1, value: logs.encode_to_vec().into() };
        self.kv.put(&names::node_logs(node), object).await
    }

    /// Reads the outcome of an id that has committed: it does not change any more.
    async fn read_pack(&self, id: &BaseId) -> Result<Option<Found>, StorageError> {
        let stored = lww(self.kv.get(&names::outcome(id)).await?)?;
        stored.map(|(_, bytes)| Found::decode(id, bytes)).transpose()
    }

    /// The outcome of an id, of which the caller has the turn.
    async fn decided(&self, id: &BaseId) -> Result<Option<Outcome>, StorageError> {
        if let Some(Known::Decided(outcome)) = self.ids.known(id) {
            return Ok(Some(outcome));
        }
        match self.proposer.standing(id).await? {
            Standing::Decided(stored) => self.conclude(id, stored).await.map(Some),
            Standing::Contested => Err(paxos::contested(id)),
            Standing::Open => Ok(None),
        }
    }

    /// An outcome is decided that others may have proposed, who may be dead: if it is a commit, it has to
    /// be in a log before anybody is told.
    async fn conclude(&self, id: &BaseId, stored: Bytes) -> Result<Outcome, StorageError> {
        let found = Found::decode(id, stored)?;
        if let Some(commit) = found.commit().filter(|commit| !commit.keys.is_empty()) {
            let keys: Vec<_> = commit.keys.iter().map(|written| &written.key).collect();
            self.publish_all(&commit.version, &keys).await?;
            let slot = self.log.enter(commit, LogState::Published);
            self.log.flush(&*self.kv, slot).await?;
        }
        self.ids.note(id, Known::Decided(found.outcome.clone()));
        Ok(found.outcome)
    }

    /// Proposes a commit, of whose id the caller has the turn. Answers what is decided.
    async fn propose(&self, batch: &CommitBatch) -> Result<Outcome, StorageError> {
        let commit = &batch.commit;
        let writer = &commit.version.writer;
        let id = writer.base();
        let was_sent = self.ids.known(&id).is_some();
        let pack = pack::pack(batch);
        let slot = self.log.enter(commit, LogState::Open);
        if let Err(error) = self.put_apart(slot, commit, pack.apart).await {
            return Err(self.not_sent(commit, was_sent, error));
        }
        let own = pack.outcome;
        let decide = async {
            let sending = || self.ids.note(&id, Known::Sent);
            match batch.sole && !was_sent {
                true => self.proposer.propose_first(&id, &own, sending).await,
                false => self.proposer.propose(&id, &own, sending).await,
            }
        };
        match join(decide, self.log.flush(&*self.kv, slot)).await {
            (Ok(stored), Ok(())) if stored == own => {
                let outcome = Outcome::Committed(commit.clone());
                self.ids.note(&id, Known::Decided(outcome.clone()));
                Ok(outcome)
            }
            (Ok(stored), Ok(())) => self.conclude(&id, stored).await,
            (Err(Undecided { error, was_sent: false, .. }), _) if error.is_refusal() => {
                Err(self.not_sent(commit, was_sent, error))
            }
            (Err(undecided), _) => Err(undecided.into()),
            // The outcome is there; only the log is to be written again.
            (Ok(_), Err(error)) => Err(StorageError::Unconfirmed(error.to_string())),
        }
    }

    /// Writes the large values of a commit. As they have to be found if nothing comes of it, the log leads to
    /// them before they are there: whoever dies meanwhile leaves nothing that nobody finds.
    async fn put_apart(
        &self,
        slot: log::Slot,
        commit: &Commit,
        apart: Vec<(String, Bytes)>,
    ) -> Result<(), StorageError> {
        if apart.is_empty() {
            return Ok(());
        }
        self.log.flush(&*self.kv, slot).await?;
        let timestamp = commit.version.timestamp.0;
        let puts = apart.into_iter().map(|(name, value)| async move {
            self.kv.put(&name, Lattice::Lww { timestamp, value }).await
        });
        let puts = stream::iter(puts.collect::<Vec<_>>()).buffer_unordered(LARGE_VALUES_AT_ONCE);
        puts.try_collect::<Vec<()>>().await.map(drop)
    }

    /// The outcome was not sent by this call: the attempt has failed, unless an earlier call sent it.
    fn not_sent(&self, commit: &Commit, was_sent: bool, error: StorageError) -> StorageError {
        let writer = &commit.version.writer;
        if was_sent {
            return StorageError::Unconfirmed(error.to_string());
        }
        self.log.settle(writer, false);
        self.ids.forget(&writer.base());
        match error {
            StorageError::Unconfirmed(why) => StorageError::Refused(why),
            other => other,
        }
    }

    async fn read_versions(
        &self,
        wanted: &[(Key, Version)],
    ) -> Result<Vec<Option<Bytes>>, StorageError> {
        let mut ids: Vec<_> = wanted.iter().map(|(_, version)| version.writer.base()).collect();
        ids.sort();
        ids.dedup();
        let look_ups: Vec<_> = ids.iter().map(|id| self.read_pack(id)).collect();
        let found: Vec<_> = some_at_once(look_ups).await?;
        let found: HashMap<_, _> = ids.iter().zip(found).collect();
        let values = wanted.iter().map(|(key, version)| {
            let found = found.get(&version.writer.base()).and_then(Option::as_ref);
            self.read_value(key, version, found)
        });
        some_at_once(values.collect()).await
    }

    async fn read_value(
        &self,
        key: &Key,
        version: &Version,
        found: Option<&Found>,
    ) -> Result<Option<Bytes>, StorageError> {
        let is_asked_for = |commit: &&Arc<Commit>| commit.version == *version;
        let Some(found) = found.filter(|f| f.commit().as_ref().is_some_and(is_asked_for)) else {
            return Ok(None);
        };
        match found.place(key) {
            Place::Here(value) => Ok(Some(value)),
            Place::Nowhere => Ok(None),
            Place::Apart(name) => match lww(self.kv.get(&name).await?)? {
                Some((_, stored)) => codec::decode_version(key, version, stored).map(Some),
                None => Ok(None),
            },
        }
    }

    async fn read_plain(&self, key: &Key) -> Result<Option<PlainValue>, StorageError> {
        if !plain::may_be_read(key) {
            return Ok(None);
        }
        let Some(lattice) = self.kv.get(key.as_str()).await? else {
            return self.original.unpublished(&*self.kv, key).await;
        };
        match plain::found(key, lattice) {
            plain::Found::Value(value) => Ok(Some(value)),
            plain::Found::ByOriginal(timestamp, pair) => {
                original::published(&*self.kv, timestamp, pair).await
            }
        }
    }

    async fn put_plain(
        &self,
        key: &Key,
        version: &Version,
        value: &Bytes,
    ) -> Result<(), StorageError> {
        if !self.publication.covers(key) {
            return Ok(());
        }
        self.kv.put(key.as_str(), plain::published(key, version, value)).await
    }
}

#[async_trait]
impl<K: KeyValue> Storage for AnnaStore<K> {
    async fn commit(&self, batch: CommitBatch) -> Result<Outcome, StorageError> {
        codec::check(&batch)?;
        let writer = &batch.commit.version.writer;
        let id = writer.base();
        let _turn = self.ids.turn(&id).await;
        let outcome = match self.ids.known(&id) {
            Some(Known::Decided(outcome)) => outcome,
            _ => self.propose(&batch).await?,
        };
        // Of a commit that was collected meanwhile the log has nothing to tell.
        let is_there = |commit: &Commit| commit.keys.len() == batch.commit.keys.len();
        let is_own = |commit: &Commit| commit.version.writer == *writer && is_there(commit);
        self.log.settle(writer, matches!(&outcome, Outcome::Committed(commit) if is_own(commit)));
        Ok(outcome)
    }

    async fn outcome(&self, id: &BaseId) -> Result<Option<Outcome>, StorageError> {
        let _turn = self.ids.turn(id).await;
        self.decided(id).await
    }

    async fn settle_aborted(&self, id: &BaseId) -> Result<Outcome, StorageError> {
        let _turn = self.ids.turn(id).await;
        if let Some(outcome) = self.decided(id).await? {
            return Ok(outcome);
        }
        let stored = self.proposer.propose(id, &pack::aborted(id), || ()).await?;
        let outcome = self.conclude(id, stored).await?;
        // What does not tell its age is kept.
        if let (Outcome::Aborted, Some(made)) = (&outcome, id.created_ns()) {
            self.graves.note([grave(id, Timestamp(made))]);
        }
        Ok(outcome)
    }

    async fn versions(
        &self,
        wanted: &[(Key, Version)],
    ) -> Result<Vec<Option<Bytes>>, StorageError> {
        self.read_versions(wanted).await
    }

    async fn commits_since(
        &self,
        position: &LogPosition,
        scope: LogScope,
    ) -> Result<LogPage, StorageError> {
        let skip = (scope == LogScope::Others).then_some(&self.log.name);
        let page = read::commits_since(&self.proposer, position, skip).await?;
        self.followed.fetch_add(u64::from(page.end), Ordering::Relaxed);
        Ok(page)
    }

    // What is alive in old parts of the log is entered again.
    fn log_is_in_order(&self) -> bool {
        false
    }

    // The same; and what is dead goes with the part of the log in which it is.
    fn log_tells_again(&self) -> bool {
        true
    }

    fn collects_garbage(&self) -> bool {
        self.collects
    }

    async fn heads(&self, keys: &[Key]) -> Result<Vec<Option<Arc<Commit>>>, StorageError> {
        let heads = keys.iter().map(|key| self.head(key));
        some_at_once(heads.collect()).await
    }

    async fn set_heads(&self, newest: &[(Key, Arc<Commit>)]) -> Result<(), StorageError> {
        heads::set(&*self.kv, newest).await
    }

    async fn collect(&self, garbage: &Garbage) -> Result<(), StorageError> {
        self.delete(garbage).await?;
        self.compact().await
    }

    async fn sweep(&self, sweep: &Sweep) -> Result<Swept, StorageError> {
        self.sweep_own(sweep).await
    }

    async fn usage(&self) -> Result<Usage, StorageError> {
        self.count().await
    }

    fn has_plain_keys(&self) -> bool {
        true
    }

    async fn publish(
        &self,
        key: &Key,
        version: &Version,
        value: &Bytes,
    ) -> Result<(), StorageError> {
        let put = self.put_plain(key, version, value).await;
        if let Err(StorageError::Unsuitable(why)) = &put {
            tracing::warn!("{key} is not published: {why}");
        }
        put?;
        match self.log.published(&version.writer) {
            Some(slot) => self.log.flush(&*self.kv, slot).await,
            None => Ok(()),
        }
    }

    async fn plain(&self, keys: &[Key]) -> Result<Vec<Option<PlainValue>>, StorageError> {
        let found = keys.iter().map(|key| self.read_plain(key));
        some_at_once(found.collect()).await
    }

    async fn advertise(&self, cached: Vec<Key>, wall_ns: u64) -> Result<(), StorageError> {
        let object = plain::cached(cached, wall_ns);
        self.kv.put(&plain::cached_name(&self.host), object).await
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let mut counters = self.kv.counters();
        counters.push(("logs_to_take_over", self.dead.lock().len() as u64));
        counters
    }

    fn expect(&self, id: &BaseId) {
        self.kv.expect(&names::outcome(id));
        self.kv.expect(&names::promise(id));
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn lands_within(&self) -> Option<Duration> {
        self.after_crash.then_some(self.lands_within)
    }

    async fn tend(&self) -> Result<(), StorageError> {
        let current = self.log.current();
        if !self.lease.renew(&*self.kv, &self.log.name).await? {
            self.is_forgotten.store(true, Ordering::Relaxed);
        }
        if self.is_forgotten.load(Ordering::Relaxed) {
            self.register_again().await?;
            self.is_forgotten.store(false, Ordering::Relaxed);
        }
        self.bucket_when_tended.store(current, Ordering::Relaxed);
        self.graves.flush(&*self.kv).await
    }

    async fn clear_up(&self, wall_ns: u64) -> Result<Vec<Arc<Commit>>, StorageError> {
        let dead = self.dead.lock().clone();
        if dead.is_empty() {
            return Ok(Vec::new());
        }
        // What is thought to be dead may not be.
        self.tend().await?;
        let found = self.take_over(&dead, wall_ns).await?;
        self.dead.lock().clear();
        Ok(found)
    }

    async fn merge(
        &self,
        key: &Key,
        lattice: LatticeType,
        payload: &Bytes,
    ) -> Result<(), StorageError> {
        if !plain::may_stand(key) {
            return Err(StorageError::Refused(format!("the name {key:?} is reserved")));
        }
        let value = Lattice::from_payload(lattice, payload.clone());
        let value = value.map_err(|error| StorageError::Refused(error.to_string()))?;
        self.kv.put(key.as_str(), value).await
    }

    async fn close(&self) {
        if self.log.flush_all(&*self.kv).await.is_err() {
            return;
        }
        if !self.ids.anything_sent() {
            let own = &self.log.name.incarnation;
            // Without it the next incarnation is merely more careful.
            let _ = self.report(|logs| logs.ended.push(own.clone())).await;
        }
    }
}

#[cfg(test)]
mod tests;
