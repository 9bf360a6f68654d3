//! One connection: what came and is no whole request yet, and what waits to be taken.

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use bytes::BytesMut;

use super::frame::{self, ANSWER_HEAD_BYTES, BadFrame, Frame};

/// Read at once.
pub(super) const READ_BYTES: usize = 64 * 1024;
/// Read at once of a request that is larger.
const LARGE_READ_BYTES: usize = 256 * 1024;
/// Room is made for so many times of what has come, at most: who only announces much takes nothing.
const ROOM_AHEAD: usize = 8;
/// Written at once: others wait meanwhile.
const WRITE_BYTES: usize = 1 << 20;

/// An answer on its way out.
struct Answer {
    head: [u8; ANSWER_HEAD_BYTES],
    body: Vec<u8>,
    /// How much of both is written.
    written: usize,
}

impl Answer {
    fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    fn rest(&self) -> [IoSlice<'_>; 2] {
        let in_body = self.written.saturating_sub(self.head.len());
        let head = self.head.get(self.written..).unwrap_or_default();
        [IoSlice::new(head), IoSlice::new(self.body.get(in_body..).unwrap_or_default())]
    }
}

/// What a connection has to say.
pub(super) enum Received {
    Request(Frame),
    /// There may be more right away.
    Nothing,
    Bad(BadFrame),
    /// The client is gone.
    End,
}

/// Its other end is gone.
#[derive(Debug)]
pub(super) struct Gone;

/// See the [module's page](self).
pub(super) struct Connection {
    stream: UnixStream,
    received: BytesMut,
    answers: VecDeque<Answer>,
    queued_bytes: usize,
    /// Since when the client takes nothing of what waits.
    pub(super) stalled_since: Duration,
}

impl Connection {
    /// Of a stream that does not block.
    pub(super) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            received: BytesMut::new(),
            answers: VecDeque::new(),
            queued_bytes: 0,
            stalled_since: Duration::ZERO,
        }
    }

    /// The next request, of what has come before or comes now.
    pub(super) fn receive(&mut self, scratch: &mut [u8], body_bytes_max: usize) -> Received {
        match self.take(body_bytes_max) {
            Received::Nothing => {}
            found => return found,
        }
        match self.read(scratch, frame::missing(&self.received, body_bytes_max)) {
            Ok(()) => self.take(body_bytes_max),
            Err(Gone) => Received::End,
        }
    }

    /// Whether a whole request has come that was not taken yet, or something that is none.
    pub(super) fn has_more(&self, body_bytes_max: usize) -> bool {
        !self.received.is_empty() && frame::missing(&self.received, body_bytes_max) == 0
    }

    fn take(&mut self, body_bytes_max: usize) -> Received {
        let taken = frame::take(&mut self.received, body_bytes_max);
        if self.received.is_empty() {
            // Who is idle takes no room.
            self.received = BytesMut::new();
        }
        match taken {
            Ok(Some(frame)) => Received::Request(frame),
            Ok(None) => Received::Nothing,
            Err(why) => Received::Bad(why),
        }
    }

    fn read(&mut self, scratch: &mut [u8], missing: usize) -> Result<(), Gone> {
        if missing <= scratch.len() {
            let bytes = ended(self.stream.read(scratch))?;
            self.received.extend_from_slice(scratch.get(..bytes).unwrap_or_default());
            return Ok(());
        }
        let before = self.received.len();
        self.received.reserve(missing.min(before * ROOM_AHEAD));
        self.received.resize(before + missing.min(LARGE_READ_BYTES), 0);
        let read = ended(self.stream.read(self.received.get_mut(before..).unwrap_or_default()));
        self.received.truncate(before + read.as_ref().map_or(0, |bytes| *bytes));
        read.map(drop)
    }

    /// Sends an answer, or as much of it as the client takes; the rest waits.
    pub(super) fn send(&mut self, number: u32, body: Vec<u8>) -> Result<(), Gone> {
        let Some(head) = frame::answer_head(number, &body) else { return Err(Gone) };
        let answer = Answer { head, body, written: 0 };
        self.queued_bytes += answer.len();
        self.answers.push_back(answer);
        match self.answers.len() {
            1 => self.flush(),
            _ => Ok(()),
        }
    }

    /// Writes what waits, as far as the client takes it.
    pub(super) fn flush(&mut self) -> Result<(), Gone> {
        let mut written = 0;
        while let Some(answer) = self.answers.front_mut().filter(|_| written < WRITE_BYTES) {
            match self.stream.write_vectored(&answer.rest()) {
                Ok(bytes) => {
                    written += bytes;
                    answer.written += bytes;
                    if answer.written == answer.len() {
                        self.answers.pop_front();
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Gone),
            }
        }
        self.queued_bytes -= written;
        Ok(())
    }

    /// Answers that wait to be taken.
    pub(super) fn queued(&self) -> usize {
        self.answers.len()
    }

    /// Bytes of them.
    pub(super) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Nothing is no end, if it comes by an error.
fn ended(read: std::io::Result<usize>) -> Result<usize, Gone> {
    match read {
        Ok(0) => Err(Gone),
        Ok(bytes) => Ok(bytes),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            Ok(0)
        }
        Err(_) => Err(Gone),
    }
}
