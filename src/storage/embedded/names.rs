//! How versions are called in the engine, so that all versions of one key stand together, oldest first.
//!
//! ```text
//! name = key_len:u16 key timestamp:u64 attempt        (numbers big endian)
//! ```
//!
//! The length comes first, since a key may hold any characters and be the beginning of another.

use crate::storage::StorageError;
use crate::txn::{AttemptId, Key, Timestamp, Version};

/// What the names of all versions of a key begin with.
pub(super) fn versions_of(key: &Key) -> Vec<u8> {
    let key = key.as_str().as_bytes();
    // Keys are at most 32 KiB long.
    let length = u16::try_from(key.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes(), key].concat()
}

/// The name of one version.
pub(super) fn version(key: &Key, version: &Version) -> Vec<u8> {
    let mut name = versions_of(key);
    name.extend(version.timestamp.0.to_be_bytes());
    name.extend(version.writer.as_str().as_bytes());
    name
}

/// The version that a name stands for.
pub(super) fn parse_version(name: &[u8]) -> Result<(Key, Version), StorageError> {
    parse(name).ok_or_else(|| {
        StorageError::Damaged(format!(
            "{:?} is not the name of a version",
            name.escape_ascii().to_string()
        ))
    })
}

fn parse(name: &[u8]) -> Option<(Key, Version)> {
    let (length, rest) = name.split_first_chunk()?;
    let (key, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    let (timestamp, writer) = rest.split_first_chunk()?;
    let key = Key::parse(std::str::from_utf8(key).ok()?).ok()?;
    let writer = AttemptId::parse(std::str::from_utf8(writer).ok()?).ok()?;
    Some((key, Version { timestamp: Timestamp(u64::from_be_bytes(*timestamp)), writer }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn versions()(key in "[a/\\x00é]{1,9}", timestamp: u64, writer in "[a-z]{1,4}") -> (Key, Version) {
            let writer = AttemptId::parse(&writer).unwrap();
            (Key::parse(&key).unwrap(), Version { timestamp: Timestamp(timestamp), writer })
        }
    }

    proptest! {
        #[test]
        fn names_are_read_back_and_ordered_as_versions_are(one in versions(), other in versions()) {
            let name = version(&one.0, &one.1);
            prop_assert_eq!(parse_version(&name).unwrap(), one.clone());
            prop_assert!(name.starts_with(&versions_of(&one.0)));
            let same = version(&one.0, &other.1);
            prop_assert_eq!(name.cmp(&same), one.1.cmp(&other.1));
            if one.0 != other.0 {
                prop_assert!(!name.starts_with(&versions_of(&other.0)));
            }
        }
    }
}
