//! What hour it is: to say how old something is, in hours. Nothing that is promised rests on it.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since the Unix epoch.
pub(super) fn wall_ns() -> u64 {
    let now = clock_gettime(ClockId::Realtime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanos = u64::try_from(now.tv_nsec).unwrap_or_default();
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}
