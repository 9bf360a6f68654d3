//! Requests as an executor would send them, answers as the sidecar would give them.

use bytes::Bytes;
use prost::Message;

use crate::frontend::ipc::Kind;
use crate::wire::anna::{
    AnnaError, KeyRequest, KeyResponse, KeyTuple, LatticeType, LwwValue, RequestType,
};
use crate::wire::{CommitRequest, MetadataRequest, TransactionStatus, TransactionTag};

/// All request ids have this length, so that a prepared answer can be made to fit any of them.
pub(super) const REQUEST_ID_BYTES: usize = 12;

/// The name of the n-th key. All have one length.
pub(super) fn key(number: usize) -> String {
    format!("bench-{number:08}")
}

/// The id of the n-th request.
pub(super) fn request_id(number: u64) -> String {
    format!("{number:0REQUEST_ID_BYTES$}")
}

/// Makes the requests of one client.
pub(super) struct Requests {
    pub(super) answer_endpoint: String,
    pub(super) value: Bytes,
}

impl Requests {
    pub(super) fn start(&self) -> Vec<u8> {
        self.answer_endpoint.clone().into_bytes()
    }

    pub(super) fn abort(&self, txn: &str) -> Vec<u8> {
        format!("{txn}~{}", self.answer_endpoint).into_bytes()
    }

    pub(super) fn commit(&self, txn: &str) -> Vec<u8> {
        CommitRequest {
            tid: txn.to_owned(),
            response_address: self.answer_endpoint.clone(),
            addresses: Vec::new(),
        }
        .encode_to_vec()
    }

    pub(super) fn get(&self, txn: &str, key: String, id: String) -> Vec<u8> {
        let tuple = KeyTuple { key, ..KeyTuple::default() };
        self.keys(RequestType::Get, Some(txn), vec![tuple], id)
    }

    pub(super) fn put(&self, txn: &str, keys: impl Iterator<Item = String>, id: String) -> Vec<u8> {
        self.keys(RequestType::Put, Some(txn), self.writes(keys), id)
    }

    /// A write that is a transaction of its own.
    pub(super) fn put_alone(&self, key: String, id: String) -> Vec<u8> {
        self.keys(RequestType::Put, None, self.writes(std::iter::once(key)), id)
    }

    fn writes(&self, keys: impl Iterator<Item = String>) -> Vec<KeyTuple> {
        let payload: Bytes = lww(self.value.clone()).into();
        let tuple = |key| KeyTuple {
            key,
            lattice_type: LatticeType::Lww as i32,
            payload: payload.clone(),
            ..KeyTuple::default()
        };
        keys.map(tuple).collect()
    }

    /// Reads outside of any transaction.
    pub(super) fn get_alone(&self, keys: &[String], id: String) -> Vec<u8> {
        let tuple = |key: &String| KeyTuple { key: key.clone(), ..KeyTuple::default() };
        self.keys(RequestType::Get, None, keys.iter().map(tuple).collect(), id)
    }

    /// A transaction that ran at the node `from` goes on here.
    pub(super) fn go_on(&self, txn: &str, from: &str) -> Vec<u8> {
        MetadataRequest {
            tid: txn.to_owned(),
            response_address: self.answer_endpoint.clone(),
            address: from.to_owned(),
        }
        .encode_to_vec()
    }

    fn keys(
        &self,
        kind: RequestType,
        txn: Option<&str>,
        mut tuples: Vec<KeyTuple>,
        id: String,
    ) -> Vec<u8> {
        tuples.extend(txn.map(|txn| KeyTuple {
            key: "TRANSACTION_ID".to_owned(),
            payload: Bytes::copy_from_slice(txn.as_bytes()),
            ..KeyTuple::default()
        }));
        KeyRequest {
            r#type: kind as i32,
            tuples,
            response_address: self.answer_endpoint.clone(),
            request_id: id,
        }
        .encode_to_vec()
    }
}

fn lww(value: Bytes) -> Vec<u8> {
    // As long as a clock's.
    let timestamp = 1_790_000_000_000_000_000;
    LwwValue { timestamp, value }.encode_to_vec()
}

/// The id in the answer to a start.
pub(super) fn started(answer: Bytes) -> Result<String, String> {
    let tag = TransactionTag::decode(answer).map_err(|why| why.to_string())?;
    if tag.id.is_empty() {
        return Err(tag.detail);
    }
    Ok(tag.id)
}

/// Checks the answer to a commit or an abort.
pub(super) fn ended(answer: Bytes, hoped: TransactionStatus) -> Result<(), String> {
    let tag = TransactionTag::decode(answer).map_err(|why| why.to_string())?;
    if tag.status() != hoped {
        return Err(tag.detail);
    }
    Ok(())
}

/// Checks the answer to a get (of a value of `value_bytes`) or to a put.
pub(super) fn served(answer: Bytes, id: &str, value_bytes: Option<usize>) -> Result<(), String> {
    let answer = KeyResponse::decode(answer).map_err(|why| why.to_string())?;
    if answer.response_id != id {
        return Err(format!("the answer to {id} is for {}", answer.response_id));
    }
    let refused = |tuple: &&KeyTuple| tuple.error() != AnnaError::NoError;
    if answer.error() != AnnaError::NoError || answer.tuples.iter().any(|t| refused(&t)) {
        return Err(format!("refused: {}", answer.detail));
    }
    let (Some(expected), Some(tuple)) = (value_bytes, answer.tuples.first()) else {
        return Ok(());
    };
    let value = LwwValue::decode(tuple.payload.clone()).map_err(|why| why.to_string())?;
    match value.value.len() {
        found if found == expected => Ok(()),
        found => Err(format!("a value of {found} bytes, not {expected}")),
    }
}

/// The values in the answer to a get, in the order asked for. A key without a value has an empty one.
pub(super) fn values(answer: Bytes, id: &str) -> Result<Vec<Bytes>, String> {
    let answer = KeyResponse::decode(answer).map_err(|why| why.to_string())?;
    if answer.response_id != id {
        return Err(format!("the answer to {id} is for {}", answer.response_id));
    }
    let value = |tuple: KeyTuple| match tuple.error() {
        AnnaError::NoError => LwwValue::decode(tuple.payload).map(|lww| lww.value),
        _ => Ok(Bytes::new()),
    };
    let values = answer.tuples.into_iter().map(value).collect::<Result<_, _>>();
    values.map_err(|why| why.to_string())
}

/// Checks the answer to going on with a transaction: the node's address, and nothing behind it.
pub(super) fn gone_on(answer: &[u8]) -> Result<(), String> {
    match answer.contains(&b'~') {
        false => Ok(()),
        true => Err(String::from_utf8_lossy(answer).into_owned()),
    }
}

/// The sidecar's answer to a request of this kind, with the ids of some transaction and request.
pub(super) fn answer(kind: Kind, value_bytes: usize) -> Vec<u8> {
    match kind {
        Kind::Start => tag(TransactionStatus::Running),
        Kind::Commit => tag(TransactionStatus::Committed),
        Kind::Abort => tag(TransactionStatus::Aborted),
        Kind::Continue => Vec::new(),
        Kind::Get => keys_answer(RequestType::Get, lww(vec![7; value_bytes].into())),
        Kind::Put => keys_answer(RequestType::Put, Vec::new()),
    }
}

fn tag(status: TransactionStatus) -> Vec<u8> {
    TransactionTag {
        id: "01890a5d-ac96-774b-bcce-b302099a8057".to_owned(),
        status: status as i32,
        address: "127.0.0.1".to_owned(),
        ..TransactionTag::default()
    }
    .encode_to_vec()
}

fn keys_answer(kind: RequestType, payload: Vec<u8>) -> Vec<u8> {
    let tuple = KeyTuple {
        key: key(0),
        lattice_type: LatticeType::Lww as i32,
        payload: payload.into(),
        ..KeyTuple::default()
    };
    KeyResponse {
        r#type: kind as i32,
        tuples: vec![tuple],
        response_id: request_id(0),
        ..KeyResponse::default()
    }
    .encode_to_vec()
}
