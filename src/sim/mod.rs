//! A deterministic simulator: one node, a store that misbehaves, clients that do what they like, all in
//! one thread on a virtual clock, driven by one seed.
//!
//! The same seed gives the same run, to the letter, so what is found once can be looked at again:
//! `aft sim --seed S`. After each run [`judge`] holds what the clients saw against what the store
//! holds. [`canary`] has consistency levels that are broken on purpose: the judge must notice them, or
//! it proves nothing.
//!
//! What can happen: storage that is slow, that fails before or after having done what was asked, that
//! does it long after it reported a failure; a node that dies between any two effects and comes back
//! with another incarnation and another wall clock; clients that leave, return too late, retry under
//! the same id, or work at one id at the same time; values written past the sidecar.

mod anna;
pub mod canary;
mod clients;
pub mod history;
pub mod judge;
mod world;

use crate::txn::Consistency;

pub use judge::Violation;

/// How a run is set up. Everything else follows from the seed.
#[derive(Debug, Clone)]
pub struct Options {
    /// Clients that run at once.
    pub clients: usize,
    /// User keys. Few, so that transactions meet.
    pub keys: usize,
    /// Requests made, over all clients, before the run ends.
    pub requests: usize,
    /// What keeps the commits.
    pub store: StoreKind,
    /// What is broken on purpose.
    pub flaw: Option<Flaw>,
    /// Print everything that happens.
    pub trace: bool,
}

/// Something broken on purpose around a simulated Anna, for showing that the judge has teeth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Nobody sees a promise, so what was accepted is taken for decided.
    Trusting,
    /// Some acknowledged writes are not kept.
    Forgetful,
}

/// What keeps the commits of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StoreKind {
    /// A store that creates an outcome only if there is none.
    #[default]
    Conditional,
    /// Objects that merge, as in Anna, under the backend that makes a store of them.
    Anna,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            clients: 5,
            keys: 5,
            requests: 400,
            store: StoreKind::Conditional,
            flaw: None,
            trace: false,
        }
    }
}

/// What a run came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Every promise that was broken.
    pub violations: Vec<Violation>,
    /// Commits in the store's log.
    pub commits: usize,
    /// Attempts that clients knew of.
    pub attempts: usize,
    /// Keys read and answered.
    pub reads: usize,
    /// How often the node died.
    pub crashes: usize,
    /// Hash of everything that happened, in order.
    pub fingerprint: u64,
}

/// Runs one seed with a consistency level made anew for each incarnation of the node.
pub fn run(seed: u64, options: &Options, consistency: &dyn Fn() -> Box<dyn Consistency>) -> Report {
    let (history, mut report) = world::World::new(seed, options, consistency).run();
    report.violations.extend(judge::judge(&history));
    report.commits = history.landed.len();
    report.attempts = history.attempts.len();
    report.reads = history.reads();
    report
}
