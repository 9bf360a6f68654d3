//! What goes on beside the worker when the store is shared with others: looking for their commits,
//! housekeeping, clearing up behind a dead predecessor, and telling what is cached here.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, sleep};

use super::clock::Clock;
use super::trouble::Trouble;
use super::worker::{Command, Handle};
use crate::storage::{LogPosition, LogScope, Storage};

/// How often others' commits are looked for.
const FOLLOW_EACH: Duration = Duration::from_secs(1);
const TEND_EACH: Duration = Duration::from_secs(1);
const CLEAR_UP_PAUSE: Duration = Duration::from_secs(2);

/// Begins all of it. `position` is where the log was read to; `report_each` is how often it is told
/// what is cached, if at all.
pub(super) fn start(
    runtime: &tokio::runtime::Runtime,
    store: &Arc<dyn Storage>,
    worker: &Handle,
    position: LogPosition,
    report_each: Option<Duration>,
) {
    runtime.spawn(follow(store.clone(), worker.clone(), position));
    runtime.spawn(tend(store.clone()));
    runtime.spawn(clear_up(store.clone(), worker.clone()));
    if let Some(each) = report_each {
        runtime.spawn(report(store.clone(), worker.clone(), each));
    }
}

async fn follow(store: Arc<dyn Storage>, worker: Handle, mut position: LogPosition) {
    let mut trouble = Trouble::new("cannot look for commits of other sidecars");
    let mut begins = true;
    loop {
        if std::mem::take(&mut begins) {
            worker.send(Command::LogIsBeingRead);
        }
        let page = store.commits_since(&position, LogScope::Others).await;
        let mut is_end = true;
        if let Some(page) = trouble.note(page) {
            is_end = page.end;
            position = page.next;
            if !page.commits.is_empty() {
                worker.send(Command::Learned(page.commits));
            }
            if is_end {
                worker.send(Command::LogWasRead);
            }
        }
        if is_end {
            begins = true;
            sleep(FOLLOW_EACH).await;
        }
    }
}

async fn tend(store: Arc<dyn Storage>) {
    let mut trouble = Trouble::new("cannot do what the store wants done regularly");
    let mut ticks = interval(TEND_EACH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        trouble.note(store.tend().await);
    }
}

async fn clear_up(store: Arc<dyn Storage>, worker: Handle) {
    sleep(store.lands_within().unwrap_or_default()).await;
    let clock = Clock::start();
    let mut trouble = Trouble::new("cannot clear up behind an earlier run");
    loop {
        if let Some(commits) = trouble.note(store.clear_up(clock.now().wall_ns).await) {
            if !commits.is_empty() {
                tracing::info!(commits = commits.len(), "found commits of an earlier run");
                worker.send(Command::Learned(commits));
            }
            return;
        }
        sleep(CLEAR_UP_PAUSE).await;
    }
}

async fn report(store: Arc<dyn Storage>, worker: Handle, each: Duration) {
    let mut trouble = Trouble::new("cannot report which keys are cached here");
    let clock = Clock::start();
    let mut reported = None;
    let mut ticks = interval(each);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(keys) = worker.cached_keys().await else { return };
        if reported.as_ref() == Some(&keys) {
            continue;
        }
        let told = store.advertise(keys.clone(), clock.now().wall_ns).await;
        if trouble.note(told).is_some() {
            reported = Some(keys);
        }
    }
}
