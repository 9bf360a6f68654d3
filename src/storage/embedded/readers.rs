//! A few threads that read from the engine.
//!
//! Threads of our own instead of a runtime's blocking pool: nobody who polls needs a runtime, and the
//! number of reads that are under way or wait is bounded.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crossbeam::channel::{self, Receiver, Sender, TrySendError};
use tokio::sync::oneshot;

use super::engine::{Engine, Slot, panic_text};
use crate::storage::StorageError;

/// Reads mostly wait for the disk, or are short.
const THREADS: usize = 4;
const WAITING_MAX: usize = 4096;

type Job = Box<dyn FnOnce(&Slot) + Send>;

/// Hands reads to the threads, which end when this is dropped.
pub(super) struct Readers {
    jobs: Sender<Job>,
}

impl Readers {
    pub fn start(engine: Slot) -> io::Result<Self> {
        let (jobs, queue) = channel::bounded::<Job>(WAITING_MAX);
        for n in 0..THREADS {
            let (queue, engine) = (queue.clone(), engine.clone());
            std::thread::Builder::new()
                .name(format!("aft-store-read{n}"))
                .spawn(move || run(&queue, &engine))?;
        }
        Ok(Self { jobs })
    }

    pub fn submit<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Engine) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T, StorageError>>, StorageError> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |slot| {
            // Whoever asked may have lost interest, before or meanwhile.
            if !reply.is_closed() {
                let _ = reply.send(read_from(slot, read));
            }
        });
        match self.jobs.try_send(job) {
            Ok(()) => Ok(answer),
            Err(TrySendError::Full(_)) => {
                Err(StorageError::Refused(format!("{WAITING_MAX} reads wait already")))
            }
            Err(TrySendError::Disconnected(_)) => Err(super::closed()),
        }
    }
}

fn run(queue: &Receiver<Job>, engine: &Slot) {
    for job in queue {
        job(engine);
    }
}

fn read_from<T>(
    slot: &Slot,
    read: impl FnOnce(&Engine) -> Result<T, StorageError>,
) -> Result<T, StorageError> {
    let engine = slot.get().ok_or_else(|| {
        StorageError::Unconfirmed("the store is being opened again after a failure".into())
    })?;
    // Nothing of ours is changed by a read, and the engine guards what it shares between threads.
    catch_unwind(AssertUnwindSafe(|| read(&engine)))
        .unwrap_or_else(|panic| Err(StorageError::Damaged(panic_text(&*panic))))
}
