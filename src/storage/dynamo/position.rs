//! Positions: how far a follower has read each log.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::storage::ranges::Ranges;
use crate::storage::{LogPosition, StorageError};

/// How far each log was read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// The closed logs were read when this was the count of closings.
    pub closings: Option<u64>,
    pub marks: BTreeMap<String, Mark>,
}

/// How far one log was read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// All entries before this one were read when they were settled.
    pub done: u64,
    /// All entries before this one are settled, as an entry said that was read.
    pub low: u64,
    /// Entries from `done` on that need not be looked at again.
    pub seen: Ranges,
}

impl Position {
    pub fn decode(position: &LogPosition) -> Result<Self, StorageError> {
        if position.0.is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_slice(&position.0).map_err(|_| {
            StorageError::Refused(
                "the log position is not one of this store; read the log from its beginning".into(),
            )
        })
    }

    pub fn encode(&self) -> Result<LogPosition, StorageError> {
        let bytes = serde_json::to_vec(self)
            .map_err(|error| StorageError::Refused(format!("a log position: {error}")))?;
        Ok(LogPosition(bytes.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_come_back_and_others_are_refused() {
        let mut position = Position::default();
        let mark = position.marks.entry("log".into()).or_default();
        (mark.done, mark.low) = (7, 9);
        mark.seen.insert(8);
        let encoded = position.encode().unwrap();
        assert_eq!(Position::decode(&encoded), Ok(position));
        assert!(Position::decode(&LogPosition(bytes::Bytes::from_static(b"\0\x01"))).is_err());
    }
}
