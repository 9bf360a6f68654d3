//! `aft gc`: looks through a store for garbage that no sidecar collected, alone or as one of several
//! processes that share the work by hashing.
//!
//! What a sidecar does beside its work, done by a process that does nothing else: for stores that nobody
//! uses, and for shared ones so large that the sidecars would take long.

use std::time::Duration;

use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use super::clock::Clock;
use super::config::Settings;
use super::rest::{self, RestError};
use super::sidecar::node_config;
use super::trouble::Trouble;
use crate::node::NodeConfig;
use crate::storage::{Share, Storage, StorageError, Swept};

/// What of a pass is found only when what it deleted has gone: records after their versions.
const PASSES_ONCE: u64 = 2;
/// How often a call is made again before the work is given up, if it is to end.
const TRIES: u32 = 10;
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Why nothing was collected, or not all.
#[derive(Debug, thiserror::Error)]
pub enum GcError {
    /// Opening the store.
    #[error(transparent)]
    Rest(#[from] RestError),
    /// Others than sidecars cannot.
    #[error(
        "this store is looked through by its sidecars only, each of which goes through what it has written itself: \
         nothing is left to do for others"
    )]
    Hoards,
    /// It does not do what was asked.
    #[error("gave up after {TRIES} tries: {0}")]
    Store(StorageError),
    /// The operating system.
    #[error("the operating system refused to tell of signals: {0}")]
    System(#[from] std::io::Error),
}

/// How the work is done.
#[derive(Debug, Clone, Copy)]
pub struct GcOptions {
    /// Which part of the store is this process's.
    pub share: Share,
    /// End when everything was looked through, instead of going on for ever.
    pub once: bool,
    /// Entries looked at in a second, at most.
    pub entries_per_s: Option<u32>,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Collected {
    /// How often the whole store was looked through.
    pub passes: u64,
    /// What was found in all.
    pub swept: Swept,
    /// How long it took.
    pub seconds: f64,
}

/// Looks through the store until it is done, or until SIGTERM or SIGINT comes. `progress` is told after
/// each call how far it is.
pub fn run(
    settings: &Settings,
    options: &GcOptions,
    progress: impl FnMut(&Collected),
) -> Result<Collected, GcError> {
    rest::with_store(settings, async |store| {
        if !store.collects_garbage() {
            return Err(GcError::Hoards);
        }
        let mut config = node_config(settings, store, 0);
        let most = options.entries_per_s.map_or(usize::MAX, |most| most as usize);
        config.sweep_entries = config.sweep_entries.min(most);
        let mut sweeper = Sweeper { store, options, config, done: Collected::default(), progress };
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            ended = sweeper.run() => ended?,
            _ = terminate.recv() => tracing::info!("told to end"),
            _ = interrupt.recv() => tracing::info!("told to end"),
        }
        Ok(sweeper.done)
    })?
}

struct Sweeper<'a, P> {
    store: &'a dyn Storage,
    options: &'a GcOptions,
    config: NodeConfig,
    done: Collected,
    progress: P,
}

impl<P: FnMut(&Collected)> Sweeper<'_, P> {
    async fn run(&mut self) -> Result<(), GcError> {
        let clock = Clock::start();
        let mut trouble = Trouble::new("cannot look through the store");
        let mut failures = 0;
        loop {
            let began = clock.elapsed();
            let sweep = self.config.sweep(clock.now().wall_ns, self.options.share);
            let swept = match self.store.sweep(&sweep).await {
                Err(error) if self.options.once && failures == TRIES => {
                    return Err(GcError::Store(error));
                }
                result => trouble.note(result),
            };
            let Some(swept) = swept else {
                failures += 1;
                sleep(PAUSE_AFTER_FAILURE).await;
                continue;
            };
            failures = 0;
            self.done.swept += swept;
            self.done.seconds = clock.elapsed().as_secs_f64();
            self.done.passes += u64::from(swept.end);
            (self.progress)(&self.done);
            if swept.end && self.is_over() {
                return Ok(());
            }
            sleep(self.pause(&swept, clock.elapsed().saturating_sub(began))).await;
        }
    }

    /// Another pass has been made. Is it the last?
    fn is_over(&self) -> bool {
        let Collected { passes, swept, seconds } = self.done;
        tracing::info!(passes, ?swept, seconds, "looked through the store");
        self.options.once && passes >= PASSES_ONCE
    }

    /// How long the store is left alone after a call that took so long.
    fn pause(&self, swept: &Swept, took: Duration) -> Duration {
        if swept.end && !self.options.once {
            return self.config.sweep_each;
        }
        let Some(per_s) = self.options.entries_per_s else { return Duration::ZERO };
        let due = swept.looked_at as f64 / f64::from(per_s.max(1));
        Duration::from_secs_f64(due).saturating_sub(took)
    }
}
