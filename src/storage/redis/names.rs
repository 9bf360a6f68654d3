//! The names of everything in Redis.
//!
//! | name | type | what |
//! | --- | --- | --- |
//! | `<prefix>format` | hash | the number of this layout, and into how many partitions ids and keys fall |
//! | `<prefix>data/<key>/<timestamp>/<attempt>` | string | a version (`KeyValuePair`) |
//! | `<prefix>{<tag>}:outcomes` | hash | of each id: who wrote it (8 bytes), then a `TransactionRecord` |
//! | `<prefix>{<tag>}:log` | sorted set | of each live commit: its id, at its number |
//! | `<prefix>{<tag>}:sequence` | string | the last number given |
//! | `<prefix>{<tag>}:heads` | hash | of each key: timestamp (20 digits), `/`, attempt of the newest commit |
//!
//! One server has one partition. In a cluster the tags of the partitions lie evenly over the slots, so
//! that each server has its share of them.

use xxhash_rust::xxh3::xxh3_64;

use super::super::codec;
use crate::txn::{AttemptId, BaseId, Key, Timestamp, Version};

/// Slots of a Redis cluster.
const SLOTS: usize = 16_384;
/// Partitions of a cluster.
pub(super) const CLUSTER_PARTITIONS: usize = 128;

/// The four names of a partition.
#[derive(Debug)]
pub(super) struct Partition {
    pub outcomes: String,
    pub log: String,
    pub sequence: String,
    pub heads: String,
}

/// All names under one prefix.
#[derive(Debug)]
pub(super) struct Names {
    prefix: String,
    partitions: Vec<Partition>,
}

impl Names {
    pub fn new(prefix: &str, partitions: usize) -> Self {
        let partitions = (0..partitions).map(|number| {
            let tag = tag(number, partitions);
            let name = |what| format!("{prefix}{{{tag}}}:{what}");
            Partition {
                outcomes: name("outcomes"),
                log: name("log"),
                sequence: name("sequence"),
                heads: name("heads"),
            }
        });
        Self { prefix: prefix.to_owned(), partitions: partitions.collect() }
    }

    pub fn format(prefix: &str) -> String {
        format!("{prefix}format")
    }

    /// Where the outcome of an id is.
    pub fn of_id(&self, id: &BaseId) -> &Partition {
        &self.partitions[self.partition(id.as_str())]
    }

    /// Which partition has the head of a key.
    pub fn of_key(&self, key: &Key) -> usize {
        self.partition(key.as_str())
    }

    pub fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    /// Whether all is in one place, so that one script reaches all of it.
    pub fn is_whole(&self) -> bool {
        self.partitions.len() == 1
    }

    fn partition(&self, name: &str) -> usize {
        match self.partitions.len() {
            1 => 0,
            count => (xxh3_64(name.as_bytes()) % count as u64) as usize,
        }
    }

    pub fn version(&self, key: &Key, version: &Version) -> String {
        self.prefix.clone() + &codec::version_name(key, version)
    }

    /// The names of versions that one commit wrote.
    pub fn versions_of(&self, version: &Version) -> VersionNames {
        let name = self.prefix.clone() + codec::VERSIONS;
        VersionNames { before: name.len(), name, behind: codec::version_suffix(version) }
    }

    /// A pattern that the names of all versions match.
    pub fn all_versions(&self) -> String {
        let mut pattern = String::new();
        for c in self.prefix.chars() {
            if matches!(c, '*' | '?' | '[' | ']' | '\\' | '^' | '-') {
                pattern.push('\\');
            }
            pattern.push(c);
        }
        pattern + codec::VERSIONS + "*"
    }

    /// Takes the name of a version apart, from its right end: user keys may hold slashes.
    pub fn parse_version(&self, name: &[u8]) -> Option<(Key, Version)> {
        let name = std::str::from_utf8(name).ok()?.strip_prefix(&self.prefix)?;
        let mut parts = name.strip_prefix(codec::VERSIONS)?.rsplitn(3, '/');
        let writer = AttemptId::parse(parts.next()?).ok()?;
        let timestamp = Timestamp(parts.next()?.parse().ok()?);
        Some((Key::parse(parts.next()?).ok()?, Version { timestamp, writer }))
    }
}

/// See [`Names::versions_of`]. To put each together anew took a commit of 16 values a tenth longer.
pub(super) struct VersionNames {
    name: String,
    before: usize,
    behind: String,
}

impl VersionNames {
    pub fn of(&mut self, key: &Key) -> &str {
        self.name.truncate(self.before);
        self.name.push_str(key.as_str());
        self.name.push_str(&self.behind);
        &self.name
    }
}

/// A version as a head. Text order is the order of versions.
pub(super) fn head(version: &Version) -> String {
    format!("{:020}/{}", version.timestamp.0, version.writer)
}

/// The version that a head names.
pub(super) fn parse_head(head: &[u8]) -> Option<Version> {
    let (timestamp, writer) = std::str::from_utf8(head).ok()?.split_once('/')?;
    let writer = AttemptId::parse(writer).ok()?;
    Some(Version { timestamp: Timestamp(timestamp.parse().ok()?), writer })
}

/// The smallest number, as text, that Redis puts into the part of the slots of this partition.
fn tag(number: usize, partitions: usize) -> String {
    if partitions == 1 {
        return "0".to_owned();
    }
    let part = SLOTS / partitions;
    let is_there = |tag: &String| usize::from(crc16(tag.as_bytes())) % SLOTS / part == number;
    // Each slot is hit by some of the first few hundred thousand numbers.
    (0..1_000_000).map(|n: u32| n.to_string()).find(is_there).unwrap_or_default()
}

/// CRC-16/XMODEM, from which Redis makes slots.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        let with_byte = crc ^ (u16::from(*byte) << 8);
        (0..8).fold(
            with_byte,
            |crc: u16, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn slots_are_those_of_redis() {
        // From the Redis cluster specification.
        assert_eq!(crc16(b"123456789"), 0x31C3);
    }

    #[test]
    fn partitions_lie_evenly_over_the_slots() {
        let tags: BTreeSet<_> =
            (0..CLUSTER_PARTITIONS).map(|n| tag(n, CLUSTER_PARTITIONS)).collect();
        assert_eq!(tags.len(), CLUSTER_PARTITIONS);
        assert!(!tags.contains(""));
        let slots: BTreeSet<_> =
            tags.iter().map(|tag| usize::from(crc16(tag.as_bytes())) % SLOTS / 128).collect();
        assert_eq!(slots.len(), CLUSTER_PARTITIONS);
    }

    #[test]
    fn names_and_heads_can_be_taken_apart() {
        let names = Names::new("p[1]*:", 1);
        let key = Key::parse("a/1/b").unwrap();
        let version =
            Version { timestamp: Timestamp(17), writer: AttemptId::parse("w.0").unwrap() };
        let name = names.version(&key, &version);
        assert_eq!(name, "p[1]*:data/a/1/b/17/w.0");
        let mut of_commit = names.versions_of(&version);
        let other = Key::parse("another, longer one").unwrap();
        assert_eq!(of_commit.of(&other), names.version(&other, &version));
        assert_eq!(of_commit.of(&key), name);
        assert_eq!(names.parse_version(name.as_bytes()), Some((key, version.clone())));
        assert_eq!(names.parse_version(b"other"), None);
        assert_eq!(names.all_versions(), "p\\[1\\]\\*:data/*");
        assert_eq!(parse_head(head(&version).as_bytes()), Some(version));
    }
}
