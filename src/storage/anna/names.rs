//! The names of our objects in Anna.
//!
//! Anna has one flat space of names, in which user keys stand under their own. Ours begin with
//! [`RESERVED`], hold no slash and stay far below 255 bytes, since Anna's disk tier loses others. User
//! keys are part of one kind of name only, written so that they cannot be mistaken: a version is found
//! through the attempt that wrote it, so keys may be of any length and hold anything.

use std::fmt::Write;

use xxhash_rust::xxh3::xxh3_128;

use crate::txn::{AttemptId, BaseId, Key};

/// What all our names begin with. User keys that begin with it are served, but never stand in Anna
/// under their plain names.
pub const RESERVED: &str = "aft~";

/// Which nodes ever kept a log here: a set.
pub(super) const NODES: &str = "aft~nodes";

const OUTCOME: &str = "aft~o~";
const PROMISE: &str = "aft~b~";
const HEAD: &str = "aft~h~";
/// A longer name of a key is replaced by a hash.
const HEAD_BYTES_MAX: usize = 200;

/// How an id ended, and what it wrote.
pub(super) fn outcome(id: &BaseId) -> String {
    format!("{OUTCOME}{id}")
}

/// The highest ballot that was promised for an id.
pub(super) fn promise(id: &BaseId) -> String {
    format!("{PROMISE}{id}")
}

/// The id whose outcome has this name, if it is such a name.
pub(crate) fn outcome_id(name: &str) -> Option<BaseId> {
    BaseId::parse(name.strip_prefix(OUTCOME)?).ok()
}

/// Whether it is the name of a promise.
pub(crate) fn is_promise(name: &str) -> bool {
    name.starts_with(PROMISE)
}

/// Whether it is the name of a head.
pub(crate) fn is_head(name: &str) -> bool {
    name.starts_with(HEAD)
}

/// A value that is too large to stand in the outcome.
pub(super) fn apart(writer: &AttemptId, position: u32) -> String {
    format!("aft~v~{writer}~{position}")
}

/// The newest version of a key. What is not a plain letter is escaped; a long key goes by its hash, so the
/// object holds the key as well.
pub(super) fn head(key: &Key) -> String {
    let mut name = format!("{HEAD}k~");
    for byte in key.as_str().bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte) {
            name.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(name, "%{byte:02x}");
        }
        if name.len() > HEAD_BYTES_MAX {
            return format!("{HEAD}x~{:032x}", xxh3_128(key.as_str().as_bytes()));
        }
    }
    name
}

/// All incarnations that a node ever had: a set.
pub(super) fn incarnations(node: &str) -> String {
    format!("aft~n~{node}")
}

/// What became of them.
pub(super) fn node_logs(node: &str) -> String {
    format!("aft~g~{node}")
}

/// Which incarnation of a node lives.
pub(super) fn lease(node: &str) -> String {
    format!("aft~a~{node}")
}

/// One incarnation of one node: who writes a log.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct LogName {
    pub(super) node: String,
    pub(super) incarnation: String,
}

impl std::fmt::Display for LogName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}~{}", self.node, self.incarnation)
    }
}

impl LogName {
    /// A part of the log.
    pub(super) fn bucket(&self, number: u64) -> String {
        format!("aft~l~{}~{}~{number}", self.node, self.incarnation)
    }

    /// The number of the log's first part.
    pub(super) fn first(&self) -> String {
        format!("aft~f~{}~{}", self.node, self.incarnation)
    }

    /// A part of the list of ids of which not more is left than how they ended.
    pub(super) fn graves(&self, number: u64) -> String {
        format!("aft~d~{}~{}~{number}", self.node, self.incarnation)
    }

    /// The number of that list's first part.
    pub(super) fn first_graves(&self) -> String {
        format!("aft~e~{}~{}", self.node, self.incarnation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::txn::id::BASE_ID_BYTES_MAX;

    #[test]
    fn the_longest_names_are_short_and_without_slashes() {
        let base = "x".repeat(BASE_ID_BYTES_MAX);
        let writer = AttemptId::parse(&format!("{base}.{}", "f".repeat(32))).unwrap();
        let log = LogName {
            node: "2001:db8::ffff:255.255.255.255:65535".into(),
            incarnation: "f".repeat(32),
        };
        let names = [
            outcome(&writer.base()),
            apart(&writer, u32::MAX),
            log.bucket(u64::MAX),
            node_logs(&log.node),
            log.graves(u64::MAX),
            head(&Key::parse(&"/".repeat(64)).unwrap()),
            head(&Key::parse(&"/".repeat(65)).unwrap()),
            head(&Key::parse(&"k".repeat(1000)).unwrap()),
        ];
        for name in names {
            assert!(
                name.len() <= 255 && !name.contains('/') && name.starts_with(RESERVED),
                "{name}"
            );
        }
    }

    #[test]
    fn no_two_keys_share_a_head() {
        let texts = ["a", "a/", "a%2f", "a%", "A", "ä", "a~", " ", "|"];
        let mut names: Vec<_> = texts.iter().map(|text| head(&Key::parse(text).unwrap())).collect();
        names.extend(["k", "l"].map(|text| head(&Key::parse(&text.repeat(300)).unwrap())));
        names.sort();
        names.dedup();
        assert_eq!(names.len(), texts.len() + 2);
    }
}
