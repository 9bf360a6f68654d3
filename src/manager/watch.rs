//! What an operator sees of a manager.

use async_trait::async_trait;
use metrics::{counter, describe_counter, describe_gauge, gauge};

use super::server::Handle;
use crate::runtime::admin::{Readiness, Watched};

pub(super) struct ManagerWatch {
    manager: Handle,
    name: String,
}

impl ManagerWatch {
    pub(super) fn new(manager: Handle, name: String) -> Self {
        describe();
        Self { manager, name }
    }
}

#[async_trait]
impl Watched for ManagerWatch {
    async fn readiness(&self) -> Readiness {
        let status = self.manager.status().await;
        let lives = status.is_some();
        // Nodes are served also while the log is read, or the store is away.
        let log = match status.and_then(|status| status.following) {
            Some(true) => "followed",
            Some(false) => "being read",
            None => "none",
        };
        let sockets = if lives { "ok" } else { "ended" };
        let checks = serde_json::json!({ "sockets": sockets, "log": log });
        Readiness { lives, ready: lives, checks }
    }

    async fn status(&self) -> Option<serde_json::Value> {
        let status = self.manager.status().await?;
        let version = env!("CARGO_PKG_VERSION");
        let about = serde_json::json!({ "version": version, "address": self.name });
        Some(serde_json::json!({ "manager": about, "cluster": status }))
    }

    async fn publish(&self) {
        let Some(status) = self.manager.status().await else { return };
        gauge!("aft_manager_nodes").set(status.nodes.len() as f64);
        gauge!("aft_manager_commits_waiting").set(status.commits_waiting as f64);
        counter!("aft_manager_requests_total").absolute(status.requests);
        counter!("aft_manager_gossip_messages_total").absolute(status.gossip_messages);
        counter!("aft_manager_gossip_commits_total").absolute(status.gossip_commits);
        counter!("aft_manager_bad_messages_total").absolute(status.bad_messages);
        counter!("aft_manager_commits_logged_total").absolute(status.commits_logged);
        counter!("aft_manager_commits_found_total").absolute(status.commits_found);
    }
}

fn describe() {
    describe_gauge!("aft_manager_nodes", "Nodes that live");
    describe_gauge!("aft_manager_commits_waiting", "Commits in the log that may yet be told");
    describe_counter!("aft_manager_requests_total", "Requests for the list of nodes");
    describe_counter!(
        "aft_manager_gossip_messages_total",
        "Messages of nodes, heartbeats included"
    );
    describe_counter!("aft_manager_gossip_commits_total", "Commits that nodes told of");
    describe_counter!("aft_manager_bad_messages_total", "Messages that were not understood");
    describe_counter!("aft_manager_commits_logged_total", "Commits seen in the store's log");
    describe_counter!("aft_manager_commits_found_total", "Commits that nobody told in time");
}
