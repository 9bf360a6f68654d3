//! Gossip: each node tells all others what it committed, some time after the commit.
//!
//! No read waits for it and no promise rests on its speed: a commit that is not known here is simply
//! not read here yet. What is lost on the way is noticed by its number and asked for again; what its
//! origin can no longer tell stands in the store's log, which is followed as well.
//!
//! Nothing is kept for a peer that is slow or dead: a message is handed to its socket and forgotten. The
//! queue of each socket is bounded in bytes and in time (`transport::Outbox`), and what was dropped there
//! is asked for again by number. What is kept is the same for all peers: the last own commits, of which
//! the version index holds the records anyway, and a few numbers for each origin.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::FixedState;

use super::peer::{Address, Batch, Found, Origin, PeerMessage, Resend};
use super::{Effect, HeardStatus, Node, Timer, Turn};
use crate::txn::{Commit, Key, Map, Set, Timestamp};

/// A batch is sent at once when it is this long.
const BATCH_COMMITS_MAX: usize = 512;
/// Own commits kept for those who missed them.
const RECENT_MAX: usize = 100_000;
/// A node that has nothing to tell says so every so many intervals.
const HEARTBEAT_INTERVALS: u32 = 10;
/// How often those who only listen are told that this node is there, whatever the interval.
const HEARTBEAT_EACH: Duration = Duration::from_secs(1);
/// Origins remembered. A node that restarts is a new one.
const ORIGINS_MAX: usize = 4096;
/// An origin that has been silent for so long is asked nothing, and is forgotten if its node has another
/// life or is no member.
const SILENT_MAX: Duration = Duration::from_secs(60);
/// A member that has been silent for longer than this, and than two heartbeats, is not counted as live.
const LIVE_WITHIN: Duration = Duration::from_secs(5);

/// What this node tells and was told.
pub(super) struct Gossip {
    members: Vec<Address>,
    /// Since when each of them is one; none before anybody has told who they are.
    member_since: Option<BTreeMap<Address, Duration>>,
    /// Told of all commits, too, but no nodes.
    listeners: Vec<Address>,
    /// The number of the last own commit.
    last: u64,
    /// The first one that was not told yet.
    unsent: Vec<Arc<Commit>>,
    recent: VecDeque<Arc<Commit>>,
    heard: Map<Origin, Heard>,
    silent_intervals: u32,
    is_running: bool,
    has_heartbeat: bool,
    counts: GossipCounts,
}

/// What was said between nodes about commits, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GossipCounts {
    /// Messages sent, once for each receiver.
    pub messages_sent: u64,
    /// Commits in them.
    pub commits_sent: u64,
    /// Messages received.
    pub messages_received: u64,
    /// Commits in them, known before or not.
    pub commits_received: u64,
    /// Those of them that a manager found in the store.
    pub commits_found: u64,
    /// How often a node was asked for what had not arrived.
    pub resends_asked: u64,
}

/// What is known of one origin's commits.
#[derive(Debug, Default)]
struct Heard {
    /// All up to this number.
    prefix: u64,
    /// Those of them up to this number were not told: they stand in the store's log.
    in_log_to: u64,
    /// Ranges behind a gap: first number to last.
    beyond: BTreeMap<u64, u64>,
    /// The greatest number that there is, as far as is known.
    last: u64,
    /// When the gap was asked for.
    asked: Option<Duration>,
    /// When the last word came.
    at: Duration,
    /// Later commits of others its clock does not believe yet, as it said last.
    readable_to: Timestamp,
}

impl Heard {
    fn add(&mut self, first: u64, last: u64) {
        self.last = self.last.max(last);
        if first <= last {
            let end = self.beyond.entry(first).or_insert(last);
            *end = (*end).max(last);
        }
        while let Some((&first, &last)) = self.beyond.first_key_value() {
            if first > self.prefix + 1 {
                break;
            }
            self.prefix = self.prefix.max(last);
            self.beyond.pop_first();
        }
    }

    /// The first gap.
    fn gap(&self) -> Option<(u64, u64)> {
        if self.prefix >= self.last {
            return None;
        }
        let end = self.beyond.first_key_value().map_or(self.last, |(first, _)| first - 1);
        Some((self.prefix + 1, end))
    }
}

impl Gossip {
    pub(super) fn new(members: Vec<Address>, hasher: &FixedState) -> Self {
        Self {
            members,
            member_since: None,
            listeners: Vec::new(),
            last: 0,
            unsent: Vec::new(),
            recent: VecDeque::new(),
            heard: Map::with_hasher(hasher.clone()),
            silent_intervals: 0,
            is_running: false,
            has_heartbeat: false,
            counts: GossipCounts::default(),
        }
    }

    pub(super) fn members_named(&self) -> Vec<Address> {
        self.members.clone()
    }

    pub(super) fn members(&self) -> Vec<String> {
        self.members.iter().map(|member| member.to_string()).collect()
    }

    pub(super) fn counts(&self) -> GossipCounts {
        self.counts
    }

    /// The members that were heard from of late.
    pub(super) fn members_live(&self, now: Duration, each: Duration) -> BTreeSet<Address> {
        self.members_heard_within(now, LIVE_WITHIN.max(each * HEARTBEAT_INTERVALS * 2))
    }

    /// The members that were heard from within this time, or that are new; none if nobody has told yet who
    /// the members are.
    pub(super) fn members_not_silent(
        &self,
        now: Duration,
        time: Duration,
    ) -> Option<BTreeSet<Address>> {
        let mut members = self.members_heard_within(now, time);
        let since = self.member_since.as_ref()?;
        let new = since.iter().filter(|(_, since)| now < **since + time);
        members.extend(new.map(|(member, _)| member.clone()));
        Some(members)
    }

    /// Up to which time the members read what others committed, those left out that were silent for so long;
    /// 0 if some member has not said.
    pub(super) fn readable_to(&self, now: Duration, silent_max: Duration) -> Timestamp {
        let members = self.members_not_silent(now, silent_max).unwrap_or_default();
        let said = |member: &Address| {
            let lives = self.heard.iter().filter(|(origin, _)| origin.node == *member);
            let last = lives.map(|(_, heard)| heard).max_by_key(|heard| heard.at);
            last.map_or(Timestamp(0), |heard| heard.readable_to)
        };
        members.iter().map(said).min().unwrap_or(Timestamp(u64::MAX))
    }

    /// The members that were heard from within this time.
    fn members_heard_within(&self, now: Duration, time: Duration) -> BTreeSet<Address> {
        let heard = self.heard.iter().filter(|(_, heard)| now < heard.at + time);
        let heard: BTreeSet<&str> = heard.map(|(origin, _)| &*origin.node).collect();
        self.members.iter().filter(|member| heard.contains(&***member)).cloned().collect()
    }

    /// Whether there is anybody to tell.
    fn has_audience(&self) -> bool {
        !self.members.is_empty() || !self.listeners.is_empty()
    }

    /// What was not told is not kept for an audience that may come: it will ask, or read the log.
    fn audience_changed(&mut self) {
        if !self.has_audience() {
            self.unsent.clear();
        }
    }

    /// Forgets origins that will not say any more. Otherwise each life of each node that ever was would
    /// be remembered.
    fn forget_silent(&mut self, now: Duration) {
        let is_silent = |heard: &Heard| now >= heard.at + SILENT_MAX;
        let mut newest: BTreeMap<Address, Duration> = BTreeMap::new();
        for (origin, heard) in &self.heard {
            let at = newest.entry(origin.node.clone()).or_default();
            *at = heard.at.max(*at);
        }
        let members = &self.members;
        self.heard.retain(|origin, heard| {
            let has_later = newest.get(&origin.node).is_some_and(|at| *at > heard.at);
            !is_silent(heard) || (!has_later && members.contains(&origin.node))
        });
    }

    pub(super) fn told(&self) -> u64 {
        self.last
    }

    pub(super) fn heard_status(&self, now: Duration) -> Vec<HeardStatus> {
        let heard = self.heard.iter().map(|(origin, heard)| HeardStatus {
            node: origin.node.to_string(),
            incarnation: origin.incarnation.to_string(),
            complete_to: heard.prefix,
            last: heard.last,
            silent_ms: u64::try_from(now.saturating_sub(heard.at).as_millis()).unwrap_or(u64::MAX),
        });
        let mut heard: Vec<_> = heard.collect();
        heard.sort_by(|a, b| (&a.node, &a.incarnation).cmp(&(&b.node, &b.incarnation)));
        heard
    }

    /// Whether the commit of this number was told, or a later one of each of its keys.
    pub(super) fn has_heard(&self, origin: &Origin, number: u64) -> bool {
        self.heard
            .get(origin)
            .is_some_and(|heard| heard.in_log_to < number && number <= heard.prefix)
    }

    /// The numbers of the own commits that can be told again.
    fn recent_from(&self) -> u64 {
        self.last + 1 - self.recent.len() as u64
    }
}

impl Node {
    /// The nodes to gossip with have changed.
    pub(super) fn set_members(&mut self, turn: &Turn<'_>, members: Vec<Address>) {
        self.gossip.members =
            members.into_iter().filter(|member| *member != self.config.address).collect();
        let before = self.gossip.member_since.take().unwrap_or_default();
        let since = self.gossip.members.iter().map(|member| {
            let since = before.get(member).copied().unwrap_or(turn.now.elapsed);
            (member.clone(), since)
        });
        self.gossip.member_since = Some(since.collect());
        self.gossip.audience_changed();
        self.forget_graces(&self.gossip.members_named());
    }

    /// Others than nodes are to be told.
    pub(super) fn set_listeners(&mut self, listeners: Vec<Address>) {
        self.gossip.listeners = listeners;
        self.gossip.audience_changed();
    }

    /// Remembers to tell others of a commit made here. Answers its number.
    pub(super) fn tell(&mut self, turn: &mut Turn<'_>, commit: &Arc<Commit>) -> u64 {
        let gossip = &mut self.gossip;
        gossip.last += 1;
        gossip.recent.push_back(commit.clone());
        if gossip.recent.len() > RECENT_MAX {
            gossip.recent.pop_front();
        }
        let number = gossip.last;
        if gossip.has_audience() {
            gossip.unsent.push(commit.clone());
        }
        if gossip.unsent.len() >= BATCH_COMMITS_MAX {
            self.send_gossip(turn);
        }
        number
    }

    /// Begins to gossip, once.
    pub(super) fn start_gossip(&mut self, turn: &Turn<'_>) {
        if !self.gossip.is_running && self.gossip.has_audience() {
            self.gossip.is_running = true;
            self.timers.set(turn.now.elapsed + self.config.gossip_each, Timer::Gossip);
        }
        if !self.gossip.has_heartbeat && !self.gossip.listeners.is_empty() {
            self.gossip.has_heartbeat = true;
            self.timers.set(turn.now.elapsed, Timer::Heartbeat);
        }
    }

    /// Tells those who only listen that this node is there, and no more than they were told.
    pub(super) fn heartbeat(&mut self, turn: &mut Turn<'_>) {
        let listeners = self.gossip.listeners.clone();
        if listeners.is_empty() {
            self.gossip.has_heartbeat = false;
            return;
        }
        let told = self.gossip.last - self.gossip.unsent.len() as u64;
        let origin = self.config.origin();
        let nothing = Batch {
            origin,
            first: told + 1,
            last: told,
            in_log_to: 0,
            readable_to: Timestamp(self.believes_to(turn.now)),
            commits: Vec::new(),
        };
        self.send_batch(turn, &nothing, &listeners);
        self.timers.set(turn.now.elapsed + HEARTBEAT_EACH, Timer::Heartbeat);
    }

    /// An interval is over.
    pub(super) fn gossip(&mut self, turn: &mut Turn<'_>) {
        self.gossip.forget_silent(turn.now.elapsed);
        if !self.gossip.has_audience() {
            self.gossip.is_running = false;
            return;
        }
        self.gossip.silent_intervals += 1;
        let is_due = self.gossip.silent_intervals >= HEARTBEAT_INTERVALS;
        if is_due || !self.gossip.unsent.is_empty() {
            self.send_gossip(turn);
        }
        self.ask_for_gaps(turn);
        self.timers.set(turn.now.elapsed + self.config.gossip_each, Timer::Gossip);
    }

    fn send_gossip(&mut self, turn: &mut Turn<'_>) {
        let readable_to = Timestamp(self.believes_to(turn.now));
        let gossip = &mut self.gossip;
        gossip.silent_intervals = 0;
        let unsent = std::mem::take(&mut gossip.unsent);
        let (members, listeners) = (gossip.members.clone(), gossip.listeners.clone());
        let mut batch = Batch {
            origin: self.config.origin(),
            first: gossip.last + 1 - unsent.len() as u64,
            last: gossip.last,
            in_log_to: 0,
            readable_to,
            commits: unsent,
        };
        // Who listens compares with the store's log, which has all of them, and has heartbeats of its own.
        if !batch.commits.is_empty() {
            self.send_batch(turn, &batch, &listeners);
        }
        batch.commits = without_overwritten(batch.commits, &self.hasher);
        self.send_batch(turn, &batch, &members);
    }

    fn send_batch(&mut self, turn: &mut Turn<'_>, batch: &Batch, receivers: &[Address]) {
        for to in receivers.iter().cloned() {
            self.gossip.counts.messages_sent += 1;
            self.gossip.counts.commits_sent += batch.commits.len() as u64;
            let message = PeerMessage::Commits(batch.clone());
            turn.effects.push(Effect::Send { to, message });
        }
    }

    /// What a manager found in the store.
    pub(super) fn heard_found(&mut self, turn: &mut Turn<'_>, found: Found) {
        let (counts, commits) = (&mut self.gossip.counts, found.commits.len() as u64);
        counts.messages_received += 1;
        counts.commits_received += commits;
        counts.commits_found += commits;
        found.commits.iter().for_each(|commit| self.learn(turn, commit));
    }

    /// What another node committed.
    pub(super) fn heard_commits(&mut self, turn: &mut Turn<'_>, batch: Batch) {
        if batch.origin.node == self.config.address {
            return;
        }
        self.gossip.counts.messages_received += 1;
        self.gossip.counts.commits_received += batch.commits.len() as u64;
        batch.commits.iter().for_each(|commit| self.learn(turn, commit));
        let heard = &mut self.gossip.heard;
        if heard.len() >= ORIGINS_MAX && !heard.contains_key(&batch.origin) {
            return;
        }
        // What was before the first message stands in the log, which was read, or is followed.
        let before = batch.first.saturating_sub(1);
        let heard = heard.entry(batch.origin).or_insert_with(|| Heard {
            prefix: before,
            in_log_to: before,
            last: before,
            ..Heard::default()
        });
        heard.at = turn.now.elapsed;
        heard.readable_to = batch.readable_to;
        heard.in_log_to = heard.in_log_to.max(batch.in_log_to);
        heard.add(batch.first, batch.last);
    }

    /// Asks for what was lost, after it had an interval's time to arrive late.
    fn ask_for_gaps(&mut self, turn: &mut Turn<'_>) {
        let (now, each) = (turn.now.elapsed, self.config.gossip_each);
        let mut asks = Vec::new();
        for (origin, heard) in &mut self.gossip.heard {
            let Some((first, last)) = heard.gap() else {
                heard.asked = None;
                continue;
            };
            match heard.asked {
                _ if now >= heard.at + SILENT_MAX => {}
                // Seen for the first time: it may be on its way.
                None => heard.asked = Some(now),
                Some(asked) if now < asked + each => {}
                Some(_) => {
                    heard.asked = Some(now);
                    asks.push((origin.clone(), first, last));
                }
            }
        }
        // The map's order must not show.
        asks.sort();
        for (origin, first, last) in asks {
            self.gossip.counts.resends_asked += 1;
            let asker = self.config.address.clone();
            let resend = Resend { asker, incarnation: origin.incarnation, first, last };
            let message = PeerMessage::Resend(resend);
            turn.effects.push(Effect::Send { to: origin.node, message });
        }
    }

    pub(super) fn resend(&mut self, turn: &mut Turn<'_>, asked: &Resend) {
        let gossip = &self.gossip;
        if asked.incarnation != self.config.incarnation || asked.first > asked.last {
            return;
        }
        // What is older stands in the log. To say so is better than to be asked again.
        let from = asked.first.max(gossip.recent_from());
        let count = asked.last.min(gossip.last).saturating_sub(from).saturating_add(1);
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(BATCH_COMMITS_MAX);
        let skip = usize::try_from(from - gossip.recent_from()).unwrap_or(usize::MAX);
        let commits: Vec<_> = gossip.recent.iter().skip(skip).take(count).cloned().collect();
        let last = from - 1 + commits.len() as u64;
        let in_log_to = if from > asked.first { from - 1 } else { 0 };
        let (origin, first) = (self.config.origin(), asked.first);
        let readable_to = Timestamp(self.believes_to(turn.now));
        let batch = Batch { origin, first, last, in_log_to, readable_to, commits };
        self.send_batch(turn, &batch, std::slice::from_ref(&asked.asker));
    }
}

/// Leaves out commits of which every key was written again by a later one of the same batch.
fn without_overwritten(commits: Vec<Arc<Commit>>, hasher: &FixedState) -> Vec<Arc<Commit>> {
    let mut newest: Map<Key, Arc<Commit>> = Map::with_hasher(hasher.clone());
    for commit in &commits {
        for written in &commit.keys {
            let known = newest.entry(written.key.clone()).or_insert_with(|| commit.clone());
            if known.version < commit.version {
                *known = commit.clone();
            }
        }
    }
    let live: Set<_> = {
        let mut live = Set::with_hasher(hasher.clone());
        live.extend(newest.into_values().map(|commit| commit.version.clone()));
        live
    };
    commits.into_iter().filter(|commit| live.contains(&commit.version)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_found_and_closed() {
        let mut heard = Heard::default();
        heard.add(1, 3);
        assert_eq!((heard.prefix, heard.gap()), (3, None));
        heard.add(7, 9);
        heard.add(12, 12);
        assert_eq!((heard.prefix, heard.gap()), (3, Some((4, 6))));
        // A heartbeat tells what there is.
        heard.add(21, 20);
        heard.add(2, 8);
        assert_eq!((heard.prefix, heard.gap()), (9, Some((10, 11))));
        heard.add(10, 11);
        assert_eq!((heard.prefix, heard.gap()), (12, Some((13, 20))));
        heard.add(13, 20);
        assert_eq!((heard.prefix, heard.gap()), (20, None));
    }
}
