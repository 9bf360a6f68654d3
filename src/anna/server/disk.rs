//! Values in a directory, so that a restarted server still has them.
//!
//! One fjall keyspace holds, under each key, the number of the lattice type in one byte and the payload
//! behind it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::value::Value;
use crate::wire::anna::LatticeType;

/// A file of this name says that a directory is ours.
const MARK: &str = "anna-server";
const MARK_TEXT: &[u8] = b"values of aft anna-server, format 1\n";

/// Longer keys cannot be stored.
pub(super) const KEY_BYTES_MAX: usize = 65_535;

/// Why values cannot be read from the disk, or written to it.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The directory holds something else.
    #[error("{path} is not empty and holds no values of an anna-server; name another --data-dir",
        path = .0.display())]
    Foreign(PathBuf),
    /// The directory is used by another process.
    #[error("{path} is in use by another process; give each server its own --data-dir",
        path = .0.display())]
    InUse(PathBuf),
    /// A stored value is not one.
    #[error("{path} is damaged: the value of {key:?} cannot be read", path = .path.display())]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// Whose value.
        key: String,
    },
    /// The operating system refused something.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The storage engine refused something.
    #[error("{path}: {source}", path = .path.display())]
    Engine {
        /// The directory.
        path: PathBuf,
        /// What it said.
        source: fjall::Error,
    },
}

/// An open directory.
pub(super) struct Disk {
    path: PathBuf,
    db: Database,
    values: Keyspace,
    persist: PersistMode,
}

impl Disk {
    /// Opens or makes the directory, and reads all values. With `sync` writes are on the disk when
    /// [`write`](Self::write) returns; else the operating system has them.
    pub fn open(path: &Path, sync: bool) -> Result<(Self, HashMap<String, Value>), DiskError> {
        claim(path)?;
        let failed = |source| match source {
            fjall::Error::Locked => DiskError::InUse(path.to_owned()),
            source => DiskError::Engine { path: path.to_owned(), source },
        };
        let db = Database::builder(path.join("db")).open().map_err(failed)?;
        let keyspace = db.keyspace("values", KeyspaceCreateOptions::default).map_err(failed)?;
        let persist = if sync { PersistMode::SyncData } else { PersistMode::Buffer };
        let mut values = HashMap::new();
        for entry in keyspace.iter() {
            let (key, stored) = entry.into_inner().map_err(failed)?;
            let (key, value) = decode(&key, &stored).ok_or_else(|| DiskError::Damaged {
                path: path.to_owned(),
                key: String::from_utf8_lossy(&key).into_owned(),
            })?;
            values.insert(key, value);
        }
        Ok((Self { path: path.to_owned(), db, values: keyspace, persist }, values))
    }

    /// Writes values, all of them or none. A key without one is removed.
    pub fn write<'a>(
        &self,
        values: impl Iterator<Item = (&'a str, Option<&'a Value>)>,
    ) -> Result<(), DiskError> {
        let mut batch = self.db.batch().durability(Some(self.persist));
        for (key, value) in values {
            match value {
                Some(value) => batch.insert(&self.values, key, encode(value)),
                None => batch.remove(&self.values, key),
            }
        }
        let failed = |source| DiskError::Engine { path: self.path.clone(), source };
        batch.commit().map_err(failed)
    }
}

/// Makes a directory ours, unless it is somebody else's.
fn claim(path: &Path) -> Result<(), DiskError> {
    let failed = |source| DiskError::Io { path: path.to_owned(), source };
    fs::create_dir_all(path).map_err(failed)?;
    let mark = path.join(MARK);
    if mark.exists() {
        return Ok(());
    }
    if fs::read_dir(path).map_err(failed)?.next().is_some() {
        return Err(DiskError::Foreign(path.to_owned()));
    }
    let write = || {
        let mut file = File::create(&mark)?;
        file.write_all(MARK_TEXT)?;
        file.sync_all()?;
        File::open(path)?.sync_all()
    };
    write().map_err(failed)
}

fn encode(value: &Value) -> Vec<u8> {
    // There are seven lattice types.
    [&[value.kind() as u8][..], &value.encode()].concat()
}

fn decode(key: &[u8], stored: &[u8]) -> Option<(String, Value)> {
    let (kind, payload) = stored.split_first()?;
    let kind = LatticeType::try_from(i32::from(*kind)).ok()?;
    let value = Value::decode(kind, Bytes::copy_from_slice(payload)).ok()??;
    Some((String::from_utf8(key.to_vec()).ok()?, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(element: &'static str) -> Value {
        Value::Set([Bytes::from(element)].into())
    }

    #[test]
    fn values_are_there_when_it_is_opened_again() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("new/values");
        let (disk, empty) = Disk::open(&path, true).unwrap();
        assert!(empty.is_empty());
        let (a, b) = (set("a"), set("b"));
        disk.write([("a", Some(&a)), ("b", Some(&a))].into_iter()).unwrap();
        disk.write([("a", None), ("b", Some(&b))].into_iter()).unwrap();
        assert!(matches!(Disk::open(&path, true), Err(DiskError::InUse(_))));
        drop(disk);
        let (_, values) = Disk::open(&path, true).unwrap();
        assert_eq!(values, HashMap::from([("b".to_owned(), b)]));
    }

    #[test]
    fn a_directory_of_something_else_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("letter"), "Dear").unwrap();
        assert!(matches!(Disk::open(place.path(), true), Err(DiskError::Foreign(_))));
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }
}
