//! The real Anna behind [`KeyValue`].

use async_trait::async_trait;

use super::super::StorageError;
use super::kv::KeyValue;
use crate::anna::client::{Acks, Client, ClientError};
use crate::anna::lattice::Lattice;

/// A client of Anna, used as a store of objects.
pub struct Connection {
    client: Client,
    acks: Acks,
}

impl Connection {
    /// Writes are done when so many replicas say so.
    pub fn new(client: Client, acks: Acks) -> Self {
        Self { client, acks }
    }
}

#[async_trait]
impl KeyValue for Connection {
    async fn get(&self, key: &str) -> Result<Option<Lattice>, StorageError> {
        // What one replica has not got another may have: they tell each other late.
        self.client.get_from_all(key).await.map_err(read_failed)
    }

    async fn get_newest(&self, key: &str) -> Result<Option<Lattice>, StorageError> {
        // Also when what was acknowledged is everywhere: what was not may have been read somewhere.
        self.client.get_merged(key).await.map_err(read_failed)
    }

    async fn put(&self, key: &str, value: Lattice) -> Result<(), StorageError> {
        self.client.put(key, value, self.acks).await.map_err(write_failed)
    }

    fn expect(&self, key: &str) {
        self.client.touch(key);
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let counters = self.client.counters();
        vec![
            ("requests", counters.requests),
            ("keys", counters.tuples),
            ("lookups", counters.lookups),
            ("retries", counters.retries),
            ("timeouts", counters.timeouts),
            ("wrong_threads", counters.wrong_threads),
            ("late_answers", counters.late),
            ("malformed_answers", counters.malformed),
            ("connections_reset", counters.resets),
            ("addresses_cached", counters.addresses_cached),
            ("operations_open", counters.operations_open),
        ]
    }
}

fn read_failed(error: ClientError) -> StorageError {
    match error {
        ClientError::Damaged(damage) => StorageError::Damaged(damage.to_string()),
        ClientError::BadKey(why) => StorageError::Refused(why.to_string()),
        other => StorageError::Unconfirmed(other.to_string()),
    }
}

fn write_failed(error: ClientError) -> StorageError {
    match error {
        ClientError::TimedOut { sent: true, .. }
        | ClientError::Damaged(_)
        | ClientError::Closed => StorageError::Unconfirmed(error.to_string()),
        // Nothing left this process, or the store said that it did not take it.
        ClientError::TimedOut { sent: false, .. }
        | ClientError::NoServers(_)
        | ClientError::Overloaded => StorageError::Refused(error.to_string()),
        ClientError::NotStored { .. } | ClientError::BadKey(_) | ClientError::TooLarge { .. } => {
            StorageError::Unsuitable(error.to_string())
        }
    }
}
