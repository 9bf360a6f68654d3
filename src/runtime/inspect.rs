//! What a store holds, and what the node that works on it remembers: whoever wants to know whether garbage
//! is bounded looks here.
//!
//! A running node is asked over HTTP, as it may have its store to itself. A store at rest is opened.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock::Clock;
use super::config::{Settings, StorageKind};
use super::rest::{self, RestError};
use crate::node::Status;
use crate::storage::{LogPosition, LogScope, Storage, StorageError, Usage};
use crate::txn::Key;

mod table;

/// Where the admin endpoint tells it.
pub(crate) const INSPECT_PATH: &str = "/inspect";

const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Counting reads the whole store.
const ANSWER_MAX: Duration = Duration::from_secs(600);

/// Why there is nothing to tell.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The store at rest.
    #[error(transparent)]
    Rest(#[from] RestError),
    /// Reading it.
    #[error("cannot read the store: {0}")]
    Store(#[from] StorageError),
    /// The running node.
    #[error("{url} does not tell: {why}. Is it the --admin address of a sidecar that runs?")]
    Node {
        /// What was asked.
        url: String,
        /// What happened.
        why: Box<ureq::Error>,
    },
}

/// What was found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Inspection {
    /// Which store.
    pub storage: StorageKind,
    /// What the store holds, if it counts.
    pub usage: Option<Usage>,
    /// Why it does not.
    pub uncounted: Option<String>,
    /// What the commit log of a store at rest tells, if the store does not count.
    pub log: Option<Logged>,
    /// How long counting took.
    pub seconds: f64,
    /// What a running node says of itself: its version, address, and so on.
    pub sidecar: Option<serde_json::Value>,
    /// What it remembers.
    pub node: Option<Status>,
}

/// What can be learnt from a commit log alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logged {
    /// Commits in it.
    pub commits: u64,
    /// Versions that they wrote.
    pub versions: u64,
    /// Keys of which these are versions.
    pub keys: u64,
}

impl Inspection {
    /// Counts what a store holds.
    pub(super) async fn of_store(store: &dyn Storage, kind: StorageKind) -> Self {
        let clock = Clock::start();
        let counted = store.usage().await;
        let uncounted = counted.as_ref().err().map(ToString::to_string);
        Self {
            storage: kind,
            usage: counted.ok(),
            uncounted,
            log: None,
            seconds: clock.elapsed().as_secs_f64(),
            sidecar: None,
            node: None,
        }
    }

    pub(super) fn with_node(self, sidecar: serde_json::Value, node: Status) -> Self {
        Self { sidecar: Some(sidecar), node: Some(node), ..self }
    }

    /// For people: a figure a line, aligned.
    pub fn render(&self) -> String {
        table::render(self)
    }
}

/// Asks a running node.
pub fn ask(admin: SocketAddr) -> Result<Inspection, InspectError> {
    let url = format!("http://{admin}{INSPECT_PATH}");
    let config = ureq::Agent::config_builder()
        .timeout_connect(Some(CONNECT_MAX))
        .timeout_global(Some(ANSWER_MAX))
        .proxy(None)
        .build();
    let answer = ureq::Agent::new_with_config(config).get(&url).call();
    let read = |mut answer: ureq::http::Response<ureq::Body>| answer.body_mut().read_json();
    answer.and_then(read).map_err(|why| InspectError::Node { url, why: Box::new(why) })
}

/// Opens a store and counts what it holds.
pub fn at_rest(settings: &Settings) -> Result<Inspection, InspectError> {
    rest::with_store(settings, async |store| {
        let mut found = Inspection::of_store(store, settings.storage).await;
        if !store.collects_garbage() {
            found.log = Some(Logged::read(store).await?);
        }
        Ok(found)
    })?
}

impl Logged {
    async fn read(store: &dyn Storage) -> Result<Self, StorageError> {
        let (mut found, mut keys) = (Self::default(), std::collections::HashSet::<Key>::new());
        let mut position = LogPosition::default();
        loop {
            let page = store.commits_since(&position, LogScope::All).await?;
            for commit in &page.commits {
                found.commits += 1;
                found.versions += commit.keys.len() as u64;
                keys.extend(commit.keys.iter().map(|written| written.key.clone()));
            }
            position = page.next;
            if page.end {
                found.keys = keys.len() as u64;
                return Ok(found);
            }
        }
    }
}
