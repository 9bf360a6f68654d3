//! The one thread that writes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError};
use tokio::sync::oneshot;

use super::guard::Guard;
use super::tables::Tables;
use super::{EmbeddedOptions, SharedTables};
use crate::storage::{CommitBatch, StorageError};
use crate::txn::{BaseId, Outcome};

/// Requests made durable with one sync.
const GROUP_REQUESTS_MAX: usize = 1_024;
/// Bytes of values after which a group is full.
const GROUP_BYTES_MAX: usize = 16 << 20;
const REOPEN_PAUSE: Duration = Duration::from_millis(200);

type Answer = oneshot::Sender<Result<Outcome, StorageError>>;

/// What the writer is asked.
pub(super) enum Request {
    Commit { batch: CommitBatch, answer: Answer },
    SettleAborted { id: BaseId, answer: Answer },
    Close,
}

/// See the [module's page](self).
pub(super) struct Writer {
    path: PathBuf,
    options: EmbeddedOptions,
    guard: Guard,
    shared: SharedTables,
    requests: Receiver<Request>,
    /// The number of the last log entry.
    last: u64,
}

/// Answers that are given once the group is durable.
type Answers = Vec<(Answer, Outcome)>;

impl Writer {
    pub(super) fn new(
        path: &Path,
        options: EmbeddedOptions,
        guard: Guard,
        shared: SharedTables,
        requests: Receiver<Request>,
        last: u64,
    ) -> Self {
        Self { path: path.to_owned(), options, guard, shared, requests, last }
    }

    pub(super) fn run(mut self) {
        while let Ok(first) = self.requests.recv() {
            let (group, bytes, closing) = self.gather(first);
            self.write(group, bytes);
            if closing {
                break;
            }
        }
        // The database is closed before the guard lets go of the directory.
        *self.shared.write() = None;
    }

    /// Everything that waits by now, within bounds.
    fn gather(&self, first: Request) -> (Vec<Request>, usize, bool) {
        let mut group = Vec::new();
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(request) = next {
            match &request {
                Request::Close => return (group, bytes, true),
                Request::Commit { batch, .. } => {
                    let keys = batch.commit.keys.iter().map(|written| written.key.as_str().len());
                    let values = batch.values.iter().map(|value| value.len());
                    bytes += keys.chain(values).sum::<usize>();
                }
                Request::SettleAborted { .. } => {}
            }
            group.push(request);
            let is_full = group.len() >= GROUP_REQUESTS_MAX || bytes >= GROUP_BYTES_MAX;
            next = if is_full { None } else { self.requests.try_recv().ok() };
        }
        (group, bytes, false)
    }

    fn write(&mut self, group: Vec<Request>, bytes: usize) {
        let Some(tables) = self.shared.read().clone() else {
            return answer_all(group, &StorageError::Unconfirmed("the store is closed".to_owned()));
        };
        if let Err(error) = self.has_room(bytes) {
            return answer_all(group, &error);
        }
        let last_before = self.last;
        let mut batch = tables.batch();
        let answers = self.decide(&tables, &mut batch, group);
        match tables.write(batch) {
            Ok(()) => {
                self.guard.mark(self.last);
                for (answer, outcome) in answers {
                    let _ = answer.send(Ok(outcome));
                }
            }
            Err(error) => {
                tracing::error!(%error, "the store cannot write and is opened again");
                self.last = last_before;
                drop(tables);
                for (answer, _) in answers {
                    let _ = answer.send(Err(StorageError::Unconfirmed(error.to_string())));
                }
                self.reopen();
            }
        }
    }

    /// Decides each request against what is stored and what was decided before it in this group.
    fn decide(
        &mut self,
        tables: &Tables,
        batch: &mut fjall::OwnedWriteBatch,
        group: Vec<Request>,
    ) -> Answers {
        let mut answers = Vec::with_capacity(group.len());
        let mut decided: HashMap<BaseId, Outcome> = HashMap::new();
        for request in group {
            let (id, answer, commit) = match request {
                Request::Commit { batch, answer } => {
                    (batch.commit.version.writer.base(), answer, Some(batch))
                }
                Request::SettleAborted { id, answer } => (id, answer, None),
                Request::Close => continue,
            };
            let before = match decided.get(&id) {
                Some(outcome) => Ok(Some(outcome.clone())),
                None => tables.outcome(&id),
            };
            let outcome = match (before, commit) {
                (Err(error), _) => {
                    let _ = answer.send(Err(StorageError::Unconfirmed(error.to_string())));
                    continue;
                }
                (Ok(Some(outcome)), _) => outcome,
                (Ok(None), Some(commit)) => {
                    self.last += 1;
                    tables.add_commit(batch, self.last, &commit);
                    Outcome::Committed(commit.commit)
                }
                (Ok(None), None) => {
                    tables.add_aborted(batch, &id);
                    Outcome::Aborted
                }
            };
            decided.insert(id, outcome.clone());
            answers.push((answer, outcome));
        }
        answers
    }

    /// Refuses before anything is written when the disk is nearly full: a write that fails half-way
    /// makes the database refuse all others.
    fn has_room(&self, bytes: usize) -> Result<(), StorageError> {
        let Ok(disk) = rustix::fs::statvfs(&self.path) else {
            return Ok(());
        };
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let needed = self.options.reserve_bytes + 2 * bytes as u64;
        if free >= needed {
            return Ok(());
        }
        Err(StorageError::Refused(format!(
            "the disk of {} is full ({free} bytes are free, {needed} are needed); make room",
            self.path.display()
        )))
    }

    /// Opens the database again, however long it takes. Requests are answered meanwhile.
    fn reopen(&mut self) {
        *self.shared.write() = None;
        loop {
            match Tables::open(&self.path, &self.options) {
                Ok(tables) => match tables.last_position() {
                    Ok(last) => {
                        self.last = last;
                        *self.shared.write() = Some(tables);
                        tracing::warn!("the store is open again");
                        return;
                    }
                    Err(error) => tracing::error!(%error, "the store cannot be read"),
                },
                Err(error) => tracing::debug!(%error, "the store cannot be opened yet"),
            }
            if self.answer_for(REOPEN_PAUSE) {
                return;
            }
        }
    }

    /// Answers that nothing can be confirmed, for a while. Tells whether the store is to be closed.
    fn answer_for(&self, pause: Duration) -> bool {
        let until = crossbeam::channel::after(pause);
        while until.is_empty() {
            match self.requests.recv_timeout(pause) {
                Ok(Request::Close) | Err(RecvTimeoutError::Disconnected) => return true,
                Ok(request) => {
                    let why = "the store is being opened again after a failure".to_owned();
                    answer_all(vec![request], &StorageError::Unconfirmed(why));
                }
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
        false
    }
}

fn answer_all(group: Vec<Request>, error: &StorageError) {
    for request in group {
        let (Request::Commit { answer, .. } | Request::SettleAborted { answer, .. }) = request
        else {
            continue;
        };
        let _ = answer.send(Err(error.clone()));
    }
}
