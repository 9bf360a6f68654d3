//! Puts a node's questions to a store: what the daemon and the simulator have in common.

use std::sync::Arc;

use futures_util::future::join_all;

use crate::node::{Ask, StoreResult};
use crate::storage::Storage;

/// Asks, and waits for the answer.
pub async fn answer(store: Arc<dyn Storage>, ask: Ask) -> StoreResult {
    match ask {
        Ask::Commit(batch) => StoreResult::Decided(store.commit(batch).await),
        Ask::SettleAborted(id) => StoreResult::Decided(store.settle_aborted(&id).await),
        Ask::Outcome(id) => StoreResult::Outcome(store.outcome(&id).await),
        Ask::Versions(wanted) => StoreResult::Versions(store.versions(&wanted).await),
        Ask::Plain(keys) => StoreResult::Plain(store.plain(&keys).await),
        Ask::Merge(values) => {
            let each = values.iter().map(|(key, lattice, value)| store.merge(key, *lattice, value));
            StoreResult::Merged(join_all(each).await)
        }
        Ask::Heads(keys) => StoreResult::Heads(store.heads(&keys).await),
        Ask::SetHeads(newest) => StoreResult::Done(store.set_heads(&newest).await),
        Ask::Collect(garbage) => StoreResult::Done(store.collect(&garbage).await),
        Ask::Sweep(sweep) => StoreResult::Swept(store.sweep(&sweep).await),
        Ask::Publish { key, version, value } => {
            StoreResult::Published(store.publish(&key, &version, &value).await)
        }
    }
}
