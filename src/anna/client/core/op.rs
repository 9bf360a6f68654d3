//! One operation on one key, from its beginning to its end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

use super::addresses::{Addr, Addrs};
use super::batch::Kind;
use crate::anna::client::{Acks, ClientError, NoServers, Silent};
use crate::anna::lattice::Lattice;
use crate::timers::TimerId;
use crate::wire::anna::LatticeType;

/// Which replicas a read asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::anna::client) enum Whom {
    /// One of them.
    Any,
    /// One after the other, until one has a value.
    UntilFound,
    /// All of them.
    All,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub(in crate::anna::client) enum Ask {
    Get { whom: Whom },
    Put { kind: LatticeType, payload: Bytes, acks: Acks },
}

impl Ask {
    pub(in crate::anna::client) fn bytes(&self) -> usize {
        match self {
            Self::Get { .. } => 0,
            Self::Put { payload, .. } => payload.len(),
        }
    }

    /// Whether all replicas are asked at once.
    pub(super) fn asks_all(&self) -> bool {
        matches!(self, Self::Get { whom: Whom::All } | Self::Put { acks: Acks::All, .. })
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Get { .. } => Kind::Get,
            Self::Put { .. } => Kind::Put,
        }
    }

    /// Whether every replica has to say its word, and one that has is not asked again.
    pub(super) fn wants_all(&self) -> bool {
        match self {
            Self::Get { whom } => *whom != Whom::Any,
            Self::Put { acks, .. } => *acks == Acks::All,
        }
    }
}

/// Where an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The key's addresses are looked up.
    Looking,
    /// Storage threads were asked.
    Asked,
    /// It waits before it begins again.
    Pausing,
}

/// See the [module's page](self).
pub(super) struct Op {
    pub(super) key: Arc<str>,
    pub(super) ask: Ask,
    pub(super) began: Duration,
    pub(super) deadline: Duration,
    pub(super) stage: Stage,
    /// When the stage ends, unless something happens before.
    pub(super) timer: TimerId,
    /// Tells answers to the current try from those to earlier ones.
    pub(super) round: u32,
    /// Tries that had no answer.
    pub(super) silences: u32,
    /// Answers that told to begin again.
    pub(super) detours: u32,
    /// The replicas, as of the last try.
    pub(super) named: Addrs,
    /// The replicas that have said their word, if all have to.
    pub(super) settled: Addrs,
    /// What the replicas that have answered hold together.
    pub(super) found: Option<Lattice>,
    /// Replicas that have not answered.
    pub(super) silent: Addrs,
    /// Requests that may still be answered.
    pub(super) requests: SmallVec<[u64; 2]>,
    /// Handed to the network at least once.
    pub(super) sent: bool,
}

impl Op {
    pub(super) fn is_settled(&self) -> bool {
        !self.named.is_empty() && self.named.iter().all(|addr| self.settled.contains(addr))
    }

    pub(super) fn settle(&mut self, addr: &Addr) {
        if !self.settled.contains(addr) {
            self.settled.push(addr.clone());
        }
    }

    /// Adds what one more replica holds.
    pub(super) fn merge(&mut self, value: Lattice) {
        self.found = Some(match self.found.take() {
            Some(found) => found.merge(value),
            None => value,
        });
    }

    /// The error of an operation whose time is over; `no_servers` is what routing said last.
    pub(super) fn time_out(&self, now: Duration, no_servers: bool) -> ClientError {
        let waited = now.saturating_sub(self.began);
        if no_servers && !self.sent {
            return ClientError::NoServers(NoServers { waited });
        }
        let silent = match (self.stage, self.silent.last().or(self.named.first())) {
            (Stage::Asked | Stage::Pausing, Some(addr)) => Silent::Storage(addr.to_string()),
            _ => Silent::Routing,
        };
        ClientError::TimedOut { key: self.key.to_string(), waited, sent: self.sent, silent }
    }
}
