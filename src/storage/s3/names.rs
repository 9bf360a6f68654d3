//! What objects are called. Below the prefix that the operator chose:
//!
//! | name | object |
//! | --- | --- |
//! | `o/<hh>/<base id>` | the outcome of an id, with the values of its commit (`StoredOutcome`) |
//! | `v/<hh>/<attempt>/<timestamp>.<position>` | a value too large to stand there (`KeyValuePair`) |
//! | `l/<log>/<first>.<last>` | the entries with these numbers of the log of one process (`LogSegment`) |
//! | `h/<hash>` | a commit that wrote the key of which this is the SHA-256 (`TransactionRecord`) |
//! | `probe/<incarnation>` | written at a start, to see whether the store honours conditions |
//!
//! User keys are part of no name, so they may hold anything. `<hh>` is a hash of the id in two hexadecimal
//! digits: S3 spreads its load by the beginnings of names, and those of most ids begin with the time.
//! Numbers and times are 16 hexadecimal digits, so that names sort as they do.

use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::xxh3_64;

use crate::txn::{AttemptId, BaseId, Key, Timestamp, Version};

pub(super) const OUTCOMES: &str = "o/";
pub(super) const APART: &str = "v/";
pub(super) const LOGS: &str = "l/";

pub(super) fn outcome(id: &BaseId) -> String {
    format!("{OUTCOMES}{}/{id}", spread(id))
}

/// The id whose outcome has this name.
pub(super) fn outcome_id(name: &str) -> Option<BaseId> {
    BaseId::parse(name.rsplit('/').next()?).ok()
}

/// A value of a commit, by the position of its key.
pub(super) fn apart(version: &Version, position: u32) -> String {
    let Version { timestamp, writer } = version;
    format!("{APART}{}/{writer}/{:016x}.{position}", spread(&writer.base()), timestamp.0)
}

/// The version to which a value belongs that stands apart.
pub(super) fn apart_version(name: &str) -> Option<Version> {
    let (attempt, place) = name.strip_prefix(APART)?.split_once('/')?.1.split_once('/')?;
    let timestamp = u64::from_str_radix(place.split_once('.')?.0, 16).ok()?;
    Some(Version { timestamp: Timestamp(timestamp), writer: AttemptId::parse(attempt).ok()? })
}

pub(super) fn head(key: &Key) -> String {
    let hash = Sha256::digest(key.as_str().as_bytes());
    hash.iter().fold("h/".to_owned(), |name, byte| format!("{name}{byte:02x}"))
}

pub(super) fn probe(incarnation: u64) -> String {
    format!("probe/{incarnation:016x}")
}

/// The name of the log of a process: its number, and for people the node.
pub(super) fn log(incarnation: u64, node: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | ':') { c } else { '-' };
    format!("{incarnation:016x}-{}", node.chars().map(plain).collect::<String>())
}

/// All segments of a log.
pub(super) fn segments(log: &str) -> String {
    format!("{LOGS}{log}/")
}

pub(super) fn segment(log: &str, first: u64, last: u64) -> String {
    format!("{LOGS}{log}/{first:016x}.{last:016x}")
}

/// The log, and the first and last number, of a segment.
pub(super) fn parse_segment(name: &str) -> Option<(&str, u64, u64)> {
    let (log, numbers) = name.strip_prefix(LOGS)?.split_once('/')?;
    let (first, last) = numbers.split_once('.')?;
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    Some((log, number(first)?, number(last)?)).filter(|(_, first, last)| first <= last)
}

fn spread(id: &BaseId) -> String {
    format!("{:02x}", xxh3_64(id.as_str().as_bytes()) & 0xff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_can_be_taken_apart_again() {
        let writer = AttemptId::parse("a-b:c_d.00ff").unwrap();
        let version = Version { timestamp: Timestamp(17), writer };
        assert_eq!(apart_version(&apart(&version, 3)), Some(version.clone()));
        let id = version.writer.base();
        assert_eq!(outcome_id(&outcome(&id)), Some(id));
        let log = log(7, "[::1]/x:2");
        assert_eq!(parse_segment(&segment(&log, 1, 255)), Some((&log[..], 1, 255)));
        for name in ["", "l/", "l/log", "l/log/1", "l/log/2.1", "o/00/x"] {
            assert_eq!(parse_segment(name), None, "{name}");
        }
    }

    #[test]
    fn the_longest_names_are_short_enough() {
        let writer = AttemptId::parse(&format!("{}.{}", "i".repeat(128), "n".repeat(32))).unwrap();
        let version = Version { timestamp: Timestamp(u64::MAX), writer };
        assert!(apart(&version, u32::MAX).len() < 300);
    }

    #[test]
    fn segments_sort_by_their_numbers() {
        let names = [segment("a", 1, 1), segment("a", 1, 9), segment("a", 255, 300)];
        assert!(names.is_sorted());
    }
}
