//! The loop around a server: one thread that owns its sockets and its clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::disk::DiskError;
use super::machine::{Server, Socket};
use crate::transport::{Sockets, Wake};

/// Messages taken from one socket before the others are looked at again. What they write goes to the
/// disk together.
const MESSAGES_PER_ROUND: usize = 256;

/// Time since the loop began.
struct Clock(Instant);

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "the server is handed its time from here")]
    fn start() -> Self {
        Self(Instant::now())
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Serves until it is told to stop.
pub(super) struct Loop {
    pub server: Arc<Mutex<Server>>,
    pub sockets: Sockets,
    /// What the sockets are, by their numbers.
    pub kinds: Vec<Socket>,
    pub stop: Arc<AtomicBool>,
}

impl Loop {
    /// Ends with an error if the disk takes no more writes; what was not acknowledged by then never
    /// is.
    pub fn run(mut self) -> Result<(), DiskError> {
        let clock = Clock::start();
        let wake = self.sockets.waker();
        let mut readable = Vec::new();
        while self.may_go_on(&wake) {
            let due = self.next_due();
            let timeout = due.map(|due| due.saturating_sub(clock.elapsed()));
            self.sockets.wait(timeout, &mut readable);
            wake.is_awake();
            self.receive(&readable);
            self.send(clock.elapsed())?;
        }
        Ok(())
    }

    fn may_go_on(&self, wake: &Wake) -> bool {
        // In this order: whoever stops the loop after this look also wakes it.
        wake.may_sleep();
        !self.stop.load(Ordering::SeqCst)
    }

    fn next_due(&mut self) -> Option<Duration> {
        let reply = self.server.lock().next_due();
        let tick = self.sockets.outbox().next_tick();
        reply.into_iter().chain(tick).min()
    }

    fn receive(&mut self, readable: &[usize]) {
        let mut server = self.server.lock();
        for number in readable {
            let (Some(inbox), Some(kind)) = (self.sockets.inbox(*number), self.kinds.get(*number))
            else {
                continue;
            };
            let messages = std::iter::from_fn(|| inbox.receive());
            messages.take(MESSAGES_PER_ROUND).for_each(|message| server.handle(*kind, message));
        }
    }

    fn send(&mut self, now: Duration) -> Result<(), DiskError> {
        let mut server = self.server.lock();
        server.settle(now)?;
        let outbox = self.sockets.outbox();
        outbox.tick(now);
        while let Some(reply) = server.next_reply(now) {
            outbox.send(&reply.to, reply.message);
        }
        Ok(())
    }
}
