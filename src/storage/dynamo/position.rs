//! Positions: how far a follower has read each log.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::storage::{LogPosition, StorageError};

/// How far each log was read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// The closed logs were read when this was the count of closings.
    pub closings: Option<u64>,
    pub marks: BTreeMap<String, Mark>,
}

/// How far one log was read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// All entries before this one were read when they were settled.
    pub done: u64,
    /// All entries before this one are settled, as an entry said that was read.
    pub low: u64,
    /// Entries from `done` on that need not be looked at again.
    pub seen: Ranges,
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

/// A set of numbers, most of which follow each other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ranges(
    /// First number → the first one behind that is not in the set.
    BTreeMap<u64, u64>,
);

impl Ranges {
    pub fn has(&self, number: u64) -> bool {
        self.0.range(..=number).next_back().is_some_and(|(_, &end)| number < end)
    }

    pub fn insert(&mut self, number: u64) {
        if self.has(number) {
            return;
        }
        let behind = number.saturating_add(1);
        let end = self.0.remove(&behind).unwrap_or(behind);
        match self.0.range_mut(..number).next_back() {
            Some((_, before)) if *before == number => *before = end,
            _ => {
                self.0.insert(number, end);
            }
        }
    }

    /// Takes all numbers out that are less than `first`.
    pub fn drop_before(&mut self, first: u64) {
        let rest = self.0.split_off(&first);
        let cut = self.0.pop_last();
        self.0 = rest;
        if let Some((_, end)) = cut.filter(|(_, end)| *end > first) {
            self.0.insert(first, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn ranges_are_a_set(numbers in prop::collection::vec(0..60_u64, 0..80), first in 0..70_u64) {
            let mut ranges = Ranges::default();
            numbers.iter().for_each(|&number| ranges.insert(number));
            let set: BTreeSet<_> = numbers.into_iter().collect();
            prop_assert!((0..70).all(|number| ranges.has(number) == set.contains(&number)));
            let gaps = set.iter().filter(|&&n| !set.contains(&(n + 1))).count();
            prop_assert_eq!(ranges.0.len(), gaps, "neighbours are one range");
            ranges.drop_before(first);
            prop_assert!((0..70).all(|n| ranges.has(n) == (n >= first && set.contains(&n))));
        }
    }

    #[test]
    fn positions_come_back_and_others_are_refused() {
        let mut position = Position::default();
        let mark = position.marks.entry("log".into()).or_default();
        (mark.done, mark.low) = (7, 9);
        mark.seen.insert(8);
        let encoded = position.encode().unwrap();
        assert_eq!(Position::decode(&encoded), Ok(position));
        assert!(Position::decode(&LogPosition(bytes::Bytes::from_static(b"\0\x01"))).is_err());
    }
}
