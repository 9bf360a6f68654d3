//! Memory that the sidecar keeps for a client that does nothing.

use serde::Serialize;

use super::run::Run;
use crate::bench::BenchError;
use crate::bench::messages::key;
use crate::bench::process;
use crate::bench::target::Target;

/// Clients that were there before, so that what is needed once is not counted.
const WARM: usize = 20;
const CLIENTS: usize = 300;
const BYTES_MAX: f64 = 65_536.0;

/// What was measured.
#[derive(Debug, Serialize)]
pub(super) struct Idle {
    bytes_per_client: f64,
}

/// Measures.
pub(super) fn measure(run: &Run<'_>) -> Result<Idle, BenchError> {
    let mut clients = Vec::new();
    let mut resident = Vec::new();
    for count in [WARM, CLIENTS] {
        for _ in 0..count {
            let mut client = run.executor(&run.sidecar)?;
            client.get_alone(&[key(0)]).map_err(BenchError::Answer)?;
            let txn = client.start().map_err(BenchError::Answer)?;
            client.commit(&txn).map_err(BenchError::Answer)?;
            clients.push(client);
        }
        let pid = run.sidecar.process.pid();
        let bytes = process::resident_bytes(pid);
        resident.push(bytes.ok_or_else(|| run.sidecar.process.failed("ended"))?);
    }
    let grown = match resident[..] {
        [before, after] => after.saturating_sub(before),
        _ => 0,
    };
    Ok(Idle { bytes_per_client: grown as f64 / CLIENTS as f64 })
}

impl Idle {
    pub(super) fn targets(&self, store: &str) -> Vec<Target> {
        let what = format!("{store}: bytes for an idle client");
        vec![Target::at_most(what, self.bytes_per_client, BYTES_MAX)]
    }
}
