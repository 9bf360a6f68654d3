//! Holds a run against the promises. Written from the promises: it knows nothing of how a node comes
//! to its answers.

mod commits;
mod depth;
mod needed;
mod reads;
mod refused;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::history::{Attempt, History, Landed, Value, Verdict, What};
use crate::txn::{AttemptId, BaseId, Key, Version};

pub use refused::refused_in_vain;

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
        judge.commit(attempt);
        judge.verdicts(attempt);
        judge.reads(attempt);
    }
    if history.is_fair {
        judge.deletions();
    }
    judge.violations
}

struct Judge<'a> {
    history: &'a History,
    by_attempt: BTreeMap<&'a AttemptId, &'a Landed>,
    by_base: BTreeMap<BaseId, &'a Landed>,
    by_value: BTreeMap<Value, (&'a Landed, &'a Key)>,
    violations: Vec<Violation>,
}

/// What a key was read as.
#[derive(Clone)]
enum Seen<'a> {
    Missing,
    Foreign(Value),
    Committed(&'a Landed),
}

impl Seen<'_> {
    /// The version that was read; none for what is older than all versions.
    fn version(&self) -> Option<&Version> {
        match self {
            Self::Committed(landed) => Some(&landed.commit.version),
            Self::Missing | Self::Foreign(_) => None,
        }
    }
}

impl fmt::Display for Seen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("missing"),
            Self::Foreign(value) => write!(f, "foreign {value}"),
            Self::Committed(landed) => {
                let Version { timestamp, writer } = &landed.commit.version;
                write!(f, "{writer}@{}", timestamp.0)
            }
        }
    }
}

impl<'a> Judge<'a> {
    fn new(history: &'a History) -> Self {
        let mut by_attempt = BTreeMap::new();
        let mut by_base = BTreeMap::new();
        let mut by_value = BTreeMap::new();
        for landed in &history.landed {
            by_attempt.insert(&landed.commit.version.writer, landed);
            by_base.entry(landed.commit.version.writer.base()).or_insert(landed);
            for (written, value) in landed.commit.keys.iter().zip(&landed.values) {
                by_value.extend(value.map(|value| (value, (landed, &written.key))));
            }
        }
        Self { history, by_attempt, by_base, by_value, violations: Vec::new() }
    }

    fn broken(&mut self, promise: &'static str, what: String) {
        self.violations.push(Violation { promise, what });
    }

    /// One commit per id; every commit has all of its values.
    fn log(&mut self) {
        let mut ids: BTreeSet<BaseId> = BTreeSet::new();
        for landed in &self.history.landed {
            let writer = &landed.commit.version.writer;
            if !ids.insert(writer.base()) {
                self.broken("once", format!("{writer} and another commit of its id"));
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

    /// Answers are true, and agree.
    fn verdicts(&mut self, attempt: &Attempt) {
        let wrote = attempt.operations.iter().any(|op| matches!(op.what, What::Write { .. }));
        if !wrote {
            // Without writes there is no effect to be right or wrong about.
            return;
        }
        let name = name(attempt);
        let own = self.commit_of(attempt);
        let base = attempt.id.as_ref().map(AttemptId::base);
        let of_id = own.or_else(|| self.by_base.get(base.as_ref()?).copied());
        let without_effect = base.is_some_and(|base| self.history.without_effect.contains(&base));
        for told in &attempt.verdicts {
            match (told.verdict, of_id) {
                (Verdict::Committed, None) if !without_effect => {
                    self.broken("nothing lost", format!("{name} was told COMMITTED and is not"));
                }
                (Verdict::Committed, Some(landed)) if landed.at > told.at && !without_effect => {
                    let what = format!("{name} was told COMMITTED before it was durable");
                    self.broken("nothing lost", what);
                }
                (Verdict::SettledAborted, Some(_)) => {
                    self.broken("answers agree", format!("{name} was told ABORTED, its id is not"));
                }
                (Verdict::Aborted, _) if own.is_some() => {
                    self.broken("answers agree", format!("{name} was told ABORTED and is not"));
                }
                _ => {}
            }
        }
    }
}

/// An attempt, for people.
fn name(attempt: &Attempt) -> String {
    attempt.id.as_ref().map_or("a lone request".to_owned(), AttemptId::to_string)
}
