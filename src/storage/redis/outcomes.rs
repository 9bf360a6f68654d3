//! Outcomes as stored: who wrote it, in 8 bytes, then the record.
//!
//! The writer is named so that a process that follows the log need not be sent what it wrote itself.

use bytes::Bytes;
use redis::Value;

use super::super::{StorageError, codec};
use super::fault::Fault;
use super::names::Names;
use super::server::{Server, string};
use crate::txn::{BaseId, Outcome};

/// Bytes that name a writer.
pub(super) const WRITER_BYTES: usize = 8;

/// A process, as its outcomes name it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Writer(pub [u8; WRITER_BYTES]);

impl Writer {
    /// A record of this writer as stored.
    pub fn sign(self, record: &[u8]) -> Vec<u8> {
        [&self.0, record].concat()
    }
}

/// The record in a stored outcome.
pub(super) fn record(stored: Bytes) -> Result<Bytes, StorageError> {
    if stored.len() < WRITER_BYTES {
        return Err(StorageError::Damaged(format!("an outcome of {} bytes", stored.len())));
    }
    Ok(stored.slice(WRITER_BYTES..))
}

/// A stored outcome of an id.
pub(super) fn decode(id: &BaseId, stored: Bytes) -> Result<Outcome, StorageError> {
    codec::decode_outcome(id, record(stored)?)
}

/// The outcome in an answer, if there is one.
pub(super) fn in_answer(id: &BaseId, answer: Value) -> Result<Option<Outcome>, StorageError> {
    string(answer)?.map(|stored| decode(id, stored)).transpose()
}

/// The outcomes of ids, in that order.
pub(super) async fn find(
    server: &Server,
    names: &Names,
    ids: &[BaseId],
) -> Result<Vec<Option<Bytes>>, Fault> {
    let cmds: Vec<_> = ids
        .iter()
        .map(|id| {
            let mut cmd = redis::cmd("HGET");
            cmd.arg(&names.of_id(id).outcomes).arg(id.as_str());
            cmd
        })
        .collect();
    server.ask_each(&cmds).await?.into_iter().map(string).collect()
}
