//! The backend over a map in memory: what it promises while Anna does what it should. What happens when
//! Anna does not is for the simulator, and the real protocol for `tests/storage_anna.rs`.

use std::collections::BTreeMap;

mod contest;
mod garbage;

use super::super::conformance;
use super::*;
use crate::txn::{AttemptId, Timestamp, WrittenKey};
use crate::wire::{KeyValuePair, TransactionRecord, TransactionStatus};

/// Objects, merged as Anna merges them.
#[derive(Default)]
struct Objects {
    map: Mutex<Map>,
    /// Writes of names that begin with this are refused.
    refused: Mutex<Option<&'static str>>,
    puts: Mutex<Vec<String>>,
}

#[async_trait]
impl KeyValue for Objects {
    async fn get(&self, key: &str) -> Result<Option<Lattice>, StorageError> {
        tokio::task::yield_now().await;
        Ok(read(&self.map.lock(), key))
    }

    async fn put(&self, key: &str, value: Lattice) -> Result<(), StorageError> {
        tokio::task::yield_now().await;
        if self.refused.lock().is_some_and(|prefix| key.starts_with(prefix)) {
            return Err(StorageError::Refused("told to".into()));
        }
        self.puts.lock().push(key.to_owned());
        merge(&mut self.map.lock(), key, value)
    }
}

type Map = BTreeMap<String, Lattice>;

fn read(map: &Map, key: &str) -> Option<Lattice> {
    let is_nothing =
        |lattice: &&Lattice| matches!(lattice, Lattice::Lww { value, .. } if value.is_empty());
    map.get(key).filter(|lattice| !is_nothing(lattice)).cloned()
}

fn merge(map: &mut Map, key: &str, value: Lattice) -> Result<(), StorageError> {
    match (map.get_mut(key), value) {
        (None, value) => drop(map.insert(key.to_owned(), value)),
        (Some(Lattice::Set(there)), Lattice::Set(new)) => {
            there.extend(new);
            there.sort();
            there.dedup();
        }
        (Some(Lattice::Lww { timestamp: old, value }), Lattice::Lww { timestamp, value: new }) => {
            if timestamp >= *old {
                (*old, *value) = (timestamp, new);
            }
        }
        _ => return Err(StorageError::Refused("another lattice".into())),
    }
    Ok(())
}

async fn open(kv: &Arc<Objects>, incarnation: &str) -> Arc<AnnaStore<Objects>> {
    open_as(kv, "127.0.0.1", incarnation).await
}

async fn open_as(kv: &Arc<Objects>, node: &str, incarnation: &str) -> Arc<AnnaStore<Objects>> {
    open_with(kv, options(node, incarnation)).await
}

async fn open_with(kv: &Arc<Objects>, options: AnnaOptions) -> Arc<AnnaStore<Objects>> {
    Arc::new(AnnaStore::open(kv.clone(), options).await.unwrap())
}

fn options(node: &str, incarnation: &str) -> AnnaOptions {
    AnnaOptions {
        node: node.into(),
        host: "127.0.0.1".into(),
        incarnation: incarnation.into(),
        publication: Publication::default(),
        lands_within: Duration::from_secs(1),
        ..AnnaOptions::default()
    }
}

fn batch(name: &str, timestamp: u64, writes: &[(&str, Bytes)]) -> CommitBatch {
    let version =
        Version { timestamp: Timestamp(timestamp), writer: AttemptId::parse(name).unwrap() };
    let keys =
        writes.iter().map(|(key, _)| WrittenKey { key: Key::parse(key).unwrap(), fresh: true });
    let commit = Arc::new(Commit::new(version, keys.collect(), "127.0.0.1".into()));
    let sole = commit.version.writer.is_first();
    CommitBatch { commit, values: writes.iter().map(|(_, value)| value.clone()).collect(), sole }
}

async fn publish(store: &AnnaStore<Objects>, batch: &CommitBatch) {
    for (written, value) in batch.commit.keys.iter().zip(&batch.values) {
        store.publish(&written.key, &batch.commit.version, value).await.unwrap();
    }
}

async fn log(store: &AnnaStore<impl KeyValue>) -> Vec<Arc<Commit>> {
    let (mut commits, mut position) = (Vec::new(), LogPosition::default());
    loop {
        let page = store.commits_since(&position, LogScope::All).await.unwrap();
        commits.extend(page.commits);
        position = page.next;
        if page.end {
            return commits;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    let kv = Arc::new(Objects::default());
    let store = open(&kv, "1").await;
    conformance::run(store.clone(), 1).await;
    store.close().await;
    let again = open(&kv, "2").await;
    assert_eq!(again.lands_within(), None, "the one before ended in order");
    again.clear_up(u64::MAX).await.unwrap();
    conformance::run(again, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_sidecars_conform() {
    let kv = Arc::new(Objects::default());
    let mut stores: Vec<Arc<dyn Storage>> = Vec::new();
    for node in ["n1", "n2", "n3"] {
        stores.push(open_as(&kv, node, "1").await);
    }
    conformance::run_together(stores, 1).await;
}

#[tokio::test]
async fn a_small_commit_is_two_writes() {
    let kv = Arc::new(Objects::default());
    let store = open(&kv, "1").await;
    kv.puts.lock().clear();
    let writes: Vec<_> = (0..16).map(|i| (format!("k{i}"), Bytes::from(vec![i; 4096]))).collect();
    let writes: Vec<_> = writes.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
    store.commit(batch("a", 5, &writes)).await.unwrap();
    let mut puts = kv.puts.lock().clone();
    puts.sort();
    assert_eq!(puts, ["aft~l~127.0.0.1~1~0", "aft~o~a"]);
}

#[tokio::test]
async fn a_commit_whose_outcome_was_not_written_is_refused_and_leaves_no_trace_in_the_log() {
    let kv = Arc::new(Objects::default());
    let store = open(&kv, "1").await;
    let large = Bytes::from(vec![7; 1 << 20]);
    for (attempt, prefix) in [("a.1", "aft~o~"), ("a.2", "aft~v~")] {
        *kv.refused.lock() = Some(prefix);
        let refused = store.commit(batch(attempt, 5, &[("k", large.clone())])).await;
        assert!(matches!(refused, Err(StorageError::Refused(_))), "{refused:?}");
        *kv.refused.lock() = None;
    }
    assert_eq!(log(&store).await, []);
    let third = batch("a.3", 6, &[("k", large)]);
    store.commit(third.clone()).await.unwrap();
    assert_eq!(log(&store).await, [third.commit]);
}

#[tokio::test]
async fn the_next_incarnation_takes_over_what_a_crash_left() {
    let kv = Arc::new(Objects::default());
    let store = open(&kv, "1").await;
    let value = Bytes::from_static(b"value");
    let large = Bytes::from(vec![7; 1 << 20]);
    // Superseded, open and published; live, open and not published; refused after its large value.
    let old = batch("old", 5, &[("k", value.clone())]);
    let new = batch("new", 6, &[("k", value.clone()), ("l", large.clone())]);
    store.commit(old.clone()).await.unwrap();
    publish(&store, &old).await;
    *kv.refused.lock() = Some("aft~o~");
    store.commit(batch("orphan", 7, &[("m", large.clone())])).await.unwrap_err();
    *kv.refused.lock() = None;
    store.commit(new.clone()).await.unwrap();
    drop(store);

    let next = open(&kv, "2").await;
    assert_eq!(next.lands_within(), Some(Duration::from_secs(1)), "a crash is noticed");
    assert_eq!(log(&next).await, [old.commit.clone(), new.commit.clone()]);
    let late = next.clear_up(u64::MAX).await.unwrap();
    assert_eq!(late, std::slice::from_ref(&new.commit), "the last one was left open");
    assert_eq!(log(&next).await, [old.commit, new.commit], "so that it is found and collected");
    let plain = next.plain(&[Key::parse("k").unwrap(), Key::parse("l").unwrap()]).await.unwrap();
    let plain: Vec<_> =
        plain.into_iter().map(|found| found.map(|f| (f.timestamp, f.value))).collect();
    assert_eq!(plain, [Some((6, value)), Some((6, large))], "what was committed is published");
    for name in ["aft~v~orphan~0", "aft~l~127.0.0.1~1~0"] {
        assert_eq!(kv.get(name).await.unwrap(), None, "{name} is deleted");
    }
}

#[tokio::test]
async fn many_commits_are_taken_over_once_also_if_that_was_interrupted() {
    let kv = Arc::new(Objects::default());
    let store = open(&kv, "1").await;
    let names: Vec<_> = (0..1_000).map(|n| format!("k{n}")).collect();
    for (n, name) in names.iter().enumerate() {
        let batch = batch(&format!("t{n}"), 5 + n as u64, &[(name, Bytes::from_static(b"v"))]);
        store.commit(batch).await.unwrap();
    }
    drop(store);
    let interrupted = open(&kv, "2").await;
    *kv.refused.lock() = Some("aft~g~");
    interrupted.clear_up(u64::MAX).await.unwrap_err();
    *kv.refused.lock() = None;
    drop(interrupted);
    let next = open(&kv, "3").await;
    next.clear_up(u64::MAX).await.unwrap();
    drop(next);
    let last = open(&kv, "4").await;
    assert_eq!(log(&last).await.len(), names.len());
}

#[tokio::test]
async fn a_commit_that_is_in_no_log_gets_into_one_before_anybody_is_told() {
    let kv = Arc::new(Objects::default());
    let store = open(&kv, "1").await;
    *kv.refused.lock() = Some("aft~l~");
    let batch = batch("a", 5, &[("k", Bytes::from_static(b"v"))]);
    let answer = store.commit(batch.clone()).await;
    assert!(matches!(answer, Err(StorageError::Unconfirmed(_))), "{answer:?}");
    *kv.refused.lock() = None;
    drop(store);
    let next = open(&kv, "2").await;
    assert_eq!(log(&next).await, []);
    let id = batch.commit.version.writer.base();
    assert_eq!(next.outcome(&id).await, Ok(Some(Outcome::Committed(batch.commit.clone()))));
    assert_eq!(log(&next).await, [batch.commit]);
}

#[tokio::test]
async fn an_attempt_whose_record_is_too_large_for_the_log_is_cleared_away_as_well() {
    let kv = Arc::new(Objects::default());
    let store = open(&kv, "1").await;
    let names: Vec<_> = (0..1_000).map(|n| format!("key{n:04}")).collect();
    let value = |n| Bytes::from(vec![7; if n == 900 { 1 << 20 } else { 1 }]);
    let values: Vec<_> =
        names.iter().enumerate().map(|(n, key)| (key.as_str(), value(n))).collect();
    *kv.refused.lock() = Some("aft~o~");
    store.commit(batch("many", 7, &values)).await.unwrap_err();
    *kv.refused.lock() = None;
    drop(store);
    assert!(kv.get("aft~v~many~900").await.unwrap().is_some());
    open(&kv, "2").await.clear_up(u64::MAX).await.unwrap();
    assert_eq!(kv.get("aft~v~many~900").await.unwrap(), None);
}

#[tokio::test]
async fn large_values_are_written_only_when_the_log_leads_to_them() {
    let kv = Arc::new(Objects::default());
    let store = open(&kv, "1").await;
    *kv.refused.lock() = Some("aft~l~");
    let batch = batch("a", 5, &[("k", vec![7; 1 << 20].into())]);
    store.commit(batch.clone()).await.unwrap_err();
    assert_eq!(kv.get("aft~v~a~0").await.unwrap(), None, "its writer may die now");
    *kv.refused.lock() = None;
    store.commit(batch).await.unwrap();
    assert!(kv.get("aft~v~a~0").await.unwrap().is_some());
}

#[tokio::test]
async fn after_the_store_lost_everything_new_commits_are_found_again() {
    for before in [1, 2_000] {
        let kv = Arc::new(Objects::default());
        let store = open(&kv, "1").await;
        for n in 0..before {
            let batch = batch(&format!("t{n}"), 5 + n, &[("k", Bytes::from_static(b"v"))]);
            store.commit(batch.clone()).await.unwrap();
            publish(&store, &batch).await;
        }
        store.tend().await.unwrap();
        kv.map.lock().clear();
        let after = batch("after", 10_000, &[("l", Bytes::from_static(b"v"))]);
        store.commit(after.clone()).await.unwrap();
        store.tend().await.unwrap();
        drop(store);
        let next = open(&kv, "2").await;
        assert!(log(&next).await.contains(&after.commit), "after {before} commits");
        next.clear_up(u64::MAX).await.unwrap();
        assert!(log(&next).await.contains(&after.commit), "taken over");
    }
}

#[tokio::test]
async fn two_sidecars_of_one_name_are_told_so() {
    let kv = Arc::new(Objects::default());
    let first = open(&kv, "1").await;
    first.tend().await.unwrap();
    let second = open(&kv, "2").await;
    second.tend().await.unwrap();
    let error = first.tend().await.unwrap_err().to_string();
    assert!(error.contains("127.0.0.1") && error.contains("--port-offset"), "{error}");
    assert!(second.tend().await.is_err());
    assert!(second.clear_up(u64::MAX).await.is_err(), "the log of a living sidecar is left alone");
}

/// Stores objects the way the original AFT does.
async fn store_as_original(
    kv: &Objects,
    key: &str,
    id: &str,
    timestamp: i64,
    status: TransactionStatus,
) {
    let put = |name: String, message: Vec<u8>| async move {
        kv.put(&name, Lattice::Lww { timestamp: 10, value: message.into() }).await.unwrap();
    };
    let pair = KeyValuePair {
        key: key.into(),
        value: format!("{id} wrote {key}").into(),
        tid: id.into(),
        timestamp,
        ..Default::default()
    };
    let version = format!("data/{key}/{timestamp}/{id}");
    let name = if key.contains("funcs") { version } else { key.to_owned() };
    put(name, pair.encode_to_vec()).await;
    if status == TransactionStatus::Committed {
        let record = TransactionRecord {
            id: id.into(),
            timestamp,
            status: status.into(),
            write_set: vec![key.into()],
            ..Default::default()
        };
        let name = format!("transactions/{id}-{timestamp}");
        put(name.clone(), record.encode_to_vec()).await;
        kv.put("Transactions", Lattice::Set(vec![name.into()])).await.unwrap();
    }
}

#[tokio::test]
async fn what_the_original_left_is_read() {
    use TransactionStatus::{Committed, Running};
    let kv = Arc::new(Objects::default());
    for (key, id, timestamp, status) in [
        ("a/b", "t1", 100, Committed),
        ("dirty", "t2", 101, Running),
        ("funcs:f", "t3", 102, Committed),
        ("funcs:f", "t4", 104, Committed),
        ("funcs:f", "t5", 103, Committed),
        ("funcs:g", "t6", 105, Running),
    ] {
        store_as_original(&kv, key, id, timestamp, status).await;
    }
    let store = open(&kv, "1").await;
    let keys = ["a/b", "dirty", "funcs:f", "funcs:g", "nothing"].map(|k| Key::parse(k).unwrap());
    let found = store.plain(&keys).await.unwrap();
    let values: Vec<_> = found.into_iter().map(|found| Some(found?.value)).collect();
    let expected = [Some("t1 wrote a/b"), None, Some("t4 wrote funcs:f"), None, None];
    assert_eq!(values, expected.map(|value| value.map(Bytes::from)));
}

#[tokio::test]
async fn reserved_names_do_not_stand_in_the_open() {
    let kv = Arc::new(Objects::default());
    let store = open(&kv, "1").await;
    for name in ["aft~nodes", "aft~o~x", "ANNA_METADATA|x"] {
        let batch = batch(&format!("w-{}", name.len()), 5, &[(name, Bytes::from_static(b"v"))]);
        store.commit(batch.clone()).await.unwrap();
        publish(&store, &batch).await;
        assert_eq!(store.plain(&[Key::parse(name).unwrap()]).await, Ok(vec![None]));
    }
    assert_eq!(log(&store).await.len(), 3);
    store.advertise(vec![Key::parse("k").unwrap()], 7).await.unwrap();
    let cached = store.plain(&[Key::parse("ANNA_METADATA|cache_ip|127.0.0.1").unwrap()]).await;
    assert!(cached.unwrap()[0].is_some(), "Anna's own names are read");
}
