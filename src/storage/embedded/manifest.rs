//! Checks fjall's manifests, which it writes with a checksum and reads without.
//!
//! Each keyspace has a folder with a file `current`: the number of the manifest that counts (u64),
//! its checksum (u128, XXH3) and the kind of the checksum (u8), little endian. The manifest `v<number>`
//! lists the keyspace's data files. A keyspace without `current` would be deleted by fjall.

use std::fs;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_128;

use super::OpenError;
use super::directory::at;

/// Refuses a store whose lists of files were changed.
pub(super) fn check(db: &Path) -> Result<(), OpenError> {
    let version = db.join("version");
    if !version.try_exists().map_err(at(&version))? {
        return damaged(&version, "it is missing".into());
    }
    let keyspaces = db.join("keyspaces");
    for entry in fs::read_dir(&keyspaces).map_err(at(&keyspaces))? {
        let entry = entry.map_err(at(&keyspaces))?;
        if entry.file_type().map_err(at(&keyspaces))?.is_dir() {
            check_keyspace(&entry.path())?;
        }
    }
    Ok(())
}

fn check_keyspace(folder: &Path) -> Result<(), OpenError> {
    let path = folder.join("current");
    let current = match fs::read(&path) {
        Ok(current) => current,
        Err(error) => return damaged(&path, error.to_string()),
    };
    let Some((number, checksum)) = parse(&current) else {
        return damaged(&path, "it does not name a manifest".into());
    };
    let path = folder.join(format!("v{number}"));
    match fs::read(&path) {
        Ok(manifest) if xxh3_128(&manifest) == checksum => Ok(()),
        Ok(_) => damaged(&path, "its checksum is wrong".into()),
        Err(error) => damaged(&path, error.to_string()),
    }
}

fn parse(current: &[u8]) -> Option<(u64, u128)> {
    let (number, rest) = current.split_first_chunk()?;
    let (checksum, kind) = rest.split_first_chunk()?;
    (kind == [0]).then(|| (u64::from_le_bytes(*number), u128::from_le_bytes(*checksum)))
}

fn damaged<T>(path: &Path, what: String) -> Result<T, OpenError> {
    Err(OpenError::Damaged { path: path.to_owned(), what })
}
