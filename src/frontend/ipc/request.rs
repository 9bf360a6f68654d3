//! Bytes to events. Whatever arrives, it becomes a request, or a reason with (where one can be read)
//! an address to send it to.

use bytes::Bytes;
use prost::Message;

use super::address::{self, AddressError};
use super::{Directory, Kind, RequestLimits, scan, token};
use crate::anna::lattice;
use crate::node::{Address, Event, Ticket, Token};
use crate::peer;
use crate::transport::{BadFrame, Caller, ReplyTo};
use crate::txn::{AttemptId, BaseId, IdError, Key};
use crate::wire::anna::{AnnaError, KeyRequest, KeyTuple, LatticeType, LwwValue};
use crate::wire::{CommitRequest, MetadataRequest};

/// The key of the tuple that carries the transaction id.
const TRANSACTION_ID: &str = "TRANSACTION_ID";

/// Why a message is not served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// It does not say what is asked.
    #[error(
        "{0} is no kind of request; 1 is start, 2 get, 3 put, 4 continue, 5 commit and 6 abort"
    )]
    Kind(u8),
    /// It is no request at all.
    #[error("what came on a connection is no request: {0}")]
    Frame(BadFrame),
    /// It cannot be decoded.
    #[error("the message is not a valid {0}: {1}")]
    Undecodable(&'static str, String),
    /// The reply address is missing or not acceptable.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The transaction id is missing or malformed.
    #[error(transparent)]
    Id(#[from] IdError),
    /// More than one transaction is named.
    #[error("the request names more than one transaction id")]
    TwoIds,
    /// Nothing is asked for.
    #[error("the request names no keys")]
    NoKeys,
    /// Too much is asked for.
    #[error("the request names {0} keys, at most {1} are allowed")]
    TooManyKeys(usize, usize),
    /// The message is too large.
    #[error("the message has {0} bytes, at most {1} are allowed (message-bytes-max)")]
    TooLarge(usize, usize),
    /// A node is named by something that is no address.
    #[error(transparent)]
    Node(#[from] peer::BadAddress),
    /// A token of a commit cannot be read.
    #[error("{0:?} is not the token of a commit; hand on what an answer to a commit brought")]
    Token(String),
    /// No tuple of the request can be served.
    #[error("{0}")]
    AllRefused(String),
}

impl BadRequest {
    /// A short name, for counters.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Kind(_) => "kind",
            Self::Frame(_) => "frame",
            Self::Undecodable(..) => "undecodable",
            Self::Address(_) => "reply_address",
            Self::Id(_) => "transaction_id",
            Self::TwoIds => "two_transaction_ids",
            Self::NoKeys => "no_keys",
            Self::TooManyKeys(..) => "too_many_keys",
            Self::TooLarge(..) => "too_large",
            Self::Node(_) => "node",
            Self::Token(_) => "token",
            Self::AllRefused(_) => "tuples_refused",
        }
    }
}

/// How a request says where its answer goes.
#[derive(Clone, Copy)]
pub(super) enum Way<'a> {
    /// It names a socket in this directory.
    Named(&'a Directory),
    /// Back to where it came from. It has no need to name anything, and must not.
    Back(Caller),
}

impl Way<'_> {
    fn reply_to(self, address: &str) -> Result<ReplyTo, AddressError> {
        match self {
            Self::Named(directory) => address::check(address, directory).map(ReplyTo::Endpoint),
            Self::Back(caller) if address.is_empty() => Ok(ReplyTo::Caller(caller)),
            Self::Back(_) => Err(AddressError::unasked(address)),
        }
    }

    /// How to answer a request of which nothing is understood.
    fn back(self, kind: Kind) -> Option<Pending> {
        let Self::Back(caller) = self else { return None };
        let asked = match kind {
            Kind::Start => Asked::Start,
            Kind::Continue => Asked::Continue,
            Kind::Commit => Asked::Commit { id: String::new() },
            Kind::Abort => Asked::Abort { id: String::new() },
            Kind::Get | Kind::Put => Asked::Keys {
                is_put: kind == Kind::Put,
                request_id: String::new(),
                slots: Vec::new(),
            },
        };
        Some(Pending { reply_to: ReplyTo::Caller(caller), asked })
    }

    /// Where the name of the socket begins, in a text that begins with its address.
    fn name_begins(self, text: &str) -> usize {
        match self {
            Self::Named(directory) => address::name_begins(text, directory).unwrap_or(0),
            Self::Back(_) => 0,
        }
    }
}

/// How and where a request is answered.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) reply_to: ReplyTo,
    pub(super) asked: Asked,
}

/// What the answer must echo.
#[derive(Debug)]
pub(super) enum Asked {
    Start,
    Keys { is_put: bool, request_id: String, slots: Vec<Slot> },
    Continue,
    Commit { id: String },
    Abort { id: String },
}

/// One tuple of the answer to a get or put.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) key: String,
    /// What was to be written.
    pub(super) lattice: LatticeType,
    /// Refused before the node saw it.
    pub(super) refused: Option<(AnnaError, String)>,
}

impl Slot {
    fn of(key: String) -> Self {
        Self { key, lattice: LatticeType::Lww, refused: None }
    }
}

type MakeEvent = Box<dyn FnOnce(Ticket) -> Event>;

/// What a message turned out to be.
pub(super) enum Decoded {
    Request(Pending, MakeEvent),
    Bad { why: BadRequest, reply_to: Option<Pending> },
}

/// A reason, and how far the request was understood.
struct Refused(BadRequest, Option<Pending>);

impl Refused {
    fn silent(why: impl Into<BadRequest>) -> Self {
        Self(why.into(), None)
    }
}

pub(super) fn decode(kind: Kind, message: Bytes, way: Way<'_>, limits: &RequestLimits) -> Decoded {
    let decoded = match kind {
        _ if message.len() > limits.message_bytes_max => {
            let why = BadRequest::TooLarge(message.len(), limits.message_bytes_max);
            Err(unreadable(kind, message, way, why))
        }
        Kind::Start => start(&message, way),
        Kind::Abort => abort(&message, way),
        Kind::Get | Kind::Put => keys(kind, message, way, limits),
        Kind::Commit => commit(message, way),
        Kind::Continue => continue_from(message, way),
    };
    match decoded {
        Ok((pending, make_event)) => Decoded::Request(pending, make_event),
        Err(Refused(why, reply_to)) => {
            let reply_to = reply_to.or_else(|| way.back(kind));
            Decoded::Bad { why, reply_to }
        }
    }
}

/// A request of so many bytes that none of it was kept.
pub(super) fn too_large(kind: Kind, bytes: usize, from: Caller, limits: &RequestLimits) -> Decoded {
    let why = BadRequest::TooLarge(bytes, limits.message_bytes_max);
    Decoded::Bad { why, reply_to: Way::Back(from).back(kind) }
}

type Request = Result<(Pending, MakeEvent), Refused>;

/// `<reply address>`, then `~<id>` if there is one, then `~<token>` for each commit that must be seen.
fn start(message: &Bytes, way: Way<'_>) -> Request {
    let text = utf8(message, "start request")?;
    // The directory's own name may hold a tilde; a socket's name may not.
    let name_begins = way.name_begins(text);
    let tilde = text.get(name_begins..).and_then(|name| name.find('~'));
    let (address, id) = match tilde.and_then(|tilde| text.split_at_checked(name_begins + tilde)) {
        Some((address, rest)) => (address, rest.strip_prefix('~')),
        None => (text, None),
    };
    let reply_to = way.reply_to(address).map_err(Refused::silent)?;
    let pending = Pending { reply_to, asked: Asked::Start };
    match start_parts(id) {
        Ok((id, after)) => {
            Ok((pending, Box::new(move |ticket| Event::Start { ticket, id, after })))
        }
        Err(why) => Err(Refused(why, Some(pending))),
    }
}

/// What follows the reply address.
fn start_parts(rest: Option<&str>) -> Result<(Option<BaseId>, Vec<Token>), BadRequest> {
    let Some(rest) = rest else { return Ok((None, Vec::new())) };
    let mut parts = rest.split('~');
    let id = parts.next().unwrap_or_default();
    // Without an id only tokens may follow.
    let id = if id.is_empty() && rest.len() > 1 { None } else { Some(BaseId::parse(id)?) };
    let after = parts.map(|text| token::parse(text).map_err(BadRequest::Token));
    Ok((id, after.collect::<Result<_, _>>()?))
}

/// `<id>~<reply address>`.
fn abort(message: &Bytes, way: Way<'_>) -> Request {
    let text = utf8(message, "abort request")?;
    let Some((id, address)) = text.split_once('~') else {
        return Err(Refused::silent(AddressError::Missing));
    };
    let reply_to = way.reply_to(address).map_err(Refused::silent)?;
    let pending = Pending { reply_to, asked: Asked::Abort { id: id.to_owned() } };
    match AttemptId::parse(id) {
        Ok(txn) => Ok((pending, Box::new(move |ticket| Event::Abort { ticket, txn }))),
        Err(why) => Err(Refused(why.into(), Some(pending))),
    }
}

fn commit(message: Bytes, way: Way<'_>) -> Request {
    let request = CommitRequest::decode(message.clone()).map_err(|error| {
        let why = BadRequest::Undecodable("CommitRequest", error.to_string());
        unreadable(Kind::Commit, message, way, why)
    })?;
    let reply_to = way.reply_to(&request.response_address).map_err(Refused::silent)?;
    let pending = Pending { reply_to, asked: Asked::Commit { id: request.tid.clone() } };
    match commit_parts(&request) {
        Ok((txn, addresses)) => {
            Ok((pending, Box::new(move |ticket| Event::Commit { ticket, txn, addresses })))
        }
        Err(why) => Err(Refused(why, Some(pending))),
    }
}

fn commit_parts(request: &CommitRequest) -> Result<(AttemptId, Vec<Address>), BadRequest> {
    let txn = AttemptId::parse(&request.tid)?;
    let named = request.addresses.iter().filter(|one| !one.is_empty());
    let named = named.map(|one| Ok(peer::normalize(one)?.into()));
    Ok((txn, named.collect::<Result<_, BadRequest>>()?))
}

fn continue_from(message: Bytes, way: Way<'_>) -> Request {
    let request = MetadataRequest::decode(message.clone()).map_err(|error| {
        let why = BadRequest::Undecodable("MetadataRequest", error.to_string());
        unreadable(Kind::Continue, message, way, why)
    })?;
    let reply_to = way.reply_to(&request.response_address).map_err(Refused::silent)?;
    let pending = Pending { reply_to, asked: Asked::Continue };
    let parts = AttemptId::parse(&request.tid).map_err(BadRequest::from);
    match parts.and_then(|txn| Ok((txn, peer::normalize(&request.address)?))) {
        Ok((txn, upstream)) => {
            let upstream = upstream.into();
            Ok((pending, Box::new(move |ticket| Event::Continue { ticket, txn, upstream })))
        }
        Err(why) => Err(Refused(why, Some(pending))),
    }
}

fn keys(kind: Kind, message: Bytes, way: Way<'_>, limits: &RequestLimits) -> Request {
    let message_bytes = message.len();
    let request = KeyRequest::decode(message.clone()).map_err(|error| {
        let why = BadRequest::Undecodable("KeyRequest", error.to_string());
        unreadable(kind, message, way, why)
    })?;
    let reply_to = way.reply_to(&request.response_address).map_err(Refused::silent)?;
    let (ids, tuples): (Vec<_>, Vec<_>) =
        request.tuples.into_iter().partition(|tuple| tuple.key == TRANSACTION_ID);
    let is_put = kind == Kind::Put;
    let pending = |slots| Pending {
        reply_to: reply_to.clone(),
        asked: Asked::Keys { is_put, request_id: request.request_id.clone(), slots },
    };
    if tuples.len() > limits.keys_max {
        let why = BadRequest::TooManyKeys(tuples.len(), limits.keys_max);
        return Err(Refused(why, Some(pending(Vec::new()))));
    }
    let txn = match transaction_id(&ids) {
        Ok(txn) if !tuples.is_empty() => txn,
        Ok(_) => return Err(Refused(BadRequest::NoKeys, Some(pending(Vec::new())))),
        Err(why) => return Err(Refused(why, Some(pending(untouched(tuples))))),
    };
    if is_put && txn.is_none() && tuples.iter().any(|tuple| !is_lww(tuple)) {
        let (slots, values) = merges(tuples);
        let refused = slots.iter().find_map(|slot| slot.refused.as_ref());
        if let Some((_, why)) = refused {
            let why = BadRequest::AllRefused(why.clone());
            return Err(Refused(why, Some(pending(slots))));
        }
        return Ok((pending(slots), Box::new(move |ticket| Event::Merge { ticket, values })));
    }
    if is_put {
        let (slots, writes) = writes(tuples, message_bytes);
        let refused = slots.iter().find_map(|slot| slot.refused.as_ref());
        // Outside of a transaction the request is one: all of it or nothing.
        if let Some((_, why)) = refused.filter(|_| txn.is_none() || writes.is_empty()) {
            let why = BadRequest::AllRefused(why.clone());
            return Err(Refused(why, Some(pending(slots))));
        }
        return Ok((pending(slots), Box::new(move |ticket| Event::Put { ticket, txn, writes })));
    }
    let (slots, keys) = reads(tuples);
    if keys.is_empty() {
        let why = slots.iter().find_map(|slot| slot.refused.as_ref().map(|(_, why)| why.clone()));
        let why = BadRequest::AllRefused(why.unwrap_or_default());
        return Err(Refused(why, Some(pending(slots))));
    }
    Ok((pending(slots), Box::new(move |ticket| Event::Get { ticket, txn, keys })))
}

fn transaction_id(tuples: &[KeyTuple]) -> Result<Option<AttemptId>, BadRequest> {
    let id = match tuples {
        [] => return Ok(None),
        [tuple] => std::str::from_utf8(&tuple.payload).ok(),
        _ => return Err(BadRequest::TwoIds),
    };
    let id = id.ok_or(IdError::BadCharacter(char::REPLACEMENT_CHARACTER))?;
    Ok(Some(AttemptId::parse(id)?))
}

fn untouched(tuples: Vec<KeyTuple>) -> Vec<Slot> {
    tuples.into_iter().map(|tuple| Slot::of(tuple.key)).collect()
}

fn reads(tuples: Vec<KeyTuple>) -> (Vec<Slot>, Vec<Key>) {
    let mut keys = Vec::with_capacity(tuples.len());
    let slots = tuples.into_iter().map(|tuple| {
        let refused = match Key::parse(&tuple.key) {
            Ok(key) => {
                keys.push(key);
                None
            }
            Err(why) => Some((AnnaError::Invalid, why.to_string())),
        };
        Slot { refused, ..Slot::of(tuple.key) }
    });
    (slots.collect(), keys)
}

fn writes(tuples: Vec<KeyTuple>, message_bytes: usize) -> (Vec<Slot>, Vec<(Key, Bytes)>) {
    let mut writes = Vec::with_capacity(tuples.len());
    let slots = tuples.into_iter().map(|tuple| {
        let refused = match write(&tuple, message_bytes) {
            Ok(write) => {
                writes.push(write);
                None
            }
            Err(refused) => Some(refused),
        };
        Slot { refused, ..Slot::of(tuple.key) }
    });
    (slots.collect(), writes)
}

fn is_lww(tuple: &KeyTuple) -> bool {
    tuple.lattice_type == LatticeType::Lww as i32
}

/// A key, the type of a lattice, and a serialized value of it.
type Merge = (Key, LatticeType, Bytes);

/// Values that the store merges by itself.
fn merges(tuples: Vec<KeyTuple>) -> (Vec<Slot>, Vec<Merge>) {
    let mut values = Vec::with_capacity(tuples.len());
    let slots = tuples.into_iter().map(|tuple| {
        let refused = match merge(&tuple) {
            Ok(value) => {
                values.push(value);
                None
            }
            Err(refused) => Some(refused),
        };
        Slot { lattice: tuple.lattice_type(), key: tuple.key, refused }
    });
    (slots.collect(), values)
}

fn merge(tuple: &KeyTuple) -> Result<Merge, (AnnaError, String)> {
    let key = Key::parse(&tuple.key).map_err(|why| (AnnaError::Invalid, why.to_string()))?;
    let unusable = |why: String| (AnnaError::Lattice, why);
    let kind = LatticeType::try_from(tuple.lattice_type);
    let kind =
        kind.map_err(|_| unusable(format!("there is no lattice type {}", tuple.lattice_type)))?;
    match kind {
        LatticeType::None => Err(unusable("the tuple names no lattice type".to_owned())),
        LatticeType::Lww => Err(unusable(
            "last-writer-wins values take effect together and other lattices do not: write them in \
             a request of their own"
                .to_owned(),
        )),
        kind => {
            let checked = lattice::check(kind, &tuple.payload);
            checked.map_err(|why| unusable(why.to_string()))?;
            Ok((key, kind, tuple.payload.clone()))
        }
    }
}

fn write(tuple: &KeyTuple, message_bytes: usize) -> Result<(Key, Bytes), (AnnaError, String)> {
    let key = Key::parse(&tuple.key).map_err(|why| (AnnaError::Invalid, why.to_string()))?;
    if !is_lww(tuple) {
        let why = format!(
            "lattice type {} cannot be written in a transaction, only last-writer-wins values can; \
             without a transaction id it goes through to the store, if that merges it",
            tuple.lattice_type
        );
        return Err((AnnaError::Lattice, why));
    }
    let value = LwwValue::decode(tuple.payload.clone())
        .map_err(|why| (AnnaError::Lattice, format!("the payload is not an LWWValue: {why}")))?
        .value;
    // A small value would keep the whole large message alive.
    let value =
        if value.len() * 2 < message_bytes { Bytes::copy_from_slice(&value) } else { value };
    Ok((key, value))
}

fn utf8<'a>(message: &'a Bytes, what: &'static str) -> Result<&'a str, Refused> {
    std::str::from_utf8(message)
        .map_err(|why| Refused::silent(BadRequest::Undecodable(what, why.to_string())))
}

/// Finds out whom to tell about a message that cannot be served as a whole.
fn unreadable(kind: Kind, message: Bytes, way: Way<'_>, why: BadRequest) -> Refused {
    let fields = scan::fields(message);
    let id = || scan::text(&fields, 1);
    let (address_field, asked) = match kind {
        Kind::Start | Kind::Abort => return Refused::silent(why),
        Kind::Commit => (2, Asked::Commit { id: id() }),
        Kind::Continue => (2, Asked::Continue),
        Kind::Get | Kind::Put => {
            let is_put = kind == Kind::Put;
            let request_id = scan::text(&fields, 4);
            (3, Asked::Keys { is_put, request_id, slots: readable_slots(&fields) })
        }
    };
    match way.reply_to(&scan::text(&fields, address_field)) {
        Ok(reply_to) => Refused(why, Some(Pending { reply_to, asked })),
        Err(_) => Refused::silent(why),
    }
}

fn readable_slots(fields: &[(u32, Bytes)]) -> Vec<Slot> {
    let tuples = fields.iter().filter(|(tag, _)| *tag == 2);
    let keys = tuples.map(|(_, tuple)| scan::text(&scan::fields(tuple.clone()), 1));
    keys.filter(|key| key != TRANSACTION_ID).map(Slot::of).collect()
}
