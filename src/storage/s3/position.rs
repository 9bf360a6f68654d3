//! Positions: what of each log was seen.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::storage::ranges::Ranges;
use crate::storage::{LogPosition, StorageError};

/// What was seen of all logs of which something is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    pub marks: BTreeMap<String, Mark>,
}

/// What was seen of one log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// All numbers before this one are settled, as a segment said that was read.
    pub low: u64,
    /// Of numbers before this one nothing more will come.
    pub done: u64,
    /// Numbers from `done` on that need not be looked at again.
    pub seen: Ranges,
    /// Of the others, the attempts that were handed out.
    pub told: BTreeMap<u64, BTreeSet<String>>,
}

impl Mark {
    pub fn is_seen(&self, number: u64) -> bool {
        number < self.done || self.seen.has(number)
    }

    pub fn has_told(&self, number: u64, attempt: &str) -> bool {
        self.told.get(&number).is_some_and(|told| told.contains(attempt))
    }

    /// Whether no number from `first` to `last` need be looked at again.
    pub fn has_seen_all(&self, first: u64, last: u64) -> bool {
        last < self.done || self.seen.has_all(first.max(self.done), last)
    }

    /// The numbers from `first` to `last` need not be looked at again, except for these.
    pub fn see_all(&mut self, first: u64, last: u64, except: &BTreeSet<u64>) {
        let mut from = first;
        for &number in except {
            self.see_range(from, number);
            from = number.saturating_add(1);
        }
        self.see_range(from, last.saturating_add(1));
    }

    fn see_range(&mut self, from: u64, end: u64) {
        self.seen.insert_all(from.max(self.done), end);
        self.told.retain(|number, _| !(from..end).contains(number));
    }

    /// Nor do any before this one.
    pub fn see_before(&mut self, number: u64) {
        self.done = self.done.max(number);
        self.seen.drop_before(self.done);
        self.told = self.told.split_off(&self.done);
    }
}

impl Position {
    pub fn decode(position: &LogPosition) -> Result<Self, StorageError> {
        if position.0.is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_slice(&position.0).map_err(|_| {
            StorageError::Refused(
                "the log position is not one of this store; read the log from its beginning".into(),
            )
        })
    }

    pub fn encode(&self) -> Result<LogPosition, StorageError> {
        let bytes = serde_json::to_vec(self)
            .map_err(|error| StorageError::Refused(format!("a log position: {error}")))?;
        Ok(LogPosition(bytes.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_come_back_and_others_are_refused() {
        let mut position = Position::default();
        let mark = position.marks.entry("log".into()).or_default();
        mark.see_before(7);
        mark.see_all(9, 9, &BTreeSet::new());
        mark.told.entry(8).or_default().insert("a".into());
        assert!(mark.is_seen(6) && !mark.is_seen(8) && mark.is_seen(9) && mark.has_told(8, "a"));
        let encoded = position.encode().unwrap();
        assert_eq!(Position::decode(&encoded), Ok(position));
        assert!(Position::decode(&LogPosition(bytes::Bytes::from_static(b"\0\x01"))).is_err());
    }

    #[test]
    fn what_is_before_all_that_was_seen_is_forgotten() {
        let mut mark = Mark::default();
        mark.told.entry(1).or_default().insert("a".into());
        mark.told.entry(5).or_default().insert("b".into());
        mark.see_all(2, 3, &BTreeSet::from([2]));
        mark.see_before(4);
        assert_eq!((mark.told.len(), mark.seen.has(3)), (1, false));
        mark.see_all(3, 6, &BTreeSet::from([4]));
        assert!(mark.told.is_empty() && mark.is_seen(5) && !mark.is_seen(4));
        assert!(mark.has_seen_all(5, 6) && mark.has_seen_all(0, 3) && !mark.has_seen_all(3, 5));
    }
}
