//! A side file that names the last batch that was acknowledged.
//!
//! A journal that ends in the middle of a batch is what a crash leaves, and also what damage looks
//! like. Which of the two it is depends on whether somebody was told that the batch is durable; this
//! file remembers that. It is written after each sync of the journal and not synced itself: the
//! kernel keeps it when the process dies, and it is synced when the store is closed.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use super::OpenError;
use super::directory::at;

/// Two slots take turns, each in a sector of its own, so that one is whole whatever happens.
const SLOT_BYTES: u64 = 512;
const ENTRY_BYTES: usize = 16;

fn options() -> OpenOptions {
    let mut options = File::options();
    options.read(true).write(true).truncate(false);
    options
}

/// The mark of an open store.
#[derive(Debug)]
pub(super) struct Mark {
    path: PathBuf,
    file: File,
    store: Uuid,
    acknowledged: u64,
}

impl Mark {
    /// Makes the mark of a new store, in which nothing was acknowledged.
    pub fn create(path: &Path, store: Uuid) -> Result<Self, OpenError> {
        let mark = Self {
            path: path.to_owned(),
            file: options().create(true).open(path).map_err(at(path))?,
            store,
            acknowledged: 0,
        };
        mark.write(0).map_err(at(path))?;
        mark.file.sync_all().map_err(at(path))?;
        Ok(mark)
    }

    /// Reads the mark. Where there is none, an operator has given up its check.
    pub fn open(path: &Path, store: Uuid) -> Result<Self, OpenError> {
        let file = match options().open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let missing = path.display();
                tracing::warn!(%missing, "not checking that all acknowledged batches are there");
                return Self::create(path, store);
            }
            Err(error) => return Err(at(path)(error)),
        };
        let mut mark = Self { path: path.to_owned(), file, store, acknowledged: 0 };
        mark.acknowledged = mark.read()?;
        Ok(mark)
    }

    /// The number of the last batch known to have been acknowledged; 0 if none is.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Notes that a batch is durable, before anybody is told.
    pub fn advance(&mut self, batch: u64) {
        self.acknowledged = batch;
        if let Err(error) = self.write(batch) {
            let path = self.path.display();
            tracing::warn!(%path, %error, "could not note the last acknowledged batch");
        }
    }

    /// Makes the mark survive a power failure.
    pub fn sync(&self) {
        if let Err(error) = self.file.sync_all() {
            let path = self.path.display();
            tracing::warn!(%path, %error, "could not sync the last acknowledged batch");
        }
    }

    fn write(&self, batch: u64) -> io::Result<()> {
        let mut entry = [0; ENTRY_BYTES];
        entry[..8].copy_from_slice(&batch.to_be_bytes());
        entry[8..].copy_from_slice(&self.check(batch).to_be_bytes());
        self.file.write_all_at(&entry, batch % 2 * SLOT_BYTES)
    }

    fn read(&self) -> Result<u64, OpenError> {
        let slots = [0, SLOT_BYTES].map(|offset| {
            let mut entry = [0; ENTRY_BYTES];
            self.file.read_exact_at(&mut entry, offset).ok()?;
            let (batch, check) = entry.split_at(8);
            let batch = u64::from_be_bytes(batch.try_into().ok()?);
            (check == self.check(batch).to_be_bytes()).then_some(batch)
        });
        slots.into_iter().flatten().max().ok_or_else(|| OpenError::Damaged {
            path: self.path.clone(),
            what: "it does not tell the last acknowledged batch (remove it to open the store \
                       without the check that this batch is there)"
                .into(),
        })
    }

    fn check(&self, batch: u64) -> u64 {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&batch.to_be_bytes());
        bytes[8..].copy_from_slice(self.store.as_bytes());
        xxh3_64(&bytes)
    }
}
