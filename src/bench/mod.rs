//! What the sidecar costs, measured against what nothing at all costs.
//!
//! Times on a shared machine mean little by themselves, so every figure stands next to a floor that
//! was measured in the same run, in turns: the same client, sockets and message sizes against a
//! responder without logic ([`echo`]), or the disk's own append and sync next to commits
//! ([`commit`]). Ratios to the floor are what to compare between machines and versions.

#![allow(clippy::disallowed_methods)] // Measuring is reading the clock.

pub mod anna;
mod batches;
mod children;
pub mod client;
pub mod cluster;
pub mod commit;
pub mod echo;
pub mod ipc;
mod messages;
mod place;
mod process;
mod sidecar;
pub mod soak;
mod stats;
pub mod storage;
mod table;
mod target;
mod turns;

use std::io;
use std::path::PathBuf;

use crate::storage::StorageError;
use crate::storage::embedded::OpenError;
use crate::transport::TransportError;

/// Why a measurement did not come about.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The operating system refused.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// A child process did not do its part.
    #[error("{name} {what}{}", log.as_ref().map(|path| format!(" (its log: {})", path.display())).unwrap_or_default())]
    Child {
        /// Which one.
        name: String,
        /// What it did instead.
        what: String,
        /// Where it wrote what it had to say.
        log: Option<PathBuf>,
    },
    /// The sockets.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The embedded store.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The embedded store.
    #[error(transparent)]
    Store(#[from] StorageError),
    /// A request was not answered, or not as it should be.
    #[error("{0}")]
    Answer(String),
}

/// Adds what was tried to an error of the operating system.
fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> BenchError {
    let what = what.into();
    move |source| BenchError::System { what, source }
}
