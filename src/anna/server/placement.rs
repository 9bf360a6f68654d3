//! Which storage thread owns a key.

use std::collections::HashMap;

use xxhash_rust::xxh3::xxh3_64;

/// There is no storage thread with this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no storage thread {thread}: they are numbered 0 to {last}")]
pub struct NoSuchThread {
    /// The number that was named.
    pub thread: usize,
    /// The highest number.
    pub last: usize,
}

/// Keys are hashed over the threads, until they are moved.
pub(super) struct Placement {
    threads: usize,
    rotated_by: usize,
    moved: HashMap<String, usize>,
}

impl Placement {
    pub fn new(threads: usize) -> Self {
        Self { threads, rotated_by: 0, moved: HashMap::new() }
    }

    pub fn owner(&self, key: &str) -> usize {
        if let Some(thread) = self.moved.get(key) {
            return *thread;
        }
        let hashed = xxh3_64(key.as_bytes()) % self.threads as u64;
        (hashed as usize + self.rotated_by) % self.threads
    }

    /// Moves some keys to one thread, where they stay until they are moved again.
    pub fn move_keys(&mut self, keys: &[String], to: usize) -> Result<(), NoSuchThread> {
        if to >= self.threads {
            return Err(NoSuchThread { thread: to, last: self.threads - 1 });
        }
        self.moved.extend(keys.iter().map(|key| (key.clone(), to)));
        Ok(())
    }

    /// Moves every key as many threads on.
    pub fn rotate(&mut self, by: usize) {
        let (threads, by) = (self.threads, by % self.threads);
        self.rotated_by = (self.rotated_by + by) % threads;
        self.moved.values_mut().for_each(|thread| *thread = (*thread + by) % threads);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_spread_and_can_be_moved() {
        let mut placement = Placement::new(4);
        let keys: Vec<String> = (0..1_000).map(|n| format!("key {n}")).collect();
        for thread in 0..4 {
            assert!(keys.iter().filter(|key| placement.owner(key) == thread).count() > 150);
        }
        placement.move_keys(&keys, 3).unwrap();
        assert!(keys.iter().all(|key| placement.owner(key) == 3));
        let before = placement.owner("another");
        placement.rotate(6);
        assert!(keys.iter().all(|key| placement.owner(key) == 1));
        assert_eq!(placement.owner("another"), (before + 2) % 4);
        let refused = placement.move_keys(&keys, 4).unwrap_err();
        assert_eq!(refused, NoSuchThread { thread: 4, last: 3 });
    }
}
