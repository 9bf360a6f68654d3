//! Transaction ids.
//!
//! A *base id* names what a client wants done once; it has one outcome for ever. Each try at it is an
//! *attempt* with a name of its own: the base id itself for the first try of an id that the node
//! made, otherwise `<base id>.<nonce>`. Buffers, reads and fencing belong to the attempt, the outcome
//! belongs to the base id.

use std::fmt;
use std::sync::Arc;

use fastrand::Rng;
use uuid::Uuid;

/// The longest base id that a client may bring, in bytes.
pub const BASE_ID_BYTES_MAX: usize = 128;
const NONCE_BYTES_MAX: usize = 32;

/// Why a string is not a usable transaction id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The id has no characters.
    #[error("the transaction id is empty")]
    Empty,
    /// The id is longer than [`BASE_ID_BYTES_MAX`] plus a nonce.
    #[error("the transaction id has {0} bytes, at most {BASE_ID_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// The id holds a character that has a meaning elsewhere.
    #[error("the transaction id holds {0:?}; use letters, digits, '-', '_' and ':' only")]
    BadCharacter(char),
}

/// What a client wants done once: the unit that has one outcome.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BaseId(Arc<str>);

/// One try at a [`BaseId`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttemptId(Arc<str>);

impl BaseId {
    /// Takes the base id out of what a client sent: a base id, or the name of an earlier attempt.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        Ok(AttemptId::parse(text)?.base())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// When the id was made, in nanoseconds since the Unix epoch, if the id tells (UUID version 7).
    pub fn created_ns(&self) -> Option<u64> {
        let uuid = Uuid::try_parse(&self.0).ok()?;
        if uuid.get_version_num() != 7 {
            return None;
        }
        let (seconds, nanos) = uuid.get_timestamp()?.to_unix();
        Some(seconds.saturating_mul(1_000_000_000).saturating_add(u64::from(nanos)))
    }
}

impl AttemptId {
    /// Checks the name of an attempt as a client sent it.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let (base, nonce) = text.split_once('.').unwrap_or((text, ""));
        if base.is_empty() {
            return Err(IdError::Empty);
        }
        if base.len() > BASE_ID_BYTES_MAX || nonce.len() > NONCE_BYTES_MAX {
            return Err(IdError::TooLong(text.len()));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':');
        match base.chars().chain(nonce.chars()).find(|&c| !allowed(c)) {
            Some(c) => Err(IdError::BadCharacter(c)),
            None => Ok(Self(text.into())),
        }
    }

    /// The attempt's name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the first try of an id that a node made: no outcome can be older than it.
    pub fn is_first(&self) -> bool {
        !self.0.contains('.')
    }

    /// What this attempt tries to do.
    pub fn base(&self) -> BaseId {
        match self.0.split_once('.') {
            Some((base, _)) => BaseId(base.into()),
            None => BaseId(self.0.clone()),
        }
    }
}

impl fmt::Display for BaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for BaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Makes ids from a seed: unique among nodes as long as their seeds differ, and the same again for the
/// same seed.
#[derive(Debug)]
pub struct IdSource {
    random: Rng,
}

impl IdSource {
    /// A source for one incarnation of one node.
    pub fn new(seed: u64) -> Self {
        Self { random: Rng::with_seed(seed) }
    }

    /// A new id (UUID version 7), named after the time at which it is made.
    pub fn base(&mut self, wall_ns: u64) -> AttemptId {
        let mut random = [0; 10];
        self.random.fill(&mut random);
        let id =
            uuid::Builder::from_unix_timestamp_millis(wall_ns / 1_000_000, &random).into_uuid();
        AttemptId(id.to_string().into())
    }

    /// A new attempt at an id that was brought by a client.
    pub fn attempt(&mut self, base: &BaseId) -> AttemptId {
        AttemptId(format!("{base}.{:016x}", self.random.u64(..)).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_belongs_to_its_base() {
        let base = BaseId::parse("order-17").expect("valid");
        let attempt = IdSource::new(1).attempt(&base);
        assert_ne!(attempt.as_str(), base.as_str());
        assert_eq!(attempt.base(), base);
        assert_eq!(BaseId::parse(attempt.as_str()), Ok(base));
    }

    #[test]
    fn ids_that_would_break_storage_keys_or_messages_are_refused() {
        for text in ["", ".x", "a/b", "a~b", "a b", "é"] {
            assert!(AttemptId::parse(text).is_err(), "{text:?}");
        }
        assert!(AttemptId::parse(&"x".repeat(BASE_ID_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn a_made_id_tells_when() {
        let wall_ns = 1_790_000_000_123_456_789;
        let id = IdSource::new(7).base(wall_ns);
        assert_eq!(id.base().created_ns(), Some(1_790_000_000_123_000_000));
        assert_eq!(BaseId::parse("order-17").expect("valid").created_ns(), None);
    }

    #[test]
    fn ids_differ_within_a_source_and_between_seeds() {
        let mut seen = std::collections::HashSet::new();
        for seed in 0..20 {
            let mut source = IdSource::new(seed);
            for _ in 0..500 {
                assert!(seen.insert(source.base(5)));
            }
        }
    }
}
