//! Atomic read against a brute-force reading of its definition.
//!
//! A set of reads is atomic if, for every version read and every key that its transaction also wrote,
//! the version of that key in the set, if there is one, is not older. A missing key stands for the
//! version before all others.

use std::collections::BTreeMap;
use std::sync::Arc;

use aft::txn::{
    AttemptId, Choice, Commit, Consistency, Key, ReadAtomic, ReadSet, Timestamp, Version,
    VersionIndex, WrittenKey,
};
use foldhash::fast::FixedState;
use proptest::prelude::*;

const KEYS: usize = 4;

/// One step of a history: a commit becomes known, or the transaction reads.
#[derive(Debug, Clone)]
enum Step {
    Commit { timestamp: u64, keys: Vec<usize> },
    Read { key: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let keys = prop::collection::btree_set(0..KEYS, 1..=KEYS);
    // Few timestamps, so that some are equal and commits become known out of order.
    let commit = (1..30u64, keys)
        .prop_map(|(timestamp, keys)| Step::Commit { timestamp, keys: keys.into_iter().collect() });
    let read = (0..KEYS).prop_map(|key| Step::Read { key });
    prop_oneof![commit, read]
}

fn key(number: usize) -> Key {
    Key::parse(&format!("k{number}")).expect("valid")
}

/// The model: which version (by place in `commits`) each key was read at; `None` is missing.
#[derive(Default)]
struct Model {
    commits: Vec<Arc<Commit>>,
    reads: BTreeMap<usize, Option<usize>>,
}

impl Model {
    fn wrote(&self, commit: usize, number: usize) -> bool {
        self.commits[commit].written(&key(number)).is_some()
    }

    /// The definition.
    fn is_atomic(&self, reads: &BTreeMap<usize, Option<usize>>) -> bool {
        reads.values().flatten().all(|&read| {
            reads.iter().all(|(&other, &at)| {
                !self.wrote(read, other)
                    || at.is_some_and(|at| self.commits[at].version >= self.commits[read].version)
            })
        })
    }

    fn with(&self, number: usize, read: Option<usize>) -> BTreeMap<usize, Option<usize>> {
        let mut reads = self.reads.clone();
        reads.insert(number, read);
        reads
    }

    /// The versions of a key that may be returned next, newest first.
    fn allowed(&self, number: usize) -> Vec<usize> {
        let mut versions: Vec<usize> = (0..self.commits.len())
            .filter(|&commit| self.wrote(commit, number))
            .filter(|&commit| self.is_atomic(&self.with(number, Some(commit))))
            .collect();
        versions.sort_by(|a, b| self.commits[*b].version.cmp(&self.commits[*a].version));
        versions
    }
}

struct Run {
    index: VersionIndex,
    reads: ReadSet,
    model: Model,
    newest: BTreeMap<usize, u64>,
}

impl Run {
    fn new() -> Self {
        let hasher = FixedState::with_seed(1);
        let (index, reads) = (VersionIndex::new(&hasher), ReadSet::new(&hasher));
        Self { index, reads, model: Model::default(), newest: BTreeMap::new() }
    }

    fn commit(&mut self, timestamp: u64, keys: &[usize], fresh_marks: bool) {
        let writer = AttemptId::parse(&format!("t{}", self.model.commits.len())).expect("valid");
        let version = Version { timestamp: Timestamp(timestamp), writer };
        let written = keys.iter().map(|&number| {
            let fresh = fresh_marks && self.index.known(&key(number)).versions.is_empty();
            WrittenKey { key: key(number), fresh }
        });
        let commit = Arc::new(Commit::new(version, written.collect(), "node".into()));
        self.index.install(&commit);
        for number in keys {
            let newest = self.newest.entry(*number).or_default();
            *newest = (*newest).max(timestamp);
        }
        self.model.commits.push(commit);
    }

    /// Reads as a node does, and holds the choice against the model.
    fn read(&mut self, number: usize) -> Result<(), TestCaseError> {
        let asked = key(number);
        self.reads.forget_missing(&asked);
        if self.model.reads.get(&number) == Some(&None) {
            self.model.reads.remove(&number);
        }
        let allowed = self.model.allowed(number);
        let choice = ReadAtomic.choose(&asked, self.index.known(&asked), &self.reads);
        match choice {
            Choice::Committed(commit) => {
                let chosen =
                    self.model.commits.iter().position(|known| Arc::ptr_eq(known, &commit));
                let chosen = chosen.expect("a known commit");
                match self.model.reads.get(&number) {
                    Some(before) => prop_assert_eq!(*before, Some(chosen), "repeatable"),
                    None => prop_assert_eq!(Some(&chosen), allowed.first(), "the newest that fits"),
                }
                self.reads.pin_committed(asked, commit);
                self.model.reads.insert(number, Some(chosen));
                prop_assert!(self.model.is_atomic(&self.model.reads));
            }
            Choice::NoCommitted => {
                prop_assert!(allowed.is_empty(), "a version fits: {allowed:?}");
                self.reads.note_missing(asked);
                self.model.reads.insert(number, None);
                prop_assert!(self.model.is_atomic(&self.model.reads), "missing does not fit");
            }
            Choice::NoFit => {
                prop_assert!(allowed.is_empty(), "a version fits: {allowed:?}");
                prop_assert!(
                    !self.index.known(&asked).versions.is_empty(),
                    "nothing is known of it"
                );
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn every_read_is_the_newest_that_keeps_the_set_atomic(
        steps in prop::collection::vec(step(), 1..40),
        fresh_marks: bool,
    ) {
        let mut run = Run::new();
        for step in steps {
            match step {
                Step::Commit { timestamp, keys } => run.commit(timestamp, &keys, fresh_marks),
                Step::Read { key } => run.read(key)?,
            }
        }
    }

    /// What is known when a transaction begins is never hidden by what commits later.
    #[test]
    fn one_pass_over_all_keys_never_aborts(
        commits in prop::collection::vec((1..30u64, prop::collection::btree_set(0..KEYS, 1..=KEYS)), 1..20),
        order in Just((0..KEYS).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let mut run = Run::new();
        for (timestamp, keys) in commits {
            run.commit(timestamp, &keys.into_iter().collect::<Vec<_>>(), false);
        }
        for number in order {
            let asked = key(number);
            let choice = ReadAtomic.choose(&asked, run.index.known(&asked), &run.reads);
            match choice {
                Choice::Committed(commit) => {
                    // With nothing committing in between, that is the newest of each key.
                    prop_assert_eq!(commit.version.timestamp.0, run.newest[&number]);
                    run.reads.pin_committed(asked, commit);
                }
                Choice::NoCommitted => prop_assert!(!run.newest.contains_key(&number)),
                Choice::NoFit => prop_assert!(false, "aborted on a quiet store"),
            }
        }
    }
}

#[test]
fn a_key_seen_missing_refuses_a_commit_that_wrote_it() {
    let mut run = Run::new();
    run.commit(5, &[0], false);
    run.read(1).expect("missing");
    run.commit(7, &[0, 1], true);
    run.read(0).expect("the older version of k0 fits");
    assert_eq!(run.model.reads[&0], Some(0));
}

#[test]
fn a_first_version_that_is_too_new_reads_as_missing() {
    let mut run = Run::new();
    run.commit(5, &[0], true);
    run.read(0).expect("k0 at 5");
    run.commit(7, &[0, 1], true);
    run.read(1).expect("k1 had no version before 7");
    assert_eq!(run.model.reads[&1], None);
}

#[test]
fn without_that_knowledge_the_transaction_cannot_go_on() {
    let mut run = Run::new();
    run.commit(5, &[0], false);
    run.read(0).expect("k0 at 5");
    run.commit(7, &[0, 1], false);
    let asked = key(1);
    let choice = ReadAtomic.choose(&asked, run.index.known(&asked), &run.reads);
    assert!(matches!(choice, Choice::NoFit), "{choice:?}");
}
