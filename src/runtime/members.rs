//! Which other nodes there are: those that are named in the configuration, those that a manager lists, and
//! those that a name resolves to, all together.
//!
//! A source that does not answer leaves what it said before, so that a cluster goes on without it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prost::Message;
use tokio::time::{MissedTickBehavior, interval};

use super::clock::Clock;
use super::trouble::Trouble;
use super::worker::{Command, Handle};
use crate::node::Address;
use crate::peer::{self, BadAddress, MEMBERS_PORT};
use crate::transport::{AskError, Asker};
use crate::wire::anna::StringSet;

/// How often a manager is asked.
const ASK_EACH: Duration = Duration::from_secs(1);
/// How long its answer is waited for.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// How long a node that a manager does not list any more stays a member. A manager that has just started
/// does not know all of them yet.
const UNLISTED_MAX: Duration = Duration::from_secs(5);
/// How often a name is resolved.
const RESOLVE_EACH: Duration = Duration::from_secs(5);
/// Members from one source, at most.
const MEMBERS_MAX: usize = 4096;

/// Why a source says nothing of use.
#[derive(Debug, thiserror::Error)]
enum SourceError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("the answer is not a StringSet: {0}")]
    Undecodable(#[from] prost::DecodeError),
    #[error("the answer lists something that is not a node: {0}")]
    Address(#[from] BadAddress),
    #[error("the answer lists {0} nodes, at most {MEMBERS_MAX} are taken")]
    TooMany(usize),
    #[error("the name {0:?} does not resolve: {1}")]
    Resolve(String, std::io::Error),
    #[error("the thread that asks has ended")]
    Ended,
}

/// The members by source. Tells the worker when they change.
#[derive(Clone)]
pub(super) struct Members {
    own: Arc<str>,
    worker: Handle,
    sources: Arc<Mutex<Sources>>,
}

#[derive(Default)]
struct Sources {
    by_source: BTreeMap<Source, BTreeSet<Address>>,
    union: BTreeSet<Address>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// The configuration.
    Named,
    Manager,
    Dns,
}

impl Members {
    /// No members yet. `own` is this node, which is never one of them.
    pub(super) fn new(own: Arc<str>, worker: Handle) -> Self {
        Self { own, worker, sources: Arc::default() }
    }

    /// What a source says from here on.
    pub(super) fn set(&self, source: Source, members: impl IntoIterator<Item = Address>) {
        let sources = &mut *self.sources.lock();
        sources.by_source.insert(source, members.into_iter().collect());
        let all = sources.by_source.values().flatten().filter(|member| **member != self.own);
        let union: BTreeSet<_> = all.cloned().collect();
        if union == sources.union {
            return;
        }
        let named = |one: &BTreeSet<Address>, other: &BTreeSet<Address>| -> Vec<String> {
            one.difference(other).map(|member| member.to_string()).collect()
        };
        let (come, gone) = (named(&union, &sources.union), named(&sources.union, &union));
        tracing::info!(?source, ?come, ?gone, members = union.len(), "other nodes");
        // In the order in which they change, so with the lock held.
        self.worker.send(Command::Members(union.iter().cloned().collect()));
        sources.union = union;
    }
}

/// Asks a manager for its nodes, for ever.
pub(super) async fn ask_manager(manager: Address, members: Members) {
    let mut trouble = Trouble::new("cannot get the members from the manager");
    let Ok(Some(endpoint)) = peer::endpoint(&manager, MEMBERS_PORT) else { return };
    let clock = Clock::start();
    let (mut asker, mut listed) = (Some(Asker::new(&endpoint, ANSWER_WITHIN)), Listed::default());
    let mut ticks = interval(ASK_EACH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(mut idle) = asker.take() else { return };
        let asked = tokio::task::spawn_blocking(move || (idle.ask(), idle)).await;
        let answer = match asked {
            Ok((answer, idle)) => {
                asker = Some(idle);
                answer.map_err(SourceError::from).and_then(|answer| read_list(&answer))
            }
            Err(_) => Err(SourceError::Ended),
        };
        if let Some(nodes) = trouble.note(answer) {
            members.set(Source::Manager, listed.update(clock.elapsed(), nodes));
        }
    }
}

fn read_list(answer: &[u8]) -> Result<Vec<Address>, SourceError> {
    let list = StringSet::decode(answer)?;
    if list.keys.len() > MEMBERS_MAX {
        return Err(SourceError::TooMany(list.keys.len()));
    }
    let names = list.keys.iter().map(|name| peer::normalize(name).map(Address::from));
    Ok(names.collect::<Result<_, _>>()?)
}

/// When each node was listed last.
#[derive(Default)]
struct Listed(BTreeMap<Address, Duration>);

impl Listed {
    /// The nodes that are listed, or were of late.
    fn update(&mut self, now: Duration, nodes: Vec<Address>) -> Vec<Address> {
        self.0.extend(nodes.into_iter().map(|node| (node, now)));
        self.0.retain(|_, at| now < *at + UNLISTED_MAX);
        self.0.keys().cloned().collect()
    }
}

/// Resolves a name, for ever. Each of its addresses is a node.
pub(super) async fn resolve(name: String, members: Members) {
    let mut trouble = Trouble::new("cannot get the members from DNS");
    let mut ticks = interval(RESOLVE_EACH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let found = tokio::net::lookup_host((name.as_str(), 0)).await;
        let found = found.map_err(|error| SourceError::Resolve(name.clone(), error));
        let found = found.map(|found| found.take(MEMBERS_MAX).collect::<Vec<SocketAddr>>());
        if let Some(addresses) = trouble.note(found) {
            let nodes = addresses.into_iter().map(|found| peer::name(found.ip(), 0).into());
            members.set(Source::Dns, nodes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lists_of_nodes_are_taken() {
        let list = |keys: &[&str]| {
            let keys = keys.iter().map(|key| key.to_string()).collect();
            read_list(&StringSet { keys }.encode_to_vec())
        };
        assert_eq!(
            list(&["10.0.0.1:0", "10.0.0.2:10"]).unwrap(),
            ["10.0.0.1", "10.0.0.2:10"].map(Address::from)
        );
        assert!(list(&["10.0.0.1", "somewhere"]).is_err());
        assert!(list(&["10.0.0.1"; MEMBERS_MAX + 1]).is_err());
        assert!(read_list(&[0xff; 3]).is_err());
        assert!(read_list(&[]).unwrap().is_empty());
    }

    #[test]
    fn a_node_that_is_not_listed_stays_for_a_while() {
        let (mut listed, second) = (Listed::default(), Duration::from_secs(1));
        let nodes =
            |names: &[&str]| names.iter().map(|name| Address::from(*name)).collect::<Vec<_>>();
        assert_eq!(listed.update(second, nodes(&["a", "b"])), nodes(&["a", "b"]));
        assert_eq!(listed.update(2 * second, nodes(&["a"])), nodes(&["a", "b"]));
        assert_eq!(listed.update(6 * second, nodes(&["a"])), nodes(&["a"]));
    }
}
