//! What is known of each thread of the store: whether it answers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::FixedState;

use super::addresses::Addr;

/// Above this many, those that no key and no request names are forgotten.
const PEERS_MAX: usize = 4096;

#[derive(Debug, Default)]
struct Peer {
    /// When its last answer came.
    heard: Option<Duration>,
    /// When its socket was replaced last.
    reset: Option<Duration>,
    /// Did not answer the last time that it was waited for.
    is_silent: bool,
}

/// How silent a thread is of which one request was not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Silence {
    /// Other answers came from there since.
    None,
    /// Nothing came, but the connection by which it was asked has been given up already.
    Known,
    /// Nothing came, so its connection should be given up.
    Complete,
}

/// See the [module's page](self).
#[derive(Default)]
pub(super) struct Peers(HashMap<Addr, Peer, FixedState>);

impl Peers {
    /// The one text that all equal endpoints share.
    pub(super) fn intern(&mut self, endpoint: &str) -> Addr {
        if let Some((addr, _)) = self.0.get_key_value(endpoint) {
            return addr.clone();
        }
        if self.0.len() >= PEERS_MAX {
            self.0.retain(|addr, _| Arc::strong_count(addr) > 1);
        }
        let addr: Addr = endpoint.into();
        self.0.insert(addr.clone(), Peer::default());
        addr
    }

    pub(super) fn answered(&mut self, now: Duration, addr: &Addr) {
        if let Some(peer) = self.0.get_mut(addr) {
            peer.heard = Some(now);
            peer.is_silent = false;
        }
    }

    /// A request that was sent at `since` was not answered.
    pub(super) fn timed_out(&mut self, now: Duration, addr: &Addr, since: Duration) -> Silence {
        let Some(peer) = self.0.get_mut(addr) else {
            return Silence::None;
        };
        if peer.heard.is_some_and(|heard| heard >= since) {
            return Silence::None;
        }
        peer.is_silent = true;
        if peer.reset.is_some_and(|reset| reset > since) {
            return Silence::Known;
        }
        peer.reset = Some(now);
        Silence::Complete
    }

    pub(super) fn is_silent(&self, addr: &Addr) -> bool {
        self.0.get(addr).is_some_and(|peer| peer.is_silent)
    }
}
