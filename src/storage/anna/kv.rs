//! What the backend needs of Anna: reading and writing one object. A trait, so that the simulator can
//! put a store of its own in Anna's place and let everything go wrong.

use async_trait::async_trait;

use super::super::StorageError;
use crate::anna::lattice::Lattice;

/// A store of lattice values without conditional writes, listing or deletion.
#[async_trait]
pub trait KeyValue: Send + Sync + 'static {
    /// The value of a key that is written once, or for which an older one is as good. `None` only if
    /// no replica has one.
    ///
    /// # Errors
    /// [`StorageError::Unconfirmed`] if nobody answered.
    async fn get(&self, key: &str) -> Result<Option<Lattice>, StorageError>;

    /// The newest value of a key that is written again and again, as all replicas that can be asked
    /// have it.
    ///
    /// # Errors
    /// [`StorageError::Unconfirmed`] if nobody answered.
    async fn get_newest(&self, key: &str) -> Result<Option<Lattice>, StorageError> {
        self.get(key).await
    }

    /// Merges a value into a key's.
    ///
    /// # Errors
    /// [`StorageError::Refused`] or [`StorageError::Unsuitable`] if it was not written and never will be;
    /// [`StorageError::Unconfirmed`] if it may have been, or may be soon.
    async fn put(&self, key: &str, value: Lattice) -> Result<(), StorageError>;

    /// A key is about to be used: what can be found out about it beforehand may be.
    fn expect(&self, _key: &str) {}

    /// What has happened so far, for people to look at.
    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}
