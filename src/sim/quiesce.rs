//! The end of a run: faults stop, what is under way ends, and then some things must hold.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::anna::BUCKET_ENTRIES;
use super::history::Floor;
use super::site::FOLLOWED_EACH;
use super::weather::Weather;
use super::world::{World, decode, key};
use super::{Flaw, StoreKind};
use crate::storage::Usage;
use crate::txn::{Key, Version};

/// How long everything may take that is still under way when the last request was made.
const QUIESCENCE: Duration = Duration::from_secs(120);
/// How long it may take until every node knows of all commits: gossip, or a look into the store's log.
const SPREADS_WITHIN: Duration = FOLLOWED_EACH.saturating_mul(3);
/// How long it may take until all garbage is gone: it must be older than transactions may run, and then be
/// found by a sweep, and its records by the next one.
const SWEPT_WITHIN: Duration = Duration::from_secs(100);
/// Clocks that drift have come at most this much nearer, or less near, between two looks.
const CLOCK_SLACK_NS: u64 = 5_000_000_000;

impl World<'_> {
    pub(super) fn come_to_rest(&mut self) {
        // Faults stop; what is under way ends, and everything that was left is forgotten.
        self.weather = Weather::calm();
        self.clients.stop();
        self.change_network();
        let looks = self.looks_for_garbage();
        let end = self.elapsed + QUIESCENCE;
        let is_at_rest = |world: &Self| world.sites.iter().all(|site| site.is_at_rest());
        loop {
            while self.elapsed < end && !is_at_rest(self) {
                self.pass(Duration::from_secs(1));
            }
            // A last request may just have been on its way.
            self.pass(SPREADS_WITHIN);
            if self.elapsed >= end || is_at_rest(self) {
                break;
            }
        }
        self.quiescent();
        (0..self.sites.len()).for_each(|site| self.count_gone(site));
        if self.history.is_fair && self.report.gone > 0 {
            let what = format!("{} transactions needed a version that was gone", self.report.gone);
            self.broken("what is needed stays", what);
        }
        self.look_everywhere();
        if looks {
            self.look_for_garbage();
        }
        self.collect();
        self.logged();
    }

    fn pass(&mut self, time: Duration) {
        let end = self.elapsed + time;
        while self.turn(end) {}
        self.elapsed = end;
    }

    /// Long after the last request nothing runs and nothing is held.
    fn quiescent(&mut self) {
        for number in self.not_buried() {
            let site = &self.sites[number];
            let Some(node) = &site.node else {
                self.broken("comes back", format!("node {} stayed dead", number + 1));
                continue;
            };
            let status = node.status();
            if !site.is_at_rest() || status.buffered_bytes != 0 {
                self.broken("bounded", format!("long after the last request: {status:?}"));
            }
        }
    }

    /// Every commit is visible on every node, except to clocks that are far behind its timestamp.
    fn look_everywhere(&mut self) {
        let told = self.history.told_committed();
        let follows_all = self.options.store == StoreKind::Conditional && self.options.nodes > 1;
        for site in self.not_buried() {
            let believed = self.believes_to(site).saturating_sub(CLOCK_SLACK_NS);
            let address = self.address(site);
            let mut versions: BTreeMap<Key, Version> = BTreeMap::new();
            for landed in &self.history.landed {
                let commit = &landed.commit;
                // Somebody who died may have sent it long ago.
                if landed.at + SPREADS_WITHIN > self.elapsed {
                    continue;
                }
                // A commit of which nobody was told may stand in no log on Anna, and a node that is alone
                // looks into the log only when it starts: such a commit is found when somebody asks.
                if !follows_all && !told.contains(&commit.version.writer.base()) {
                    continue;
                }
                if commit.replica != address && commit.version.timestamp.0 > believed {
                    continue;
                }
                for written in &commit.keys {
                    let newest = versions.entry(written.key.clone());
                    let newest = newest.or_insert_with(|| commit.version.clone());
                    if *newest < commit.version {
                        *newest = commit.version.clone();
                    }
                }
            }
            self.probe(site, Floor { promise: "commits are seen everywhere", versions });
        }
        self.pass(Duration::from_secs(5));
        for site in self.open_probes() {
            self.broken("every request is answered", format!("node {} was silent", site + 1));
        }
    }

    /// Whether all garbage is to be gone in the end. To find that out takes long, so it is done now and
    /// then. It has to go also if a node has just died for ever.
    fn looks_for_garbage(&mut self) -> bool {
        let collects = self.options.garbage;
        let may_bury = self.options.nodes > 1 && self.options.store == StoreKind::Conditional;
        let buries = may_bury && self.rng.u32(0..12) == 0;
        if collects && (buries || self.options.flaw == Some(Flaw::Haunted)) {
            let site = self.any_site();
            self.bury(site);
            return true;
        }
        collects && self.rng.u32(0..6) == 0
    }

    fn not_buried(&self) -> Vec<usize> {
        (0..self.sites.len()).filter(|site| !self.sites[*site].is_buried).collect()
    }

    /// The store holds the newest version of each key, the commits that wrote those, and nothing else but
    /// that other ids have ended.
    fn look_for_garbage(&mut self) {
        self.pass(SWEPT_WITHIN);
        let mut newest: BTreeMap<Key, Version> = BTreeMap::new();
        for landed in &self.history.landed {
            let version = &landed.commit.version;
            for written in &landed.commit.keys {
                let known = newest.entry(written.key.clone()).or_insert_with(|| version.clone());
                *known = known.clone().max(version.clone());
            }
        }
        // What some clock does not believe yet cannot take the place of what is older.
        let believed = (0..self.sites.len()).map(|site| self.swept_to(site)).min();
        let is_young = |version: &Version| Some(version.timestamp.0) > believed;
        let wanted: Vec<_> = newest.into_iter().collect();
        let found = match &self.sites[0].anna {
            Some(anna) => anna.versions(&wanted),
            None => self.store.versions_now(&wanted),
        };
        for ((key, version), value) in wanted.iter().zip(found) {
            if value.is_none() {
                self.broken("what is live stays", format!("{key} at {version:?} is gone"));
            }
        }
        if wanted.iter().any(|(_, version)| is_young(version)) {
            return;
        }
        for number in 0..self.sites.len() {
            let status = self.sites[number].node.as_ref().map(crate::node::Node::status);
            if let Some(status) = status.filter(|status| status.versions > status.keys) {
                self.broken("garbage is collected", format!("node {} has {status:?}", number + 1));
            }
        }
        let live: BTreeSet<&Version> = wanted.iter().map(|(_, version)| version).collect();
        let records = live.len() as u64;
        let (usage, is_clean) = match &self.sites[0].anna {
            Some(anna) => {
                let usage = anna.usage();
                (usage, self.is_clean_on_anna(&usage, live.len()))
            }
            None => {
                let usage = self.store.usage_now();
                let held = (usage.versions, usage.log_entries, usage.outcomes - usage.remains);
                let is_exact = held == (wanted.len() as u64, records, records);
                (usage, is_exact && usage.uncommitted == 0)
            }
        };
        if !is_clean {
            let what = format!("{} commits are live, the store has {usage:?}", live.len());
            self.broken("garbage is collected", what);
        }
    }

    /// Each log may be half dead, and then by some parts more; some commits stand in two.
    fn is_clean_on_anna(&self, usage: &Usage, live: usize) -> bool {
        let most = self.sites.len() * (2 * live + 5 * BUCKET_ENTRIES);
        let logged = usize::try_from(usage.log_entries).unwrap_or_default();
        usage.superseded == 0 && (live..=most).contains(&logged)
    }

    /// Writes down what the store holds in the end.
    fn collect(&mut self) {
        let anna = &mut self.sites[0].anna;
        let keys: Vec<_> = (0..self.options.keys).map(key).collect();
        let plain = match anna {
            Some(anna) => anna.plain(&keys),
            None => self.store.plain_now(&keys),
        };
        for (key, plain) in keys.iter().zip(plain) {
            let Some(plain) = plain else { continue };
            let Some(value) = decode(&plain.value) else {
                continue;
            };
            self.history.plain.push((key.clone(), value, plain.published));
        }
    }

    /// Whoever starts next learns from the logs what clients were told has committed.
    fn logged(&mut self) {
        let Some(anna) = &mut self.sites[0].anna else { return };
        let mut newest: BTreeMap<Key, Version> = BTreeMap::new();
        for commit in anna.logged() {
            for written in &commit.keys {
                let version =
                    newest.entry(written.key.clone()).or_insert_with(|| commit.version.clone());
                *version = version.clone().max(commit.version.clone());
            }
        }
        let told = self.history.told_committed();
        let mut lost = Vec::new();
        for landed in &self.history.landed {
            let version = &landed.commit.version;
            let missing = |key: &Key| newest.get(key).is_none_or(|known| known < version);
            if told.contains(&version.writer.base())
                && let Some(written) = landed.commit.keys.iter().find(|w| missing(&w.key))
            {
                lost.push(format!("{} at {version:?} is in no log", written.key));
            }
        }
        lost.into_iter().for_each(|what| self.broken("nothing lost", what));
    }
}
