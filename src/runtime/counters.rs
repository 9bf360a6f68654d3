//! What is counted, under which names.

use std::time::Duration;

use metrics::{Counter, Histogram, counter, describe_counter, describe_gauge, describe_histogram};
use metrics::{Unit, gauge, histogram};

use crate::frontend::ipc::{BadRequest, Kind};
use crate::node::{End, Status};
use crate::peer::Traffic;
use crate::transport::Drops;

/// Handles of the counters on the request path, looked up once.
pub(super) struct Counters {
    seconds: [Histogram; Kind::ALL.len()],
    committed: Counter,
    read_only: Counter,
}

impl Counters {
    pub(super) fn new() -> Self {
        describe();
        Self {
            seconds: Kind::ALL.map(|kind| histogram!("aft_request_seconds", "kind" => kind.name())),
            committed: counter!("aft_transactions_ended_total", "end" => "committed"),
            read_only: counter!("aft_transactions_ended_total", "end" => "read_only"),
        }
    }

    pub(super) fn answered(&self, kind: Kind, took: Duration) {
        if let Some(seconds) = self.seconds.get(kind as usize) {
            seconds.record(took.as_secs_f64());
        }
    }

    pub(super) fn ended(&self, end: &End) {
        match end {
            End::Elsewhere => {}
            End::Committed(_) => self.committed.increment(1),
            End::ReadOnly => self.read_only.increment(1),
            End::Aborted(why) => {
                counter!("aft_transactions_ended_total", "end" => "aborted", "why" => why.label())
                    .increment(1);
            }
        }
    }

    pub(super) fn bad(&self, kind: &'static str, why: &BadRequest) {
        counter!("aft_bad_requests_total", "kind" => kind, "why" => why.label()).increment(1);
    }
}

/// What the worker's sockets hold, besides [`Status`].
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub struct SocketStatus {
    /// Requests that wait for their answer.
    pub requests_waiting: usize,
    /// Sockets open for answers.
    pub reply_sockets: usize,
    /// Clients that are answered on their own connection.
    pub callers: usize,
    /// Bytes of answers that wait for slow clients.
    pub reply_bytes_queued: usize,
    /// Answers dropped because a queue was full.
    pub replies_dropped_full: u64,
    /// Answers dropped because a client took nothing for too long.
    pub replies_dropped_stalled: u64,
    /// Answers dropped because their address cannot be used.
    pub replies_dropped_unreachable: u64,
    /// What went between this node and others.
    pub peers: Traffic,
}

impl SocketStatus {
    pub(super) fn with_drops(mut self, drops: Drops) -> Self {
        self.replies_dropped_full = drops.full;
        self.replies_dropped_stalled = drops.stalled;
        self.replies_dropped_unreachable = drops.unreachable;
        self
    }
}

/// Sets the gauges from what was just read off the worker.
pub(super) fn publish(node: &Status, sockets: &SocketStatus) {
    gauge!("aft_transactions_running").set(node.transactions as f64);
    gauge!("aft_buffered_bytes").set(node.buffered_bytes as f64);
    gauge!("aft_store_operations").set(node.store_operations as f64);
    gauge!("aft_index_keys").set(node.keys as f64);
    gauge!("aft_index_versions").set(node.versions as f64);
    gauge!("aft_commits_quarantined").set(node.quarantined as f64);
    gauge!("aft_cache_bytes").set(node.cached_bytes as f64);
    gauge!("aft_requests_waiting").set(sockets.requests_waiting as f64);
    gauge!("aft_reply_sockets").set(sockets.reply_sockets as f64);
    gauge!("aft_callers").set(sockets.callers as f64);
    gauge!("aft_reply_bytes_queued").set(sockets.reply_bytes_queued as f64);
    gauge!("aft_members").set(node.members.len() as f64);
    gauge!("aft_members_live").set(node.members_live as f64);
    let gossip = node.gossip;
    for (way, messages, commits) in [
        ("sent", gossip.messages_sent, gossip.commits_sent),
        ("received", gossip.messages_received, gossip.commits_received),
    ] {
        counter!("aft_gossip_messages_total", "way" => way).absolute(messages);
        counter!("aft_gossip_commits_total", "way" => way).absolute(commits);
    }
    publish_garbage(node);
    counter!("aft_gossip_commits_found_total").absolute(gossip.commits_found);
    counter!("aft_gossip_resends_asked_total").absolute(gossip.resends_asked);
    let dropped = |why: &'static str, count| {
        counter!("aft_replies_dropped_total", "why" => why).absolute(count);
    };
    dropped("full", sockets.replies_dropped_full);
    dropped("stalled", sockets.replies_dropped_stalled);
    dropped("unreachable", sockets.replies_dropped_unreachable);
    let Traffic { messages_sent, bytes_sent, messages_received, bytes_received } = sockets.peers;
    for (way, messages, bytes) in
        [("sent", messages_sent, bytes_sent), ("received", messages_received, bytes_received)]
    {
        counter!("aft_peer_messages_total", "way" => way).absolute(messages);
        counter!("aft_peer_bytes_total", "way" => way).absolute(bytes);
    }
}

fn publish_garbage(node: &Status) {
    gauge!("aft_oldest_transaction_seconds").set(node.oldest_transaction_ms as f64 / 1000.0);
    let garbage = node.garbage;
    for (what, count) in [
        ("version_dropped", garbage.dropped),
        ("version_deleted", garbage.deleted),
        ("record_deleted", garbage.records),
        ("key_evicted", garbage.evicted),
        ("version_swept", garbage.swept.versions),
        ("record_swept", garbage.swept.records),
        ("outcome_swept", garbage.swept.outcomes),
        ("orphan_swept", garbage.swept.orphans),
    ] {
        counter!("aft_garbage_total", "what" => what).absolute(count);
    }
    counter!("aft_grace_periods_total").absolute(garbage.graces);
    counter!("aft_heads_looked_up_total").absolute(garbage.heads);
    counter!("aft_versions_gone_total").absolute(garbage.gone);
}

/// Sets what the way to the store has counted.
pub(super) fn publish_store(counters: &[(&'static str, u64)]) {
    for (what, count) in counters {
        gauge!("aft_store", "what" => *what).set(*count as f64);
    }
}

fn describe() {
    describe_histogram!(
        "aft_request_seconds",
        Unit::Seconds,
        "Time from a request's receipt to its answer, by kind"
    );
    describe_counter!("aft_transactions_ended_total", "Transactions ended, by how and why");
    describe_counter!("aft_bad_requests_total", "Messages that could not be served, by reason");
    describe_counter!("aft_replies_dropped_total", "Answers that could not be delivered");
    describe_counter!("aft_peer_messages_total", "Messages to and from other nodes");
    describe_counter!("aft_peer_bytes_total", Unit::Bytes, "Bytes to and from other nodes");
    describe_counter!("aft_gossip_messages_total", "Messages about commits, each receiver's");
    describe_counter!("aft_gossip_commits_total", "Commits in messages to and from other nodes");
    describe_counter!("aft_gossip_commits_found_total", "Commits of others that a manager told of");
    describe_counter!(
        "aft_gossip_resends_asked_total",
        "Questions for commits that did not arrive"
    );
    describe_gauge!(
        "aft_oldest_transaction_seconds",
        Unit::Seconds,
        "Age of the transaction that runs for longest; garbage waits for it"
    );
    describe_counter!("aft_garbage_total", "What was forgotten, by kind");
    describe_counter!(
        "aft_grace_periods_total",
        "Times when garbage was needed by nobody any more"
    );
    describe_counter!(
        "aft_heads_looked_up_total",
        "Keys that the index did not know and the store was asked for"
    );
    describe_counter!(
        "aft_versions_gone_total",
        "Transactions aborted as a version they needed was gone"
    );
    describe_gauge!("aft_members", "Other nodes that are told of commits");
    describe_gauge!("aft_members_live", "Those of them that were heard from of late");
    describe_gauge!("aft_transactions_running", "Transactions that run now");
    describe_gauge!("aft_buffered_bytes", Unit::Bytes, "Writes buffered by running transactions");
    describe_gauge!("aft_store_operations", "Questions to the store that are open");
    describe_gauge!("aft_store", "What the way to the store has counted, or holds, by name");
    describe_gauge!("aft_index_keys", "Keys with a committed version known here");
    describe_gauge!("aft_index_versions", "Committed versions known here");
    describe_gauge!("aft_commits_quarantined", "Commits far ahead of this machine's clock");
    describe_gauge!("aft_cache_bytes", Unit::Bytes, "Values cached");
    describe_gauge!("aft_requests_waiting", "Requests that wait for their answer");
    describe_gauge!("aft_reply_sockets", "Sockets open for answers");
    describe_gauge!("aft_callers", "Clients that are answered on their own connection");
    describe_gauge!("aft_reply_bytes_queued", Unit::Bytes, "Answers waiting for slow clients");
}
