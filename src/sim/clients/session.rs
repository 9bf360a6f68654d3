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
    known: Vec<(Arc<Commit>, Option<Token>)>,
}

impl Session {
    pub(super) fn learn(&mut self, commit: Arc<Commit>, token: Option<Token>) {
        let same = self.known.iter_mut().find(|(known, _)| known.version == commit.version);
        match same {
            Some((_, known)) => *known = token.or(known.take()),
            None => self.known.push((commit, token)),
        }
        if self.known.len() > KNOWN_MAX {
            self.known.remove(0);
        }
    }

    /// Tokens of commits made elsewhere than at a node.
    pub(super) fn tokens(&self, at: &Address) -> Vec<Token> {
        let elsewhere = self.known.iter().filter(|(commit, _)| commit.replica != *at);
        elsewhere.filter_map(|(_, token)| token.clone()).collect()
    }

    /// What can be expected at a node: all that it committed itself, and what it was shown tokens of.
    pub(super) fn floor(&self, at: &Address, shows_tokens: bool) -> Floor {
        let mut versions: BTreeMap<Key, Version> = BTreeMap::new();
        for (commit, token) in &self.known {
            if commit.replica != *at && !(shows_tokens && token.is_some()) {
                continue;
            }
            for written in &commit.keys {
                let known =
                    versions.entry(written.key.clone()).or_insert_with(|| commit.version.clone());
                *known = (*known).clone().max(commit.version.clone());
            }
        }
        Floor { promise: "a session reads its own commits", versions }
    }
}
