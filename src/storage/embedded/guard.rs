//! What stands around the database in its directory: a lock, a format, and a mark of how much was
//! made durable.
//!
//! The database itself takes a journal that ends in rubbish for one whose last write was torn by a
//! crash, and goes on without the rest. That is right at the end of the journal and would lose commits
//! in its middle. So after each sync the number of the last log entry is written to a side file
//! (without a sync of its own: the mark may lag behind after a power failure, but it is never ahead).
//! A database that comes back with fewer entries than the mark says has lost some, and is refused.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{OpenError, damaged};

const LOCK_FILE: &str = "LOCK";
const FORMAT_FILE: &str = "FORMAT";
const MARK_FILE: &str = "DURABLE";
/// The folder of the database itself.
pub(super) const DATABASE_DIR: &str = "db";
const FORMAT: &str = "aft embedded 1";

/// Holds the directory until dropped.
#[derive(Debug)]
pub(super) struct Guard {
    path: PathBuf,
    mark: File,
    _lock: File,
}

impl Guard {
    /// Makes the directory if need be, locks it and checks whose it is.
    pub(super) fn take(path: &Path) -> Result<Self, OpenError> {
        let io = |file: &Path| {
            let path = file.to_owned();
            move |source| OpenError::Io { path, source }
        };
        fs::create_dir_all(path).map_err(io(path))?;
        let is_new = is_empty(path).map_err(io(path))?;
        let lock_path = path.join(LOCK_FILE);
        let format_path = path.join(FORMAT_FILE);
        if !is_new && !lock_path.exists() && !format_path.exists() {
            return Err(OpenError::NotAStore(path.to_owned()));
        }
        let lock = open(&lock_path).map_err(io(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse(path.to_owned())),
            Err(TryLockError::Error(source)) => return Err(io(&lock_path)(source)),
        }
        check_format(path, &format_path)?;
        let mark_path = path.join(MARK_FILE);
        let mark = open(&mark_path).map_err(io(&mark_path))?;
        Ok(Self { path: path.to_owned(), mark, _lock: lock })
    }

    /// Compares what the database came back with to what it is known to have held.
    pub(super) fn check(&self, last: u64) -> Result<(), OpenError> {
        let mut bytes = [0; 16];
        let read = self.mark.read_at(&mut bytes, 0).unwrap_or(0);
        let marked = match read {
            0 => 0,
            16 => decode_mark(bytes).ok_or_else(|| {
                damaged(&self.path, &format!("{MARK_FILE} does not hold what was written to it"))
            })?,
            _ => return Err(damaged(&self.path, &format!("{MARK_FILE} was cut short"))),
        };
        if last < marked {
            let why = format!(
                "its journal ends early, {} of {marked} commits are missing",
                marked - last
            );
            return Err(damaged(&self.path, &why));
        }
        Ok(())
    }

    /// Notes that everything up to this log entry is durable.
    pub(super) fn mark(&self, last: u64) {
        // A mark that cannot be written guards less; that is no reason to fail a commit.
        if let Err(error) = self.mark.write_all_at(&encode_mark(last), 0) {
            tracing::warn!(%error, "cannot write {MARK_FILE}");
        }
    }
}

fn encode_mark(last: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&last.to_be_bytes());
    bytes[8..].copy_from_slice(&(!last).to_be_bytes());
    bytes
}

fn decode_mark(bytes: [u8; 16]) -> Option<u64> {
    let number = u128::from_be_bytes(bytes);
    let (last, inverse) = ((number >> 64) as u64, number as u64);
    (last == !inverse).then_some(last)
}

fn is_empty(path: &Path) -> std::io::Result<bool> {
    for entry in fs::read_dir(path)? {
        // What a file system puts there by itself is nobody's data.
        if entry?.file_name() != "lost+found" {
            return Ok(false);
        }
    }
    Ok(true)
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

fn check_format(path: &Path, format_path: &Path) -> Result<(), OpenError> {
    let io = |source| OpenError::Io { path: format_path.to_owned(), source };
    match fs::read(format_path) {
        Ok(found) if found.trim_ascii() == FORMAT.as_bytes() => Ok(()),
        Ok(found) => Err(OpenError::Format {
            path: path.to_owned(),
            found: format!("{:?}", String::from_utf8_lossy(&found[..found.len().min(40)]).trim()),
            expected: FORMAT,
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if path.join(DATABASE_DIR).exists() {
                return Err(damaged(path, &format!("{FORMAT_FILE} is missing")));
            }
            fs::write(format_path, format!("{FORMAT}\n")).map_err(io)
        }
        Err(source) => Err(io(source)),
    }
}
