//! Questions to the routing tier: one key each, at most one at a time for a key.
//!
//! A question goes to one endpoint that is known to answer. If none is, or a try failed, or now and then
//! to find out who answers, it goes to all of them: a plain host name stands for four routing threads,
//! of which only one may run.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::FixedState;
use smallvec::SmallVec;

use super::OpId;
use super::addresses::Addr;
use crate::timers::TimerId;

/// How often a question goes to all endpoints.
const PROBE: Duration = Duration::from_secs(10);

/// An endpoint of the routing tier.
struct Endpoint {
    addr: Addr,
    is_alive: bool,
}

/// The endpoints, and which of them answer.
pub(super) struct Routing {
    endpoints: Vec<Endpoint>,
    probe_at: Duration,
}

impl Routing {
    pub(super) fn new(endpoints: impl Iterator<Item = Addr>) -> Self {
        let endpoint = |addr| Endpoint { addr, is_alive: false };
        Self { endpoints: endpoints.map(endpoint).collect(), probe_at: Duration::ZERO }
    }

    /// Whom to ask: numbers and addresses.
    pub(super) fn choose(
        &mut self,
        now: Duration,
        is_retry: bool,
        rng: &mut fastrand::Rng,
    ) -> SmallVec<[(usize, Addr); 4]> {
        let all = self.endpoints.iter().enumerate();
        let all: SmallVec<[_; 4]> = all.map(|(number, e)| (number, e.addr.clone())).collect();
        let mut alive = all.clone();
        alive.retain(|(number, _)| self.endpoints.get(*number).is_some_and(|e| e.is_alive));
        if alive.is_empty() || is_retry {
            return all;
        }
        if now >= self.probe_at {
            self.probe_at = now + PROBE;
            return all;
        }
        let one = rng.usize(..alive.len());
        alive.drain(..).skip(one).take(1).collect()
    }

    pub(super) fn addr(&self, number: usize) -> Option<&Addr> {
        self.endpoints.get(number).map(|endpoint| &endpoint.addr)
    }

    /// The endpoint has answered, or it has not.
    pub(super) fn set_alive(&mut self, number: usize, is_alive: bool) {
        if let Some(endpoint) = self.endpoints.get_mut(number) {
            endpoint.is_alive = is_alive;
        }
    }
}

/// A question that is open.
pub(super) struct Lookup {
    /// The numbers of the last tries.
    pub(super) numbers: SmallVec<[u64; 2]>,
    /// Tries so far.
    pub(super) tries: u32,
    /// When the current try began.
    pub(super) since: Duration,
    /// The endpoints asked in the current try.
    pub(super) asked: SmallVec<[usize; 4]>,
    /// The time until the timer is a pause after the answer that there are no servers.
    pub(super) is_pausing: bool,
    /// That was the last answer.
    pub(super) no_servers: bool,
    /// Operations that wait.
    pub(super) waiters: SmallVec<[OpId; 1]>,
    pub(super) timer: TimerId,
}

/// The questions that are open, by key.
pub(super) type Lookups = HashMap<Arc<str>, Lookup, FixedState>;
