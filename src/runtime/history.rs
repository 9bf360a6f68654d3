//! Writes out what committed transactions read and wrote, for independent isolation checkers.
//!
//! One operation a line, `r(key,value,session,transaction)` or `w(…)`, all integers. A value names a
//! version, 0 is "nothing yet", and stands for keys only that the transaction did not find later either. Transactions of one session stand in the order in which they ended; a
//! session is whoever starts transactions from one reply address. What the store held before is
//! written by transactions of session 0.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::node::{Answer, End, Event, ReadValue, Source, Ticket};
use crate::txn::{AttemptId, Commit, Key};

/// Records one worker's history.
pub(super) struct History {
    out: BufWriter<File>,
    keys: Numbers<Key>,
    sessions: Numbers<String>,
    values: HashMap<(Key, Source), u64>,
    last_value: u64,
    last_transaction: u64,
    /// Numbers above those of named sessions, for requests without a transaction.
    last_lone_session: u64,
    running: HashMap<AttemptId, Running>,
    asked: HashMap<Ticket, (Option<AttemptId>, Vec<Key>)>,
}

#[derive(Default)]
struct Running {
    session: u64,
    operations: Vec<Operation>,
    own: HashMap<Key, u64>,
}

struct Operation {
    is_write: bool,
    key: Key,
    value: u64,
}

const FIRST_LONE_SESSION: u64 = 1 << 20;

impl History {
    pub(super) fn create(path: &Path) -> std::io::Result<Self> {
        Ok(Self {
            out: BufWriter::new(File::create(path)?),
            keys: Numbers::default(),
            sessions: Numbers::default(),
            values: HashMap::new(),
            last_value: 0,
            last_transaction: 0,
            last_lone_session: FIRST_LONE_SESSION,
            running: HashMap::new(),
            asked: HashMap::new(),
        })
    }

    /// A commit that the store held before this history began.
    pub(super) fn load(&mut self, commit: &Commit) {
        self.write_commit(commit, 0);
    }

    /// A request on its way to the node.
    pub(super) fn requested(&mut self, event: &Event) {
        match event {
            Event::Get { ticket, txn, keys } => {
                self.asked.insert(*ticket, (txn.clone(), keys.clone()));
            }
            Event::Put { ticket, txn: Some(txn), writes } => {
                let keys = writes.iter().map(|(key, _)| key.clone()).collect();
                self.asked.insert(*ticket, (Some(txn.clone()), keys));
            }
            _ => {}
        }
    }

    /// An answer on its way to `reply_address`.
    pub(super) fn answered(&mut self, ticket: Ticket, answer: &Answer, reply_address: &str) {
        let asked = self.asked.remove(&ticket);
        match (answer, asked) {
            (Answer::Started(attempt), _) => {
                let session = self.sessions.of(reply_address.to_owned());
                self.running.insert(attempt.clone(), Running { session, ..Running::default() });
            }
            (Answer::Values(values), Some((Some(txn), keys))) => {
                let mut running = self.running.remove(&txn).unwrap_or_default();
                self.note_reads(&mut running, keys, values);
                self.running.insert(txn, running);
            }
            (Answer::Values(values), Some((None, keys))) => {
                let mut alone = Running { session: self.lone_session(), ..Running::default() };
                self.note_reads(&mut alone, keys, values);
                self.write_transaction(&alone);
            }
            (Answer::Written(results), Some((Some(txn), keys))) => {
                let written = keys.into_iter().zip(results).filter(|(_, result)| result.is_ok());
                for (key, _) in written {
                    self.last_value += 1;
                    let value = self.last_value;
                    let Some(running) = self.running.get_mut(&txn) else {
                        continue;
                    };
                    running.own.insert(key.clone(), value);
                    running.operations.push(Operation { is_write: true, key, value });
                }
            }
            _ => {}
        }
    }

    /// An attempt ended.
    pub(super) fn ended(&mut self, attempt: &AttemptId, end: &End) {
        let running = self.running.remove(attempt);
        match (end, running) {
            (End::Committed(commit), Some(running)) => {
                for (key, value) in &running.own {
                    let source = Source::Committed(commit.version.clone());
                    self.values.insert((key.clone(), source), *value);
                }
                self.write_transaction(&running);
            }
            (End::Committed(commit), None) => {
                let session = self.lone_session();
                self.write_commit(commit, session);
            }
            (End::ReadOnly, Some(running)) => self.write_transaction(&running),
            _ => {}
        }
        if let Err(error) = self.out.flush() {
            tracing::warn!(%error, "cannot write the history");
        }
    }

    fn note_reads(&mut self, running: &mut Running, keys: Vec<Key>, values: &[ReadValue]) {
        for (key, read) in keys.into_iter().zip(values) {
            let value = match &read.source {
                Source::OwnWrite => running.own.get(&key).copied().unwrap_or(0),
                Source::Nothing => 0,
                source => self.value_of(&key, source),
            };
            // That it was missing before is forgotten, as the protocol allows.
            if value != 0 {
                let was_missing = |op: &Operation| !op.is_write && op.value == 0 && op.key == key;
                running.operations.retain(|op| !was_missing(op));
            }
            running.operations.push(Operation { is_write: false, key, value });
        }
    }

    /// The number of a version. One that was not seen being written is written here and now.
    fn value_of(&mut self, key: &Key, source: &Source) -> u64 {
        if let Some(value) = self.values.get(&(key.clone(), source.clone())) {
            return *value;
        }
        self.last_value += 1;
        let value = self.last_value;
        self.values.insert((key.clone(), source.clone()), value);
        let session = self.lone_session();
        let operations = vec![Operation { is_write: true, key: key.clone(), value }];
        self.write_transaction(&Running { session, operations, ..Running::default() });
        value
    }

    fn write_commit(&mut self, commit: &Commit, session: u64) {
        let mut running = Running { session, ..Running::default() };
        for written in &commit.keys {
            self.last_value += 1;
            let source = Source::Committed(commit.version.clone());
            self.values.insert((written.key.clone(), source), self.last_value);
            let key = written.key.clone();
            running.operations.push(Operation { is_write: true, key, value: self.last_value });
        }
        self.write_transaction(&running);
    }

    fn write_transaction(&mut self, running: &Running) {
        if running.operations.is_empty() {
            return;
        }
        self.last_transaction += 1;
        for Operation { is_write, key, value } in &running.operations {
            let letter = if *is_write { 'w' } else { 'r' };
            let key = self.keys.of(key.clone());
            let (session, transaction) = (running.session, self.last_transaction);
            // A failure shows when the buffer is flushed.
            let _ = writeln!(self.out, "{letter}({key},{value},{session},{transaction})");
        }
    }

    fn lone_session(&mut self) -> u64 {
        self.last_lone_session += 1;
        self.last_lone_session
    }
}

/// Numbers things from 1 in the order in which they are first seen.
#[derive(Debug)]
struct Numbers<T>(HashMap<T, u64>);

impl<T> Default for Numbers<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: std::hash::Hash + Eq> Numbers<T> {
    fn of(&mut self, thing: T) -> u64 {
        let next = self.0.len() as u64 + 1;
        *self.0.entry(thing).or_insert(next)
    }
}
