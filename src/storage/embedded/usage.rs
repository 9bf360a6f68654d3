//! Counts what the store holds, by reading all names and records once; values are not read.

use super::engine::Engine;
use super::names;
use crate::storage::{StorageError, Usage};

/// Counts everything.
pub(super) fn count(engine: &Engine) -> Result<Usage, StorageError> {
    let mut usage = Usage { bytes: engine.bytes()?, ..Usage::default() };
    let mut last = None;
    for name in engine.version_names(&[]) {
        let (key, _) = names::parse_version(&name?)?;
        usage.versions += 1;
        if last.as_ref() == Some(&key) {
            usage.superseded += 1;
        } else {
            usage.keys += 1;
        }
        last = Some(key);
    }
    for entry in engine.log_entries(0) {
        entry?;
        usage.log_entries += 1;
    }
    for outcome in engine.decided("") {
        outcome?;
        usage.outcomes += 1;
    }
    // Each entry of the log has an outcome.
    usage.remains = usage.outcomes.saturating_sub(usage.log_entries);
    Ok(usage)
}
