//! What is done to the store without a sidecar, one thing at a time, and timed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::try_join_all;
use serde::Serialize;

use crate::anna::client::{Acks, Client};
use crate::anna::lattice::Lattice;
use crate::bench::BenchError;
use crate::bench::batches::{Batches, Shape};
use crate::bench::place::{Place, Store, not_done};
use crate::storage::{CommitBatch, Storage, StorageError};

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Work {
    /// A PUT of a key that nobody has asked for.
    FirstPut,
    /// The same, when the key's address was looked up before.
    FoundPut,
    /// The same, when somebody has read the key before, in vain.
    ReadPut,
    /// A PUT of a key that was written before.
    KnownPut,
    /// A GET of such a key.
    Get,
    /// A commit of an id of which the store was not told before.
    Commit,
    /// A commit of an id of which the store was told when the transaction first wrote.
    ExpectedCommit,
}

impl Work {
    pub(super) const ALL: [Self; 7] = [
        Self::FirstPut,
        Self::FoundPut,
        Self::ReadPut,
        Self::KnownPut,
        Self::Get,
        Self::Commit,
        Self::ExpectedCommit,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::FirstPut => "PUT, first touch",
            Self::FoundPut => "PUT, first touch, address known",
            Self::ReadPut => "PUT, after a GET in vain",
            Self::KnownPut => "PUT, known key",
            Self::Get => "GET, known key",
            Self::Commit => "commit, not expected",
            Self::ExpectedCommit => "commit",
        }
    }
}

/// Does one thing after the other.
pub(super) struct Direct {
    client: Client,
    store: Arc<Store>,
    batches: Batches,
    /// New keys are numbered.
    run: String,
    made: u64,
    value: Bytes,
}

impl Direct {
    pub(super) fn new(place: &Place, client: Client, store: Arc<Store>, shape: Shape) -> Self {
        let batches = Batches::new(0, shape);
        // Values of one size follow those of another.
        let run = format!("{}-{}", place.run, shape.value_bytes);
        let value = vec![7; shape.value_bytes].into();
        Self { client, store, batches, run, made: 0, value }
    }

    /// Does the work until the time is over, and tells how long it took each time.
    pub(super) async fn repeat(
        &mut self,
        work: Work,
        time: Duration,
        mut took: impl FnMut(Duration),
    ) -> Result<(), BenchError> {
        let began = Instant::now();
        while began.elapsed() < time {
            took(self.once(work).await?);
        }
        Ok(())
    }

    /// How long the work took; what it needs beforehand and what follows it are left out.
    pub(super) async fn once(&mut self, work: Work) -> Result<Duration, BenchError> {
        match work {
            Work::Commit | Work::ExpectedCommit => self.commit(work == Work::ExpectedCommit).await,
            _ => self.single(work).await,
        }
    }

    async fn single(&mut self, work: Work) -> Result<Duration, BenchError> {
        self.made += 1;
        let new = format!("bench-{}-{}", self.run, self.made);
        let known = format!("bench-{}", self.run);
        match work {
            Work::FoundPut => {
                self.client.prefetch(&new);
                self.let_time_pass().await?;
            }
            Work::ReadPut => drop(self.client.get(&new).await.map_err(not_done)?),
            Work::KnownPut | Work::Get => self.put(&known).await?,
            _ => {}
        }
        let began = Instant::now();
        match work {
            Work::Get => drop(self.client.get(&known).await.map_err(not_done)?),
            Work::KnownPut => self.put(&known).await?,
            _ => self.put(&new).await?,
        }
        Ok(began.elapsed())
    }

    async fn put(&self, key: &str) -> Result<(), BenchError> {
        let value = Lattice::Lww { timestamp: self.made, value: self.value.clone() };
        self.client.put(key, value, Acks::Any).await.map_err(not_done)
    }

    async fn commit(&mut self, is_expected: bool) -> Result<Duration, BenchError> {
        let batch = self.batches.next();
        if is_expected {
            self.store.expect(&batch.commit.version.writer.base());
            self.let_time_pass().await?;
        }
        let began = Instant::now();
        self.store.commit(batch.clone()).await?;
        let took = began.elapsed();
        publish(&self.store, &batch).await?;
        Ok(took)
    }

    /// Longer than a look-up takes, without going to sleep.
    async fn let_time_pass(&self) -> Result<(), BenchError> {
        for _ in 0..3 {
            self.client.get("bench").await.map_err(not_done)?;
        }
        Ok(())
    }
}

/// Does what a sidecar does after a commit.
pub(super) async fn publish(store: &Store, batch: &CommitBatch) -> Result<(), StorageError> {
    let version = &batch.commit.version;
    let values = batch.commit.keys.iter().zip(&batch.values);
    let publications = values.map(|(written, value)| store.publish(&written.key, version, value));
    try_join_all(publications).await.map(drop)
}

/// Runs a future on this thread.
pub(super) fn block_on<T>(
    work: impl Future<Output = Result<T, BenchError>>,
) -> Result<T, BenchError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(crate::bench::system("make a runtime"))?.block_on(work)
}
