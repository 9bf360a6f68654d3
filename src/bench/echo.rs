//! The floor: a process that binds the sidecar's six sockets and gives to each request an answer of
//! the right kind and size that was prepared before. What it takes is what the sockets, the kernel and
//! the client cost.

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Buf;
use clap::Args;
use prost::encoding::{WireType, decode_key, decode_varint};

use super::messages::{self, REQUEST_ID_BYTES};
use super::{BenchError, system};
use crate::frontend::ipc::Kind;
use crate::transport::Responder;

const SEND_MAX: Duration = Duration::from_secs(5);

/// Answer without doing anything.
#[derive(Debug, Args)]
pub struct EchoOptions {
    /// Directory in which the six sockets are bound
    #[arg(long)]
    pub ipc_dir: PathBuf,
    /// Bind sockets of TCP on loopback instead, and name them
    #[arg(long)]
    pub tcp: bool,
    /// Size of the value in the answer to a get
    #[arg(long, default_value_t = 4096)]
    pub value_bytes: usize,
}

/// Answers until its standard input is closed.
pub fn run(options: &EchoOptions) -> Result<(), BenchError> {
    let dir = &options.ipc_dir;
    std::fs::create_dir_all(dir).map_err(system(format!("create {}", dir.display())))?;
    let endpoints = Kind::ALL.map(|kind| match options.tcp {
        true => "tcp://127.0.0.1:*".to_owned(),
        false => format!("ipc://{}", dir.join(kind.name()).display()),
    });
    let mut responder = Responder::bind(&endpoints, SEND_MAX)?;
    let answers = Kind::ALL.map(|kind| Prepared::new(kind, options.value_bytes));
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    println!("ready sockets={}", responder.endpoints()?.join(","));
    loop {
        responder.serve(|number, request| answers.get(number)?.fit(request))?;
    }
}

/// An answer, and where in it the id of the request stands.
struct Prepared {
    kind: Kind,
    bytes: Vec<u8>,
    id_at: Option<usize>,
}

impl Prepared {
    fn new(kind: Kind, value_bytes: usize) -> Self {
        let bytes = messages::answer(kind, value_bytes);
        let id = messages::request_id(0);
        let id_at = bytes.windows(id.len()).rposition(|part| part == id.as_bytes());
        Self { kind, bytes, id_at }
    }

    /// The answer to one request, and its address.
    fn fit(&self, request: &[u8]) -> Option<(String, Vec<u8>)> {
        let mut bytes = self.bytes.clone();
        let address = match self.kind {
            Kind::Start => request,
            Kind::Abort => request.splitn(2, |byte| *byte == b'~').nth(1)?,
            Kind::Commit | Kind::Continue => field(request, 2)?,
            Kind::Get | Kind::Put => {
                let (at, id) = (self.id_at?, field(request, 4)?);
                let place = bytes.get_mut(at..at + REQUEST_ID_BYTES)?;
                (id.len() == place.len()).then(|| place.copy_from_slice(id))?;
                field(request, 3)?
            }
        };
        Some((std::str::from_utf8(address).ok()?.to_owned(), bytes))
    }
}

/// The first field of this number; all others are skipped.
fn field(mut message: &[u8], number: u32) -> Option<&[u8]> {
    while message.has_remaining() {
        let (tag, wire_type) = decode_key(&mut message).ok()?;
        let length = decode_varint(&mut message).ok()?;
        if wire_type == WireType::LengthDelimited {
            let (found, rest) = message.split_at_checked(usize::try_from(length).ok()?)?;
            if tag == number {
                return Some(found);
            }
            message = rest;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::messages::Requests;
    use super::*;
    use crate::wire::TransactionStatus;

    #[test]
    fn prepared_answers_are_what_the_client_expects() {
        let requests =
            Requests { answer_endpoint: "ipc:///x/answers".to_owned(), value: vec![1; 100].into() };
        let fit = |kind, request: Vec<u8>| {
            let (address, answer) = Prepared::new(kind, 100).fit(&request).unwrap();
            assert_eq!(address, requests.answer_endpoint);
            bytes::Bytes::from(answer)
        };
        let id = messages::request_id(77);
        let get = fit(Kind::Get, requests.get("t", "k".to_owned(), id.clone()));
        assert_eq!(messages::served(get, &id, Some(100)), Ok(()));
        let keys = std::iter::once("k".to_owned());
        let put = fit(Kind::Put, requests.put("t", keys, id.clone()));
        assert_eq!(messages::served(put, &id, None), Ok(()));
        assert!(messages::started(fit(Kind::Start, requests.start())).is_ok());
        let commit = fit(Kind::Commit, requests.commit("t"));
        assert_eq!(messages::ended(commit, TransactionStatus::Committed), Ok(()));
        let abort = fit(Kind::Abort, requests.abort("t"));
        assert_eq!(messages::ended(abort, TransactionStatus::Aborted), Ok(()));
    }
}
