//! One connection: what came and was not taken yet, and the answers that wait to be taken.

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::epoll::EventFlags;

use super::frame::{self, ANSWER_HEAD_BYTES, BadFrame, Frame, Inflow};

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
    /// The client is gone, and so is all that it sent.
    End,
}

/// See the [module's page](self).
pub(super) struct Connection {
    stream: UnixStream,
    inflow: Inflow,
    answers: VecDeque<Answer>,
    queued_bytes: usize,
    /// The client takes no answers any more. What it has asked for is done all the same.
    is_deaf: bool,
    /// When something went in or out last, or began to wait.
    pub(super) moved_at: Duration,
    /// It has its turn already.
    pub(super) is_queued: bool,
    /// What the kernel is asked to tell of it.
    pub(super) watched: EventFlags,
}

impl Connection {
    /// Of a stream that does not block, and is watched for what comes.
    pub(super) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            inflow: Inflow::default(),
            answers: VecDeque::new(),
            queued_bytes: 0,
            is_deaf: false,
            moved_at: Duration::ZERO,
            is_queued: false,
            watched: EventFlags::IN,
        }
    }

    /// The next request, of what has come before or comes now.
    pub(super) fn receive(
        &mut self,
        scratch: &mut [u8],
        body_bytes_max: usize,
        now: Duration,
    ) -> Received {
        if !self.inflow.is_ready(body_bytes_max) {
            match self.inflow.read(&mut self.stream, scratch, body_bytes_max) {
                Ok(0) => return Received::End,
                Ok(_) => self.moved_at = now,
                Err(error) if is_passing(error.kind()) => return Received::Nothing,
                Err(_) => return Received::End,
            }
        }
        match self.inflow.take(body_bytes_max) {
            Ok(Some(frame)) => Received::Request(frame),
            Ok(None) => Received::Nothing,
            Err(why) => Received::Bad(why),
        }
    }

    /// Whether something has come that was not taken yet.
    pub(super) fn has_more(&self, body_bytes_max: usize) -> bool {
        self.inflow.is_ready(body_bytes_max)
    }

    /// Sends an answer, or as much of it as the client takes; the rest waits. Says how many answers are dropped.
    pub(super) fn send(&mut self, number: u32, body: Vec<u8>, now: Duration) -> usize {
        let head = frame::answer_head(number, &body).filter(|_| !self.is_deaf);
        let Some(head) = head else { return 1 };
        let answer = Answer { head, body, written: 0 };
        self.queued_bytes += answer.len();
        self.answers.push_back(answer);
        if self.answers.len() > 1 {
            return 0;
        }
        self.moved_at = now;
        self.flush(now)
    }

    /// Writes what waits, as far as the client takes it. Says how many answers are dropped.
    pub(super) fn flush(&mut self, now: Duration) -> usize {
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
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return self.give_up_answers(),
            }
        }
        self.queued_bytes -= written;
        if written > 0 {
            self.moved_at = now;
        }
        0
    }

    fn give_up_answers(&mut self) -> usize {
        self.is_deaf = true;
        self.queued_bytes = 0;
        std::mem::take(&mut self.answers).len()
    }

    /// What the kernel is to tell: while answers wait, nothing more is asked for.
    pub(super) fn wanted(&self) -> EventFlags {
        if self.answers.is_empty() { EventFlags::IN } else { EventFlags::OUT }
    }

    /// Whether it depends on the client that something which was begun goes on.
    pub(super) fn is_waiting(&self, body_bytes_max: usize) -> bool {
        !self.answers.is_empty() || self.inflow.is_unfinished(body_bytes_max)
    }

    /// Answers that wait to be taken.
    pub(super) fn queued(&self) -> usize {
        self.answers.len()
    }

    /// Bytes of them.
    pub(super) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Memory that it takes, in bytes.
    pub(super) fn held_bytes(&self) -> usize {
        self.queued_bytes + self.inflow.held_bytes()
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn is_passing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
