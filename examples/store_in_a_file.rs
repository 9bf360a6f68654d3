//! A store in one file: the worked example of `docs/adding-a-store.md`.
//!
//! The file is a log. Each entry is an outcome: a commit's with its record and its values, or that an id
//! was aborted. An entry is valid as a whole or not at all, so a commit is one append and one sync, and
//! everything else is known from reading the file once. It is never rewritten: garbage stays.
//!
//! `cargo run --example store_in_a_file -- PATH` opens a store and lets the conformance suite judge it.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use aft::storage::{
    CommitBatch, LogPage, LogPosition, LogScope, Storage, StorageError, codec, conformance,
};
use aft::txn::{BaseId, Commit, Key, Outcome, Version};
use async_trait::async_trait;
use bytes::{Buf, BufMut, Bytes};
use xxhash_rust::xxh3::xxh3_64;

/// In front of each entry: its length (4 bytes) and its checksum (8).
const HEAD_BYTES: usize = 12;
const PAGE_COMMITS_MAX: usize = 1000;

/// A [`Storage`] in one file of which no other process has a part.
pub struct FileStore {
    state: Arc<Mutex<State>>,
}

struct State {
    file: File,
    /// Behind the last entry.
    end: u64,
    /// A write failed: what the file holds is not known any more until it is read again.
    is_broken: bool,
    outcomes: HashMap<BaseId, Outcome>,
    log: Vec<Arc<Commit>>,
    /// Where each value is, and how long.
    values: BTreeMap<(Key, Version), (u64, usize)>,
}

impl FileStore {
    /// Opens the file, or makes it.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let mut options = File::options();
        let opened = options.read(true).write(true).create(true).truncate(false).open(path);
        let mut file = opened.map_err(refused)?;
        file.try_lock().map_err(|error| StorageError::Refused(error.to_string()))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(refused)?;
        let mut state = State {
            file,
            end: 0,
            is_broken: false,
            outcomes: HashMap::new(),
            log: Vec::new(),
            values: BTreeMap::new(),
        };
        state.read(bytes.into())?;
        Ok(Self { state: Arc::new(Mutex::new(state)) })
    }

    /// Does something that waits for the disk, on a thread that may wait. It is done to its end also if
    /// nobody waits for it any more.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut State) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let state = self.state.clone();
        let work = move || work(&mut state.lock().unwrap_or_else(PoisonError::into_inner));
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|error| StorageError::Unconfirmed(error.to_string()))?
    }
}

impl State {
    /// Takes in all entries of a file. One that a crash cut short is cut off: it was never acknowledged.
    fn read(&mut self, mut rest: Bytes) -> Result<(), StorageError> {
        while rest.len() >= HEAD_BYTES {
            let mut head = rest.slice(..HEAD_BYTES);
            let (length, sum) = (head.get_u32() as usize, head.get_u64());
            let behind = HEAD_BYTES + length;
            if rest.len() < behind {
                break;
            }
            let entry = rest.slice(HEAD_BYTES..behind);
            if xxh3_64(&entry) != sum {
                if rest.len() == behind {
                    break;
                }
                return Err(StorageError::Damaged(format!("the entry at byte {}", self.end)));
            }
            self.take_in(entry)?;
            rest.advance(behind);
        }
        self.file.set_len(self.end).map_err(refused)
    }

    /// Takes in the entry that stands at the end.
    fn take_in(&mut self, entry: Bytes) -> Result<(), StorageError> {
        let length = entry.len();
        let mut left = entry;
        let id = BaseId::parse(&String::from_utf8_lossy(&part(&mut left)?));
        let id = id.map_err(|error| StorageError::Damaged(error.to_string()))?;
        let outcome = codec::decode_outcome(&id, part(&mut left)?)?;
        if let Outcome::Committed(commit) = &outcome {
            for written in &commit.keys {
                let bytes = part(&mut left)?.len();
                let at = self.end + (HEAD_BYTES + length - left.len() - bytes) as u64;
                let name = (written.key.clone(), commit.version.clone());
                self.values.insert(name, (at, bytes));
            }
            self.log.push(commit.clone());
        }
        self.outcomes.insert(id, outcome);
        self.end += (HEAD_BYTES + length) as u64;
        Ok(())
    }

    /// The outcome of an id, which is `wanted` if it had none. This is the commit point.
    fn decide(
        &mut self,
        id: BaseId,
        wanted: Outcome,
        values: &[Bytes],
    ) -> Result<Outcome, StorageError> {
        if let Some(there) = self.outcomes.get(&id) {
            return Ok(there.clone());
        }
        if self.is_broken {
            // It may be the very commit whose write failed: neither yes nor no is known.
            return Err(StorageError::Unconfirmed("a write failed; start again".to_owned()));
        }
        let mut entry = vec![0; HEAD_BYTES];
        let record = codec::encode_outcome(&id, &wanted);
        let parts = [id.as_str().as_bytes(), &record].into_iter();
        for part in parts.chain(values.iter().map(|value| &value[..])) {
            let length = u32::try_from(part.len()).map_err(too_large)?;
            entry.put_u32(length);
            entry.put_slice(part);
        }
        let body = entry.split_off(HEAD_BYTES);
        entry.clear();
        entry.put_u32(u32::try_from(body.len()).map_err(too_large)?);
        entry.put_u64(xxh3_64(&body));
        entry.extend_from_slice(&body);
        let written = self.file.write_all_at(&entry, self.end);
        written.and_then(|()| self.file.sync_data()).map_err(|error| {
            self.is_broken = true;
            StorageError::Unconfirmed(error.to_string())
        })?;
        self.take_in(body.into())?;
        Ok(wanted)
    }

    fn value(&self, key: &Key, version: &Version) -> Result<Option<Bytes>, StorageError> {
        let Some(&(at, length)) = self.values.get(&(key.clone(), version.clone())) else {
            return Ok(None);
        };
        let mut value = vec![0; length];
        self.file.read_exact_at(&mut value, at).map_err(refused)?;
        Ok(Some(value.into()))
    }

    fn page(&self, position: &LogPosition) -> Result<LogPage, StorageError> {
        // A position is how many commits were handed out; the beginning is empty.
        let from = match position.0.len() {
            0 => 0,
            8 => usize::try_from(position.0.clone().get_u64()).unwrap_or(usize::MAX),
            _ => return Err(StorageError::Refused("the position is not one of this store".into())),
        };
        let commits: Vec<_> = self.log.iter().skip(from).take(PAGE_COMMITS_MAX).cloned().collect();
        let next = from + commits.len();
        let position = (next as u64).to_be_bytes();
        Ok(LogPage {
            commits,
            next: LogPosition(Bytes::copy_from_slice(&position)),
            end: next >= self.log.len(),
        })
    }
}

/// The next part of an entry: its length, then its bytes.
fn part(entry: &mut Bytes) -> Result<Bytes, StorageError> {
    let cut = || StorageError::Damaged("an entry is shorter than its parts".to_owned());
    let length = entry.try_get_u32().map_err(|_| cut())? as usize;
    (entry.len() >= length).then(|| entry.split_to(length)).ok_or_else(cut)
}

fn refused(error: std::io::Error) -> StorageError {
    StorageError::Refused(error.to_string())
}

fn too_large(_: std::num::TryFromIntError) -> StorageError {
    StorageError::Unsuitable("a commit has 4 GiB or more".to_owned())
}

#[async_trait]
impl Storage for FileStore {
    async fn commit(&self, batch: CommitBatch) -> Result<Outcome, StorageError> {
        codec::check(&batch)?;
        let CommitBatch { commit, values, .. } = batch;
        let id = commit.version.writer.base();
        self.run(move |state| state.decide(id, Outcome::Committed(commit), &values)).await
    }

    async fn outcome(&self, id: &BaseId) -> Result<Option<Outcome>, StorageError> {
        let id = id.clone();
        self.run(move |state| Ok(state.outcomes.get(&id).cloned())).await
    }

    async fn settle_aborted(&self, id: &BaseId) -> Result<Outcome, StorageError> {
        let id = id.clone();
        self.run(move |state| state.decide(id, Outcome::Aborted, &[])).await
    }

    async fn versions(
        &self,
        wanted: &[(Key, Version)],
    ) -> Result<Vec<Option<Bytes>>, StorageError> {
        let wanted = wanted.to_vec();
        self.run(move |state| wanted.iter().map(|(key, v)| state.value(key, v)).collect()).await
    }

    async fn commits_since(
        &self,
        position: &LogPosition,
        _scope: LogScope,
    ) -> Result<LogPage, StorageError> {
        let position = position.clone();
        self.run(move |state| state.page(&position)).await
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).ok_or("which file? store_in_a_file PATH")?;
    let store = FileStore::open(Path::new(&path))?;
    // Every run on one file needs names of its own.
    let run = aft::runtime::clock::random_seed()? >> 1;
    conformance::run(Arc::new(store), run).await;
    println!("it conforms");
    Ok(())
}
