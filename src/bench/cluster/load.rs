//! Commits at a steady rate.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Who is so late drops what it has missed, instead of catching up in a burst.
const LATE_MAX: Duration = Duration::from_millis(500);

/// Does something so many times a second, until it is told to stop or fails.
pub(super) fn steadily<E>(
    rate: f64,
    stop: &AtomicBool,
    mut once: impl FnMut() -> Result<(), E>,
) -> Result<(), E> {
    let period = Duration::from_secs_f64(1.0 / rate);
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        once()?;
        due += period;
        let now = Instant::now();
        if due + LATE_MAX < now {
            due = now;
        }
        std::thread::sleep(due.saturating_duration_since(now));
    }
    Ok(())
}
