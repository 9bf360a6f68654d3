//! Which transactions run since when: counted by epochs, so that it costs next to nothing to begin and to
//! end one, and still is known when all those have ended that were there at some moment.

use std::collections::VecDeque;

/// Counts of running attempts, by the epoch in which they began.
#[derive(Debug)]
pub(super) struct Epochs {
    /// The epoch of the first count.
    first: u64,
    /// The last one is the present epoch's.
    running: VecDeque<usize>,
}

impl Default for Epochs {
    fn default() -> Self {
        Self { first: 0, running: VecDeque::from([0]) }
    }
}

impl Epochs {
    /// An attempt begins. Answers its epoch.
    pub(super) fn enter(&mut self) -> u64 {
        if let Some(count) = self.running.back_mut() {
            *count += 1;
        }
        self.present()
    }

    /// An attempt of this epoch has ended.
    pub(super) fn leave(&mut self, epoch: u64) {
        let place = epoch.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
        if let Some(count) = place.and_then(|place| self.running.get_mut(place)) {
            *count = count.saturating_sub(1);
        }
        while self.running.len() > 1 && self.running.front() == Some(&0) {
            self.running.pop_front();
            self.first += 1;
        }
    }

    /// Begins another epoch. Answers the one that ends here.
    pub(super) fn turn(&mut self) -> u64 {
        let ended = self.present();
        self.running.push_back(0);
        // Drops those that are over already.
        self.leave(ended + 2);
        ended
    }

    /// Whether all attempts have ended that began in this epoch or before.
    pub(super) fn is_over(&self, epoch: u64) -> bool {
        self.first > epoch
    }

    fn present(&self) -> u64 {
        self.first + self.running.len() as u64 - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_over_when_all_of_it_and_before_have_ended() {
        let mut epochs = Epochs::default();
        let early = epochs.enter();
        let first = epochs.turn();
        let late = epochs.enter();
        let second = epochs.turn();
        assert!(!epochs.is_over(first));
        epochs.leave(late);
        assert!(!epochs.is_over(second), "the first one still runs");
        epochs.leave(early);
        assert!(epochs.is_over(first) && epochs.is_over(second));
        let empty = epochs.turn();
        assert!(epochs.is_over(empty), "nobody began in it");
        let third = epochs.enter();
        assert!(!epochs.is_over(third));
    }
}
