//! Counts what is in the bucket, by reading all outcomes and the names of everything else.

use std::collections::HashMap;

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::Inner;
use super::bucket::Listed;
use super::names::{self, APART, LOGS, OUTCOMES};
use super::pack::Found;
use super::segment;
use crate::storage::{StorageError, Usage};
use crate::txn::{Key, Version};

/// Objects read at once.
const PARALLEL_MAX: usize = 64;

impl Inner {
    pub async fn usage(&self) -> Result<Usage, StorageError> {
        let mut usage = Usage::default();
        let mut of_keys: HashMap<Key, (Version, u64)> = HashMap::new();
        let mut named_apart = 0;
        for part in self.listed(OUTCOMES, &mut usage).await?.chunks(PARALLEL_MAX) {
            for found in self.read(part).await? {
                usage.outcomes += 1;
                usage.remains += u64::from(found.is_only_remains());
                named_apart += found.apart(&found.positions().collect()).len() as u64;
                count(&found, &mut of_keys, &mut usage);
            }
        }
        let apart = self.listed(APART, &mut usage).await?.len() as u64;
        usage.uncommitted = apart.saturating_sub(named_apart);
        usage.versions += usage.uncommitted;
        usage.keys = of_keys.len() as u64;
        usage.superseded = of_keys.values().map(|(_, count)| count - 1).sum();
        for listed in self.listed(LOGS, &mut usage).await? {
            let segment = segment::read(&self.bucket, &listed.name).await?;
            usage.log_entries += segment.map_or(0, |segment| segment.entries.len()) as u64;
        }
        self.listed("h/", &mut usage).await?;
        Ok(usage)
    }

    async fn listed(&self, start: &str, usage: &mut Usage) -> Result<Vec<Listed>, StorageError> {
        let listed = self.bucket.list_all(start).await?;
        usage.bytes += listed.iter().map(|listed| listed.bytes).sum::<u64>();
        Ok(listed)
    }

    async fn read(&self, listed: &[Listed]) -> Result<Vec<Found>, StorageError> {
        let ids = listed.iter().filter_map(|listed| names::outcome_id(&listed.name));
        let read = ids.map(async |id| self.find(&id).await);
        let found: Vec<_> = stream::iter(read.collect::<Vec<_>>())
            .buffer_unordered(PARALLEL_MAX)
            .try_collect()
            .await?;
        Ok(found.into_iter().flatten().map(|(found, _)| found).collect())
    }
}

fn count(found: &Found, of_keys: &mut HashMap<Key, (Version, u64)>, usage: &mut Usage) {
    let Some(commit) = found.commit() else { return };
    for position in found.positions() {
        let Some(written) = usize::try_from(position).ok().and_then(|at| commit.keys.get(at))
        else {
            continue;
        };
        usage.versions += 1;
        let known =
            of_keys.entry(written.key.clone()).or_insert_with(|| (commit.version.clone(), 0));
        known.1 += 1;
        if known.0 < commit.version {
            known.0 = commit.version.clone();
        }
    }
}
