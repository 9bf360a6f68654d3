//! The server without its sockets: messages in, replies out, the time handed in.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use super::disk::DiskError;
use super::faults::{Faults, Misbehaviour};
use super::outgoing::{Outgoing, Reply};
use super::placement::{NoSuchThread, Placement};
use super::router::{Router, no_servers};
use super::status::{Counters, Status};
use super::store::Store;
use super::thread::{Shared, StorageThread};
use crate::wire::anna::{KeyAddressRequest, KeyRequest};

/// The socket that a message came on, with the number of its thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Socket {
    Routing(usize),
    Storage(usize),
}

/// All of a server but its sockets and its clock.
///
/// A round of its loop: [`handle`](Self::handle) some messages, [`settle`](Self::settle) what they
/// wrote, send each [`next_reply`](Self::next_reply).
pub(super) struct Server {
    routing: Vec<String>,
    storage: Vec<String>,
    routers: Vec<Router>,
    threads: Vec<StorageThread>,
    placement: Placement,
    store: Store,
    faults: Faults,
    /// Replies that must not leave before what they acknowledge is durable.
    unsettled: Vec<Reply>,
    outgoing: Outgoing,
    counters: Counters,
}

impl Server {
    /// A server whose threads are known to clients by these endpoints.
    pub fn new(
        routing: Vec<String>,
        storage: Vec<String>,
        store: Store,
        misbehaviour: Misbehaviour,
    ) -> Self {
        Self {
            routers: routing.iter().map(|_| Router::default()).collect(),
            threads: (0..storage.len()).map(StorageThread::new).collect(),
            placement: Placement::new(storage.len()),
            routing,
            storage,
            store,
            faults: Faults::new(misbehaviour),
            unsettled: Vec::new(),
            outgoing: Outgoing::default(),
            counters: Counters::default(),
        }
    }

    /// Does what a message asks for.
    pub fn handle(&mut self, socket: Socket, message: Bytes) {
        self.counters.bytes_received += message.len() as u64;
        if self.faults.drops_request() {
            self.counters.requests_dropped += 1;
            return;
        }
        let handled = match socket {
            Socket::Routing(number) => self.route(number, message),
            Socket::Storage(number) => self.serve(number, message),
        };
        if let Err(error) = handled {
            self.counters.unreadable += 1;
            tracing::warn!(?socket, %error, "ignored a message that is no request");
        }
    }

    /// Makes durable what was written, then lets the replies go.
    pub fn settle(&mut self, now: Duration) -> Result<(), DiskError> {
        self.store.persist()?;
        for reply in self.unsettled.drain(..) {
            let bytes = reply.message.len();
            match self.outgoing.post(now, reply, &mut self.faults) {
                0 => self.counters.replies_dropped += 1,
                copies => {
                    self.counters.replies += copies as u64;
                    self.counters.bytes_replied += bytes as u64;
                }
            }
        }
        Ok(())
    }

    /// The next reply whose time has come.
    pub fn next_reply(&mut self, now: Duration) -> Option<Reply> {
        self.outgoing.next(now)
    }

    /// When the next reply is to leave.
    pub fn next_due(&self) -> Option<Duration> {
        self.outgoing.next_due()
    }

    /// Behaves in another way from now on.
    pub fn misbehave(&mut self, misbehaviour: Misbehaviour) {
        self.faults.change(misbehaviour);
    }

    /// Becomes like a server that was just started on nothing. Who owns which key stays.
    pub fn forget(&mut self) {
        self.store.forget();
        self.routers.iter_mut().for_each(Router::forget);
        self.threads.iter_mut().for_each(StorageThread::forget);
        self.unsettled.clear();
        self.outgoing.clear();
    }

    /// Gives some keys to another storage thread. All threads read the same store, so their values
    /// are there already.
    pub fn move_keys(&mut self, keys: &[String], to: usize) -> Result<(), NoSuchThread> {
        self.placement.move_keys(keys, to)
    }

    /// Gives the keys of each storage thread to that which is so many after it.
    pub fn rotate(&mut self, by: usize) {
        self.placement.rotate(by);
    }

    pub fn status(&self) -> Status {
        Status {
            keys: self.store.key_count(),
            keys_deleted: self.store.deleted_count(),
            bytes: self.store.bytes(),
            counters: self.counters.clone(),
            misbehaviour: self.faults.settings().clone(),
            routing: self.routing.clone(),
            storage: self.storage.clone(),
        }
    }

    fn route(&mut self, number: usize, message: Bytes) -> Result<(), prost::DecodeError> {
        let request = KeyAddressRequest::decode(message)?;
        self.counters.address_requests += 1;
        let to = request.response_address.clone();
        let answer = if self.faults.settings().no_servers {
            Some(no_servers(request))
        } else {
            let router = self.routers.get_mut(number);
            router.and_then(|router| router.answer(request, &self.placement, &self.storage))
        };
        if let Some(answer) = answer.filter(|_| !to.is_empty()) {
            self.unsettled.push(Reply { to, message: answer.encode_to_vec() });
        }
        Ok(())
    }

    fn serve(&mut self, number: usize, message: Bytes) -> Result<(), prost::DecodeError> {
        let request = KeyRequest::decode(message)?;
        self.counters.key_requests += 1;
        let to = request.response_address.clone();
        let mut shared = Shared {
            store: &mut self.store,
            placement: &self.placement,
            faults: &mut self.faults,
            counters: &mut self.counters,
        };
        let Some(thread) = self.threads.get_mut(number) else {
            return Ok(());
        };
        for answer in thread.answer(request, &mut shared) {
            self.unsettled.push(Reply { to: to.clone(), message: answer.encode_to_vec() });
        }
        Ok(())
    }
}
