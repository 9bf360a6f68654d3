//! A bound PULL socket.

use std::time::Duration;

use bytes::Bytes;

use super::{TransportError, failed};

/// Messages above this size are handed on in the buffer in which they came; smaller ones are copied,
/// which is cheaper than keeping that buffer alive.
const COPY_BYTES_MAX: usize = 8 * 1024;

/// How many messages may wait on each connection. Then the sender is slowed down.
const WAITING_MAX: i32 = 1_000;

/// Receives requests.
pub struct Inbox {
    socket: zmq::Socket,
}

impl Inbox {
    pub(super) fn bind(
        context: &zmq::Context,
        endpoint: &str,
        message_bytes_max: usize,
    ) -> Result<Self, TransportError> {
        let socket = context
            .socket(zmq::PULL)
            .map_err(failed("create the socket for", endpoint))?;
        configure(&socket, message_bytes_max).map_err(failed("configure", endpoint))?;
        socket.bind(endpoint).map_err(failed("bind", endpoint))?;
        Ok(Self { socket })
    }

    /// The next message, if one is there. Frames after the first of a multipart message are dropped.
    pub fn receive(&self) -> Option<Bytes> {
        let first = self.socket.recv_msg(zmq::DONTWAIT).ok()?;
        let mut more = first.get_more();
        while more {
            more = self
                .socket
                .recv_msg(zmq::DONTWAIT)
                .is_ok_and(|part| part.get_more());
        }
        if first.len() <= COPY_BYTES_MAX {
            return Some(Bytes::copy_from_slice(&first));
        }
        Some(Bytes::from_owner(Owner(first)))
    }

    /// The next message, as soon as it is there; none if it is not within `timeout`.
    pub fn receive_within(&self, timeout: Duration) -> Option<Bytes> {
        let millis = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
        self.socket.poll(zmq::POLLIN, millis).ok()?;
        self.receive()
    }

    pub(super) fn poll_item(&self) -> zmq::PollItem<'_> {
        self.socket.as_poll_item(zmq::POLLIN)
    }
}

fn configure(socket: &zmq::Socket, message_bytes_max: usize) -> zmq::Result<()> {
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
