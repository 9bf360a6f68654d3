//! Objects of ours, taken out of the lattice in which they stand.

use bytes::Bytes;

use super::super::StorageError;
use crate::anna::lattice::Lattice;

/// The timestamp and value of a last-writer-wins object; none if it is not there (or deleted).
pub(super) fn lww(found: Option<Lattice>) -> Result<Option<(u64, Bytes)>, StorageError> {
    match found {
        None => Ok(None),
        Some(Lattice::Lww { value, .. }) if value.is_empty() => Ok(None),
        Some(Lattice::Lww { timestamp, value }) => Ok(Some((timestamp, value))),
        Some(other) => Err(StorageError::Damaged(format!(
            "an object of ours is of lattice type {}",
            other.kind().as_str_name()
        ))),
    }
}

/// The elements of a set of names.
pub(super) fn string_set(found: Option<Lattice>) -> Result<Vec<String>, StorageError> {
    let damaged = |what: String| StorageError::Damaged(format!("a set of names: {what}"));
    match found {
        None => Ok(Vec::new()),
        Some(Lattice::Set(values)) => {
            let names = values.into_iter().map(|value| String::from_utf8(value.into()));
            let mut names: Vec<_> =
                names.collect::<Result<_, _>>().map_err(|error| damaged(error.to_string()))?;
            // A set has no order, and two replicas may tell it differently.
            names.sort();
            Ok(names)
        }
        Some(other) => {
            Err(damaged(format!("it is of lattice type {}", other.kind().as_str_name())))
        }
    }
}
