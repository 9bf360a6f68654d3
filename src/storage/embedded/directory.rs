//! The directory of a store: who may use it, and whether it is one.
//!
//! ```text
//! lock          held by the process that has the store open
//! format        what the store is, which format it has, and its id
//! acknowledged  see `mark`
//! db/           the engine's files
//! creating      present while a new store is being made
//! ```

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::OpenError;

const TITLE: &str = "aft embedded store";
const FORMAT: &str = "3";

/// Names that may stand in a directory that becomes a store: a lock file is left by an attempt that
/// got no further, and the other is in the root of every new file system.
const HARMLESS: [&str; 2] = ["lock", "lost+found"];

/// A directory that this process has to itself.
#[derive(Debug)]
pub(super) struct Directory {
    root: PathBuf,
    id: Uuid,
    /// Locked as long as it is open.
    _lock: File,
}

impl Directory {
    /// Locks a directory and finds out what is in it. `make` makes the files of a new store.
    pub fn open(
        root: &Path,
        make: impl FnOnce(&Self) -> Result<(), OpenError>,
    ) -> Result<Self, OpenError> {
        fs::create_dir_all(root).map_err(at(root))?;
        let root = &root.canonicalize().map_err(at(root))?;
        refuse_foreign(root)?;
        let lock = lock(root)?;
        let format = root.join("format");
        match fs::read_to_string(&format) {
            Ok(text) => {
                Ok(Self { root: root.to_owned(), id: parse_format(&format, &text)?, _lock: lock })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(root, lock, make),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(OpenError::Format { path: format, found: "bytes that are not text".into() })
            }
            Err(error) => Err(at(&format)(error)),
        }
    }

    /// The engine's own directory.
    pub fn db(&self) -> PathBuf {
        self.root.join("db")
    }

    /// The file that says which batch was acknowledged last.
    pub fn mark(&self) -> PathBuf {
        self.root.join("acknowledged")
    }

    /// Tells this store's batches from all other bytes in the world.
    pub fn id(&self) -> Uuid {
        self.id
    }
}

/// Turns what the system said about a path into an error.
pub(super) fn at(path: &Path) -> impl Fn(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { path: path.clone(), source }
}

fn refuse_foreign(root: &Path) -> Result<(), OpenError> {
    let is_ours = |name: &str| root.join(name).exists();
    if is_ours("format") || is_ours("creating") {
        return Ok(());
    }
    for entry in fs::read_dir(root).map_err(at(root))? {
        let name = entry.map_err(at(root))?.file_name();
        let found = name.to_string_lossy();
        if !HARMLESS.contains(&&*found) {
            return Err(OpenError::Foreign { path: root.to_owned(), found: found.into_owned() });
        }
    }
    Ok(())
}

fn lock(root: &Path) -> Result<File, OpenError> {
    let path = root.join("lock");
    let file =
        File::options().create(true).truncate(false).write(true).open(&path).map_err(at(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(root.to_owned())),
        Err(TryLockError::Error(error)) => Err(at(&path)(error)),
    }
}

/// Makes a store so that a crash on the way leaves either a whole store or one that is made anew.
fn create(
    root: &Path,
    lock: File,
    make: impl FnOnce(&Directory) -> Result<(), OpenError>,
) -> Result<Directory, OpenError> {
    let creating = root.join("creating");
    write_synced(&creating, b"")?;
    sync(root)?;
    let id = random_id().map_err(at(root))?;
    let directory = Directory { root: root.to_owned(), id, _lock: lock };
    match fs::remove_dir_all(directory.db()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(at(&directory.db())(error));
        }
        _ => make(&directory)?,
    }
    let (draft, format) = (root.join("format.new"), root.join("format"));
    let text = format!("{TITLE}\nformat {FORMAT}\nid {id}\n");
    write_synced(&draft, text.as_bytes())?;
    fs::rename(&draft, &format).map_err(at(&format))?;
    fs::remove_file(&creating).map_err(at(&creating))?;
    sync(root)?;
    Ok(directory)
}

fn random_id() -> io::Result<Uuid> {
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(uuid::Builder::from_random_bytes(bytes).into_uuid())
}

fn write_synced(path: &Path, content: &[u8]) -> Result<(), OpenError> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(at(path))
}

/// Makes it durable what is in a directory, and what is not any more.
pub(super) fn sync(directory: &Path) -> Result<(), OpenError> {
    let sync = || File::open(directory)?.sync_all();
    sync().map_err(at(directory))
}

fn parse_format(path: &Path, text: &str) -> Result<Uuid, OpenError> {
    let lines: Vec<&str> = text.split('\n').collect();
    let id = match lines[..] {
        [TITLE, format, id, ""] if format.strip_prefix("format ") == Some(FORMAT) => {
            id.strip_prefix("id ")
        }
        _ => None,
    };
    id.and_then(|id| Uuid::try_parse(id).ok()).ok_or_else(|| OpenError::Format {
        path: path.to_owned(),
        found: text.chars().take(80).collect(),
    })
}
