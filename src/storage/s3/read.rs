//! The values of versions, from the outcomes of the commits that wrote them or from where they stand apart.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::Inner;
use super::pack::{Found, Value};
use crate::storage::{StorageError, codec};
use crate::txn::{BaseId, Key, Version};

/// Objects read at once for one request.
const PARALLEL_MAX: usize = 64;

impl Inner {
    pub async fn versions(
        &self,
        wanted: &[(Key, Version)],
    ) -> Result<Vec<Option<Bytes>>, StorageError> {
        let mut ids: Vec<_> = wanted.iter().map(|(_, version)| version.writer.base()).collect();
        ids.sort();
        ids.dedup();
        let reads = ids.into_iter().map(async |id| {
            let found = self.find(&id).await?.map(|(found, _)| Arc::new(found));
            Ok::<_, StorageError>((id, found))
        });
        let packs: BTreeMap<BaseId, Option<Arc<Found>>> = stream::iter(reads.collect::<Vec<_>>())
            .buffer_unordered(PARALLEL_MAX)
            .try_collect()
            .await?;
        let values = wanted.iter().map(|(key, version)| {
            let pack = packs.get(&version.writer.base()).cloned().flatten();
            self.value(key, version, pack)
        });
        stream::iter(values.collect::<Vec<_>>()).buffered(PARALLEL_MAX).try_collect().await
    }

    async fn value(
        &self,
        key: &Key,
        version: &Version,
        pack: Option<Arc<Found>>,
    ) -> Result<Option<Bytes>, StorageError> {
        let Some(pack) = pack else { return Ok(None) };
        if pack.commit().is_none_or(|commit| commit.version != *version) {
            return Ok(None);
        }
        match pack.value(key) {
            Value::Nowhere => Ok(None),
            Value::Here(value) => Ok(Some(value)),
            Value::Apart(name) => {
                let object = self.bucket.get(&name).await?;
                object.map(|object| codec::decode_version(key, version, object.bytes)).transpose()
            }
        }
    }
}
