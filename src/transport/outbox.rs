//! Messages on their way out: one PUSH socket per address, kept for reuse, all of it bounded.
//!
//! They are answers to clients of ours, or requests to servers. Of an answer nobody needs to know what
//! became of it. Who sends a request that changes something does: such a message has a [`Ticket`], it
//! is not handed to libzmq after its time, and [`Outbox::departed`] says when it was.
//!
//! An address that does not take its messages costs at most [`OutboxLimits::bytes_per_peer_max`] and
//! only for [`OutboxLimits::stalled_max`]; then they are dropped, for whoever wanted them has long given
//! up. The sockets are capped too: the one unused for longest is closed to make room.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::is_ipv6;

/// How many messages libzmq may hold per peer, besides what is queued here.
const HANDED_OVER_MAX: i32 = 32;
/// How long a closed socket may go on delivering what it holds. It counts among libzmq's sockets until
/// then, so a flood of new addresses must not keep many of them.
const LINGER: Duration = Duration::from_millis(50);
/// How soon to look again whether libzmq has sockets to spare.
const RETRY: Duration = Duration::from_millis(5);
/// The same when the process ends and nothing else needs the sockets.
const LAST_LINGER: Duration = Duration::from_secs(1);
const RECONNECT: Duration = Duration::from_millis(50);
/// How long to wait for a connection before it is tried anew.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// Bounds of an [`Outbox`].
#[derive(Debug, Clone)]
pub struct OutboxLimits {
    /// Sockets open at once. libzmq allows 1,023 in all.
    pub peers_max: usize,
    /// Bytes queued for one peer, one message of any size aside.
    pub bytes_per_peer_max: usize,
    /// Bytes queued for all peers together.
    pub bytes_max: usize,
    /// How long a peer may take nothing before what is queued for it is dropped.
    pub stalled_max: Duration,
    /// The longest pause before an address that refused a connection is tried again.
    pub reconnect_max: Duration,
    /// Nothing is handed to libzmq before there is a connection, and what libzmq still holds when the
    /// connection breaks is lost with it. So whoever takes over an address, were it the same server
    /// after a restart, never gets what was sent to its predecessor.
    pub only_connected: bool,
}

impl Default for OutboxLimits {
    fn default() -> Self {
        Self {
            peers_max: 700,
            bytes_per_peer_max: 64 << 20,
            bytes_max: 512 << 20,
            stalled_max: Duration::from_secs(5),
            reconnect_max: Duration::from_secs(2),
            only_connected: false,
        }
    }
}

/// Messages that were dropped, since the start, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drops {
    /// The peer's queue, or all queues together, were full.
    pub full: u64,
    /// The peer took nothing for too long.
    pub stalled: u64,
    /// No socket could be opened or used for the address.
    pub unreachable: u64,
}

/// What the sender of a message wants of it besides that it arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// The sender's name for it.
    pub id: u64,
    /// From then on it is dropped instead of being handed to libzmq; on the clock of [`Outbox::tick`].
    pub until: Duration,
}

impl std::ops::Add for Drops {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self {
            full: self.full + more.full,
            stalled: self.stalled + more.stalled,
            unreachable: self.unreachable + more.unreachable,
        }
    }
}

struct Message {
    bytes: Vec<u8>,
    ticket: Option<Ticket>,
}

impl Message {
    fn is_late(&self, elapsed: Duration) -> bool {
        self.ticket.is_some_and(|ticket| ticket.until <= elapsed)
    }
}

struct Peer {
    socket: zmq::Socket,
    queue: VecDeque<Message>,
    queued_bytes: usize,
    /// When it was last sent to; a count, not a time.
    used: u64,
    /// Something was sent by this socket.
    is_used: bool,
    /// Since when the queue has not moved.
    stalled_since: Duration,
}

struct Deferred {
    endpoint: String,
    message: Message,
    since: Duration,
}

/// Sends messages. Never blocks.
pub struct Outbox {
    context: zmq::Context,
    limits: OutboxLimits,
    peers: HashMap<String, Peer>,
    /// Messages to addresses for which libzmq had no socket to spare: the oldest first.
    deferred: VecDeque<Deferred>,
    backlogged: usize,
    queued_bytes: usize,
    used: u64,
    elapsed: Duration,
    can_flush: bool,
    departed: Vec<u64>,
    drops: Drops,
}

impl Outbox {
    pub(super) fn new(context: zmq::Context, limits: OutboxLimits) -> Self {
        Self {
            context,
            limits,
            peers: HashMap::new(),
            deferred: VecDeque::new(),
            backlogged: 0,
            queued_bytes: 0,
            used: 0,
            elapsed: Duration::ZERO,
            can_flush: false,
            departed: Vec::new(),
            drops: Drops::default(),
        }
    }

    /// Sends, or queues where the peer is slow, or drops and counts.
    pub fn send(&mut self, endpoint: &str, bytes: Vec<u8>) {
        self.dispatch(endpoint, Message { bytes, ticket: None });
    }

    /// The same, with a ticket.
    pub fn send_with(&mut self, endpoint: &str, bytes: Vec<u8>, ticket: Ticket) {
        self.dispatch(endpoint, Message { bytes, ticket: Some(ticket) });
    }

    /// The tickets of messages that were handed to libzmq since the last call. The others have not left
    /// this process.
    pub fn departed(&mut self) -> impl Iterator<Item = u64> {
        self.departed.drain(..)
    }

    /// Replaces the socket of an address by a new one, for the old one's connection seems to lead
    /// nowhere. What libzmq holds for it is dropped, what waits here goes to the new one. A socket by
    /// which nothing was sent yet stays: it has no connection so far.
    pub fn reset(&mut self, endpoint: &str) {
        let Some(peer) = self.peers.get_mut(endpoint).filter(|peer| peer.is_used) else {
            return;
        };
        peer.is_used = false;
        let _ = peer.socket.set_linger(0);
        match connect(&self.context, endpoint, &self.limits) {
            Ok(socket) => peer.socket = socket,
            Err(_) => {
                self.drops.unreachable += peer.queue.len() as u64;
                self.close(&endpoint.to_owned());
            }
        }
    }

    fn dispatch(&mut self, endpoint: &str, message: Message) {
        if message.is_late(self.elapsed) {
            self.drops.stalled += 1;
            return;
        }
        if !self.peers.contains_key(endpoint) {
            match self.open(endpoint) {
                Ok(()) => {}
                Err(zmq::Error::EMFILE) => return self.defer(endpoint, message),
                Err(_) => {
                    self.drops.unreachable += 1;
                    return;
                }
            }
        }
        self.used += 1;
        let (used, elapsed) = (self.used, self.elapsed);
        let Some(peer) = self.peers.get_mut(endpoint) else {
            return;
        };
        peer.used = used;
        let message = if peer.queue.is_empty() {
            match hand_over(&peer.socket, message) {
                Ok(ticket) => {
                    peer.is_used = true;
                    return self.departed.extend(ticket);
                }
                Err(Some(message)) => message,
                Err(None) => {
                    self.drops.unreachable += 1;
                    return self.close(&endpoint.to_owned());
                }
            }
        } else {
            message
        };
        let full = peer.queued_bytes + message.bytes.len() > self.limits.bytes_per_peer_max
            && !peer.queue.is_empty();
        if full || self.queued_bytes + message.bytes.len() > self.limits.bytes_max {
            self.drops.full += 1;
            return;
        }
        if peer.queue.is_empty() {
            peer.stalled_since = elapsed;
            self.backlogged += 1;
        }
        peer.queued_bytes += message.bytes.len();
        self.queued_bytes += message.bytes.len();
        peer.queue.push_back(message);
    }

    /// Some slow peer can take more: the next tick, which knows the time, hands it on.
    pub(super) fn can_flush(&mut self) {
        self.can_flush = true;
    }

    fn flush(&mut self) {
        let elapsed = self.elapsed;
        for peer in self.peers.values_mut().filter(|peer| !peer.queue.is_empty()) {
            while let Some(message) = peer.queue.pop_front() {
                let bytes = message.bytes.len();
                if message.is_late(elapsed) {
                    self.drops.stalled += 1;
                } else {
                    match hand_over(&peer.socket, message) {
                        Ok(ticket) => {
                            peer.is_used = true;
                            self.departed.extend(ticket);
                        }
                        Err(Some(message)) => {
                            peer.queue.push_front(message);
                            break;
                        }
                        Err(None) => self.drops.unreachable += 1,
                    }
                    peer.stalled_since = elapsed;
                }
                peer.queued_bytes -= bytes;
                self.queued_bytes -= bytes;
            }
            if peer.queue.is_empty() {
                self.backlogged -= 1;
            }
        }
    }

    /// Tells the time, hands on what slow peers can take by now, and gives up on peers that took
    /// nothing for too long.
    pub fn tick(&mut self, elapsed: Duration) {
        self.elapsed = elapsed;
        self.send_deferred();
        if std::mem::take(&mut self.can_flush) {
            self.flush();
        }
        if self.backlogged == 0 {
            return;
        }
        let limit = self.limits.stalled_max;
        let stalled = |peer: &Peer| !peer.queue.is_empty() && elapsed >= peer.stalled_since + limit;
        let given_up: Vec<String> = self
            .peers
            .iter()
            .filter(|(_, peer)| stalled(peer))
            .map(|(endpoint, _)| endpoint.clone())
            .collect();
        for endpoint in given_up {
            let waiting = self.peers.get(&endpoint).map_or(0, |peer| peer.queue.len());
            self.drops.stalled += waiting as u64;
            if let Some(peer) = self.peers.get(&endpoint) {
                // What libzmq holds for it is of no use either.
                let _ = peer.socket.set_linger(0);
            }
            self.close(&endpoint);
        }
    }

    /// When [`tick`](Self::tick) should be called next, if nothing else happens.
    pub fn next_tick(&self) -> Option<Duration> {
        let waiting = self.peers.values().filter(|peer| !peer.queue.is_empty());
        let stalled = (self.backlogged > 0).then(|| waiting.map(|peer| peer.stalled_since).min());
        let give_up = stalled.flatten().map(|since| since + self.limits.stalled_max);
        let retry = (!self.deferred.is_empty()).then(|| self.elapsed + RETRY);
        give_up.into_iter().chain(retry).min()
    }

    /// Messages dropped so far.
    pub fn drops(&self) -> Drops {
        self.drops
    }

    /// Open sockets.
    pub fn peer_count(&self) -> usize {
        self.peers.len()
    }

    /// Bytes that wait for slow peers.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    pub(super) fn backlogged(&self) -> Vec<&zmq::Socket> {
        if self.backlogged == 0 {
            return Vec::new();
        }
        let slow = self.peers.values().filter(|peer| !peer.queue.is_empty());
        slow.map(|peer| &peer.socket).collect()
    }

    /// Keeps a message until libzmq has closed enough of the sockets that were given up.
    fn defer(&mut self, endpoint: &str, message: Message) {
        if self.queued_bytes + message.bytes.len() > self.limits.bytes_max {
            self.drops.full += 1;
            return;
        }
        self.queued_bytes += message.bytes.len();
        let endpoint = endpoint.to_owned();
        self.deferred.push_back(Deferred { endpoint, message, since: self.elapsed });
    }

    fn send_deferred(&mut self) {
        while let Some(oldest) = self.deferred.pop_front() {
            if !self.peers.contains_key(&oldest.endpoint)
                && matches!(self.open(&oldest.endpoint), Err(zmq::Error::EMFILE))
            {
                if self.elapsed < oldest.since + self.limits.stalled_max {
                    self.deferred.push_front(oldest);
                    return;
                }
                self.queued_bytes -= oldest.message.bytes.len();
                self.drops.stalled += 1;
                continue;
            }
            self.queued_bytes -= oldest.message.bytes.len();
            self.dispatch(&oldest.endpoint, oldest.message);
        }
    }

    fn open(&mut self, endpoint: &str) -> zmq::Result<()> {
        while self.peers.len() >= self.limits.peers_max && self.close_one() {}
        let peer = Peer {
            socket: connect(&self.context, endpoint, &self.limits)?,
            queue: VecDeque::new(),
            queued_bytes: 0,
            used: self.used,
            is_used: false,
            stalled_since: self.elapsed,
        };
        self.peers.insert(endpoint.to_owned(), peer);
        Ok(())
    }

    /// Closes the socket that was unused for longest.
    fn close_one(&mut self) -> bool {
        let oldest = self.peers.iter().min_by_key(|(_, peer)| (!peer.queue.is_empty(), peer.used));
        let Some(endpoint) = oldest.map(|(endpoint, _)| endpoint.clone()) else {
            return false;
        };
        let waiting = self.peers.get(&endpoint).map_or(0, |peer| peer.queue.len());
        self.drops.full += waiting as u64;
        self.close(&endpoint);
        true
    }

    fn close(&mut self, endpoint: &String) {
        if let Some(peer) = self.peers.remove(endpoint) {
            self.queued_bytes -= peer.queued_bytes;
            self.backlogged -= usize::from(!peer.queue.is_empty());
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        for peer in self.peers.values() {
            let _ = peer.socket.set_linger(LAST_LINGER.as_millis() as i32);
        }
    }
}

fn connect(
    context: &zmq::Context,
    endpoint: &str,
    limits: &OutboxLimits,
) -> zmq::Result<zmq::Socket> {
    let millis = |time: Duration| i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
    let socket = context.socket(zmq::PUSH)?;
    socket.set_linger(millis(LINGER))?;
    socket.set_sndhwm(HANDED_OVER_MAX)?;
    socket.set_reconnect_ivl(millis(RECONNECT))?;
    socket.set_reconnect_ivl_max(millis(limits.reconnect_max))?;
    socket.set_connect_timeout(millis(CONNECT_MAX))?;
    socket.set_immediate(limits.only_connected)?;
    socket.set_ipv6(is_ipv6(endpoint))?;
    socket.connect(endpoint)?;
    Ok(socket)
}

/// Gives a message to libzmq, and its ticket back. Gives the message back if the peer is slow; nothing
/// comes back on other errors.
fn hand_over(socket: &zmq::Socket, message: Message) -> Result<Option<u64>, Option<Message>> {
    // libzmq takes the buffer over, so ask first whether it would.
    match socket.get_events() {
        Ok(events) if events.contains(zmq::POLLOUT) => {}
        Ok(_) => return Err(Some(message)),
        Err(_) => return Err(None),
    }
    let Message { bytes, ticket } = message;
    socket.send(bytes, zmq::DONTWAIT).map_err(|_| None)?;
    Ok(ticket.map(|ticket| ticket.id))
}

#[cfg(test)]
mod tests {
    use super::super::Sockets;
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    /// Somewhere to listen, and a sender of requests.
    fn setup() -> (tempfile::TempDir, String, Sockets) {
        let place = tempfile::tempdir().unwrap();
        let endpoint = format!("ipc://{}", place.path().join("server").display());
        let limits = OutboxLimits { only_connected: true, ..OutboxLimits::default() };
        (place, endpoint, Sockets::new(limits).unwrap())
    }

    fn ticket(id: u64, until: u64) -> Ticket {
        Ticket { id, until: Duration::from_secs(until) }
    }

    fn departed(sockets: &mut Sockets) -> Vec<u64> {
        sockets.outbox().departed().collect()
    }

    #[test]
    fn nothing_departs_without_a_connection_and_nothing_after_its_time() {
        let (_place, endpoint, mut sender) = setup();
        sender.outbox().send_with(&endpoint, b"1".to_vec(), ticket(1, 1));
        sender.outbox().send_with(&endpoint, b"2".to_vec(), ticket(2, 3));
        sender.outbox().tick(Duration::from_secs(2));
        sender.outbox().send_with(&endpoint, b"3".to_vec(), ticket(3, 1));
        assert!(departed(&mut sender).is_empty());

        let mut server = Sockets::new(OutboxLimits::default()).unwrap();
        server.bind(&endpoint, 1_000).unwrap();
        let mut gone = Vec::new();
        while gone.is_empty() {
            sender.wait(Some(SOON), &mut Vec::new());
            sender.outbox().tick(Duration::from_secs(2));
            gone = departed(&mut sender);
        }
        assert_eq!(gone, [2]);
        assert_eq!(server.inbox(0).unwrap().receive_within(SOON).unwrap(), &b"2"[..]);
        assert_eq!(sender.outbox().drops(), Drops { stalled: 2, ..Drops::default() });
        assert_eq!(sender.outbox().queued_bytes(), 0);
    }

    #[test]
    fn what_waits_outlives_a_reset() {
        let (_place, endpoint, mut sender) = setup();
        let mut server = Sockets::new(OutboxLimits::default()).unwrap();
        server.bind(&endpoint, 1_000).unwrap();
        let mut number = 0;
        let mut gone = 0;
        // Until some is with libzmq and some is not.
        while gone == 0 || sender.outbox().queued_bytes() == 0 {
            number += 1;
            sender.outbox().send_with(&endpoint, vec![7; 100], ticket(number, 9));
            sender.outbox().tick(Duration::ZERO);
            sender.wait(Some(Duration::ZERO), &mut Vec::new());
            gone += departed(&mut sender).len() as u64;
        }
        sender.outbox().reset(&endpoint);
        while gone < number {
            while server.inbox(0).unwrap().receive().is_some() {}
            sender.wait(Some(Duration::from_millis(1)), &mut Vec::new());
            sender.outbox().tick(Duration::ZERO);
            gone += departed(&mut sender).len() as u64;
        }
        assert_eq!(sender.outbox().queued_bytes(), 0);
        assert_eq!(sender.outbox().peer_count(), 1);
    }
}
