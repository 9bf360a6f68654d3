//! One outcome per id, whoever proposes one, and however late anything lands.
//!
//! Anna cannot create an object only if it is absent, but of two last-writer-wins values it keeps the one
//! with the greater timestamp, in whatever order and however often they arrive. Two such objects per id
//! are enough for Paxos over shared registers (Gafni and Lamport, *Disk Paxos*, 2003; here with one disk,
//! the store):
//!
//! - `aft~o~<id>` holds the outcome that was accepted at the highest ballot; its timestamp is that
//!   ballot and 1.
//! - `aft~b~<id>` holds the highest ballot that was promised; its timestamp is that ballot.
//!
//! A proposer with ballot *b* writes the promise of *b*, reads what was accepted, and writes that, or its
//! own proposal if there is nothing, as accepted at *b*. If the promise that it reads then is not above
//! *b*, the outcome is decided: whoever comes with a higher ballot from then on reads it and repeats it.
//! Otherwise it was preempted, and tries again above the ballot that it met.
//!
//! Whoever knows what is decided may write that, or what is left of it, at any ballot: it changes no
//! decision. So what is left of a collected commit is written above all ballots that anybody proposes at,
//! and no late proposal restores it. When the id is forgotten, that object is emptied for good; a proposer who
//! then does not find what it has written knows that.
//!
//! Ballot 0 needs no promise, so it is one write and one read; it is for the one proposer that
//! [`CommitBatch::sole`](super::CommitBatch::sole) tells of.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use foldhash::fast::FixedState;
use futures_util::future::try_join;

use super::super::StorageError;
use super::kv::KeyValue;
use super::names::{self, LogName};
use super::objects::{delete, lww, raise, raised};
use crate::anna::lattice::Lattice;
use crate::txn::BaseId;

/// The lower bits of a ballot tell proposals of one round apart.
const TAG_BITS: u32 = 44;
/// Ballots are below this. From this timestamp on stands what is left of outcomes that are decided; not far
/// above, so that none meets that of a deletion.
const BALLOT_END: u64 = 1 << 62;
/// How often a preempted proposer tries again at once. After that its caller does, in its own time.
const ROUNDS: usize = 4;

/// Proposes outcomes in the name of one incarnation.
pub(super) struct Proposer<K> {
    pub(super) kv: Arc<K>,
    tags: FixedState,
    drawn: AtomicU64,
}

/// What was accepted, and at which ballot.
struct Accepted {
    ballot: u64,
    outcome: Bytes,
}

/// How an id stands.
pub(super) enum Standing {
    /// Nothing was proposed that has arrived.
    Open,
    /// Something was proposed and may be decided; others are at it.
    Contested,
    Decided(Bytes),
}

/// What a ballot came to.
enum Round {
    Decided(Bytes),
    /// By this one.
    Preempted(u64),
    /// How the id ended is not known any more, so that it cannot be decided.
    Forgotten,
}

/// Nothing is known to be decided.
#[derive(Debug)]
pub(super) struct Undecided {
    pub(super) error: StorageError,
    /// The own proposal may have been written, so it may come to be the outcome.
    pub(super) was_sent: bool,
    /// Nor can it be: it was in use long ago.
    pub(super) is_forgotten: bool,
}

impl<K: KeyValue> Proposer<K> {
    pub(super) fn new(kv: Arc<K>, log: &LogName) -> Self {
        let seed = FixedState::with_seed(0).hash_one(log);
        Self { kv, tags: FixedState::with_seed(seed), drawn: AtomicU64::new(0) }
    }

    /// How an id stands. Proposes what was accepted and is not known to be decided, once: if others are
    /// at it, they need not be disturbed further.
    pub(super) async fn standing(&self, id: &BaseId) -> Result<Standing, StorageError> {
        let Some(accepted) = self.accepted(id).await? else {
            return Ok(Standing::Open);
        };
        let is_final = accepted.is_final();
        let Accepted { ballot, outcome } = accepted;
        if is_final {
            return Ok(Standing::Decided(outcome));
        }
        let promised = self.promised(id).await?;
        if promised <= ballot {
            return Ok(Standing::Decided(outcome));
        }
        match self.round(promised, id, &outcome, &|| (), &mut false).await? {
            Round::Decided(outcome) => Ok(Standing::Decided(outcome)),
            Round::Preempted(_) => Ok(Standing::Contested),
            Round::Forgotten => Ok(Standing::Open),
        }
    }

    /// Proposes an outcome. Answers the one that is decided. Calls `sending` before the proposal is
    /// written, if it is.
    pub(super) async fn propose(
        &self,
        id: &BaseId,
        own: &Bytes,
        sending: impl Fn(),
    ) -> Result<Bytes, Undecided> {
        self.propose_above(0, id, own, sending).await
    }

    /// The same, for the one proposer of an id that may use ballot 0. It must have one proposal only.
    pub(super) async fn propose_first(
        &self,
        id: &BaseId,
        own: &Bytes,
        sending: impl Fn(),
    ) -> Result<Bytes, Undecided> {
        sending();
        self.accept(0, id, own).await.map_err(Undecided::by_writing)?;
        match self.promised(id).await.map_err(Undecided::after_sending)? {
            0 => Ok(own.clone()),
            promised => {
                let decided = self.propose_above(promised, id, own, || ()).await;
                decided.map_err(|undecided| Undecided::after_sending(undecided.error))
            }
        }
    }

    async fn propose_above(
        &self,
        mut met: u64,
        id: &BaseId,
        own: &Bytes,
        sending: impl Fn(),
    ) -> Result<Bytes, Undecided> {
        let mut was_sent = false;
        for _ in 0..ROUNDS {
            match self.round(met, id, own, &sending, &mut was_sent).await {
                Ok(Round::Decided(outcome)) => return Ok(outcome),
                Ok(Round::Preempted(ballot)) => met = ballot,
                Ok(Round::Forgotten) => {
                    let error = forgotten(id);
                    return Err(Undecided { error, was_sent, is_forgotten: true });
                }
                Err(error) => return Err(Undecided { error, was_sent, is_forgotten: false }),
            }
        }
        Err(Undecided { error: contested(id), was_sent, is_forgotten: false })
    }

    /// One ballot, above one that was met.
    async fn round(
        &self,
        met: u64,
        id: &BaseId,
        own: &Bytes,
        sending: &impl Fn(),
        was_sent: &mut bool,
    ) -> Result<Round, StorageError> {
        let ballot = self.ballot_above(met)?;
        self.promise(ballot, id).await?;
        let accepted = self.accepted(id).await?;
        let is_own = accepted.is_none();
        let outcome = match accepted {
            Some(accepted) if accepted.is_final() => return Ok(Round::Decided(accepted.outcome)),
            Some(accepted) => accepted.outcome,
            None => own.clone(),
        };
        if is_own {
            sending();
        }
        let was_sent_before = *was_sent;
        let written = self.accept(ballot, id, &outcome).await;
        *was_sent |= is_own && !written.as_ref().is_err_and(StorageError::is_refusal);
        written?;
        let (promised, accepted) = try_join(self.promised(id), self.accepted(id)).await?;
        if accepted.is_none_or(|accepted| accepted.ballot < ballot) {
            *was_sent = was_sent_before;
            return Ok(Round::Forgotten);
        }
        let is_decided = promised <= ballot;
        Ok(if is_decided { Round::Decided(outcome) } else { Round::Preempted(promised) })
    }

    async fn promise(&self, ballot: u64, id: &BaseId) -> Result<(), StorageError> {
        raise(&*self.kv, &names::promise(id), ballot).await
    }

    /// The highest ballot promised; 0 if none was.
    async fn promised(&self, id: &BaseId) -> Result<u64, StorageError> {
        raised(&*self.kv, &names::promise(id)).await
    }

    async fn accept(&self, ballot: u64, id: &BaseId, outcome: &Bytes) -> Result<(), StorageError> {
        let object = Lattice::Lww { timestamp: ballot + 1, value: outcome.clone() };
        self.kv.put(&names::outcome(id), object).await
    }

    async fn accepted(&self, id: &BaseId) -> Result<Option<Accepted>, StorageError> {
        let found = lww(self.kv.get_newest(&names::outcome(id)).await?)?;
        Ok(found.map(|(timestamp, outcome)| {
            let ballot = timestamp.saturating_sub(1);
            Accepted { ballot, outcome }
        }))
    }

    /// Writes what is left of an outcome that is decided. Of several stays what is worth most.
    pub(super) async fn leave(
        &self,
        id: &BaseId,
        left: Bytes,
        worth: u64,
    ) -> Result<(), StorageError> {
        self.accept(BALLOT_END + worth, id, &left).await
    }

    /// Forgets how an id ended. Nothing else can be decided about it afterwards, so promises stay.
    pub(super) async fn forget(&self, id: &BaseId) -> Result<(), StorageError> {
        delete(&*self.kv, &[names::outcome(id)]).await
    }

    /// A ballot that nobody has used, in the round after the one of a ballot that was met. A fresh tag
    /// for each: what a caller that gave up had sent must not be taken for a later proposal.
    fn ballot_above(&self, met: u64) -> Result<u64, StorageError> {
        let tag = self.tags.hash_one(self.drawn.fetch_add(1, Ordering::Relaxed));
        let round = (met >> TAG_BITS) + 1;
        let ballot = round << TAG_BITS | tag >> (u64::BITS - TAG_BITS);
        if ballot >= BALLOT_END {
            return Err(StorageError::Damaged(format!("there is no ballot above {met}")));
        }
        Ok(ballot)
    }
}

/// Others decide about an id.
pub(super) fn contested(id: &BaseId) -> StorageError {
    StorageError::Unconfirmed(format!("others decide about {id} at this moment"))
}

/// How an id ended is not known any more, and so it cannot be decided.
fn forgotten(id: &BaseId) -> StorageError {
    StorageError::Refused(format!(
        "{id} was in use so long ago that it is no longer known how that ended; use another id"
    ))
}

impl Accepted {
    /// It was written by one who knew that it is decided.
    fn is_final(&self) -> bool {
        self.ballot >= BALLOT_END
    }
}

impl Undecided {
    fn by_writing(error: StorageError) -> Self {
        Self { was_sent: !error.is_refusal(), error, is_forgotten: false }
    }

    fn after_sending(error: StorageError) -> Self {
        Self { error, was_sent: true, is_forgotten: false }
    }
}

impl From<Undecided> for StorageError {
    fn from(Undecided { error, was_sent, .. }: Undecided) -> Self {
        match error {
            // The last write was refused, but not one before it.
            error if was_sent && error.is_refusal() => Self::Unconfirmed(error.to_string()),
            error => error,
        }
    }
}
