//! What one part of a transaction knows of the others: how far, at each node, what was done there counts.
//!
//! Derived from what clients saw alone: an operation that was answered before a `continue` from its node
//! was asked for, and that `continue` was answered, is surely known where the transaction went on. What
//! overlapped may be known. In between nothing is claimed.

use crate::sim::history::{Attempt, Moment, Operation, What};

/// For each node, the moment up to which what was done there is known.
#[derive(Debug, Clone)]
pub(super) struct View {
    until: Vec<Moment>,
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
    /// What an attempt knows at a node, from some moment on or up to some moment.
    pub(super) fn of(attempt: &Attempt, site: usize, moment: Moment, certainty: Certainty) -> Self {
        let sites = attempt.operations.iter().map(highest).max().unwrap_or_default();
        let mut view = Self { until: vec![0; sites.max(site) + 1], certainty };
        view.merge(attempt, site, moment);
        view
    }

    /// Adds what is known at another node.
    pub(super) fn merge(&mut self, attempt: &Attempt, site: usize, moment: Moment) {
        if self.until[site] >= moment {
            return;
        }
        self.until[site] = moment;
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
        let until = self.until[operation.site];
        match self.certainty {
            Certainty::Sure => {
                !operation.is_loose && operation.done.is_some_and(|done| done < until)
            }
            Certainty::Possible => operation.asked < until,
        }
    }
}

/// The last node that an operation names.
fn highest(operation: &Operation) -> usize {
    let named = match &operation.what {
        What::Continue { upstream } => *upstream,
        What::Commit { named } => named.iter().copied().max().unwrap_or_default(),
        What::Read { .. } | What::Write { .. } => 0,
    };
    operation.site.max(named)
}
