//! Garbage: versions that newer ones have superseded leave the index and the store, keys that nobody reads
//! leave the index.
//!
//! A *cut* is the list of keys of which something is superseded at one moment. When the [grace
//! period](super::grace) that begins with it is over, no transaction can need those versions, and they are
//! dropped from the index, a bounded number at a time. Each commit's versions are deleted from the store by
//! one of the live nodes: the one that committed it, in whose log it may stand, or if that does not live one
//! that is found by hashing. What is missed (nodes may differ in who is live, or die)
//! is found by sweeping.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::grace::Waiting;
use super::ops::Purpose;
use super::peer::Address;
use super::{Ask, Node, Timer, Turn};
use crate::storage::{Garbage, Share, Superseded, Swept};
use crate::txn::{Commit, Key, Timestamp, Version};

/// Keys of which the older versions are dropped in one go, so that requests need not wait for long.
const KEYS_AT_ONCE: usize = 512;
/// Keys evicted in one go.
const EVICTED_AT_ONCE: usize = 256;
/// How soon the next part of a cut is looked at.
const PART_PAUSE: Duration = Duration::from_millis(1);
/// After each part of a sweep the store is left alone for so many times as long as that took. Were the pace
/// fixed instead, a busy store would come to hold more than can be looked through before there is as much again.
const SWEEP_PAUSES: u32 = 9;

type Cut = Vec<(Key, Arc<Commit>)>;

/// What this node is about to forget.
#[derive(Debug, Default)]
pub(super) struct Collector {
    stage: Stage,
    is_running: bool,
    is_evicting: bool,
    sweep: Sweeping,
    counts: GarbageCounts,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Resting,
    /// Until nobody needs what is superseded in the cut.
    Waiting(Waiting, Cut),
    /// The rest of a cut is to be dropped, as far as commits up to this time supersede it.
    Dropping(Timestamp, Cut),
    /// The store is deleting a part of it.
    Deleting(Timestamp, Cut),
}

#[derive(Debug, Default)]
struct Sweeping {
    /// When the store was asked, if it has not answered.
    asked: Option<Duration>,
    next: Option<Duration>,
}

/// What was forgotten since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GarbageCounts {
    /// Versions dropped from the index.
    pub dropped: u64,
    /// Versions that this node had the store delete.
    pub deleted: u64,
    /// Commits whose records this node had the store delete.
    pub records: u64,
    /// Grace periods that ended.
    pub graces: u64,
    /// Keys evicted from the index.
    pub evicted: u64,
    /// Keys of which the store was asked for the newest version.
    pub heads: u64,
    /// Transactions that could not go on, as a version that they had to read was gone.
    pub gone: u64,
    /// What sweeping has found.
    pub swept: Swept,
}

impl Collector {
    pub(super) fn waiting(&mut self) -> Option<&mut Waiting> {
        match &mut self.stage {
            Stage::Waiting(waiting, _) => Some(waiting),
            _ => None,
        }
    }

    pub(super) fn counts(&self) -> GarbageCounts {
        self.counts
    }

    pub(super) fn counts_mut(&mut self) -> &mut GarbageCounts {
        &mut self.counts
    }
}

impl Node {
    /// Begins to collect, once.
    pub(super) fn start_collecting(&mut self, turn: &Turn<'_>) {
        if !self.garbage.is_running && self.config.collects {
            self.garbage.is_running = true;
            let first = turn.now.elapsed + self.config.collect_each;
            self.timers.set(first, Timer::Collect);
            self.garbage.sweep.next = Some(turn.now.elapsed + self.config.sweep_each);
        }
    }

    /// It is time to look for garbage.
    pub(super) fn look_for_garbage(&mut self, turn: &mut Turn<'_>) {
        let mut pause = self.config.collect_each;
        match std::mem::take(&mut self.garbage.stage) {
            Stage::Resting => {
                let may_ask = !self.draining && self.knows_whom_to_ask(turn);
                let cut = if may_ask { self.index.take_superseded() } else { Cut::new() };
                if !cut.is_empty() {
                    let mut waiting = self.ask_for_grace(turn);
                    self.garbage.stage = if self.is_granted(turn, &mut waiting) {
                        pause = PART_PAUSE;
                        Stage::Dropping(waiting.readable_to, cut)
                    } else {
                        Stage::Waiting(waiting, cut)
                    };
                }
            }
            Stage::Waiting(mut waiting, cut) => {
                self.garbage.stage = if self.is_granted(turn, &mut waiting) {
                    pause = PART_PAUSE;
                    self.garbage.counts.graces += 1;
                    Stage::Dropping(waiting.readable_to, cut)
                } else {
                    self.ask_again_for_grace(turn, &waiting);
                    Stage::Waiting(waiting, cut)
                };
            }
            Stage::Dropping(readable_to, cut) => {
                if self.drop_part(turn, readable_to, cut) {
                    pause = PART_PAUSE;
                }
            }
            deleting @ Stage::Deleting(..) => self.garbage.stage = deleting,
        }
        self.sweep(turn);
        self.timers.set(turn.now.elapsed + pause, Timer::Collect);
    }

    /// Drops a part of what is superseded, and has the store delete what is this node's share. Answers
    /// whether more is to be dropped at once.
    fn drop_part(&mut self, turn: &mut Turn<'_>, readable_to: Timestamp, mut cut: Cut) -> bool {
        let part = cut.split_off(cut.len().saturating_sub(KEYS_AT_ONCE));
        let mut dropped: BTreeMap<Version, (Arc<Commit>, Vec<Key>)> = BTreeMap::new();
        let mut newest = BTreeMap::new();
        for (key, by) in part {
            if by.version.timestamp > readable_to {
                self.index.keep_superseded(key, by);
                continue;
            }
            for old in self.index.drop_older(&key, &by.version) {
                self.garbage.counts.dropped += 1;
                self.values.remove(&key, &old.version);
                let entry = dropped.entry(old.version.clone());
                entry.or_insert_with(|| (old, Vec::new())).1.push(key.clone());
                newest.insert(key.clone(), by.clone());
            }
        }
        let (live, share) = (self.live(turn), self.share(turn));
        let is_mine = |commit: &Commit| match live.contains(&commit.replica) {
            true => commit.replica == self.config.address,
            false => share.has(commit.version.writer.as_str()),
        };
        let superseded = dropped.into_values().filter(|(commit, _)| is_mine(commit));
        let superseded = superseded.map(|(commit, keys)| {
            let is_last = !self.index.may_have(&commit);
            Superseded { commit, keys, is_last }
        });
        let superseded: Vec<_> = superseded.collect();
        if superseded.is_empty() {
            let is_more = !cut.is_empty();
            self.garbage.stage =
                if is_more { Stage::Dropping(readable_to, cut) } else { Stage::Resting };
            return is_more;
        }
        let meant: BTreeSet<_> = superseded.iter().flat_map(|gone| &gone.keys).collect();
        newest.retain(|key, _| meant.contains(key));
        for gone in &superseded {
            self.garbage.counts.deleted += gone.keys.len() as u64;
            self.garbage.counts.records += u64::from(gone.is_last);
        }
        let garbage = Garbage { superseded, newest: newest.into_iter().collect() };
        self.garbage.stage = Stage::Deleting(readable_to, cut);
        self.ask(turn, Ask::Collect(Arc::new(garbage)), Purpose::Collect, None);
        false
    }

    /// The store has deleted a part, or will not.
    pub(super) fn deleted(&mut self, turn: &Turn<'_>) {
        if let Stage::Deleting(readable_to, cut) = std::mem::take(&mut self.garbage.stage) {
            self.garbage.stage = if cut.is_empty() {
                Stage::Resting
            } else {
                self.timers.set(turn.now.elapsed + PART_PAUSE, Timer::CollectPart);
                Stage::Dropping(readable_to, cut)
            };
        }
    }

    /// Goes on with what was begun.
    pub(super) fn collect_more(&mut self, turn: &mut Turn<'_>) {
        self.drop_more(turn);
        self.sweep(turn);
    }

    fn drop_more(&mut self, turn: &mut Turn<'_>) {
        match std::mem::take(&mut self.garbage.stage) {
            Stage::Dropping(readable_to, cut) => {
                if self.drop_part(turn, readable_to, cut) {
                    self.timers.set(turn.now.elapsed + PART_PAUSE, Timer::CollectPart);
                }
            }
            other => self.garbage.stage = other,
        }
    }

    /// The nodes that live, this one among them.
    fn live(&self, turn: &Turn<'_>) -> BTreeSet<Address> {
        let mut live = self.gossip.members_live(turn.now.elapsed, self.config.gossip_each);
        live.insert(self.config.address.clone());
        live
    }

    /// Which part of the store this node sweeps, and of the garbage of nodes that do not live.
    fn share(&self, turn: &Turn<'_>) -> Share {
        let live = self.live(turn);
        let part = live.iter().position(|node| *node == self.config.address).unwrap_or_default();
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Share { part: small(part), of: small(live.len()) }
    }

    /// Has the store looked through, from time to time.
    fn sweep(&mut self, turn: &mut Turn<'_>) {
        let is_due = self.garbage.sweep.next.is_some_and(|next| turn.now.elapsed >= next);
        if !is_due || self.garbage.sweep.asked.is_some() || self.draining {
            return;
        }
        self.garbage.sweep.asked = Some(turn.now.elapsed);
        let mut sweep = self.config.sweep(turn.now.wall_ns, self.share(turn));
        // What another node keeps aside takes nothing's place there yet: this clock may be far ahead.
        sweep.superseded_before = sweep.superseded_before.min(self.readable_everywhere(turn));
        self.ask(turn, Ask::Sweep(sweep), Purpose::Sweep, None);
    }

    /// A part of the store was looked through.
    pub(super) fn swept(&mut self, turn: &Turn<'_>, swept: Option<Swept>) {
        let now = turn.now.elapsed;
        let took =
            self.garbage.sweep.asked.take().map_or(Duration::ZERO, |at| now.saturating_sub(at));
        let is_over = swept.is_none_or(|swept| swept.end);
        self.garbage.counts.swept += swept.unwrap_or_default();
        if is_over {
            self.garbage.sweep.next = Some(now + self.config.sweep_each);
        } else {
            let pause = (took * SWEEP_PAUSES).max(PART_PAUSE).min(self.config.collect_each);
            self.garbage.sweep.next = Some(now + pause);
            self.timers.set(now + pause, Timer::CollectPart);
        }
    }

    /// Makes room in the index, if there are too many keys.
    pub(super) fn make_room(&mut self, turn: &mut Turn<'_>) {
        let keys_max = self.config.index_keys_max;
        if !self.config.collects || self.garbage.is_evicting || self.index.key_count() <= keys_max {
            return;
        }
        let found = self.index.to_evict(keys_max, EVICTED_AT_ONCE);
        if !found.is_empty() {
            self.garbage.is_evicting = true;
            self.ask(turn, Ask::SetHeads(found), Purpose::Evict, None);
        }
    }

    /// The store tells the newest versions of these keys from now on.
    pub(super) fn heads_set(&mut self, heads: &[(Key, Arc<Commit>)]) {
        self.garbage.is_evicting = false;
        for (key, commit) in heads {
            let may_go = !self.heads.is_looked_up(key);
            let is_gone = self.index.evict(key, &commit.version, may_go);
            self.garbage.counts.evicted += u64::from(is_gone);
        }
    }

    /// Keys that are too many, to be handed to the store's `set_heads` and then to
    /// [`evict`](Self::evict). Only for what happens before the first event.
    pub fn to_evict(&mut self) -> Vec<(Key, Arc<Commit>)> {
        if !self.config.collects {
            return Vec::new();
        }
        self.index.to_evict(self.config.index_keys_max, usize::MAX)
    }

    /// They are not evicted after all.
    pub fn keep(&mut self, heads: &[(Key, Arc<Commit>)]) {
        heads.iter().for_each(|(key, commit)| {
            self.index.evict(key, &commit.version, false);
        });
    }

    /// See [`to_evict`](Self::to_evict).
    pub fn evict(&mut self, heads: &[(Key, Arc<Commit>)]) {
        self.heads_set(heads);
    }
}
