//! Look-ups: messages to routing threads, and their answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use smallvec::SmallVec;

use super::addresses::Addrs;
use super::lookups::Lookup;
use super::op::Stage;
use super::peers::Silence;
use super::timers::Timer;
use super::{Core, Effect, OpId, PAUSE_MAX};
use crate::anna::client::endpoint::is_tcp;
use crate::wire::anna::{KeyAddressRequest, KeyAddressResponse};

/// The first pause after the answer that there are no servers.
const NO_SERVERS_PAUSE: Duration = Duration::from_millis(50);
/// Tries of one look-up whose answers are still welcome.
const LOOKUP_NUMBERS_MAX: usize = 4;
/// Tries of a look-up for which no operation waits.
const PREFETCH_TRIES: u32 = 2;
/// Replicas of one key; more are ignored.
const REPLICAS_MAX: usize = 64;

impl Core {
    pub(super) fn prefetch(&mut self, now: Duration, key: Arc<str>, effects: &mut Vec<Effect>) {
        if !self.cache.contains(&key) && self.lookups.len() < self.lookups_max {
            self.look_up(now, key, None, effects);
        }
    }

    /// Asks for the key's addresses, unless that is under way.
    pub(super) fn look_up(
        &mut self,
        now: Duration,
        key: Arc<str>,
        waiter: Option<OpId>,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(lookup) = self.lookups.get_mut(&key) {
            lookup.waiters.extend(waiter);
            // Those who wait by now have made it slow; who comes new shall not wait that long.
            if !lookup.is_pausing && now >= lookup.since + self.try_within {
                self.ask_routing(now, key, effects);
            }
            return;
        }
        let lookup = Lookup {
            numbers: SmallVec::new(),
            tries: 0,
            since: now,
            asked: SmallVec::new(),
            is_pausing: false,
            no_servers: false,
            waiters: waiter.into_iter().collect(),
            timer: self.timers.set(now, Timer::Lookup(key.clone())),
        };
        self.lookups.insert(key.clone(), lookup);
        self.ask_routing(now, key, effects);
    }

    pub(super) fn ask_routing(&mut self, now: Duration, key: Arc<str>, effects: &mut Vec<Effect>) {
        let number = self.next_number();
        let tries = self.lookups.get(&key).map_or(0, |lookup| lookup.tries);
        let until = now + self.patience(tries);
        let Some(lookup) = self.lookups.get_mut(&key) else {
            return;
        };
        let targets = self.routing.choose(now, tries > 0, &mut self.rng);
        if lookup.numbers.len() >= LOOKUP_NUMBERS_MAX {
            self.lookup_numbers.remove(&lookup.numbers.remove(0));
        }
        lookup.numbers.push(number);
        self.lookup_numbers.insert(number, key.clone());
        self.timers.cancel(lookup.timer);
        lookup.tries += 1;
        lookup.since = now;
        lookup.is_pausing = false;
        lookup.asked = targets.iter().map(|(endpoint, _)| *endpoint).collect();
        lookup.timer = self.timers.set(until, Timer::Lookup(key.clone()));
        self.counters.lookups += targets.len() as u64;
        for (endpoint, to) in targets {
            let request = KeyAddressRequest {
                response_address: self.reply_to.addresses.clone(),
                keys: vec![key.to_string()],
                request_id: format!("{}:{number}:{endpoint}", self.prefix),
            };
            let message = request.encode_to_vec();
            effects.push(Effect::Send { to, message, number, until });
        }
    }

    pub(super) fn lookup_due(&mut self, now: Duration, key: Arc<str>, effects: &mut Vec<Effect>) {
        let Some(lookup) = self.lookups.get_mut(&key) else {
            return;
        };
        if !lookup.is_pausing {
            self.counters.timeouts += 1;
            lookup.no_servers = false;
            for endpoint in &lookup.asked {
                let Some(addr) = self.routing.addr(*endpoint) else {
                    continue;
                };
                let silence = self.peers.timed_out(now, addr, lookup.since);
                if silence == Silence::Complete {
                    self.counters.resets += 1;
                    effects.push(Effect::Reset(addr.clone()));
                }
                if silence != Silence::None {
                    self.routing.set_alive(*endpoint, false);
                }
            }
        }
        let waits = |id: &mut OpId| {
            let op = self.ops.get(id);
            op.is_some_and(|op| op.stage == Stage::Looking && op.key == key)
        };
        lookup.waiters.retain(waits);
        if lookup.waiters.is_empty() && lookup.tries >= PREFETCH_TRIES {
            self.end_lookup(&key);
        } else {
            self.ask_routing(now, key, effects);
        }
    }

    pub(super) fn end_lookup(&mut self, key: &str) -> Option<Lookup> {
        let lookup = self.lookups.remove(key)?;
        for number in &lookup.numbers {
            self.lookup_numbers.remove(number);
        }
        self.timers.cancel(lookup.timer);
        Some(lookup)
    }

    pub(super) fn address_answer(
        &mut self,
        now: Duration,
        bytes: Bytes,
        effects: &mut Vec<Effect>,
    ) {
        let Ok(answer) = KeyAddressResponse::decode(bytes) else {
            self.counters.malformed += 1;
            return;
        };
        let Some((number, endpoint)) = self.number_in(&answer.response_id) else {
            self.counters.late += 1;
            return;
        };
        if let Ok(endpoint) = endpoint.parse() {
            self.routing.set_alive(endpoint, true);
            if let Some(addr) = self.routing.addr(endpoint) {
                self.peers.answered(now, addr);
            }
        }
        let Some(key) = self.lookup_numbers.get(&number).cloned() else {
            self.counters.late += 1;
            return;
        };
        let named = answer.addresses.into_iter().find(|address| address.key == *key);
        let ips = named.map(|address| address.ips).unwrap_or_default();
        let addrs = self.replicas(&ips);
        match addrs.is_empty() {
            false => self.found(now, key, addrs, effects),
            true if ips.is_empty() => self.no_servers(now, key),
            // The timer tries again.
            true => self.counters.malformed += 1,
        }
    }

    /// The addresses that can be used, each once.
    pub(super) fn replicas(&mut self, ips: &[String]) -> Addrs {
        let mut addrs = Addrs::new();
        for ip in ips.iter().filter(|ip| is_tcp(ip)).take(REPLICAS_MAX) {
            let addr = self.peers.intern(ip);
            if !addrs.contains(&addr) {
                addrs.push(addr);
            }
        }
        addrs
    }

    pub(super) fn found(
        &mut self,
        now: Duration,
        key: Arc<str>,
        addrs: Addrs,
        effects: &mut Vec<Effect>,
    ) {
        self.cache.insert(key.clone(), addrs.clone());
        let waiters = self.end_lookup(&key).map(|lookup| lookup.waiters).unwrap_or_default();
        for id in waiters {
            let op = self.ops.get(&id);
            if op.is_some_and(|op| op.stage == Stage::Looking && op.key == key) {
                self.ask(now, id, addrs.clone(), effects);
            }
        }
    }

    pub(super) fn no_servers(&mut self, now: Duration, key: Arc<str>) {
        let tries = self.lookups.get(&key).map_or(0, |lookup| lookup.tries);
        let pause = self.growing(NO_SERVERS_PAUSE, tries.saturating_sub(1), PAUSE_MAX);
        let Some(lookup) = self.lookups.get_mut(&key).filter(|lookup| !lookup.is_pausing) else {
            return;
        };
        lookup.no_servers = true;
        lookup.is_pausing = true;
        self.timers.cancel(lookup.timer);
        lookup.timer = self.timers.set(now + pause, Timer::Lookup(key));
    }
}
