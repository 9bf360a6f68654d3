//! What items are called. One table holds everything; both parts of its key are strings.
//!
//! | partition (`pk`) | sort key (`sk`) | what it is |
//! | --- | --- | --- |
//! | `v=<key>` or `v~<hash>` | `<version>` | a version of a user key |
//! | `c=<key>` or `c~<hash>` | `<version>/<n>` | a part of a version that is too large for one item |
//! | `o=<base id>` | `outcome` | the outcome of an id |
//! | `o=<base id>` | `record/<version>/<n>` | a part of a commit record that is too large for its items |
//! | `l=<log>` | `<sequence>` | an entry of the log of one writer |
//! | `logs` | `<log>` | that this log is open, and how far it is settled |
//! | `logs` | `~` | a count that changes whenever a log is closed |
//! | `closed` | `<log>` | that this log is closed, and where it ends |
//!
//! A version is written as its timestamp in 16 hexadecimal digits, `-`, and its writer, so that the sort
//! key orders versions as they supersede each other. A user key of more than [`PLAIN_BYTES_MAX`] bytes
//! is named by its SHA-256, since DynamoDB takes no more than 2048 bytes.

use sha2::{Digest, Sha256};

use crate::storage::StorageError;
use crate::txn::{AttemptId, BaseId, Key, Timestamp, Version};

/// The longest user key that is part of a name as it is, in bytes.
const PLAIN_BYTES_MAX: usize = 2000;

/// Both parts of an item's key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Name {
    pub pk: String,
    pub sk: String,
}

/// The partition of the descriptions of open logs.
pub(super) const LOGS: &str = "logs";
/// The partition of the descriptions of closed logs.
pub(super) const CLOSED: &str = "closed";
/// The sort key of the count of closings, among the open logs.
pub(super) const CLOSINGS: &str = "~";
/// The sort key of an outcome.
pub(super) const OUTCOME: &str = "outcome";

/// What the first characters of a partition say about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Version,
    Chunk,
    Outcome,
    Entry,
    Closed,
    /// Not ours.
    Other,
}

impl Kind {
    pub fn of(pk: &str) -> Self {
        match pk.as_bytes() {
            [b'v', b'=' | b'~', ..] => Self::Version,
            [b'c', b'=' | b'~', ..] => Self::Chunk,
            [b'o', b'=', ..] => Self::Outcome,
            [b'l', b'=', ..] => Self::Entry,
            b"closed" => Self::Closed,
            _ => Self::Other,
        }
    }
}

/// The partition of a user key's versions.
pub(super) fn versions_of(key: &Key) -> String {
    format!("v{}", suffix(key))
}

pub(super) fn version(key: &Key, version: &Version) -> Name {
    Name { pk: versions_of(key), sk: stamp(version) }
}

pub(super) fn chunk(key: &Key, version: &Version, number: usize) -> Name {
    Name { pk: format!("c{}", suffix(key)), sk: format!("{}/{number:06}", stamp(version)) }
}

pub(super) fn outcome(id: &BaseId) -> Name {
    Name { pk: format!("o={id}"), sk: OUTCOME.to_owned() }
}

pub(super) fn record_chunk(version: &Version, number: usize) -> Name {
    let id = version.writer.base();
    Name { pk: format!("o={id}"), sk: format!("record/{}/{number:06}", stamp(version)) }
}

/// The partition of a log.
pub(super) fn log(name: &str) -> String {
    format!("l={name}")
}

pub(super) fn entry(log_name: &str, sequence: u64) -> Name {
    Name { pk: log(log_name), sk: sequence_text(sequence) }
}

pub(super) fn sequence_text(sequence: u64) -> String {
    format!("{sequence:016x}")
}

pub(super) fn parse_sequence(sk: &str) -> Result<u64, StorageError> {
    u64::from_str_radix(sk, 16)
        .map_err(|_| StorageError::Damaged(format!("a log entry has the number {sk:?}")))
}

/// A version as text that sorts as versions do.
pub(super) fn stamp(version: &Version) -> String {
    format!("{:016x}-{}", version.timestamp.0, version.writer)
}

/// The version in a sort key; what follows a slash is not part of it.
pub(super) fn parse_stamp(sk: &str) -> Result<Version, StorageError> {
    let stamp = sk.split_once('/').map_or(sk, |(stamp, _)| stamp);
    let parse = || {
        let (timestamp, writer) = stamp.split_once('-')?;
        let timestamp = Timestamp(u64::from_str_radix(timestamp, 16).ok()?);
        Some(Version { timestamp, writer: AttemptId::parse(writer).ok()? })
    };
    parse().ok_or_else(|| StorageError::Damaged(format!("{sk:?} does not name a version")))
}

fn suffix(key: &Key) -> String {
    let text = key.as_str();
    if text.len() <= PLAIN_BYTES_MAX {
        return format!("={text}");
    }
    let hash = Sha256::digest(text.as_bytes());
    hash.iter().fold("~".to_owned(), |name, byte| format!("{name}{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_sort_as_they_supersede_each_other() {
        let at = |timestamp, writer: &str| Version {
            timestamp: Timestamp(timestamp),
            writer: AttemptId::parse(writer).unwrap(),
        };
        let versions =
            [at(0, "z"), at(9, "a-b"), at(9, "a-b.17"), at(10, "0"), at(u64::MAX, "a:b_c")];
        assert!(versions.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(versions.windows(2).all(|pair| stamp(&pair[0]) < stamp(&pair[1])));
        for version in versions {
            assert_eq!(parse_stamp(&stamp(&version)), Ok(version.clone()));
            assert_eq!(parse_stamp(&format!("{}/000001", stamp(&version))), Ok(version));
        }
        assert!(parse_stamp("x").is_err() && parse_stamp("5-").is_err());
    }

    #[test]
    fn no_name_is_too_long_and_none_is_shared() {
        let key = |text: &str| Key::parse(text).unwrap();
        let names: Vec<_> = [1, 2000, 2001, 32 * 1024]
            .iter()
            .map(|&bytes| versions_of(&key(&"k".repeat(bytes))))
            .collect();
        assert!(names.iter().all(|name| name.len() <= 2048 && Kind::of(name) == Kind::Version));
        assert_ne!(names[2], names[3]);
        assert_ne!(versions_of(&key(&names[2][1..])), names[2], "a key that looks like a hash");
    }
}
