//! Judges which value counts when branches wrote one key: that of the deeper write, and of equally deep ones
//! that on the node with the greater name.
//!
//! How deep a write was follows from what clients saw only within bounds: a `continue` that was not answered
//! may have happened, and one that brought nothing new counts for nothing. A write is said to outrank another
//! if it does so wherever in these bounds the two are.

use super::reads::sure_writes;
use super::view::{Certainty, View};
use crate::sim::history::{Attempt, Moment, Operation, What};
use crate::txn::Key;

/// Beyond so many, ways are not followed one by one.
const CONTINUES_MAX: usize = 14;

/// A write of this key, among those that a view knows, that counts and not `write`.
pub(super) fn outranking<'a>(
    attempt: &'a Attempt,
    view: &View,
    key: &Key,
    write: &Operation,
) -> Option<&'a Operation> {
    let mut others = sure_writes(attempt, view, key).filter(|other| other.site != write.site);
    let first = others.next()?;
    let deepest = at_most(attempt, write);
    // The names of the nodes of a simulation are in the order of their numbers.
    let outranks = |other: &&Operation| {
        let least = at_least(attempt, other.site, other.asked);
        least > deepest || (least == deepest && other.site > write.site)
    };
    std::iter::once(first).chain(others).find(outranks)
}

fn continues(attempt: &Attempt, at: usize) -> impl Iterator<Item = (&Operation, usize)> {
    attempt.operations.iter().filter_map(move |operation| match operation.what {
        What::Continue { upstream } if operation.site == at => Some((operation, upstream)),
        _ => None,
    })
}

/// How many nodes an operation had before it, on the longest way that can have been.
fn at_most(attempt: &Attempt, operation: &Operation) -> usize {
    let all = attempt.operations.iter().filter(|o| matches!(o.what, What::Continue { .. }));
    let count = all.count();
    if count > CONTINUES_MAX {
        return count;
    }
    longest_way(attempt, operation.site, operation.done.unwrap_or(Moment::MAX), &mut Vec::new())
}

/// The longest way to a node, of `continue`s that may have been done before `until`. None happens twice.
fn longest_way<'a>(
    attempt: &'a Attempt,
    site: usize,
    until: Moment,
    taken: &mut Vec<&'a Operation>,
) -> usize {
    let mut longest = 0;
    for (operation, upstream) in continues(attempt, site) {
        if operation.asked >= until || taken.contains(&operation) {
            continue;
        }
        taken.push(operation);
        let before = until.min(operation.done.unwrap_or(Moment::MAX));
        longest = longest.max(1 + longest_way(attempt, upstream, before, taken));
        taken.pop();
    }
    longest
}

/// How many nodes were before what was done at a node at some moment, at least.
fn at_least(attempt: &Attempt, site: usize, until: Moment) -> usize {
    let sure = continues(attempt, site).filter(|(operation, upstream)| {
        !operation.is_loose
            && operation.done.is_some_and(|done| done < until)
            && has_brought_news(attempt, operation, *upstream)
    });
    let ways = sure.map(|(operation, from)| 1 + at_least(attempt, from, operation.asked));
    ways.max().unwrap_or(0)
}

/// Whether the attempt was not at the node before, or surely learned there of something.
fn has_brought_news(attempt: &Attempt, operation: &Operation, upstream: usize) -> bool {
    let done = operation.done.unwrap_or(Moment::MAX);
    let others = continues(attempt, operation.site);
    let before = others.filter(|(other, _)| *other != operation && other.asked < done);
    let before: Vec<View> = before
        .map(|(other, from)| {
            View::of(attempt, from, other.done.unwrap_or(Moment::MAX), Certainty::Possible)
        })
        .collect();
    if before.is_empty() && operation.site != attempt.site {
        return true;
    }
    let brought = View::of(attempt, upstream, operation.asked, Certainty::Sure);
    attempt.operations.iter().any(|step| {
        matches!(step.what, What::Read { .. } | What::Write { .. })
            && step.site != operation.site
            && brought.knows(step)
            && !before.iter().any(|view| view.knows(step))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::history::Floor;

    /// An attempt that began at node 0 and did these things one after the other: at which node, and where
    /// it came from or what it wrote to `k`.
    fn attempt(steps: &[(usize, Result<usize, u64>)]) -> Attempt {
        let key = Key::parse("k").unwrap();
        let operations = (1..).zip(steps).map(|(number, (site, step))| Operation {
            site: *site,
            asked: 2 * number,
            done: Some(2 * number + 1),
            is_loose: false,
            what: match *step {
                Ok(upstream) => What::Continue { upstream },
                Err(value) => What::Write { writes: vec![(key.clone(), value)] },
            },
        });
        let floor = Floor { promise: "", versions: Default::default() };
        let operations = operations.collect();
        Attempt { id: None, site: 0, floor, operations, verdicts: Vec::new() }
    }

    fn winner(attempt: &Attempt, at: usize) -> u64 {
        let view = View::of(attempt, at, Moment::MAX, Certainty::Sure);
        let key = Key::parse("k").unwrap();
        let writes = attempt.operations.iter().filter_map(|operation| match &operation.what {
            What::Write { writes } => Some((operation, writes[0].1)),
            _ => None,
        });
        let mut last = writes.filter(|(w, _)| outranking(attempt, &view, &key, w).is_none());
        let (_, value) = last.next().expect("one counts");
        assert_eq!(last.next(), None, "only one");
        value
    }

    #[test]
    fn the_deeper_write_counts_and_then_the_greater_name() {
        // 0 to 1 and to 2, both write, 3 joins them.
        let flat =
            attempt(&[(2, Ok(0)), (2, Err(2)), (1, Ok(0)), (1, Err(1)), (3, Ok(1)), (3, Ok(2))]);
        assert_eq!(winner(&flat, 3), 2);
        // 0 to 2 to 1, and 0 to 3.
        let deep =
            [(2, Ok(0)), (1, Ok(2)), (1, Err(1)), (3, Ok(0)), (3, Err(3)), (4, Ok(1)), (4, Ok(3))];
        assert_eq!(winner(&attempt(&deep), 4), 1);
        // 0 to 1 and back, which brings it to a depth of two; and 0 to 3 before that.
        let back = [
            (3, Ok(0)),
            (3, Err(3)),
            (1, Ok(0)),
            (1, Err(9)),
            (0, Ok(1)),
            (0, Err(1)),
            (4, Ok(0)),
            (4, Ok(3)),
        ];
        let back = attempt(&back);
        let view = View::of(&back, 4, Moment::MAX, Certainty::Sure);
        let key = Key::parse("k").unwrap();
        let outranked = |place: usize| outranking(&back, &view, &key, &back.operations[place]);
        assert!(outranked(1).is_some() && outranked(5).is_none());
    }
}
