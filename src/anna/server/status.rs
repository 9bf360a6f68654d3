//! What a server tells about itself.

use serde::Serialize;

use super::faults::Misbehaviour;

/// What happened since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Requests for addresses, on the routing sockets.
    pub address_requests: u64,
    /// Requests for keys, on the storage sockets.
    pub key_requests: u64,
    /// Keys that were read.
    pub gets: u64,
    /// Keys that were written, in vain or not.
    pub puts: u64,
    /// Writes that were acknowledged and not stored: without a lattice type, or of another than the
    /// key's.
    pub puts_not_stored: u64,
    /// Reads that found no value.
    pub keys_missing: u64,
    /// Keys that came to a thread that does not own them, or were said to.
    pub wrong_thread: u64,
    /// Keys that nothing was done with: empty or too long ones.
    pub keys_ignored: u64,
    /// Messages that are no request.
    pub unreadable: u64,
    /// Requests lost on purpose.
    pub requests_dropped: u64,
    /// Replies that left or will leave.
    pub replies: u64,
    /// Replies lost on purpose.
    pub replies_dropped: u64,
    /// Bytes of all messages that came.
    pub bytes_received: u64,
    /// Bytes of all replies, each counted once.
    pub bytes_replied: u64,
}

/// How a server is doing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// Keys with a value.
    pub keys: usize,
    /// Those of them whose value is empty, which reads as missing: nothing can be deleted otherwise, and the
    /// names stay.
    pub keys_deleted: usize,
    /// Bytes of these keys and their payloads.
    pub bytes: usize,
    /// What happened since the start.
    pub counters: Counters,
    /// What it does wrong at present.
    pub misbehaviour: Misbehaviour,
    /// Endpoints of the routing threads.
    pub routing: Vec<String>,
    /// Endpoints of the storage threads.
    pub storage: Vec<String>,
}
