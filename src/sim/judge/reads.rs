//! Judges what was read.

use std::collections::BTreeMap;
use std::time::Duration;

use super::depth::outranking;
use super::view::{Certainty, View};
use super::{Judge, Seen, name};
use crate::sim::history::{Attempt, Moment, Operation, Value, What};
use crate::txn::Key;

/// What an attempt knows to have read: for each key what was seen, and by which operation.
pub(super) type Known<'a> = BTreeMap<&'a Key, Vec<(&'a Operation, Seen<'a>)>>;

impl<'a> Judge<'a> {
    pub(super) fn reads(&mut self, attempt: &'a Attempt) {
        for operation in &attempt.operations {
            let (What::Read { seen, at }, Some(done)) = (&operation.what, operation.done) else {
                continue;
            };
            let view = View::before(attempt, operation);
            let possible = View::of(attempt, operation.site, done, Certainty::Possible);
            let mut known = self.known(attempt, &view, &possible);
            for (key, value) in seen {
                if let Some(seen) = self.read(attempt, operation, &view, key, *value, *at) {
                    self.is_repeated(attempt, &known, key, &seen);
                    known.insert(key, vec![(operation, seen)]);
                }
            }
            self.fractures(attempt, &known);
        }
    }

    /// What a view knows to have been read: what was read again later stands for what was read before.
    ///
    /// A key that was missing and is asked for again is missing no more, whether an answer comes or not.
    pub(super) fn known(&self, attempt: &'a Attempt, view: &View, possible: &View) -> Known<'a> {
        let mut known = Known::new();
        for operation in attempt.operations.iter().filter(|operation| view.knows(operation)) {
            let What::Read { seen, .. } = &operation.what else { continue };
            let before = View::before(attempt, operation);
            for (key, value) in seen {
                if value.is_some_and(|value| own_write(attempt, key, value).is_some()) {
                    continue;
                }
                let Some(seen) = self.classify(key, *value) else { continue };
                let of_key = known.entry(key).or_default();
                // Two at one node at one time may have been done in either order, but what was there once
                // is not missing later.
                let is_first = |(earlier, other): &(&Operation, Seen<'_>)| {
                    earlier.site == operation.site
                        && !before.knows(earlier)
                        && !matches!(other, Seen::Missing)
                };
                if matches!(seen, Seen::Missing) && of_key.iter().any(is_first) {
                    continue;
                }
                of_key.retain(|(earlier, _)| {
                    !before.knows(earlier) && earlier.site != operation.site
                });
                of_key.push((operation, seen));
            }
        }
        for (key, all) in &mut known {
            all.retain(|(earlier, seen)| {
                !matches!(seen, Seen::Missing) || !is_asked_again(attempt, possible, key, earlier)
            });
        }
        known
    }

    /// What a value is, if it is neither an own write nor dirty.
    fn classify(&self, key: &Key, value: Option<Value>) -> Option<Seen<'a>> {
        let Some(value) = value else { return Some(Seen::Missing) };
        if self.history.foreign.get(&value) == Some(key) {
            return Some(Seen::Foreign(value));
        }
        let (landed, of) = self.by_value.get(&value)?;
        (*of == key).then_some(Seen::Committed(landed))
    }

    /// One key of a read. Answers what it was, if it was not the attempt's own.
    fn read(
        &mut self,
        attempt: &'a Attempt,
        operation: &'a Operation,
        view: &View,
        key: &'a Key,
        value: Option<Value>,
        at: Duration,
    ) -> Option<Seen<'a>> {
        let own = value.and_then(|value| own_write(attempt, key, value));
        if let (Some(write), Some(value)) = (own, value) {
            self.own_write_is_right(attempt, operation, view, key, write, value);
            return None;
        }
        if let Some(lost) = sure_writes(attempt, view, key).next() {
            let what = format!(
                "{} wrote {:?} to {key} and read {value:?}",
                name(attempt),
                value_of(lost, key)
            );
            self.broken("read your writes", what);
            return None;
        }
        let Some(seen) = self.classify(key, value) else {
            let what = format!("{} read {value:?} of {key}, not committed", name(attempt));
            self.broken("no dirty reads", what);
            return None;
        };
        if let Seen::Committed(landed) = &seen
            && landed.at > at
        {
            let what = format!("{} read {value:?} of {key}, not committed then", name(attempt));
            self.broken("no dirty reads", what);
        }
        self.is_above_floor(attempt, operation, key, &seen);
        Some(seen)
    }

    fn own_write_is_right(
        &mut self,
        attempt: &'a Attempt,
        operation: &Operation,
        view: &View,
        key: &Key,
        write: &Operation,
        value: Value,
    ) {
        let until = operation.done.unwrap_or(Moment::MAX);
        let possible = View::of(attempt, operation.site, until, Certainty::Possible);
        let name = name(attempt);
        if !possible.knows(write) {
            let what = format!("{name} read {value} of {key}, written in a branch not merged");
            return self.broken("branches are apart until they are merged", what);
        }
        let newer =
            sure_writes(attempt, view, key).find(|newer| is_surely_before(attempt, write, newer));
        if value_of(write, key) != Some(value) || newer.is_some() {
            let what = format!("{name} read its own {value} of {key}, and wrote a later one");
            self.broken("read your writes", what);
        }
        if let Some(other) = outranking(attempt, view, key, write) {
            let other = value_of(other, key);
            let what = format!("{name} read its own {value} of {key}, and {other:?} was deeper");
            self.broken("the deeper write counts", what);
        }
    }

    /// What was read once is read again, on whatever node.
    fn is_repeated(&mut self, attempt: &Attempt, known: &Known<'a>, key: &Key, seen: &Seen<'a>) {
        let before = known.get(key).map(Vec::as_slice).unwrap_or_default();
        let differs = before.iter().any(|(_, before)| match (before, seen) {
            (Seen::Missing, _) => false,
            (Seen::Committed(before), Seen::Committed(after)) => {
                before.commit.version != after.commit.version
            }
            (Seen::Foreign(before), Seen::Foreign(after)) => before != after,
            _ => true,
        });
        if differs {
            let what = format!("{} read two versions of {key}", name(attempt));
            self.broken("repeatable reads", what);
        }
    }

    fn is_above_floor(
        &mut self,
        attempt: &Attempt,
        operation: &Operation,
        key: &Key,
        seen: &Seen<'a>,
    ) {
        // Where the attempt began, as long as nothing that it read elsewhere binds it.
        let is_bound = attempt.operations.iter().any(|other| {
            matches!(other.what, What::Continue { .. })
                && other.site == attempt.site
                && operation.done.is_none_or(|done| other.asked < done)
        });
        if operation.site != attempt.site || is_bound {
            return;
        }
        if let Some(floor) = attempt.floor.versions.get(key)
            && seen.version().is_none_or(|version| version < floor)
        {
            let what = format!("{} read {seen} of {key} and not {floor:?} or newer", name(attempt));
            self.broken(attempt.floor.promise, what);
        }
    }

    /// Nothing read stands next to an older version, or the absence, of a key that was written with it.
    pub(super) fn fractures(&mut self, attempt: &Attempt, known: &Known<'a>) {
        if let Some(what) = self.fracture(known) {
            self.broken("no fractured reads", format!("{} read {what}", name(attempt)));
        }
    }

    /// The first contradiction in what is known to have been read.
    pub(super) fn fracture(&self, known: &Known<'a>) -> Option<String> {
        for (key, all) in known {
            if let Some(((_, one), (_, other))) = all.first().zip(all.last())
                && !one.is_same(other)
            {
                return Some(format!("{key} as {one} and as {other}"));
            }
            for (_, seen) in all {
                let Seen::Committed(landed) = seen else { continue };
                for written in landed.commit.keys.iter().filter(|written| written.key != **key) {
                    let others = known.get(&written.key).map(Vec::as_slice).unwrap_or_default();
                    let is_older = |seen: &Seen<'_>| {
                        seen.version().is_none_or(|version| *version < landed.commit.version)
                    };
                    if let Some((_, other)) = others.iter().find(|(_, other)| is_older(other)) {
                        let of = &written.key;
                        return Some(format!("{key} as {seen}, but {of} as {other}"));
                    }
                }
            }
        }
        None
    }
}

/// The write of an attempt that wrote a value.
fn own_write<'a>(attempt: &'a Attempt, key: &Key, value: Value) -> Option<&'a Operation> {
    attempt.id.as_ref()?;
    attempt.operations.iter().find(|operation| {
        matches!(&operation.what, What::Write { writes }
            if writes.iter().any(|(of, wrote)| of == key && *wrote == value))
    })
}

/// Whether a key may have been asked for after an operation.
fn is_asked_again(attempt: &Attempt, possible: &View, key: &Key, earlier: &Operation) -> bool {
    attempt.operations.iter().any(|operation| {
        operation.asked > earlier.asked
            && possible.knows(operation)
            && matches!(&operation.what, What::Read { seen, .. }
                if seen.iter().any(|(asked, _)| asked == key))
    })
}

/// Writes of a key that a view knows.
pub(super) fn sure_writes<'a>(
    attempt: &'a Attempt,
    view: &View,
    key: &Key,
) -> impl Iterator<Item = &'a Operation> {
    attempt
        .operations
        .iter()
        .filter(|operation| value_of(operation, key).is_some() && view.knows(operation))
}

/// What an operation wrote to a key, in the end.
pub(super) fn value_of(operation: &Operation, key: &Key) -> Option<Value> {
    let What::Write { writes } = &operation.what else { return None };
    writes.iter().rev().find(|(of, _)| of == key).map(|(_, value)| *value)
}

/// Whether whoever asked for the second knew of the first.
pub(super) fn is_surely_before(attempt: &Attempt, one: &Operation, other: &Operation) -> bool {
    let view = View::before(attempt, other);
    let done = Operation { is_loose: false, ..one.clone() };
    view.knows(&done)
}
