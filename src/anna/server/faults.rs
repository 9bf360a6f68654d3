//! What a server is told to do wrong, so that tests can see how clients bear it.

use std::time::Duration;

use fastrand::Rng;
use serde::{Deserialize, Serialize};

/// How a server misbehaves; not at all by default. Fractions are between 0 and 1 and are drawn for
/// each request, reply or key anew.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Misbehaviour {
    /// The fraction of requests that are lost before they are served.
    pub drop_requests: f64,
    /// The fraction of replies that are lost. What they answer was done.
    pub drop_replies: f64,
    /// Replies leave so many milliseconds late: at least, and at most.
    pub delay_ms: (u64, u64),
    /// The fraction of replies that are sent twice.
    pub twice: f64,
    /// The fraction of replies that are overtaken by the next one.
    pub reorder: f64,
    /// The fraction of keys that are not served but answered `WRONG_THREAD`.
    pub wrong_thread: f64,
    /// Routing knows of no storage node.
    pub no_servers: bool,
    /// All requests are lost.
    pub silent: bool,
    /// Begins the sequence of random numbers: requests that come in the same order meet the same
    /// faults. A server that is given none goes on with the sequence it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// A [`Misbehaviour`] that cannot be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MisbehaviourError {
    /// A fraction outside of its bounds.
    #[error("{name} is {value}: it must be between 0 and 1")]
    Fraction {
        /// Which.
        name: &'static str,
        /// Its value.
        value: f64,
    },
    /// The shortest delay is longer than the longest.
    #[error("delay_ms begins with the longer delay: {0} is above {1}")]
    Delay(u64, u64),
}

impl Misbehaviour {
    /// Whether every value is within its bounds.
    pub fn check(&self) -> Result<(), MisbehaviourError> {
        let fractions = [
            ("drop_requests", self.drop_requests),
            ("drop_replies", self.drop_replies),
            ("twice", self.twice),
            ("reorder", self.reorder),
            ("wrong_thread", self.wrong_thread),
        ];
        for (name, value) in fractions {
            if !(0.0..=1.0).contains(&value) {
                return Err(MisbehaviourError::Fraction { name, value });
            }
        }
        let (shortest, longest) = self.delay_ms;
        if shortest > longest {
            return Err(MisbehaviourError::Delay(shortest, longest));
        }
        Ok(())
    }
}

/// Decides what goes wrong.
pub(super) struct Faults {
    settings: Misbehaviour,
    rng: Rng,
}

impl Faults {
    pub fn new(settings: Misbehaviour) -> Self {
        let rng = Rng::with_seed(settings.seed.unwrap_or_default());
        Self { settings, rng }
    }

    pub fn settings(&self) -> &Misbehaviour {
        &self.settings
    }

    pub fn change(&mut self, settings: Misbehaviour) {
        if let Some(seed) = settings.seed {
            self.rng = Rng::with_seed(seed);
        }
        self.settings = settings;
    }

    pub fn drops_request(&mut self) -> bool {
        self.settings.silent || self.hits(self.settings.drop_requests)
    }

    pub fn drops_reply(&mut self) -> bool {
        self.hits(self.settings.drop_replies)
    }

    pub fn sends_twice(&mut self) -> bool {
        self.hits(self.settings.twice)
    }

    pub fn reorders(&mut self) -> bool {
        self.hits(self.settings.reorder)
    }

    pub fn misplaces_key(&mut self) -> bool {
        self.hits(self.settings.wrong_thread)
    }

    pub fn delay(&mut self) -> Duration {
        let (shortest, longest) = self.settings.delay_ms;
        if longest == 0 {
            return Duration::ZERO;
        }
        let micros = shortest.saturating_mul(1000)..=longest.saturating_mul(1000);
        Duration::from_micros(self.rng.u64(micros))
    }

    /// Puts things that Anna sends in no particular order into one.
    pub fn shuffle<T>(&mut self, things: &mut [T]) {
        self.rng.shuffle(things);
    }

    fn hits(&mut self, fraction: f64) -> bool {
        fraction > 0.0 && self.rng.f64() < fraction
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_and_delays_have_bounds() {
        assert_eq!(Misbehaviour::default().check(), Ok(()));
        for value in [-0.1, 1.1, f64::NAN] {
            let refused = Misbehaviour { twice: value, ..Misbehaviour::default() }.check();
            assert!(matches!(refused, Err(MisbehaviourError::Fraction { name: "twice", .. })));
        }
        let refused = Misbehaviour { delay_ms: (2, 1), ..Misbehaviour::default() }.check();
        assert_eq!(refused, Err(MisbehaviourError::Delay(2, 1)));
    }

    #[test]
    fn a_seed_repeats_what_it_did() {
        let half = Misbehaviour { drop_replies: 0.5, seed: Some(7), ..Misbehaviour::default() };
        let mut faults = Faults::new(half.clone());
        let draw =
            |faults: &mut Faults| -> Vec<bool> { (0..100).map(|_| faults.drops_reply()).collect() };
        let first = draw(&mut faults);
        faults.change(Misbehaviour { seed: None, ..half.clone() });
        assert_ne!(draw(&mut faults), first);
        faults.change(half);
        assert_eq!(draw(&mut faults), first);
        let hits = first.iter().filter(|hit| **hit).count();
        assert!((25..75).contains(&hits), "{hits} of 100");
    }
}
