//! What an operator sees of a sidecar.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::admin::{Readiness, Watched};
use super::config::StorageKind;
use super::counters;
use super::inspect::Inspection;
use super::worker::Handle;
use crate::storage::Storage;

pub(super) struct SidecarWatch {
    pub(super) worker: Handle,
    pub(super) store: Arc<dyn Storage>,
    /// What does not change, shown in `/status`.
    pub(super) about: serde_json::Value,
    pub(super) kind: StorageKind,
    /// To count means to read the store, so it is done once at a time.
    pub(super) counting: tokio::sync::Mutex<()>,
}

#[async_trait]
impl Watched for SidecarWatch {
    async fn readiness(&self) -> Readiness {
        let status = self.worker.status().await;
        let (ready, worker) = match &status {
            Some((node, _)) if !node.draining => (true, "ok"),
            Some(_) => (false, "draining"),
            None => (false, "ended"),
        };
        // The commit log was read and the sockets were bound before the endpoint opened.
        let checks =
            serde_json::json!({ "log_loaded": "ok", "ipc_sockets": "ok", "worker": worker });
        Readiness { lives: status.is_some(), ready, checks }
    }

    async fn status(&self) -> Option<serde_json::Value> {
        let (node, sockets) = self.worker.status().await?;
        let store: BTreeMap<_, _> = self.store.counters().into_iter().collect();
        Some(serde_json::json!({
            "sidecar": self.about, "node": node, "sockets": sockets, "store": store
        }))
    }

    async fn inspect(&self) -> Option<Inspection> {
        let _alone = self.counting.lock().await;
        let found = Inspection::of_store(&*self.store, self.kind).await;
        let (node, _) = self.worker.status().await?;
        Some(found.with_node(self.about.clone(), node))
    }

    async fn publish(&self) {
        if let Some((node, sockets)) = self.worker.status().await {
            counters::publish(&node, &sockets);
        }
        counters::publish_store(&self.store.counters());
    }
}
