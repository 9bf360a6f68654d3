//! Counts reads that were refused although there was something to read. That breaks no promise: the
//! transaction is tried again. It should be rare, and collecting garbage should not make it less so.

use super::view::{Certainty, View};
use super::{Judge, Seen};
use crate::sim::history::{History, Refused, What};

/// The reads that were refused although a version had been committed that fits what clients saw.
pub fn refused_in_vain(history: &History) -> Vec<&Refused> {
    let judge = Judge::new(history);
    history.refused.iter().filter(|refused| judge.had_a_choice(refused)).collect()
}

impl<'a> Judge<'a> {
    fn had_a_choice(&self, refused: &'a Refused) -> bool {
        let attempt = self.history.attempts.get(refused.attempt);
        let Some(attempt) = attempt else { return false };
        let Some(operation) = attempt.operations.get(refused.operation) else { return false };
        let view = View::before(attempt, operation);
        let possible = View::of(attempt, operation.site, operation.asked, Certainty::Possible);
        let mut known = self.known(attempt, &view, &possible);
        // What was missing and is asked for again with this read is missing no more.
        if let What::Read { seen, .. } = &operation.what {
            for (key, _) in seen {
                let all = known.entry(key).or_default();
                all.retain(|(_, seen)| !matches!(seen, Seen::Missing));
            }
        }
        let landed = self.history.landed.iter().filter(|landed| landed.at <= refused.at);
        let mut landed = landed.filter(|landed| landed.commit.written(&refused.key).is_some());
        landed.any(|landed| self.fits_with(&known, operation, &refused.key, landed))
    }
}
