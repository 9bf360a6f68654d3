//! How an id was decided, as it stands in the store. It is written once and never changed, so that
//! collecting a commit need not write it again.
//!
//! ```text
//! committed = entry:u64 remains     entry: the number of the commit's log entry, big endian, below 2^56
//!                                   remains: its `TransactionRecord` with an empty write set
//! aborted   = `TransactionRecord`
//! ```
//!
//! An encoded record never begins with a zero, and the number of an entry always does.

use bytes::Bytes;

use crate::storage::{codec, remains};
use crate::txn::{Commit, Timestamp};

const ENTRY_BYTES: usize = 8;

/// An outcome as stored.
pub(super) struct Decided {
    /// Where the log has the commit, until it is collected.
    pub entry: Option<u64>,
    /// What is known of the outcome without that.
    pub record: Bytes,
}

/// That a commit took effect.
pub(super) fn committed(entry: u64, commit: &Commit) -> Vec<u8> {
    let id = commit.version.writer.base();
    let remains = codec::encode_outcome(&id, &remains::of(commit));
    [&entry.to_be_bytes()[..], &remains].concat()
}

impl Decided {
    pub fn read(mut stored: Bytes) -> Self {
        match stored.first_chunk::<ENTRY_BYTES>() {
            Some(entry @ [0, ..]) => {
                let entry = Some(u64::from_be_bytes(*entry));
                Self { entry, record: stored.split_off(ENTRY_BYTES) }
            }
            _ => Self { entry: None, record: stored },
        }
    }

    /// When it was decided, if it says.
    pub fn at(&self) -> Option<Timestamp> {
        codec::recorded_at(&self.record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::txn::{AttemptId, BaseId, Outcome, Version};

    #[test]
    fn an_outcome_is_read_as_it_was_written() {
        let writer = AttemptId::parse("id.nonce").unwrap();
        let version = Version { timestamp: Timestamp(7), writer };
        let commit = Commit::new(version, Vec::new(), "127.0.0.1".into());
        let id = BaseId::parse("id").unwrap();
        for entry in [0, 10, (1 << 56) - 1] {
            let read = Decided::read(committed(entry, &commit).into());
            assert_eq!((read.entry, read.at()), (Some(entry), Some(Timestamp(7))));
            let outcome = codec::decode_outcome(&id, read.record).unwrap();
            assert_eq!(outcome, Outcome::Committed(commit.clone().into()));
        }
        let read = Decided::read(codec::encode_aborted(&id, 9).into());
        assert_eq!((read.entry, read.at()), (None, Some(Timestamp(9))));
        assert_eq!(codec::decode_outcome(&id, read.record), Ok(Outcome::Aborted));
    }
}
