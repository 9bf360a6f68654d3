//! Reads what can be read of a message that is not valid as a whole, so that its sender can still be
//! told what is wrong with it.

use bytes::{Buf, Bytes};
use prost::encoding::{WireType, decode_key, decode_varint};

/// The length-delimited fields of a message up to the first thing that cannot be read.
pub(super) fn fields(mut message: Bytes) -> Vec<(u32, Bytes)> {
    let mut found = Vec::new();
    while message.has_remaining() {
        let Some((tag, field)) = next(&mut message) else {
            break;
        };
        found.extend(field.map(|bytes| (tag, bytes)));
    }
    found
}

/// The first field with this number, as text; what is not UTF-8 is replaced.
pub(super) fn text(fields: &[(u32, Bytes)], number: u32) -> String {
    let field = fields.iter().find(|(tag, _)| *tag == number);
    field.map_or(String::new(), |(_, bytes)| String::from_utf8_lossy(bytes).into_owned())
}

fn next(message: &mut Bytes) -> Option<(u32, Option<Bytes>)> {
    let (tag, wire_type) = decode_key(message).ok()?;
    let skipped = match wire_type {
        WireType::Varint => return decode_varint(message).ok().map(|_| (tag, None)),
        WireType::LengthDelimited => {
            let length = usize::try_from(decode_varint(message).ok()?).ok()?;
            if length > message.remaining() {
                return None;
            }
            return Some((tag, Some(message.split_to(length))));
        }
        WireType::SixtyFourBit => 8,
        WireType::ThirtyTwoBit => 4,
        WireType::StartGroup | WireType::EndGroup => return None,
    };
    (message.remaining() >= skipped).then(|| message.advance(skipped))?;
    Some((tag, None))
}
