//! A fault-tolerance sidecar for serverless functions: read-atomic transactions between functions and
//! the key-value store they use.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod anna;
pub mod asking;
pub mod bench;
pub mod frontend;
pub mod manager;
pub mod node;
pub mod peer;
pub mod runtime;
pub mod sim;
pub mod storage;
pub mod timers;
pub mod transport;
pub mod txn;
pub mod wire;
