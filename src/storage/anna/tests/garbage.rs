//! Garbage in Anna: what is left of it, and what a collector that dies in the middle leaves.

use super::super::super::{Share, Superseded, remains};
use super::*;

/// Parts of a log come and go.
const BUCKET_ENTRIES: usize = 4;
const FAR: u64 = u64::MAX >> 2;

async fn open_small(kv: &Arc<Objects>, incarnation: &str) -> Arc<AnnaStore<Objects>> {
    let small = AnnaOptions { bucket_entries: BUCKET_ENTRIES, ..options("127.0.0.1", incarnation) };
    open_with(kv, small).await
}

/// Objects with a value, under names that begin with this.
fn objects(kv: &Objects, prefix: &str) -> Vec<String> {
    let map = kv.map.lock();
    let names = map.keys().filter(|name| name.starts_with(prefix) && read(&map, name).is_some());
    names.cloned().collect()
}

/// `new` supersedes all that `old` wrote.
fn garbage(old: &CommitBatch, new: &CommitBatch) -> Garbage {
    let keys: Vec<_> = old.commit.keys.iter().map(|written| written.key.clone()).collect();
    Garbage {
        newest: keys.iter().map(|key| (key.clone(), new.commit.clone())).collect(),
        superseded: vec![Superseded { commit: old.commit.clone(), keys, is_last: true }],
    }
}

fn sweep(superseded_before: u64, outcomes_before: u64) -> Sweep {
    Sweep {
        superseded_before: Timestamp(superseded_before),
        outcomes_before: Timestamp(outcomes_before),
        orphans_before: Timestamp(0),
        share: Share::ALL,
        entries_max: 10,
    }
}

async fn sweep_twice(store: &AnnaStore<Objects>, sweep: &Sweep) -> Swept {
    let mut all = Swept::default();
    for _ in 0..2 {
        loop {
            let swept = store.sweep(sweep).await.unwrap();
            all += swept;
            if swept.end {
                break;
            }
        }
    }
    all
}

/// Writes each of a few keys again and again, and collects what is superseded.
async fn overwrite(store: &AnnaStore<Objects>, keys: usize, commits: usize) -> Vec<CommitBatch> {
    let mut newest: Vec<CommitBatch> = Vec::new();
    for n in 0..commits {
        let key = format!("k{}", n % keys);
        let value = Bytes::from(format!("value {n}"));
        let new = batch(&format!("t{n}"), 5 + n as u64, &[(&key, value)]);
        store.commit(new.clone()).await.unwrap();
        publish(store, &new).await;
        if newest.len() < keys {
            newest.push(new);
        } else {
            let old = std::mem::replace(&mut newest[n % keys], new.clone());
            store.collect(&garbage(&old, &new)).await.unwrap();
        }
    }
    newest
}

async fn assert_readable(store: &AnnaStore<Objects>, batches: &[CommitBatch]) {
    let log = log(store).await;
    for batch in batches {
        let (commit, written) = (&batch.commit, &batch.commit.keys[0]);
        let wanted = [(written.key.clone(), commit.version.clone())];
        let found = store.versions(&wanted).await.unwrap();
        assert_eq!(found, [Some(batch.values[0].clone())], "{commit:?}");
        assert!(log.contains(commit), "{commit:?}");
    }
}

#[tokio::test]
async fn the_store_holds_what_is_live_and_so_does_a_start() {
    const KEYS: usize = 10;
    let kv = Arc::new(Objects::default());
    let store = open_small(&kv, "1").await;
    let newest = overwrite(&store, KEYS, 1_000).await;
    let parts = objects(&kv, "aft~l~").len();
    let most = (2 * KEYS + 5 * BUCKET_ENTRIES) / BUCKET_ENTRIES + 1;
    assert!(parts <= most, "{parts} parts of the log");
    assert_readable(&store, &newest).await;
    let usage = store.usage().await.unwrap();
    assert_eq!((usage.keys, usage.versions, usage.superseded), (10, 10, 0), "{usage:?}");
    assert_eq!((usage.remains, usage.outcomes), (990, 1_000), "{usage:?}");
    drop(store);

    let next = open_small(&kv, "2").await;
    assert!(log(&next).await.len() <= most * BUCKET_ENTRIES);
    next.clear_up(u64::MAX).await.unwrap();
    assert_readable(&next, &newest).await;
    // The keys know more than the log after that.
    sweep_twice(&next, &sweep(FAR, 5 + 500)).await;
    assert_eq!(objects(&kv, "aft~o~").len(), 500, "of those that are not old there are remains");
    sweep_twice(&next, &sweep(FAR, FAR)).await;
    assert_eq!(objects(&kv, "aft~o~").len(), KEYS);
    assert_eq!(objects(&kv, "aft~d~"), [] as [&str; 0]);
    assert_readable(&next, &newest).await;
}

#[tokio::test]
async fn who_follows_the_log_misses_nothing_while_it_is_compacted() {
    let kv = Arc::new(Objects::default());
    let store = open_small(&kv, "1").await;
    let follower = open_as(&kv, "other", "1").await;
    let mut position = LogPosition::default();
    let mut seen: BTreeMap<Key, u64> = BTreeMap::new();
    let stays = batch("stays", 1, &[("stays", Bytes::from_static(b"v"))]);
    store.commit(stays.clone()).await.unwrap();
    publish(&store, &stays).await;
    for round in 0..30 {
        // More at once than a reader looks ahead.
        let newest = overwrite_from(&store, round * 500, 500).await;
        loop {
            let page = follower.commits_since(&position, LogScope::Others).await.unwrap();
            for commit in &page.commits {
                let newest = seen.entry(commit.keys[0].key.clone()).or_default();
                *newest = (*newest).max(commit.version.timestamp.0);
            }
            position = page.next;
            if page.end {
                break;
            }
        }
        let key = &newest.commit.keys[0].key;
        assert_eq!(seen.get(key), Some(&newest.commit.version.timestamp.0), "round {round}");
    }
    assert!(position.0.len() < 1_000, "a position does not grow");
    assert!(log(&follower).await.contains(&stays.commit));
}

/// Writes one key again and again. Answers the last commit.
async fn overwrite_from(store: &AnnaStore<Objects>, from: usize, commits: usize) -> CommitBatch {
    let mut newest: Option<CommitBatch> = None;
    for n in from..from + commits {
        let value = Bytes::from(format!("value {n}"));
        let new = batch(&format!("t{n}"), 5 + n as u64, &[("k", value)]);
        store.commit(new.clone()).await.unwrap();
        publish(store, &new).await;
        if let Some(old) = newest.replace(new.clone()) {
            store.collect(&garbage(&old, &new)).await.unwrap();
        }
    }
    newest.unwrap()
}

#[tokio::test]
async fn a_collector_that_dies_in_the_middle_loses_nothing() {
    let large = Bytes::from(vec![7; 1 << 20]);
    for prefix in ["aft~h~", "aft~d~", "aft~v~", "aft~o~", "aft~l~", "aft~f~"] {
        let kv = Arc::new(Objects::default());
        let store = open_small(&kv, "1").await;
        let old = batch("old", 5, &[("k", large.clone()), ("l", Bytes::from_static(b"old"))]);
        let new = batch("new", 6, &[("k", large.clone()), ("l", Bytes::from_static(b"new"))]);
        store.commit(old.clone()).await.unwrap();
        publish(&store, &old).await;
        store.commit(new.clone()).await.unwrap();
        publish(&store, &new).await;
        let last = overwrite(&store, 1, 40).await;
        *kv.refused.lock() = Some(prefix);
        let _ = store.collect(&garbage(&old, &new)).await;
        let _ = store.sweep(&sweep(FAR, FAR)).await;
        *kv.refused.lock() = None;
        drop(store);

        let next = open_small(&kv, "2").await;
        next.clear_up(u64::MAX).await.unwrap();
        next.collect(&garbage(&old, &new)).await.unwrap();
        assert_readable(&next, &[new.clone(), last[0].clone()]).await;
        let heads = next.heads(&[Key::parse("k").unwrap()]).await.unwrap();
        assert_eq!(heads, [Some(new.commit.clone())], "{prefix}");
        assert_eq!(objects(&kv, "aft~v~"), ["aft~v~new~0"], "{prefix}");
        let id = old.commit.version.writer.base();
        assert_eq!(next.outcome(&id).await, Ok(Some(remains::of(&old.commit))), "{prefix}");
        sweep_twice(&next, &sweep(FAR, FAR)).await;
        assert_eq!(objects(&kv, "aft~o~").len(), 2, "{prefix}");
        assert_readable(&next, &[new, last[0].clone()]).await;
    }
}

#[tokio::test]
async fn a_commit_that_was_refused_before_stays_in_the_log() {
    let kv = Arc::new(Objects::default());
    let store = open_small(&kv, "1").await;
    let stays = batch("stays", 1, &[("stays", Bytes::from_static(b"v"))]);
    *kv.refused.lock() = Some("aft~o~");
    store.commit(stays.clone()).await.unwrap_err();
    *kv.refused.lock() = None;
    store.commit(stays.clone()).await.unwrap();
    overwrite(&store, 1, 100).await;
    assert!(store.log.first() > 0, "the log was compacted");
    assert_readable(&store, &[stays]).await;
}

#[tokio::test]
async fn what_nobody_collected_is_found_in_two_walks() {
    let kv = Arc::new(Objects::default());
    let [store, other] = [open_small(&kv, "1").await, open_as(&kv, "other", "1").await];
    let large = Bytes::from(vec![7; 1 << 20]);
    let half = batch("half", 5, &[("k", large.clone()), ("l", large.clone())]);
    let old = batch("old", 6, &[("m", Bytes::from_static(b"old"))]);
    let new = batch("new", 7, &[("k", large.clone()), ("m", large)]);
    store.commit(half.clone()).await.unwrap();
    store.commit(old.clone()).await.unwrap();
    other.commit(new.clone()).await.unwrap();
    for walker in [&other, &store] {
        sweep_twice(walker, &sweep(7, 0)).await;
    }
    assert_eq!(store.usage().await.unwrap().superseded, 2, "nothing is old enough");
    for walker in [&other, &store] {
        sweep_twice(walker, &sweep(8, 0)).await;
    }
    let usage = store.usage().await.unwrap();
    assert_eq!((usage.keys, usage.versions, usage.superseded), (3, 3, 0), "{usage:?}");
    let apart = ["aft~v~half~1", "aft~v~new~0", "aft~v~new~1"];
    assert_eq!(objects(&kv, "aft~v~"), apart);
}

#[tokio::test]
async fn the_log_of_a_node_that_does_not_come_back_is_taken_over_but_for_its_end() {
    let kv = Arc::new(Objects::default());
    let gone = open_small(&kv, "1").await;
    gone.tend().await.unwrap();
    let newest = overwrite(&gone, 10, 101).await;
    let other = open_as(&kv, "other", "1").await;
    let last = batch("last", 1_000, &[("last", Bytes::from_static(b"v"))]);
    for walk in 0..3 {
        if walk == 1 {
            // It lives.
            gone.tend().await.unwrap();
        }
        let before = objects(&kv, "aft~l~127.0.0.1").len();
        follow(&other).await;
        follow(&other).await;
        other.sweep(&sweep(5, 5)).await.unwrap();
        let after = objects(&kv, "aft~l~127.0.0.1").len();
        if walk < 2 {
            assert_eq!(after, before, "walk {walk}");
        } else {
            assert!(before > 2 && after <= 1, "{after} of {before} parts are left");
        }
    }
    assert_readable(&other, &newest).await;
    // It was only slow.
    gone.commit(last.clone()).await.unwrap();
    overwrite_from(&gone, 2_000, 100).await;
    assert!(log(&other).await.contains(&last.commit));
    assert_readable(&gone, &newest).await;
}

async fn follow(store: &AnnaStore<Objects>) {
    store.commits_since(&LogPosition::default(), LogScope::Others).await.unwrap();
}

#[tokio::test]
async fn an_id_that_was_forgotten_is_refused_to_all_who_come_late() {
    let kv = Arc::new(Objects::default());
    let store = open_small(&kv, "1").await;
    let id = "01995000-0000-7000-8000-000000000001";
    let base = BaseId::parse(id).unwrap();
    assert_eq!(store.settle_aborted(&base).await, Ok(Outcome::Aborted));
    sweep_twice(&store, &sweep(0, FAR)).await;
    let late = open_as(&kv, "late", "1").await;
    assert_eq!(late.outcome(&base).await, Ok(None));
    for attempt in [id.to_owned(), format!("{id}.a")] {
        let batch = batch(&attempt, 9, &[("k", Bytes::from_static(b"late"))]);
        let answer = late.commit(batch).await;
        assert!(answer.is_err(), "{attempt}: {answer:?}");
    }
    assert_eq!(late.outcome(&base).await, Ok(None));
    assert_eq!(log(&late).await, []);
}

#[tokio::test]
async fn one_who_keeps_everything_still_forgets_old_entries_at_a_restart() {
    let kv = Arc::new(Objects::default());
    let keep = |incarnation| AnnaOptions { collects: false, ..options("127.0.0.1", incarnation) };
    let store = open_with(&kv, keep("1")).await;
    assert!(!store.collects_garbage());
    let [old, new] =
        [5, 6].map(|at| batch(&format!("t{at}"), at, &[("k", Bytes::from_static(b"v"))]));
    store.commit(old.clone()).await.unwrap();
    store.commit(new.clone()).await.unwrap();
    drop(store);
    let next = open_with(&kv, keep("2")).await;
    next.clear_up(u64::MAX).await.unwrap();
    assert_eq!(log(&next).await, [new.commit]);
    assert_eq!(objects(&kv, "aft~o~"), ["aft~o~t5", "aft~o~t6"]);
}
