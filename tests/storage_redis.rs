//! The Redis backend on real servers.
//!
//! `AFT_TEST_REDIS=URL` names a server to use instead of those that are started here, for the tests that
//! do not have to stop theirs.

use std::sync::Arc;
use std::time::Duration;

use crate::common::proxy::{Mode, Proxy};
use crate::common::redis::{RedisCluster, RedisServer, wait_for};
use aft::runtime::clock::random_seed;
use aft::storage::redis::{Address, OpenError, RedisOptions, RedisStore};
use aft::storage::{
    CommitBatch, Garbage, LogPosition, LogScope, Share, Storage, StorageError, Superseded, Sweep,
    Swept, conformance,
};
use aft::txn::{AttemptId, Commit, Key, Outcome, Timestamp, Version, WrittenKey};
use aft::wire::{KeyValuePair, TransactionRecord, TransactionStatus};
use bytes::Bytes;
use prost::Message;
use tokio::task::JoinSet;

fn random() -> u64 {
    random_seed().expect("random bytes") >> 1
}

fn options(urls: &str) -> RedisOptions {
    RedisOptions {
        address: Address::parse(urls, "").expect("an address"),
        prefix: "test:".to_owned(),
        timeout: Duration::from_secs(3),
        wait: 0,
        wait_within: Duration::from_secs(1),
        replica_reads: false,
        original: false,
        instance: random(),
        background: None,
    }
}

async fn open(options: RedisOptions) -> Arc<RedisStore> {
    Arc::new(RedisStore::open(options).await.expect("the store opens"))
}

/// The server to use, and the guard that ends it.
fn any_server() -> (String, Option<RedisServer>) {
    match std::env::var("AFT_TEST_REDIS") {
        Ok(url) => (url, None),
        Err(_) => {
            let server = RedisServer::start(&[]);
            (server.url(), Some(server))
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    let (url, _server) = any_server();
    let run = random();
    conformance::run(open(options(&url)).await, run).await;
    // A store that was used before serves as well, under another prefix, too.
    conformance::run(open(options(&url)).await, run + 1).await;
    let other = RedisOptions { prefix: "a{b}[*]:".to_owned(), ..options(&url) };
    conformance::run(open(other).await, run + 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_sidecars_conform() {
    let (url, _server) = any_server();
    let mut stores: Vec<Arc<dyn Storage>> = Vec::new();
    for _ in 0..3 {
        stores.push(open(options(&url)).await);
    }
    conformance::run_together(stores, random()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_conforms() {
    let cluster = RedisCluster::start();
    let run = random();
    conformance::run(open(options(&cluster.servers[0].url())).await, run).await;
    let reads = RedisOptions { replica_reads: true, ..options(&cluster.urls()) };
    conformance::run(open(reads.clone()).await, run + 1).await;
    let mut stores: Vec<Arc<dyn Storage>> = Vec::new();
    for _ in 0..3 {
        stores.push(open(reads.clone()).await);
    }
    conformance::run_together(stores, run + 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_would_lose_data_are_refused() {
    let server = RedisServer::start(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let refused = RedisStore::open(options(&server.url())).await.err().expect("it is refused");
    assert!(matches!(refused, OpenError::Evicts { .. }), "{refused}");
}

/// A batch whose values can be told from those of all other attempts.
fn batch(attempt: &str, keys: usize, timestamp: u64) -> CommitBatch {
    let writer = AttemptId::parse(attempt).expect("an id");
    let version = Version { timestamp: Timestamp(timestamp), writer };
    let key = |n| Key::parse(&format!("key/{n}")).expect("a key");
    let keys = (0..keys).map(|n| WrittenKey { key: key(n), fresh: false });
    let commit = Arc::new(Commit::new(version, keys.collect(), "127.0.0.1".into()));
    let values = commit.keys.iter().map(|w| Bytes::from(format!("{attempt} wrote {}", w.key)));
    CommitBatch { values: values.collect(), commit, sole: true }
}

/// Repeats a commit until the store decides it, as a node does. One that is refused was not done.
async fn commit(store: &RedisStore, batch: &CommitBatch) -> Outcome {
    for _ in 0..200 {
        match store.commit(batch.clone()).await {
            Ok(outcome) => return outcome,
            Err(StorageError::Unconfirmed(_) | StorageError::Refused(_)) => {}
            Err(why) => panic!("{why}"),
        }
    }
    panic!("{:?} was never decided", batch.commit.version);
}

/// Asks until there is an answer, as nodes do: servers may be busy with something else.
async fn answered<T>(ask: impl AsyncFn() -> Result<T, StorageError>) -> T {
    for _ in 0..50 {
        match ask().await {
            Ok(answer) => return answer,
            Err(StorageError::Unconfirmed(_)) => {}
            Err(why) => panic!("{why}"),
        }
    }
    panic!("there was never an answer");
}

async fn log_of(store: &RedisStore) -> Vec<Arc<Commit>> {
    let (mut position, mut commits) = (LogPosition::default(), Vec::new());
    loop {
        let page = answered(async || store.commits_since(&position, LogScope::All).await).await;
        commits.extend(page.commits);
        position = page.next;
        if page.end {
            return commits;
        }
    }
}

/// All batches are there as a whole, each once.
async fn assert_committed(store: &RedisStore, batches: &[CommitBatch]) {
    let mut log: Vec<_> = log_of(store).await.into_iter().map(|c| c.version.clone()).collect();
    log.sort();
    let mut expected: Vec<_> = batches.iter().map(|batch| batch.commit.version.clone()).collect();
    expected.sort();
    assert!(log == expected, "{} of {} commits are in the log", log.len(), expected.len());
    for batch in batches {
        let id = batch.commit.version.writer.base();
        let outcome = answered(async || store.outcome(&id).await).await;
        assert_eq!(outcome, Some(Outcome::Committed(batch.commit.clone())));
        let keys = batch.commit.keys.iter();
        let wanted: Vec<_> = keys.map(|w| (w.key.clone(), batch.commit.version.clone())).collect();
        let values: Vec<_> = batch.values.iter().cloned().map(Some).collect();
        let found = answered(async || store.versions(&wanted).await).await;
        assert!(found == values, "{id}");
    }
}

/// Commits from several tasks while `trouble` is made, and checks that each is there once in the end.
async fn commits_survive(
    store: Arc<RedisStore>,
    each: usize,
    trouble: impl Future<Output = ()>,
) -> Vec<CommitBatch> {
    let mut tasks = JoinSet::new();
    for task in 0..4 {
        let store = store.clone();
        tasks.spawn(async move {
            let mut batches = Vec::new();
            for n in 0..each {
                let batch = batch(&format!("t{task}-{n}"), 3, (n * 4 + task + 1) as u64);
                let outcome = commit(&store, &batch).await;
                assert_eq!(outcome, Outcome::Committed(batch.commit.clone()));
                batches.push(batch);
            }
            batches
        });
    }
    let (batches, ()) = tokio::join!(tasks.join_all(), trouble);
    let batches = batches.concat();
    assert_committed(&store, &batches).await;
    batches
}

async fn until(is_so: impl AsyncFn() -> bool) {
    while !is_so().await {
        tokio::task::yield_now().await;
    }
}

/// A store that gives up soon, behind a proxy.
async fn behind_a_proxy(server: &RedisServer) -> (Arc<RedisStore>, Proxy) {
    let proxy = Proxy::start(([127, 0, 0, 1], server.port).into()).await;
    let url = format!("redis://{}", proxy.address);
    let options = RedisOptions { timeout: Duration::from_millis(300), ..options(&url) };
    (open(options).await, proxy)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_a_server_that_syncs_is_killed() {
    let mut server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let store = open(options(&server.url())).await;
    let follower = store.clone();
    let trouble = async {
        for enough in [20, 60] {
            until(async || {
                let page = follower.commits_since(&LogPosition::default(), LogScope::All).await;
                page.is_ok_and(|page| page.commits.len() >= enough)
            })
            .await;
            server.kill();
            assert!(server.run(), "it starts again");
        }
    };
    commits_survive(store.clone(), 50, trouble).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_connections_change_nothing() {
    let server = RedisServer::start(&[]);
    let (store, proxy) = behind_a_proxy(&server).await;
    let trouble = async {
        for enough in [10_usize, 40, 80] {
            until(async || server.cli(&["ZCARD", "test:{0}:log"]).parse().unwrap_or(0) >= enough)
                .await;
            proxy.set(Mode::Cut);
            tokio::time::sleep(Duration::from_millis(50)).await;
            proxy.set(Mode::Pass);
        }
    };
    commits_survive(store.clone(), 50, trouble).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_network_changes_nothing() {
    let server = RedisServer::start(&[]);
    let (store, proxy) = behind_a_proxy(&server).await;
    proxy.set(Mode::Slow);
    commits_survive(store, 10, std::future::ready(())).await;
}

/// As a master after a failover that it has not heard of.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_no_writes_for_a_moment_is_waited_for() {
    let server = RedisServer::start(&[]);
    let store = open(options(&server.url())).await;
    server.cli(&["REPLICAOF", "127.0.0.1", "1"]);
    let batch = batch("waiting", 2, 1);
    let ends = async {
        until(async || {
            let seen = server.info("errorstats", "errorstat_READONLY").unwrap_or_default();
            seen.strip_prefix("count=").is_some_and(|count| count.parse().unwrap_or(0) >= 2)
        })
        .await;
        server.cli(&["REPLICAOF", "NO", "ONE"]);
    };
    let (outcome, ()) = tokio::join!(store.commit(batch.clone()), ends);
    assert_eq!(outcome, Ok(Outcome::Committed(batch.commit.clone())), "it is not refused");
    assert_committed(&store, &[batch]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_was_lost_is_unconfirmed_and_can_be_repeated() {
    let server = RedisServer::start(&[]);
    let (store, proxy) = behind_a_proxy(&server).await;
    let batch = batch("lost", 2, 7);
    proxy.set(Mode::LoseAnswers);
    let answer = store.commit(batch.clone()).await;
    assert!(matches!(answer, Err(StorageError::Unconfirmed(_))), "{answer:?}");
    assert!(proxy.bytes_lost() > 0);
    assert_eq!(server.cli(&["ZCARD", "test:{0}:log"]), "1", "it was done");
    proxy.set(Mode::Pass);
    assert_eq!(commit(&store, &batch).await, Outcome::Committed(batch.commit.clone()));
    assert_committed(&store, &[batch]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stands_still_confirms_nothing_and_one_that_is_gone_refuses() {
    let mut server = RedisServer::start(&[]);
    let (store, _proxy) = behind_a_proxy(&server).await;
    let [first, second] = [batch("first", 1, 1), batch("second", 1, 2)];
    server.pause(true);
    let answer = store.commit(first.clone()).await;
    assert!(matches!(answer, Err(StorageError::Unconfirmed(_))), "{answer:?}");
    server.pause(false);
    assert_eq!(commit(&store, &first).await, Outcome::Committed(first.commit.clone()));
    assert_eq!(commit(&store, &second).await, Outcome::Committed(second.commit.clone()));
    assert_committed(&store, &[first, second]).await;

    server.kill();
    let direct = RedisServer::start(&[]);
    let options = RedisOptions { timeout: Duration::from_millis(300), ..options(&direct.url()) };
    let store = open(options).await;
    drop(direct);
    until(async || {
        // The connection may not know yet.
        matches!(store.commit(batch("third", 1, 3)).await, Err(StorageError::Refused(_)))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_refuses_and_nothing_is_left() {
    let server = RedisServer::start(&[]);
    let store = open(options(&server.url())).await;
    let [first, second] = [batch("first", 1, 1), batch("second", 2, 2)];
    commit(&store, &first).await;
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    let answer = store.commit(second.clone()).await;
    let full = |answer: &Result<Outcome, _>| matches!(answer, Err(StorageError::Refused(why)) if why.contains("OOM"));
    assert!(full(&answer), "{answer:?}");
    assert_committed(&store, std::slice::from_ref(&first)).await;
    assert_eq!(server.cli(&["KEYS", "test:data/*"]).lines().count(), 1, "the first one's value");
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(commit(&store, &second).await, Outcome::Committed(second.commit.clone()));
    assert_committed(&store, &[first, second]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_decided_without_its_values() {
    let server = RedisServer::start(&[]);
    server.cli(&["ACL", "SETUSER", "limited", "on", ">secret", "~*", "+@all", "-mset"]);
    let store = open(options(&format!("redis://limited:secret@127.0.0.1:{}", server.port))).await;
    let batch = batch("half", 2, 1);
    let answer = store.commit(batch.clone()).await;
    let refused = |answer: &Result<Outcome, _>| matches!(answer, Err(StorageError::Refused(why)) if why.contains("NOPERM"));
    assert!(refused(&answer), "{answer:?}");
    assert_eq!(store.outcome(&batch.commit.version.writer.base()).await, Ok(None));
    server.cli(&["ACL", "SETUSER", "limited", "+mset", "-hsetnx"]);
    let answer = store.commit(batch.clone()).await;
    assert!(answer.is_err(), "{answer:?}");
    server.cli(&["ACL", "SETUSER", "limited", "+hsetnx"]);
    assert_eq!(commit(&store, &batch).await, Outcome::Committed(batch.commit.clone()));
    assert_committed(&store, &[batch]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_forgot_the_scripts_is_told_again() {
    let server = RedisServer::start(&[]);
    let store = open(options(&server.url())).await;
    server.cli(&["SCRIPT", "FLUSH"]);
    let batch = batch("again", 2, 1);
    assert_eq!(store.commit(batch.clone()).await, Ok(Outcome::Committed(batch.commit.clone())));
    server.cli(&["SCRIPT", "FLUSH"]);
    assert_committed(&store, &[batch]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_of_a_server_that_lost_its_end_misses_nothing() {
    let mut server = RedisServer::start(&[]);
    let store = open(options(&server.url())).await;
    for n in 1..=5 {
        commit(&store, &batch(&format!("lost-{n}"), 1, n)).await;
    }
    let page = store.commits_since(&LogPosition::default(), LogScope::All).await.expect("a page");
    assert_eq!(page.commits.len(), 5);
    server.kill();
    assert!(server.run(), "it starts again, empty");
    let batches: Vec<_> = (1..=7).map(|n| batch(&format!("new-{n}"), 1, n)).collect();
    for batch in &batches {
        commit(&store, batch).await;
    }
    let page = store.commits_since(&page.next, LogScope::All).await.expect("a page");
    assert_eq!(page.commits.len(), 7, "the numbers that were passed are looked at again");
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_are_spared_what_they_wrote() {
    let (url, _server) = any_server();
    let prefix = format!("test-{}:", random());
    let options = RedisOptions { prefix, ..options(&url) };
    let one = open(options.clone()).await;
    let other = open(RedisOptions { instance: random(), ..options }).await;
    commit(&one, &batch("one", 1, 1)).await;
    commit(&other, &batch("other", 1, 2)).await;
    let start = LogPosition::default();
    let page = one.commits_since(&start, LogScope::Others).await.expect("a page");
    let writers: Vec<_> = page.commits.iter().map(|c| c.version.writer.as_str()).collect();
    assert_eq!(writers, ["other"]);
    let page = one.commits_since(&page.next, LogScope::Others).await.expect("a page");
    assert!(page.commits.is_empty() && page.end);
}

/// Looks through the whole store for what is older than 100 ns.
async fn sweep(store: &RedisStore) -> Swept {
    let sweep = Sweep {
        superseded_before: Timestamp(100),
        outcomes_before: Timestamp(0),
        orphans_before: Timestamp(100),
        share: Share::ALL,
        entries_max: 100,
    };
    let mut swept = Swept::default();
    while !swept.end {
        swept += store.sweep(&sweep).await.expect("a sweep");
    }
    swept
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_versions_are_noted_soon_or_by_a_sweep() {
    let server = RedisServer::start(&[]);
    let store = open(options(&server.url())).await;
    let (old, new) = (batch("old", 2, 5), batch("new", 2, 6));
    let keys: Vec<_> = new.commit.keys.iter().map(|written| written.key.clone()).collect();
    for batch in [&new, &old] {
        commit(&store, batch).await;
    }
    store.tend().await.expect("housekeeping");
    let heads = store.heads(&keys).await.expect("heads");
    assert_eq!(heads, [Some(new.commit.clone()), Some(new.commit.clone())]);

    let (newer, newest) = (batch("newer", 2, 7), batch("newest", 2, 8));
    for batch in [&newest, &newer] {
        commit(&store, batch).await;
    }
    // The process dies.
    drop(store);
    let next = open(options(&server.url())).await;
    let swept = [sweep(&next).await, sweep(&next).await];
    assert_eq!(swept[0].versions + swept[1].versions, 6, "{swept:?}");
    let heads = next.heads(&keys).await.expect("heads");
    assert_eq!(heads, [Some(newest.commit.clone()), Some(newest.commit.clone())]);
    assert_committed(&next, &[newest]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_superseded_by_a_commit_that_the_server_lost_stays() {
    let server = RedisServer::start(&["--enable-debug-command", "yes"]);
    let store = open(options(&server.url())).await;
    let (kept, lost) = (batch("kept", 1, 5), batch("lost", 1, 6));
    commit(&store, &kept).await;
    // All that there is of it, as after a failover or from a file without its end.
    server.cli(&["SAVE"]);
    commit(&store, &lost).await;
    server.cli(&["DEBUG", "RELOAD", "NOSAVE"]);
    let id = lost.commit.version.writer.base();
    assert_eq!(answered(async || store.outcome(&id).await).await, None, "it is lost");

    let key = kept.commit.keys[0].key.clone();
    store.tend().await.expect("housekeeping");
    let garbage = Garbage {
        superseded: vec![Superseded {
            commit: kept.commit.clone(),
            keys: vec![key.clone()],
            is_last: true,
        }],
        newest: vec![(key.clone(), lost.commit)],
    };
    store.collect(&garbage).await.expect("collecting");
    for _ in 0..2 {
        assert_eq!(sweep(&store).await.versions, 0);
    }
    let heads = store.heads(std::slice::from_ref(&key)).await.expect("heads");
    assert_eq!(heads, [Some(kept.commit.clone())]);
    assert_committed(&store, &[kept]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_whose_commit_never_came_are_swept() {
    let server = RedisServer::start(&[]);
    let store = open(options(&server.url())).await;
    let live = batch("live", 1, 5);
    commit(&store, &live).await;
    server.cli(&["SET", "test:data/key/0/3/dead", "half a commit"]);
    server.cli(&["SET", "test:data/key/0/900/young", "a commit under way"]);
    server.cli(&["SET", "test:data/foreign", "something else"]);
    let swept = sweep(&store).await;
    assert_eq!(swept.orphans, 1, "{swept:?}");
    assert_eq!(server.cli(&["EXISTS", "test:data/key/0/3/dead"]), "0");
    assert_eq!(server.cli(&["EXISTS", "test:data/key/0/900/young"]), "1");
    let late = store.commit(batch("dead", 1, 3)).await;
    assert_eq!(late, Ok(Outcome::Aborted), "it cannot come any more");
    assert_committed(&store, &[live]).await;
    let usage = store.usage().await.expect("usage");
    assert_eq!((usage.keys, usage.versions, usage.uncommitted), (1, 2, 1), "{usage:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_waits_for_replicas() {
    let server = RedisServer::start(&[]);
    let options =
        RedisOptions { wait: 1, wait_within: Duration::from_millis(100), ..options(&server.url()) };
    let store = open(options.clone()).await;
    let waiting = batch("waiting", 2, 1);
    let answer = store.commit(waiting.clone()).await;
    assert!(matches!(answer, Err(StorageError::Unconfirmed(_))), "{answer:?}");
    let id = waiting.commit.version.writer.base();
    let answer = store.outcome(&id).await;
    assert!(answer.is_err(), "what no replica has is not told: {answer:?}");

    let replica = RedisServer::start(&["--replicaof", "127.0.0.1", &server.port.to_string()]);
    wait_for("the replica follows", || {
        replica.info("replication", "master_link_status").as_deref() == Some("up")
    });
    assert_eq!(commit(&store, &waiting).await, Outcome::Committed(waiting.commit.clone()));
    let more = batch("more", 0, 2);
    assert_eq!(commit(&store, &more).await, Outcome::Committed(more.commit.clone()));
    assert_committed(&store, &[waiting, more]).await;
    let refused = RedisStore::open(RedisOptions { wait: 0, ..self::options(&replica.url()) }).await;
    assert!(matches!(refused, Err(OpenError::Replica(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_goes_on_when_a_master_dies() {
    let mut cluster = RedisCluster::start();
    let store = open(options(&cluster.urls())).await;
    let before = batch("before", 8, 1);
    // The replica that takes over would otherwise not need to have it; afterwards it has no replica.
    let waiting = open(RedisOptions { wait: 1, ..options(&cluster.urls()) }).await;
    assert_eq!(commit(&waiting, &before).await, Outcome::Committed(before.commit.clone()));
    cluster.servers[0].kill();
    let mut batches = vec![before];
    for n in 0..40 {
        let batch = batch(&format!("after-{n}"), 8, n + 2);
        assert_eq!(commit(&store, &batch).await, Outcome::Committed(batch.commit.clone()));
        batches.push(batch);
    }
    assert_committed(&store, &batches).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_that_move_lose_nothing() {
    let cluster = RedisCluster::start();
    let store = open(options(&cluster.urls())).await;
    // Some of what is at the first master goes to the second one, while commits come.
    let moved = cluster.move_slots(0, 1, 1500);
    let trouble = async {
        until(async || moved.is_finished()).await;
    };
    let batches = commits_survive(store, 40, trouble).await;
    moved.join().expect("the slots move");
    let other = open(options(&cluster.servers[2].url())).await;
    assert_committed(&other, &batches).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_are_refused_for_reasons_that_are_said() {
    let server = RedisServer::start(&[]);
    server.cli(&["CONFIG", "SET", "requirepass", "right"]);
    let url = |password: &str| format!("redis://:{password}@127.0.0.1:{}", server.port);
    let refusal = async |urls: &str| {
        let options = RedisOptions { timeout: Duration::from_millis(500), ..options(urls) };
        RedisStore::open(options).await.err().expect("it is refused")
    };
    for urls in [server.url(), url("wrong")] {
        let why = refusal(&urls).await;
        assert!(!why.may_pass() && matches!(why, OpenError::Refused { .. }), "{why}");
    }
    let several = format!("{},{}", url("right"), url("right"));
    let why = refusal(&several).await;
    assert!(matches!(why, OpenError::NotCluster(_)), "{why}");
    open(options(&url("right"))).await;
    assert!(refusal("redis://127.0.0.1:1").await.may_pass());

    let foreign = RedisServer::start(&[]);
    foreign.cli(&["SET", "test:{0}:log", "mine"]);
    let why = refusal(&foreign.url()).await;
    assert!(why.to_string().contains("test:{0}:log"), "{why}");
    foreign.cli(&["HSET", "test:format", "format", "99"]);
    let why = refusal(&foreign.url()).await;
    assert!(why.to_string().contains("99"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_original_left_is_read() {
    let server = RedisServer::start(&[]);
    let client = redis::Client::open(server.url()).expect("an address");
    let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
    let mut set = async |name: String, value: Vec<u8>| {
        let done: redis::RedisResult<()> =
            redis::cmd("SET").arg(name).arg(value).query_async(&mut connection).await;
        done.expect("SET");
    };
    for (id, timestamp, is_committed) in [("a", 5, true), ("b", 7, true), ("c", 9, false)] {
        let (key, value) = ("x/y".to_owned(), id.as_bytes().into());
        let pair = KeyValuePair {
            key: key.clone(),
            value,
            tid: id.into(),
            timestamp,
            ..Default::default()
        };
        set(format!("data/x/y/{timestamp}/{id}"), pair.encode_to_vec()).await;
        if is_committed {
            let status = TransactionStatus::Committed.into();
            let record = TransactionRecord {
                id: id.into(),
                timestamp,
                status,
                write_set: vec![key],
                ..Default::default()
            };
            set(format!("transactions/{id}-{timestamp}"), record.encode_to_vec()).await;
        }
    }
    let store = open(RedisOptions { original: true, ..options(&server.url()) }).await;
    assert!(store.has_plain_keys());
    let keys = ["x/y", "none"].map(|key| Key::parse(key).expect("a key"));
    let found = store.plain(&keys).await.expect("plain");
    let value = found[0].as_ref().expect("a value");
    assert_eq!((&value.value[..], value.timestamp, value.published), (&b"b"[..], 7, false));
    assert_eq!(found[1], None);
}
