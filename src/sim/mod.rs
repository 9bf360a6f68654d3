//! A deterministic simulator: nodes, a store and a network that misbehave, clients that do what they like,
//! all in one thread on a virtual clock, driven by one seed.
//!
//! The same seed gives the same run, to the letter, so what is found once can be looked at again:
//! `aft sim --seed S`. After each run [`judge`] holds what the clients saw against what the store
//! holds. [`canary`] has consistency levels that are broken on purpose, and [`Flaw`] names what can be broken
//! around the nodes: the judge must notice them, or it proves nothing.
//!
//! What can happen: storage that is slow, that fails before or after having done what was asked, that
//! does it long after it reported a failure; nodes that die between any two effects and come back
//! with another incarnation and another wall clock, or are stopped for longer than any time-out and go on
//! without having noticed; clocks that drift and that are an hour off; messages between nodes that are lost,
//! late, overtaken or doubled, and nodes that are cut off from each other; clients that leave, return too
//! late, retry under the same id, or work at one id at the same time, at the same node or at others; functions
//! of one transaction that die, are run twice, or write where the transaction has gone on from; values written
//! past the sidecar.

mod anna;
pub mod canary;
mod clients;
mod flawed;
pub mod history;
pub mod judge;
mod network;
mod quiesce;
mod site;
mod storage;
mod weather;
mod world;

use crate::txn::Consistency;

pub use judge::Violation;
pub use site::SITES_MAX;

/// How a run is set up. Everything else follows from the seed.
#[derive(Debug, Clone)]
pub struct Options {
    /// Nodes, at most [`SITES_MAX`].
    pub nodes: usize,
    /// Clients that run at once.
    pub clients: usize,
    /// Half of the clients run transactions whose functions are spread over the nodes.
    pub dag: bool,
    /// User keys. Few, so that transactions meet.
    pub keys: usize,
    /// Requests made, over all clients, before the run ends.
    pub requests: usize,
    /// What keeps the commits.
    pub store: StoreKind,
    /// What is broken on purpose.
    pub flaw: Option<Flaw>,
    /// Nodes collect garbage, as often as they can.
    pub garbage: bool,
    /// No node dies or stops, and clocks are about right; the store and the network misbehave.
    pub fair: bool,
    /// Print everything that happens.
    pub trace: bool,
}

/// Something broken on purpose around the nodes, for showing that the judge has teeth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Nobody sees a promise on Anna, so what was accepted is taken for decided.
    Trusting,
    /// Anna does not keep some of the writes that it acknowledges.
    Forgetful,
    /// Anna does not keep which version of a key is the newest.
    Headless,
    /// A transaction that goes on at another node loses what it has read.
    Amnesic,
    /// What was read in two branches is not compared when they are merged.
    Credulous,
    /// Nodes do not tell each other how deep in the graph a value was written.
    Shallow,
    /// A commit is confirmed before it is stored.
    Boastful,
    /// Clients are told of a commit before it can be read.
    Tardy,
    /// Commits that are lost on their way to another node count as heard there.
    Deaf,
    /// Whoever asks when nobody needs what is superseded is told: now.
    Hasty,
    /// So does a node where nothing runs but what has gone on to others, or has come from there.
    Oblivious,
    /// A node that has died for ever goes on saying that it is there.
    Haunted,
    /// Nodes believe to have read the store's log, and have not.
    Unread,
    /// Nobody answers when nobody needs any more what is superseded, and nothing is swept.
    Hoarding,
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
            nodes: 1,
            clients: 5,
            dag: false,
            keys: 5,
            requests: 400,
            store: StoreKind::Conditional,
            flaw: None,
            garbage: true,
            fair: false,
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
    /// Commits of transactions that ran on more than one node.
    pub spread_commits: usize,
    /// Transactions that needed a version that was gone. In fair weather there must be none.
    pub gone: u64,
    /// Reads that were refused although there was something to read, for that reason or another, at nodes
    /// that have forgotten no keys.
    pub refused: usize,
    /// The same at nodes whose index was full, so that they have.
    pub forgot: usize,
    /// How often a node died.
    pub crashes: usize,
    /// How often a node was stopped for a while.
    pub freezes: usize,
    /// Messages between nodes.
    pub messages: usize,
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
    let refused = judge::refused_in_vain(&history);
    report.forgot = refused.iter().filter(|refused| refused.forgot).count();
    report.refused = refused.len() - report.forgot;
    report.spread_commits = history.spread_commits();
    report
}
