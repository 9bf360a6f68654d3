//! What a function executor does with one node: one request after the other.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;

use crate::bench::BenchError;
use crate::bench::messages::{self, Requests, request_id};
use crate::frontend::ipc::{CALL, Kind};
use crate::transport::CallingClient;
use crate::wire::TransactionStatus;

/// Longer than any deadline of the sidecar.
pub(in crate::bench) const ANSWER_MAX: Duration = Duration::from_secs(15);

/// A client of one node.
pub(in crate::bench) struct Executor {
    client: CallingClient,
    requests: Requests,
    asked: u64,
}

/// Why a request had no success, in the node's words.
pub(in crate::bench) type Refused = String;

impl Executor {
    /// Connects to the node whose sockets are in `dir`.
    pub(in crate::bench) fn open(dir: &Path) -> Result<Self, BenchError> {
        let client = CallingClient::open(&dir.join(CALL), ANSWER_MAX)?;
        let requests = Requests { answer_endpoint: String::new(), value: Bytes::new() };
        Ok(Self { client, requests, asked: 0 })
    }

    /// Answers the id of the new transaction.
    pub(in crate::bench) fn start(&mut self) -> Result<String, Refused> {
        messages::started(self.call(Kind::Start, self.requests.start())?)
    }

    /// Goes on with a transaction that ran at the node `from`.
    pub(in crate::bench) fn go_on(&mut self, txn: &str, from: &str) -> Result<(), Refused> {
        messages::gone_on(&self.call(Kind::Continue, self.requests.go_on(txn, from))?)
    }

    /// Reads a value of `value_bytes`.
    pub(in crate::bench) fn get(
        &mut self,
        txn: &str,
        key: &str,
        value_bytes: usize,
    ) -> Result<(), Refused> {
        let id = self.next_id();
        let request = self.requests.get(txn, key.to_owned(), id.clone());
        messages::served(self.call(Kind::Get, request)?, &id, Some(value_bytes))
    }

    pub(in crate::bench) fn put(
        &mut self,
        txn: &str,
        key: &str,
        value: &Bytes,
    ) -> Result<(), Refused> {
        let id = self.next_id();
        self.requests.value = value.clone();
        let request = self.requests.put(txn, std::iter::once(key.to_owned()), id.clone());
        messages::served(self.call(Kind::Put, request)?, &id, None)
    }

    pub(in crate::bench) fn commit(&mut self, txn: &str) -> Result<(), Refused> {
        let answer = self.call(Kind::Commit, self.requests.commit(txn))?;
        messages::ended(answer, TransactionStatus::Committed)
    }

    /// Reads outside of any transaction. Keys without a value have an empty one.
    pub(in crate::bench) fn get_alone(&mut self, keys: &[String]) -> Result<Vec<Bytes>, Refused> {
        let id = self.next_id();
        let request = self.requests.get_alone(keys, id.clone());
        messages::values(self.call(Kind::Get, request)?, &id)
    }

    /// A transaction that writes one value under some keys.
    pub(in crate::bench) fn write(
        &mut self,
        keys: &[String],
        value: &Bytes,
    ) -> Result<(), Refused> {
        let txn = self.start()?;
        keys.iter().try_for_each(|key| self.put(&txn, key, value))?;
        self.commit(&txn)
    }

    fn call(&mut self, kind: Kind, request: Vec<u8>) -> Result<Bytes, Refused> {
        let silent = || format!("no answer to a {} in {ANSWER_MAX:?}", kind.name());
        self.client.call(kind.code(), &request).ok_or_else(silent)
    }

    fn next_id(&mut self) -> String {
        self.asked += 1;
        request_id(self.asked)
    }
}
