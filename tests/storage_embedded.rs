//! The embedded store as a process meets it: opened again, killed, opened twice, short of disk.
// A test gives up by the real clock.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aft::storage::embedded::{EmbeddedOptions, EmbeddedStore, OpenError};
use aft::storage::{CommitBatch, LogPosition, LogScope, Storage, StorageError, conformance};
use aft::txn::{AttemptId, Commit, Key, Outcome, Timestamp, Version, WrittenKey};
use bytes::Bytes;
use tempfile::TempDir;

fn directory() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn open(path: &Path) -> EmbeddedStore {
    EmbeddedStore::open(path, EmbeddedOptions::default()).unwrap()
}

/// A batch of `keys` keys whose values can be told from those of all other attempts.
fn batch(attempt: &str, keys: usize, value_bytes: usize) -> CommitBatch {
    let version = Version {
        timestamp: Timestamp(1_790_000_000_000_000_000),
        writer: AttemptId::parse(attempt).unwrap(),
    };
    let keys = (0..keys)
        .map(|n| WrittenKey { key: Key::parse(&format!("key/{n}")).unwrap(), fresh: false });
    let commit = Arc::new(Commit::new(version, keys.collect(), "127.0.0.1".into()));
    let values = commit.keys.iter().map(|written| {
        let text = format!("{attempt} {} ", written.key);
        Bytes::from(text.repeat(value_bytes / text.len() + 1))
    });
    CommitBatch { values: values.collect(), commit, sole: true }
}

/// Repeats a commit until the store confirms it, as a node does.
async fn commit(store: &EmbeddedStore, batch: &CommitBatch) -> Result<(), String> {
    let begin = Instant::now();
    loop {
        match store.commit(batch.clone()).await {
            Ok(outcome) => {
                assert_eq!(outcome, Outcome::Committed(batch.commit.clone()));
                return Ok(());
            }
            Err(StorageError::Unconfirmed(why)) => {
                assert!(begin.elapsed() < Duration::from_secs(60), "{why}");
                tokio::task::yield_now().await;
            }
            Err(StorageError::Refused(why) | StorageError::Unsuitable(why)) => return Err(why),
            Err(StorageError::Damaged(what)) => panic!("{what}"),
        }
    }
}

async fn log(store: &EmbeddedStore) -> Vec<Arc<Commit>> {
    let (mut commits, mut position) = (Vec::new(), LogPosition::default());
    loop {
        let page = match store.commits_since(&position, LogScope::All).await {
            Err(StorageError::Unconfirmed(_)) => {
                tokio::task::yield_now().await;
                continue;
            }
            page => page.unwrap(),
        };
        commits.extend(page.commits);
        position = page.next;
        if page.end {
            return commits;
        }
    }
}

/// All attempts in the log, each with all its versions and as many as it has keys.
async fn whole_commits(store: &EmbeddedStore) -> BTreeSet<String> {
    let mut attempts = BTreeSet::new();
    for commit in log(store).await {
        let keys = commit.keys.iter();
        let wanted: Vec<_> = keys.map(|w| (w.key.clone(), commit.version.clone())).collect();
        let writer = commit.version.writer.as_str();
        let values = store.versions(&wanted).await.unwrap();
        for ((key, _), value) in wanted.iter().zip(values) {
            let value = value.unwrap_or_else(|| panic!("{writer} has no version of {key}"));
            assert!(value.starts_with(format!("{writer} {key} ").as_bytes()));
        }
        let outcome = store.outcome(&commit.version.writer.base()).await.unwrap();
        assert_eq!(outcome, Some(Outcome::Committed(commit.clone())));
        assert!(attempts.insert(writer.to_owned()), "{writer} is in the log twice");
    }
    attempts
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_new_and_opened_again() {
    let dir = directory();
    for run in 1..=2 {
        let store = Arc::new(open(dir.path()));
        conformance::run(store.clone(), run).await;
        store.close().await;
    }
}

#[tokio::test]
async fn everything_is_there_when_it_is_opened_again() {
    let dir = directory();
    let mut expected = BTreeSet::new();
    for round in 0..3 {
        let store = open(dir.path());
        assert_eq!(whole_commits(&store).await, expected);
        for n in 0..20 {
            let name = format!("round-{round}-{n}");
            commit(&store, &batch(&name, n % 4, n * 500)).await.unwrap();
            expected.insert(name);
        }
        if round == 1 {
            store.close().await;
            let answer = store.outcome(&AttemptId::parse("x").unwrap().base()).await;
            assert_eq!(answer, Err(StorageError::Refused("the store is closed".into())));
        }
    }
}

#[tokio::test]
async fn its_futures_need_no_runtime() {
    let dir = directory();
    let store = open(dir.path());
    let outside = std::thread::spawn(move || {
        let waiting = store.commit(batch("a", 1, 10));
        assert!(futures_util::FutureExt::now_or_never(waiting).is_none(), "it waits for the disk");
    });
    outside.join().unwrap();
    let store = open(dir.path());
    assert_eq!(whole_commits(&store).await.len(), 1, "a dropped future's commit still happens");
}

#[test]
fn a_second_store_in_the_directory_is_refused() {
    let dir = directory();
    let store = open(dir.path());
    let refused = EmbeddedStore::open(dir.path(), EmbeddedOptions::default());
    let error = refused.err().unwrap();
    assert!(matches!(error, OpenError::InUse(_)), "{error}");
    drop(store);
    open(dir.path());
}

#[test]
fn a_directory_with_other_things_in_it_is_left_alone() {
    let dir = directory();
    std::fs::write(dir.path().join("thesis.tex"), "precious").unwrap();
    let error = EmbeddedStore::open(dir.path(), EmbeddedOptions::default()).err().unwrap();
    assert!(matches!(&error, OpenError::Foreign { found, .. } if found == "thesis.tex"), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was added");
}

#[test]
fn a_store_of_another_format_is_refused() {
    let dir = directory();
    drop(open(dir.path()));
    let format = dir.path().join("format");
    let text = std::fs::read_to_string(&format).unwrap();
    std::fs::write(&format, text.replace("format 3", "format 4")).unwrap();
    let error = EmbeddedStore::open(dir.path(), EmbeddedOptions::default()).err().unwrap();
    assert!(matches!(error, OpenError::Format { .. }), "{error}");
}

#[test]
fn making_a_store_can_be_interrupted() {
    let dir = directory();
    std::fs::create_dir(dir.path().join("db")).unwrap();
    std::fs::write(dir.path().join("db/0.jnl"), "half").unwrap();
    std::fs::write(dir.path().join("creating"), "").unwrap();
    drop(open(dir.path()));
    drop(open(dir.path()));
}

const CRASH_DIRECTORY: &str = "AFT_TEST_CRASH_DIRECTORY";
const CRASH_ROUND: &str = "AFT_TEST_CRASH_ROUND";

/// Not a test: what the process does that is killed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by what_was_acknowledged_survives_a_kill"]
async fn commit_until_killed() {
    let Ok(directory) = std::env::var(CRASH_DIRECTORY) else {
        return;
    };
    let round = std::env::var(CRASH_ROUND).unwrap();
    let store = Arc::new(open(Path::new(&directory)));
    let committers = (0..16).map(|committer| {
        let (store, round) = (store.clone(), round.clone());
        tokio::spawn(async move {
            for n in 0.. {
                let name = format!("{round}-{committer}-{n}");
                let bytes = if n % 8 == 0 { 50_000 } else { 100 };
                commit(&store, &batch(&name, 4, bytes)).await.unwrap();
                println!("acknowledged {name}");
            }
        })
    });
    for committer in committers.collect::<Vec<_>>() {
        committer.await.unwrap();
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let dir = directory();
    let mut acknowledged = BTreeSet::new();
    for round in 0..5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "storage_embedded::commit_until_killed", "--ignored", "--nocapture"])
            .env(CRASH_DIRECTORY, dir.path())
            .env(CRASH_ROUND, round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        for line in lines {
            if let Some((_, name)) = line.unwrap().split_once("acknowledged ") {
                acknowledged.insert(name.to_owned());
                seen += 1;
                if seen == 200 + round * 130 {
                    child.kill().unwrap();
                }
            }
        }
        assert!(seen >= 200, "the child ended by itself");
        child.wait().unwrap();
        let store = open(dir.path());
        let found = whole_commits(&store).await;
        let lost: Vec<_> = acknowledged.difference(&found).collect();
        assert!(lost.is_empty(), "{lost:?}");
    }
}

/// A file system of its own in memory, if the test may mount one.
struct SmallDisk {
    dir: TempDir,
}

impl SmallDisk {
    fn mount(dir: TempDir, megabytes: usize) -> Option<Self> {
        let disk = Self { dir };
        if disk.try_mount(&format!("size={megabytes}m")) {
            Some(disk)
        } else {
            println!("skipped: this test must be allowed to mount a tmpfs");
            None
        }
    }

    fn resize(&self, megabytes: usize) {
        assert!(self.try_mount(&format!("remount,size={megabytes}m")));
    }

    fn try_mount(&self, options: &str) -> bool {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(self.dir.path());
        mount.status().is_ok_and(|status| status.success())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.dir.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_commits_and_nothing_else() {
    let Some(disk) = SmallDisk::mount(directory(), 64) else {
        return;
    };
    let store = open(disk.dir.path());
    let mut expected = BTreeSet::new();
    let why = loop {
        let name = format!("fill-{}", expected.len());
        match commit(&store, &batch(&name, 4, 100_000)).await {
            Ok(()) => expected.insert(name),
            Err(why) => break why,
        };
    };
    assert!(why.contains("the disk is full; make room"), "{why}");
    assert!(expected.len() > 25, "only {} commits fit", expected.len());
    let refused = AttemptId::parse(&format!("fill-{}", expected.len())).unwrap().base();
    assert_eq!(store.outcome(&refused).await, Ok(None), "what is refused has no outcome");
    let repeated = batch("fill-0", 4, 100_000);
    commit(&store, &repeated).await.expect("what is there already needs no room");
    assert_eq!(whole_commits(&store).await, expected);

    store.close().await;
    let store = open(disk.dir.path());
    assert_eq!(whole_commits(&store).await, expected, "it can be opened on a full disk");
    disk.resize(128);
    commit(&store, &batch("more", 4, 100_000)).await.expect("there is room again");
}

/// The data files cannot be written though the journal can, as when a disk fails in the background.
#[tokio::test]
async fn it_goes_on_after_background_writes_failed() {
    let dir = directory();
    drop(open(dir.path()));
    let (keyspaces, moved) = (dir.path().join("db/keyspaces"), dir.path().join("moved"));
    std::fs::rename(&keyspaces, &moved).unwrap();
    std::fs::create_dir(&keyspaces).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"])
        .arg(&keyspaces)
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        println!("skipped: this test must be allowed to mount a tmpfs");
        return;
    }
    let unmount = Unmount(keyspaces.clone());
    let copied = Command::new("cp").arg("-a").arg(moved.join(".")).arg(&keyspaces).status();
    assert!(copied.unwrap().success());
    std::fs::remove_dir_all(&moved).unwrap();

    let store = open(dir.path());
    let mut expected = BTreeSet::new();
    loop {
        let name = format!("failing-{}", expected.len());
        let batch = batch(&name, 2, 1 << 20);
        expected.insert(name);
        let answer = store.commit(batch.clone()).await;
        if answer != Ok(Outcome::Committed(batch.commit.clone())) {
            assert!(matches!(answer, Err(StorageError::Unconfirmed(_))), "{answer:?}");
            break;
        }
    }
    let grown = Command::new("mount").args(["-o", "remount,size=1g"]).arg(&keyspaces).status();
    assert!(grown.unwrap().success());
    for name in &expected {
        commit(&store, &batch(name, 2, 1 << 20)).await.expect("there is room again");
    }
    assert_eq!(whole_commits(&store).await, expected);
    store.close().await;
    let store = open(dir.path());
    assert_eq!(whole_commits(&store).await, expected);
    store.close().await;
    drop(unmount);
}

struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
