//! A core whose messages are delivered by hand.

use prost::Message;

use super::super::*;
use crate::anna::client::Acks;
use crate::wire::anna::key_address_response::KeyAddress;
use crate::wire::anna::{
    AnnaError, KeyAddressRequest, KeyAddressResponse, KeyRequest, KeyResponse, KeyTuple,
    LatticeType, LwwValue, RequestType,
};

pub(super) const A: &str = "tcp://10.0.0.1:6200";
pub(super) const B: &str = "tcp://10.0.0.2:6200";
pub(super) const TRY: Duration = Duration::from_millis(500);
pub(super) const WITHIN: Duration = Duration::from_secs(3);

/// A message on its way to the store.
#[derive(Debug, Clone)]
pub(super) struct Sent<M> {
    pub(super) to: String,
    pub(super) until: Duration,
    pub(super) message: M,
}

pub(super) type Answer = Result<Option<Lattice>, ClientError>;

pub(super) struct Bench {
    pub(super) core: Core,
    pub(super) now: Duration,
    pub(super) key_requests: Vec<Sent<KeyRequest>>,
    pub(super) lookups: Vec<Sent<KeyAddressRequest>>,
    pub(super) resets: Vec<String>,
    pub(super) done: Vec<(OpId, Answer)>,
    /// Whether what is sent finds a connection.
    pub(super) connected: bool,
    ops: OpId,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(&["tcp://10.0.0.9:6450"])
    }

    pub(super) fn with(routing: &[&str]) -> Self {
        let config = ClientConfig {
            routing: routing.iter().map(ToString::to_string).collect(),
            try_within: TRY,
            within: WITHIN,
            requests_max: 100,
            addresses_max: 100,
            ..ClientConfig::default()
        };
        let reply_to = ReplyTo { keys: "tcp://me:1".into(), addresses: "tcp://me:2".into() };
        Self {
            core: Core::new(&config, reply_to, 7),
            now: Duration::from_secs(100),
            key_requests: Vec::new(),
            lookups: Vec::new(),
            resets: Vec::new(),
            done: Vec::new(),
            connected: true,
            ops: 0,
        }
    }

    /// Hands in events that come together.
    pub(super) fn events(&mut self, events: impl IntoIterator<Item = Event>) {
        let mut effects = Vec::new();
        for event in events {
            self.core.handle(self.now, event, &mut effects);
        }
        self.core.flush(self.now, &mut effects);
        for effect in effects {
            self.act(effect);
        }
    }

    fn act(&mut self, effect: Effect) {
        match effect {
            Effect::Send { to, message, number, until } => {
                assert!(until > self.now, "sent too late to be sent");
                let to = to.to_string();
                if to.ends_with(":6200") {
                    if self.connected {
                        self.core.handle(self.now, Event::Departed(number), &mut Vec::new());
                    }
                    let message = KeyRequest::decode(&message[..]).unwrap();
                    self.key_requests.push(Sent { to, until, message });
                } else {
                    let message = KeyAddressRequest::decode(&message[..]).unwrap();
                    self.lookups.push(Sent { to, until, message });
                }
            }
            Effect::Reset(addr) => self.resets.push(addr.to_string()),
            Effect::Done { op, result } => self.done.push((op, result)),
        }
    }

    pub(super) fn start(&mut self, asks: &[(&str, Ask)]) -> Vec<OpId> {
        let first = self.ops + 1;
        self.ops += asks.len() as u64;
        let ops: Vec<OpId> = (first..=self.ops).collect();
        let event = |(op, (key, ask)): (&OpId, &(&str, Ask))| Event::Start {
            op: *op,
            key: (*key).into(),
            ask: ask.clone(),
        };
        let events: Vec<_> = ops.iter().zip(asks).map(event).collect();
        self.events(events);
        ops
    }

    /// Lets time pass, with all that is due in it.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.core.next_deadline().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.events([Event::Tick]);
        }
        self.now = end;
    }

    pub(super) fn lookup(&mut self) -> Sent<KeyAddressRequest> {
        assert_eq!(self.lookups.len(), 1, "{:?}", self.lookups);
        self.lookups.remove(0)
    }

    pub(super) fn request(&mut self) -> Sent<KeyRequest> {
        assert_eq!(self.key_requests.len(), 1, "{:?}", self.key_requests);
        self.key_requests.remove(0)
    }

    /// Answers all look-ups that are on their way.
    pub(super) fn route(&mut self, replicas: &[&str]) {
        for lookup in std::mem::take(&mut self.lookups) {
            self.events([Event::AddressAnswer(addresses(&lookup.message, replicas))]);
        }
    }

    /// Answers a request to a storage thread.
    pub(super) fn answer(&mut self, to: &Sent<KeyRequest>, tuples: Vec<KeyTuple>) {
        self.events([Event::KeyAnswer(response(&to.message, tuples))]);
    }

    pub(super) fn result(&mut self) -> Answer {
        assert_eq!(self.done.len(), 1, "{:?}", self.done);
        self.done.remove(0).1
    }

    /// Nothing is remembered of operations once they have ended.
    pub(super) fn assert_clean(&self) {
        assert!(self.core.ops.is_empty() && self.core.requests.is_empty());
        assert!(self.core.ready.is_empty());
        let numbers = self.core.lookups.values().map(|lookup| lookup.numbers.len());
        assert_eq!(numbers.sum::<usize>(), self.core.lookup_numbers.len());
    }
}

pub(super) fn get() -> Ask {
    Ask::Get { whom: Whom::Any }
}

pub(super) fn put(acks: Acks) -> Ask {
    let value = lww("v");
    Ask::Put { kind: value.kind(), payload: value.to_payload(), acks }
}

pub(super) fn lww(text: &'static str) -> Lattice {
    Lattice::Lww { timestamp: 1, value: Bytes::from_static(text.as_bytes()) }
}

pub(super) fn addresses(request: &KeyAddressRequest, replicas: &[&str]) -> Bytes {
    let ips: Vec<String> = replicas.iter().map(ToString::to_string).collect();
    let error = if ips.is_empty() { AnnaError::NoServers } else { AnnaError::NoError };
    let keys = request.keys.iter();
    let addresses = keys.map(|key| KeyAddress { key: key.clone(), ips: ips.clone() }).collect();
    let response_id = request.request_id.clone();
    KeyAddressResponse { addresses, error: error.into(), response_id }.encode_to_vec().into()
}

pub(super) fn response(request: &KeyRequest, tuples: Vec<KeyTuple>) -> Bytes {
    let (r#type, response_id) = (request.r#type, request.request_id.clone());
    KeyResponse { r#type, tuples, response_id, ..KeyResponse::default() }.encode_to_vec().into()
}

pub(super) fn value(key: &str, text: &str) -> KeyTuple {
    let value = Bytes::copy_from_slice(text.as_bytes());
    KeyTuple {
        key: key.into(),
        lattice_type: LatticeType::Lww.into(),
        payload: LwwValue { timestamp: 1, value }.encode_to_vec().into(),
        ..KeyTuple::default()
    }
}

pub(super) fn stored(key: &str) -> KeyTuple {
    KeyTuple { key: key.into(), lattice_type: LatticeType::Lww.into(), ..KeyTuple::default() }
}

pub(super) fn failed(key: &str, error: AnnaError) -> KeyTuple {
    KeyTuple { key: key.into(), error: error.into(), ..KeyTuple::default() }
}

pub(super) fn keys(request: &Sent<KeyRequest>) -> Vec<&str> {
    request.message.tuples.iter().map(|tuple| tuple.key.as_str()).collect()
}

pub(super) fn is_put(request: &KeyRequest) -> bool {
    request.r#type == i32::from(RequestType::Put)
}
