//! A session: what one client knows to have committed, and may therefore expect to read.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::node::{Address, Token};
use crate::sim::history::Floor;
use crate::txn::{Commit, Key, Version};

/// Commits that a session remembers.
const KNOWN_MAX: usize = 8;

#[derive(Default)]
pub(super) struct Session {
    known: Vec<Known>,
}

struct Known {
    commit: Arc<Commit>,
    token: Option<Token>,
    /// The node that made it said so itself.
    is_firsthand: bool,
}

impl Known {
    /// A node shows what it told of itself. All else it must be shown a token of.
    fn is_known_at(&self, node: &Address) -> bool {
        self.is_firsthand && self.commit.replica == *node
    }
}

impl Session {
    /// `told_by` said that this committed.
    pub(super) fn learn(&mut self, commit: Arc<Commit>, token: Option<Token>, told_by: &Address) {
        let is_firsthand = commit.replica == *told_by;
        let same = self.known.iter_mut().find(|known| known.commit.version == commit.version);
        match same {
            Some(known) => {
                known.is_firsthand |= is_firsthand;
                known.token = token.or(known.token.take());
            }
            None => self.known.push(Known { commit, token, is_firsthand }),
        }
        if self.known.len() > KNOWN_MAX {
            self.known.remove(0);
        }
    }

    /// Tokens of all that a node has not told of itself.
    pub(super) fn tokens(&self, node: &Address) -> Vec<Token> {
        let others = self.known.iter().filter(|known| !known.is_known_at(node));
        others.filter_map(|known| known.token.clone()).collect()
    }

    /// What can be expected at a node.
    pub(super) fn floor(&self, node: &Address, shows_tokens: bool) -> Floor {
        let mut versions: BTreeMap<Key, Version> = BTreeMap::new();
        for known in &self.known {
            let is_shown = shows_tokens && known.token.is_some();
            if !is_shown && !known.is_known_at(node) {
                continue;
            }
            let version = &known.commit.version;
            for written in &known.commit.keys {
                let newest = versions.entry(written.key.clone()).or_insert_with(|| version.clone());
                *newest = (*newest).clone().max(version.clone());
            }
        }
        Floor { promise: "a session reads its own commits", versions }
    }
}
