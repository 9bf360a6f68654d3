//! How a run misbehaves, drawn once per seed, so that some seeds are calm and some wild.

use fastrand::Rng;

/// Shares, each of the occasions on which something can go wrong.
#[derive(Debug, Default)]
pub(super) struct Weather {
    /// The store fails before it does what was asked.
    pub(super) fail_before: f64,
    /// It fails after.
    pub(super) fail_after: f64,
    /// It fails, and does it long after.
    pub(super) fail_then_do: f64,
    /// It refuses a commit.
    pub(super) refuse: f64,
    /// It takes seconds.
    pub(super) slow: f64,
    /// A node dies.
    pub(super) crash: f64,
    /// A node stops for a while, and goes on as if nothing had been.
    pub(super) freeze: f64,
    /// An answer never reaches its client.
    pub(super) lose_answer: f64,
    /// A message between nodes is lost.
    pub(super) lose_message: f64,
    /// It comes twice.
    pub(super) repeat_message: f64,
    /// It takes up to seconds, and is overtaken.
    pub(super) delay_message: f64,
    /// Nodes are cut off from each other.
    pub(super) partition: f64,
    /// The clock of a node that starts is off by more than nodes believe of each other.
    pub(super) wrong_clock: f64,
    /// The store cannot be looked through for commits of others.
    pub(super) blind: f64,
}

impl Weather {
    /// The weather of one run.
    pub(super) fn draw(rng: &mut Rng, nodes: usize) -> Self {
        let mut share = |most: f64| if rng.bool() { rng.f64() * most } else { 0.0 };
        let store = Self {
            fail_before: share(0.2),
            fail_after: share(0.2),
            fail_then_do: share(0.15),
            refuse: share(0.15),
            slow: share(0.3),
            crash: share(0.03),
            lose_answer: share(0.05),
            ..Self::default()
        };
        if nodes == 1 {
            return Self { wrong_clock: 1.0, ..store };
        }
        Self {
            freeze: share(0.004),
            lose_message: share(0.4),
            repeat_message: share(0.3),
            delay_message: share(0.3),
            partition: share(0.6),
            wrong_clock: share(0.5),
            blind: share(0.8),
            ..store
        }
    }

    /// No node is ever unable to tell others in time what it needs.
    pub(super) fn is_fair(&self) -> bool {
        self.crash + self.freeze + self.wrong_clock == 0.0
    }

    /// Makes it [fair](Self::is_fair).
    pub(super) fn clear_up(&mut self) {
        (self.crash, self.freeze, self.wrong_clock) = (0.0, 0.0, 0.0);
    }

    /// Nothing goes wrong any more.
    pub(super) fn calm() -> Self {
        Self::default()
    }
}
