//! Requests to one storage thread that are ready together travel together.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use super::OpId;
use crate::wire::anna::{AnnaError, KeyRequest, KeyTuple, LatticeType, RequestType};

/// Tuples of one request. The answers may come in one message, so it should not be too many.
const TUPLES_MAX: usize = 64;
/// Keys and values of one request, together, if it is more than one.
const BYTES_MAX: usize = 1 << 20;

/// What a batch asks for; the two kinds do not mix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Get,
    Put,
}

/// One tuple that is ready.
pub(super) struct Item {
    pub(super) op: OpId,
    /// Of the operation.
    pub(super) round: u32,
    pub(super) key: Arc<str>,
    /// How many addresses of the key are known.
    pub(super) addresses: usize,
    /// The type and payload of a PUT.
    pub(super) value: Option<(LatticeType, Bytes)>,
    /// A repetition: it may have been its company that had no answer.
    pub(super) alone: bool,
}

impl Item {
    fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, |(_, payload)| payload.len())
    }

    fn tuple(&self) -> KeyTuple {
        let (kind, payload) = match &self.value {
            Some((kind, payload)) => (*kind, payload.clone()),
            None => (LatticeType::None, Bytes::new()),
        };
        KeyTuple {
            key: self.key.to_string(),
            lattice_type: kind.into(),
            error: AnnaError::NoError.into(),
            payload,
            address_cache_size: u32::try_from(self.addresses).unwrap_or(u32::MAX),
            invalidate: false,
        }
    }
}

/// Cuts what is ready for one thread into batches, in order. No batch holds a key twice: answers are
/// matched by key.
pub(super) fn cut(items: Vec<Item>) -> Vec<Vec<Item>> {
    let mut batches: Vec<Vec<Item>> = Vec::new();
    let mut bytes = 0;
    for item in items {
        let fits = |batch: &&mut Vec<Item>| {
            batch.len() < TUPLES_MAX
                && bytes + item.bytes() <= BYTES_MAX
                && !item.alone
                && !batch.iter().any(|other| other.alone || other.key == item.key)
        };
        match batches.last_mut().filter(fits) {
            Some(batch) => {
                bytes += item.bytes();
                batch.push(item);
            }
            None => {
                bytes = item.bytes();
                batches.push(vec![item]);
            }
        }
    }
    batches
}

/// The message for one batch.
pub(super) fn encode(kind: Kind, batch: &[Item], reply_to: &str, id: String) -> Vec<u8> {
    let kind = match kind {
        Kind::Get => RequestType::Get,
        Kind::Put => RequestType::Put,
    };
    KeyRequest {
        r#type: kind.into(),
        tuples: batch.iter().map(Item::tuple).collect(),
        response_address: reply_to.to_owned(),
        request_id: id,
    }
    .encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(key: &str, bytes: usize, alone: bool) -> Item {
        let value = Some((LatticeType::Lww, Bytes::from(vec![0; bytes])));
        Item { op: 0, round: 0, key: key.into(), addresses: 1, value, alone }
    }

    fn sizes(items: Vec<Item>) -> Vec<usize> {
        cut(items).iter().map(Vec::len).collect()
    }

    #[test]
    fn batches_are_bounded() {
        let many = (0..150).map(|number| item(&format!("{number}"), 10, false));
        assert_eq!(sizes(many.collect()), [64, 64, 22]);
        let large = (0..3).map(|number| item(&format!("{number}"), 700_000, false));
        assert_eq!(sizes(large.collect()), [1, 1, 1]);
        assert_eq!(sizes(vec![item("a", 5 << 20, false), item("b", 1, false)]), [1, 1]);
    }

    #[test]
    fn no_key_comes_twice_and_repetitions_travel_alone() {
        let items = vec![item("a", 1, false), item("b", 1, false), item("a", 1, false)];
        assert_eq!(sizes(items), [2, 1]);
        let items = vec![item("a", 1, false), item("b", 1, true), item("c", 1, false)];
        assert_eq!(sizes(items), [1, 1, 1]);
    }
}
