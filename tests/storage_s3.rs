//! The S3 backend against a real server (see `common/ministack.rs`), through its client.
// A test gives up by the real clock.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aft::runtime::clock::random_seed;
use aft::storage::s3::{Credentials, OpenError, Place, S3Options, S3Store};
use aft::storage::{
    CommitBatch, Garbage, LogPosition, LogScope, Share, Storage, StorageError, Superseded, Sweep,
    Swept, conformance,
};
use aft::txn::{AttemptId, Commit, Key, Outcome, Timestamp, Version, WrittenKey};
use aft::wire::{KeyValuePair, TransactionRecord, TransactionStatus};
use bytes::Bytes;
use object_store::ObjectStoreExt;
use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use prost::Message;
use rustix::process::Signal;

use crate::common::http_proxy::{Act, Proxy, Request};
use crate::common::ministack::Server;

/// The bucket under test.
#[derive(Clone)]
struct Bucket {
    url: String,
    name: String,
    run: u64,
    original: bool,
}

impl Bucket {
    fn new(url: String) -> Self {
        let run = random_seed().unwrap() >> 1;
        Self { url, name: format!("aft-{run}"), run, original: false }
    }

    /// The same bucket, reached over another address.
    fn over(&self, proxy: &Proxy) -> Self {
        Self { url: proxy.url.clone(), ..self.clone() }
    }

    fn place(&self) -> Place {
        Place {
            bucket: self.name.clone(),
            prefix: "aft/test".into(),
            endpoint: Some(self.url.clone()),
            region: Some("us-east-1".into()),
            create: true,
            // Our own server takes any; another one gets those of the environment.
            credentials: std::env::var("AFT_TEST_S3")
                .is_err()
                .then(|| Credentials { key_id: "test".into(), secret: "test".into() }),
        }
    }

    async fn try_open(&self) -> Result<Arc<S3Store>, OpenError> {
        let incarnation = random_seed().unwrap();
        let options = S3Options {
            place: self.place(),
            node: "node".into(),
            incarnation,
            listing_max: Duration::ZERO,
            original: self.original,
        };
        S3Store::open(options).await.map(Arc::new)
    }

    async fn open(&self) -> Arc<S3Store> {
        self.try_open().await.unwrap()
    }
}

/// A server of this test's own, unless one is named.
fn serve() -> (Option<Server>, Bucket) {
    match std::env::var("AFT_TEST_S3") {
        Ok(url) => (None, Bucket::new(url)),
        Err(_) => {
            let server = Server::start();
            let bucket = Bucket::new(server.url());
            (Some(server), bucket)
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    let (_server, bucket) = serve();
    conformance::run(bucket.open().await, bucket.run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_sidecars_conform() {
    let (_server, bucket) = serve();
    let stores: Vec<Arc<dyn Storage>> =
        vec![bucket.open().await, bucket.open().await, bucket.open().await];
    conformance::run_together(stores, bucket.run).await;
}

fn batch(name: &str, timestamp: u64, values: Vec<(String, Bytes)>) -> CommitBatch {
    let version =
        Version { timestamp: Timestamp(timestamp), writer: AttemptId::parse(name).unwrap() };
    let written = |key: &String| WrittenKey { key: Key::parse(key).unwrap(), fresh: false };
    let keys = values.iter().map(|(key, _)| written(key)).collect();
    let commit = Arc::new(Commit::new(version, keys, "node".into()));
    let value_of = |w: &WrittenKey| {
        values
            .iter()
            .find(|(key, _)| key == w.key.as_str())
            .map(|(_, value)| value.clone())
            .unwrap()
    };
    let values = commit.keys.iter().map(value_of).collect();
    CommitBatch { commit, values, sole: true }
}

/// A commit of one small value.
fn small(name: &str, timestamp: u64) -> CommitBatch {
    batch(name, timestamp, vec![(format!("key-of-{name}"), name.to_owned().into())])
}

fn large(bytes: usize) -> Bytes {
    (0..bytes).map(|i| (i * i / 7) as u8).collect()
}

fn committed(batch: &CommitBatch) -> Outcome {
    Outcome::Committed(batch.commit.clone())
}

fn id_of(batch: &CommitBatch) -> aft::txn::BaseId {
    batch.commit.version.writer.base()
}

fn versions_of(batch: &CommitBatch) -> Vec<(Key, Version)> {
    let version = &batch.commit.version;
    batch.commit.keys.iter().map(|w| (w.key.clone(), version.clone())).collect()
}

async fn commit_at_last(store: &S3Store, batch: &CommitBatch) -> Outcome {
    loop {
        match store.commit(batch.clone()).await {
            Ok(outcome) => return outcome,
            Err(StorageError::Unconfirmed(_) | StorageError::Refused(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Follows the log as another process does.
struct Follower {
    store: Arc<S3Store>,
    position: LogPosition,
}

impl Follower {
    fn new(store: Arc<S3Store>) -> Self {
        Self { store, position: LogPosition::default() }
    }

    /// The names of commits that were not seen before.
    async fn news(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        loop {
            let page = self.store.commits_since(&self.position, LogScope::Others).await.unwrap();
            self.position = page.next;
            names.extend(page.commits.iter().map(|c| c.version.writer.as_str().to_owned()));
            if page.end {
                return names;
            }
        }
    }
}

fn count(store: &S3Store, name: &str) -> u64 {
    store.counters().iter().find(|(found, _)| *found == name).unwrap().1
}

/// Whether it writes an object of this kind.
fn writes(request: &Request, kind: &str) -> bool {
    request.line.starts_with("PUT ") && request.line.contains(&format!("/aft/test/{kind}/"))
}

/// Waits for the proxy to have met something.
async fn until(counter: &AtomicU64, enough: u64) {
    while counter.load(Ordering::SeqCst) < enough {
        tokio::task::yield_now().await;
    }
}

/// A sidecar whose writes of one kind are held back, and another one.
struct Held {
    server: Server,
    proxy: Proxy,
    bucket: Bucket,
    writer: Arc<S3Store>,
    met: Arc<AtomicU64>,
}

async fn hold(kind: &'static str) -> Held {
    let server = Server::start();
    let proxy = Proxy::start(server.port).await;
    let bucket = Bucket::new(server.url());
    let writer = bucket.over(&proxy).open().await;
    let met = Arc::new(AtomicU64::new(0));
    let counter = met.clone();
    proxy.rule(move |request| {
        if writes(request, kind) {
            counter.fetch_add(1, Ordering::SeqCst);
            return Act::Hold;
        }
        Act::Pass
    });
    Held { server, proxy, bucket, writer, met }
}

/// The writer stops between the two writes of a commit. Who asks for its outcome is told that it is
/// committed; and then it is in a log.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_log_entry_is_missing_is_entered_again_before_it_is_told() {
    let held = hold("l").await;
    let other = held.bucket.open().await;
    let mut follower = Follower::new(held.bucket.open().await);
    let late = small("late", 1);
    let task = tokio::spawn({
        let (writer, late) = (held.writer.clone(), late.clone());
        async move { commit_at_last(&writer, &late).await }
    });
    until(&held.met, 1).await;
    let outcome = loop {
        assert_eq!(follower.news().await, Vec::<String>::new(), "nobody was told yet");
        if let Some(outcome) = other.outcome(&id_of(&late)).await.unwrap() {
            break outcome;
        }
    };
    assert_eq!(outcome, committed(&late));
    assert_eq!(follower.news().await, ["late"]);
    let mut fresh = Follower::new(held.bucket.open().await);
    assert_eq!(fresh.news().await, ["late"]);

    held.proxy.rule(|_| Act::Pass);
    held.proxy.release();
    assert_eq!(task.await.unwrap(), committed(&late), "its writer finds out, too");
    assert!(follower.news().await.is_empty() && fresh.news().await.is_empty(), "each once");
    let next = small("next", 2);
    assert_eq!(held.writer.commit(next.clone()).await, Ok(committed(&next)));
    assert_eq!(follower.news().await, ["next"]);
    drop(held.server);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_not_told_before_it_is_in_the_log() {
    let server = Server::start();
    let proxy = Proxy::start(server.port).await;
    let bucket = Bucket::new(server.url());
    let store = bucket.over(&proxy).open().await;
    proxy.rule(|request| match writes(request, "l") {
        true => Act::Answer(403, "<Error><Code>AccessDenied</Code></Error>".into()),
        false => Act::Pass,
    });
    let open = small("open", 1);
    // It has taken effect, so it must not be given up either.
    let error = store.commit(open.clone()).await.unwrap_err();
    assert!(matches!(error, StorageError::Unconfirmed(_)), "{error}");
    let mut follower = Follower::new(bucket.open().await);
    assert!(follower.news().await.is_empty());
    proxy.rule(|_| Act::Pass);
    assert_eq!(store.commit(open.clone()).await, Ok(committed(&open)));
    assert_eq!(follower.news().await, ["open"]);
    assert_eq!(store.usage().await.unwrap().log_entries, 1);
}

/// The writer stops at the same place, but the entry is what has landed.
#[tokio::test(flavor = "multi_thread")]
async fn an_entry_without_an_outcome_counts_for_nothing() {
    let held = hold("o").await;
    let other = held.bucket.open().await;
    let mut follower = Follower::new(other.clone());
    let lost = small("lost", 1);
    let task = tokio::spawn({
        let (writer, lost) = (held.writer.clone(), lost.clone());
        async move { commit_at_last(&writer, &lost).await }
    });
    until(&held.met, 1).await;
    while other.usage().await.unwrap().log_entries == 0 {}
    assert!(follower.news().await.is_empty());
    assert_eq!(other.outcome(&id_of(&lost)).await, Ok(None));
    assert_eq!(other.settle_aborted(&id_of(&lost)).await, Ok(Outcome::Aborted));
    // What was held lands now, and nothing comes of it.
    held.proxy.rule(|_| Act::Pass);
    held.proxy.release();
    assert_eq!(task.await.unwrap(), Outcome::Aborted);
    assert!(follower.news().await.is_empty());
    let usage = other.usage().await.unwrap();
    assert_eq!((usage.log_entries, usage.outcomes, usage.versions), (0, 1, 0), "{usage:?}");
    drop(held.server);
}

/// Of a writer that died at that place a sweep makes an end.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_writer_left_is_settled_by_a_sweep() {
    let held = hold("o").await;
    let dead = batch("dead", 1, vec![("big".into(), large(100_000))]);
    let task = tokio::spawn({
        let (writer, dead) = (held.writer.clone(), dead.clone());
        async move { writer.commit(dead).await }
    });
    until(&held.met, 1).await;
    let other = held.bucket.open().await;
    while other.usage().await.unwrap().log_entries == 0 {}
    let usage = other.usage().await.unwrap();
    assert_eq!((usage.versions, usage.uncommitted), (1, 1));
    task.abort();

    let sweep = |orphans_before: u64| Sweep {
        superseded_before: Timestamp(0),
        outcomes_before: Timestamp(0),
        orphans_before: Timestamp(orphans_before),
        share: Share::ALL,
        entries_max: 5,
    };
    assert_eq!(sweep_all(&other, sweep(1)).await.orphans, 0, "it is too young");
    assert_eq!(sweep_all(&other, sweep(2)).await.orphans, 1);
    assert_eq!(other.outcome(&id_of(&dead)).await, Ok(Some(Outcome::Aborted)));
    let usage = other.usage().await.unwrap();
    assert_eq!((usage.log_entries, usage.versions, usage.outcomes), (0, 0, 1), "{usage:?}");
    drop(held.server);
}

async fn sweep_all(store: &S3Store, sweep: Sweep) -> Swept {
    let mut all = Swept::default();
    while !all.end {
        let swept = store.sweep(&sweep).await.unwrap();
        all += swept;
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_lost_is_found_again() {
    let server = Server::start();
    let proxy = Proxy::start(server.port).await;
    let bucket = Bucket::new(server.url());
    let store = bucket.over(&proxy).open().await;
    let lost = AtomicU64::new(0);
    proxy.rule(move |request| {
        let is_write = writes(request, "o") || writes(request, "l");
        let is_first = is_write && lost.fetch_add(1, Ordering::SeqCst) < 2;
        if is_first { Act::LoseAnswer } else { Act::Pass }
    });
    let own = small("own", 1);
    assert_eq!(store.commit(own.clone()).await, Ok(committed(&own)), "both were done");
    assert_eq!(count(&store, "s3_unanswered"), 2);
    assert_eq!(Follower::new(bucket.open().await).news().await, ["own"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_change_nothing() {
    let server = Server::start();
    let proxy = Proxy::start(server.port).await;
    let bucket = Bucket::new(server.url()).over(&proxy);
    let stores: Vec<Arc<dyn Storage>> = vec![bucket.open().await, bucket.open().await];
    let writes = AtomicU64::new(0);
    proxy.rule(move |request| {
        let is_write = request.line.starts_with("PUT ");
        match is_write.then(|| writes.fetch_add(1, Ordering::SeqCst) % 5) {
            Some(0) => Act::LoseAnswer,
            Some(3) => Act::Cut,
            _ => Act::Pass,
        }
    });
    conformance::run_together(stores, bucket.run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn throttling_is_waited_out_and_reported() {
    const SLOW_DOWN: &str = "<Error><Code>SlowDown</Code><Message>slow down</Message></Error>";
    let server = Server::start();
    let proxy = Proxy::start(server.port).await;
    let store = Bucket::new(server.url()).over(&proxy).open().await;
    let requests = AtomicU64::new(0);
    proxy.rule(move |_| match requests.fetch_add(1, Ordering::SeqCst) % 2 {
        0 => Act::Answer(503, SLOW_DOWN.to_owned()),
        _ => Act::Pass,
    });
    let values = (0..60).map(|n| (format!("key-{n:02}"), Bytes::from(format!("value {n}"))));
    let many = batch("many", 5, values.chain([("large".into(), large(70_000))]).collect());
    assert_eq!(store.commit(many.clone()).await, Ok(committed(&many)));
    let found = store.versions(&versions_of(&many)).await.unwrap();
    assert_eq!(found, many.values.iter().cloned().map(Some).collect::<Vec<_>>());
    assert!(count(&store, "s3_throttled") > 3, "{:?}", store.counters());

    proxy.rule(|_| Act::Answer(503, SLOW_DOWN.to_owned()));
    let refused = small("refused", 6);
    let error = store.commit(refused.clone()).await.unwrap_err();
    assert!(error.is_refusal() && error.to_string().contains("slow down"), "{error}");
    proxy.rule(|_| Act::Pass);
    store.tend().await.unwrap();
    assert_eq!(store.outcome(&id_of(&refused)).await, Ok(None));
    assert_eq!(store.usage().await.unwrap().log_entries, 1, "what was refused is in no log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_or_stands_still_loses_nothing() {
    const WRITERS: u64 = 4;
    const COMMITS: u64 = 12;
    let mut server = Server::start_keeping_objects();
    let bucket = Bucket::new(server.url());
    let store = bucket.open().await;
    let done = Arc::new(AtomicU64::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (store, done) = (store.clone(), done.clone());
        tasks.spawn(async move {
            for n in 0..COMMITS {
                let batch = small(&format!("commit-{writer}-{n}"), n);
                assert_eq!(commit_at_last(&store, &batch).await, committed(&batch));
                done.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    until(&done, 6).await;
    tokio::task::block_in_place(|| {
        server.stop();
        server.start_again();
    });
    until(&done, 20).await;
    server.signal(Signal::STOP);
    let unanswered = count(&store, "s3_unanswered");
    while count(&store, "s3_unanswered") == unanswered {
        tokio::task::yield_now().await;
    }
    server.signal(Signal::CONT);
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    let names = Follower::new(bucket.open().await).news().await;
    let distinct: BTreeSet<_> = names.iter().collect();
    assert_eq!((names.len() as u64, distinct.len() as u64), (WRITERS * COMMITS, WRITERS * COMMITS));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_values_stand_apart_and_are_collected_whole() {
    let (_server, bucket) = serve();
    let store = bucket.open().await;
    // A record of about 1 MB, and more small values than are packed together.
    let keys = (0..30).map(|n| format!("{n:02}{}", "k".repeat(32_000)));
    let mut values: Vec<_> = keys.map(|key| (key, large(20_000))).collect();
    values[7].1 = large(3 << 20);
    let wide = batch("wide", 10, values);
    assert_eq!(store.commit(wide.clone()).await, Ok(committed(&wide)));
    let other = bucket.open().await;
    assert_eq!(other.outcome(&id_of(&wide)).await, Ok(Some(committed(&wide))));
    assert_eq!(Follower::new(other.clone()).news().await, ["wide"]);
    let found = other.versions(&versions_of(&wide)).await.unwrap();
    assert!(found == wide.values.iter().cloned().map(Some).collect::<Vec<_>>());
    let keys: Vec<_> = wide.commit.keys.iter().map(|w| w.key.clone()).collect();
    assert_eq!(other.heads(&keys[..2]).await, Ok(vec![Some(wide.commit.clone()); 2]));

    let usage = other.usage().await.unwrap();
    assert_eq!((usage.keys, usage.versions, usage.log_entries), (30, 30, 1));
    assert!(usage.bytes > 4 << 20, "{usage:?}");
    let collect = async |keys: &[Key], is_last| {
        let keys = keys.to_vec();
        let superseded = Superseded { commit: wide.commit.clone(), keys, is_last };
        let garbage = Garbage { superseded: vec![superseded], newest: Vec::new() };
        other.collect(&garbage).await.unwrap();
    };
    collect(&keys[..20], false).await;
    let usage = other.usage().await.unwrap();
    assert_eq!((usage.versions, usage.uncommitted, usage.log_entries), (10, 0, 1));
    collect(&keys[20..], true).await;
    let usage = other.usage().await.unwrap();
    assert_eq!((usage.versions, usage.log_entries, usage.remains), (0, 0, 1));
    assert!(usage.bytes < 1000, "{usage:?}");
}

/// Many small segments become few, for those who follow and for those who begin.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_many_segments_is_merged() {
    const COMMITS: u64 = 40;
    let (_server, bucket) = serve();
    let store = bucket.open().await;
    let mut follower = Follower::new(bucket.open().await);
    let mut seen = Vec::new();
    for n in 0..COMMITS {
        store.commit(small(&format!("commit-{n:02}"), n)).await.unwrap();
        if n == COMMITS / 2 {
            seen.extend(follower.news().await);
        }
    }
    let gone = small("commit-05", 5);
    store.tend().await.unwrap();
    let superseded = Superseded {
        commit: gone.commit.clone(),
        keys: vec![gone.commit.keys[0].key.clone()],
        is_last: true,
    };
    store.collect(&Garbage { superseded: vec![superseded], newest: vec![] }).await.unwrap();
    assert_eq!(store.usage().await.unwrap().log_entries, 2 * COMMITS - 1, "whole and parts");
    store.tend().await.unwrap();
    assert_eq!(store.usage().await.unwrap().log_entries, COMMITS - 1);
    seen.extend(follower.news().await);
    assert_eq!(seen.len() as u64, COMMITS, "nothing is missed, and nothing is seen twice");

    let fresh = bucket.open().await;
    let lists = count(&fresh, "s3_gets");
    assert_eq!(Follower::new(fresh.clone()).news().await.len() as u64, COMMITS - 1);
    assert!(count(&fresh, "s3_gets") - lists < 8, "{:?}", fresh.counters());
    // An entry in a whole is found there.
    let gone = small("commit-06", 6);
    let superseded = Superseded {
        commit: gone.commit.clone(),
        keys: vec![gone.commit.keys[0].key.clone()],
        is_last: true,
    };
    fresh.collect(&Garbage { superseded: vec![superseded], newest: vec![] }).await.unwrap();
    assert_eq!(store.usage().await.unwrap().log_entries, COMMITS - 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_is_as_new_as_any_commit() {
    let (_server, bucket) = serve();
    let (one, other) = (bucket.open().await, bucket.open().await);
    let at = |name: &str, at| batch(name, at, vec![("k".into(), "v".into())]);
    let key = [Key::parse("k").unwrap()];
    let (first, newer, newest) = (at("first", 10), at("newer", 20), at("newest", 30));
    one.commit(first.clone()).await.unwrap();
    other.set_heads(&[(key[0].clone(), first.commit.clone())]).await.unwrap();
    assert_eq!(other.heads(&key).await, Ok(vec![Some(first.commit.clone())]));
    one.commit(newer.clone()).await.unwrap();
    assert_eq!(other.heads(&key).await, Ok(vec![Some(newer.commit.clone())]));
    one.commit(newest.clone()).await.unwrap();
    one.set_heads(&[(key[0].clone(), newest.commit.clone())]).await.unwrap();
    one.set_heads(&[(key[0].clone(), newer.commit)]).await.unwrap();
    for store in [&one, &other, &bucket.open().await] {
        assert_eq!(store.heads(&key).await, Ok(vec![Some(newest.commit.clone())]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_is_refused_with_what_to_do() {
    let server = Server::start();
    let bucket = Bucket::new(server.url());
    let open = async |change: &dyn Fn(&mut Place)| {
        let mut place = bucket.place();
        change(&mut place);
        let options = S3Options {
            place,
            node: "node".into(),
            incarnation: 1,
            listing_max: Duration::ZERO,
            original: false,
        };
        S3Store::open(options).await.map(drop).unwrap_err()
    };
    let error = open(&|place| place.create = false).await;
    assert!(matches!(error, OpenError::Missing { .. }) && !error.is_away(), "{error}");
    let text = error.to_string();
    assert!(text.contains("--create") && text.contains("aws s3api create-bucket"), "{text}");
    let error = open(&|place| place.endpoint = Some("http://127.0.0.1:1".into())).await;
    assert!(error.is_away() && error.to_string().contains("127.0.0.1:1"), "{error}");

    bucket.open().await;
    let proxy = Proxy::start(server.port).await;
    let over_proxy = |place: &mut Place| place.endpoint = Some(proxy.url.clone());
    proxy.rule(|_| Act::Answer(403, "<Error><Code>AccessDenied</Code></Error>".into()));
    let error = open(&over_proxy).await;
    assert!(matches!(error, OpenError::Forbidden { .. }), "{error}");
    proxy.rule(|request| match request.line.starts_with("PUT ") {
        true => Act::Answer(403, "<Error><Code>AccessDenied</Code></Error>".into()),
        false => Act::Pass,
    });
    let error = open(&over_proxy).await;
    assert!(matches!(error, OpenError::Forbidden { .. }), "{error}");
    // A store that does not know of conditions writes whatever is there.
    proxy.rule(|request| match request.line.starts_with("PUT ") {
        true => Act::Answer(200, String::new()),
        false => Act::Pass,
    });
    let error = open(&over_proxy).await;
    assert!(error.to_string().contains("If-None-Match"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_original_left_is_read() {
    let (_server, mut bucket) = serve();
    bucket.open().await;
    let credentials = bucket.place().credentials;
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(&bucket.name)
        .with_endpoint(&bucket.url)
        .with_allow_http(true);
    if let Some(Credentials { key_id, secret }) = credentials {
        builder = builder.with_access_key_id(key_id).with_secret_access_key(secret);
    }
    let client = builder.build().unwrap();
    let put = async |name: String, object: Vec<u8>| {
        client.put(&Path::parse(name).unwrap(), object.into()).await.unwrap();
    };
    for (id, timestamp, is_committed) in [("a", 5, true), ("b", 7, true), ("c", 9, false)] {
        let (key, value) = ("x/%2F é".to_owned(), id.as_bytes().into());
        let tid = id.to_owned();
        let pair = KeyValuePair { key: key.clone(), value, tid, timestamp, ..Default::default() };
        put(format!("data/{key}/{timestamp}/{id}"), pair.encode_to_vec()).await;
        if is_committed {
            let record = TransactionRecord {
                id: id.into(),
                timestamp,
                status: TransactionStatus::Committed.into(),
                write_set: vec![key, "//no object/../ of the client's".into()],
                ..Default::default()
            };
            put(format!("transactions/{id}-{timestamp}"), record.encode_to_vec()).await;
        }
    }
    let keys = ["x/%2F é", "//no object/../ of the client's", "none"];
    let keys = keys.map(|key| Key::parse(key).unwrap());
    let without = bucket.open().await;
    assert!(!without.has_plain_keys());
    bucket.original = true;
    let store = bucket.open().await;
    assert!(store.has_plain_keys());
    let found = store.plain(&keys).await.unwrap();
    let newest = found[0].as_ref().unwrap();
    assert_eq!((newest.timestamp, &newest.value[..], newest.published), (7, &b"b"[..], false));
    assert_eq!(found[1..], [None, None]);
    assert_eq!(store.usage().await.unwrap().versions, 0, "it is not ours");
}
