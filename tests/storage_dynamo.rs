//! The DynamoDB backend against a real server (see `common/ministack.rs`), through its client.
// A test gives up by the real clock.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aft::runtime::clock::random_seed;
use aft::storage::dynamo::{Credentials, DynamoOptions, DynamoStore, OpenError, Place};
use aft::storage::{
    CommitBatch, Garbage, LogPosition, LogScope, Storage, StorageError, Superseded, conformance,
};
use aft::txn::{AttemptId, Commit, Key, Outcome, Timestamp, Version, WrittenKey};
use aft::wire::{KeyValuePair, TransactionRecord, TransactionStatus};
use aws_config::{BehaviorVersion, Region};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType,
    ScalarAttributeType,
};
use bytes::Bytes;
use prost::Message;
use rustix::process::Signal;

use crate::common::http_proxy::{Act, Proxy, Request};
use crate::common::ministack::Server;

/// The table under test.
struct Table {
    url: String,
    name: String,
    run: u64,
    lease: Duration,
}

impl Table {
    fn new(url: String) -> Self {
        let run = random_seed().unwrap() >> 1;
        Self { url, name: format!("aft-{run}"), run, lease: Duration::from_secs(20) }
    }

    fn place(&self) -> Place {
        Place {
            table: self.name.clone(),
            endpoint: Some(self.url.clone()),
            region: Some("us-east-1".into()),
            create: true,
            // Our own server takes any; another one gets those of the environment.
            credentials: std::env::var("AFT_TEST_DYNAMODB")
                .is_err()
                .then(|| Credentials::new("test", "test", None, None, "tests")),
        }
    }

    fn options(&self) -> DynamoOptions {
        DynamoOptions {
            place: self.place(),
            node: "node".into(),
            incarnation: random_seed().unwrap(),
            lease: self.lease,
            original: None,
        }
    }

    async fn open(&self) -> Arc<DynamoStore> {
        Arc::new(DynamoStore::open(self.options()).await.unwrap())
    }

    /// The client of the SDK, without the backend.
    async fn client(&self) -> Client {
        let place = self.place();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .endpoint_url(&self.url)
            .region(Region::from_static("us-east-1"));
        if let Some(credentials) = place.credentials {
            loader = loader.credentials_provider(credentials);
        }
        Client::new(&loader.load().await)
    }
}

/// A server of this test's own, unless one is named.
fn serve() -> (Option<Server>, Table) {
    match std::env::var("AFT_TEST_DYNAMODB") {
        Ok(url) => (None, Table::new(url)),
        Err(_) => {
            let server = Server::start();
            let table = Table::new(server.url());
            (Some(server), table)
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    let (_server, table) = serve();
    conformance::run(table.open().await, table.run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_sidecars_conform() {
    let (_server, table) = serve();
    let stores: Vec<Arc<dyn Storage>> =
        vec![table.open().await, table.open().await, table.open().await];
    conformance::run_together(stores, table.run).await;
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

fn committed(batch: &CommitBatch) -> Outcome {
    Outcome::Committed(batch.commit.clone())
}

async fn commit_at_last(store: &DynamoStore, batch: &CommitBatch) -> Outcome {
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
    store: Arc<DynamoStore>,
    position: LogPosition,
}

impl Follower {
    fn new(store: Arc<DynamoStore>) -> Self {
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

fn count(store: &DynamoStore, name: &str) -> u64 {
    store.counters().iter().find(|(found, _)| *found == name).unwrap().1
}

fn is_entry(request: &Request) -> bool {
    request.operation == "PutItem" && request.body.contains("\"l=")
}

fn is_outcome(request: &Request) -> bool {
    request.operation == "PutItem" && request.body.contains("{\"S\":\"outcome\"}")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_lands_behind_a_follower_is_found() {
    let server = Server::start();
    let table = Table::new(server.url());
    let proxy = Proxy::start(server.port).await;
    let writer = Table { url: proxy.url.clone(), ..Table::new(server.url()) };
    let writer = Table { name: table.name.clone(), ..writer }.open().await;
    let mut follower = Follower::new(table.open().await);

    let held = Arc::new(AtomicU64::new(0));
    let counted = held.clone();
    proxy.rule(move |request| {
        let is_first = is_entry(request) && counted.fetch_add(1, Ordering::SeqCst) == 0;
        if is_first { Act::Hold } else { Act::Pass }
    });
    let late = small("late", 1);
    let task = tokio::spawn({
        let (writer, late) = (writer.clone(), late.clone());
        async move { commit_at_last(&writer, &late).await }
    });
    while held.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    for name in ["next-1", "next-2"] {
        commit_at_last(&writer, &small(name, 2)).await;
    }
    assert_eq!(follower.news().await, ["next-1", "next-2"]);
    writer.tend().await.unwrap();
    commit_at_last(&writer, &small("next-3", 3)).await;
    assert_eq!(follower.news().await, ["next-3"], "the follower is past the one that is late");
    assert_eq!(task.await.unwrap(), committed(&late));
    assert_eq!(follower.news().await, ["late"]);
    proxy.release();
    writer.tend().await.unwrap();
    assert!(follower.news().await.is_empty(), "each is handed out once");
    let mut fresh = Follower::new(table.open().await);
    assert_eq!(fresh.news().await, ["late", "next-1", "next-2", "next-3"], "in the log's order");
}

/// One that stops between announcing a commit and making it: others settle it, and go on; it finds out.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_silent_writer_is_closed() {
    let server = Server::start();
    let lease = Duration::from_millis(300);
    let table = Table { lease, ..Table::new(server.url()) };
    let proxy = Proxy::start(server.port).await;
    let writer = Table { url: proxy.url.clone(), name: table.name.clone(), ..table };
    let table = Table { lease, name: writer.name.clone(), ..Table::new(server.url()) };
    let writer = writer.open().await;
    let other = table.open().await;
    let mut follower = Follower::new(other.clone());

    let before = small("before", 1);
    assert_eq!(writer.commit(before).await.unwrap(), committed(&small("before", 1)));
    proxy.rule(|request| if is_outcome(request) { Act::Hold } else { Act::Pass });
    let (lost, done) = (small("lost", 2), small("done", 3));
    let error = writer.commit(lost.clone()).await.unwrap_err();
    assert!(matches!(error, StorageError::Unconfirmed(_)), "{error}");
    // The record is written, but the writer does not come to know.
    let lost_once = AtomicU64::new(0);
    proxy.rule(move |request| {
        let is_first = is_outcome(request) && lost_once.fetch_add(1, Ordering::SeqCst) == 0;
        if is_first { Act::LoseAnswer } else { Act::Pass }
    });
    let outcome = writer.commit(done.clone()).await;
    assert_eq!(outcome, Ok(committed(&done)), "a repetition finds that it was its own");

    let id = lost.commit.version.writer.base();
    let mut seen = Vec::new();
    while other.outcome(&id).await.unwrap().is_none() {
        seen.extend(follower.news().await);
        other.tend().await.unwrap();
    }
    assert_eq!(other.outcome(&id).await, Ok(Some(Outcome::Aborted)));
    // Now what was held lands, and nothing comes of it.
    proxy.release();
    proxy.rule(|_| Act::Pass);
    assert_eq!(writer.commit(lost.clone()).await, Ok(Outcome::Aborted));
    let after = small("after", 4);
    assert_eq!(writer.commit(after.clone()).await, Ok(committed(&after)));
    seen.extend(follower.news().await);
    assert_eq!(seen, ["before", "done", "after"]);
    assert!(follower.news().await.is_empty());
    let mut fresh = Follower::new(table.open().await);
    assert_eq!(fresh.news().await.len(), 3, "also for one that begins now");
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_change_nothing() {
    let server = Server::start();
    let proxy = Proxy::start(server.port).await;
    let table = Table::new(proxy.url.clone());
    let stores: Vec<Arc<dyn Storage>> = vec![table.open().await, table.open().await];
    let writes = AtomicU64::new(0);
    proxy.rule(move |request| {
        let is_write = ["PutItem", "BatchWriteItem"].contains(&request.operation.as_str());
        match is_write.then(|| writes.fetch_add(1, Ordering::SeqCst) % 5) {
            Some(0) => Act::LoseAnswer,
            Some(3) => Act::Cut,
            _ => Act::Pass,
        }
    });
    conformance::run_together(stores, table.run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn throttling_is_waited_out_and_reported() {
    const TOO_MUCH: &str = r#"{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException","message":"slow down"}"#;
    let server = Server::start();
    let proxy = Proxy::start(server.port).await;
    let store = Table::new(proxy.url.clone()).open().await;
    let requests = AtomicU64::new(0);
    proxy.rule(move |request| {
        if requests.fetch_add(1, Ordering::SeqCst) % 2 == 1 {
            return Act::Pass;
        }
        let undone = |name: &str| {
            let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
            Act::Answer(200, serde_json::json!({ name: body["RequestItems"] }).to_string())
        };
        match request.operation.as_str() {
            "BatchWriteItem" => undone("UnprocessedItems"),
            "BatchGetItem" => undone("UnprocessedKeys"),
            _ => Act::Answer(400, TOO_MUCH.to_owned()),
        }
    });
    let values = (0..60).map(|n| (format!("key-{n:02}"), Bytes::from(format!("value {n}"))));
    let many = batch("many", 5, values.collect());
    assert_eq!(store.commit(many.clone()).await, Ok(committed(&many)));
    let wanted: Vec<_> =
        many.commit.keys.iter().map(|w| (w.key.clone(), many.commit.version.clone())).collect();
    let found = store.versions(&wanted).await.unwrap();
    assert_eq!(found, many.values.iter().cloned().map(Some).collect::<Vec<_>>());
    assert!(count(&store, "dynamodb_throttled") > 3, "{:?}", store.counters());

    proxy.rule(|_| Act::Answer(400, TOO_MUCH.to_owned()));
    let error = store.commit(small("refused", 6)).await.unwrap_err();
    assert!(error.is_refusal() && error.to_string().contains("slow down"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_or_stands_still_loses_nothing() {
    const WRITERS: u64 = 4;
    const COMMITS: u64 = 12;
    let mut server = Server::start();
    let table = Table::new(server.url());
    let store = table.open().await;
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
    let wait_for = async |enough: u64| {
        while done.load(Ordering::SeqCst) < enough {
            tokio::task::yield_now().await;
        }
    };
    wait_for(6).await;
    tokio::task::block_in_place(|| {
        server.stop();
        server.start_again();
    });
    wait_for(20).await;
    server.signal(Signal::STOP);
    let unanswered = count(&store, "dynamodb_unanswered");
    while count(&store, "dynamodb_unanswered") == unanswered {
        tokio::task::yield_now().await;
    }
    server.signal(Signal::CONT);
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    let names = Follower::new(table.open().await).news().await;
    let distinct: BTreeSet<_> = names.iter().collect();
    assert_eq!((names.len() as u64, distinct.len() as u64), (WRITERS * COMMITS, WRITERS * COMMITS));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_into_one_item_is_cut_and_collected_whole() {
    let (_server, table) = serve();
    let store = table.open().await;
    // A record of about 1 MB, of keys that are too long to be names, and a value of 3 MB.
    let keys = (0..30).map(|n| format!("{n:02}{}", "k".repeat(32_000)));
    let large = |n: usize| (0..n).map(|i| (i * i / 7) as u8).collect::<Bytes>();
    let mut values: Vec<_> = keys.map(|key| (key, large(300))).collect();
    values[7].1 = large(3 << 20);
    let wide = batch("wide", 10, values);
    assert_eq!(store.commit(wide.clone()).await, Ok(committed(&wide)));
    let id = wide.commit.version.writer.base();
    let other = table.open().await;
    assert_eq!(other.outcome(&id).await, Ok(Some(committed(&wide))));
    assert_eq!(Follower::new(other.clone()).news().await, ["wide"]);
    let keys: Vec<_> = wide.commit.keys.iter().map(|w| w.key.clone()).collect();
    let wanted: Vec<_> =
        keys.iter().map(|key| (key.clone(), wide.commit.version.clone())).collect();
    let found = other.versions(&wanted).await.unwrap();
    assert!(found == wide.values.iter().cloned().map(Some).collect::<Vec<_>>());
    assert_eq!(other.heads(&keys[..2]).await, Ok(vec![Some(wide.commit.clone()); 2]));

    let usage = other.usage().await.unwrap();
    assert_eq!((usage.keys, usage.versions, usage.log_entries), (30, 30, 1));
    assert!(usage.bytes > 4 << 20, "{usage:?}");
    let superseded = Superseded { commit: wide.commit.clone(), keys, is_last: true };
    let garbage = Garbage { superseded: vec![superseded], newest: Vec::new() };
    other.collect(&garbage).await.unwrap();
    let usage = other.usage().await.unwrap();
    assert_eq!((usage.versions, usage.log_entries, usage.remains), (0, 0, 1));
    assert!(usage.bytes < 2000, "nothing large is left: {usage:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_not_there_is_said_so() {
    let (_server, table) = serve();
    let open = async |place: Place| {
        let (node, lease) = (String::new(), table.lease);
        let incarnation = table.run;
        let original = None;
        DynamoStore::open(DynamoOptions { place, node, incarnation, lease, original }).await
    };
    let error = open(Place { create: false, ..table.place() }).await.unwrap_err();
    assert!(matches!(error, OpenError::Missing { .. }), "{error}");
    assert!(error.to_string().contains("aws dynamodb create-table"), "{error}");
    let nowhere = Some("http://127.0.0.1:1".to_owned());
    let error = open(Place { endpoint: nowhere, ..table.place() }).await.unwrap_err();
    assert!(error.is_away(), "{error}");
    // Two at once create one table.
    let (one, two) = tokio::join!(open(table.place()), open(table.place()));
    one.unwrap();
    two.unwrap();
    open(Place { create: false, ..table.place() }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_costs_a_write_unit_for_each_key_and_two_more() {
    let (_server, table) = serve();
    let store = table.open().await;
    store.commit(small("first", 1)).await.unwrap();
    let before = ["dynamodb_requests", "dynamodb_write_units"].map(|name| count(&store, name));
    let values = (0..5).map(|n| (format!("key-{n}"), Bytes::from_static(b"value")));
    store.commit(batch("five", 2, values.collect())).await.unwrap();
    let after = ["dynamodb_requests", "dynamodb_write_units"].map(|name| count(&store, name));
    assert_eq!((after[0] - before[0], after[1] - before[1]), (3, 7));

    // A process that ends in good order leaves a closed log: nobody waits for it.
    store.close().await;
    let mut follower = Follower::new(table.open().await);
    assert_eq!(follower.news().await, ["first", "five"]);
    assert_eq!(store.commit(small("later", 3)).await, Ok(committed(&small("later", 3))));
    assert_eq!(follower.news().await, ["later"], "what still comes goes to another log");
}

/// Makes a table such as the original's, with these items.
async fn make_original(client: &Client, table: &str, items: &[(String, Vec<u8>)]) {
    let key = AttributeDefinition::builder()
        .attribute_name("DataKey")
        .attribute_type(ScalarAttributeType::S)
        .build();
    let schema = KeySchemaElement::builder().attribute_name("DataKey").key_type(KeyType::Hash);
    client
        .create_table()
        .table_name(table)
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(key.unwrap())
        .key_schema(schema.build().unwrap())
        .send()
        .await
        .unwrap();
    for (name, value) in items {
        client
            .put_item()
            .table_name(table)
            .item("DataKey", AttributeValue::S(name.clone()))
            .item("Value", AttributeValue::B(Blob::new(value.clone())))
            .send()
            .await
            .unwrap();
    }
}

/// A version as the original stored it.
fn original_version(key: &str, id: &str, timestamp: i64, value: Vec<u8>) -> (String, Vec<u8>) {
    let pair = KeyValuePair {
        key: key.into(),
        value: value.into(),
        tid: id.into(),
        timestamp,
        ..Default::default()
    };
    (format!("data/{key}/{timestamp}/{id}"), pair.encode_to_vec())
}

/// The record of a commit as the original stored it.
fn original_record(id: &str, timestamp: i64, keys: &[String]) -> (String, Vec<u8>) {
    let record = TransactionRecord {
        id: id.into(),
        timestamp,
        status: TransactionStatus::Committed.into(),
        write_set: keys.to_vec(),
        ..Default::default()
    };
    (format!("transactions/{id}-{timestamp}"), record.encode_to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_original_left_is_read() {
    let (_server, table) = serve();
    let original = format!("{}-AftData", table.name);
    let missing = DynamoOptions { original: Some(original.clone()), ..table.options() };
    let error = DynamoStore::open(missing.clone()).await.unwrap_err();
    assert!(error.to_string().contains("dynamodb-original") && !error.is_away(), "{error}");

    // More than one page of a scan, which has a megabyte.
    let large: Vec<String> = (0..8).map(|n| format!("large/{n}")).collect();
    let mut items: Vec<_> =
        large.iter().map(|key| original_version(key, "large", 3, vec![7; 300_000])).collect();
    items.push(original_record("large", 3, &large));
    for (id, timestamp, is_committed) in [("a", 5, true), ("b", 7, true), ("c", 9, false)] {
        items.push(original_version("x/y", id, timestamp, id.into()));
        if is_committed {
            items.push(original_record(id, timestamp, &["x/y".into()]));
        }
    }
    make_original(&table.client().await, &original, &items).await;
    let store = DynamoStore::open(missing).await.unwrap();
    assert!(store.has_plain_keys());
    let keys: Vec<_> =
        ["x/y", "none", "large/0", "large/7"].map(|key| Key::parse(key).unwrap()).into();
    let found = store.plain(&keys).await.unwrap();
    let value = found[0].as_ref().unwrap();
    assert_eq!((&value.value[..], value.timestamp, value.published), (&b"b"[..], 7, false));
    assert_eq!(found[1], None);
    assert!(found[2..].iter().all(|value| value.as_ref().unwrap().value.len() == 300_000));

    let ours = DynamoOptions { original: Some(table.name.clone()), ..table.options() };
    let error = DynamoStore::open(ours).await.unwrap_err();
    assert!(error.to_string().contains("DataKey"), "{error}");
}
