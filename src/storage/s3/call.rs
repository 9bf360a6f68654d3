//! One request to the object store: how long it is waited for, when it is repeated, and what its failure
//! means.
//!
//! The client's own retries are off, since only who counts the attempts can tell what may have happened: if
//! none of them was taken nothing was written, and a commit may be given up for good; if one was left
//! without an answer, it may have been done.

use std::error::Error as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use object_store::Error;
use object_store::client::{HttpError, HttpErrorKind};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::storage::StorageError;

/// How long an attempt waits for an answer, besides the time for its bytes.
const ATTEMPT_MAX: Duration = Duration::from_secs(3);
/// How fast bytes are sent and received at least, in bytes a second.
const BYTES_A_SECOND: u64 = 2 << 20;
/// How often a request is sent.
const ATTEMPTS_MAX: u32 = 5;
const PAUSE_FIRST: Duration = Duration::from_millis(40);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// The credentials are about to be renewed, the clock to be set, or it did not arrive as a whole.
const NOT_YET: [&str; 3] = ["ExpiredToken", "RequestTimeTooSkewed", "RequestTimeout"];
/// Requests under way at once; others wait.
const REQUESTS_MAX: usize = 128;

/// What came of a request that was understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer<T> {
    Done(T),
    /// There is no such object.
    Missing,
    /// There is one already, it is not the one that was meant, or somebody else is writing it.
    Kept,
}

/// What the failure of one attempt says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Missing,
    Kept,
    /// Not done, and to ask again is of no use.
    Never(String),
    /// Not done: it never arrived, or it is too much at the moment.
    NotTaken(String),
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

/// What a request costs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Price {
    Put,
    Get,
    List,
    Delete,
}

#[derive(Debug, Default)]
struct Counts {
    requests: [AtomicU64; 4],
    repeated: AtomicU64,
    not_taken: AtomicU64,
    unanswered: AtomicU64,
}

impl Caller {
    pub fn new(seed: u64) -> Self {
        Self {
            permits: Semaphore::new(REQUESTS_MAX),
            random: Mutex::new(Rng::with_seed(seed)),
            counts: Counts::default(),
        }
    }

    /// Sends a request, again if need be.
    pub async fn call<T, F>(
        &self,
        price: Price,
        send: impl Fn() -> F,
    ) -> Result<Answer<T>, StorageError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut may_be_done = false;
        let mut last = String::new();
        for attempt in 0..ATTEMPTS_MAX {
            if attempt > 0 {
                self.counts.repeated.fetch_add(1, Ordering::Relaxed);
                sleep(self.pause(attempt)).await;
            }
            let error = {
                let _permit = self.permits.acquire().await;
                self.counts.requests[price as usize].fetch_add(1, Ordering::Relaxed);
                match send().await {
                    Ok(done) => return Ok(Answer::Done(done)),
                    Err(error) => error,
                }
            };
            last = match judge(&error) {
                Verdict::Missing => return Ok(Answer::Missing),
                Verdict::Kept => return Ok(Answer::Kept),
                Verdict::Never(why) if may_be_done => return Err(StorageError::Unconfirmed(why)),
                Verdict::Never(why) => return Err(StorageError::Refused(why)),
                Verdict::NotTaken(why) => {
                    self.counts.not_taken.fetch_add(1, Ordering::Relaxed);
                    why
                }
                Verdict::Unknown(why) => {
                    self.counts.unanswered.fetch_add(1, Ordering::Relaxed);
                    may_be_done = true;
                    why
                }
            };
            tracing::debug!(attempt, "S3: {last}");
        }
        let error = format!("{last} (asked {ATTEMPTS_MAX} times)");
        Err(if may_be_done {
            StorageError::Unconfirmed(error)
        } else {
            StorageError::Refused(error)
        })
    }

    /// How long to wait before an attempt: up to twice as long as before the one before it, at random, so
    /// that those who were throttled together do not come back together.
    fn pause(&self, attempt: u32) -> Duration {
        let longest = PAUSE_FIRST.saturating_mul(1 << attempt.min(10)).min(PAUSE_MAX);
        longest.mul_f64(0.5 + 0.5 * self.random.lock().f64())
    }

    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        let counts = &self.counts;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let requests = |price: Price| get(&counts.requests[price as usize]);
        vec![
            ("s3_puts", requests(Price::Put)),
            ("s3_gets", requests(Price::Get)),
            ("s3_lists", requests(Price::List)),
            ("s3_deletes", requests(Price::Delete)),
            ("s3_repeated", get(&counts.repeated)),
            ("s3_throttled", get(&counts.not_taken)),
            ("s3_unanswered", get(&counts.unanswered)),
        ]
    }
}

/// Waits for an answer, or for so many bytes, but not for ever.
pub(super) async fn within<T>(
    bytes: u64,
    answer: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let wait_max = ATTEMPT_MAX + Duration::from_millis(bytes * 1000 / BYTES_A_SECOND);
    timeout(wait_max, answer).await.unwrap_or_else(|_| {
        let source = format!("no answer within {wait_max:?}").into();
        Err(Error::Generic { store: "S3", source })
    })
}

pub(super) fn judge(error: &Error) -> Verdict {
    let why = told(error);
    match error {
        Error::NotFound { .. } if why.contains("NoSuchBucket") => Verdict::Never(why),
        Error::NotFound { .. } => Verdict::Missing,
        Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotModified { .. } => {
            Verdict::Kept
        }
        _ if NOT_YET.iter().any(|code| why.contains(code)) => Verdict::NotTaken(why),
        Error::Generic { .. } => judge_failure(error, why),
        _ => Verdict::Never(why),
    }
}

fn judge_failure(error: &Error, why: String) -> Verdict {
    let kind =
        causes(error).find_map(|cause| cause.downcast_ref::<HttpError>().map(HttpError::kind));
    match (kind, status_in(&why)) {
        (Some(HttpErrorKind::Connect), _) => Verdict::NotTaken(why),
        (_, Some(429)) => Verdict::NotTaken(why),
        (_, Some(503)) if why.contains("SlowDown") => Verdict::NotTaken(why),
        (_, Some(400..500)) => Verdict::Never(why),
        _ => Verdict::Unknown(why),
    }
}

/// The HTTP status of an answer. The client tells it in words only.
pub(super) fn status_in(why: &str) -> Option<u16> {
    let (_, behind) = why.split_once("status code: ")?;
    behind.get(..3)?.parse().ok()
}

fn causes(error: &Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(error.source(), |&cause| cause.source())
}

/// An error with its causes, each once.
pub(super) fn told(error: &Error) -> String {
    let mut whole = error.to_string();
    for cause in causes(error) {
        let text = cause.to_string();
        if !whole.contains(&text) {
            whole = format!("{whole}: {text}");
        }
    }
    whole
}
