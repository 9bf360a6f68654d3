//! The small Anna server over real sockets, one test for each way in which it answers.
//!
//! That something is *not* answered is seen without waiting: a request that is sent after it, over the
//! same connections, is answered first.
// A test gives up by the real clock.
#![allow(clippy::disallowed_methods)]

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

mod routing {
    use super::*;

    #[test]
    fn names_the_storage_endpoint() {
        let (server, mut client) = simple();
        client.ask("id 1", &["a"]);
        let answer = client.addresses();
        assert_eq!(answer.response_id, "id 1");
        assert_eq!(answer.error(), AnnaError::NoError);
        assert_eq!(routed(&answer), [("a", server.storage())]);
    }

    #[test]
    fn answers_the_first_unseen_key_and_drops_the_others() {
        let (server, mut client) = simple();
        client.ask("first", &["a", "b", "c"]);
        client.ask("second", &["a", "b", "c"]);
        client.ask("third", &["b", "a"]);
        assert_eq!(routed(&client.addresses()), [("a", server.storage())]);
        // That it knows "a" by now is of no use to the request.
        assert_eq!(routed(&client.addresses()), [("b", server.storage())]);
        let third = client.addresses();
        assert_eq!(routed(&third), [("b", server.storage()), ("a", server.storage())]);
        assert_eq!(third.response_id, "third");
    }

    #[test]
    fn threads_know_different_keys() {
        let (_server, mut client) = start(Options { routing_threads: 4, ..Options::default() });
        for thread in 0..4 {
            client.ask_thread(thread, "one", &["a", "b"]);
            assert_eq!(client.addresses().addresses.len(), 1);
            client.ask_thread(thread, "other", &["b"]);
            client.addresses();
            client.ask_thread(thread, "both", &["a", "b"]);
            assert_eq!(client.addresses().addresses.len(), 2);
        }
    }

    #[test]
    fn knows_metadata_without_having_seen_it() {
        let (server, mut client) = simple();
        let keys = ["ANNA_METADATA|stats|x", "ANNA_METADATA|access|y"];
        client.ask("metadata", &keys);
        let answer = client.addresses();
        assert_eq!(routed(&answer), keys.map(|key| (key, server.storage())));
    }

    #[test]
    fn an_empty_key_has_no_address_and_no_keys_no_answer() {
        let (_server, mut client) = simple();
        client.ask("nothing", &[]);
        client.ask("empty", &[""]);
        let answer = client.addresses();
        assert_eq!(answer.response_id, "empty");
        assert_eq!(routed(&answer), [("", &[][..])]);
    }

    #[test]
    fn says_that_there_are_no_servers() {
        let no_servers = Misbehaviour { no_servers: true, ..Misbehaviour::default() };
        let (server, mut client) = misbehaving(no_servers);
        client.ask("before", &["a", "b"]);
        let answer = client.addresses();
        assert_eq!(answer.error(), AnnaError::NoServers);
        assert_eq!(routed(&answer), [("a", &[][..]), ("b", &[][..])]);
        server.control().misbehave(Misbehaviour::default()).unwrap();
        client.ask("after", &["a", "b"]);
        assert_eq!(routed(&client.addresses()), [("a", server.storage())]);
    }
}

mod storage {
    use super::*;

    #[test]
    fn answers_unseen_keys_alone_and_known_ones_together_in_order() {
        let (_server, mut client) = simple();
        client.put("first", ["a", "b", "c"].map(|key| lww(key, 1, "x")));
        let replies: Vec<_> = (0..3).map(|_| client.reply()).collect();
        assert!(replies.iter().all(|reply| reply.response_id == "first"));
        assert!(replies.iter().all(|reply| reply.r#type() == RequestType::Put));
        let seen: HashSet<_> = replies.iter().flat_map(keys).collect();
        assert_eq!(seen, HashSet::from(["a", "b", "c"]));

        client.get("second", &["c", "new", "a", "b"]);
        assert_eq!(keys(&client.reply()), ["c", "a", "b"]);
        let alone = client.reply();
        assert_eq!(keys(&alone), ["new"]);
        assert_eq!(alone.response_id, "second");
        client.assert_no_more_replies();
    }

    #[test]
    fn unseen_keys_are_answered_in_any_order() {
        let (_server, mut client) = simple();
        let names: Vec<String> = (0..20).map(|number| number.to_string()).collect();
        let asked: Vec<&str> = names.iter().map(String::as_str).collect();
        client.get("id", &asked);
        let answered: Vec<_> = asked.iter().map(|_| client.reply().tuples.remove(0).key).collect();
        assert_ne!(answered, names);
        assert_eq!(HashSet::<String>::from_iter(answered), HashSet::from_iter(names));
    }

    #[test]
    fn a_key_twice_in_its_first_request_is_answered_twice() {
        let (_server, mut client) = simple();
        client.get("id", &["a", "a"]);
        client.reply_for("a");
        client.reply_for("a");
        client.get("id", &["a", "a"]);
        assert_eq!(keys(&client.reply()), ["a", "a"]);
    }

    #[test]
    fn a_missing_key_has_no_lattice_type() {
        let (_server, mut client) = simple();
        for _first_then_known in 0..2 {
            let missing = client.value("a");
            assert_eq!(missing.error(), AnnaError::KeyDne);
            assert_eq!(missing.lattice_type(), LatticeType::None);
            assert!(missing.payload.is_empty());
        }
    }

    #[test]
    fn metadata_is_served_without_a_first_touch() {
        let (_server, mut client) = simple();
        let keys_ = ["ANNA_METADATA|stats|x", "ANNA_METADATA|access|y"];
        client.put("put", keys_.map(|key| lww(key, 1, "x")));
        assert_eq!(keys(&client.reply()), keys_);
        client.get("get", &keys_);
        let read = client.reply();
        assert_eq!(keys(&read), keys_);
        assert!(read.tuples.iter().all(|tuple| lww_of(tuple) == (1, "x".to_owned())));
    }

    #[test]
    fn a_write_is_acknowledged_with_its_type_and_read() {
        let (_server, mut client) = simple();
        let acknowledged = client.write(lww("a", 5, "five"));
        assert_eq!(acknowledged.error(), AnnaError::NoError);
        assert_eq!(acknowledged.lattice_type(), LatticeType::Lww);
        assert!(acknowledged.payload.is_empty());
        let read = client.value("a");
        assert_eq!(read.error(), AnnaError::NoError);
        assert_eq!(lww_of(&read), (5, "five".to_owned()));
    }

    #[test]
    fn the_later_of_two_writes_with_one_timestamp_wins() {
        let (_server, mut client) = simple();
        for value in ["first", "last"] {
            client.write(lww("a", 10, value));
        }
        assert_eq!(client.write(lww("a", 9, "older")).lattice_type(), LatticeType::Lww);
        assert_eq!(lww_of(&client.value("a")), (10, "last".to_owned()));
    }

    #[test]
    fn sets_grow_and_ordered_ones_stay_so() {
        let (_server, mut client) = simple();
        for kind in [LatticeType::Set, LatticeType::OrderedSet] {
            let key = kind.as_str_name();
            client.write(set(key, kind, &["c", "a"]));
            client.write(set(key, kind, &["b", "c"]));
            let read = client.value(key);
            assert_eq!(read.lattice_type(), kind);
            let mut values = set_of(&read);
            if kind == LatticeType::Set {
                values.sort();
            }
            assert_eq!(values, ["a", "b", "c"]);
        }
    }

    #[test]
    fn the_lower_priority_wins() {
        let (_server, mut client) = simple();
        for (priority, value) in [(2.0, "two"), (1.0, "one"), (3.0, "three")] {
            let payload = PriorityValue { priority, value: value.into() }.encode_to_vec();
            client.write(typed("a", LatticeType::Priority, payload));
        }
        let read = PriorityValue::decode(client.value("a").payload).unwrap();
        assert_eq!((read.priority, &read.value[..]), (1.0, &b"one"[..]));
    }

    #[test]
    fn concurrent_causal_values_are_both_read_until_a_newer_one_comes() {
        let (_server, mut client) = simple();
        let mut write = |clock: &[(&str, u32)], value: &'static str| {
            let payload = SingleKeyCausalValue {
                vector_clock: clock.iter().map(|(w, n)| ((*w).to_owned(), *n)).collect(),
                values: vec![value.into()],
            };
            client.write(typed("a", LatticeType::SingleCausal, payload.encode_to_vec()));
            SingleKeyCausalValue::decode(client.value("a").payload).unwrap().values.len()
        };
        assert_eq!(write(&[("left", 1)], "left"), 1);
        assert_eq!(write(&[("right", 1)], "right"), 2);
        assert_eq!(write(&[("left", 1), ("right", 2)], "both"), 1);
    }

    #[test]
    fn an_empty_value_or_set_reads_as_missing() {
        let (_server, mut client) = simple();
        client.write(lww("value", 1, "x"));
        client.write(lww("value", 2, ""));
        client.write(set("set", LatticeType::Set, &[]));
        for key in ["value", "set"] {
            assert_eq!(client.value(key).error(), AnnaError::KeyDne, "{key}");
        }
        // What was written last counts all the same.
        client.write(lww("value", 1, "older"));
        assert_eq!(client.value("value").error(), AnnaError::KeyDne);
        client.write(lww("value", 3, "newer"));
        assert_eq!(lww_of(&client.value("value")), (3, "newer".to_owned()));
    }

    #[test]
    fn an_empty_ordered_set_reads_as_one() {
        let (_server, mut client) = simple();
        client.write(set("a", LatticeType::OrderedSet, &[]));
        let read = client.value("a");
        assert_eq!((read.error(), set_of(&read).len()), (AnnaError::NoError, 0));
        assert_eq!(read.lattice_type(), LatticeType::OrderedSet);
    }

    #[test]
    fn a_request_of_no_type_writes_keys_that_it_touches_first() {
        let (_server, mut client) = simple();
        for value in ["first", "later"] {
            let request = client.request(RequestType::RtUnspecified, "id", [lww("a", 1, value)]);
            client.send(0, request);
            assert_eq!(client.reply_for("a").error(), AnnaError::NoError);
        }
        assert_eq!(lww_of(&client.value("a")), (1, "first".to_owned()));
    }

    #[test]
    fn a_write_without_a_type_or_of_another_is_acknowledged_and_not_stored() {
        let (_server, mut client) = simple();
        client.write(lww("a", 1, "kept"));
        let untyped = KeyTuple { lattice_type: LatticeType::None.into(), ..lww("a", 2, "lost") };
        let of_another = set("a", LatticeType::Set, &["lost"]);
        let new = KeyTuple { lattice_type: LatticeType::None.into(), ..lww("new", 1, "lost") };
        for tuple in [untyped, of_another, new] {
            let acknowledged = client.write(tuple);
            assert_eq!(acknowledged.error(), AnnaError::NoError);
            assert_eq!(acknowledged.lattice_type(), LatticeType::None);
        }
        assert_eq!(lww_of(&client.value("a")), (1, "kept".to_owned()));
        assert_eq!(client.value("new").error(), AnnaError::KeyDne);
    }

    #[test]
    fn a_payload_that_cannot_be_read_is_acknowledged_and_lost() {
        let (_server, mut client) = simple();
        client.write(lww("a", 1, "kept"));
        for key in ["a", "new"] {
            let acknowledged = client.write(typed(key, LatticeType::Lww, vec![0xff; 3]));
            assert_eq!(acknowledged.error(), AnnaError::NoError);
            assert_eq!(acknowledged.lattice_type(), LatticeType::Lww);
        }
        assert_eq!(lww_of(&client.value("a")), (1, "kept".to_owned()));
        assert_eq!(client.value("new").error(), AnnaError::KeyDne);
    }

    #[test]
    fn a_request_without_an_address_is_done_and_not_answered() {
        let (_server, mut client) = simple();
        let request = client.request(RequestType::Put, "silent", [lww("a", 1, "done")]);
        client.send(0, KeyRequest { response_address: String::new(), ..request });
        assert_eq!(lww_of(&client.value("a")), (1, "done".to_owned()));
        client.assert_no_more_replies();
    }

    #[test]
    fn a_request_for_nothing_is_never_answered() {
        let (_server, mut client) = simple();
        client.get("nothing", &[]);
        client.assert_no_more_replies();
    }

    #[test]
    fn what_is_no_request_and_an_empty_key_are_ignored() {
        let (server, mut client) = simple();
        client.get("empty", &["", "a"]);
        assert_eq!(keys(&client.reply()), ["a"]);
        let (storage, routing) = (client.storage[0].clone(), client.routing[0].clone());
        client.sockets.outbox().send(&storage, vec![0xff; 9]);
        client.sockets.outbox().send(&routing, vec![0xff; 9]);
        client.ask("still there", &["a"]);
        client.addresses();
        client.assert_no_more_replies();
        let counters = server.control().status().counters;
        assert_eq!((counters.keys_ignored, counters.unreadable), (1, 2));
    }

    #[test]
    fn invalidates_caches_of_known_keys_only() {
        let (_server, mut client) = simple();
        let mut invalidates = |addresses| {
            let cached = KeyTuple { address_cache_size: addresses, ..tuple("a") };
            let request = client.request(RequestType::Get, "id", [cached]);
            client.send(0, request);
            client.reply_for("a").invalidate
        };
        assert!(!invalidates(2), "the first touch says nothing");
        assert!(invalidates(2));
        assert!(!invalidates(1));
        assert!(!invalidates(0));
    }
}

mod threads {
    use super::*;

    fn two() -> (Handle, Client) {
        start(Options { threads: 2, ..Options::default() })
    }

    #[test]
    fn a_key_of_another_thread_is_refused_alone() {
        let (_server, mut client) = two();
        let (own, other) = one_key_of_each(&mut client);
        client.get("first", &[&own]);
        client.reply();
        for _first_then_known in 0..2 {
            client.get("mixed", &[&other, &own]);
            assert_eq!(keys(&client.reply()), [&own]);
            let refused = client.reply_for(&other);
            assert_eq!(refused.error(), AnnaError::WrongThread);
            assert_eq!(refused.lattice_type(), LatticeType::None);
        }
    }

    #[test]
    fn metadata_of_another_thread_is_refused_with_what_else_is_known() {
        let (_server, mut client) = two();
        let mut names = (0..).map(|number| format!("ANNA_METADATA|stats|{number}"));
        let other = names.find(|key| owner(&mut client, key) == 1).unwrap();
        let own = names.find(|key| owner(&mut client, key) == 0).unwrap();
        client.put("id", [lww(&other, 1, "x"), lww(&own, 1, "x")]);
        let reply = client.reply();
        assert_eq!(keys(&reply), [&other, &own]);
        let errors = [AnnaError::WrongThread, AnnaError::NoError];
        assert_eq!([reply.tuples[0].error(), reply.tuples[1].error()], errors);
        assert_eq!(reply.tuples[0].lattice_type(), LatticeType::Lww);
    }

    #[test]
    fn keys_move_with_their_values() {
        let (server, mut client) = two();
        let (key, _) = one_key_of_each(&mut client);
        client.write(lww(&key, 1, "moved"));
        server.control().move_keys(std::slice::from_ref(&key), 1).unwrap();
        assert_eq!(client.value(&key).error(), AnnaError::WrongThread);
        assert_eq!(owner(&mut client, &key), 1);
        let request = client.request(RequestType::Get, "there", [tuple(&key)]);
        client.send(1, request);
        assert_eq!(lww_of(&client.reply_for(&key)), (1, "moved".to_owned()));

        server.control().rotate(1);
        assert_eq!(owner(&mut client, &key), 0);
        assert_eq!(lww_of(&client.value(&key)), (1, "moved".to_owned()));
        server.control().move_keys(&[key], 2).unwrap_err();
    }
}

mod misbehaviour {
    use super::*;

    #[test]
    fn lost_requests_are_not_done_and_lost_replies_are() {
        let (server, mut client) = simple();
        let control = server.control();
        let behave = |misbehaviour| control.misbehave(misbehaviour).unwrap();
        let put = |client: &mut Client, key: &str, counted: &dyn Fn(&Control) -> u64| {
            client.put("lost", [lww(key, 1, "x")]);
            wait_until(|| counted(control) == 1);
        };
        behave(Misbehaviour { drop_requests: 1.0, ..Misbehaviour::default() });
        put(&mut client, "a", &|control| control.status().counters.requests_dropped);
        behave(Misbehaviour { drop_replies: 1.0, ..Misbehaviour::default() });
        put(&mut client, "b", &|control| control.status().counters.replies_dropped);
        behave(Misbehaviour::default());
        assert_eq!(client.value("a").error(), AnnaError::KeyDne);
        assert_eq!(client.value("b").error(), AnnaError::NoError);
    }

    #[test]
    fn a_silent_server_goes_on_without_what_it_was_asked() {
        let (server, mut client) =
            misbehaving(Misbehaviour { silent: true, ..Misbehaviour::default() });
        client.get("lost", &["a"]);
        client.ask("lost", &["a"]);
        wait_until(|| server.control().status().counters.requests_dropped == 2);
        server.control().misbehave(Misbehaviour::default()).unwrap();
        client.get("answered", &["a"]);
        assert_eq!(client.reply().response_id, "answered");
        client.ask("answered", &["a"]);
        assert_eq!(client.addresses().response_id, "answered");
    }

    #[test]
    fn answers_twice() {
        let (_server, mut client) =
            misbehaving(Misbehaviour { twice: 1.0, ..Misbehaviour::default() });
        client.get("id", &["a"]);
        assert_eq!(client.reply(), client.reply());
    }

    #[test]
    fn answers_out_of_order() {
        let (_server, mut client) =
            misbehaving(Misbehaviour { reorder: 1.0, ..Misbehaviour::default() });
        // Both in one connection, and the first waits for the second: at most 20 milliseconds, so
        // there are some tries.
        let overtaken = (0..100).any(|_| {
            client.get("first", &["a"]);
            client.get("second", &["a"]);
            let order = [client.reply().response_id, client.reply().response_id];
            order == ["second", "first"]
        });
        assert!(overtaken);
    }

    #[test]
    fn answers_late() {
        let late = Misbehaviour { delay_ms: (300, 400), ..Misbehaviour::default() };
        let (_server, mut client) = misbehaving(late);
        client.get("id", &["a"]);
        assert_eq!(client.reply_within(Duration::from_millis(100)), None);
        assert_eq!(client.reply().response_id, "id");
    }

    #[test]
    fn refuses_keys_that_it_owns() {
        let (_server, mut client) =
            misbehaving(Misbehaviour { wrong_thread: 0.5, ..Misbehaviour::default() });
        let refused =
            |client: &mut Client| client.write(lww("a", 1, "x")).error() == AnnaError::WrongThread;
        let outcomes: HashSet<bool> = (0..40).map(|_| refused(&mut client)).collect();
        assert_eq!(outcomes.len(), 2);
    }

    #[test]
    fn forgets_everything() {
        let (server, mut client) = simple();
        client.write(lww("a", 1, "x"));
        client.ask("id", &["a"]);
        client.addresses();
        assert_eq!(server.control().status().keys, 1);
        server.control().forget();
        assert_eq!(server.control().status().keys, 0);
        assert_eq!(client.value("a").error(), AnnaError::KeyDne);
        // Its type is forgotten too, and that it was seen.
        client.write(set("a", LatticeType::Set, &["x"]));
        assert_eq!(set_of(&client.value("a")), ["x"]);
        client.ask("id", &["a", "b"]);
        assert_eq!(client.addresses().addresses.len(), 1);
    }
}

mod process {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpStream;
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// The server as a command, and what its first line said.
    struct Process {
        child: Child,
        ready: String,
    }

    impl Process {
        fn start(args: &[&str]) -> Self {
            let mut child = command(args).stdout(Stdio::piped()).spawn().unwrap();
            let mut ready = String::new();
            BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
            assert!(ready.starts_with("ready "), "it said {ready:?}");
            Self { child, ready }
        }

        fn told(&self, name: &str) -> String {
            let mut words = self.ready.split_whitespace().filter_map(|word| word.split_once('='));
            words.find(|(found, _)| *found == name).unwrap().1.to_owned()
        }

        fn client(&self) -> Client {
            let endpoints =
                |name| -> Vec<String> { self.told(name).split(',').map(str::to_owned).collect() };
            Client::of(&endpoints("routing"), &endpoints("storage"))
        }

        fn signal(&self, signal: rustix::process::Signal) {
            let pid = rustix::process::Pid::from_child(&self.child);
            rustix::process::kill_process(pid, signal).unwrap();
        }
    }

    impl Drop for Process {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    fn command(args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aft"));
        command.arg("anna-server").args(args);
        command
    }

    fn with_data(place: &Path, offset: &str, more: &[&str]) -> Process {
        let args = ["--data-dir", place.to_str().unwrap(), "--port-offset", offset];
        Process::start(&[&args[..], more].concat())
    }

    #[test]
    fn acknowledged_writes_survive_kill_9() {
        for more in [&[][..], &["--no-sync"]] {
            let place = tempfile::tempdir().unwrap();
            let mut process = with_data(place.path(), "free", more);
            let offset = process.told("port-offset");
            let mut client = process.client();
            client.write(set("set", LatticeType::OrderedSet, &["b", "a"]));
            for number in 0..2_000 {
                client.put("many", [lww(&format!("key {number}"), 1, "kept")]);
            }
            let acknowledged: Vec<_> = (0..500).map(|_| client.reply().tuples.remove(0)).collect();
            // In the middle of the others.
            process.signal(rustix::process::Signal::KILL);
            process.child.wait().unwrap();

            let restarted = with_data(place.path(), &offset, more);
            assert_eq!(restarted.told("storage"), process.told("storage"));
            let mut client = restarted.client();
            for KeyTuple { key, .. } in &acknowledged {
                assert_eq!(lww_of(&client.value(key)), (1, "kept".to_owned()));
            }
            assert_eq!(set_of(&client.value("set")), ["a", "b"]);
        }
    }

    #[test]
    fn signals_end_it_with_status_0() {
        use rustix::process::Signal;
        for signal in [Signal::TERM, Signal::INT] {
            let mut process = Process::start(&["--port-offset", "free"]);
            process.signal(signal);
            assert_eq!(process.child.wait().unwrap().code(), Some(0));
        }
    }

    #[test]
    fn a_taken_port_is_named() {
        let first = Process::start(&["--port-offset", "free"]);
        let second = command(&["--port-offset", &first.told("port-offset")]).output().unwrap();
        assert_eq!(second.status.code(), Some(1));
        let said = String::from_utf8(second.stderr).unwrap();
        assert!(said.contains(&first.told("routing")), "{said}");
        assert!(said.contains("--port-offset"), "{said}");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for args in [
            &["--threads", "0"][..],
            &["--routing-threads", "11"],
            &["--port-offset", "65000"],
            &["--twice", "1.5"],
            &["--delay-ms", "5-4"],
        ] {
            let output = command(args).output().unwrap();
            assert_eq!(output.status.code(), Some(64), "{args:?}: {output:?}");
        }
    }

    #[test]
    fn is_controlled_over_http() {
        let args = ["--port-offset", "free", "--threads", "2", "--admin", "127.0.0.1:0"];
        let process = Process::start(&args);
        let mut client = process.client();
        let admin = process.told("admin");
        let (key, _) = one_key_of_each(&mut client);
        client.write(lww(&key, 1, "x"));
        let (code, status) = http(&admin, "GET", "/status", "");
        assert_eq!((code, &status["keys"]), (200, &1.into()));

        let keys = format!(r#"{{"keys": [{key:?}], "to": 1}}"#);
        assert_eq!(http(&admin, "POST", "/move", &keys).0, 200);
        assert_eq!(client.value(&key).error(), AnnaError::WrongThread);
        assert_eq!(http(&admin, "POST", "/move", r#"{"rotate": 1}"#).0, 200);
        assert_eq!(client.value(&key).error(), AnnaError::NoError);

        let (code, status) = http(&admin, "POST", "/misbehave", r#"{"no_servers": true}"#);
        assert_eq!((code, &status["misbehaviour"]["no_servers"]), (200, &true.into()));
        client.ask("id", &["a"]);
        assert_eq!(client.addresses().error(), AnnaError::NoServers);

        let (code, status) = http(&admin, "POST", "/forget", "");
        assert_eq!((code, &status["keys"]), (200, &0.into()));
        for (path, body) in [
            ("/misbehave", r#"{"no_servers": 1}"#),
            ("/misbehave", r#"{"unknown": 1}"#),
            ("/misbehave", r#"{"twice": 2}"#),
            ("/move", r#"{"keys": ["a"], "to": 2}"#),
            ("/move", r#"{"keys": ["a"]}"#),
        ] {
            let (code, answer) = http(&admin, "POST", path, body);
            assert_eq!(code, 400, "{path} {body}");
            assert!(answer["error"].is_string());
        }
    }

    fn http(at: &str, method: &str, path: &str, body: &str) -> (u16, serde_json::Value) {
        let mut stream = TcpStream::connect(at).unwrap();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n\
             content-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let code = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        (code, serde_json::from_str(body).unwrap())
    }
}

#[test]
fn a_restarted_server_has_what_it_was_not_told_to_forget() {
    let place = tempfile::tempdir().unwrap();
    let options = || Options { data_dir: Some(place.path().to_owned()), ..Options::default() };
    let (server, mut client) = start(options());
    client.write(lww("forgotten", 1, "x"));
    server.control().forget();
    client.write(lww("kept", 1, "x"));
    let port_offset = PortOffset::Fixed(server.port_offset());
    server.stop();

    let server = server::start(Options { port_offset, ..options() }).unwrap();
    assert_eq!(server.control().status().keys, 1);
    // The client connects again by itself.
    assert_eq!(client.value("forgotten").error(), AnnaError::KeyDne);
    assert_eq!(client.value("kept").error(), AnnaError::NoError);
}

/// Waits for something that no message tells.
fn wait_until(condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < SOON, "it never came to be");
        std::thread::yield_now();
    }
}
