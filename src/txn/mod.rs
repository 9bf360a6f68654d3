//! The protocol's pure parts: what a transaction id, a version and a commit are, which version a read
//! may return, and what a running transaction remembers.
//!
//! Nothing here does I/O, reads a clock, draws random numbers or starts a thread; the wall clock and
//! random seeds are arguments. The state machine in [`crate::node`] is built from these parts.

pub mod buffer;
pub mod clock;
pub mod commit;
pub mod consistency;
pub mod id;
pub mod index;
pub mod key;
pub mod reads;

pub use buffer::WriteBuffer;
pub use clock::{HybridClock, Timestamp};
pub use commit::{Commit, Outcome, Version, WrittenKey};
pub use consistency::{Choice, Consistency, LastWriterWins, ReadAtomic};
pub use id::{AttemptId, BaseId, IdError, IdSource};
pub use index::{Known, VersionIndex};
pub use key::{Key, KeyError};
pub use reads::{ForeignPin, Pinned, ReadSet};

/// A hash map whose layout depends on a seed handed in, so that runs can be repeated exactly.
pub type Map<K, V> = std::collections::HashMap<K, V, foldhash::fast::FixedState>;

/// A hash set with the same property as [`Map`].
pub type Set<K> = std::collections::HashSet<K, foldhash::fast::FixedState>;
