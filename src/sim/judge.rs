//! Holds a run against the promises. Written from the promises: it knows nothing of how a node comes
//! to its answers.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::history::{Attempt, History, Landed, Operation, Value, Verdict};
use crate::txn::{AttemptId, BaseId, Key, Version};

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which promise.
    pub promise: &'static str,
    /// What happened.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.promise, self.what)
    }
}

/// Every promise that the run broke.
pub fn judge(history: &History) -> Vec<Violation> {
    let mut judge = Judge::new(history);
    judge.log();
    judge.plain_keys();
    for attempt in &history.attempts {
        judge.writes(attempt);
        judge.verdicts(attempt);
        judge.reads(attempt);
    }
    judge.violations
}

struct Judge<'a> {
    history: &'a History,
    by_attempt: BTreeMap<&'a AttemptId, &'a Landed>,
    by_value: BTreeMap<Value, (&'a Landed, &'a Key)>,
    violations: Vec<Violation>,
}

/// What a key was last read as, by one attempt.
#[derive(Clone)]
enum Seen<'a> {
    Missing,
    Foreign(Value),
    Committed(&'a Landed),
}

impl<'a> Judge<'a> {
    fn new(history: &'a History) -> Self {
        let mut by_attempt = BTreeMap::new();
        let mut by_value = BTreeMap::new();
        for landed in &history.landed {
            by_attempt.insert(&landed.commit.version.writer, landed);
            for (written, value) in landed.commit.keys.iter().zip(&landed.values) {
                by_value.extend(value.map(|value| (value, (landed, &written.key))));
            }
        }
        Self { history, by_attempt, by_value, violations: Vec::new() }
    }

    fn broken(&mut self, promise: &'static str, what: String) {
        self.violations.push(Violation { promise, what });
    }

    /// One commit per id; every commit has all of its values.
    fn log(&mut self) {
        let mut ids: BTreeMap<BaseId, &AttemptId> = BTreeMap::new();
        for landed in &self.history.landed {
            let writer = &landed.commit.version.writer;
            if let Some(other) = ids.insert(writer.base(), writer) {
                self.broken("once", format!("{other} and {writer} both committed"));
            }
            if landed.values.iter().any(Option::is_none) {
                self.broken("all or nothing", format!("{writer} committed without all values"));
            }
        }
    }

    /// Whoever reads past the sidecar sees committed values only.
    fn plain_keys(&mut self) {
        for (key, value, published) in &self.history.plain {
            let is_committed = self.by_value.get(value).is_some_and(|(_, of)| *of == key);
            if *published && !is_committed {
                self.broken("outside readers", format!("{key} shows {value}, not committed"));
            }
        }
    }

    /// What committed is what the attempt wrote: all of it, and the last of it.
    fn writes(&mut self, attempt: &Attempt) {
        let Some(landed) = self.commit_of(attempt) else {
            return;
        };
        let mut last: BTreeMap<&Key, Value> = BTreeMap::new();
        let mut all_acknowledged = true;
        for operation in &attempt.operations {
            if let Operation::Write { writes, acknowledged } = operation {
                all_acknowledged &= acknowledged;
                last.extend(writes.iter().map(|(key, value)| (key, *value)));
            }
        }
        if !all_acknowledged && attempt.id.is_some() {
            // What was not acknowledged may or may not have been buffered.
            return;
        }
        let stored: BTreeMap<&Key, Value> = landed
            .commit
            .keys
            .iter()
            .zip(&landed.values)
            .filter_map(|(written, value)| Some((&written.key, (*value)?)))
            .collect();
        if stored != last {
            let name = &landed.commit.version.writer;
            let what = format!("{name} wrote {last:?} and committed {stored:?}");
            self.broken("all or nothing", what);
        }
    }

    /// The commit of an attempt; for a request without a transaction, found by what it wrote.
    fn commit_of(&self, attempt: &Attempt) -> Option<&'a Landed> {
        if let Some(id) = &attempt.id {
            return self.by_attempt.get(id).copied();
        }
        let values = attempt.operations.iter().flat_map(|operation| match operation {
            Operation::Write { writes, .. } => writes.as_slice(),
            Operation::Read { .. } => &[],
        });
        values
            .into_iter()
            .find_map(|(_, value)| self.by_value.get(value))
            .map(|(landed, _)| *landed)
    }

    /// Answers are true, and agree.
    fn verdicts(&mut self, attempt: &Attempt) {
        let wrote = attempt.operations.iter().any(|op| matches!(op, Operation::Write { .. }));
        let name = attempt.id.as_ref().map_or("a lone put".to_owned(), |id| id.to_string());
        let own = self.commit_of(attempt).is_some();
        let base = attempt.id.as_ref().map(AttemptId::base);
        let mut logged = self.history.landed.iter().map(|landed| &landed.commit.version.writer);
        let of_id =
            own || base.as_ref().is_some_and(|base| logged.any(|writer| writer.base() == *base));
        let without_effect =
            base.as_ref().is_some_and(|base| self.history.without_effect.contains(base));
        for verdict in &attempt.verdicts {
            match verdict {
                // Without writes there is no effect to be right or wrong about.
                _ if !wrote => {}
                Verdict::Committed if !of_id && !without_effect => {
                    self.broken("nothing lost", format!("{name} was told COMMITTED and is not"));
                }
                Verdict::SettledAborted if of_id => {
                    self.broken("answers agree", format!("{name} was told ABORTED, its id is not"));
                }
                Verdict::Aborted if own => {
                    self.broken("answers agree", format!("{name} was told ABORTED and is not"));
                }
                _ => {}
            }
        }
    }

    fn reads(&mut self, attempt: &'a Attempt) {
        let mut now: BTreeMap<&'a Key, Seen<'a>> = BTreeMap::new();
        let mut own: BTreeMap<&Key, Vec<Value>> = BTreeMap::new();
        let attempt: &'a Attempt =
            match self.history.attempts.iter().find(|a| std::ptr::eq(*a, attempt)) {
                Some(attempt) => attempt,
                None => return,
            };
        for operation in &attempt.operations {
            match operation {
                Operation::Write { writes, acknowledged } => {
                    for (key, value) in writes {
                        let possible = own.entry(key).or_default();
                        if *acknowledged {
                            possible.clear();
                        }
                        possible.push(*value);
                    }
                }
                Operation::Read { seen, at } => {
                    for (key, value) in seen {
                        self.read(attempt, &mut now, &own, key, *value, *at);
                    }
                    self.fractures(attempt, &now);
                }
            }
        }
        self.newer_than_read(attempt, &now);
    }

    fn read(
        &mut self,
        attempt: &'a Attempt,
        now: &mut BTreeMap<&'a Key, Seen<'a>>,
        own: &BTreeMap<&Key, Vec<Value>>,
        key: &'a Key,
        value: Option<Value>,
        at: Duration,
    ) {
        let name = attempt.id.as_ref().map_or("a lone get".to_owned(), |id| id.to_string());
        if let Some(possible) = own.get(key) {
            if value.is_some_and(|value| possible.contains(&value)) {
                return;
            }
            // If the first write of a key was not acknowledged, it may not have been buffered.
            let was_acknowledged = attempt.operations.iter().any(|operation| {
                matches!(operation, Operation::Write { writes, acknowledged: true }
                    if writes.iter().any(|(written, _)| written == key))
            });
            if was_acknowledged {
                let what = format!("{name} wrote one of {possible:?} to {key} and read {value:?}");
                return self.broken("read your writes", what);
            }
        }
        let seen = match value {
            None => Seen::Missing,
            Some(value) if self.history.foreign.get(&value) == Some(key) => Seen::Foreign(value),
            Some(value) => match self.by_value.get(&value) {
                Some((landed, of)) if *of == key && landed.at <= at => Seen::Committed(landed),
                _ => {
                    let what = format!("{name} read {value} of {key}, not committed then");
                    return self.broken("no dirty reads", what);
                }
            },
        };
        match (now.get(key), &seen) {
            (Some(Seen::Committed(before)), Seen::Committed(after))
                if before.commit.version == after.commit.version => {}
            (Some(Seen::Foreign(before)), Seen::Foreign(after)) if before == after => {}
            (None | Some(Seen::Missing), _) => {}
            _ => self.broken("repeatable reads", format!("{name} read two versions of {key}")),
        }
        if let Some(floor) = attempt.session_floor.get(key)
            && version_of(&seen).is_none_or(|version| version < floor)
        {
            let what =
                format!("{name} read {value:?} of {key}, older than its session's own write");
            self.broken("a session reads its own commits", what);
        }
        now.insert(key, seen);
    }

    /// Nothing read stands next to an older version, or the absence, of a key that was written with it.
    fn fractures(&mut self, attempt: &Attempt, now: &BTreeMap<&'a Key, Seen<'a>>) {
        let name = attempt.id.as_ref().map_or("a lone get".to_owned(), |id| id.to_string());
        for (key, seen) in now {
            let Seen::Committed(landed) = seen else {
                continue;
            };
            for written in landed.commit.keys.iter().filter(|written| written.key != **key) {
                let Some(other) = now.get(&written.key) else {
                    continue;
                };
                if version_of(other).is_none_or(|version| *version < landed.commit.version) {
                    let writer = &landed.commit.version.writer;
                    let what = format!("{name} read {key} of {writer}, but older {}", written.key);
                    self.broken("no fractured reads", what);
                }
            }
        }
    }

    /// A commit's timestamp is above that of everything it read.
    fn newer_than_read(&mut self, attempt: &Attempt, now: &BTreeMap<&'a Key, Seen<'a>>) {
        let Some(landed) = self.commit_of(attempt) else {
            return;
        };
        let own = landed.commit.version.timestamp;
        let newest = now.values().filter_map(version_of).map(|version| version.timestamp).max();
        if newest.is_some_and(|newest| newest >= own) {
            let what = format!("{} is not newer than what it read", landed.commit.version.writer);
            self.broken("committed means newer", what);
        }
    }
}

fn version_of<'a>(seen: &Seen<'a>) -> Option<&'a Version> {
    match seen {
        Seen::Committed(landed) => Some(&landed.commit.version),
        Seen::Missing | Seen::Foreign(_) => None,
    }
}
