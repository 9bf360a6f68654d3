//! Judges what was deleted: nothing that a transaction which was under way might still have had to read,
//! given what it had read until then, whether it went on to read it or not.
//!
//! That is not a promise: who finds a version gone tries again. But in fair weather it does not happen.

use std::collections::BTreeSet;

use super::reads::Known;
use super::view::{Certainty, View};
use super::{Judge, Seen, name};
use crate::sim::history::{Attempt, Deleted, Landed, Moment, Operation, What};
use crate::txn::{Key, Version};

impl<'a> Judge<'a> {
    pub(super) fn deletions(&mut self) {
        let history = self.history;
        let mut gone = BTreeSet::new();
        for deleted in &history.deleted {
            let needs = |attempt: &&Attempt| self.may_need(attempt, deleted, &gone);
            if let Some(attempt) = history.attempts.iter().find(needs) {
                let (name, Deleted { key, version, .. }) = (name(attempt), deleted);
                let what = format!("{name} might have had to read {key} at {version:?}, deleted");
                self.broken("what is needed stays", what);
            }
            gone.insert((&deleted.key, &deleted.version));
        }
    }

    fn may_need(
        &self,
        attempt: &'a Attempt,
        deleted: &'a Deleted,
        gone: &BTreeSet<(&Key, &Version)>,
    ) -> bool {
        let was_there = |o: &Operation| o.done.is_some_and(|done| done < deleted.moment);
        let goes_on = |o: &Operation| o.asked > deleted.moment && o.done.is_some() && !o.is_loose;
        let writes_it = |o: &Operation| matches!(&o.what, What::Write { writes } if writes.iter().any(|(key, _)| *key == deleted.key));
        let operations = &attempt.operations;
        if attempt.id.is_none()
            || !operations.iter().any(was_there)
            || operations.iter().any(writes_it)
        {
            return false;
        }
        operations.iter().filter(|operation| goes_on(operation)).any(|operation| {
            let known = self.known_until(attempt, operation, deleted.moment);
            let fits = |landed: &'a Landed| self.fits_with(&known, operation, &deleted.key, landed);
            let (mut is_fit, mut others_fit) = (false, false);
            for landed in self.landed_of(&deleted.key, deleted) {
                let version = &landed.commit.version;
                if *version == deleted.version {
                    is_fit = fits(landed);
                } else if !gone.contains(&(&deleted.key, version)) {
                    others_fit |= fits(landed);
                }
            }
            is_fit && !others_fit
        })
    }

    /// What was known where an operation was asked for, as it was at an earlier moment.
    fn known_until(
        &self,
        attempt: &'a Attempt,
        operation: &Operation,
        moment: Moment,
    ) -> Known<'a> {
        let view = View::before(attempt, operation).until(moment);
        let possible = View::of(attempt, operation.site, operation.asked, Certainty::Possible);
        self.known(attempt, &view, &possible)
    }

    fn landed_of(&self, key: &'a Key, deleted: &'a Deleted) -> impl Iterator<Item = &'a Landed> {
        let landed = self.history.landed.iter().filter(move |landed| landed.at <= deleted.at);
        landed.filter(move |landed| landed.commit.written(key).is_some())
    }

    /// Whether a version of a key can be read next to what was read before.
    pub(super) fn fits_with(
        &self,
        known: &Known<'a>,
        operation: &'a Operation,
        key: &'a Key,
        landed: &'a Landed,
    ) -> bool {
        let mut with = known.clone();
        with.entry(key).or_default().push((operation, Seen::Committed(landed)));
        self.fracture(&with).is_none()
    }
}
