//! Log positions of stores that number their log.

use bytes::Bytes;

use super::{LogPosition, StorageError};

/// The position in front of entry `sequence`; the log's first entry is 0.
pub(super) fn encode(sequence: u64) -> LogPosition {
    LogPosition(Bytes::copy_from_slice(&sequence.to_be_bytes()))
}

/// The number of the entry behind a position.
pub(super) fn decode(position: &LogPosition) -> Result<u64, StorageError> {
    if position.0.is_empty() {
        return Ok(0);
    }
    match <[u8; 8]>::try_from(&position.0[..]) {
        Ok(bytes) => Ok(u64::from_be_bytes(bytes)),
        Err(_) => Err(StorageError::Refused(
            "the log position is not one of this store; read the log from its beginning".into(),
        )),
    }
}
