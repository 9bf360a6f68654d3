//! Judges what was committed: all that the merged branches wrote, over reads that fit together.
//!
//! Which branches those are depends on where the commit was asked for and what it named. If it was asked for
//! more than once, or where the transaction had gone on from, each possibility counts, and one must fit.

use std::collections::{BTreeMap, BTreeSet};

use super::depth::outranking;
use super::reads::{is_surely_before, sure_writes, value_of};
use super::view::{Certainty, View};
use super::{Judge, Seen, name};
use crate::sim::history::{Attempt, Landed, Moment, Operation, Value, What};
use crate::txn::Key;

/// One way in which a commit can have come about.
struct Candidate {
    sure: View,
    possible: View,
    asked: Moment,
}

type Broken = (&'static str, String);

impl<'a> Judge<'a> {
    pub(super) fn commit(&mut self, attempt: &'a Attempt) {
        let Some(landed) = self.commit_of(attempt) else {
            return;
        };
        if attempt.id.is_none() {
            return self.lone_write(attempt, landed);
        }
        let mut first = None;
        for candidate in candidates(attempt) {
            match self.fits(attempt, landed, &candidate) {
                None => return,
                broken => first = first.or(broken),
            }
        }
        let (promise, what) = first
            .unwrap_or_else(|| ("all or nothing", format!("{} committed unasked", name(attempt))));
        self.broken(promise, what);
    }

    fn lone_write(&mut self, attempt: &Attempt, landed: &Landed) {
        let mut wrote = BTreeMap::new();
        for operation in &attempt.operations {
            if let What::Write { writes } = &operation.what {
                wrote.extend(writes.iter().map(|(key, value)| (key, *value)));
            }
        }
        let stored = stored(landed);
        if stored != wrote {
            let what = format!("a lone put wrote {wrote:?} and committed {stored:?}");
            self.broken("all or nothing", what);
        }
    }

    /// What a commit breaks, if it came about in this way.
    fn fits(
        &self,
        attempt: &'a Attempt,
        landed: &'a Landed,
        candidate: &Candidate,
    ) -> Option<Broken> {
        let name = name(attempt);
        let stored = stored(landed);
        let mut sites = BTreeSet::new();
        for (key, value) in &stored {
            let write = attempt.operations.iter().find(|o| value_of(o, key) == Some(*value));
            let Some(write) = write else {
                return Some(("all or nothing", format!("{name} committed {value} of {key}")));
            };
            if !candidate.possible.knows(write) {
                let what = format!("{name} committed {value} of {key}, of a branch not merged");
                return Some(("all or nothing", what));
            }
            let mut sure = sure_writes(attempt, &candidate.sure, key);
            if let Some(newer) = sure.find(|newer| is_surely_before(attempt, write, newer)) {
                let newer = value_of(newer, key);
                let what = format!("{name} committed {value} of {key}, and wrote {newer:?} later");
                return Some(("all or nothing", what));
            }
            if let Some(other) = outranking(attempt, &candidate.sure, key, write) {
                let other = value_of(other, key);
                let what = format!("{name} committed {value} of {key}, and {other:?} was deeper");
                return Some(("the deeper write counts", what));
            }
            sites.insert(write.site);
        }
        for operation in attempt.operations.iter().filter(|o| candidate.sure.knows(o)) {
            let What::Write { writes } = &operation.what else { continue };
            if let Some((key, value)) = writes.iter().find(|(key, _)| !stored.contains_key(key)) {
                let what = format!("{name} committed without {key}, to which it wrote {value}");
                return Some(("all or nothing", what));
            }
        }
        self.late_writes(attempt, candidate, &sites)
            .or_else(|| self.committed_reads(attempt, landed, candidate))
    }

    /// A write is not lost because the transaction had gone on from its node before.
    fn late_writes(
        &self,
        attempt: &Attempt,
        candidate: &Candidate,
        sites: &BTreeSet<usize>,
    ) -> Option<Broken> {
        let is_lost = |operation: &&Operation| {
            matches!(operation.what, What::Write { .. })
                && operation.done.is_some_and(|done| done < candidate.asked)
                && !candidate.possible.knows(operation)
                // Only from such nodes something was collected when the commit was made.
                && sites.contains(&operation.site)
        };
        let lost = attempt.operations.iter().find(is_lost)?;
        let what =
            format!("{} committed without what it wrote late: {:?}", name(attempt), lost.what);
        Some(("all or nothing", what))
    }

    fn committed_reads(
        &self,
        attempt: &'a Attempt,
        landed: &Landed,
        candidate: &Candidate,
    ) -> Option<Broken> {
        let known = self.known(attempt, &candidate.sure, &candidate.possible);
        if let Some(what) = self.fracture(&known) {
            return Some(("no fractured reads", format!("{} read {what}", name(attempt))));
        }
        let newest = known.values().flatten().filter_map(|(_, seen)| seen.version()).max();
        if newest.is_some_and(|newest| newest.timestamp >= landed.commit.version.timestamp) {
            let what = format!("{} is not newer than what it read", name(attempt));
            return Some(("committed means newer", what));
        }
        None
    }

    /// The commit of an attempt; for a request without a transaction, found by what it wrote.
    pub(super) fn commit_of(&self, attempt: &Attempt) -> Option<&'a Landed> {
        if let Some(id) = &attempt.id {
            return self.by_attempt.get(id).copied();
        }
        let values = attempt.operations.iter().flat_map(|operation| match &operation.what {
            What::Write { writes } => writes.as_slice(),
            _ => &[],
        });
        values
            .into_iter()
            .find_map(|(_, value)| self.by_value.get(value))
            .map(|(landed, _)| *landed)
    }
}

fn stored(landed: &Landed) -> BTreeMap<&Key, Value> {
    let pairs = landed.commit.keys.iter().zip(&landed.values);
    pairs.filter_map(|(written, value)| Some((&written.key, (*value)?))).collect()
}

/// All ways in which an attempt can have committed.
fn candidates(attempt: &Attempt) -> impl Iterator<Item = Candidate> {
    attempt.operations.iter().flat_map(move |operation| {
        let What::Commit { named } = &operation.what else { return Vec::new() };
        let sites = coordinators(attempt, operation, named);
        sites.into_iter().map(|site| candidate(attempt, operation.asked, site, named)).collect()
    })
}

fn candidate(attempt: &Attempt, asked: Moment, site: usize, named: &[usize]) -> Candidate {
    let mut sure = View::of(attempt, site, asked, Certainty::Sure);
    let mut possible = View::of(attempt, site, Moment::MAX, Certainty::Possible);
    for other in named {
        sure.merge(attempt, *other, asked);
        possible.merge(attempt, *other, Moment::MAX);
    }
    Candidate { sure, possible, asked }
}

/// The nodes that can have made a commit that was asked for at one of them: this one, or those to which
/// the transaction had gone on, or those that were named, if it did not run here.
fn coordinators(attempt: &Attempt, commit: &Operation, named: &[usize]) -> Vec<usize> {
    let continues = |operation: &&Operation| matches!(operation.what, What::Continue { .. });
    let gone_on = |site: usize| {
        let out = attempt.operations.iter().filter(continues).filter(move |operation| {
            matches!(operation.what, What::Continue { upstream } if upstream == site)
                && operation.site != site
        });
        out.map(|operation| operation.site)
    };
    let is_certain = |operation: &Operation| {
        operation.done.is_some_and(|done| done < commit.asked) && !operation.is_loose
    };
    let came_back = attempt
        .operations
        .iter()
        .filter(continues)
        .any(|operation| operation.site == commit.site && is_certain(operation));
    let surely_gone = attempt.operations.iter().filter(continues).any(|operation| {
        matches!(operation.what, What::Continue { upstream } if upstream == commit.site)
            && operation.site != commit.site
            && is_certain(operation)
    });
    let mut sites = Vec::new();
    if !surely_gone || came_back || !named.is_empty() {
        sites.push(commit.site);
    }
    let mut open: Vec<_> = gone_on(commit.site).chain(named.iter().copied()).collect();
    while let Some(site) = open.pop() {
        if !sites.contains(&site) {
            sites.push(site);
            open.extend(gone_on(site));
        }
    }
    sites
}

impl Seen<'_> {
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Seen::Missing, Seen::Missing) => true,
            (Seen::Foreign(one), Seen::Foreign(other)) => one == other,
            (Seen::Committed(one), Seen::Committed(other)) => {
                one.commit.version == other.commit.version
            }
            _ => false,
        }
    }
}
