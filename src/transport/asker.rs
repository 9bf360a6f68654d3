//! The other side of an [`Answerer`](super::answerer): asks by a REQ socket, and blocks until the answer
//! is there. For threads that may block.

use std::time::Duration;

use bytes::Bytes;

use super::is_ipv6;

/// The longest answer.
const ANSWER_BYTES_MAX: i64 = 16 << 20;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Nothing came in time.
    #[error("no answer from {0} within {1:?}")]
    Silent(String, Duration),
    /// libzmq refused.
    #[error("cannot ask {0}: {1}")]
    Socket(String, zmq::Error),
}

/// Asks one endpoint, time and again.
pub struct Asker {
    context: zmq::Context,
    endpoint: String,
    timeout: Duration,
    /// None after a question that was not answered: a REQ socket would wait for that answer for ever.
    socket: Option<zmq::Socket>,
}

impl Asker {
    /// Waits `timeout` for each answer.
    pub fn new(endpoint: &str, timeout: Duration) -> Self {
        let endpoint = endpoint.to_owned();
        Self { context: zmq::Context::new(), endpoint, timeout, socket: None }
    }

    /// Sends an empty request and waits for its answer, of which frames after the first are dropped.
    pub fn ask(&mut self) -> Result<Bytes, AskError> {
        let refused = |error| match error {
            zmq::Error::EAGAIN => AskError::Silent(self.endpoint.clone(), self.timeout),
            error => AskError::Socket(self.endpoint.clone(), error),
        };
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => self.connect().map_err(refused)?,
        };
        let answer = socket.send("", 0).and_then(|()| socket.recv_multipart(0)).map_err(refused)?;
        self.socket = Some(socket);
        Ok(answer.into_iter().next().unwrap_or_default().into())
    }

    fn connect(&self) -> zmq::Result<zmq::Socket> {
        let millis = i32::try_from(self.timeout.as_millis()).unwrap_or(i32::MAX);
        let socket = self.context.socket(zmq::REQ)?;
        socket.set_linger(0)?;
        socket.set_sndtimeo(millis)?;
        socket.set_rcvtimeo(millis)?;
        socket.set_maxmsgsize(ANSWER_BYTES_MAX)?;
        socket.set_ipv6(is_ipv6(&self.endpoint))?;
        socket.connect(&self.endpoint)?;
        Ok(socket)
    }
}
