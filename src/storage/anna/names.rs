//! The names of our objects in Anna.
//!
//! Anna has one flat space of names, in which user keys stand under their own. Ours begin with
//! [`RESERVED`], hold no slash and stay far below 255 bytes, since Anna's disk tier loses others. User
//! keys are never part of a name: a version is found through the attempt that wrote it, so keys may be
//! of any length and hold anything.

use crate::txn::{AttemptId, BaseId};

/// What all our names begin with. User keys that begin with it are served, but never stand in Anna
/// under their plain names.
pub const RESERVED: &str = "aft~";

/// Which nodes ever kept a log here: a set.
pub(super) const NODES: &str = "aft~nodes";

const OUTCOME: &str = "aft~o~";
const PROMISE: &str = "aft~b~";

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

/// A value that is too large to stand in the outcome.
pub(super) fn apart(writer: &AttemptId, position: u32) -> String {
    format!("aft~v~{writer}~{position}")
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
        ];
        for name in names {
            assert!(
                name.len() <= 255 && !name.contains('/') && name.starts_with(RESERVED),
                "{name}"
            );
        }
    }
}
