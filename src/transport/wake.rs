//! Wakes the thread that sleeps in poll, from any other thread, without a system call when it is awake.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};

/// An event descriptor and the knowledge whether anybody sleeps on it.
///
/// The sleeper calls [`may_sleep`](Self::may_sleep), looks once more for work, and only then sleeps.
/// Whoever hands in work does so before [`wake`](Self::wake). So either the sleeper sees the work or
/// it is waked.
#[derive(Debug)]
pub struct Wake {
    descriptor: OwnedFd,
    asleep: AtomicBool,
}

impl Wake {
    pub(super) fn new() -> std::io::Result<Self> {
        let descriptor = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self { descriptor, asleep: AtomicBool::new(false) })
    }

    /// The sleeper is about to sleep: from here on it wants to be waked.
    pub fn may_sleep(&self) {
        self.asleep.store(true, Ordering::SeqCst);
    }

    /// The sleeper has found work and will look again before it sleeps.
    pub fn is_awake(&self) {
        self.asleep.store(false, Ordering::SeqCst);
    }

    /// Wakes the sleeper, if it sleeps.
    pub fn wake(&self) {
        if self.asleep.swap(false, Ordering::SeqCst) {
            // Full or interrupted: the descriptor is readable then, which is all that matters.
            let _ = rustix::io::write(&self.descriptor, &1u64.to_ne_bytes());
        }
    }

    pub(super) fn clear(&self) {
        let _ = rustix::io::read(&self.descriptor, &mut [0; 8]);
    }
}

impl AsRawFd for Wake {
    fn as_raw_fd(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }
}

impl std::task::Wake for Wake {
    fn wake(self: Arc<Self>) {
        Self::wake(&self);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        Self::wake(self);
    }
}
