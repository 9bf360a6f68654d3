//! A bound PULL socket.

use std::cell::Cell;
use std::os::fd::RawFd;
use std::time::Duration;

use bytes::Bytes;

use super::{TransportError, failed, is_ipv6};

/// Messages above this size are handed on in the buffer in which they came; smaller ones are copied,
/// which is cheaper than keeping that buffer alive.
const COPY_BYTES_MAX: usize = 8 * 1024;

/// How many messages may wait on each connection. Then the sender is slowed down.
const WAITING_MAX: i32 = 1_000;

/// Receives requests.
pub struct Inbox {
    socket: zmq::Socket,
    descriptor: RawFd,
    /// The last attempt to receive found nothing. Only then does the descriptor announce what comes:
    /// libzmq signals the first of a series of messages and none of those behind it.
    is_drained: Cell<bool>,
}

impl Inbox {
    pub(super) fn bind(
        context: &zmq::Context,
        endpoint: &str,
        message_bytes_max: usize,
    ) -> Result<Self, TransportError> {
        let socket =
            context.socket(zmq::PULL).map_err(failed("create the socket for", endpoint))?;
        configure(&socket, message_bytes_max).map_err(failed("configure", endpoint))?;
        socket.set_ipv6(is_ipv6(endpoint)).map_err(failed("configure", endpoint))?;
        socket.bind(endpoint).map_err(failed("bind", endpoint))?;
        let descriptor = socket.get_fd().map_err(failed("watch", endpoint))?;
        Ok(Self { socket, descriptor, is_drained: Cell::new(false) })
    }

    /// Where it is bound: the endpoint with the port that the system chose, if it was asked to choose.
    pub fn endpoint(&self) -> Result<String, TransportError> {
        match self
            .socket
            .get_last_endpoint()
            .map_err(failed("find out the address of", "a socket"))?
        {
            Ok(endpoint) => Ok(endpoint),
            Err(raw) => Ok(String::from_utf8_lossy(&raw).into_owned()),
        }
    }

    /// The next message, if one is there. Frames after the first of a multipart message are dropped.
    pub fn receive(&self) -> Option<Bytes> {
        let received = self.socket.recv_msg(zmq::DONTWAIT);
        let is_interrupted = matches!(received, Err(zmq::Error::EINTR));
        self.is_drained.set(received.is_err() && !is_interrupted);
        let first = received.ok()?;
        let mut more = first.get_more();
        while more {
            more = self.socket.recv_msg(zmq::DONTWAIT).is_ok_and(|part| part.get_more());
        }
        Some(bytes_of(first))
    }

    /// The next message, as soon as it is there; none if it is not within `timeout`.
    pub fn receive_within(&self, timeout: Duration) -> Option<Bytes> {
        let millis = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
        self.socket.poll(zmq::POLLIN, millis).ok()?;
        self.receive()
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.descriptor
    }

    /// Whether there may be messages of which the descriptor says nothing.
    pub(super) fn may_have_more(&self) -> bool {
        !self.is_drained.get()
    }

    /// Readable when something comes after [`receive`](Self::receive) found nothing. To ask the kernel
    /// for the descriptor itself is much cheaper than to ask libzmq for the socket: that takes several
    /// system calls for each socket, ready or not.
    pub(super) fn poll_descriptor(&self) -> zmq::PollItem<'_> {
        zmq::PollItem::from_fd(self.descriptor, zmq::POLLIN)
    }

    pub(super) fn poll_item(&self) -> zmq::PollItem<'_> {
        self.socket.as_poll_item(zmq::POLLIN)
    }
}

/// The content of a message.
pub(super) fn bytes_of(message: zmq::Message) -> Bytes {
    if message.len() <= COPY_BYTES_MAX {
        return Bytes::copy_from_slice(&message);
    }
    Bytes::from_owner(Owner(message))
}

/// What all sockets for requests have in common.
pub(super) fn configure(socket: &zmq::Socket, message_bytes_max: usize) -> zmq::Result<()> {
    socket.set_linger(0)?;
    socket.set_rcvhwm(WAITING_MAX)?;
    socket.set_maxmsgsize(i64::try_from(message_bytes_max).unwrap_or(i64::MAX))
}

struct Owner(zmq::Message);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
