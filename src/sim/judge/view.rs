//! What one part of a transaction knows of the others: how far, at each node, what was done there counts.
//!
//! Derived from what clients saw alone: an operation that was answered before a `continue` from its node
//! was asked for, and that `continue` was answered, is surely known where the transaction went on. What
//! overlapped may be known. In between nothing is claimed.

use std::collections::BTreeMap;

use crate::sim::history::{Attempt, Moment, Operation, What};

/// For each node, the moment up to which what was done there is known.
#[derive(Debug, Clone)]
pub(super) struct View {
    until: BTreeMap<usize, Moment>,
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
        view.merge(attempt, operation.site, operation.asked);
        view
    }

    /// The same, but nothing that was done later than this.
    pub(super) fn until(mut self, moment: Moment) -> Self {
        self.until.values_mut().for_each(|until| *until = moment.min(*until));
        self
    }

    /// Adds what is known at another node at some moment.
    pub(super) fn merge(&mut self, attempt: &Attempt, site: usize, moment: Moment) {
        let until = self.until.entry(site).or_default();
        if *until >= moment {
            return;
        }
        *until = moment;
        for operation in &attempt.operations {
            let What::Continue { upstream } = operation.what else { continue };
            if operation.site != site || !self.knows(operation) {
                continue;
            }
            let until = match self.certainty {
                Certainty::Sure => operation.asked,
                Certainty::Possible => operation.done.unwrap_or(Moment::MAX),
            };
            self.merge(attempt, upstream, until);
        }
    }

    /// Whether an operation counts.
    pub(super) fn knows(&self, operation: &Operation) -> bool {
        let until = self.until.get(&operation.site).copied().unwrap_or_default();
        match self.certainty {
            Certainty::Sure => {
                !operation.is_loose && operation.done.is_some_and(|done| done < until)
            }
            Certainty::Possible => operation.asked < until,
        }
    }
}
