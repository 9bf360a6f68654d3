//! What every backend promises, as checks that panic with the promise that was broken.
//!
//! To test a backend, open a store on the real server (or directory, or bucket) and hand it to
//! [`run`] on a multi-threaded tokio runtime:
//!
//! ```
//! # use std::sync::Arc;
//! # use aft::storage::{conformance, memory::MemoryStore};
//! #[tokio::main]
//! async fn main() {
//!     let store = Arc::new(MemoryStore::new());
//!     conformance::run(store, 1).await;
//! }
//! ```
//!
//! The store need not be empty and nobody must clean it: all ids and keys hold the number handed in,
//! which has to differ between runs on one store. Others may use the store meanwhile.
//!
//! Not checked here, since it needs to know what the backend is made of: that what was acknowledged
//! survives a crash, and what happens when the store is full, slow, damaged or away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::{
    CommitBatch, Garbage, LogPage, LogPosition, LogScope, Share, Storage, StorageError, Superseded,
    Sweep, Swept,
};
use crate::txn::key::KEY_BYTES_MAX;
use crate::txn::{AttemptId, BaseId, Commit, Key, Outcome, Timestamp, Version, WrittenKey};

/// Runs all checks against a store, one after the other.
pub async fn run(store: Arc<dyn Storage>, run: u64) {
    let on = Bench { store, run };
    a_commit_is_read_back(&on).await;
    the_first_outcome_wins(&on).await;
    settling_an_id_decides_it(&on).await;
    repeating_a_commit_changes_nothing(&on).await;
    commits_and_settlements_that_race_agree(&on).await;
    the_log_is_read_once_and_in_order(&on).await;
    the_log_loses_nothing_under_concurrent_commits(&on).await;
    unusual_keys_and_values_are_kept(&on).await;
    what_is_missing_is_none(&on).await;
    a_batch_that_does_not_fit_together_is_refused(&on).await;
    if on.store.collects_garbage() {
        heads_are_the_newest_commits(&on).await;
        what_is_collected_is_gone_and_nothing_else(&on).await;
        a_sweep_finds_what_was_not_collected(&on).await;
    }
    if on.store.has_plain_keys() {
        the_newest_published_value_stays(&on).await;
    }
}

/// Runs the checks of a store that several processes use at once, of which each opened one of `stores`.
pub async fn run_together(stores: Vec<Arc<dyn Storage>>, run: u64) {
    let on: Vec<_> = stores.into_iter().map(|store| Bench { store, run }).collect();
    processes_that_decide_the_same_ids_agree(&on).await;
}

/// A store under test and the number that makes this run's names its own.
struct Bench {
    store: Arc<dyn Storage>,
    run: u64,
}

impl Bench {
    fn attempt(&self, name: &str) -> AttemptId {
        AttemptId::parse(&format!("{}-{name}", self.run)).expect("a valid id")
    }

    fn key(&self, name: &str) -> Key {
        Key::parse(&format!("{}/{name}", self.run)).expect("a valid key")
    }

    /// A batch of attempt `name`, which writes its own name and `suffix` under each of `keys`.
    fn batch(&self, name: &str, timestamp: u64, keys: &[&str]) -> CommitBatch {
        let version = Version { timestamp: Timestamp(timestamp), writer: self.attempt(name) };
        let keys = keys
            .iter()
            .enumerate()
            .map(|(i, key)| WrittenKey { key: self.key(key), fresh: i % 2 == 0 });
        let commit = Arc::new(Commit::new(version, keys.collect(), "conformance".into()));
        let values = commit.keys.iter().map(|w| format!("{name} wrote {}", w.key).into());
        let sole = commit.version.writer.is_first();
        CommitBatch { values: values.collect(), commit, sole }
    }

    async fn commit(&self, batch: &CommitBatch) -> Outcome {
        self.store.commit(batch.clone()).await.expect("commit")
    }

    async fn outcome(&self, id: &BaseId) -> Option<Outcome> {
        self.store.outcome(id).await.expect("outcome")
    }

    async fn page(&self, position: &LogPosition) -> LogPage {
        self.store.commits_since(position, LogScope::All).await.expect("commits_since")
    }

    async fn assert_readable(&self, batch: &CommitBatch) {
        let versions = versions_of(batch);
        let found = self.store.versions(&versions).await.expect("versions");
        let written: Vec<_> = batch.values.iter().cloned().map(Some).collect();
        assert!(found == written, "the values of {:?}", batch.commit.version);
    }

    /// This run's commits behind a position, and the position behind them.
    async fn log(&self, mut position: LogPosition) -> (Vec<Arc<Commit>>, LogPosition) {
        let mut commits = Vec::new();
        loop {
            let page = self.page(&position).await;
            commits.extend(page.commits.into_iter().filter(|c| self.is_own(&c.version.writer)));
            assert!(page.end || page.next != position, "a page that is not the last leads on");
            position = page.next;
            if page.end {
                self.order(&mut commits);
                return (commits, position);
            }
        }
    }

    /// The same, of a log that may tell of commits again, or of such that were collected: those of these that
    /// were not, each once.
    async fn live_log(&self, position: LogPosition, of: &[&CommitBatch]) -> Vec<Arc<Commit>> {
        let mut commits = self.log(position).await.0;
        if self.store.log_tells_again() {
            commits.retain(|commit| of.iter().any(|batch| batch.commit == *commit));
            commits.dedup();
            let mut live = Vec::new();
            for commit in commits {
                let outcome = self.outcome(&commit.version.writer.base()).await;
                if outcome == Some(Outcome::Committed(commit.clone())) {
                    live.push(commit);
                }
            }
            return live;
        }
        commits
    }

    /// Sorts commits of a log that has no order of its own.
    fn order(&self, commits: &mut [Arc<Commit>]) {
        if !self.store.log_is_in_order() {
            commits.sort_by(|a, b| a.version.cmp(&b.version));
        }
    }

    fn is_own(&self, writer: &AttemptId) -> bool {
        writer.as_str().starts_with(&format!("{}-", self.run))
    }

    async fn end_of_log(&self) -> LogPosition {
        self.log(LogPosition::default()).await.1
    }
}

fn versions_of(batch: &CommitBatch) -> Vec<(Key, Version)> {
    let version = &batch.commit.version;
    let keys = batch.commit.keys.iter();
    keys.map(|written| (written.key.clone(), version.clone())).collect()
}

fn committed(batch: &CommitBatch) -> Outcome {
    Outcome::Committed(batch.commit.clone())
}

async fn a_commit_is_read_back(on: &Bench) {
    let start = on.end_of_log().await;
    let batch = on.batch("read-back", 1_790_000_000_000_000_001, &["a", "b", "c"]);
    let id = batch.commit.version.writer.base();
    assert_eq!(on.outcome(&id).await, None, "an id has no outcome before its commit");
    assert_eq!(on.commit(&batch).await, committed(&batch));
    assert_eq!(on.outcome(&id).await, Some(committed(&batch)));
    on.assert_readable(&batch).await;
    let (log, end) = on.log(start).await;
    assert_eq!(
        log,
        std::slice::from_ref(&batch.commit),
        "the log holds the commit, flags included"
    );
    let (log, _) = on.log(end).await;
    assert!(log.is_empty(), "nothing is handed out twice");
}

async fn the_first_outcome_wins(on: &Bench) {
    let start = on.end_of_log().await;
    let first = on.batch("contended.1", 20, &["x"]);
    let second = on.batch("contended.2", 30, &["x", "y"]);
    assert_eq!(on.commit(&first).await, committed(&first));
    let answer = on.commit(&second).await;
    assert_eq!(answer, committed(&first), "a later attempt is told the first one's outcome");
    let id = second.commit.version.writer.base();
    assert_eq!(on.outcome(&id).await, Some(committed(&first)));
    assert_eq!(
        on.log(start).await.0,
        std::slice::from_ref(&first.commit),
        "the loser is not in the log"
    );
    assert_eq!(
        on.store.settle_aborted(&id).await,
        Ok(committed(&first)),
        "what is committed cannot be settled otherwise"
    );
    on.assert_readable(&first).await;
}

async fn settling_an_id_decides_it(on: &Bench) {
    let start = on.end_of_log().await;
    let batch = on.batch("settled", 40, &["s"]);
    let id = batch.commit.version.writer.base();
    assert_eq!(on.store.settle_aborted(&id).await, Ok(Outcome::Aborted));
    assert_eq!(on.store.settle_aborted(&id).await, Ok(Outcome::Aborted), "also repeated");
    assert_eq!(on.outcome(&id).await, Some(Outcome::Aborted));
    assert_eq!(on.commit(&batch).await, Outcome::Aborted, "it is too late to commit");
    assert_eq!(on.outcome(&id).await, Some(Outcome::Aborted));
    assert!(on.log(start).await.0.is_empty(), "the log holds commits only");
}

async fn repeating_a_commit_changes_nothing(on: &Bench) {
    let start = on.end_of_log().await;
    let batch = on.batch("repeated", 50, &["r1", "r2"]);
    for _ in 0..3 {
        assert_eq!(on.commit(&batch).await, committed(&batch));
    }
    let (first, second) = tokio::join!(on.commit(&batch), on.commit(&batch));
    assert_eq!((first, second), (committed(&batch), committed(&batch)));
    assert_eq!(on.log(start).await.0, std::slice::from_ref(&batch.commit), "one log entry");
    on.assert_readable(&batch).await;
}

/// Each process commits an attempt at each of many ids and settles it, all at once.
async fn processes_that_decide_the_same_ids_agree(on: &[Bench]) {
    const IDS: usize = 20;
    let mut starts = Vec::new();
    for on in on {
        starts.push(on.end_of_log().await);
    }
    let mut tasks = JoinSet::new();
    for (id, (number, on)) in (0..IDS).flat_map(|id| on.iter().enumerate().map(move |on| (id, on)))
    {
        let batch = on.batch(&format!("shared-{id}.{number}"), 60, &[&format!("shared-{id}")]);
        let base = batch.commit.version.writer.base();
        let (store, id) = (on.store.clone(), base.clone());
        tasks.spawn(async move {
            let outcome = confirmed(|| store.commit(batch.clone())).await;
            (id, outcome)
        });
        let store = on.store.clone();
        tasks.spawn(async move {
            let outcome = confirmed(|| store.settle_aborted(&base)).await;
            (base, outcome)
        });
    }
    let mut outcomes = BTreeMap::new();
    for (base, outcome) in tasks.join_all().await {
        let agreed = outcomes.entry(base.clone()).or_insert_with(|| outcome.clone());
        assert_eq!(*agreed, outcome, "all processes get one answer about {base}");
    }
    for (on, start) in on.iter().zip(starts) {
        let (log, _) = on.log(start).await;
        for (base, outcome) in &outcomes {
            assert_eq!(on.outcome(base).await.as_ref(), Some(outcome), "{base}");
            let logged = log.iter().find(|commit| commit.version.writer.base() == *base);
            match outcome {
                Outcome::Committed(commit) => {
                    assert_eq!(logged, Some(commit), "whoever was told finds it in the log");
                    let wanted = [(commit.keys[0].key.clone(), commit.version.clone())];
                    let found = on.store.versions(&wanted).await.expect("versions");
                    assert!(found[0].is_some(), "{commit:?} is readable everywhere");
                }
                Outcome::Aborted => assert_eq!(logged, None, "{base} was aborted"),
            }
        }
    }
}

/// Asks until the answer is confirmed: those who ask for the same may get in each other's way.
async fn confirmed<F: Future<Output = Result<Outcome, StorageError>>>(
    ask: impl Fn() -> F,
) -> Outcome {
    loop {
        match ask().await {
            Err(StorageError::Unconfirmed(_)) => tokio::task::yield_now().await,
            answer => return answer.expect("an outcome"),
        }
    }
}

/// Several attempts at each of many ids, and settlements of the same ids, all at once.
async fn commits_and_settlements_that_race_agree(on: &Bench) {
    const IDS: usize = 40;
    const ATTEMPTS: u64 = 3;
    let start = on.end_of_log().await;
    let mut tasks = JoinSet::new();
    for id in 0..IDS {
        for attempt in 0..ATTEMPTS {
            let batch = on.batch(&format!("race-{id}.{attempt}"), 60 + attempt, &["r", "s"]);
            let store = on.store.clone();
            tasks.spawn(async move {
                let base = batch.commit.version.writer.base();
                (base, store.commit(batch).await.expect("commit"))
            });
        }
        let store = on.store.clone();
        let base = on.attempt(&format!("race-{id}")).base();
        tasks.spawn(async move {
            let outcome = store.settle_aborted(&base).await.expect("settle_aborted");
            (base, outcome)
        });
    }
    let mut outcomes = BTreeMap::new();
    for (base, outcome) in tasks.join_all().await {
        let agreed = outcomes.entry(base.clone()).or_insert_with(|| outcome.clone());
        assert_eq!(*agreed, outcome, "all who ask about {base} get one answer");
    }
    let mut expected = BTreeSet::new();
    for (base, outcome) in outcomes {
        assert_eq!(on.outcome(&base).await.as_ref(), Some(&outcome), "{base} keeps it");
        if let Outcome::Committed(commit) = outcome {
            expected.insert(commit.version.clone());
        }
    }
    let (log, _) = on.log(start).await;
    let logged: BTreeSet<_> = log.iter().map(|commit| commit.version.clone()).collect();
    assert_eq!(logged.len(), log.len(), "no commit is logged twice");
    assert_eq!(logged, expected, "the log holds the commits that won, and no others");
}

async fn the_log_is_read_once_and_in_order(on: &Bench) {
    const COMMITS: u64 = 1500;
    let start = on.end_of_log().await;
    let mut written = Vec::new();
    for n in 0..COMMITS {
        // Falling timestamps: the log's order is that of its writing, not that of time.
        let batch = on.batch(&format!("log-{n}"), COMMITS - n, &[]);
        on.commit(&batch).await;
        written.push(batch.commit);
    }
    let (log, end) = on.log(start.clone()).await;
    on.order(&mut written);
    assert!(log == written, "all commits, each once, in the order of their writing");
    let first = on.page(&start).await;
    let again = on.page(&start).await;
    assert!(first.commits == again.commits, "a position can be read again");
    let last = on.batch("log-last", 1, &["k"]);
    on.commit(&last).await;
    assert_eq!(on.log(end).await.0, [last.commit], "a position stays good");
}

/// Reads the log while it is written: whoever follows it sees everything.
async fn the_log_loses_nothing_under_concurrent_commits(on: &Bench) {
    const WRITERS: usize = 8;
    const COMMITS: usize = 25;
    let mut position = on.end_of_log().await;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let batches: Vec<_> =
            (0..COMMITS).map(|n| on.batch(&format!("follow-{writer}-{n}"), 1, &["f"])).collect();
        let store = on.store.clone();
        writers.spawn(async move {
            for batch in batches {
                store.commit(batch).await.expect("commit");
            }
        });
    }
    let mut seen = Vec::new();
    while seen.len() < WRITERS * COMMITS {
        let was_done = writers.is_empty();
        let (commits, next) = on.log(position).await;
        position = next;
        for commit in commits {
            let wanted = [(on.key("f"), commit.version.clone())];
            let found = on.store.versions(&wanted).await.expect("versions");
            assert!(found[0].is_some(), "a commit in the log has its versions");
            seen.push(commit.version.writer.clone());
        }
        assert!(
            !was_done || seen.len() == WRITERS * COMMITS,
            "only {} of {} commits appeared in the log",
            seen.len(),
            WRITERS * COMMITS
        );
        if let Some(done) = writers.try_join_next() {
            done.expect("a writer");
        }
    }
    let distinct: BTreeSet<_> = seen.iter().collect();
    assert_eq!(distinct.len(), seen.len(), "nothing is handed out twice");
    while writers.join_next().await.is_some() {}
}

async fn unusual_keys_and_values_are_kept(on: &Bench) {
    const LARGE_BYTES: usize = 8 << 20;
    let empty = on.batch("empty", 70, &[]);
    assert_eq!(on.commit(&empty).await, committed(&empty), "a batch may be empty");

    let fill = KEY_BYTES_MAX - on.key("").as_str().len();
    let (longest, longest_but_one) = ("k".repeat(fill), "é".repeat(fill / 2));
    let names = [
        "/",
        "//a//",
        "a/1/b",
        "data/x/1/y",
        "line\nbreak\r\n",
        "\0",
        "%2F",
        "*?[",
        "ключ 🔑",
        " ",
        "a\u{301}",
        "á",
        &longest,
        &longest_but_one,
    ];
    let mut batch = on.batch("unusual", u64::MAX / 2, &names);
    assert_eq!(batch.values.len(), names.len());
    batch.values[0] = Bytes::new();
    batch.values[1] = (0..LARGE_BYTES).map(|i| (i * i / 7) as u8).collect();
    batch.values[2] = Bytes::from_static(&[0, 0xff, b'\n', 0]);
    assert_eq!(on.commit(&batch).await, committed(&batch));
    on.assert_readable(&batch).await;
    let id = batch.commit.version.writer.base();
    assert_eq!(on.outcome(&id).await, Some(committed(&batch)));
}

async fn what_is_missing_is_none(on: &Bench) {
    let batch = on.batch("present", 80, &["p"]);
    on.commit(&batch).await;
    let (key, there) = versions_of(&batch).remove(0);
    let at = |timestamp, writer: &str| Version {
        timestamp: Timestamp(timestamp),
        writer: on.attempt(writer),
    };
    let wanted = [
        (key.clone(), at(81, "present")),
        (key.clone(), at(80, "absent")),
        (key, there.clone()),
        (on.key("absent"), there.clone()),
        // What a carelessly built name would confuse with the version that is there.
        (on.key("p/80"), there),
    ];
    let found = on.store.versions(&wanted).await.expect("versions");
    let value = batch.values[0].clone();
    assert_eq!(found, [None, None, Some(value), None, None]);
    assert_eq!(on.store.versions(&[]).await, Ok(vec![]));
    assert_eq!(on.outcome(&on.attempt("absent").base()).await, None);
}

async fn a_batch_that_does_not_fit_together_is_refused(on: &Bench) {
    let mut batch = on.batch("unfit", 90, &["u", "v"]);
    batch.values.pop();
    let id = batch.commit.version.writer.base();
    assert!(on.store.commit(batch).await.is_err(), "two keys, one value");
    assert_eq!(on.outcome(&id).await, None, "nothing is left behind");
}

async fn heads_are_the_newest_commits(on: &Bench) {
    let at = 1_790_000_000_000_000_300;
    let both = on.batch("head-both", at, &["head/k", "head/l"]);
    let newer = on.batch("head-newer", at + 20, &["head/k"]);
    let late =
        on.batch("head-late", at + 10, &["head/k", "head/k/17", "head/k/1790000000000000330/x"]);
    let keys = ["head/k", "head/l", "head/k/17", "head/none"].map(|key| on.key(key));
    for batch in [&both, &newer, &late] {
        on.commit(batch).await;
        let heads: Vec<_> =
            batch.commit.keys.iter().map(|w| (w.key.clone(), batch.commit.clone())).collect();
        on.store.set_heads(&heads).await.expect("set_heads");
    }
    let expected = [Some(newer.commit), Some(both.commit), Some(late.commit), None];
    assert_eq!(on.store.heads(&keys).await.expect("heads"), expected, "the heads of {keys:?}");
    assert!(on.store.heads(&[]).await.expect("heads").is_empty());
}

/// What goes of `batch`: these of its keys, superseded by `by`.
fn superseded(
    on: &Bench,
    batch: &CommitBatch,
    keys: &[&str],
    is_last: bool,
    by: &CommitBatch,
) -> Garbage {
    let keys: Vec<_> = keys.iter().map(|key| on.key(key)).collect();
    Garbage {
        newest: keys.iter().map(|key| (key.clone(), by.commit.clone())).collect(),
        superseded: vec![Superseded { commit: batch.commit.clone(), keys, is_last }],
    }
}

fn remains_of(batch: &CommitBatch) -> Outcome {
    let commit = &batch.commit;
    let remains = Commit::new(commit.version.clone(), Vec::new(), commit.replica.clone());
    Outcome::Committed(Arc::new(remains))
}

async fn what_is_collected_is_gone_and_nothing_else(on: &Bench) {
    let start = on.end_of_log().await;
    let at = 1_790_000_000_000_000_400;
    let old = on.batch("old", at, &["gone/k", "gone/l"]);
    let [k, l] = [on.batch("new-k", at + 1, &["gone/k"]), on.batch("new-l", at + 2, &["gone/l"])];
    on.commit(&old).await;
    let behind_old = on.log(start.clone()).await.1;
    on.commit(&k).await;
    let id = old.commit.version.writer.base();
    let collect = async |garbage: Garbage| {
        // Twice: what is gone already is no error.
        on.store.collect(&garbage).await.expect("collect");
        on.store.collect(&garbage).await.expect("collect");
    };

    collect(superseded(on, &old, &["gone/k"], false, &k)).await;
    let found = on.store.versions(&versions_of(&old)).await.expect("versions");
    assert_eq!(found, [None, old.values.get(1).cloned()], "one version is gone, the other stays");
    assert_eq!(on.outcome(&id).await, Some(committed(&old)), "the record stays with a version");
    assert_eq!(
        on.live_log(start.clone(), &[&old, &k]).await,
        [old.commit.clone(), k.commit.clone()]
    );

    on.commit(&l).await;
    collect(superseded(on, &old, &["gone/l"], true, &l)).await;
    let found = on.store.versions(&versions_of(&old)).await.expect("versions");
    assert_eq!(found, [None, None]);
    assert_eq!(on.outcome(&id).await, Some(remains_of(&old)), "what remains of a collected commit");
    assert_eq!(
        on.commit(&old).await,
        remains_of(&old),
        "a commit that is repeated stays collected"
    );
    assert_eq!(on.store.settle_aborted(&id).await, Ok(remains_of(&old)));
    assert_eq!(
        on.live_log(start, &[&old, &k, &l]).await,
        [k.commit.clone(), l.commit.clone()],
        "the log has no more of it"
    );
    let behind = on.live_log(behind_old, &[&old, &k, &l]).await;
    assert_eq!(behind, [k.commit.clone(), l.commit.clone()]);
    on.assert_readable(&k).await;
    on.assert_readable(&l).await;
    let heads = on.store.heads(&[on.key("gone/k"), on.key("gone/l")]).await.expect("heads");
    assert_eq!(heads, [Some(k.commit), Some(l.commit)]);
}

/// Looks at commits from the year 2001, so that nothing else in the store is old enough.
async fn a_sweep_finds_what_was_not_collected(on: &Bench) {
    let at = 1_000_000_000_000_000_000 + on.run % 1_000_000 * 1_000_000;
    let old = on.batch("swept-old", at, &["swept/k", "swept/l"]);
    let half = on.batch("swept-half", at + 1, &["swept/k", "swept/m"]);
    let [k, l] =
        [on.batch("swept-k", at + 2, &["swept/k"]), on.batch("swept-l", at + 3, &["swept/l"])];
    // Too young to have superseded anything.
    let young = on.batch("swept-young", at + 100, &["swept/k"]);
    let start = on.end_of_log().await;
    for batch in [&old, &half, &k, &l, &young] {
        on.commit(batch).await;
        let heads: Vec<_> =
            batch.commit.keys.iter().map(|w| (w.key.clone(), batch.commit.clone())).collect();
        on.store.set_heads(&heads).await.expect("set_heads");
    }
    let sweep = |outcomes_before| Sweep {
        superseded_before: Timestamp(at + 50),
        outcomes_before: Timestamp(outcomes_before),
        orphans_before: Timestamp(at + 50),
        share: Share::ALL,
        entries_max: 7,
    };
    let swept = sweep_all(on, sweep(at)).await;
    assert!(swept.versions >= 3, "versions of three keys are superseded: {swept:?}");
    let found = on.store.versions(&versions_of(&old)).await.expect("versions");
    assert_eq!(found, [None, None]);
    let found = on.store.versions(&versions_of(&half)).await.expect("versions");
    assert_eq!(found, [None, half.values.get(1).cloned()], "the newest version of a key stays");
    for batch in [&k, &l, &young] {
        on.assert_readable(batch).await;
    }
    let id = old.commit.version.writer.base();
    assert_eq!(on.outcome(&id).await, Some(remains_of(&old)));
    let live = [&half, &k, &l, &young].map(|batch| batch.commit.clone());
    let all = [&old, &half, &k, &l, &young];
    assert_eq!(on.live_log(start, &all).await, live, "the log has what is live");

    sweep_all(on, sweep(at + 50)).await;
    assert_eq!(on.outcome(&id).await, None, "an old outcome is forgotten");
    for batch in [&half, &k, &l, &young] {
        let id = batch.commit.version.writer.base();
        assert_eq!(
            on.outcome(&id).await,
            Some(committed(batch)),
            "a record stays with its versions"
        );
    }
    let usage = on.store.usage().await.expect("usage");
    assert!(usage.keys >= 3 && usage.versions >= 4 && usage.log_entries >= 4, "{usage:?}");
}

/// Goes through the whole store twice: records are found when their versions have gone.
async fn sweep_all(on: &Bench, sweep: Sweep) -> Swept {
    let mut all = Swept::default();
    for _ in 0..2 {
        loop {
            let swept = on.store.sweep(&sweep).await.expect("sweep");
            all += swept;
            if swept.end {
                break;
            }
        }
    }
    all
}

async fn the_newest_published_value_stays(on: &Bench) {
    let key = on.key("plain");
    let keys = [key.clone(), on.key("never published")];
    let plain = || on.store.plain(&keys);
    assert_eq!(plain().await, Ok(vec![None, None]));
    for timestamp in [100, 102, 101, 102] {
        let batch = on.batch(&format!("published-{timestamp}"), timestamp, &["plain"]);
        on.commit(&batch).await;
        let published = on.store.publish(&key, &batch.commit.version, &batch.values[0]);
        published.await.expect("publish");
    }
    let newest = on.batch("published-102", 102, &["plain"]).values.remove(0);
    let found = plain().await.expect("plain");
    let value = found[0].as_ref().expect("a published value");
    assert_eq!((value.timestamp, &value.value), (102, &newest), "the newest stays");
    assert!(value.published, "it is told from foreign values");
    assert_eq!(found[1], None);
}
