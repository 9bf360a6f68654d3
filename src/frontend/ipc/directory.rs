//! The directory that holds the sockets: created, locked against a second sidecar, cleaned up.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::{CALL, Kind};

const LOCK_FILE: &str = ".aft.lock";
const MODE: u32 = 0o770;
/// What the kernel takes as the path of a Unix socket, without the closing NUL.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Another sidecar is alive there.
    #[error(
        "another sidecar{} serves {}; stop it, or choose another --ipc-dir",
        pid.as_ref().map(|pid| format!(" (process {pid})")).unwrap_or_default(),
        path.display()
    )]
    Held {
        /// The directory.
        path: PathBuf,
        /// The other sidecar's process, as far as known.
        pid: Option<u32>,
    },
    /// Socket paths in it would be too long for the kernel.
    #[error(
        "{} is too long for socket files: a path in it may have at most {SOCKET_PATH_BYTES_MAX} bytes; choose a shorter --ipc-dir",
        .0.display()
    )]
    TooLong(PathBuf),
    /// The path is not UTF-8, so it has no place in an endpoint.
    #[error("{} is not UTF-8; choose another --ipc-dir", .0.display())]
    NotUtf8(PathBuf),
    /// The file system refused.
    #[error("cannot use {} for sockets: {source}; create it for this user, or choose another --ipc-dir", path.display())]
    Io {
        /// The directory or a file in it.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A directory held by this process until dropped.
#[derive(Debug)]
pub struct Directory {
    /// As configured, and as the file system calls it: clients may use either.
    spellings: Vec<String>,
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Creates the directory if need be, and locks it. A dead sidecar's lock is no obstacle.
    pub fn lock(path: &Path) -> Result<Self, DirectoryError> {
        let io = |source| DirectoryError::Io { path: path.to_owned(), source };
        if !path.is_dir() {
            DirBuilder::new().recursive(true).mode(MODE).create(path).map_err(io)?;
            // The process's umask may have taken the group's rights away.
            fs::set_permissions(path, Permissions::from_mode(MODE)).map_err(io)?;
        }
        let canonical = path.canonicalize().map_err(io)?;
        let absolute = std::path::absolute(path).map_err(io)?;
        let mut spellings = Vec::new();
        for spelling in [&absolute, &canonical] {
            let not_utf8 = || DirectoryError::NotUtf8(path.to_owned());
            let text = spelling.to_str().ok_or_else(not_utf8)?.trim_end_matches('/').to_owned();
            if !spellings.contains(&text) {
                spellings.push(text);
            }
        }
        let longest_name = names().map(str::len).max().unwrap_or(0);
        if spellings.iter().any(|s| s.len() + 1 + longest_name > SOCKET_PATH_BYTES_MAX) {
            return Err(DirectoryError::TooLong(path.to_owned()));
        }
        let lock = take_lock(&absolute)?;
        Ok(Self { spellings, path: absolute, _lock: lock })
    }

    /// The endpoint of one of the sidecar's sockets.
    pub fn endpoint(&self, name: &str) -> String {
        format!("ipc://{}", self.path_of(name).display())
    }

    /// The file of one of them.
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The names under which clients may know the directory, without a slash at the end.
    pub fn spellings(&self) -> &[String] {
        &self.spellings
    }

    /// Lets the directory's group connect to a socket.
    pub fn open_to_group(&self, name: &str) {
        let socket = self.path_of(name);
        if let Err(error) = fs::set_permissions(&socket, Permissions::from_mode(MODE)) {
            tracing::warn!(socket = %socket.display(), %error, "cannot open the socket to its group");
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        for name in names() {
            let _ = fs::remove_file(self.path_of(name));
        }
    }
}

/// The sidecar's own sockets.
fn names() -> impl Iterator<Item = &'static str> {
    Kind::ALL.into_iter().map(Kind::name).chain([CALL])
}

/// The lock belongs to the open file, so the kernel lets go of it when the process dies.
fn take_lock(directory: &Path) -> Result<File, DirectoryError> {
    let path = directory.join(LOCK_FILE);
    let io = |source| DirectoryError::Io { path: path.clone(), source };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(io)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            let mut text = String::new();
            let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(DirectoryError::Held { path: directory.to_owned(), pid });
        }
        Err(fs::TryLockError::Error(source)) => return Err(io(source)),
    }
    file.set_len(0).map_err(io)?;
    file.rewind().map_err(io)?;
    writeln!(file, "{}", std::process::id()).map_err(io)?;
    Ok(file)
}
