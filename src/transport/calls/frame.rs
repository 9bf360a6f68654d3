//! How requests and answers stand in the stream of a connection.
//!
//! | | bytes | |
//! | --- | --- | --- |
//! | length | 4 | of what follows, big-endian |
//! | number | 4 | chosen by the client, and the same in the answer |
//! | kind | 1 | of the request; answers have none |
//! | body | the rest | |

use bytes::{Buf, Bytes, BytesMut};

const LENGTH_BYTES: usize = 4;
const NUMBER_BYTES: usize = 4;
const KIND_BYTES: usize = 1;
/// What stands before the body of an answer.
pub(super) const ANSWER_HEAD_BYTES: usize = LENGTH_BYTES + NUMBER_BYTES;
/// The bodies of requests up to this size, and those that are a small part of what came with them, are copied,
/// which is cheaper than keeping all of that alive.
const COPY_BYTES_MAX: usize = 8 * 1024;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) number: u32,
    pub(super) kind: u8,
    pub(super) body: Bytes,
}

/// Why the rest of a stream cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// It announces more than is taken.
    #[error("it announces a request of {bytes} bytes; at most {max} are taken")]
    TooLong {
        /// What it announces.
        bytes: usize,
        /// What is taken.
        max: usize,
    },
    /// It announces less than every request has.
    #[error("it announces a request of {0} bytes; a number and a kind have 5")]
    TooShort(usize),
}

/// How long the request at the beginning is, with its length; none if too little has come to tell.
fn announced(received: &[u8], body_bytes_max: usize) -> Result<Option<usize>, BadFrame> {
    let Some(length) = received.first_chunk().map(|length| u32::from_be_bytes(*length)) else {
        return Ok(None);
    };
    let bytes = length as usize;
    let max = body_bytes_max.saturating_add(NUMBER_BYTES + KIND_BYTES);
    if bytes > max {
        return Err(BadFrame::TooLong { bytes, max });
    }
    if bytes < NUMBER_BYTES + KIND_BYTES {
        return Err(BadFrame::TooShort(bytes));
    }
    Ok(Some(LENGTH_BYTES + bytes))
}

/// How much has to come yet before there is a whole request, as far as can be told.
pub(super) fn missing(received: &[u8], body_bytes_max: usize) -> usize {
    let whole = announced(received, body_bytes_max).ok().flatten();
    whole.unwrap_or(LENGTH_BYTES).saturating_sub(received.len())
}

/// Takes the request at the beginning, if all of it is there.
pub(super) fn take(
    received: &mut BytesMut,
    body_bytes_max: usize,
) -> Result<Option<Frame>, BadFrame> {
    let Some(bytes) = announced(received, body_bytes_max)?.filter(|bytes| *bytes <= received.len())
    else {
        return Ok(None);
    };
    let is_small_part = bytes <= COPY_BYTES_MAX || bytes < received.len() / 2;
    let mut frame = received.split_to(bytes);
    frame.advance(LENGTH_BYTES);
    let (number, kind) = (frame.get_u32(), frame.get_u8());
    let body = if is_small_part { Bytes::copy_from_slice(&frame) } else { frame.freeze() };
    Ok(Some(Frame { number, kind, body }))
}

/// What stands before the body of an answer; none if the body is too long for any answer.
pub(super) fn answer_head(number: u32, body: &[u8]) -> Option<[u8; ANSWER_HEAD_BYTES]> {
    let length = u32::try_from(NUMBER_BYTES + body.len()).ok()?;
    let mut head = [0; ANSWER_HEAD_BYTES];
    let (of_length, of_number) = head.split_at_mut(LENGTH_BYTES);
    of_length.copy_from_slice(&length.to_be_bytes());
    of_number.copy_from_slice(&number.to_be_bytes());
    Some(head)
}

/// A request as it is sent; none if the body is too long for any request.
pub(in super::super) fn request(number: u32, kind: u8, body: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(NUMBER_BYTES + KIND_BYTES + body.len()).ok()?;
    let (length, number) = (length.to_be_bytes(), number.to_be_bytes());
    Some([&length[..], &number, &[kind], body].concat())
}

/// Of what stands before the body of an answer: how long the body is, and the number.
pub(in super::super) fn parse_answer_head(head: [u8; ANSWER_HEAD_BYTES]) -> Option<(usize, u32)> {
    let mut head = &head[..];
    let (length, number) = (head.get_u32() as usize, head.get_u32());
    Some((length.checked_sub(NUMBER_BYTES)?, number))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 20_000;

    fn frames() -> impl Strategy<Value = Vec<(u32, u8, Vec<u8>)>> {
        let body = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..50),
            (0..=MAX).prop_map(|bytes| vec![7; bytes])
        ];
        prop::collection::vec((any::<u32>(), any::<u8>(), body), 0..8)
    }

    proptest! {
        #[test]
        fn requests_are_found_wherever_the_stream_is_cut(
            frames in frames(),
            cuts in prop::collection::vec(1..9_000usize, 1..20),
        ) {
            let sent: Vec<u8> = frames
                .iter()
                .flat_map(|(number, kind, body)| request(*number, *kind, body).unwrap())
                .collect();
            let (mut rest, mut cuts) = (&sent[..], cuts.into_iter().cycle());
            let (mut received, mut found) = (BytesMut::new(), Vec::new());
            while !rest.is_empty() {
                let (some, more) = rest.split_at(cuts.next().unwrap().min(rest.len()));
                received.extend_from_slice(some);
                rest = more;
                while let Some(frame) = take(&mut received, MAX).unwrap() {
                    found.push((frame.number, frame.kind, frame.body.to_vec()));
                }
                prop_assert!(rest.is_empty() || missing(&received, MAX) > 0);
            }
            prop_assert!(received.is_empty());
            prop_assert_eq!(found, frames);
        }

        #[test]
        fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut received = BytesMut::from(&bytes[..]);
            let before = received.len();
            if let Ok(Some(frame)) = take(&mut received, MAX) {
                prop_assert_eq!(before, received.len() + 9 + frame.body.len());
            }
        }
    }

    #[test]
    fn what_cannot_be_a_request_is_told_by_its_length() {
        let take = |bytes: &[u8]| take(&mut BytesMut::from(bytes), 10);
        assert_eq!(take(&[0, 0, 0, 4]), Err(BadFrame::TooShort(4)));
        assert_eq!(take(&[0, 0, 0, 16]), Err(BadFrame::TooLong { bytes: 16, max: 15 }));
        assert_eq!(take(&[0, 0, 0, 15]), Ok(None));
        // What a socket of ZeroMQ says first.
        let greeting = [0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f];
        assert!(matches!(take(&greeting), Err(BadFrame::TooLong { .. })));
    }

    #[test]
    fn answers_say_which_request_is_meant() {
        let head = answer_head(7, b"body").unwrap();
        assert_eq!(head, [0, 0, 0, 8, 0, 0, 0, 7]);
        assert_eq!(parse_answer_head(head), Some((4, 7)));
        assert_eq!(parse_answer_head([0, 0, 0, 3, 0, 0, 0, 7]), None);
    }
}
