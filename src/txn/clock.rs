//! Hybrid logical clock (Kulkarni et al., 2014): timestamps that follow the wall clock where they can
//! and causality always.
//!
//! A timestamp counts nanoseconds since the Unix epoch. Its low [`NODE_BITS`] bits name the node, so
//! that two nodes do not give the same timestamp; the clock therefore advances in steps of 4,096 ns.

/// Nanoseconds since the Unix epoch, with the node's tag in the low bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Timestamp(pub u64);

/// How many low bits of a timestamp name the node.
pub const NODE_BITS: u32 = 12;
const STEP: u64 = 1 << NODE_BITS;

/// Gives commit timestamps.
#[derive(Debug)]
pub struct HybridClock {
    node_tag: u64,
    last: Timestamp,
}

impl HybridClock {
    /// A clock for a node whose tag is the low [`NODE_BITS`] bits of `node_tag`.
    pub fn new(node_tag: u64) -> Self {
        Self { node_tag: node_tag & (STEP - 1), last: Timestamp(0) }
    }

    /// Follows a timestamp that was read from a record: everything given later is greater.
    pub fn observe(&mut self, seen: Timestamp) {
        self.last = self.last.max(seen);
    }

    /// The next timestamp: greater than all given or observed, and not before the wall clock.
    pub fn next(&mut self, wall_ns: u64) -> Timestamp {
        let floor = self.last.0.max(wall_ns);
        let same_step = (floor & !(STEP - 1)) | self.node_tag;
        let next = if same_step > floor { same_step } else { same_step.saturating_add(STEP) };
        self.last = Timestamp(next);
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn later_is_greater_whatever_the_wall_clock_does(
            walls in prop::collection::vec(0u64..1 << 60, 1..50),
            seen in prop::collection::vec(0u64..1 << 60, 50),
            tag in 0u64..1 << 20,
        ) {
            let mut clock = HybridClock::new(tag);
            let mut last = 0;
            for (wall, seen) in walls.into_iter().zip(seen) {
                let given = clock.next(wall).0;
                prop_assert!(given > last && given >= wall);
                prop_assert_eq!(given % STEP, tag % STEP);
                clock.observe(Timestamp(seen));
                last = given.max(seen);
            }
        }

        #[test]
        fn two_nodes_never_agree_on_a_timestamp(wall in 0u64..1 << 60, a in 0u64..STEP, b in 0u64..STEP) {
            prop_assume!(a != b);
            prop_assert_ne!(HybridClock::new(a).next(wall), HybridClock::new(b).next(wall));
        }
    }
}
