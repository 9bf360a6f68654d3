//! The small Anna server over real sockets, one test for each way in which it answers.
//!
//! That something is *not* answered is seen without waiting: a request that is sent after it, over the
//! same connections, is answered first.
// A test gives up by the real clock.
#![allow(clippy::disallowed_methods)]

mod misbehaviour;
mod process;
mod routing;
mod storage;
mod threads;

use std::collections::{HashSet, VecDeque};
use std::path::Path;
use std::time::{Duration, Instant};

use aft::anna::server::{self, Control, Handle, Misbehaviour, Options, PortOffset};
use aft::transport::{OutboxLimits, Sockets};
use aft::wire::anna::{
    AnnaError, KeyAddressRequest, KeyAddressResponse, KeyRequest, KeyResponse, KeyTuple,
    LatticeType, LwwValue, PriorityValue, RequestType, SetValue, SingleKeyCausalValue,
};
use bytes::Bytes;
use prost::Message;
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(20);

/// Addresses and keys are answered on sockets of their own, so that each can be waited for.
const ADDRESSES: usize = 0;
const KEYS: usize = 1;

struct Client {
    routing: Vec<String>,
    storage: Vec<String>,
    sockets: Sockets,
    answers: [String; 2],
    /// Messages that came, by socket.
    received: [VecDeque<Bytes>; 2],
    _place: TempDir,
}

impl Client {
    fn of(routing: &[String], storage: &[String]) -> Self {
        let place = tempfile::tempdir().unwrap();
        let endpoint = |name| format!("ipc://{}", place.path().join(name).display());
        let answers = [endpoint("addresses"), endpoint("keys")];
        let mut sockets = Sockets::new(OutboxLimits::default()).unwrap();
        answers.iter().for_each(|endpoint| sockets.bind(endpoint, usize::MAX).unwrap());
        let (routing, storage) = (routing.to_vec(), storage.to_vec());
        let received = Default::default();
        Self { routing, storage, sockets, answers, received, _place: place }
    }

    /// The next message on a socket. Meanwhile goes on sending what did not leave at once.
    fn receive(&mut self, socket: usize, timeout: Duration) -> Option<Bytes> {
        let (began, mut readable) = (Instant::now(), Vec::new());
        while self.received[socket].is_empty() {
            let left = timeout.checked_sub(began.elapsed())?;
            self.sockets.wait(Some(left), &mut readable);
            self.sockets.outbox().tick(began.elapsed());
            for number in &readable {
                let inbox = self.sockets.inbox(*number).unwrap();
                self.received[*number].extend(std::iter::from_fn(|| inbox.receive()));
            }
        }
        self.received[socket].pop_front()
    }

    /// Asks for addresses.
    fn ask(&mut self, id: &str, keys: &[&str]) {
        self.ask_thread(0, id, keys);
    }

    fn ask_thread(&mut self, thread: usize, id: &str, keys: &[&str]) {
        let request = KeyAddressRequest {
            response_address: self.answers[ADDRESSES].clone(),
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            request_id: id.to_owned(),
        };
        self.sockets.outbox().send(&self.routing[thread], request.encode_to_vec());
    }

    fn addresses(&mut self) -> KeyAddressResponse {
        let message = self.receive(ADDRESSES, SOON);
        KeyAddressResponse::decode(message.expect("an answer of routing")).unwrap()
    }

    fn send(&mut self, thread: usize, request: KeyRequest) {
        self.sockets.outbox().send(&self.storage[thread], request.encode_to_vec());
    }

    fn get(&mut self, id: &str, keys: &[&str]) {
        let request = self.request(RequestType::Get, id, keys.iter().map(|key| tuple(key)));
        self.send(0, request);
    }

    fn put(&mut self, id: &str, tuples: impl IntoIterator<Item = KeyTuple>) {
        let request = self.request(RequestType::Put, id, tuples);
        self.send(0, request);
    }

    fn request(
        &self,
        kind: RequestType,
        id: &str,
        tuples: impl IntoIterator<Item = KeyTuple>,
    ) -> KeyRequest {
        KeyRequest {
            r#type: kind.into(),
            tuples: tuples.into_iter().collect(),
            response_address: self.answers[KEYS].clone(),
            request_id: id.to_owned(),
        }
    }

    fn reply(&mut self) -> KeyResponse {
        self.reply_within(SOON).expect("an answer of storage")
    }

    fn reply_within(&mut self, timeout: Duration) -> Option<KeyResponse> {
        let message = self.receive(KEYS, timeout)?;
        Some(KeyResponse::decode(message).unwrap())
    }

    /// The next reply, which is to hold this one key.
    fn reply_for(&mut self, key: &str) -> KeyTuple {
        let mut reply = self.reply();
        assert_eq!(keys(&reply), [key], "of {}", reply.response_id);
        reply.tuples.remove(0)
    }

    /// Reads one key.
    fn value(&mut self, key: &str) -> KeyTuple {
        self.get("read", &[key]);
        self.reply_for(key)
    }

    /// Writes one key and says what was answered.
    fn write(&mut self, tuple: KeyTuple) -> KeyTuple {
        let key = tuple.key.clone();
        self.put("write", [tuple]);
        self.reply_for(&key)
    }

    /// Whatever is not yet answered in a storage thread never is.
    fn assert_no_more_replies(&mut self) {
        self.get("the last", &["a key that only this looks for"]);
        assert_eq!(self.reply().response_id, "the last");
    }
}

fn start(options: Options) -> (Handle, Client) {
    let options = Options { port_offset: PortOffset::Free, ..options };
    let server = server::start(options).unwrap();
    let client = Client::of(server.routing(), server.storage());
    (server, client)
}

fn simple() -> (Handle, Client) {
    start(Options::default())
}

fn misbehaving(misbehaviour: Misbehaviour) -> (Handle, Client) {
    start(Options { misbehaviour, ..Options::default() })
}

fn tuple(key: &str) -> KeyTuple {
    KeyTuple { key: key.to_owned(), ..KeyTuple::default() }
}

fn typed(key: &str, kind: LatticeType, payload: Vec<u8>) -> KeyTuple {
    KeyTuple { lattice_type: kind.into(), payload: payload.into(), ..tuple(key) }
}

fn lww(key: &str, timestamp: u64, value: &'static str) -> KeyTuple {
    let payload = LwwValue { timestamp, value: value.into() };
    typed(key, LatticeType::Lww, payload.encode_to_vec())
}

fn set(key: &str, kind: LatticeType, values: &[&'static str]) -> KeyTuple {
    let values = values.iter().map(|value| Bytes::from(*value)).collect();
    typed(key, kind, SetValue { values }.encode_to_vec())
}

fn lww_of(tuple: &KeyTuple) -> (u64, String) {
    assert_eq!(tuple.lattice_type(), LatticeType::Lww);
    let LwwValue { timestamp, value } = LwwValue::decode(tuple.payload.clone()).unwrap();
    (timestamp, String::from_utf8(value.to_vec()).unwrap())
}

fn set_of(tuple: &KeyTuple) -> Vec<Bytes> {
    SetValue::decode(tuple.payload.clone()).unwrap().values
}

fn keys(reply: &KeyResponse) -> Vec<&str> {
    reply.tuples.iter().map(|tuple| tuple.key.as_str()).collect()
}

fn routed(answer: &KeyAddressResponse) -> Vec<(&str, &[String])> {
    let addresses = answer.addresses.iter();
    addresses.map(|address| (address.key.as_str(), &address.ips[..])).collect()
}

/// Which storage thread routing names for a key.
fn owner(client: &mut Client, key: &str) -> usize {
    client.ask("owner", &[key]);
    let answer = client.addresses();
    let endpoint = &answer.addresses[0].ips[0];
    client.storage.iter().position(|storage| storage == endpoint).unwrap()
}

/// Keys of a server with two threads: one of each.
fn one_key_of_each(client: &mut Client) -> (String, String) {
    let mut of = |thread| {
        let mut names = (0..).map(|number| format!("key {number}"));
        names.find(|key| owner(client, key) == thread).unwrap()
    };
    (of(0), of(1))
}

/// Waits for something that no message tells.
fn wait_until(condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < SOON, "it never came to be");
        std::thread::yield_now();
    }
}
