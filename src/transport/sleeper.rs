//! Sleeps until a socket can be read, and lets the tasks of a runtime go on meanwhile, in the same thread.
//!
//! An answer of the store that comes to the very thread which waits for it costs no change of threads. That is
//! for stores whose part of the work is small.

use std::future::poll_fn;
use std::os::fd::{AsRawFd, RawFd};
use std::task::Poll;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Runtime;

use super::TransportError;

/// See the [module's page](self).
pub struct Sleeper {
    runtime: Runtime,
    watched: Vec<AsyncFd<Descriptor>>,
}

/// Of a socket of [`Sockets`](super::Sockets), which drop them later than the sleeper.
struct Descriptor(RawFd);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

impl Sleeper {
    /// For a runtime that has no threads of its own: it goes on only here.
    pub fn new(runtime: Runtime) -> Self {
        Self { runtime, watched: Vec::new() }
    }

    /// The runtime.
    pub fn into_runtime(self) -> Runtime {
        self.runtime
    }

    /// Wakes up for these, too.
    pub(super) fn watch(
        &mut self,
        descriptors: impl IntoIterator<Item = RawFd>,
    ) -> Result<(), TransportError> {
        let _entered = self.runtime.enter();
        for descriptor in descriptors {
            // What is wanted in its place is to promise, in unsafe code, that the descriptor stays open: see above.
            #[allow(deprecated)]
            let watched = AsyncFd::with_interest(Descriptor(descriptor), Interest::READABLE)?;
            self.watched.push(watched);
        }
        Ok(())
    }

    /// Sleeps at most so long, unless `is_ready` by now. Tasks that can go on do so in any case.
    pub(super) fn sleep(&self, timeout: Option<Duration>, is_ready: impl FnOnce() -> bool) {
        self.runtime.block_on(async {
            self.forget();
            // What came before that is seen here, what comes later wakes.
            match timeout {
                Some(Duration::ZERO) => tokio::task::yield_now().await,
                _ if is_ready() => tokio::task::yield_now().await,
                Some(time) => drop(tokio::time::timeout(time, self.any()).await),
                None => self.any().await,
            }
        });
    }

    /// Forgets what was readable.
    fn forget(&self) {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        for watched in &self.watched {
            if let Poll::Ready(Ok(mut ready)) = watched.poll_read_ready(&mut context) {
                ready.clear_ready();
            }
        }
    }

    /// Waits until any can be read.
    async fn any(&self) {
        poll_fn(|context| {
            let mut watched = self.watched.iter();
            match watched.any(|one| one.poll_read_ready(context).is_ready()) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::super::{CALLS, Called, CallingClient, OutboxLimits, ReplyTo, Sockets};

    const SOON: Duration = Duration::from_secs(10);

    fn near() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn a_task_wakes_the_thread_in_which_it_runs() {
        let mut sockets = Sockets::new(OutboxLimits::default()).unwrap();
        let (runtime, wake) = (near(), sockets.waker());
        runtime.spawn(async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            wake.wake();
        });
        sockets.sleep_in(runtime).unwrap();
        sockets.waker().may_sleep();
        // For ever, if nobody wakes it.
        sockets.wait(None, &mut Vec::new());
        assert!(sockets.wake_up().is_some());
    }

    #[test]
    fn tasks_go_on_while_there_is_no_time_to_sleep() {
        let mut sockets = Sockets::new(OutboxLimits::default()).unwrap();
        let (runtime, steps) = (near(), Arc::new(AtomicU32::new(0)));
        let counted = steps.clone();
        runtime.spawn(async move {
            loop {
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        sockets.sleep_in(runtime).unwrap();
        for _ in 0..100 {
            sockets.wait(Some(Duration::ZERO), &mut Vec::new());
        }
        assert!(steps.load(Ordering::Relaxed) >= 100);
    }

    #[test]
    fn requests_wake_whatever_came_before() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("call");
        let mut sockets = Sockets::new(OutboxLimits::default()).unwrap();
        sockets.bind_callers(&path, 1_000).unwrap();
        sockets.sleep_in(near()).unwrap();
        let client = std::thread::spawn(move || {
            let mut client = CallingClient::open(&path, SOON).unwrap();
            (0..500u32).all(|number| {
                let request = number.to_ne_bytes();
                client.call(2, &request).is_some_and(|answer| answer == request[..])
            })
        });
        let (mut answered, mut readable) = (0, Vec::new());
        while answered < 500 {
            sockets.wait(sockets.next_tick().map(|_| Duration::from_millis(1)), &mut readable);
            sockets.tick(Duration::ZERO);
            // As often as not it finds nothing; then it sleeps again.
            assert!(readable.is_empty() || readable == [CALLS]);
            while let Some(Called::Request(call)) = sockets.call() {
                sockets.reply(&ReplyTo::Caller(call.caller), call.request.unwrap().to_vec());
                answered += 1;
            }
        }
        assert!(client.join().unwrap());
    }
}
