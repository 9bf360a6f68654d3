//! The worked example of `docs/adding-a-store.md` does what a store has to do.

#[path = "../examples/store_in_a_file.rs"]
#[allow(dead_code)]
mod store_in_a_file;

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use aft::storage::{CommitBatch, Storage, StorageError, conformance};
use aft::txn::{AttemptId, Commit, Key, Outcome, Timestamp, Version, WrittenKey};
use store_in_a_file::FileStore;

fn batch(name: &str) -> CommitBatch {
    let writer = AttemptId::parse(name).unwrap();
    let version = Version { timestamp: Timestamp(1), writer };
    let keys = vec![WrittenKey { key: Key::parse(name).unwrap(), fresh: false }];
    let commit = Arc::new(Commit::new(version, keys, "here".into()));
    CommitBatch { commit, values: vec![name.to_owned().into()], sole: true }
}

fn open(path: &Path) -> FileStore {
    FileStore::open(path).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_conforms() {
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = place.path().join("store");
    conformance::run(Arc::new(open(&path)), 1).await;
    // A store that was used before serves as well.
    conformance::run(Arc::new(open(&path)), 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_keeps_what_it_acknowledged_and_nothing_else() {
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = place.path().join("store");
    let [first, second] = ["first", "second"].map(batch);
    let store = open(&path);
    assert!(FileStore::open(&path).is_err(), "another process has it");
    store.commit(first.clone()).await.unwrap();
    let before = fs::metadata(&path).unwrap().len();
    store.commit(second.clone()).await.unwrap();
    drop(store);

    // As if the second had been under way when the machine died.
    File::options().write(true).open(&path).unwrap().set_len(before + 30).unwrap();
    let store = open(&path);
    let outcome = async |batch: &CommitBatch| {
        store.outcome(&batch.commit.version.writer.base()).await.unwrap()
    };
    assert_eq!(outcome(&first).await, Some(Outcome::Committed(first.commit.clone())));
    assert_eq!(outcome(&second).await, None);
    assert_eq!(fs::metadata(&path).unwrap().len(), before);
    store.commit(second.clone()).await.unwrap();
    let wanted =
        [&first, &second].map(|b| (b.commit.keys[0].key.clone(), b.commit.version.clone()));
    let values = store.versions(&wanted).await.unwrap();
    assert_eq!(values, [Some("first".into()), Some("second".into())]);
    drop(store);

    let mut bytes = fs::read(&path).unwrap();
    bytes[20] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert!(matches!(FileStore::open(&path), Err(StorageError::Damaged(_))));
}
