//! What the original AFT left in a Redis, each under its name as a string.

use futures_util::future::try_join_all;
use tokio::sync::OnceCell;

use super::super::original::{Newest, RECORDS};
use super::super::{PlainValue, StorageError};
use super::server::Server;
use super::sweep::{masters, scanned};
use crate::txn::Key;

/// Names looked at by one SCAN, and read by one MGET.
const COUNT: usize = 500;

/// The newest version of each key, read when first needed.
#[derive(Default)]
pub(super) struct Original {
    newest: OnceCell<Newest>,
}

impl Original {
    /// The values of keys, in that order.
    pub async fn values(
        &self,
        server: &Server,
        keys: &[Key],
    ) -> Result<Vec<Option<PlainValue>>, StorageError> {
        let newest = self.newest.get_or_try_init(|| read_records(server)).await?;
        let found = keys.iter().map(async |key| {
            let Some(name) = newest.name_of(key) else { return Ok(None) };
            let stored = server.strings(&[name]).await?.pop().flatten();
            Ok::<_, StorageError>(stored.and_then(|stored| newest.value(key, stored)))
        });
        try_join_all(found).await
    }
}

async fn read_records(server: &Server) -> Result<Newest, StorageError> {
    let mut newest = Newest::default();
    for master in masters(server).await? {
        let mut cursor = 0;
        loop {
            let mut cmd = redis::cmd("SCAN");
            cmd.arg(cursor).arg("MATCH").arg(format!("{RECORDS}*")).arg("COUNT").arg(COUNT);
            let (next, names) = scanned(server.ask_master(&master, &cmd).await?)?;
            let names: Vec<_> =
                names.iter().filter_map(|name| String::from_utf8(name.to_vec()).ok()).collect();
            for names in names.chunks(COUNT) {
                let records = server.strings(names).await?;
                records.into_iter().flatten().for_each(|stored| newest.note(&stored));
            }
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
    }
    tracing::info!(keys = newest.len(), "found what the original AFT left");
    Ok(newest)
}
