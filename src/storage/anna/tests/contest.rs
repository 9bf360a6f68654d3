//! Several sidecars decide the same ids at the same time, over objects whose reads and writes are slow,
//! lost, repeated, or done long after they were reported as failed. Sidecars die and come back, callers
//! give up. Whatever happens, all answers about one id must agree.
//!
//! One seed gives one run. Backends that are broken on purpose must be caught, or this proves nothing.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use fastrand::Rng;
use futures_util::stream::FuturesUnordered;

use super::super::super::{Share, Superseded, remains};
use super::*;

/// Each flaw shows within so many seeds.
const CANARY_SEEDS: u64 = 1_000;
/// Ids that are decided in one run, one after the other.
const IDS: usize = 6;
/// What is asked about each.
const ASKED_PER_ID: usize = 12;

/// What is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    /// Who wrote an outcome does not look whether it was preempted.
    TrustingWriters,
    /// Who only reads an outcome does not look whether it is decided.
    TrustingReaders,
    /// Who has promised a ballot proposes its own, whatever was accepted before.
    Heedless,
    /// Who proposes promises nothing.
    Unpromised,
    /// Several proposers of one id take themselves for the only one that may use ballot 0.
    ManySoles,
}

/// A read or write of one object.
#[derive(Debug, Clone)]
enum Call {
    Get(String),
    Put(String, Lattice),
}

type CallResult = Result<Option<Lattice>, StorageError>;

/// Something that is under way.
enum UnderWay {
    /// A call reaches the store; its caller is told, or not.
    Apply(u64, Call, bool),
    /// A result reaches the caller.
    Return(u64, CallResult),
}

/// The objects, and what is under way to and from them.
struct Sea {
    rng: Rng,
    map: Map,
    /// How long the slowest take, as a power of two.
    slowest: u32,
    /// Calls are done at once.
    is_calm: bool,
    now: u64,
    calls: u64,
    under_way: BTreeMap<(u64, u64), UnderWay>,
    results: BTreeMap<u64, CallResult>,
    waiting: BTreeMap<u64, Waker>,
}

impl Sea {
    fn later(&mut self, what: UnderWay) {
        // Some take a thousand times as long as others.
        let longest = 1 << self.rng.u32(1..=self.slowest);
        let at = self.now + self.rng.u64(0..longest);
        self.calls += 1;
        self.under_way.insert((at, self.calls), what);
    }

    fn call(&mut self, call: Call) -> u64 {
        self.calls += 1;
        let number = self.calls;
        if self.is_calm {
            let result = self.apply(call);
            self.results.insert(number, result);
            return number;
        }
        let lost = || Err(StorageError::Unconfirmed("lost".into()));
        match self.rng.u8(0..20) {
            0 => self.later(UnderWay::Return(number, lost())),
            1 => {
                let refused = StorageError::Refused("not sent".into());
                self.later(UnderWay::Return(number, Err(refused)));
            }
            2 | 3 => {
                self.later(UnderWay::Return(number, lost()));
                self.later(UnderWay::Apply(number, call, false));
            }
            4 => {
                self.later(UnderWay::Apply(number, call.clone(), true));
                self.later(UnderWay::Apply(number, call, false));
            }
            _ => self.later(UnderWay::Apply(number, call, true)),
        }
        number
    }

    fn apply(&mut self, call: Call) -> CallResult {
        match call {
            Call::Get(key) => Ok(read(&self.map, &key)),
            Call::Put(key, value) => merge(&mut self.map, &key, value).map(|()| None),
        }
    }

    /// Lets the next thing happen. Answers whether there was one.
    fn step(&mut self) -> bool {
        let Some(((at, _), what)) = self.under_way.pop_first() else {
            return false;
        };
        self.now = self.now.max(at);
        match what {
            UnderWay::Apply(number, call, is_told) => {
                let result = self.apply(call);
                if is_told {
                    self.later(UnderWay::Return(number, result));
                }
            }
            UnderWay::Return(number, result) => {
                if let Some(waker) = self.waiting.remove(&number) {
                    self.results.insert(number, result);
                    waker.wake();
                }
            }
        }
        true
    }
}

/// What one incarnation of a sidecar holds of the store.
struct Handle {
    sea: Arc<Mutex<Sea>>,
    flaw: Option<Flaw>,
    /// Ids of which a promise was written, and the outcome was not read since.
    promised: Mutex<BTreeSet<String>>,
    /// Ids of which the outcome was not only read, but written since.
    written: Mutex<BTreeSet<String>>,
}

impl Handle {
    async fn call(&self, call: Call) -> CallResult {
        let number = self.sea.lock().call(call);
        std::future::poll_fn(|context| {
            let mut sea = self.sea.lock();
            if let Some(result) = sea.results.remove(&number) {
                return Poll::Ready(result);
            }
            sea.waiting.insert(number, context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Whether a read finds nothing because of the flaw.
    fn overlooks(&self, key: &str) -> bool {
        let promise_of = key.strip_prefix("aft~b~");
        let outcome_of = key.strip_prefix("aft~o~");
        match (self.flaw, promise_of, outcome_of) {
            (Some(Flaw::TrustingWriters), Some(id), _) => self.written.lock().contains(id),
            (Some(Flaw::TrustingReaders), Some(id), _) => !self.written.lock().contains(id),
            (Some(Flaw::Heedless), _, Some(id)) => self.promised.lock().contains(id),
            _ => false,
        }
    }
}

#[async_trait]
impl KeyValue for Handle {
    async fn get(&self, key: &str) -> Result<Option<Lattice>, StorageError> {
        let overlooks = self.overlooks(key);
        if let Some(id) = key.strip_prefix("aft~o~") {
            self.promised.lock().remove(id);
            self.written.lock().remove(id);
        }
        if overlooks {
            return Ok(None);
        }
        self.call(Call::Get(key.to_owned())).await
    }

    async fn put(&self, key: &str, value: Lattice) -> Result<(), StorageError> {
        if let Some(id) = key.strip_prefix("aft~b~") {
            self.promised.lock().insert(id.to_owned());
            if self.flaw == Some(Flaw::Unpromised) {
                return Ok(());
            }
        }
        if let Some(id) = key.strip_prefix("aft~o~") {
            self.written.lock().insert(id.to_owned());
        }
        self.call(Call::Put(key.to_owned(), value)).await.map(drop)
    }
}

type Sidecar = Arc<AnnaStore<Handle>>;

/// What came of something that was asked.
enum Answer {
    Commit(CommitBatch, Result<Outcome, StorageError>),
    Settle(BaseId, Result<Outcome, StorageError>),
    /// With whether the id was known to be decided when it was asked for.
    Outcome(BaseId, bool, Result<Option<Outcome>, StorageError>),
    Log(Result<LogPage, StorageError>),
    Values(CommitBatch, Result<Vec<Option<Bytes>>, StorageError>),
    ClearedUp(Result<Vec<Arc<Commit>>, StorageError>),
    Collected,
}

struct Process {
    store: Sidecar,
    lives: u64,
    asked: FuturesUnordered<Pin<Box<dyn Future<Output = Answer>>>>,
}

struct Contest {
    sea: Arc<Mutex<Sea>>,
    rng: Rng,
    flaw: Option<Flaw>,
    /// How often something is asked before the next thing happens.
    haste: f64,
    processes: Vec<Process>,
    /// The first attempts that were begun, by the id's number.
    begun: BTreeSet<usize>,
    attempts: u64,
    /// All batches that were ever sent, by their writer.
    sent: BTreeMap<AttemptId, CommitBatch>,
    /// How often each was sent.
    times: BTreeMap<AttemptId, u32>,
    /// Attempts of which it was said that nothing was and will be written.
    refused: BTreeSet<AttemptId>,
    /// How each id ended; of a commit what remains when it is collected.
    decided: BTreeMap<BaseId, Outcome>,
    /// Ids of which something may be gone.
    collected: BTreeSet<BaseId>,
    /// All that was collected by now, or aborted, may be forgotten.
    forgets: bool,
    /// What went wrong.
    broken: Option<String>,
}

impl Contest {
    fn new(seed: u64, flaw: Option<Flaw>) -> Self {
        let mut rng = Rng::with_seed(seed);
        let sea = Sea {
            rng: rng.fork(),
            slowest: rng.u32(3..=12),
            map: Map::new(),
            is_calm: false,
            now: 0,
            calls: 0,
            under_way: BTreeMap::new(),
            results: BTreeMap::new(),
            waiting: BTreeMap::new(),
        };
        let mut contest = Self {
            sea: Arc::new(Mutex::new(sea)),
            flaw,
            haste: 0.05 + rng.f64() * 0.6,
            processes: Vec::new(),
            begun: BTreeSet::new(),
            attempts: 0,
            sent: BTreeMap::new(),
            times: BTreeMap::new(),
            refused: BTreeSet::new(),
            decided: BTreeMap::new(),
            collected: BTreeSet::new(),
            forgets: false,
            broken: None,
            rng,
        };
        for number in 0..contest.rng.usize(2..=4) {
            let store = contest.open(number, 0);
            let asked = FuturesUnordered::new();
            contest.processes.push(Process { store, lives: 0, asked });
        }
        contest
    }

    fn open(&self, number: usize, life: u64) -> Sidecar {
        let handle = Handle {
            sea: self.sea.clone(),
            flaw: self.flaw,
            promised: Mutex::default(),
            written: Mutex::default(),
        };
        let options = AnnaOptions {
            node: format!("node-{number}"),
            host: "127.0.0.1".into(),
            incarnation: life.to_string(),
            publication: Publication::default(),
            lands_within: Duration::ZERO,
            bucket_entries: 2,
            ..AnnaOptions::default()
        };
        Arc::new(self.calmly(AnnaStore::open(Arc::new(handle), options)).unwrap())
    }

    /// Runs something against objects that do at once what they are told.
    fn calmly<T>(&self, future: impl Future<Output = T>) -> T {
        self.sea.lock().is_calm = true;
        let mut future = std::pin::pin!(future);
        let mut context = Context::from_waker(Waker::noop());
        let done = loop {
            if let Poll::Ready(done) = future.as_mut().poll(&mut context) {
                break done;
            }
        };
        self.sea.lock().is_calm = false;
        done
    }

    /// Runs it all. Answers what was decided, or the promise that was broken.
    fn run(mut self) -> Result<Vec<Outcome>, String> {
        let mut left = IDS * ASKED_PER_ID;
        loop {
            if left > 0 && self.rng.f64() < self.haste {
                left -= 1;
                self.ask(left / ASKED_PER_ID);
            }
            let goes_on = self.sea.lock().step();
            self.poll();
            if self.broken.is_some() || (!goes_on && left == 0) {
                break;
            }
        }
        if self.broken.is_none() {
            self.check_what_is_left();
        }
        match self.broken {
            Some(why) => Err(why),
            None => Ok(self.decided.into_values().collect()),
        }
    }

    fn ask(&mut self, newest: usize) {
        let number = self.rng.usize(..self.processes.len());
        match self.rng.u8(0..20) {
            0 => return self.die(number),
            1 => return self.processes[number].asked.clear(),
            _ => {}
        }
        // Now and then an earlier one.
        let id = if self.rng.u8(0..8) == 0 { self.rng.usize(newest..IDS) } else { newest };
        let base = BaseId::parse(&name_of(id)).unwrap();
        let store = self.processes[number].store.clone();
        match self.rng.u8(0..14) {
            12 => self.collect(number, &base),
            13 => self.forget(number),
            0..4 => {
                let batch = self.new_batch(number, id);
                self.send(number, batch);
            }
            4 | 5 => self.push(number, async move {
                Answer::Settle(base.clone(), store.settle_aborted(&base).await)
            }),
            6..10 => {
                let was_decided = self.decided.contains_key(&base);
                self.push(number, async move {
                    Answer::Outcome(base.clone(), was_decided, store.outcome(&base).await)
                });
            }
            10 => self.push(number, async move {
                Answer::Log(store.commits_since(&LogPosition::default(), LogScope::All).await)
            }),
            _ => self.ask_for_values(number, &base),
        }
    }

    fn push(&self, number: usize, asked: impl Future<Output = Answer> + 'static) {
        self.processes[number].asked.push(Box::pin(asked));
    }

    /// The first attempt of an id runs where it was made, in its first life, and is sent there only.
    fn new_batch(&mut self, number: usize, id: usize) -> CommitBatch {
        let process = &self.processes[number];
        let makes = id % self.processes.len() == number && process.lives == 0;
        let is_first = makes && self.begun.insert(id);
        self.attempts += 1;
        let name =
            if is_first { name_of(id) } else { format!("{}.{:x}", name_of(id), self.attempts) };
        // Some values stand apart.
        let bytes = if self.rng.bool() { 1 } else { 40_000 };
        let value = Bytes::from(format!("{name} ").repeat(bytes / 6 + 1));
        let mut batch = batch(&name, 5 + self.attempts, &[(&format!("k{id}"), value)]);
        batch.sole |= self.flaw == Some(Flaw::ManySoles);
        batch
    }

    fn send(&mut self, number: usize, batch: CommitBatch) {
        let writer = &batch.commit.version.writer;
        self.sent.insert(writer.clone(), batch.clone());
        *self.times.entry(writer.clone()).or_default() += 1;
        let store = self.processes[number].store.clone();
        self.push(number, async move { Answer::Commit(batch.clone(), store.commit(batch).await) });
    }

    /// What the id wrote was superseded, by something else.
    fn collect(&mut self, number: usize, base: &BaseId) {
        let Some(Outcome::Committed(commit)) = self.decided.get(base) else { return };
        let Some(batch) = self.sent.get(&commit.version.writer).cloned() else { return };
        self.collected.insert(base.clone());
        let store = self.processes[number].store.clone();
        self.push(number, async move {
            let keys = wanted(&batch).into_iter().map(|(key, _)| key).collect();
            let commit = batch.commit;
            let gone = Superseded { commit, keys, is_last: true };
            let garbage = Garbage { superseded: vec![gone], newest: Vec::new() };
            // Another time, if it failed.
            let _ = store.collect(&garbage).await;
            Answer::Collected
        });
    }

    /// Nobody may ask any more for what was collected before now, or aborted.
    fn forget(&mut self, number: usize) {
        self.forgets = true;
        let store = self.processes[number].store.clone();
        let sweep = Sweep {
            superseded_before: Timestamp(0),
            outcomes_before: Timestamp(u64::MAX >> 1),
            orphans_before: Timestamp(0),
            share: Share::ALL,
            entries_max: 100,
        };
        self.push(number, async move {
            let _ = store.sweep(&sweep).await;
            Answer::Collected
        });
    }

    fn may_be_forgotten(&self, id: &BaseId) -> bool {
        let is_aborted = self.decided.get(id) == Some(&Outcome::Aborted);
        self.forgets && (is_aborted || self.collected.contains(id))
    }

    fn ask_for_values(&self, number: usize, base: &BaseId) {
        let Some(Outcome::Committed(commit)) = self.decided.get(base) else { return };
        let Some(batch) = self.sent.get(&commit.version.writer).cloned() else { return };
        let store = self.processes[number].store.clone();
        self.push(number, async move {
            let wanted = wanted(&batch);
            Answer::Values(batch, store.versions(&wanted).await)
        });
    }

    /// The process dies and comes back. What it sent stays under way.
    fn die(&mut self, number: usize) {
        self.processes[number].asked.clear();
        let life = self.processes[number].lives + 1;
        let store = self.open(number, life);
        self.processes[number].lives = life;
        self.processes[number].store = store.clone();
        if self.rng.bool() {
            self.push(number, async move { Answer::ClearedUp(store.clear_up(u64::MAX).await) });
        }
    }

    fn poll(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        for number in 0..self.processes.len() {
            loop {
                let asked = &mut self.processes[number].asked;
                let Poll::Ready(Some(answer)) = asked.poll_next_unpin(&mut context) else {
                    break;
                };
                self.answered(number, answer);
            }
        }
    }

    fn answered(&mut self, number: usize, answer: Answer) {
        match answer {
            Answer::Commit(batch, Ok(outcome)) => {
                self.decides(&batch.commit.version.writer.base(), outcome);
            }
            Answer::Commit(batch, Err(error)) => {
                let writer = &batch.commit.version.writer;
                if error.is_refusal() && self.times[writer] == 1 {
                    self.refused.insert(writer.clone());
                } else if self.rng.u8(0..4) > 0 {
                    self.send(number, batch);
                }
            }
            Answer::Settle(id, Ok(outcome)) | Answer::Outcome(id, _, Ok(Some(outcome))) => {
                self.decides(&id, outcome);
            }
            Answer::Outcome(id, true, Ok(None)) if !self.may_be_forgotten(&id) => {
                self.breaks(format!("{id} is open again"));
            }
            Answer::Values(batch, Ok(values)) => self.check_values(&batch, &values),
            Answer::Log(Ok(LogPage { commits, .. })) | Answer::ClearedUp(Ok(commits)) => {
                for commit in commits {
                    let id = commit.version.writer.base();
                    self.decides(&id, Outcome::Committed(commit));
                }
            }
            // Whoever asked gives up.
            _ => {}
        }
    }

    /// An outcome is told. It must be the one that was told before.
    fn decides(&mut self, id: &BaseId, outcome: Outcome) {
        let remains = remains_of(&outcome);
        let told = self.decided.entry(id.clone()).or_insert_with(|| remains.clone());
        if *told != remains {
            let why = format!("{id}: {told:?} was told, then {outcome:?}");
            return self.breaks(why);
        }
        if let Outcome::Committed(commit) = &outcome {
            let writer = &commit.version.writer;
            let was_collected = commit.keys.is_empty() && self.collected.contains(id);
            let was_sent = |batch: &CommitBatch| was_collected || batch.commit == *commit;
            if self.refused.contains(writer) {
                self.breaks(format!("{writer} was refused and has committed"));
            } else if !self.sent.get(writer).is_some_and(was_sent) {
                self.breaks(format!("nobody sent {commit:?}"));
            }
        }
    }

    fn check_values(&mut self, batch: &CommitBatch, found: &[Option<Bytes>]) {
        if self.collected.contains(&batch.commit.version.writer.base()) {
            return;
        }
        if !batch.values.iter().map(Some).eq(found.iter().map(Option::as_ref)) {
            self.breaks(format!("the values of {:?} are gone", batch.commit.version));
        }
    }

    fn breaks(&mut self, why: String) {
        self.broken.get_or_insert(why);
    }

    /// Nothing is under way any more. A sidecar that comes now finds what was told.
    fn check_what_is_left(&mut self) {
        let store = self.open(100, 0);
        let told = self.decided.clone();
        let logged = self.calmly(log(&store));
        for (id, outcome) in &told {
            let found = self.calmly(store.outcome(id)).unwrap();
            let is_told = |found: &Outcome| remains_of(found) == *outcome;
            if !found.as_ref().map_or(self.may_be_forgotten(id), is_told) {
                self.breaks(format!("{id}: {outcome:?} was told, {found:?} is there"));
            }
            if let Outcome::Committed(commit) = outcome
                && !self.collected.contains(id)
            {
                let batch = self.sent[&commit.version.writer].clone();
                let commit = &batch.commit;
                let values = self.calmly(store.versions(&wanted(&batch))).unwrap();
                self.check_values(&batch, &values);
                if !logged.contains(commit) {
                    self.breaks(format!("{commit:?} was told and is in no log"));
                }
            }
        }
    }
}

/// What is left of an outcome when it is collected.
fn remains_of(outcome: &Outcome) -> Outcome {
    match outcome {
        Outcome::Committed(commit) => remains::of(commit),
        Outcome::Aborted => Outcome::Aborted,
    }
}

/// An id that tells when it was made.
fn name_of(id: usize) -> String {
    format!("01995000-0000-7000-8000-{id:012x}")
}

fn wanted(batch: &CommitBatch) -> Vec<(Key, Version)> {
    let version = &batch.commit.version;
    batch.commit.keys.iter().map(|written| (written.key.clone(), version.clone())).collect()
}

/// How many runs; `AFT_SIM_SEEDS` says otherwise, as for the simulator.
fn seeds() -> u64 {
    let set = std::env::var("AFT_SIM_SEEDS").ok().and_then(|text| text.parse().ok());
    set.unwrap_or(1_000)
}

#[test]
fn all_answers_about_an_id_agree() {
    let (mut commits, mut aborts) = (0, 0);
    let seeds = seeds();
    for seed in 0..seeds {
        match Contest::new(seed, None).run() {
            Ok(decided) => {
                let aborted = decided.iter().filter(|o| **o == Outcome::Aborted).count();
                aborts += aborted;
                commits += decided.len() - aborted;
            }
            Err(broken) => panic!("seed {seed}: {broken}"),
        }
    }
    // A contest in which nothing is decided proves nothing.
    assert!(commits as u64 > seeds && aborts as u64 > seeds / 2, "{commits} and {aborts}");
}

#[test]
fn broken_backends_are_caught() {
    for flaw in [
        Flaw::TrustingWriters,
        Flaw::TrustingReaders,
        Flaw::Heedless,
        Flaw::Unpromised,
        Flaw::ManySoles,
    ] {
        let is_caught = |seed: &u64| Contest::new(*seed, Some(flaw)).run().is_err();
        let caught = (0..CANARY_SEEDS).find(is_caught);
        println!("{flaw:?}: {caught:?}");
        assert!(caught.is_some(), "{flaw:?}");
    }
}
