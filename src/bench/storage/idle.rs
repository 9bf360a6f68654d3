//! Memory that the sidecar keeps for a client that does nothing.

use bytes::Bytes;
use serde::Serialize;

use super::run::Run;
use crate::bench::BenchError;
use crate::bench::cluster::executor::{ANSWER_MAX, Executor};
use crate::bench::messages::{self, Requests, key, request_id};
use crate::bench::process;
use crate::bench::target::Target;
use crate::frontend::ipc::Kind;
use crate::runtime::limits::raise_file_limit;
use crate::transport::{Client, ClientContext};
use crate::wire::TransactionStatus;

/// Clients that were there before, so that what is needed once is not counted.
const WARM: usize = 20;
const CLIENTS: usize = 200;
/// Clients that share a context: libzmq has no more than 1023 sockets in one.
const OF_CONTEXT: usize = 100;
const BYTES_MAX: f64 = 65_536.0;

/// What was measured.
#[derive(Debug, Serialize)]
pub(super) struct Idle {
    /// Of a client that is answered on its own connection, as our own ones are.
    bytes_per_client: f64,
    /// Of one that speaks to a socket for each kind of request, as those of the original do.
    bytes_per_addressed_client: f64,
}

/// Measures.
pub(super) fn measure(run: &Run<'_>) -> Result<Idle, BenchError> {
    raise_file_limit();
    let dir = &run.sidecar.ipc_dir;
    let bytes_per_client = grown(run, |_, _| {
        let mut client = Executor::open(dir)?;
        client.get_alone(&[key(0)]).map_err(BenchError::Answer)?;
        let txn = client.start().map_err(BenchError::Answer)?;
        client.commit(&txn).map_err(BenchError::Answer)?;
        Ok(client)
    })?;
    let bytes_per_addressed_client = grown(run, |context, number| {
        let endpoint = |name: &str| format!("ipc://{}", dir.join(name).display());
        let targets = Kind::ALL.map(|kind| endpoint(kind.name()));
        let answers = endpoint(&format!("b-idle-{number}"));
        let client = Client::open(context, &targets, &answers, ANSWER_MAX)?;
        transact(&client).map_err(BenchError::Answer)?;
        Ok(client)
    })?;
    Ok(Idle { bytes_per_client, bytes_per_addressed_client })
}

/// What the same requests take that an [`Executor`] makes.
fn transact(client: &Client) -> Result<(), String> {
    let answer_endpoint = client.answer_endpoint().to_owned();
    let requests = Requests { answer_endpoint, value: Bytes::new() };
    let call = |kind: Kind, request| client.call(kind as usize, request).ok_or("no answer");
    let id = request_id(0);
    messages::values(call(Kind::Get, requests.get_alone(&[key(0)], id.clone()))?, &id)?;
    let txn = messages::started(call(Kind::Start, requests.start())?)?;
    let answer = call(Kind::Commit, requests.commit(&txn))?;
    messages::ended(answer, TransactionStatus::Committed)
}

/// By how many bytes the sidecar grows with each client.
fn grown<C>(
    run: &Run<'_>,
    open: impl Fn(&ClientContext, usize) -> Result<C, BenchError>,
) -> Result<f64, BenchError> {
    let mut clients = Vec::new();
    let mut resident = Vec::new();
    for count in [WARM, CLIENTS] {
        let mut context = ClientContext::default();
        for number in 0..count {
            if number % OF_CONTEXT == 0 {
                context = ClientContext::default();
            }
            clients.push(open(&context, clients.len())?);
        }
        let pid = run.sidecar.process.pid();
        let bytes = process::resident_bytes(pid);
        resident.push(bytes.ok_or_else(|| run.sidecar.process.failed("ended"))?);
    }
    let grown = match resident[..] {
        [before, after] => after.saturating_sub(before),
        _ => 0,
    };
    Ok(grown as f64 / CLIENTS as f64)
}

impl Idle {
    pub(super) fn targets(&self, store: &str) -> Vec<Target> {
        let what = format!("{store}: bytes for an idle client");
        vec![Target::at_most(what, self.bytes_per_client, BYTES_MAX)]
    }
}
