//! The clocks of this machine. Nothing that is promised rests on them.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Time since the machine was started.
pub(super) fn elapsed() -> Duration {
    read(ClockId::Boottime)
}

/// Nanoseconds since the Unix epoch: to say how old something is, in hours.
pub(super) fn wall_ns() -> u64 {
    u64::try_from(read(ClockId::Realtime).as_nanos()).unwrap_or(u64::MAX)
}

fn read(clock: ClockId) -> Duration {
    let now = clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or_default())
}
