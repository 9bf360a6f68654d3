//! User keys: any UTF-8 of at least one byte, slashes included.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// The longest user key, in bytes.
pub const KEY_BYTES_MAX: usize = 32 * 1024;

/// Why a string is not a usable key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The empty string. It is refused because it would stop an Anna server that is asked for it.
    #[error("the empty string is not a usable key")]
    Empty,
    /// The key is longer than [`KEY_BYTES_MAX`].
    #[error("the key has {0} bytes, at most {KEY_BYTES_MAX} are allowed")]
    TooLong(usize),
}

/// A user key. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Arc<str>);

impl Key {
    /// Checks a key as a client sent it.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        match text.len() {
            0 => Err(KeyError::Empty),
            n if n > KEY_BYTES_MAX => Err(KeyError::TooLong(n)),
            _ => Ok(Self(text.into())),
        }
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}
