//! What one part of a transaction knows of the others: how far, at each node, what was done there counts.
//!
//! Derived from what clients saw alone: an operation that was answered before a `continue` from its node
//! was asked for, and that `continue` was answered, is surely known where the transaction went on. What
//! overlapped may be known. In between nothing is claimed.
//!
//! What was done in an earlier life of a node is not surely known there: nobody but those to whom the
//! transaction went on from there can know that it is lost.

use std::collections::BTreeMap;

use crate::sim::history::{Attempt, Moment, Operation, What};

/// For each node and life, the moment up to which what was done there is known.
#[derive(Debug, Clone)]
pub(super) struct View {
    until: BTreeMap<(usize, u64), Moment>,
    certainty: Certainty,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Certainty {
    /// What is surely known.
    Sure,
    /// What may be known.
    Possible,
}

impl View {
    /// What an attempt knows at a node at some moment.
    pub(super) fn of(attempt: &Attempt, site: usize, moment: Moment, certainty: Certainty) -> Self {
        let mut view = Self { until: BTreeMap::new(), certainty };
        view.merge(attempt, site, moment);
        view
    }

    /// What is surely known to an operation.
    pub(super) fn before(attempt: &Attempt, operation: &Operation) -> Self {
        let mut view = Self { until: BTreeMap::new(), certainty: Certainty::Sure };
        view.extend(attempt, operation.site, operation.life, operation.asked);
        view
    }

    /// Adds what is known at another node at some moment.
    pub(super) fn merge(&mut self, attempt: &Attempt, site: usize, moment: Moment) {
        let here = attempt.operations.iter().filter(|operation| operation.site == site);
        let last = here
            .filter(|operation| operation.done.is_some_and(|done| done <= moment))
            .max_by_key(|operation| operation.done);
        self.extend(attempt, site, last.map_or(0, |operation| operation.life), moment);
    }

    fn extend(&mut self, attempt: &Attempt, site: usize, life: u64, moment: Moment) {
        let place = self.place(site, life);
        let until = self.until.entry(place).or_default();
        if *until >= moment {
            return;
        }
        *until = moment;
        for operation in &attempt.operations {
            let What::Continue { upstream, life } = operation.what else { continue };
            if self.place(operation.site, operation.life) != place || !self.knows(operation) {
                continue;
            }
            let until = match self.certainty {
                Certainty::Sure => operation.asked,
                Certainty::Possible => operation.done.unwrap_or(Moment::MAX),
            };
            self.extend(attempt, upstream, life, until);
        }
    }

    /// What is possible is possible in any life.
    fn place(&self, site: usize, life: u64) -> (usize, u64) {
        match self.certainty {
            Certainty::Sure => (site, life),
            Certainty::Possible => (site, 0),
        }
    }

    /// Whether an operation counts.
    pub(super) fn knows(&self, operation: &Operation) -> bool {
        let place = self.place(operation.site, operation.life);
        let until = self.until.get(&place).copied().unwrap_or_default();
        match self.certainty {
            Certainty::Sure => {
                !operation.is_loose && operation.done.is_some_and(|done| done < until)
            }
            Certainty::Possible => operation.asked < until,
        }
    }
}
