//! Failures that repeat: each series of them is logged once, and its end.

use std::fmt::Display;
use std::mem::discriminant;

/// Logs the first of a series of failures, each new kind of failure, and the end of the series.
pub(crate) struct Trouble<E> {
    what: &'static str,
    last: Option<E>,
}

impl<E: Display> Trouble<E> {
    pub(crate) fn new(what: &'static str) -> Self {
        Self { what, last: None }
    }

    /// The value, if there is one.
    pub(crate) fn note<T>(&mut self, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => {
                if self.last.take().is_some() {
                    tracing::warn!("{}: works again", self.what);
                }
                Some(value)
            }
            Err(error) => {
                let kind = discriminant(&error);
                if self.last.as_ref().is_none_or(|last| discriminant(last) != kind) {
                    tracing::warn!("{}: {error}", self.what);
                }
                self.last = Some(error);
                None
            }
        }
    }
}
