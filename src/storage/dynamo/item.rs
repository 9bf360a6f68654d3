//! Items as DynamoDB's client has them, and what stands in them.
//!
//! | attribute | of | what it is |
//! | --- | --- | --- |
//! | `b` | versions, outcomes, entries, parts | the bytes: the same protobuf messages as in every store |
//! | `n` | versions, outcomes, entries | instead of `b`: in how many parts they stand elsewhere |
//! | `v` | outcomes, entries | with `n`: the version whose parts these are |
//! | `won_by` | outcomes | the log entry that announced the commit: `<log>/<sequence>` |
//! | `low` | entries, logs | all entries before this one are settled |
//! | `void` | entries | it announces nothing (any more); when that was found out, in ns since the epoch |
//! | `beat` | logs | counts, so that others see that the writer lives |
//! | `node` | logs | the writer's address, for people |
//! | `closing` | logs | nothing may be added |
//! | `closings` | `~` | counts the closings of logs |

use std::collections::HashMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;

use super::names::Name;
use crate::storage::StorageError;

/// An item, or a part of one.
pub(super) type Item = HashMap<String, AttributeValue>;

pub(super) const PK: &str = "pk";
pub(super) const SK: &str = "sk";
pub(super) const BYTES: &str = "b";
pub(super) const PARTS: &str = "n";
pub(super) const VERSION: &str = "v";
pub(super) const AT: &str = "won_by";
pub(super) const LOW: &str = "low";
pub(super) const VOID: &str = "void";
pub(super) const BEAT: &str = "beat";
pub(super) const NODE: &str = "node";
pub(super) const CLOSING: &str = "closing";
pub(super) const COUNT: &str = "closings";

/// An item's key as an item.
pub(super) fn keyed(name: Name) -> Item {
    Item::from([
        (PK.to_owned(), AttributeValue::S(name.pk)),
        (SK.to_owned(), AttributeValue::S(name.sk)),
    ])
}

/// `item` with one attribute more.
pub(super) fn with(mut item: Item, attribute: &str, value: AttributeValue) -> Item {
    item.insert(attribute.to_owned(), value);
    item
}

pub(super) fn number(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

pub(super) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

pub(super) fn bytes(value: Vec<u8>) -> AttributeValue {
    AttributeValue::B(Blob::new(value))
}

/// An attribute that has to be there.
pub(super) fn text_of<'a>(item: &'a Item, attribute: &str) -> Result<&'a str, StorageError> {
    match item.get(attribute) {
        Some(AttributeValue::S(text)) => Ok(text),
        _ => Err(lacks(item, attribute)),
    }
}

/// An attribute that counts as 0 if it is not there.
pub(super) fn number_of(item: &Item, attribute: &str) -> Result<u64, StorageError> {
    match item.get(attribute) {
        None => Ok(0),
        Some(AttributeValue::N(digits)) => digits.parse().map_err(|_| lacks(item, attribute)),
        Some(_) => Err(lacks(item, attribute)),
    }
}

/// Takes the bytes out of an item.
pub(super) fn take_bytes(item: &mut Item) -> Option<Vec<u8>> {
    match item.remove(BYTES) {
        Some(AttributeValue::B(blob)) => Some(blob.into_inner()),
        _ => None,
    }
}

pub(super) fn has(item: &Item, attribute: &str) -> bool {
    item.contains_key(attribute)
}

pub(super) fn name_of(item: &Item) -> Result<Name, StorageError> {
    Ok(Name { pk: text_of(item, PK)?.to_owned(), sk: text_of(item, SK)?.to_owned() })
}

fn lacks(item: &Item, attribute: &str) -> StorageError {
    let name = |part| match item.get(part) {
        Some(AttributeValue::S(text)) => text.as_str(),
        _ => "?",
    };
    StorageError::Damaged(format!(
        "item {:?} {:?} has no usable attribute {attribute:?}",
        name(PK),
        name(SK)
    ))
}

/// About what DynamoDB counts as an item's size, in bytes.
pub(super) fn size_of(item: &Item) -> usize {
    let attribute = |(name, value): (&String, &AttributeValue)| {
        name.len()
            + match value {
                AttributeValue::S(text) | AttributeValue::N(text) => text.len(),
                AttributeValue::B(blob) => blob.as_ref().len(),
                _ => 1,
            }
    };
    item.iter().map(attribute).sum()
}
