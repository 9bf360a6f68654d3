//! Damaged and torn files: a store either says so or is right.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::txn::{AttemptId, Commit, Timestamp, WrittenKey};

const COMMITS: usize = 32;
const FLUSHED: usize = 10;

fn batch(n: usize) -> CommitBatch {
    let version = Version {
        timestamp: Timestamp(1000 + n as u64),
        writer: AttemptId::parse(&format!("attempt-{n}")).unwrap(),
    };
    let keys = (0..n % 3 + 1)
        .map(|k| WrittenKey { key: Key::parse(&format!("key/{k}")).unwrap(), fresh: true });
    let commit = Commit::new(version, keys.collect(), "127.0.0.1".into());
    // Both kinds of values: those that stay in the tree and those in files of their own.
    let value = |k: usize| Bytes::from(vec![n as u8; 40 + k.min(1) * 16_400]);
    let values = (0..commit.keys.len()).map(value).collect();
    CommitBatch { values, commit: commit.into(), sole: true }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn open(path: &Path) -> Result<EmbeddedStore, OpenError> {
    EmbeddedStore::open(path, EmbeddedOptions::default())
}

fn commit(path: &Path, batches: Range<usize>) {
    let store = open(path).unwrap();
    for n in batches {
        let outcome = block_on(store.commit(batch(n))).unwrap();
        assert_eq!(outcome, Outcome::Committed(batch(n).commit));
    }
}

/// Commits, and leaves what a killed process leaves: all of it is in the journal, and stays there.
fn commit_and_die(path: &Path, batches: Range<usize>) {
    commit_all_and_die(path, batches.map(batch).collect());
}

fn commit_all_and_die(path: &Path, batches: Vec<CommitBatch>) {
    let engine = Slot::default();
    let options = EmbeddedOptions::default();
    let (mut writer, submit) = Writer::open(path, options, engine.clone()).unwrap();
    let thread = std::thread::spawn(move || {
        writer.serve_all();
        writer
    });
    for batch in batches {
        let answer = submit.submit(Request::Decide(Proposal::Commit(batch)), 0).unwrap();
        let answer = block_on(answer).unwrap();
        assert!(matches!(answer, Ok(Done::Decided(Outcome::Committed(_)))));
    }
    drop(submit);
    // It keeps the directory locked.
    let _writer = thread.join().unwrap();
    engine.close();
}

/// The store of a killed process, whose first commits are in data files, and the others in the journal.
fn store() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    commit(dir.path(), 0..FLUSHED);
    commit_and_die(dir.path(), FLUSHED..COMMITS);
    dir
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Whether all that was committed is there; `false` if the store says that something is damaged.
/// Panics if something is missing or wrong without a word.
fn is_right(store: &EmbeddedStore, commits: usize) -> bool {
    let said_so = |error: &StorageError| matches!(error, StorageError::Damaged(_));
    let mut right = true;
    let (mut position, mut logged) = (LogPosition::default(), Vec::new());
    loop {
        match block_on(store.commits_since(&position, LogScope::All)) {
            Ok(page) => {
                logged.extend(page.commits);
                position = page.next;
                if page.end {
                    let expected: Vec<_> = (0..commits).map(|n| batch(n).commit).collect();
                    assert_eq!(logged, expected);
                    break;
                }
            }
            Err(error) => {
                assert!(said_so(&error), "{error}");
                right = false;
                break;
            }
        }
    }
    for n in 0..commits {
        let CommitBatch { commit, values, .. } = batch(n);
        let keys = commit.keys.iter();
        let wanted: Vec<_> = keys.map(|w| (w.key.clone(), commit.version.clone())).collect();
        match block_on(store.versions(&wanted)) {
            Ok(found) => assert_eq!(found, values.into_iter().map(Some).collect::<Vec<_>>()),
            Err(error) => {
                assert!(said_so(&error), "{error}");
                right = false;
            }
        }
        match block_on(store.outcome(&commit.version.writer.base())) {
            Ok(found) => assert_eq!(found, Some(Outcome::Committed(commit))),
            Err(error) => {
                assert!(said_so(&error), "{error}");
                right = false;
            }
        }
    }
    right
}

#[derive(Debug, Default)]
struct Tally {
    refused: usize,
    said_so_when_read: usize,
    right: usize,
}

/// Damages a copy of the store and looks what becomes of it.
fn damage(original: &Path, file: &Path, how: impl FnOnce(&Path), tally: &mut Tally) {
    let dir = tempfile::tempdir().unwrap();
    copy(original, dir.path());
    how(&dir.path().join(file));
    match open(dir.path()) {
        Ok(store) if is_right(&store, COMMITS) => tally.right += 1,
        Ok(_) => tally.said_so_when_read += 1,
        Err(error) => {
            let text = error.to_string();
            let told = ["restore", "name another directory", "move the directory"];
            assert!(told.iter().any(|what| text.contains(what)), "{text}");
            tally.refused += 1;
        }
    }
}

fn flip(path: &Path, at: usize, bit: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1 << bit;
    fs::write(path, bytes).unwrap();
}

fn truncate(path: &Path, length: u64) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_len(length).unwrap();
}

/// Positions to damage in a file: all near its ends, and some between.
fn positions(length: usize, between: usize) -> Vec<usize> {
    let step = (length / between).max(1);
    (0..length.min(3))
        .chain((0..length).step_by(step))
        .chain(length.saturating_sub(3)..length)
        .collect()
}

/// Whether it is a list of files that does not count any more. Those are removed by and by.
fn is_old_manifest(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_string_lossy();
    let Some(number) = name.strip_prefix('v').and_then(|number| number.parse::<u64>().ok()) else {
        return false;
    };
    let current = fs::read(path.with_file_name("current")).unwrap();
    current[..8] != number.to_le_bytes()
}

fn damage_everywhere(is_tried: impl Fn(&Path) -> bool, between: usize) {
    let original = store();
    for path in files(original.path()) {
        let file = path.strip_prefix(original.path()).unwrap();
        if !is_tried(file) || is_old_manifest(&path) {
            continue;
        }
        let length = fs::metadata(&path).unwrap().len() as usize;
        let mut tally = Tally::default();
        for (n, at) in positions(length, between).into_iter().enumerate() {
            damage(original.path(), file, |path| flip(path, at, n % 8), &mut tally);
        }
        for at in positions(length, between / 3) {
            damage(original.path(), file, |path| truncate(path, at as u64), &mut tally);
        }
        damage(original.path(), file, |path| fs::remove_file(path).unwrap(), &mut tally);
        println!("{} ({length} bytes): {tally:?}", file.display());
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        if name == "current" || name.starts_with('v') {
            assert_eq!(tally.right, 0, "{}", file.display());
        }
    }
}
#[test]
fn a_damaged_journal_is_refused_or_right() {
    damage_everywhere(|file| file.extension().is_some_and(|e| e == "jnl"), 150);
}

#[test]
fn other_damaged_files_are_refused_or_noticed_when_read() {
    damage_everywhere(|file| file.extension().is_none(), 12);
}

fn journal(dir: &Path) -> PathBuf {
    let mut journals = files(&dir.join("db"));
    journals.retain(|file| file.extension().is_some_and(|e| e == "jnl"));
    assert_eq!(journals.len(), 1);
    journals.remove(0)
}

/// A store that was killed by a power failure while it wrote its last batch: the mark is still that
/// of the batch before. Also where in the journal the last batch begins.
fn with_unacknowledged_batch() -> (TempDir, PathBuf, u64) {
    let dir = store();
    let mark = dir.path().join("acknowledged");
    let before = fs::read(&mark).unwrap();
    let begin = fs::metadata(journal(dir.path())).unwrap().len();
    commit_and_die(dir.path(), COMMITS..COMMITS + 1);
    fs::write(mark, before).unwrap();
    let journal = journal(dir.path());
    (dir, journal, begin)
}

#[test]
fn a_torn_batch_that_was_not_acknowledged_is_dropped() {
    let (original, journal, begin) = with_unacknowledged_batch();
    let end = fs::metadata(&journal).unwrap().len();
    let file = journal.strip_prefix(original.path()).unwrap();
    for keep in (begin + 1..end).step_by(((end - begin) / 25) as usize) {
        let dir = tempfile::tempdir().unwrap();
        copy(original.path(), dir.path());
        truncate(&dir.path().join(file), keep);
        let store = open(dir.path()).unwrap();
        assert!(is_right(&store, COMMITS));
        // What was cut off does not stand in the way of what comes.
        block_on(store.commit(batch(COMMITS))).unwrap();
        drop(store);
        assert!(is_right(&open(dir.path()).unwrap(), COMMITS + 1));
    }
}

#[test]
fn a_torn_batch_with_a_hole_is_dropped() {
    let (dir, journal, begin) = with_unacknowledged_batch();
    let mut bytes = fs::read(&journal).unwrap();
    // In the middle of a value, so that only the checksum tells.
    let hole = &mut bytes[begin as usize + 400..][..64];
    assert_eq!(hole, [COMMITS as u8; 64]);
    hole.fill(0);
    fs::write(&journal, bytes).unwrap();
    assert!(is_right(&open(dir.path()).unwrap(), COMMITS));
}

#[test]
fn a_whole_batch_stays_though_nobody_was_told() {
    let (dir, _, _) = with_unacknowledged_batch();
    assert!(is_right(&open(dir.path()).unwrap(), COMMITS + 1));
}

/// The mark may be behind after a power failure; what follows a damaged batch tells as well.
#[test]
fn damage_in_front_of_other_batches_is_no_torn_end() {
    let dir = store();
    let mark = dir.path().join("acknowledged");
    fs::remove_file(&mark).unwrap();
    let journal = journal(dir.path());
    let length = fs::metadata(&journal).unwrap().len() as usize;
    let before = fs::read(&journal).unwrap();
    for at in (length / 4..length / 2).step_by(length / 90) {
        fs::write(&journal, &before).unwrap();
        flip(&journal, at, 3);
        let damaged = fs::read(&journal).unwrap();
        let error = open(dir.path()).err().expect("refused");
        assert!(error.to_string().contains("others follow it"), "{error}");
        assert!(fs::read(&journal).unwrap() == damaged, "a refused store is not changed");
    }
}

#[test]
fn a_value_that_looks_like_a_batch_is_a_value() {
    let (dir, journal, begin) = with_unacknowledged_batch();
    let copied = fs::read(&journal).unwrap().split_off(begin as usize);
    let dir2 = tempfile::tempdir().unwrap();
    commit(dir2.path(), 0..2);
    commit_and_die(dir2.path(), 2..3);
    let mut tricky = batch(3);
    tricky.values[0] = copied.into();
    commit_all_and_die(dir2.path(), vec![tricky]);
    drop(dir);
    // The last batch is torn, behind a value that holds a whole batch of another store.
    let mark = dir2.path().join("acknowledged");
    fs::remove_file(mark).unwrap();
    let journal = self::journal(dir2.path());
    let torn = fs::read(&journal).unwrap();
    let end = torn.iter().rposition(|&b| b != 0).unwrap();
    truncate(&journal, end as u64 - 2);
    assert!(is_right(&open(dir2.path()).unwrap(), 3));
}

#[test]
fn an_older_journal_is_refused() {
    let dir = store();
    let journal = journal(dir.path());
    let before = fs::read(&journal).unwrap();
    commit_and_die(dir.path(), COMMITS..COMMITS + 3);
    fs::write(&journal, before).unwrap();
    let error = open(dir.path()).err().expect("refused");
    assert!(error.to_string().contains("was acknowledged"), "{error}");
}

#[test]
fn a_closed_store_has_nothing_in_its_journal() {
    let dir = store();
    let used = fs::read(journal(dir.path())).unwrap();
    assert!(used.iter().any(|&byte| byte != 0), "a killed one has");
    drop(open(dir.path()).unwrap());
    assert_eq!(fs::metadata(journal(dir.path())).unwrap().len(), 0);
    // Numbers go on, though no journal tells of them.
    commit(dir.path(), COMMITS..COMMITS + 2);
    assert_eq!(fs::metadata(journal(dir.path())).unwrap().len(), 0);
    commit_and_die(dir.path(), COMMITS + 2..COMMITS + 3);
    assert!(is_right(&open(dir.path()).unwrap(), COMMITS + 3));
}

#[test]
fn what_a_killed_close_leaves_is_whole() {
    let original = store();
    let engine = Slot::default();
    let options = EmbeddedOptions::default();
    let (writer, submit) = Writer::open(original.path(), options, engine.clone()).unwrap();
    assert!(engine.get().unwrap().settle_within(Duration::from_secs(60)).unwrap());
    engine.close();
    drop((writer, submit));
    let used = fs::read(journal(original.path())).unwrap();
    assert!(used.iter().any(|&byte| byte != 0), "it was not emptied yet");
    assert!(is_right(&open(original.path()).unwrap(), COMMITS));
}

/// The journal is emptied last; then data files have to have all that was acknowledged.
#[test]
fn older_data_files_are_refused_when_the_journal_is_empty() {
    let (dir, older) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    commit(dir.path(), 0..FLUSHED);
    copy(dir.path(), older.path());
    commit(dir.path(), FLUSHED..COMMITS);
    fs::remove_dir_all(dir.path().join("db")).unwrap();
    copy(&older.path().join("db"), &dir.path().join("db"));
    let error = open(dir.path()).err().expect("refused");
    assert!(error.to_string().contains("was acknowledged"), "{error}");
}
