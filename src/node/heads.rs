//! Keys that this node has forgotten, or may know too little of: their newest versions are asked of the
//! store before they are read.

use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::FixedState;

use super::get::Get;
use super::ops::Purpose;
use super::values::Absent;
use super::{Ask, Node, Turn};
use crate::txn::{Commit, Key, Map};

/// What is known of the answers of the store about newest versions.
#[derive(Debug)]
pub(super) struct Heads {
    /// Keys that are being looked up, and how many times. They are not evicted meanwhile: the answer may be
    /// older than what is known here by then.
    open: Map<Key, usize>,
    /// Keys of which the store had no version a moment ago.
    absent: Absent,
}

impl Heads {
    pub(super) fn new(keep: Duration, hasher: &FixedState) -> Self {
        Self { open: Map::with_hasher(hasher.clone()), absent: Absent::new(keep, hasher) }
    }

    fn begin(&mut self, keys: &[Key]) {
        keys.iter().for_each(|key| *self.open.entry(key.clone()).or_default() += 1);
    }

    /// A look-up was answered, or given up.
    pub(super) fn end(&mut self, keys: &[Key]) {
        for key in keys {
            if let Some(count) = self.open.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    self.open.remove(key);
                }
            }
        }
    }

    pub(super) fn is_looked_up(&self, key: &Key) -> bool {
        self.open.contains_key(key)
    }

    /// There is a version now.
    pub(super) fn appeared(&mut self, commit: &Commit) {
        if !self.absent.is_empty() {
            commit.keys.iter().for_each(|written| self.absent.forget(&written.key));
        }
    }
}

impl Node {
    /// Whether the store has to be asked for a key's newest version.
    pub(super) fn lacks_head(&self, turn: &Turn<'_>, key: &Key) -> bool {
        self.config.collects
            && self.index.is_partial(key)
            && !self.heads.absent.contains(key, turn.now.elapsed)
    }

    pub(super) fn look_up_heads(&mut self, turn: &mut Turn<'_>, get: Get, keys: Vec<Key>) {
        self.garbage.counts_mut().heads += keys.len() as u64;
        self.heads.begin(&keys);
        let within = Some(self.config.request_within);
        self.ask(turn, Ask::Heads(keys), Purpose::Heads { get }, within);
    }

    /// The store told the newest versions of some keys. A get is waiting for them.
    pub(super) fn heads_found(
        &mut self,
        turn: &mut Turn<'_>,
        mut get: Get,
        asked: Vec<Key>,
        heads: Vec<Option<Arc<Commit>>>,
    ) {
        self.heads.end(&asked);
        for (key, head) in asked.into_iter().zip(heads) {
            match &head {
                // It is kept aside, and what was before it is not known here.
                Some(commit) if self.ahead_of_time(turn.now, commit).is_some() => {
                    self.learn(turn, commit);
                    get.unreadable.push(key);
                    continue;
                }
                Some(commit) => {
                    self.clock.observe(commit.version.timestamp);
                    self.index.install_head(&key, head.as_ref());
                }
                None => {
                    self.index.install_head(&key, None);
                    if self.index.known(&key).versions.is_empty() {
                        self.heads.absent.note(key.clone(), turn.now.elapsed);
                    }
                }
            }
            get.headed.insert(key, head);
        }
        self.choose(turn, get);
    }

    /// The store has no such version any more, so it has a newer one, of which this node does not know.
    pub(super) fn is_gone(&mut self, key: &Key) {
        if self.config.collects {
            self.index.mistrust(key);
        }
    }
}
