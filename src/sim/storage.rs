//! The store that misbehaves: it is slow, fails before or after it has done what was asked, or does it
//! long after it reported a failure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::anna::{self, Anna, Call, Ended};
use super::history::{Deleted, Landed};
use super::site::FOLLOWED_EACH;
use super::world::{EPOCH_NS, Happening, World, decode, encode};
use super::{Flaw, StoreKind};
use crate::anna::lattice::Lattice;
use crate::node::{Answer, Ask, Event, OpId, StoreResult, Ticket};
use crate::storage::{CommitBatch, Garbage, LogPage, StorageError, Superseded};
use crate::txn::{AttemptId, Commit, Outcome};

/// Whether and how what the store did is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Telling {
    Truth,
    Failure,
    Silence,
}

/// Who waits for a commit, for a flaw that answers them itself.
pub(super) type Watched = BTreeMap<AttemptId, Vec<Ticket>>;

impl World<'_> {
    pub(super) fn store_is_asked(&mut self, site: usize, op: OpId, ask: Ask) {
        if self.options.store == StoreKind::Anna {
            return self.with_anna(site, |anna| anna.ask(op, ask));
        }
        let (weather, life) = (&self.weather, self.life(site));
        let longest_us = if self.rng.f64() < weather.slow { 8_000_000 } else { 5_000 };
        let is_commit = matches!(ask, Ask::Commit(_));
        let dice = self.rng.f64();
        let mut threshold = 0.0;
        let mut falls_below = |share: f64| {
            threshold += share;
            dice < threshold
        };
        let before = falls_below(weather.fail_before);
        let after = falls_below(weather.fail_after);
        let then_do = falls_below(weather.fail_then_do);
        let refuse = falls_below(if is_commit { weather.refuse } else { 0.0 });
        let soon = Duration::from_micros(self.rng.u64(50..longest_us));
        if self.options.flaw == Some(Flaw::Boastful)
            && let Ask::Commit(CommitBatch { commit, .. }) = &ask
        {
            let result = StoreResult::Decided(Ok(Outcome::Committed(commit.clone())));
            self.done(site, life, op, result, Duration::from_micros(50));
            let late = soon + Duration::from_millis(20);
            let report = Telling::Silence;
            return self.after(late, Happening::Do { site, life, op, ask, report });
        }
        if before || refuse {
            let result = failed(&ask, refuse);
            return self.done(site, life, op, result, soon);
        }
        if then_do {
            let result = failed(&ask, false);
            self.done(site, life, op, result, soon);
            let late = soon + Duration::from_micros(self.rng.u64(0..10_000_000));
            let report = Telling::Silence;
            return self.after(late, Happening::Do { site, life, op, ask, report });
        }
        let report = if after { Telling::Failure } else { Telling::Truth };
        self.after(soon, Happening::Do { site, life, op, ask, report });
    }

    fn done(&mut self, site: usize, life: u64, op: OpId, result: StoreResult, delay: Duration) {
        let event = Event::Stored { op, result };
        self.after(delay, Happening::Arrive { site, life: Some(life), event });
    }

    pub(super) fn store_does(
        &mut self,
        site: usize,
        life: u64,
        op: OpId,
        ask: Ask,
        report: Telling,
    ) {
        let failure = failed(&ask, false);
        let mut delay = Duration::from_micros(self.rng.u64(50..5_000));
        let truth = match ask {
            Ask::Commit(batch) => {
                let attempt = batch.commit.version.writer.clone();
                let is_news = self.store.outcome_now(&attempt.base()).is_none();
                let outcome = self.store.commit_now(batch.clone());
                if is_news && outcome.is_ok() {
                    let values = batch.values.iter().map(|value| decode(value)).collect();
                    self.land(Landed::with(self.elapsed, batch.commit, values));
                    if report == Telling::Truth {
                        delay += self.answer_early(&attempt);
                    }
                }
                StoreResult::Decided(outcome)
            }
            Ask::SettleAborted(id) => StoreResult::Decided(Ok(self.store.settle_aborted_now(&id))),
            Ask::Outcome(id) => StoreResult::Outcome(Ok(self.store.outcome_now(&id))),
            Ask::Versions(wanted) => StoreResult::Versions(Ok(self.store.versions_now(&wanted))),
            Ask::Plain(keys) => StoreResult::Plain(Ok(self.store.plain_now(&keys))),
            // Clients of the simulation do not.
            Ask::Merge(values) => StoreResult::Merged(vec![Ok(()); values.len()]),
            Ask::Heads(keys) => StoreResult::Heads(Ok(self.store.heads_now(&keys))),
            Ask::SetHeads(_) => StoreResult::Done(Ok(())),
            Ask::Collect(garbage) => {
                self.note_deleted(&garbage);
                self.store.collect_now(&garbage);
                StoreResult::Done(Ok(()))
            }
            Ask::Sweep(sweep) => StoreResult::Swept(Ok(self.store.sweep_now(&sweep))),
            Ask::Publish { key, version, value } => {
                self.store.publish_now(&key, &version, &value);
                StoreResult::Published(Ok(()))
            }
        };
        let result = match report {
            Telling::Truth => truth,
            Telling::Failure => failure,
            Telling::Silence => return,
        };
        self.done(site, life, op, result, delay);
    }

    fn note_deleted(&mut self, garbage: &Garbage) {
        let (moment, at) = (self.moment(), self.elapsed);
        for Superseded { commit, keys, .. } in &garbage.superseded {
            let version = &commit.version;
            self.history.deleted.extend(keys.iter().map(|key| Deleted {
                key: key.clone(),
                version: version.clone(),
                moment,
                at,
            }));
        }
    }

    pub(super) fn land(&mut self, landed: Landed) {
        if self.landed.insert(landed.commit.version.clone()) {
            self.history.landed.push(landed);
        }
    }

    /// Remembers who waits for a commit, if a flaw is going to answer them.
    pub(super) fn watch_commit(&mut self, event: &Event) {
        if self.options.flaw == Some(Flaw::Tardy)
            && let Event::Commit { ticket, txn, .. } = event
        {
            self.watched.entry(txn.clone()).or_default().push(*ticket);
        }
    }

    /// With a flaw: clients are told of a commit before its node is.
    fn answer_early(&mut self, attempt: &AttemptId) -> Duration {
        let Some(tickets) = self.watched.remove(attempt) else {
            return Duration::ZERO;
        };
        for ticket in tickets {
            let id = attempt.to_string();
            self.answered_early.insert(ticket);
            self.tell(ticket, Answer::Decided { id, committed: true, why: None, token: None });
        }
        Duration::from_millis(self.rng.u64(1..1_000))
    }

    pub(super) fn was_answered_early(&mut self, ticket: Ticket) -> bool {
        self.answered_early.remove(&ticket)
    }

    /// Does something with a node's Anna backend, and what follows from it.
    pub(super) fn with_anna(&mut self, site: usize, act: impl FnOnce(&mut Anna)) {
        let Some(anna) = &mut self.sites[site].anna else { return };
        act(anna);
        let (ended, calls) = anna.poll();
        for end in ended {
            self.ended(site, end);
        }
        for (number, call) in calls {
            self.called(site, number, call);
        }
    }

    fn ended(&mut self, site: usize, end: Ended) {
        let life = self.life(site);
        let learned = |commits| {
            let event = Event::Learned(commits);
            Happening::Arrive { site, life: Some(life), event }
        };
        match end {
            Ended::Asked(op, result) => self.done(site, life, op, result, Duration::ZERO),
            Ended::Followed(page) => {
                let mut pause = FOLLOWED_EACH;
                if let Ok(LogPage { commits, next, end }) = page {
                    if let Some(anna) = &mut self.sites[site].anna {
                        anna.followed_to(next, end);
                    }
                    self.after(Duration::ZERO, learned(commits));
                    if end {
                        let event = Event::LogWasRead;
                        let read = Happening::Arrive { site, life: Some(life), event };
                        self.after(Duration::ZERO, read);
                    } else {
                        pause = Duration::ZERO;
                    }
                }
                self.after(pause, Happening::Follow { site, life });
            }
            Ended::Tended => {}
            Ended::ClearedUp(Ok(commits)) => self.after(Duration::ZERO, learned(commits)),
            Ended::ClearedUp(Err(_)) => {
                self.after(FOLLOWED_EACH, Happening::ClearUp { site, life });
            }
        }
    }

    /// A node looks for commits of others on Anna.
    pub(super) fn follow_on_anna(&mut self, site: usize) {
        let life = self.life(site);
        if self.sites[site].anna.as_ref().is_some_and(Anna::is_at_end) {
            let event = Event::LogIsBeingRead;
            self.after(Duration::ZERO, Happening::Arrive { site, life: Some(life), event });
        }
        self.with_anna(site, Anna::follow);
    }

    /// A commit is decided on Anna, perhaps since long ago.
    pub(super) fn land_on_anna(&mut self, commit: Arc<Commit>) {
        let is_news = !commit.keys.is_empty() && !self.landed.contains(&commit.version);
        let Some(anna) = self.sites[0].anna.as_ref().filter(|_| is_news) else { return };
        let values = anna.values(&commit).into_iter().map(|value| decode(&value?)).collect();
        self.land(Landed::with(self.elapsed, commit, values));
    }

    /// A call of the simulated Anna sets out.
    fn called(&mut self, site: usize, number: u64, call: Call) {
        let life = self.life(site);
        let longest_us = if self.rng.f64() < self.weather.slow { 2_000_000 } else { 2_000 };
        let soon = Duration::from_micros(self.rng.u64(50..longest_us));
        let weather = &self.weather;
        let dice = self.rng.f64();
        let (before, after) = (weather.fail_before, weather.fail_before + weather.fail_after);
        let then_do = after + weather.fail_then_do;
        let failed = || Err(StorageError::Unconfirmed("simulated".to_owned()));
        if dice < before {
            let refused = self.rng.bool();
            let result =
                if refused { Err(StorageError::Refused("simulated".to_owned())) } else { failed() };
            return self.after(soon, Happening::Returned { site, life, number, result });
        }
        if dice < after {
            let report = Telling::Failure;
            return self.after(soon, Happening::Apply { site, life, number, call, report });
        }
        if dice < then_do {
            self.after(soon, Happening::Returned { site, life, number, result: failed() });
            let late = soon + Duration::from_micros(self.rng.u64(0..3_000_000));
            let report = Telling::Silence;
            return self.after(late, Happening::Apply { site, life, number, call, report });
        }
        let report = Telling::Truth;
        self.after(soon, Happening::Apply { site, life, number, call, report });
    }

    pub(super) fn apply(
        &mut self,
        site: usize,
        life: u64,
        number: u64,
        call: Call,
        report: Telling,
    ) {
        self.note(site, number, &call);
        let Some(anna) = &self.sites[site].anna else { return };
        let id = anna::outcome_id(&call);
        let forget = self.options.flaw == Some(Flaw::Forgetful) && self.rng.u32(0..20) == 0;
        let blind = self.options.flaw == Some(Flaw::Trusting) && anna::reads_promise(&call);
        let headless = self.options.flaw == Some(Flaw::Headless) && anna::writes_head(&call);
        let found = if forget || blind || headless { None } else { anna.apply(call) };
        if let Some(commit) = id.and_then(|id| self.committed(&id)) {
            self.land_on_anna(commit);
        }
        let result = match report {
            Telling::Truth => Ok(found),
            Telling::Failure => Err(StorageError::Unconfirmed("simulated".to_owned())),
            Telling::Silence => return,
        };
        let delay = Duration::from_micros(self.rng.u64(50..2_000));
        self.after(delay, Happening::Returned { site, life, number, result });
    }

    pub(super) fn write_past_the_sidecar(&mut self) {
        let (key, value) = (self.any_key(), self.new_value());
        self.history.foreign.insert(value, key.clone());
        // Some clocks are behind those of the sidecar, some ahead.
        let timestamp = EPOCH_NS + self.rng.u64(0..200) * 1_000_000_000;
        if let Some(anna) = &self.sites[0].anna {
            let value = encode(value);
            anna.apply(Call::Put(key.to_string(), Lattice::Lww { timestamp, value }));
        }
        self.store.plant_foreign(&key, timestamp, encode(value));
        if !self.clients.are_stopped() {
            let delay = Duration::from_millis(self.rng.u64(10..2_000));
            self.after(delay, Happening::Foreign);
        }
    }
}

fn failed(ask: &Ask, refused: bool) -> StoreResult {
    let error = if refused {
        StorageError::Refused("simulated".to_owned())
    } else {
        StorageError::Unconfirmed("simulated".to_owned())
    };
    match ask {
        Ask::Commit(_) | Ask::SettleAborted(_) => StoreResult::Decided(Err(error)),
        Ask::Outcome(_) => StoreResult::Outcome(Err(error)),
        Ask::Versions(_) => StoreResult::Versions(Err(error)),
        Ask::Plain(_) => StoreResult::Plain(Err(error)),
        Ask::Heads(_) => StoreResult::Heads(Err(error)),
        Ask::SetHeads(_) | Ask::Collect(_) => StoreResult::Done(Err(error)),
        Ask::Sweep(_) => StoreResult::Swept(Err(error)),
        Ask::Publish { .. } => StoreResult::Published(Err(error)),
        Ask::Merge(values) => StoreResult::Merged(vec![Err(error); values.len()]),
    }
}
