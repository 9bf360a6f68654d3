//! The log of this process: numbers for its entries, which of them are settled, and the right to add more.
//!
//! The right is a lease. Each [`OwnLog::beat`] counts up in the list of logs; whoever sees the count stand
//! still for three leases closes the log (see `close.rs`). Before a commit's record is sent, a beat must
//! have been sent within the last lease and confirmed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::clock;
use super::item;
use super::logs::{self, Log};
use super::names;
use super::table::{Put, Table};
use crate::storage::StorageError;
use crate::txn::BaseId;

/// How often the list of logs is told at least that this process lives, as a part of the lease.
const BEATS_A_LEASE: u32 = 4;

/// The log of this process. There is a new one for each life of it, and after each long pause.
#[derive(Debug)]
pub(super) struct OwnLog {
    node: String,
    /// No other process has this one.
    incarnation: u64,
    pub lease: Duration,
    state: Mutex<State>,
    /// Held by whoever tells the list of logs something.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    current: Option<Current>,
    /// All that this process ever had.
    names: BTreeSet<String>,
}

#[derive(Debug)]
struct Current {
    log: Log,
    /// When the last beat was sent that was confirmed.
    beaten: Duration,
    next: u64,
    /// Entries that are not settled.
    open: BTreeMap<u64, Stage>,
}

/// How far an entry is that is not settled.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    /// A commit is at it.
    Busy,
    /// The commit was given up before its record was sent, or another outcome of its id was first.
    Lost,
    /// Its record was sent, and it is not known what became of it.
    Unknown { id: BaseId, since: Duration },
}

/// An entry that nobody is at.
#[derive(Debug, Clone)]
pub(super) struct Unsettled {
    pub entry: names::Name,
    pub sequence: u64,
    /// The id whose record was sent, and how long ago.
    pub sent: Option<(BaseId, Duration)>,
}

impl OwnLog {
    pub fn new(node: String, incarnation: u64, lease: Duration) -> Self {
        let (state, turn) = Default::default();
        Self { node, incarnation, lease, state, turn }
    }

    /// Whether a log is, or was, that of this process.
    pub fn is_own(&self, name: &str) -> bool {
        self.state.lock().names.contains(name)
    }

    /// The next entry of the log, which is begun if there is none.
    pub async fn claim(self: &Arc<Self>, table: &Table) -> Result<Slot, StorageError> {
        if let Some(slot) = self.next_slot() {
            return Ok(slot);
        }
        let _turn = self.turn.lock().await;
        if self.state.lock().current.is_none() {
            self.begin(table).await?;
        }
        let lost =
            || StorageError::Unconfirmed("the log was closed as soon as it was begun".into());
        self.next_slot().ok_or_else(lost)
    }

    fn next_slot(self: &Arc<Self>) -> Option<Slot> {
        let mut state = self.state.lock();
        let current = state.current.as_mut()?;
        // This entry itself is not settled.
        let low = current.low();
        let sequence = current.next;
        current.next += 1;
        current.open.insert(sequence, Stage::Busy);
        let log = current.log.name.clone();
        Some(Slot { own: self.clone(), log, sequence, low, sent: None })
    }

    async fn begin(&self, table: &Table) -> Result<(), StorageError> {
        let count = self.state.lock().names.len();
        let name = format!("{:016x}-{count}", self.incarnation);
        let log = Log {
            name: name.clone(),
            node: self.node.clone(),
            beat: 1,
            low: 0,
            is_closing: false,
            is_closed: false,
        };
        let beaten = clock::elapsed();
        // If it is there already, an answer was lost: nobody else has the name.
        table.put_new(log.to_item()).await?;
        let mut state = self.state.lock();
        state.names.insert(name);
        state.current = Some(Current { log, beaten, next: 0, open: BTreeMap::new() });
        Ok(())
    }

    /// Tells the list of logs that this process lives, and how far its log is settled. If the log was
    /// closed, there is none any more.
    pub async fn beat(&self, table: &Table) -> Result<(), StorageError> {
        let _turn = self.turn.lock().await;
        let Some(log) = self.state.lock().current.as_ref().map(Current::beat) else {
            return Ok(());
        };
        let sent = clock::elapsed();
        let is_kept = tell(table, &log).await?;
        let mut state = self.state.lock();
        if let (true, Some(current)) = (is_kept, state.current.as_mut()) {
            current.log = log;
            current.beaten = sent;
        } else {
            tracing::warn!(
                "this process was silent for so long that its commit log {} was closed; it begins another",
                log.name
            );
            state.current = None;
        }
        Ok(())
    }

    /// Closes the log, so that nobody has to wait until it is silent for long enough. Does nothing if an
    /// entry is not settled.
    pub async fn finish(&self, table: &Table) -> Result<(), StorageError> {
        let _turn = self.turn.lock().await;
        let finished = |current: Current| Log { is_closing: true, ..current.beat() };
        let log = {
            let mut state = self.state.lock();
            let current = state.current.take_if(|current| current.open.is_empty());
            current.map(finished)
        };
        match log {
            Some(log) if tell(table, &log).await? => logs::close(table, log).await,
            _ => Ok(()),
        }
    }

    /// [Beats](Self::beat) if it is time, or if more is settled.
    pub async fn beat_if_due(&self, table: &Table) -> Result<(), StorageError> {
        let is_due = self.state.lock().current.as_ref().is_some_and(|current| {
            let age = clock::elapsed().saturating_sub(current.beaten);
            age >= self.lease / BEATS_A_LEASE || current.low() > current.log.low
        });
        if is_due { self.beat(table).await } else { Ok(()) }
    }

    /// What nobody is at.
    pub fn unsettled(&self) -> Vec<Unsettled> {
        let state = self.state.lock();
        let Some(current) = &state.current else { return Vec::new() };
        let now = clock::elapsed();
        let open = current.open.iter().filter_map(|(&sequence, stage)| {
            let sent = match stage {
                Stage::Busy => return None,
                Stage::Lost => None,
                Stage::Unknown { id, since } => Some((id.clone(), now.saturating_sub(*since))),
            };
            Some(Unsettled { entry: names::entry(&current.log.name, sequence), sequence, sent })
        });
        open.collect()
    }

    /// An entry is settled.
    pub fn settled(&self, entry: &names::Name) {
        let mut state = self.state.lock();
        let Some(current) = &mut state.current else { return };
        if let (true, Ok(sequence)) =
            (entry.pk == names::log(&current.log.name), names::parse_sequence(&entry.sk))
        {
            current.open.remove(&sequence);
        }
    }
}

/// Brings the list of logs up to date. Answers whether the log is still open.
async fn tell(table: &Table, log: &Log) -> Result<bool, StorageError> {
    // What was sent earlier and lands later must not count back.
    let condition = "beat < :beat AND attribute_not_exists(closing)";
    let values = vec![(":beat", item::number(log.beat))];
    Ok(match table.put_if(log.to_item(), condition, values).await? {
        Put::Done => true,
        // The answer to the first attempt may have been lost.
        Put::Kept(Some(found)) => Log::parse(&found)? == *log,
        Put::Kept(None) => false,
    })
}

impl Current {
    fn low(&self) -> u64 {
        self.open.keys().next().copied().unwrap_or(self.next)
    }

    fn beat(&self) -> Log {
        Log { beat: self.log.beat + 1, low: self.low(), ..self.log.clone() }
    }
}

/// One entry of this process's log, held by the commit that it announces. If it is dropped the entry stays
/// unsettled, for the next housekeeping.
#[derive(Debug)]
pub(super) struct Slot {
    own: Arc<OwnLog>,
    log: String,
    pub sequence: u64,
    /// All entries before this were settled when this one was made.
    pub low: u64,
    sent: Option<BaseId>,
}

impl Slot {
    pub fn entry(&self) -> names::Name {
        names::entry(&self.log, self.sequence)
    }

    /// The entry, as an outcome refers to it.
    pub fn place(&self) -> String {
        place(&self.log, self.sequence)
    }

    /// Whether the log is still the one that new entries go to.
    pub fn is_current(&self) -> bool {
        let state = self.own.state.lock();
        state.current.as_ref().is_some_and(|current| current.log.name == self.log)
    }

    /// Whether the lease still holds, and held when the entry was confirmed.
    pub fn is_held(&self) -> bool {
        let state = self.own.state.lock();
        state.current.as_ref().is_some_and(|current| {
            current.log.name == self.log
                && clock::elapsed().saturating_sub(current.beaten) < self.own.lease
        })
    }

    /// The record is about to be sent.
    pub fn sending(&mut self, id: BaseId) {
        self.sent = Some(id);
    }

    /// What was sent lost, or was never there.
    pub fn lost(&mut self) {
        self.sent = None;
    }

    /// The entry is a commit's, or void.
    pub fn settle(self) {
        self.own.settled(&self.entry());
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.own.state.lock();
        let Some(current) = &mut state.current else { return };
        if current.log.name != self.log {
            return;
        }
        if let Some(stage) = current.open.get_mut(&self.sequence) {
            *stage = match self.sent.take() {
                None => Stage::Lost,
                Some(id) => Stage::Unknown { id, since: clock::elapsed() },
            };
        }
    }
}

/// An entry, as an outcome refers to it.
pub(super) fn place(log: &str, sequence: u64) -> String {
    format!("{log}/{}", names::sequence_text(sequence))
}
