//! How requests and answers stand in the stream of a connection.
//!
//! | | bytes | |
//! | --- | --- | --- |
//! | length | 4 | of what follows, big-endian |
//! | number | 4 | chosen by the client, and the same in the answer |
//! | kind | 1 | of the request; answers have none |
//! | body | the rest | |

use std::io::{self, Read};

use bytes::{Buf, Bytes};

const LENGTH_BYTES: usize = 4;
const NUMBER_BYTES: usize = 4;
const KIND_BYTES: usize = 1;
const REQUEST_HEAD_BYTES: usize = LENGTH_BYTES + NUMBER_BYTES + KIND_BYTES;
/// What stands before the body of an answer.
pub(super) const ANSWER_HEAD_BYTES: usize = LENGTH_BYTES + NUMBER_BYTES;
/// Read at once.
pub(super) const READ_BYTES: usize = 64 * 1024;
/// Read at once of a request that is larger.
const LARGE_READ_BYTES: usize = 256 * 1024;
/// The bodies of requests up to this size, and those that are a small part of what came with them, are copied,
/// which is cheaper than keeping all of that alive.
const COPY_BYTES_MAX: usize = 8 * 1024;
/// A request that is so many times too large is answered all the same. What is larger still is hardly one.
const TOO_LARGE_TIMES: usize = 4;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) number: u32,
    pub(super) kind: u8,
    pub(super) body: Result<Bytes, TooLarge>,
}

/// The request has a body that is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge {
    /// Of so many bytes.
    pub bytes: usize,
}

/// Why the rest of a stream cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// It announces more than any request has.
    #[error("it announces a request of {bytes} bytes; at most {max} can be one")]
    TooLong {
        /// What it announces.
        bytes: usize,
        /// What is possible.
        max: usize,
    },
    /// It announces less than every request has.
    #[error("it announces a request of {0} bytes; a number and a kind have 5")]
    TooShort(usize),
}

/// What has come by a connection and was not taken yet. Takes no room while there is nothing.
#[derive(Debug, Default)]
pub(super) struct Inflow {
    bytes: Vec<u8>,
    /// So many at the beginning were taken.
    taken: usize,
    /// So many are still to come of a request that is too large. They are thrown away.
    unwanted: usize,
}

impl Inflow {
    /// Reads some of what a stream has; how much, and 0 at its end.
    pub(super) fn read(
        &mut self,
        stream: &mut impl Read,
        scratch: &mut [u8],
        body_bytes_max: usize,
    ) -> io::Result<usize> {
        let missing = self.missing(body_bytes_max);
        if missing <= scratch.len() {
            let bytes = stream.read(scratch)?;
            self.append(scratch.get(..bytes).unwrap_or_default());
            return Ok(bytes);
        }
        self.bytes.drain(..std::mem::take(&mut self.taken));
        let before = self.bytes.len();
        let at_once = missing.min(LARGE_READ_BYTES);
        // As much again as has come: who only announces much takes nothing.
        self.bytes.reserve_exact(missing.min(before.max(at_once)));
        self.bytes.resize(before + at_once, 0);
        let read = stream.read(self.bytes.get_mut(before..).unwrap_or_default());
        self.bytes.truncate(before + read.as_ref().map_or(0, |bytes| *bytes));
        read
    }

    fn append(&mut self, some: &[u8]) {
        if self.taken >= READ_BYTES {
            self.bytes.drain(..std::mem::take(&mut self.taken));
        }
        self.bytes.extend_from_slice(some);
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.taken..).unwrap_or_default()
    }

    /// How long the request at the beginning is, with its length; none if too little has come to tell.
    fn announced(&self, body_bytes_max: usize) -> Result<Option<usize>, BadFrame> {
        let Some(length) = self.rest().first_chunk().map(|length| u32::from_be_bytes(*length))
        else {
            return Ok(None);
        };
        let bytes = length as usize;
        let max = body_bytes_max
            .saturating_mul(TOO_LARGE_TIMES)
            .saturating_add(NUMBER_BYTES + KIND_BYTES);
        if bytes > max {
            return Err(BadFrame::TooLong { bytes, max });
        }
        if bytes < NUMBER_BYTES + KIND_BYTES {
            return Err(BadFrame::TooShort(bytes));
        }
        Ok(Some(LENGTH_BYTES + bytes))
    }

    /// How much has to come yet before something can be taken, as far as can be told.
    fn missing(&self, body_bytes_max: usize) -> usize {
        let wanted = match self.announced(body_bytes_max) {
            Ok(Some(bytes)) if bytes - REQUEST_HEAD_BYTES > body_bytes_max => REQUEST_HEAD_BYTES,
            Ok(Some(bytes)) => bytes,
            Ok(None) => LENGTH_BYTES,
            Err(_) => 0,
        };
        wanted.saturating_sub(self.rest().len())
    }

    /// Whether [`take`](Self::take) has something to say.
    pub(super) fn is_ready(&self, body_bytes_max: usize) -> bool {
        self.unwanted == 0 && self.missing(body_bytes_max) == 0
    }

    /// Whether there is a part of a request of which the rest is still to come.
    pub(super) fn is_unfinished(&self, body_bytes_max: usize) -> bool {
        self.unwanted > 0 || (!self.rest().is_empty() && !self.is_ready(body_bytes_max))
    }

    /// Memory that it takes, in bytes.
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Takes the request at the beginning, if all of it is there.
    pub(super) fn take(&mut self, body_bytes_max: usize) -> Result<Option<Frame>, BadFrame> {
        self.skip_unwanted();
        let taken = match self.announced(body_bytes_max)? {
            Some(bytes) if self.is_ready(body_bytes_max) => {
                Some(self.take_first(bytes, body_bytes_max))
            }
            _ => None,
        };
        self.skip_unwanted();
        Ok(taken)
    }

    fn take_first(&mut self, bytes: usize, body_bytes_max: usize) -> Frame {
        let mut head = self.rest().get(LENGTH_BYTES..REQUEST_HEAD_BYTES).unwrap_or_default();
        let (number, kind) = (head.get_u32(), head.get_u8());
        let body_bytes = bytes - REQUEST_HEAD_BYTES;
        let body = if body_bytes > body_bytes_max {
            self.taken += REQUEST_HEAD_BYTES;
            self.unwanted = body_bytes;
            Err(TooLarge { bytes: body_bytes })
        } else if self.taken == 0 && bytes > COPY_BYTES_MAX && bytes >= self.bytes.capacity() / 2 {
            let rest = self.bytes.split_off(bytes);
            let whole = std::mem::replace(&mut self.bytes, rest);
            Ok(Bytes::from(whole).slice(REQUEST_HEAD_BYTES..))
        } else {
            let body = self.rest().get(REQUEST_HEAD_BYTES..bytes).unwrap_or_default();
            let body = Bytes::copy_from_slice(body);
            self.taken += bytes;
            Ok(body)
        };
        Frame { number, kind, body }
    }

    fn skip_unwanted(&mut self) {
        let skipped = self.unwanted.min(self.rest().len());
        self.taken += skipped;
        self.unwanted -= skipped;
        if self.taken == self.bytes.len() {
            self.bytes = Vec::new();
            self.taken = 0;
        }
    }
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

    const MAX: usize = 100_000;

    fn frames() -> impl Strategy<Value = Vec<(u32, u8, Vec<u8>)>> {
        let body = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..50),
            (0..2 * MAX).prop_map(|bytes| vec![7; bytes])
        ];
        prop::collection::vec((any::<u32>(), any::<u8>(), body), 0..8)
    }

    /// Gives what it has in pieces.
    struct Pieces<'a, I> {
        rest: &'a [u8],
        sizes: I,
    }

    impl<I: Iterator<Item = usize>> Read for Pieces<'_, I> {
        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            let size = self.sizes.next().unwrap().min(room.len());
            let (some, rest) = self.rest.split_at(size.min(self.rest.len()));
            room[..some.len()].copy_from_slice(some);
            self.rest = rest;
            Ok(some.len())
        }
    }

    proptest! {
        #[test]
        fn requests_are_found_wherever_the_stream_is_cut(
            frames in frames(),
            cuts in prop::collection::vec(1..50_000usize, 1..20),
        ) {
            let sent: Vec<u8> = frames
                .iter()
                .flat_map(|(number, kind, body)| request(*number, *kind, body).unwrap())
                .collect();
            let mut stream = Pieces { rest: &sent, sizes: cuts.into_iter().cycle() };
            let (mut inflow, mut found) = (Inflow::default(), Vec::new());
            let mut scratch = vec![0; READ_BYTES];
            while inflow.read(&mut stream, &mut scratch, MAX).unwrap() > 0 {
                while let Some(Frame { number, kind, body }) = inflow.take(MAX).unwrap() {
                    let body = body.map(|body| body.to_vec()).map_err(|TooLarge { bytes }| bytes);
                    found.push((number, kind, body));
                }
                prop_assert!(!inflow.is_ready(MAX));
                prop_assert!(inflow.held_bytes() <= 2 * inflow.bytes.len() + LARGE_READ_BYTES);
            }
            prop_assert!(!inflow.is_unfinished(MAX));
            prop_assert_eq!(inflow.held_bytes(), 0);
            let expected: Vec<_> = frames
                .into_iter()
                .map(|(number, kind, body)| match body.len() {
                    bytes if bytes > MAX => (number, kind, Err(bytes)),
                    _ => (number, kind, Ok(body)),
                })
                .collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut inflow = holding(&bytes);
            while let Ok(Some(_)) = inflow.take(MAX) {}
        }
    }

    fn holding(bytes: &[u8]) -> Inflow {
        Inflow { bytes: bytes.to_vec(), ..Inflow::default() }
    }

    #[test]
    fn what_cannot_be_a_request_is_told_by_its_length() {
        let take = |bytes: &[u8]| holding(bytes).take(10);
        assert_eq!(take(&[0, 0, 0, 4]), Err(BadFrame::TooShort(4)));
        assert_eq!(take(&[0, 0, 0, 46]), Err(BadFrame::TooLong { bytes: 46, max: 45 }));
        assert_eq!(take(&[0, 0, 0, 15]), Ok(None));
        // What a socket of ZeroMQ says first.
        let greeting = [0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f];
        assert!(matches!(take(&greeting), Err(BadFrame::TooLong { .. })));
    }

    #[test]
    fn a_small_request_keeps_no_large_one_alive() {
        let sent = [request(1, 2, &vec![7; 90_000]).unwrap(), request(2, 2, &[8; 9_000]).unwrap()];
        let mut inflow = holding(&sent.concat());
        let large = inflow.take(MAX).unwrap().unwrap().body.unwrap();
        assert!(inflow.held_bytes() < 10_000, "it stands apart from the first one");
        drop(large);
        assert_eq!(inflow.take(MAX).unwrap().unwrap().body.unwrap(), vec![8; 9_000]);
    }

    #[test]
    fn answers_say_which_request_is_meant() {
        let head = answer_head(7, b"body").unwrap();
        assert_eq!(head, [0, 0, 0, 8, 0, 0, 0, 7]);
        assert_eq!(parse_answer_head(head), Some((4, 7)));
        assert_eq!(parse_answer_head([0, 0, 0, 3, 0, 0, 0, 7]), None);
    }
}
