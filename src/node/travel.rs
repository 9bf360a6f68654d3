//! What an attempt knows of its own way over several nodes.
//!
//! Each node that an attempt visits counts its requests there ([`Visit`]). The counters of all nodes
//! together order views as a vector clock does: a view that has all steps of another one descends from
//! it and takes its place; two views of which neither has all are parallel branches and are joined.

use std::collections::{BTreeMap, BTreeSet};

use super::peer::{Address, Holder, Origin, View, Visit};
use crate::txn::Key;

/// The way of one attempt, as one node knows it. An attempt that stays where it began has an empty one.
#[derive(Debug, Default)]
pub(super) struct Travel {
    /// Nodes that the attempt came through before this one, on the longest way.
    pub(super) depth: u32,
    /// Requests made here that read or wrote.
    pub(super) steps: u64,
    /// Those that wrote.
    pub(super) puts: u64,
    /// The other nodes where it ran.
    pub(super) visited: BTreeMap<Origin, Visited>,
    /// Keys whose value is on another node.
    pub(super) held: BTreeMap<Key, Holder>,
    /// The number of the last request that wrote a key here.
    pub(super) written: BTreeMap<Key, u64>,
    /// The depth of what was written here, where that is not 0.
    pub(super) depths: BTreeMap<Key, u32>,
    /// Whom it was handed to.
    pub(super) handed_to: BTreeMap<Address, Handed>,
    /// Those of them that it did not come back from. The last is where it went last.
    pub(super) ahead: Vec<Address>,
}

/// That an attempt was handed to another node.
#[derive(Debug, Clone)]
pub(super) struct Handed {
    pub(super) to: Origin,
    /// The last question for it.
    pub(super) number: u64,
}

/// What is known of an attempt on another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Visited {
    pub(super) steps: u64,
    pub(super) puts: u64,
}

/// How a view relates to what is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// It says nothing new.
    Known,
    /// It has everything that is known here.
    Newer,
    /// Each has something that the other has not.
    Parallel,
}

impl Travel {
    /// It never left, and never came from elsewhere.
    pub(super) fn stayed_here(&self) -> bool {
        self.visited.is_empty() && self.handed_to.is_empty()
    }

    /// All other nodes that may know of it.
    pub(super) fn others(&self) -> BTreeSet<Address> {
        let visited = self.visited.keys().map(|origin| origin.node.clone());
        visited.chain(self.handed_to.keys().cloned()).collect()
    }

    /// A key was written here.
    pub(super) fn wrote(&mut self, key: &Key) {
        self.held.remove(key);
        self.written.insert(key.clone(), self.puts);
        if self.depth > 0 {
            self.depths.insert(key.clone(), self.depth);
        }
    }

    /// Who has the value of a key, if that is another node.
    pub(super) fn holder(&self, key: &Key) -> Option<&Origin> {
        self.held.get(key).map(|holder| &holder.origin)
    }

    /// How `view` relates to this. `me` is this node.
    pub(super) fn order(&self, me: &Origin, view: &View) -> Order {
        let steps_in_view = |origin: &Origin| {
            view.visited.iter().find(|visit| visit.origin == *origin).map_or(0, |v| v.steps)
        };
        let known = |visit: &Visit| {
            if visit.origin.node == me.node {
                return visit.origin != *me || self.steps >= visit.steps;
            }
            self.visited.get(&visit.origin).is_some_and(|known| known.steps >= visit.steps)
        };
        if view.visited.iter().all(known) {
            return Order::Known;
        }
        let covers = self.steps <= steps_in_view(me)
            && self.visited.iter().all(|(origin, visited)| visited.steps <= steps_in_view(origin));
        if covers { Order::Newer } else { Order::Parallel }
    }

    /// A node of which the view and this know different lives, one of which held writes: they are gone.
    pub(super) fn restarted(&self, me: &Origin, view: &View) -> Option<Address> {
        let differs = |visit: &Visit, known: &Origin| {
            known.node == visit.origin.node && known.incarnation != visit.origin.incarnation
        };
        let lost = view.visited.iter().find(|visit| {
            let mut known = self.visited.iter();
            (visit.puts > 0 && differs(visit, me))
                || known.any(|(k, v)| visit.puts + v.puts > 0 && differs(visit, k))
        });
        lost.map(|visit| visit.origin.node.clone())
    }

    /// Adds where a view has been, and what it wrote. `own` are the keys that were written here.
    ///
    /// Of two values of one key the one that was written deeper counts, then the one of the node with the
    /// greater name.
    pub(super) fn add<'a>(&mut self, me: &Origin, view: &View, own: impl Iterator<Item = &'a Key>) {
        for visit in view.visited.iter().filter(|visit| visit.origin.node != me.node) {
            let visited = self.visited.entry(visit.origin.clone());
            let visited = visited.or_insert(Visited { steps: 0, puts: 0 });
            visited.steps = visited.steps.max(visit.steps);
            visited.puts = visited.puts.max(visit.puts);
        }
        let depth_of = |key: &Key| self.depths.get(key).copied().unwrap_or(0);
        let own: BTreeMap<&Key, Holder> =
            own.map(|key| (key, Holder { depth: depth_of(key), origin: me.clone() })).collect();
        for (key, holder) in &view.writes {
            let known = self.held.get(key).or_else(|| own.get(key));
            if known.is_none_or(|known| known < holder) {
                self.held.insert(key.clone(), holder.clone());
            }
        }
        self.held.retain(|_, holder| holder.origin != *me);
        self.depth = self.depth.max(view.depth.saturating_add(1));
    }
}
