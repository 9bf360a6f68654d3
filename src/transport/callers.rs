//! A bound socket whose clients are answered on the connection by which they asked.
//!
//! A client connects a DEALER and sends two frames, the kind of its request and the request; the answer is one
//! frame. So it needs one connection, where those who send to a socket for each kind and are answered on a
//! socket of their own need seven, each of which costs libzmq some 20 KB here; and no socket is opened for it.
//!
//! Answers that a client does not take wait, within the bounds of an [`Outbox`](super::Outbox), and a few more with
//! libzmq for as long as the connection lasts.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::os::fd::RawFd;
use std::time::Duration;

use bytes::Bytes;

use super::inbox;
use super::{Drops, OutboxLimits, RETRY, TransportError, failed};

/// How many answers libzmq may hold for a client, besides what is queued here. It hears only now and then how many
/// were taken, so fewer would make quick clients wait.
const HANDED_OVER_MAX: i32 = 64;
/// How long the last answers of a process may take.
const LAST_LINGER: Duration = Duration::from_secs(1);

/// The connection of a client.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Caller(Box<[u8]>);

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("call-")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A request and who waits for its answer.
#[derive(Debug)]
pub struct Call {
    /// Who.
    pub caller: Caller,
    /// The first frame; empty if there were not two.
    pub kind: Bytes,
    /// The second frame.
    pub request: Bytes,
}

#[derive(Default)]
struct Queue {
    answers: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Since when the client takes nothing.
    stalled_since: Duration,
}

pub(super) struct Callers {
    socket: zmq::Socket,
    descriptor: RawFd,
    /// As that of an [`Inbox`](super::Inbox).
    is_drained: Cell<bool>,
    limits: OutboxLimits,
    slow: HashMap<Caller, Queue>,
    queued_bytes: usize,
    elapsed: Duration,
    /// When slow clients are tried again.
    retry_at: Duration,
    drops: Drops,
}

/// What became of an answer.
enum Sent {
    Done,
    /// Not now: here it is again.
    Later(Vec<u8>),
    /// The client has gone.
    Gone,
}

impl Callers {
    pub(super) fn bind(
        context: &zmq::Context,
        endpoint: &str,
        message_bytes_max: usize,
        limits: OutboxLimits,
    ) -> Result<Self, TransportError> {
        let create = failed("create the socket for", endpoint);
        let socket = context.socket(zmq::ROUTER).map_err(create)?;
        configure(&socket, message_bytes_max).map_err(failed("configure", endpoint))?;
        socket.bind(endpoint).map_err(failed("bind", endpoint))?;
        let descriptor = socket.get_fd().map_err(failed("watch", endpoint))?;
        Ok(Self {
            socket,
            descriptor,
            is_drained: Cell::new(false),
            limits,
            slow: HashMap::new(),
            queued_bytes: 0,
            elapsed: Duration::ZERO,
            retry_at: Duration::ZERO,
            drops: Drops::default(),
        })
    }

    /// The next request, if one is there. Frames after the second are dropped.
    pub(super) fn receive(&self) -> Option<Call> {
        let received = self.socket.recv_msg(zmq::DONTWAIT);
        self.is_drained.set(matches!(&received, Err(error) if *error != zmq::Error::EINTR));
        let first = received.ok()?;
        let mut has_more = first.get_more();
        let caller = Caller((*first).into());
        let (mut frames, mut count) = ([Bytes::new(), Bytes::new()], 0);
        while has_more {
            // The frames of a message come together.
            let frame = uninterrupted(|| self.socket.recv_msg(zmq::DONTWAIT)).ok()?;
            has_more = frame.get_more();
            if let Some(place) = frames.get_mut(count) {
                *place = inbox::bytes_of(frame);
            }
            count += 1;
        }
        let [kind, request] = if count < 2 { Default::default() } else { frames };
        Some(Call { caller, kind, request })
    }

    /// Sends an answer, or queues it where the client is slow, or drops it and counts.
    pub(super) fn send(&mut self, to: &Caller, answer: Vec<u8>) {
        let answer = match self.slow.contains_key(to) {
            true => answer,
            false => match self.hand_over(to, answer) {
                Sent::Done => return,
                Sent::Later(answer) => answer,
                Sent::Gone => {
                    self.drops.unreachable += 1;
                    return;
                }
            },
        };
        let queued = self.slow.get(to).map_or(0, |queue| queue.bytes);
        let is_full = queued > 0 && queued + answer.len() > self.limits.bytes_per_peer_max;
        if is_full || self.queued_bytes + answer.len() > self.limits.bytes_max {
            self.drops.full += 1;
            return;
        }
        let fresh = Queue { stalled_since: self.elapsed, ..Queue::default() };
        let queue = self.slow.entry(to.clone()).or_insert(fresh);
        queue.bytes += answer.len();
        self.queued_bytes += answer.len();
        queue.answers.push_back(answer);
    }

    /// Tells the time, hands on what slow clients can take by now, and gives up on those that took nothing for
    /// too long.
    pub(super) fn tick(&mut self, elapsed: Duration) {
        self.elapsed = elapsed;
        // Each attempt makes the socket be looked at, so without a pause there would be no rest.
        if self.slow.is_empty() || elapsed < self.retry_at {
            return;
        }
        self.retry_at = elapsed + RETRY;
        for (caller, mut queue) in std::mem::take(&mut self.slow) {
            self.queued_bytes -= queue.bytes;
            self.flush(&caller, &mut queue);
            let waiting = queue.answers.len() as u64;
            if waiting == 0 {
                continue;
            }
            if elapsed >= queue.stalled_since + self.limits.stalled_max {
                self.drops.stalled += waiting;
                continue;
            }
            self.queued_bytes += queue.bytes;
            self.slow.insert(caller, queue);
        }
    }

    fn flush(&mut self, caller: &Caller, queue: &mut Queue) {
        while let Some(answer) = queue.answers.pop_front() {
            let bytes = answer.len();
            match self.hand_over(caller, answer) {
                Sent::Done => queue.stalled_since = self.elapsed,
                Sent::Gone => self.drops.unreachable += 1,
                Sent::Later(answer) => {
                    queue.answers.push_front(answer);
                    return;
                }
            }
            queue.bytes -= bytes;
        }
    }

    fn hand_over(&self, to: &Caller, answer: Vec<u8>) -> Sent {
        // To send is to look at what has happened to the socket; the descriptor tells of it once only.
        self.is_drained.set(false);
        match self.socket.send(&*to.0, zmq::SNDMORE | zmq::DONTWAIT) {
            Ok(()) => {}
            Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => return Sent::Later(answer),
            Err(_) => return Sent::Gone,
        }
        // Where the first frame went the second one can go.
        if self.socket.send(answer, zmq::DONTWAIT).is_ok() {
            return Sent::Done;
        }
        // A signal came, and the answer is gone with the attempt. The message has to end all the same: what is
        // sent next would be taken for a part of it.
        let _ = uninterrupted(|| self.socket.send("", zmq::DONTWAIT));
        Sent::Gone
    }

    /// When [`tick`](Self::tick) should be called next, if nothing else happens: libzmq does not tell that one of
    /// many clients takes more.
    pub(super) fn next_tick(&self) -> Option<Duration> {
        (!self.slow.is_empty()).then_some(self.retry_at)
    }

    pub(super) fn drops(&self) -> Drops {
        self.drops
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.descriptor
    }

    pub(super) fn may_have_more(&self) -> bool {
        !self.is_drained.get()
    }

    /// As that of an [`Inbox`](super::Inbox).
    pub(super) fn poll_descriptor(&self) -> zmq::PollItem<'_> {
        zmq::PollItem::from_fd(self.descriptor, zmq::POLLIN)
    }
}

impl Drop for Callers {
    fn drop(&mut self) {
        let _ = self.socket.set_linger(LAST_LINGER.as_millis() as i32);
    }
}

/// Repeats what a signal has interrupted.
fn uninterrupted<T>(mut attempt: impl FnMut() -> zmq::Result<T>) -> zmq::Result<T> {
    loop {
        match attempt() {
            Err(zmq::Error::EINTR) => {}
            result => return result,
        }
    }
}

fn configure(socket: &zmq::Socket, message_bytes_max: usize) -> zmq::Result<()> {
    inbox::configure(socket, message_bytes_max)?;
    socket.set_sndhwm(HANDED_OVER_MAX)?;
    // Otherwise answers to who is gone, or slow, would vanish.
    socket.set_router_mandatory(true)
}

#[cfg(test)]
mod tests {
    use super::super::{CALLS, CallingClient, ClientContext, ReplyTo, Sockets};
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn bound(place: &tempfile::TempDir, limits: OutboxLimits) -> (Sockets, String) {
        let endpoint = format!("ipc://{}", place.path().join("call").display());
        let mut sockets = Sockets::new(limits).unwrap();
        sockets.bind_callers(&endpoint, 1 << 20).unwrap();
        (sockets, endpoint)
    }

    /// Waits for one more request.
    fn next(sockets: &mut Sockets) -> Call {
        let mut readable = Vec::new();
        loop {
            if let Some(call) = sockets.call() {
                return call;
            }
            sockets.wait(Some(SOON), &mut readable);
            assert_eq!(readable, [CALLS]);
        }
    }

    impl Callers {
        /// Whether the descriptor tells of something.
        fn poll_once(&self) -> bool {
            zmq::poll(&mut [self.poll_descriptor()], 0).unwrap() > 0
        }
    }

    fn dealer(context: &zmq::Context, endpoint: &str) -> zmq::Socket {
        let socket = context.socket(zmq::DEALER).unwrap();
        socket.set_linger(0).unwrap();
        socket.set_rcvtimeo(10_000).unwrap();
        socket.connect(endpoint).unwrap();
        socket
    }

    #[test]
    fn each_client_gets_its_own_answer() {
        let place = tempfile::tempdir().unwrap();
        let (mut sockets, endpoint) = bound(&place, OutboxLimits::default());
        let server = std::thread::spawn(move || {
            for _ in 0..200 {
                let Call { caller, kind, request } = next(&mut sockets);
                let answer = [&kind[..], b"/", &request].concat();
                sockets.reply(&ReplyTo::Caller(caller), answer);
            }
        });
        let context = ClientContext::default();
        let open = |_| CallingClient::open(&context, &endpoint, SOON).unwrap();
        let clients: Vec<_> = (0..4).map(open).collect();
        for number in 0..200u8 {
            let answer = clients[usize::from(number) % 4].call("get", vec![number; 9]).unwrap();
            assert_eq!(answer, [&b"get/"[..], &[number; 9]].concat());
        }
        server.join().unwrap();
    }

    #[test]
    fn messages_that_are_none_have_no_kind() {
        let place = tempfile::tempdir().unwrap();
        let (mut sockets, endpoint) = bound(&place, OutboxLimits::default());
        let socket = dealer(&zmq::Context::new(), &endpoint);
        socket.send("get", 0).unwrap();
        assert_eq!(next(&mut sockets).kind, "");
        socket.send_multipart(["get", "k", "more", "and more"], 0).unwrap();
        let call = next(&mut sockets);
        assert_eq!((call.kind, call.request), ("get".into(), "k".into()));
        assert!(sockets.call().is_none());
    }

    #[test]
    fn an_answer_on_its_way_out_hides_no_request_on_its_way_in() {
        let place = tempfile::tempdir().unwrap();
        let (mut sockets, endpoint) = bound(&place, OutboxLimits::default());
        let context = zmq::Context::new();
        let (one, other) = (dealer(&context, &endpoint), dealer(&context, &endpoint));
        for _ in 0..20 {
            one.send_multipart(["get", "k"], 0).unwrap();
            let waiting = next(&mut sockets).caller;
            assert!(sockets.call().is_none());
            other.send_multipart(["get", "k"], 0).unwrap();
            // The socket is told of the request before it is looked at again, while it sends.
            while !sockets.callers.as_ref().unwrap().poll_once() {}
            // libzmq looks at that once in a millisecond or so.
            let _ = zmq::poll(&mut [], 3);
            sockets.reply(&ReplyTo::Caller(waiting), b"late".to_vec());
            let mut readable = Vec::new();
            sockets.wait(Some(SOON), &mut readable);
            assert_eq!(readable, [CALLS]);
            let asked = next(&mut sockets).caller;
            sockets.reply(&ReplyTo::Caller(asked), b"soon".to_vec());
            assert_eq!(one.recv_bytes(0).unwrap(), b"late");
            assert_eq!(other.recv_bytes(0).unwrap(), b"soon");
        }
    }

    /// A client that asks once and then takes nothing, until so many answers wait for it here.
    fn stall(sockets: &mut Sockets, socket: &zmq::Socket, bytes: usize) -> (Caller, u64) {
        socket.send_multipart(["get", "k"], 0).unwrap();
        let caller = next(sockets).caller;
        let mut sent = 0;
        while sockets.queued_bytes() < bytes && sockets.drops().full == 0 {
            sockets.reply(&ReplyTo::Caller(caller.clone()), vec![7; 1000]);
            sockets.tick(Duration::ZERO);
            sent += 1;
        }
        (caller, sent)
    }

    #[test]
    fn a_slow_client_gets_all_its_answers() {
        let place = tempfile::tempdir().unwrap();
        let patient = Duration::from_secs(1_000_000);
        let limits = OutboxLimits { stalled_max: patient, ..OutboxLimits::default() };
        let (mut sockets, endpoint) = bound(&place, limits);
        let socket = dealer(&zmq::Context::new(), &endpoint);
        socket.set_rcvhwm(10).unwrap();
        let (_, sent) = stall(&mut sockets, &socket, 100_000);
        let server = std::thread::spawn(move || {
            let mut elapsed = Duration::ZERO;
            while sockets.queued_bytes() > 0 {
                sockets.wait(Some(Duration::from_millis(1)), &mut Vec::new());
                while sockets.call().is_some() {}
                sockets.tick(elapsed);
                assert!(sockets.next_tick().is_none_or(|next| next > elapsed), "there is a pause");
                elapsed += RETRY;
            }
            sockets
        });
        for _ in 0..sent {
            assert_eq!(socket.recv_bytes(0).unwrap(), vec![7; 1000]);
        }
        assert_eq!(server.join().unwrap().drops(), Drops::default());
    }

    #[test]
    fn a_client_that_takes_nothing_costs_a_bounded_time_and_room() {
        let place = tempfile::tempdir().unwrap();
        let limits = OutboxLimits { bytes_per_peer_max: 50_000, ..OutboxLimits::default() };
        let stalled_max = limits.stalled_max;
        let (mut sockets, endpoint) = bound(&place, limits);
        let context = zmq::Context::new();
        let socket = dealer(&context, &endpoint);
        let (caller, _) = stall(&mut sockets, &socket, usize::MAX);
        assert_eq!(sockets.queued_bytes(), 50_000);
        assert!(sockets.next_tick().is_some());
        let mut elapsed = Duration::ZERO;
        // Its own queues take some more first.
        while sockets.drops().stalled == 0 {
            for _ in 0..100 {
                sockets.reply(&ReplyTo::Caller(caller.clone()), vec![7; 1000]);
                assert!(sockets.queued_bytes() <= 50_000);
            }
            elapsed += stalled_max;
            sockets.tick(elapsed);
        }
        assert_eq!(sockets.queued_bytes(), 0);
        assert!(sockets.next_tick().is_none());
        drop(socket);
        let other = dealer(&context, &endpoint);
        other.send_multipart(["get", "k"], 0).unwrap();
        next(&mut sockets);
        // By now the first one has gone; that is found where requests are looked for.
        while sockets.drops().unreachable == 0 {
            assert!(sockets.call().is_none());
            sockets.reply(&ReplyTo::Caller(caller.clone()), vec![7; 1000]);
            elapsed += RETRY;
            sockets.tick(elapsed);
        }
    }
}
