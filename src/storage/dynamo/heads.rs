//! The newest committed version of a key: the last in its partition whose commit is the outcome of its id.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::Inner;
use super::item;
use super::names;
use super::table::Range;
use crate::storage::StorageError;
use crate::txn::{Commit, Key, Outcome};

/// Keys that are looked up at once.
const PARALLEL_MAX: usize = 16;
/// Versions that are read at once. A version's value is paid for as well, so it begins with one.
const VERSIONS_MAX: usize = 16;

impl Inner {
    pub async fn heads(&self, keys: &[Key]) -> Result<Vec<Option<Arc<Commit>>>, StorageError> {
        stream::iter(keys.iter().cloned().map(|key| self.head(key)))
            .buffered(PARALLEL_MAX)
            .try_collect()
            .await
    }

    async fn head(&self, key: Key) -> Result<Option<Arc<Commit>>, StorageError> {
        let mut range = Range { descending: true, limit: Some(1), ..Range::default() };
        loop {
            let page = self.table.query(&names::versions_of(&key), &range).await?;
            for found in &page.items {
                let version = names::parse_stamp(item::text_of(found, item::SK)?)?;
                if let Some(Outcome::Committed(commit)) =
                    self.outcome(&version.writer.base()).await?
                    && commit.version == version
                    && commit.written(&key).is_some()
                {
                    return Ok(Some(commit));
                }
            }
            if page.next.is_none() {
                return Ok(None);
            }
            range.behind = page.next;
            range.limit = range.limit.map(|limit| (limit * 2).min(VERSIONS_MAX));
        }
    }
}
