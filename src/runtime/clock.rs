//! The one place that reads the machine's clocks and draws a random seed.
#![allow(clippy::disallowed_methods)]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::node::Now;

/// The two notions of time, as the node wants them.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    began: Instant,
}

impl Clock {
    /// A clock whose elapsed time begins now.
    pub fn start() -> Self {
        Self { began: Instant::now() }
    }

    /// Time since the start, on the monotonic clock.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Both clocks at once.
    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall_ns = u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX);
        Now { wall_ns, elapsed: self.elapsed() }
    }
}

/// A number that no other incarnation of any node has.
pub fn random_seed() -> std::io::Result<u64> {
    let mut seed = [0; 8];
    rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())?;
    Ok(u64::from_le_bytes(seed))
}
