//! The other side of the sockets: a client that sends a request and waits for its answer, and the
//! least that can answer one. Both block, for they serve benchmarks and tests, not the daemon.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;

use super::inbox::Inbox;
use super::{TransportError, calls, failed};

/// Read at once of an answer.
const READ_BYTES: usize = 64 * 1024;

/// What clients of one process share. Cheap to clone.
#[derive(Clone, Default)]
pub struct ClientContext(zmq::Context);

/// Sends requests to a fixed set of PULL sockets and receives the answers on one of its own.
pub struct Client {
    targets: Vec<zmq::Socket>,
    answers: Inbox,
    answer_endpoint: String,
    timeout: Duration,
}

/// Sends requests to a socket that answers on the connection by which they came.
pub struct CallingClient {
    stream: BufReader<UnixStream>,
    number: u32,
}

impl CallingClient {
    /// Connects. No send or receive takes longer than `timeout`.
    pub fn open(path: &Path, timeout: Duration) -> Result<Self, TransportError> {
        let connect = || {
            let stream = UnixStream::connect(path)?;
            stream.set_write_timeout(Some(timeout))?;
            stream.set_read_timeout(Some(timeout))?;
            Ok(stream)
        };
        let failed = |source| TransportError::Connect { path: path.to_owned(), source };
        let stream = BufReader::with_capacity(READ_BYTES, connect().map_err(failed)?);
        Ok(Self { stream, number: 0 })
    }

    /// Sends a request without waiting for its answer. Says by which number that will be known.
    pub fn send(&mut self, kind: u8, request: &[u8]) -> Option<u32> {
        self.number = self.number.wrapping_add(1);
        let request = calls::request(self.number, kind, request)?;
        self.stream.get_mut().write_all(&request).ok()?;
        Some(self.number)
    }

    /// Waits for an answer, to whichever request. None if none comes in time, or the server has gone.
    pub fn receive(&mut self) -> Option<(u32, Bytes)> {
        let mut head = [0; 8];
        self.stream.read_exact(&mut head).ok()?;
        let (bytes, number) = calls::parse_answer_head(head)?;
        let mut body = vec![0; bytes];
        self.stream.read_exact(&mut body).ok()?;
        Some((number, body.into()))
    }

    /// Sends a request and waits for its answer, as [`Client::call`] does.
    pub fn call(&mut self, kind: u8, request: &[u8]) -> Option<Bytes> {
        let number = self.send(kind, request)?;
        self.receive().filter(|(answered, _)| *answered == number).map(|(_, answer)| answer)
    }
}

impl Client {
    /// Connects to `targets` and binds `answer_endpoint`. Neither a send nor a receive takes longer
    /// than `timeout`.
    pub fn open(
        context: &ClientContext,
        targets: &[String],
        answer_endpoint: &str,
        timeout: Duration,
    ) -> Result<Self, TransportError> {
        let answers = Inbox::bind(&context.0, answer_endpoint, usize::MAX)?;
        let connect = |endpoint: &String| connect(&context.0, endpoint, timeout);
        Ok(Self {
            targets: targets.iter().map(connect).collect::<Result<_, TransportError>>()?,
            answer_endpoint: answers.endpoint()?,
            answers,
            timeout,
        })
    }

    /// Where answers are awaited, with the port that the system chose if it was asked to.
    pub fn answer_endpoint(&self) -> &str {
        &self.answer_endpoint
    }

    /// Sends a request to the target with this number and waits for the next message, which is taken
    /// for its answer. None if there is none in time: a later one would be taken for the next
    /// request's, so the client should not be used again.
    pub fn call(&self, target: usize, request: Vec<u8>) -> Option<Bytes> {
        self.targets.get(target)?.send(request, 0).ok()?;
        self.answers.receive_within(self.timeout)
    }
}

/// Answers requests without any logic: what the sockets alone cost.
pub struct Responder {
    context: zmq::Context,
    inboxes: Vec<Inbox>,
    peers: HashMap<String, zmq::Socket>,
    timeout: Duration,
}

impl Responder {
    /// Binds one PULL socket per endpoint. A send takes no longer than `timeout`.
    pub fn bind(endpoints: &[String], timeout: Duration) -> Result<Self, TransportError> {
        let context = zmq::Context::new();
        let bind = |endpoint: &String| Inbox::bind(&context, endpoint, usize::MAX);
        Ok(Self {
            inboxes: endpoints.iter().map(bind).collect::<Result<_, _>>()?,
            context,
            peers: HashMap::new(),
            timeout,
        })
    }

    /// Where it is bound: the sockets' endpoints in their order, with the ports that the system chose.
    pub fn endpoints(&self) -> Result<Vec<String>, TransportError> {
        self.inboxes.iter().map(Inbox::endpoint).collect()
    }

    /// Sleeps until there are messages and hands each to `answer`, together with the number of its
    /// socket; what comes back is sent to the address that comes with it.
    pub fn serve(
        &mut self,
        mut answer: impl FnMut(usize, &[u8]) -> Option<(String, Vec<u8>)>,
    ) -> Result<(), TransportError> {
        let mut items: Vec<_> = self.inboxes.iter().map(Inbox::poll_item).collect();
        // An interrupted poll is an empty one.
        let _ = zmq::poll(&mut items, -1);
        let readable: Vec<bool> = items.iter().map(zmq::PollItem::is_readable).collect();
        for (number, inbox) in self.inboxes.iter().enumerate() {
            while readable.get(number) == Some(&true) {
                let Some(message) = inbox.receive() else {
                    break;
                };
                let Some((address, bytes)) = answer(number, &message) else {
                    continue;
                };
                let peer = match self.peers.entry(address) {
                    Entry::Occupied(entry) => entry.into_mut(),
                    Entry::Vacant(entry) => {
                        let socket = connect(&self.context, entry.key(), self.timeout)?;
                        entry.insert(socket)
                    }
                };
                // A client that has gone needs no answer.
                let _ = peer.send(bytes, 0);
            }
        }
        Ok(())
    }
}

fn connect(
    context: &zmq::Context,
    endpoint: &str,
    timeout: Duration,
) -> Result<zmq::Socket, TransportError> {
    let socket = push(context, timeout).map_err(failed("configure", endpoint))?;
    socket.connect(endpoint).map_err(failed("connect to", endpoint))?;
    Ok(socket)
}

fn push(context: &zmq::Context, timeout: Duration) -> zmq::Result<zmq::Socket> {
    let socket = context.socket(zmq::PUSH)?;
    configure(&socket, timeout)?;
    Ok(socket)
}

fn configure(socket: &zmq::Socket, timeout: Duration) -> zmq::Result<()> {
    let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    socket.set_linger(0)?;
    socket.set_sndtimeo(millis)?;
    socket.set_rcvtimeo(millis)
}

#[cfg(test)]
mod tests {
    use super::super::{OutboxLimits, Sockets};
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn endpoints(place: &tempfile::TempDir, names: &[&str]) -> Vec<String> {
        let endpoint = |name: &&str| format!("ipc://{}", place.path().join(name).display());
        names.iter().map(endpoint).collect()
    }

    #[test]
    fn a_client_is_answered() {
        let place = tempfile::tempdir().unwrap();
        let targets = endpoints(&place, &["a", "b"]);
        let answers = endpoints(&place, &["answers"]).remove(0);
        let mut responder = Responder::bind(&targets, SOON).unwrap();
        let answer_to = answers.clone();
        let server = std::thread::spawn(move || {
            for _ in 0..100 {
                let answer = |number, request: &[u8]| {
                    Some((answer_to.clone(), [&[number as u8], request].concat()))
                };
                responder.serve(answer).unwrap();
            }
        });
        let client = Client::open(&ClientContext::default(), &targets, &answers, SOON).unwrap();
        for round in 0..50 {
            assert_eq!(client.call(0, vec![round]).unwrap(), vec![0, round]);
            assert_eq!(client.call(1, vec![round]).unwrap(), vec![1, round]);
        }
        assert!(client.call(2, Vec::new()).is_none());
        server.join().unwrap();
    }

    #[test]
    fn messages_that_came_together_are_all_announced() {
        let place = tempfile::tempdir().unwrap();
        let targets = endpoints(&place, &["a", "b"]);
        let mut sockets = Sockets::new(OutboxLimits::default()).unwrap();
        for target in &targets {
            sockets.bind(target, 1_000).unwrap();
        }
        let context = ClientContext::default();
        let senders: Vec<_> =
            targets.iter().map(|target| connect(&context.0, target, SOON).unwrap()).collect();
        for number in 0..600u32 {
            senders[number as usize % 2].send(&number.to_ne_bytes()[..], 0).unwrap();
        }
        let (mut received, mut readable) = (0, Vec::new());
        while received < 600 {
            sockets.wait(Some(SOON), &mut readable);
            assert!(!readable.is_empty(), "{received} came, then nothing was announced");
            for number in &readable {
                // Fewer at a time than there are.
                let some = std::iter::from_fn(|| sockets.inbox(*number).unwrap().receive());
                received += some.take(7).count();
            }
        }
        sockets.wait(Some(Duration::ZERO), &mut readable);
        for number in &readable {
            assert!(sockets.inbox(*number).unwrap().receive().is_none());
        }
    }
}
