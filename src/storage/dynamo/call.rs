//! One request to DynamoDB: how long it is waited for, when it is repeated, and what its failure means.
//!
//! The SDK's own retries are off, since only who counts the attempts can tell what may have happened:
//! if all of them were throttled nothing was written, and a commit may be given up for good; if one was
//! left without an answer, it may have been done.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::ConsumedCapacity;
use fastrand::Rng;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::storage::StorageError;

/// How long an attempt waits for an answer, besides the time for its bytes.
const ATTEMPT_MAX: Duration = Duration::from_millis(2500);
/// How fast bytes are sent and received at least, in bytes a second.
const BYTES_A_SECOND: u64 = 2 << 20;
/// How often a request is sent.
const ATTEMPTS_MAX: u32 = 5;
const PAUSE_FIRST: Duration = Duration::from_millis(40);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Requests under way at once; others wait.
const REQUESTS_MAX: usize = 128;

/// Why a request failed for good.
#[derive(Debug)]
pub(super) enum Failed<E> {
    /// Its condition does not hold.
    Condition(E),
    /// Something else.
    Storage(StorageError),
}

impl<E> From<Failed<E>> for StorageError {
    fn from(failed: Failed<E>) -> Self {
        match failed {
            Failed::Condition(_) => Self::Refused("a condition does not hold".into()),
            Failed::Storage(error) => error,
        }
    }
}

/// What one attempt says of the request.
enum Verdict<E> {
    Condition(E),
    /// Not done, and to ask again is of no use.
    Never(StorageError),
    /// Not done, as it is too much at the moment.
    Throttled(String),
    /// Nobody knows whether it was done.
    Unknown(String),
}

/// Sends requests and counts them.
#[derive(Debug)]
pub(super) struct Caller {
    permits: Semaphore,
    random: Mutex<Rng>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    requests: AtomicU64,
    repeated: AtomicU64,
    throttled: AtomicU64,
    unanswered: AtomicU64,
    /// Capacity units, in tenths, as reads count halves.
    read_tenths: AtomicU64,
    write_tenths: AtomicU64,
}

impl Caller {
    pub fn new(seed: u64) -> Self {
        Self {
            permits: Semaphore::new(REQUESTS_MAX),
            random: Mutex::new(Rng::with_seed(seed)),
            counts: Counts::default(),
        }
    }

    /// Sends a request of about `bytes` (there and back), again if need be.
    pub async fn call<T, E, F>(&self, bytes: usize, send: impl Fn() -> F) -> Result<T, Failed<E>>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let wait_max = ATTEMPT_MAX + Duration::from_millis(bytes as u64 * 1000 / BYTES_A_SECOND);
        let mut may_be_done = false;
        let mut last = String::new();
        for attempt in 0..ATTEMPTS_MAX {
            if attempt > 0 {
                self.counts.repeated.fetch_add(1, Ordering::Relaxed);
                sleep(self.pause(attempt)).await;
            }
            let verdict = match self.attempt(wait_max, &send).await {
                Ok(done) => return Ok(done),
                Err(verdict) => verdict,
            };
            last = match verdict {
                Verdict::Condition(error) => return Err(Failed::Condition(error)),
                Verdict::Never(error) if may_be_done => {
                    return Err(Failed::Storage(StorageError::Unconfirmed(error.to_string())));
                }
                Verdict::Never(error) => return Err(Failed::Storage(error)),
                Verdict::Throttled(why) => {
                    self.counts.throttled.fetch_add(1, Ordering::Relaxed);
                    why
                }
                Verdict::Unknown(why) => {
                    self.counts.unanswered.fetch_add(1, Ordering::Relaxed);
                    may_be_done = true;
                    why
                }
            };
            tracing::debug!(attempt, "DynamoDB: {last}");
        }
        let error = format!("{last} (asked {ATTEMPTS_MAX} times)");
        Err(Failed::Storage(if may_be_done {
            StorageError::Unconfirmed(error)
        } else {
            StorageError::Refused(error)
        }))
    }

    async fn attempt<T, E, F>(
        &self,
        wait_max: Duration,
        send: impl Fn() -> F,
    ) -> Result<T, Verdict<E>>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let _permit = self.permits.acquire().await;
        self.counts.requests.fetch_add(1, Ordering::Relaxed);
        match timeout(wait_max, send()).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(judge(error)),
            Err(_) => Err(Verdict::Unknown(format!("no answer within {wait_max:?}"))),
        }
    }

    /// How long to wait before an attempt: up to twice as long as before the one before it, at random, so
    /// that those who were throttled together do not come back together.
    pub fn pause(&self, attempt: u32) -> Duration {
        let longest = PAUSE_FIRST.saturating_mul(1 << attempt.min(10)).min(PAUSE_MAX);
        longest.mul_f64(0.5 + 0.5 * self.random.lock().f64())
    }

    pub fn throttled(&self) {
        self.counts.throttled.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts what a write cost.
    pub fn wrote<'a>(&self, capacity: impl IntoIterator<Item = &'a ConsumedCapacity>) {
        add(&self.counts.write_tenths, capacity);
    }

    /// Counts what a read cost.
    pub fn read<'a>(&self, capacity: impl IntoIterator<Item = &'a ConsumedCapacity>) {
        add(&self.counts.read_tenths, capacity);
    }

    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        let counts = &self.counts;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        vec![
            ("dynamodb_requests", get(&counts.requests)),
            ("dynamodb_repeated", get(&counts.repeated)),
            ("dynamodb_throttled", get(&counts.throttled)),
            ("dynamodb_unanswered", get(&counts.unanswered)),
            ("dynamodb_read_units", get(&counts.read_tenths) / 10),
            ("dynamodb_write_units", get(&counts.write_tenths) / 10),
        ]
    }
}

fn add<'a>(counter: &AtomicU64, capacity: impl IntoIterator<Item = &'a ConsumedCapacity>) {
    let units: f64 = capacity.into_iter().filter_map(ConsumedCapacity::capacity_units).sum();
    counter.fetch_add((units * 10.0).round() as u64, Ordering::Relaxed);
}

fn judge<E>(error: SdkError<E, HttpResponse>) -> Verdict<E>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match error {
        SdkError::ConstructionFailure(_) => Verdict::Never(StorageError::Refused(told(&error))),
        SdkError::ServiceError(answer) => {
            let status = answer.raw().status().as_u16();
            judge_answer(status, answer.into_err())
        }
        error => Verdict::Unknown(told(&error)),
    }
}

fn judge_answer<E: ProvideErrorMetadata>(status: u16, error: E) -> Verdict<E> {
    let code = error.code().unwrap_or("no code").to_owned();
    let message = error.message().unwrap_or("no message");
    let why = format!("{code}: {message}");
    match code.as_str() {
        "ConditionalCheckFailedException" => Verdict::Condition(error),
        "ProvisionedThroughputExceededException"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestLimitExceeded"
        | "LimitExceededException" => Verdict::Throttled(why),
        // Another request on the same item was first; or the credentials were about to be renewed.
        "TransactionConflictException"
        | "TransactionInProgressException"
        | "ReplicatedWriteConflictException"
        | "ExpiredTokenException"
        | "RequestTimeTooSkewed" => Verdict::Throttled(why),
        "ValidationException" | "ItemCollectionSizeLimitExceededException" => {
            Verdict::Never(StorageError::Unsuitable(why))
        }
        _ if (400..500).contains(&status) => Verdict::Never(StorageError::Refused(why)),
        _ => Verdict::Unknown(why),
    }
}

/// An error with its causes, each once.
pub(super) fn told(error: &dyn std::error::Error) -> String {
    let mut whole = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !whole.contains(&text) {
            whole = format!("{whole}: {text}");
        }
        cause = error.source();
    }
    whole
}
