//! What an incarnation does for nodes that do not come back.
//!
//! A node that runs counts up its claim to its name every second. If it stood still from the end of one walk
//! through the own log to the end of the next, one of the others takes over the closed parts of that
//! node's logs, and of its lists of ids: what is alive in them is copied into the own log, and they are
//! deleted. The node may be alive all the same, only slow. So what it may still write to is left alone: the
//! last part of each. (A claim that stands still proves nothing, and nothing rests on it.)

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use super::super::{StorageError, Sweep};
use super::compact::left_before;
use super::kv::KeyValue;
use super::names::LogName;
use super::objects::{delete, raise, raised, string_set};
use super::recover::Remains;
use super::{AnnaStore, graves, log, names, read};
use crate::wire::{LogBucket, LogState};

/// What was seen of other nodes at the end of the last walk.
pub(super) type Sightings = HashMap<String, Sighting>;

/// What was seen of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sighting {
    claim: u64,
    /// How often the logs of others had been read to their end.
    followed: u64,
}

impl<K: KeyValue> AnnaStore<K> {
    /// Looks for nodes that are gone, and does their work: those that are this process's share.
    pub(super) async fn adopt(&self, sweep: &Sweep) -> Result<(), StorageError> {
        let nodes = string_set(self.kv.get_newest(names::NODES).await?)?;
        for node in nodes.iter().filter(|node| **node != self.log.name.node) {
            let claim = raised(&*self.kv, &names::lease(node)).await?;
            let followed = self.followed.load(Ordering::Relaxed);
            let seen = Sighting { claim, followed };
            let before = self.sightings.lock().insert(node.clone(), seen);
            let stood_still = before.is_some_and(|before| {
                // Whatever is in its logs is known here: a look at all of them began and ended since.
                claim > 0 && before.claim == claim && followed > before.followed + 1
            });
            if stood_still && sweep.share.has(node) {
                for log in read::logs_of(&*self.kv, node).await?.0 {
                    self.adopt_log(&log, sweep).await?;
                    self.adopt_graves(&log).await?;
                }
            }
        }
        Ok(())
    }

    async fn adopt_log(&self, log: &LogName, sweep: &Sweep) -> Result<(), StorageError> {
        let (_, about) = read::node_logs(&*self.kv, &log.node).await?;
        let lost = about.firsts.get(&log.incarnation).copied().unwrap_or(0);
        let mut number = read::first_of(&*self.kv, log).await?.max(lost);
        while let Some(bucket) = read::bucket(&*self.kv, log, number).await? {
            if !is_over(&bucket, sweep) {
                break;
            }
            let mut remains = Remains::default();
            self.sort_out(bucket, &mut remains).await?;
            self.enter_survivors(&remains, u64::MAX).await?;
            number += 1;
            raise(&*self.kv, &log.first(), number).await?;
            remains.debris.extend(left_before(number).map(|number| log.bucket(number)));
            delete(&*self.kv, &remains.debris).await?;
        }
        Ok(())
    }

    async fn adopt_graves(&self, log: &LogName) -> Result<(), StorageError> {
        let mut number = raised(&*self.kv, &log.first_graves()).await?;
        while let Some(bucket) = graves::bucket(&*self.kv, log, number).await? {
            if graves::bucket(&*self.kv, log, number + 1).await?.is_none() {
                break;
            }
            self.graves.note(bucket.graves);
            self.graves.flush(&*self.kv).await?;
            raise(&*self.kv, &log.first_graves(), number + 1).await?;
            delete(&*self.kv, &[log.graves(number)]).await?;
            number += 1;
        }
        Ok(())
    }
}

/// Whether nothing is added to a part of a log any more, and what is open in it will hardly be decided by
/// whoever began it.
fn is_over(bucket: &LogBucket, sweep: &Sweep) -> bool {
    let mut open = bucket.entries.iter().filter(|entry| entry.state() == LogState::Open);
    bucket.closed && open.all(|e| log::timestamp(e).is_some_and(|at| at < sweep.orphans_before))
}
