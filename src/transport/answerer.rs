//! A bound socket that answers REQ sockets at once: the only place where somebody waits for us in ZeroMQ's
//! own request-reply pattern.
//!
//! It is a ROUTER and not a REP: that one must answer each request before it takes the next, so a request
//! that could not be answered would be the last. Here each answer carries the envelope of its request, and
//! what has no envelope is dropped.

use std::cell::Cell;
use std::os::fd::RawFd;

use super::{TransportError, failed, is_ipv6};

/// The longest request; whoever sends more is disconnected.
const REQUEST_BYTES_MAX: i64 = 64 << 10;
/// Requests taken before other sockets are looked at again.
const REQUESTS_PER_ROUND: usize = 64;
/// The most frames of a request that are looked at, its envelope included.
const FRAMES_MAX: usize = 16;

/// What came of a round of answering.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answered {
    /// Requests answered. Whether the answer arrived is not known.
    pub answered: usize,
    /// Messages that were no requests.
    pub dropped: usize,
}

pub(super) struct Answerer {
    socket: zmq::Socket,
    descriptor: RawFd,
    /// As that of an [`Inbox`](super::Inbox).
    is_drained: Cell<bool>,
}

impl Answerer {
    pub(super) fn bind(context: &zmq::Context, endpoint: &str) -> Result<Self, TransportError> {
        let create = failed("create the socket for", endpoint);
        let socket = context.socket(zmq::ROUTER).map_err(create)?;
        socket.set_linger(0).map_err(failed("configure", endpoint))?;
        socket.set_maxmsgsize(REQUEST_BYTES_MAX).map_err(failed("configure", endpoint))?;
        socket.set_ipv6(is_ipv6(endpoint)).map_err(failed("configure", endpoint))?;
        socket.bind(endpoint).map_err(failed("bind", endpoint))?;
        let descriptor = socket.get_fd().map_err(failed("watch", endpoint))?;
        Ok(Self { socket, descriptor, is_drained: Cell::new(false) })
    }

    /// Answers requests that are there, not more than a round's worth.
    pub(super) fn answer(&self, mut reply: impl FnMut() -> Vec<u8>) -> Answered {
        let mut done = Answered::default();
        for _ in 0..REQUESTS_PER_ROUND {
            let Some(envelope) = self.receive() else { break };
            if envelope.is_empty() {
                done.dropped += 1;
                continue;
            }
            let mut frames = envelope;
            frames.push(zmq::Message::from(reply()));
            // Whoever has gone, or takes nothing, needs no answer.
            let _ = self.socket.send_multipart(frames, zmq::DONTWAIT);
            done.answered += 1;
        }
        done
    }

    /// The envelope of the next message: its frames up to the empty one. No frames if it has no such, and
    /// none at all if there is no message.
    fn receive(&self) -> Option<Vec<zmq::Message>> {
        let received = self.socket.recv_msg(zmq::DONTWAIT);
        self.is_drained.set(matches!(&received, Err(error) if *error != zmq::Error::EINTR));
        let mut frame = received.ok()?;
        let (mut envelope, mut is_complete) = (Vec::new(), false);
        loop {
            let has_more = frame.get_more();
            // The first frame says who asks, whatever it holds.
            let ends = !envelope.is_empty() && frame.is_empty();
            if !is_complete && envelope.len() < FRAMES_MAX {
                envelope.push(frame);
                is_complete = ends && has_more;
            }
            if !has_more {
                break;
            }
            // The frames of a message come together.
            frame = self.socket.recv_msg(zmq::DONTWAIT).ok()?;
        }
        Some(if is_complete { envelope } else { Vec::new() })
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.descriptor
    }

    pub(super) fn may_have_more(&self) -> bool {
        !self.is_drained.get()
    }

    pub(super) fn poll_descriptor(&self) -> zmq::PollItem<'_> {
        zmq::PollItem::from_fd(self.descriptor, zmq::POLLIN)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Asker, OutboxLimits, Sockets};

    const SOON: Duration = Duration::from_secs(10);

    fn endpoint(place: &tempfile::TempDir) -> String {
        format!("ipc://{}", place.path().join("answerer").display())
    }

    /// Answers until so many requests were answered. Tells how many messages were none.
    fn serve(sockets: &mut Sockets, mut answers: usize) -> usize {
        let (mut dropped, mut readable) = (0, Vec::new());
        while answers > 0 {
            sockets.wait(Some(SOON), &mut readable);
            let done = sockets.answer(|| b"here".to_vec());
            answers -= done.answered;
            dropped += done.dropped;
        }
        dropped
    }

    #[test]
    fn requests_are_answered_between_rubbish() {
        let place = tempfile::tempdir().unwrap();
        let mut sockets = Sockets::new(OutboxLimits::default()).unwrap();
        sockets.bind_answerer(&endpoint(&place)).unwrap();
        let asked = endpoint(&place);
        let server = std::thread::spawn(move || serve(&mut sockets, 104));
        let context = zmq::Context::new();
        let rude = context.socket(zmq::DEALER).unwrap();
        rude.set_linger(0).unwrap();
        rude.connect(&asked).unwrap();
        let mut asker = Asker::new(&asked, SOON);
        for _ in 0..100 {
            rude.send_multipart([&b"no"[..], b"envelope"], 0).unwrap();
            rude.send("x", 0).unwrap();
            assert_eq!(asker.ask().unwrap(), "here");
        }
        // An empty frame and no request behind it is no request either.
        rude.send("", 0).unwrap();
        // Requests that do not wait for their answers are none that anybody else would wait for.
        for request in [&b""[..], b"what?", &[7; 5000]] {
            rude.send_multipart([&b""[..], request], 0).unwrap();
        }
        rude.send_multipart([&b"a way"[..], b"", b"", b"x"], 0).unwrap();
        assert!(server.join().unwrap() >= 1);
        rude.set_rcvtimeo(10_000).unwrap();
        for _ in 0..3 {
            assert_eq!(rude.recv_multipart(0).unwrap(), [&b""[..], b"here"]);
        }
        assert_eq!(rude.recv_multipart(0).unwrap(), [&b"a way"[..], b"", b"here"]);
    }

    #[test]
    fn who_is_not_answered_asks_again() {
        let place = tempfile::tempdir().unwrap();
        let mut asker = Asker::new(&endpoint(&place), Duration::from_millis(50));
        assert!(asker.ask().is_err());
        assert!(asker.ask().is_err());
        let mut sockets = Sockets::new(OutboxLimits::default()).unwrap();
        sockets.bind_answerer(&endpoint(&place)).unwrap();
        let server = std::thread::spawn(move || serve(&mut sockets, 1));
        let mut asker = Asker::new(&endpoint(&place), SOON);
        assert_eq!(asker.ask().unwrap(), "here");
        server.join().unwrap();
    }
}
