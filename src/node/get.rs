//! Get: all keys of one request as of one moment.
//!
//! Everything that must be waited for to choose (foreign values under plain names) is waited for
//! first. Then all keys are chosen and entered into the read set within one call, and only then are
//! the bytes of those versions fetched that are not in memory: versions never change, so that may
//! take its time.

use bytes::Bytes;
use foldhash::fast::FixedState;
use std::hash::BuildHasher;
use std::sync::Arc;

use super::effect::{Answer, ReadValue, Source};
use super::event::Ticket;
use super::ops::Purpose;
use super::peer::Origin;
use super::{Ask, Node, Refusal, StorageError, Turn};
use crate::storage::{LatticeType, PlainValue};
use crate::txn::{AttemptId, Choice, Commit, ForeignPin, Key, Map, Pinned, ReadSet, Version};

/// A get that has not chosen yet.
#[derive(Debug)]
pub(super) struct Get {
    pub(super) ticket: Ticket,
    pub(super) txn: Option<AttemptId>,
    keys: Vec<Key>,
    /// How many reports of missing keys had been given to the transaction when this was asked.
    reports: u64,
    /// What the transaction wrote on other nodes.
    pub(super) elsewhere: Map<Key, Bytes>,
    /// What stands under the plain names that were looked up.
    plain: Map<Key, Option<PlainValue>>,
    /// Keys of which the store was asked for the newest version, with the answer: the index may have
    /// forgotten it since.
    pub(super) headed: Map<Key, Option<Arc<Commit>>>,
    /// Those of them of which it cannot be read yet.
    pub(super) unreadable: Vec<Key>,
    /// How often a version that was chosen turned out to be gone.
    tries: u32,
}

/// A get that has chosen, and waits for values.
#[derive(Debug)]
pub(super) struct Reading {
    ticket: Ticket,
    txn: Option<AttemptId>,
    /// Of a get without a transaction: its keys, so that it can choose again.
    keys: Vec<Key>,
    tries: u32,
}

/// A get without a transaction chooses again so often, if what it has chosen is gone.
const TRIES_MAX: u32 = 3;

/// What the reads of one get come to.
enum Chosen {
    /// Own write, foreign value, or nothing: the bytes are here.
    Here(ReadValue),
    /// The version that this commit wrote.
    Version(Arc<Commit>),
}

/// Why a get cannot be answered from what is known.
enum Stop {
    /// The newest versions of these must be looked up first.
    LookUpHeads(Vec<Key>),
    /// These plain names must be looked up first.
    LookUp(Vec<Key>),
    /// These were written on other nodes, which must be asked first.
    Ask(Vec<(Key, Origin)>),
    /// The transaction cannot go on.
    Abort(Refusal),
    /// The transaction was committed by another node.
    Leave,
    /// This cannot be read, but the transaction can go on.
    Refuse(Refusal),
}

impl Node {
    pub(super) fn get(
        &mut self,
        turn: &mut Turn<'_>,
        ticket: Ticket,
        txn: Option<AttemptId>,
        keys: Vec<Key>,
    ) {
        if let Some(txn) = &txn {
            if let Err(why) = self.use_attempt(turn, txn) {
                return turn.reply(ticket, Answer::Refused(why));
            }
            if let Some(attempt) = self.attempts.get_mut(txn) {
                attempt.travel.steps += 1;
            }
        }
        self.choose(turn, self.new_get(ticket, txn, keys, 0));
    }

    fn new_get(&self, ticket: Ticket, txn: Option<AttemptId>, keys: Vec<Key>, tries: u32) -> Get {
        let attempt = txn.as_ref().and_then(|txn| self.attempts.get(txn));
        Get {
            ticket,
            reports: attempt.map_or(0, |attempt| attempt.reads.reports()),
            txn,
            keys,
            elsewhere: Map::with_hasher(self.hasher.clone()),
            plain: Map::with_hasher(self.hasher.clone()),
            headed: Map::with_hasher(self.hasher.clone()),
            unreadable: Vec::new(),
            tries,
        }
    }

    /// Chooses for all keys, or finds out what has to be looked up before.
    pub(super) fn choose(&mut self, turn: &mut Turn<'_>, mut get: Get) {
        for (key, head) in &get.headed {
            head.iter().for_each(|commit| self.index.remember(key, commit));
        }
        let chosen = match get.txn.clone() {
            Some(txn) => {
                if let Err(why) = self.use_attempt(turn, &txn) {
                    return turn.reply(get.ticket, Answer::Refused(why));
                }
                let mut reads = ReadSet::new(&self.hasher);
                if let Some(attempt) = self.attempts.get_mut(&txn) {
                    std::mem::swap(&mut attempt.reads, &mut reads);
                }
                let reports = reads.reports();
                let revisited = self.forget_missing(&get, &mut reads);
                let chosen = self.choose_all(turn, &mut get, &mut reads);
                if chosen.is_err() {
                    // The client has seen nothing else yet.
                    reads.restore_missing(reports, revisited);
                }
                if let Some(attempt) = self.attempts.get_mut(&txn) {
                    attempt.reads = reads;
                    // A view that was handed over before does not have this.
                    attempt.travel.steps += 1;
                }
                chosen
            }
            None => {
                let mut reads = ReadSet::new(&self.hasher);
                self.choose_all(turn, &mut get, &mut reads)
            }
        };
        match chosen {
            Ok(chosen) => self.fetch(turn, get, chosen),
            Err(Stop::LookUpHeads(keys)) => self.look_up_heads(turn, get, keys),
            Err(Stop::LookUp(keys)) => {
                let within = Some(self.config.request_within);
                self.ask(turn, Ask::Plain(keys), Purpose::Plain { get }, within);
            }
            Err(Stop::Ask(wanted)) => {
                if let Some(txn) = get.txn.clone() {
                    self.ask_holders(turn, &txn, get, wanted);
                }
            }
            Err(Stop::Leave) => {
                if let Some(txn) = &get.txn {
                    self.leave(turn, txn);
                }
                turn.reply(get.ticket, Answer::Refused(Refusal::AlreadyCommitted));
            }
            Err(Stop::Refuse(why)) => turn.reply(get.ticket, Answer::Refused(why)),
            Err(Stop::Abort(why)) => {
                if let Some(txn) = &get.txn {
                    self.end_aborted(turn, txn, why.clone());
                }
                turn.reply(get.ticket, Answer::Refused(why));
            }
        }
    }

    /// Forgets of keys that were missing when they were asked for again: they may have appeared. Not so
    /// a key that was missing and then written by the transaction: its absence was seen, and is not seen
    /// again. Nor one that another request was told to be missing since this one was asked.
    fn forget_missing(&self, get: &Get, reads: &mut ReadSet) -> Vec<(Key, u64)> {
        let attempt = get.txn.as_ref().and_then(|txn| self.attempts.get(txn));
        let is_own = |key: &Key| {
            attempt.is_some_and(|a| a.writes.get(key).is_some() || a.travel.holder(key).is_some())
        };
        let is_older =
            |key: &Key| reads.missing_since(key).is_some_and(|report| report <= get.reports);
        let again: Vec<_> =
            get.keys.iter().filter(|key| is_older(key) && !is_own(key)).cloned().collect();
        let forget = |key: Key| reads.forget_missing(&key).map(|report| (key, report));
        again.into_iter().filter_map(forget).collect()
    }

    fn choose_all(
        &self,
        turn: &Turn<'_>,
        get: &mut Get,
        reads: &mut ReadSet,
    ) -> Result<Vec<Chosen>, Stop> {
        let ask = self.written_elsewhere(get);
        if !ask.is_empty() {
            return Err(Stop::Ask(ask));
        }
        if let Some(key) = get.unreadable.first() {
            return Err(Stop::Abort(Refusal::NoFit(key.clone())));
        }
        let heads = self.heads_wanted(turn, get, reads);
        if !heads.is_empty() {
            return Err(Stop::LookUpHeads(heads));
        }
        let mut chosen = Vec::with_capacity(get.keys.len());
        let mut look_up = Vec::new();
        for key in &get.keys {
            if let Some(value) = self.own_write(get, key) {
                let source = Source::OwnWrite;
                chosen.push(Chosen::Here(ReadValue { value: Some(value), source }));
                continue;
            }
            if reads.missing_since(key).is_some() {
                // Somebody was told so since this was asked.
                chosen.push(Chosen::Here(ReadValue { value: None, source: Source::Nothing }));
                continue;
            }
            if !self.quarantined.is_empty()
                && reads.pinned(key).is_none()
                && self.is_obscured(turn.now, key)
            {
                return Err(Stop::Abort(Refusal::NoFit(key.clone())));
            }
            match self.consistency.choose(key, self.index.known(key), reads) {
                Choice::Committed(commit) if get.txn.as_ref() == Some(&commit.version.writer) => {
                    return Err(Stop::Leave);
                }
                Choice::Committed(commit) => {
                    if self.consistency.binds_reads() {
                        reads.pin_committed(key.clone(), commit.clone());
                    }
                    chosen.push(Chosen::Version(commit));
                }
                Choice::NoCommitted if self.must_look_up(turn, key, get, reads) => {
                    look_up.push(key.clone());
                }
                Choice::NoCommitted => {
                    let found = get.plain.get(key).cloned().flatten();
                    chosen.push(Chosen::Here(match other_lattice(key, &get.txn, &found)? {
                        Some(value) => value,
                        None => self.read_foreign(key, found, reads)?,
                    }));
                }
                Choice::NoFit => return Err(Stop::Abort(Refusal::NoFit(key.clone()))),
            }
        }
        if look_up.is_empty() { Ok(chosen) } else { Err(Stop::LookUp(look_up)) }
    }

    /// Keys of which this node may not know the newest version.
    fn heads_wanted(&self, turn: &Turn<'_>, get: &Get, reads: &ReadSet) -> Vec<Key> {
        let is_wanted = |key: &&Key| {
            self.lacks_head(turn, key)
                && !get.headed.contains_key(*key)
                && reads.pinned(key).is_none()
                && self.own_write(get, key).is_none()
        };
        let mut wanted: Vec<_> = get.keys.iter().filter(is_wanted).cloned().collect();
        wanted.sort_unstable();
        wanted.dedup();
        wanted
    }

    fn own_write(&self, get: &Get, key: &Key) -> Option<Bytes> {
        let attempt = self.attempts.get(get.txn.as_ref()?)?;
        match attempt.travel.holder(key) {
            Some(_) => get.elsewhere.get(key).cloned(),
            None => attempt.writes.get(key).cloned(),
        }
    }

    /// Keys of which the transaction's own value has to be asked for.
    fn written_elsewhere(&self, get: &Get) -> Vec<(Key, Origin)> {
        let attempt = get.txn.as_ref().and_then(|txn| self.attempts.get(txn));
        let Some(attempt) = attempt else { return Vec::new() };
        let mut wanted = Vec::new();
        for key in &get.keys {
            if let Some(holder) = attempt.travel.holder(key)
                && !get.elsewhere.contains_key(key)
                && wanted.iter().all(|(known, _)| known != key)
            {
                wanted.push((key.clone(), holder.clone()));
            }
        }
        wanted
    }

    fn must_look_up(&self, turn: &Turn<'_>, key: &Key, get: &Get, reads: &ReadSet) -> bool {
        self.config.plain_keys
            && !get.plain.contains_key(key)
            && (reads.pinned(key).is_some() || !self.absent.contains(key, turn.now.elapsed))
    }

    /// Reads what stands under a key's plain name, given that no committed version is to be read.
    fn read_foreign(
        &self,
        key: &Key,
        found: Option<PlainValue>,
        reads: &mut ReadSet,
    ) -> Result<ReadValue, Stop> {
        // What a sidecar published is a committed version and not a foreign value.
        let foreign = found.filter(|plain| !plain.published);
        let pin = foreign.as_ref().map(pin_of);
        if let Some(Pinned::Foreign(before)) = reads.pinned(key)
            && pin.as_ref() != Some(before)
        {
            return Err(Stop::Abort(Refusal::ForeignChanged(key.clone())));
        }
        let Some(PlainValue { timestamp, value, .. }) = foreign else {
            if self.consistency.binds_reads() {
                reads.note_missing(key.clone());
            }
            return Ok(ReadValue { value: None, source: Source::Nothing });
        };
        if let Some(pin) = pin.filter(|_| self.consistency.binds_reads()) {
            reads.pin_foreign(key.clone(), pin);
        }
        Ok(ReadValue { value: Some(value), source: Source::Foreign(timestamp) })
    }

    /// The plain names that a get needed were looked up.
    pub(super) fn plain_found(
        &mut self,
        turn: &mut Turn<'_>,
        mut get: Get,
        asked: Vec<Key>,
        found: Vec<Option<PlainValue>>,
    ) {
        for (key, plain) in asked.into_iter().zip(found) {
            if plain.is_none() {
                self.absent.note(key.clone(), turn.now.elapsed);
            }
            get.plain.insert(key, plain);
        }
        self.choose(turn, get);
    }

    /// Answers with the chosen versions; those that are not in memory are fetched first.
    fn fetch(&mut self, turn: &mut Turn<'_>, get: Get, chosen: Vec<Chosen>) {
        let mut values = Vec::with_capacity(chosen.len());
        let (mut holes, mut wanted) = (Vec::new(), Vec::new());
        for (key, chosen) in get.keys.iter().zip(chosen) {
            let commit = match chosen {
                Chosen::Here(value) => {
                    values.push(value);
                    continue;
                }
                Chosen::Version(commit) => commit,
            };
            let version = commit.version.clone();
            let value = self.values.get(key, &version);
            if value.is_none() {
                holes.push(values.len());
                wanted.push((key.clone(), version.clone()));
            }
            values.push(ReadValue { value, source: Source::Committed(version) });
        }
        if holes.is_empty() {
            return turn.reply(get.ticket, Answer::Values(values));
        }
        let Get { ticket, txn, tries, .. } = get;
        let keys = if txn.is_none() { get.keys } else { Vec::new() };
        let purpose =
            Purpose::Values { reading: Reading { ticket, txn, keys, tries }, values, holes };
        self.ask(turn, Ask::Versions(wanted), purpose, Some(self.config.request_within));
    }

    /// The bytes that a get was waiting for came.
    pub(super) fn values_fetched(
        &mut self,
        turn: &mut Turn<'_>,
        reading: Reading,
        mut values: Vec<ReadValue>,
        fetched: Vec<(usize, Key, Version, Option<Bytes>)>,
    ) {
        for (hole, key, version, value) in fetched {
            let Some(value) = value else { return self.found_gone(turn, reading, key) };
            self.values.insert(key, version, value.clone());
            if let Some(slot) = values.get_mut(hole) {
                slot.value = Some(value);
            }
        }
        turn.reply(reading.ticket, Answer::Values(values));
    }

    /// A version that was chosen is gone: there is a newer one. A transaction has to begin anew; a get on
    /// its own just chooses again.
    fn found_gone(&mut self, turn: &mut Turn<'_>, reading: Reading, key: Key) {
        self.is_gone(&key);
        let Reading { ticket, txn, keys, tries } = reading;
        let why = Refusal::Collected(key);
        match txn {
            None if tries < TRIES_MAX => {
                self.choose(turn, self.new_get(ticket, None, keys, tries + 1));
            }
            None => turn.reply(ticket, Answer::Refused(why)),
            Some(txn) => {
                // One that is over by now needs nothing any more.
                self.garbage.counts_mut().gone += u64::from(self.attempts.get(&txn).is_some());
                self.end_aborted(turn, &txn, why.clone());
                turn.reply(ticket, Answer::Refused(why));
            }
        }
    }

    pub(super) fn reading_failed(
        &self,
        turn: &mut Turn<'_>,
        reading: &Reading,
        error: Option<StorageError>,
    ) {
        self.get_failed(turn, reading.ticket, error);
    }

    pub(super) fn get_failed(
        &self,
        turn: &mut Turn<'_>,
        ticket: Ticket,
        error: Option<StorageError>,
    ) {
        let why = super::store_refusal(error, self.config.request_within);
        turn.reply(ticket, Answer::Refused(why));
    }
}

/// A value that merges by itself changes all the time, so that no transaction can hold on to it.
fn other_lattice(
    key: &Key,
    txn: &Option<AttemptId>,
    found: &Option<PlainValue>,
) -> Result<Option<ReadValue>, Stop> {
    match found {
        Some(plain) if plain.lattice != LatticeType::Lww => match txn {
            Some(_) => Err(Stop::Refuse(Refusal::OtherLattice(key.clone(), plain.lattice))),
            None => {
                let source = Source::Lattice(plain.lattice);
                Ok(Some(ReadValue { value: Some(plain.value.clone()), source }))
            }
        },
        _ => Ok(None),
    }
}

/// What identifies a foreign value: it has no version of its own.
fn pin_of(plain: &PlainValue) -> ForeignPin {
    // A fixed seed: the hash travels to other nodes.
    let hash = FixedState::with_seed(0).hash_one(&plain.value[..]);
    ForeignPin { timestamp: plain.timestamp, hash }
}
