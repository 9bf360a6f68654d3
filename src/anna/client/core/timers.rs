//! What is to happen when.

use std::sync::Arc;

use super::OpId;

/// Something that is due at some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Timer {
    /// The operation's try, its pause or its time is over.
    Op(OpId),
    /// The try of the look-up of this key, or its pause, is over.
    Lookup(Arc<str>),
}
