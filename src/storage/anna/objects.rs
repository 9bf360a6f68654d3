//! Objects of ours, taken out of the lattice in which they stand, and taken away.

use bytes::Bytes;
use futures_util::future::try_join_all;

use super::super::StorageError;
use super::kv::KeyValue;
use crate::anna::lattice::Lattice;

/// Greater than any timestamp under which an object of ours is written: nothing comes after it.
const FOR_GOOD: u64 = u64::MAX >> 1;
/// Objects deleted at once.
const DELETED_AT_ONCE: usize = 64;

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

/// Deletes objects, for good: whatever lands later was written before.
pub(super) async fn delete(kv: &impl KeyValue, names: &[String]) -> Result<(), StorageError> {
    let nothing = || Lattice::Lww { timestamp: FOR_GOOD, value: Bytes::new() };
    for some in names.chunks(DELETED_AT_ONCE) {
        try_join_all(some.iter().map(|name| kv.put(name, nothing()))).await?;
    }
    Ok(())
}

/// A number that only grows, and whoever writes it: it is an object's timestamp, so that the greatest stays
/// whatever arrives when.
pub(super) async fn raise(kv: &impl KeyValue, name: &str, number: u64) -> Result<(), StorageError> {
    // An empty value would be taken for none.
    let value = Bytes::from_static(b"1");
    kv.put(name, Lattice::Lww { timestamp: number, value }).await
}

/// The greatest number that was written; 0 if none was.
pub(super) async fn raised(kv: &impl KeyValue, name: &str) -> Result<u64, StorageError> {
    Ok(lww(kv.get_newest(name).await?)?.map_or(0, |(number, _)| number))
}
