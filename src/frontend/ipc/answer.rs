//! Answers to bytes.
//!
//! The answer to a get is put together by hand, so that each value is copied once, into the buffer
//! that libzmq then takes over; everything else goes through prost.

use bytes::{BufMut, Bytes};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use super::request::{Asked, BadRequest, Pending, Slot};
use super::token;
use crate::node::{Advice, Answer, ReadValue, Refusal, Source};
use crate::wire::anna::{AnnaError, KeyResponse, KeyTuple, LatticeType, RequestType};
use crate::wire::{TransactionStatus, TransactionTag};

/// The most bytes of values in one answer. More is refused before room is made for it.
const ANSWER_BYTES_MAX: usize = 512 << 20;

fn bytes_of(values: &[ReadValue]) -> usize {
    values.iter().filter_map(|read| read.value.as_ref()).map(Bytes::len).sum()
}

pub(super) fn encode(pending: &Pending, answer: Answer, address: &str, wall_ns: u64) -> Vec<u8> {
    match &pending.asked {
        Asked::Keys { request_id, slots, .. } => match answer {
            Answer::Values(values) if bytes_of(&values) > ANSWER_BYTES_MAX => {
                let detail = format!(
                    "the values asked for have {} bytes, at most {ANSWER_BYTES_MAX} are sent in one answer; ask for fewer keys at once",
                    bytes_of(&values)
                );
                refused_keys(&pending.asked, AnnaError::Invalid, &detail)
            }
            Answer::Values(values) => values_response(request_id, slots, &values, wall_ns),
            Answer::Written(results) => written_response(request_id, slots, &results),
            Answer::Refused(why) => refused_keys(&pending.asked, code(&why), &why.to_string()),
            other => mismatch(&pending.asked, &other, address),
        },
        Asked::Continue => match answer {
            Answer::Continued => address.as_bytes().to_vec(),
            Answer::Refused(why) => not_continued(address, code(&why), &why.to_string()),
            other => mismatch(&pending.asked, &other, address),
        },
        Asked::Start | Asked::Commit { .. } | Asked::Abort { .. } => {
            tag(&pending.asked, answer, address)
        }
    }
}

/// The answer to a message that did not reach the node.
pub(super) fn bad_request(pending: &Pending, why: &BadRequest, address: &str) -> Vec<u8> {
    let detail = why.to_string();
    match &pending.asked {
        Asked::Keys { .. } => refused_keys(&pending.asked, AnnaError::Invalid, &detail),
        Asked::Continue => not_continued(address, AnnaError::Invalid, &detail),
        Asked::Start => invalid_tag(String::new(), TransactionStatus::Running, detail, address),
        Asked::Commit { id } | Asked::Abort { id } => {
            // Nothing can have run under something that is not an id. Of a message that could not be
            // read as a whole, nothing is said.
            let status = match why {
                BadRequest::Id(_) => TransactionStatus::Aborted,
                _ => TransactionStatus::Running,
            };
            invalid_tag(id.clone(), status, detail, address)
        }
    }
}

/// `<node>~<error>~<why>`; when all went well it is the bare `<node>`. It is text because Cloudburst's
/// client reads any text and nothing else.
fn not_continued(address: &str, error: AnnaError, why: &str) -> Vec<u8> {
    format!("{address}~{}~{why}", error as i32).into_bytes()
}

fn invalid_tag(id: String, status: TransactionStatus, detail: String, address: &str) -> Vec<u8> {
    let error = AnnaError::Invalid as i32;
    let address = address.to_owned();
    TransactionTag {
        id,
        status: status as i32,
        address,
        error,
        detail,
        ..TransactionTag::default()
    }
    .encode_to_vec()
}

fn tag(asked: &Asked, answer: Answer, address: &str) -> Vec<u8> {
    let token = match &answer {
        Answer::Decided { token: Some(token), .. } => token::encode(token),
        _ => Vec::new(),
    };
    let (id, status, why) = match answer {
        Answer::Started(id) => (id.to_string(), TransactionStatus::Running, None),
        Answer::Decided { id, committed: true, .. } => (id, TransactionStatus::Committed, None),
        Answer::Decided { id, committed: false, why, .. } => (id, TransactionStatus::Aborted, why),
        Answer::Undecided { id, why } => (id, TransactionStatus::Running, Some(why)),
        other => return mismatch(asked, &other, address),
    };
    let error = why.as_ref().map_or(AnnaError::NoError, code) as i32;
    let detail = why.map(|why| why.to_string()).unwrap_or_default();
    let (status, address) = (status as i32, address.to_owned());
    TransactionTag { id, status, address, error, detail, token: token.into() }.encode_to_vec()
}

/// The node answered something that does not belong to the question. A bug here, not the client's.
fn mismatch(asked: &Asked, answer: &Answer, address: &str) -> Vec<u8> {
    tracing::error!(?asked, ?answer, "the answer does not fit the request");
    let detail = "internal error: the answer does not fit the request".to_owned();
    match asked {
        Asked::Keys { .. } => refused_keys(asked, AnnaError::Timeout, &detail),
        Asked::Continue => not_continued(address, AnnaError::Timeout, &detail),
        _ => invalid_tag(String::new(), TransactionStatus::Running, detail, address),
    }
}

fn code(why: &Refusal) -> AnnaError {
    match why.advice() {
        Advice::Retry => AnnaError::Retry,
        Advice::Correct => AnnaError::Invalid,
        Advice::Later => AnnaError::NoServers,
        Advice::Repeat => AnnaError::Timeout,
        Advice::AskAgain => AnnaError::Undecided,
    }
}

fn refused_keys(asked: &Asked, error: AnnaError, detail: &str) -> Vec<u8> {
    let Asked::Keys { is_put, request_id, slots } = asked else {
        return Vec::new();
    };
    let tuples = slots.iter().map(|slot| failed_tuple(slot, error));
    let request_type = if *is_put { RequestType::Put } else { RequestType::Get };
    KeyResponse {
        r#type: request_type as i32,
        tuples: tuples.collect(),
        response_id: request_id.clone(),
        error: error as i32,
        detail: detail.to_owned(),
    }
    .encode_to_vec()
}

fn failed_tuple(slot: &Slot, otherwise: AnnaError) -> KeyTuple {
    let error = slot.refused.as_ref().map_or(otherwise, |(error, _)| *error);
    KeyTuple { key: slot.key.clone(), error: error as i32, ..KeyTuple::default() }
}

fn written_response(request_id: &str, slots: &[Slot], results: &[Result<(), Refusal>]) -> Vec<u8> {
    let mut results = results.iter();
    let mut detail = String::new();
    let mut note = |text: &str| {
        if detail.is_empty() {
            text.clone_into(&mut detail);
        }
    };
    let tuples = slots.iter().map(|slot| {
        let result = if slot.refused.is_some() { None } else { results.next() };
        let error = match (&slot.refused, result) {
            (Some((error, why)), _) => {
                note(why);
                *error
            }
            (None, Some(Err(why))) => {
                note(&why.to_string());
                code(why)
            }
            (None, _) => AnnaError::NoError,
        };
        let lattice_type = slot.lattice as i32;
        KeyTuple { key: slot.key.clone(), lattice_type, error: error as i32, ..KeyTuple::default() }
    });
    let tuples = tuples.collect();
    KeyResponse {
        r#type: RequestType::Put as i32,
        tuples,
        response_id: request_id.to_owned(),
        error: AnnaError::NoError as i32,
        detail,
    }
    .encode_to_vec()
}

/// `KeyResponse` with one `KeyTuple` per slot, each payload an `LWWValue`.
fn values_response(
    request_id: &str,
    slots: &[Slot],
    values: &[ReadValue],
    wall_ns: u64,
) -> Vec<u8> {
    let mut values = values.iter();
    let tuples: Vec<ReadTuple<'_>> = slots
        .iter()
        .map(|slot| {
            let value = if slot.refused.is_some() { None } else { values.next() };
            ReadTuple::new(slot, value, wall_ns)
        })
        .collect();
    let detail = slots.iter().find_map(|slot| slot.refused.as_ref()).map(|(_, why)| why.clone());
    let frame = KeyResponse {
        r#type: RequestType::Get as i32,
        response_id: request_id.to_owned(),
        detail: detail.unwrap_or_default(),
        ..KeyResponse::default()
    };
    let tuples_len: usize = tuples.iter().map(|tuple| nested_len(2, tuple.len())).sum();
    let mut buffer = Vec::with_capacity(frame.encoded_len() + tuples_len);
    for tuple in &tuples {
        begin_nested(2, tuple.len(), &mut buffer);
        tuple.encode(&mut buffer);
    }
    // Fields may come in any order.
    frame.encode_raw(&mut buffer);
    buffer
}

/// One `KeyTuple` of the answer to a get.
struct ReadTuple<'a> {
    /// All fields but the payload.
    head: KeyTuple,
    payload: Option<Payload<'a>>,
}

/// What a `KeyTuple` carries.
#[derive(Clone, Copy)]
enum Payload<'a> {
    /// An `LWWValue`: its timestamp and value.
    Lww(u64, &'a Bytes),
    /// A value of another lattice, as it came.
    Other(&'a Bytes),
}

impl Payload<'_> {
    fn len(self) -> usize {
        match self {
            Self::Lww(timestamp, value) => lww_len(timestamp, value),
            Self::Other(bytes) => bytes.len(),
        }
    }
}

impl<'a> ReadTuple<'a> {
    fn new(slot: &Slot, value: Option<&'a ReadValue>, wall_ns: u64) -> Self {
        let Some(value) = value else {
            return Self { head: failed_tuple(slot, AnnaError::Timeout), payload: None };
        };
        let Some(bytes) = &value.value else {
            return Self { head: failed_tuple(slot, AnnaError::KeyDne), payload: None };
        };
        let tuple = |lattice_type: LatticeType, payload| {
            let lattice_type = lattice_type as i32;
            let head = KeyTuple { key: slot.key.clone(), lattice_type, ..KeyTuple::default() };
            Self { head, payload: Some(payload) }
        };
        let timestamp = match &value.source {
            Source::Lattice(kind) => return tuple(*kind, Payload::Other(bytes)),
            Source::Committed(version) => version.timestamp.0,
            Source::Foreign(timestamp) => *timestamp,
            Source::OwnWrite | Source::Nothing => wall_ns,
        };
        tuple(LatticeType::Lww, Payload::Lww(timestamp, bytes))
    }

    fn len(&self) -> usize {
        let payload = self.payload.map_or(0, |payload| nested_len(4, payload.len()));
        self.head.encoded_len() + payload
    }

    fn encode(&self, buffer: &mut Vec<u8>) {
        self.head.encode_raw(buffer);
        let Some(payload) = self.payload else { return };
        begin_nested(4, payload.len(), buffer);
        match payload {
            Payload::Lww(timestamp, value) => {
                encode_key(1, WireType::Varint, buffer);
                encode_varint(timestamp, buffer);
                begin_nested(2, value.len(), buffer);
                buffer.put_slice(value);
            }
            Payload::Other(bytes) => buffer.put_slice(bytes),
        }
    }
}

fn lww_len(timestamp: u64, value: &Bytes) -> usize {
    key_len(1) + encoded_len_varint(timestamp) + nested_len(2, value.len())
}

fn nested_len(tag: u32, len: usize) -> usize {
    key_len(tag) + encoded_len_varint(len as u64) + len
}

fn begin_nested(tag: u32, len: usize, buffer: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, buffer);
    encode_varint(len as u64, buffer);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::txn::{AttemptId, Timestamp, Version};
    use crate::wire::anna::LwwValue;

    fn slot(key: &str) -> Slot {
        Slot { key: key.to_owned(), lattice: LatticeType::Lww, refused: None }
    }

    #[test]
    fn values_are_wrapped_once_and_echo_the_request() {
        let version =
            Version { timestamp: Timestamp(77), writer: AttemptId::parse("t").expect("valid") };
        let large = Bytes::from(vec![7; 100_000]);
        let values = vec![
            ReadValue { value: Some(large.clone()), source: Source::Committed(version) },
            ReadValue { value: None, source: Source::Nothing },
            ReadValue { value: Some(Bytes::new()), source: Source::OwnWrite },
        ];
        let mut slots = vec![slot("a"), slot("b"), slot(""), slot("c")];
        slots[2].refused = Some((AnnaError::Invalid, "empty".to_owned()));
        let bytes = values_response("id-1", &slots, &values, 5);
        assert_eq!(bytes.capacity(), bytes.len(), "the size is known before");

        let response = KeyResponse::decode(&bytes[..]).expect("valid");
        assert_eq!(response.response_id, "id-1");
        assert_eq!(response.r#type(), RequestType::Get);
        assert_eq!(response.detail, "empty");
        let errors: Vec<_> = response.tuples.iter().map(|t| (t.key.as_str(), t.error())).collect();
        let expected = [
            ("a", AnnaError::NoError),
            ("b", AnnaError::KeyDne),
            ("", AnnaError::Invalid),
            ("c", AnnaError::NoError),
        ];
        assert_eq!(errors, expected);
        let first = LwwValue::decode(response.tuples[0].payload.clone()).expect("valid");
        assert_eq!((first.timestamp, first.value), (77, large));
        assert_eq!(response.tuples[1].lattice_type(), LatticeType::None);
        let last = LwwValue::decode(response.tuples[3].payload.clone()).expect("valid");
        assert_eq!((last.timestamp, last.value.len()), (5, 0));
    }
}
