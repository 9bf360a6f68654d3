//! Anna, simulated: objects that merge, reached by calls that are slow, fail, or are done long after
//! they were reported as failed. The backend on top of them is the real one.
//!
//! The backend's futures are polled whenever one of their calls returns, on the virtual clock.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::anna::lattice::Lattice;
use crate::node::{Ask, OpId, StoreResult};
use crate::storage::anna::{AnnaOptions, AnnaStore, KeyValue, stored_outcome, stored_values};
use crate::storage::{LogPage, LogPosition, LogScope, PlainValue, Storage, StorageError, Usage};
use crate::txn::{BaseId, Commit, Key, Outcome, Version};
use crate::{asking, storage};

/// What the backend is told of how long writes of the dead land. Some land later.
pub(super) const LANDS_WITHIN: Duration = Duration::from_secs(6);
/// So few that parts of a log come and go.
pub(super) const BUCKET_ENTRIES: usize = 4;

/// One call of an object.
#[derive(Debug, Clone)]
pub(super) enum Call {
    Get(String),
    Put(String, Lattice),
}

/// What a call came to.
pub(super) type CallResult = Result<Option<Lattice>, StorageError>;

/// What something that runs against the store came to.
pub(super) enum Ended {
    Asked(OpId, StoreResult),
    Followed(Result<LogPage, StorageError>),
    ClearedUp(Result<Vec<Arc<Commit>>, StorageError>),
    Tended,
}

type Running = Pin<Box<dyn Future<Output = Ended> + Send>>;

/// One node's way to the simulated store, and what runs against it.
pub(super) struct Anna {
    node: String,
    collects: bool,
    objects: Arc<Objects>,
    store: Option<Arc<AnnaStore<Handle>>>,
    running: Vec<Running>,
    /// How far the logs of others were followed.
    followed: LogPosition,
    /// They were followed to their end.
    is_at_end: bool,
}

/// The objects, which all nodes share.
#[derive(Default)]
pub(super) struct Objects(Mutex<State>);

#[derive(Default)]
struct State {
    map: BTreeMap<String, Lattice>,
    /// Calls are done at once.
    instant: bool,
    calls: u64,
    /// Calls that nobody has taken up.
    new: Vec<(u64, Call)>,
    waiting: BTreeMap<u64, Waker>,
    results: BTreeMap<u64, CallResult>,
}

/// What one incarnation of the backend holds.
pub(super) struct Handle(Arc<Objects>);

#[async_trait]
impl KeyValue for Handle {
    async fn get(&self, key: &str) -> Result<Option<Lattice>, StorageError> {
        self.0.call(Call::Get(key.to_owned())).await
    }

    async fn put(&self, key: &str, value: Lattice) -> Result<(), StorageError> {
        self.0.call(Call::Put(key.to_owned(), value)).await.map(drop)
    }
}

struct Calling {
    objects: Arc<Objects>,
    number: u64,
}

impl Future for Calling {
    type Output = CallResult;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<CallResult> {
        let mut state = self.objects.0.lock();
        if let Some(result) = state.results.remove(&self.number) {
            return Poll::Ready(result);
        }
        state.waiting.insert(self.number, context.waker().clone());
        Poll::Pending
    }
}

impl Objects {
    fn call(self: &Arc<Self>, call: Call) -> Calling {
        let state = &mut *self.0.lock();
        state.calls += 1;
        let number = state.calls;
        if state.instant {
            let result = state.apply(call);
            state.results.insert(number, Ok(result));
        } else {
            state.new.push((number, call));
        }
        Calling { objects: self.clone(), number }
    }
}

impl State {
    fn apply(&mut self, call: Call) -> Option<Lattice> {
        match call {
            Call::Get(key) => self.map.get(&key).filter(|lattice| !is_nothing(lattice)).cloned(),
            Call::Put(key, new) => {
                match (self.map.get_mut(&key), new) {
                    (None, new) => drop(self.map.insert(key, new)),
                    (Some(Lattice::Set(there)), Lattice::Set(new)) => {
                        there.extend(new);
                        there.sort();
                        there.dedup();
                    }
                    (Some(there @ Lattice::Lww { .. }), new @ Lattice::Lww { .. })
                        if timestamp(&new) >= timestamp(there) =>
                    {
                        *there = new;
                    }
                    // Older, or of another type: acknowledged and not stored.
                    _ => {}
                }
                None
            }
        }
    }
}

fn timestamp(lattice: &Lattice) -> u64 {
    match lattice {
        Lattice::Lww { timestamp, .. } => *timestamp,
        _ => 0,
    }
}

fn is_nothing(lattice: &Lattice) -> bool {
    matches!(lattice, Lattice::Lww { value, .. } if value.is_empty())
}

impl Anna {
    pub(super) fn new(objects: &Arc<Objects>, node: &str, collects: bool) -> Self {
        Self {
            node: node.to_owned(),
            collects,
            objects: objects.clone(),
            store: None,
            running: Vec::new(),
            followed: LogPosition::default(),
            is_at_end: true,
        }
    }

    /// A new incarnation of the backend reads the logs. Answers all commits in them, and how long
    /// writes of the one before may go on landing.
    pub(super) fn open(&mut self, incarnation: u64) -> (Vec<Arc<Commit>>, Option<Duration>) {
        let options = AnnaOptions {
            node: self.node.clone(),
            host: self.node.clone(),
            incarnation: incarnation.to_string(),
            lands_within: LANDS_WITHIN,
            collects: self.collects,
            bucket_entries: BUCKET_ENTRIES,
            ..AnnaOptions::default()
        };
        let handle = Arc::new(Handle(self.objects.clone()));
        let store = self.at_once(AnnaStore::open(handle, options));
        let Ok(store) = store else { return (Vec::new(), None) };
        let store = Arc::new(store);
        self.store = Some(store.clone());
        (self.followed, self.is_at_end) = (LogPosition::default(), true);
        let commits = self.at_once(async {
            let (mut commits, mut position) = (Vec::new(), LogPosition::default());
            while let Ok(page) = store.commits_since(&position, LogScope::All).await {
                commits.extend(page.commits);
                position = page.next;
                if page.end {
                    break;
                }
            }
            commits
        });
        (commits, store.lands_within())
    }

    /// What runs in the process dies with it. What it sent is under way.
    pub(super) fn crash(&mut self) {
        self.running.clear();
        self.store = None;
    }

    pub(super) fn ask(&mut self, op: OpId, ask: Ask) {
        let Some(store) = self.store.clone() else { return };
        let answer = asking::answer(store, ask);
        self.running.push(Box::pin(async move { Ended::Asked(op, answer.await) }));
    }

    /// Whether a look for commits of others would be the first part of one.
    pub(super) fn is_at_end(&self) -> bool {
        self.is_at_end
    }

    /// Looks for commits of others, and keeps house.
    pub(super) fn follow(&mut self) {
        let Some(store) = self.store.clone() else { return };
        let tended = store.clone();
        self.running.push(Box::pin(async move {
            // It is done again.
            let _ = tended.tend().await;
            Ended::Tended
        }));
        let from = self.followed.clone();
        self.running.push(Box::pin(async move {
            Ended::Followed(store.commits_since(&from, LogScope::Others).await)
        }));
    }

    pub(super) fn followed_to(&mut self, position: LogPosition, is_at_end: bool) {
        (self.followed, self.is_at_end) = (position, is_at_end);
    }

    pub(super) fn clear_up(&mut self, wall_ns: u64) {
        let Some(store) = self.store.clone() else { return };
        self.running.push(Box::pin(async move { Ended::ClearedUp(store.clear_up(wall_ns).await) }));
    }

    /// Lets everything run as far as it can. Answers what has ended, and the calls that were made.
    pub(super) fn poll(&mut self) -> (Vec<Ended>, Vec<(u64, Call)>) {
        let mut context = Context::from_waker(Waker::noop());
        let mut ended = Vec::new();
        let mut running = std::mem::take(&mut self.running);
        // Those who wait for another's turn can go on when that one has ended.
        loop {
            let before = running.len();
            running.retain_mut(|one| match one.as_mut().poll(&mut context) {
                Poll::Ready(end) => {
                    ended.push(end);
                    false
                }
                Poll::Pending => true,
            });
            if running.len() == before {
                break;
            }
        }
        self.running = running;
        (ended, std::mem::take(&mut self.objects.0.lock().new))
    }

    pub(super) fn apply(&self, call: Call) -> Option<Lattice> {
        self.objects.0.lock().apply(call)
    }

    /// A call returns to whoever made it.
    pub(super) fn returned(&self, number: u64, result: CallResult) {
        let state = &mut *self.objects.0.lock();
        if let Some(waker) = state.waiting.remove(&number) {
            state.results.insert(number, result);
            waker.wake();
        }
    }

    /// The outcome of an id, as it stands.
    pub(super) fn outcome(&self, id: &BaseId) -> Option<Outcome> {
        let state = self.objects.0.lock();
        let find = |name: &str| state.map.get(name).cloned();
        stored_outcome(id, find)
    }

    /// The values of a commit, as they stand.
    pub(super) fn values(&self, commit: &Commit) -> Vec<Option<bytes::Bytes>> {
        let state = self.objects.0.lock();
        stored_values(commit, |name| state.map.get(name).cloned())
    }

    /// Values of versions, as they stand.
    pub(super) fn versions(&self, wanted: &[(Key, Version)]) -> Vec<Option<bytes::Bytes>> {
        let Some(store) = self.store.clone() else { return vec![None; wanted.len()] };
        self.at_once(async { store.versions(wanted).await }).unwrap_or_default()
    }

    /// What the logs lead to.
    pub(super) fn usage(&self) -> Usage {
        let Some(store) = self.store.clone() else { return Usage::default() };
        self.at_once(async { store.usage().await }).unwrap_or_default()
    }

    /// What stands under plain names.
    pub(super) fn plain(&mut self, keys: &[Key]) -> Vec<Option<PlainValue>> {
        let Some(store) = self.store.clone() else { return vec![None; keys.len()] };
        self.at_once(async { store.plain(keys).await }).unwrap_or_default()
    }

    /// All commits in the logs.
    pub(super) fn logged(&mut self) -> Vec<Arc<Commit>> {
        self.open(u64::MAX).0
    }

    fn at_once<T>(&self, future: impl Future<Output = T>) -> T {
        self.objects.0.lock().instant = true;
        let mut future = std::pin::pin!(future);
        let mut context = Context::from_waker(Waker::noop());
        let done = loop {
            if let Poll::Ready(done) = future.as_mut().poll(&mut context) {
                break done;
            }
        };
        self.objects.0.lock().instant = false;
        done
    }
}

/// Whether a proposer looks if it was preempted.
pub(super) fn reads_promise(call: &Call) -> bool {
    matches!(call, Call::Get(name) if storage::anna::is_promise(name))
}

/// Whether a key's newest version is written down.
pub(super) fn writes_head(call: &Call) -> bool {
    matches!(call, Call::Put(name, _) if storage::anna::is_head(name))
}

/// The id whose outcome an object of this name is.
pub(super) fn outcome_id(call: &Call) -> Option<BaseId> {
    match call {
        Call::Put(name, _) => storage::anna::outcome_id(name),
        Call::Get(_) => None,
    }
}
