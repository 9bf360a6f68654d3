//! Sets of numbers, most of which follow each other: which entries of a log were seen.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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

    #[cfg(any(feature = "dynamodb", test))]
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

    /// Whether all numbers from `first` to `last` are there.
    #[cfg(feature = "s3")]
    pub fn has_all(&self, first: u64, last: u64) -> bool {
        self.0.range(..=first).next_back().is_some_and(|(_, &end)| last < end)
    }

    /// Puts all numbers in from `first` on that are less than `end`.
    #[cfg(feature = "s3")]
    pub fn insert_all(&mut self, mut first: u64, mut end: u64) {
        if first >= end {
            return;
        }
        let touched = self.0.range(..=end).rev().take_while(|(_, to)| **to >= first);
        for start in touched.map(|(start, _)| *start).collect::<Vec<_>>() {
            if let Some(to) = self.0.remove(&start) {
                first = first.min(start);
                end = end.max(to);
            }
        }
        self.0.insert(first, end);
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

    #[cfg(feature = "s3")]
    proptest! {
        #[test]
        fn whole_ranges_are_put_in(
            parts in prop::collection::vec((0..60_u64, 0..12_u64), 0..20), asked in (0..70_u64, 0..9_u64),
        ) {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for (first, count) in parts {
                ranges.insert_all(first, first + count);
                set.extend(first..first + count);
            }
            prop_assert!((0..80).all(|number| ranges.has(number) == set.contains(&number)));
            let gaps = set.iter().filter(|&&n| !set.contains(&(n + 1))).count();
            prop_assert_eq!(ranges.0.len(), gaps, "neighbours are one range");
            let (first, last) = (asked.0, asked.0 + asked.1);
            let has_all = (first..=last).all(|number| set.contains(&number));
            prop_assert_eq!(ranges.has_all(first, last), has_all);
        }
    }
}
