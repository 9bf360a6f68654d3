//! Values as the store keeps them, and how two of them become one.
//!
//! Each lattice type merges as Anna does it, ties included: where two writes claim the same place in
//! the order, the types differ in which of them stays. Apart from such ties the merges are
//! commutative, associative and idempotent, which is why Anna needs no coordination.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::{DecodeError, Message};

use crate::wire::anna::{
    KeyVersion, LatticeType, LwwValue, MultiKeyCausalValue, PriorityValue, SetValue,
    SingleKeyCausalValue,
};

/// How many events of each writer a value has seen.
type VectorClock = BTreeMap<String, u32>;

/// The priority of a key that was never written. As lower ones win, no value with this priority or a
/// higher one is ever kept.
const PRIORITY_BOTTOM: f64 = i32::MAX as f64;

/// A value of one key. Its lattice type is that of the key's first write.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// The greater timestamp wins; on a tie, whichever comes later.
    Lww { timestamp: u64, value: Bytes },
    /// Union. Anna gives the elements back in any order, this store sorted.
    Set(BTreeSet<Bytes>),
    /// Union, always sorted.
    OrderedSet(BTreeSet<Bytes>),
    /// The lower priority wins; on a tie, whichever came first.
    Priority { priority: f64, value: Bytes },
    /// The newer vector clock wins, the later of equal ones; values with concurrent ones are united.
    SingleCausal { clock: VectorClock, values: BTreeSet<Bytes> },
    /// The same; what the values depend on goes with them.
    MultiCausal {
        clock: VectorClock,
        dependencies: BTreeMap<String, VectorClock>,
        values: BTreeSet<Bytes>,
    },
}

impl Value {
    /// The value that every other one of its type replaces. There is none without a type.
    pub fn bottom(kind: LatticeType) -> Option<Self> {
        Some(match kind {
            LatticeType::None => return None,
            LatticeType::Lww => Self::Lww { timestamp: 0, value: Bytes::new() },
            LatticeType::Set => Self::Set(BTreeSet::new()),
            LatticeType::OrderedSet => Self::OrderedSet(BTreeSet::new()),
            LatticeType::Priority => {
                Self::Priority { priority: PRIORITY_BOTTOM, value: Bytes::new() }
            }
            LatticeType::SingleCausal => {
                Self::SingleCausal { clock: BTreeMap::new(), values: BTreeSet::new() }
            }
            LatticeType::MultiCausal => Self::MultiCausal {
                clock: BTreeMap::new(),
                dependencies: BTreeMap::new(),
                values: BTreeSet::new(),
            },
        })
    }

    /// Reads a tuple's payload. Without a type there is no value.
    pub fn decode(kind: LatticeType, payload: Bytes) -> Result<Option<Self>, DecodeError> {
        Ok(Some(match kind {
            LatticeType::None => return Ok(None),
            LatticeType::Lww => {
                let LwwValue { timestamp, value } = LwwValue::decode(payload)?;
                Self::Lww { timestamp, value }
            }
            LatticeType::Set => Self::Set(elements(SetValue::decode(payload)?.values)),
            LatticeType::OrderedSet => {
                Self::OrderedSet(elements(SetValue::decode(payload)?.values))
            }
            LatticeType::Priority => {
                let PriorityValue { priority, value } = PriorityValue::decode(payload)?;
                Self::Priority { priority, value }
            }
            LatticeType::SingleCausal => {
                let value = SingleKeyCausalValue::decode(payload)?;
                Self::SingleCausal {
                    clock: value.vector_clock.into_iter().collect(),
                    values: elements(value.values),
                }
            }
            LatticeType::MultiCausal => {
                let value = MultiKeyCausalValue::decode(payload)?;
                let mut dependencies = BTreeMap::new();
                for KeyVersion { key, vector_clock } in value.dependencies {
                    advance(dependencies.entry(key).or_default(), vector_clock);
                }
                Self::MultiCausal {
                    clock: value.vector_clock.into_iter().collect(),
                    dependencies,
                    values: elements(value.values),
                }
            }
        }))
    }

    /// The payload of a tuple that carries it.
    pub fn encode(&self) -> Bytes {
        let encoded = match self {
            Self::Lww { timestamp, value } => {
                LwwValue { timestamp: *timestamp, value: value.clone() }.encode_to_vec()
            }
            Self::Set(values) | Self::OrderedSet(values) => {
                SetValue { values: list(values) }.encode_to_vec()
            }
            Self::Priority { priority, value } => {
                PriorityValue { priority: *priority, value: value.clone() }.encode_to_vec()
            }
            Self::SingleCausal { clock, values } => {
                SingleKeyCausalValue { vector_clock: map(clock), values: list(values) }
                    .encode_to_vec()
            }
            Self::MultiCausal { clock, dependencies, values } => {
                let version = |(key, clock): (&String, &VectorClock)| KeyVersion {
                    key: key.clone(),
                    vector_clock: map(clock),
                };
                MultiKeyCausalValue {
                    vector_clock: map(clock),
                    dependencies: dependencies.iter().map(version).collect(),
                    values: list(values),
                }
                .encode_to_vec()
            }
        };
        encoded.into()
    }

    /// The lattice type.
    pub fn kind(&self) -> LatticeType {
        match self {
            Self::Lww { .. } => LatticeType::Lww,
            Self::Set(_) => LatticeType::Set,
            Self::OrderedSet(_) => LatticeType::OrderedSet,
            Self::Priority { .. } => LatticeType::Priority,
            Self::SingleCausal { .. } => LatticeType::SingleCausal,
            Self::MultiCausal { .. } => LatticeType::MultiCausal,
        }
    }

    /// Whether a reader is told that the key does not exist. Ordered sets alone may be empty.
    pub fn reads_as_missing(&self) -> bool {
        match self {
            Self::Lww { value, .. } | Self::Priority { value, .. } => value.is_empty(),
            Self::Set(values)
            | Self::SingleCausal { values, .. }
            | Self::MultiCausal { values, .. } => values.is_empty(),
            Self::OrderedSet(_) => false,
        }
    }

    /// Merges a write that came later. Says whether it could: nothing happens to a value of another
    /// type.
    pub fn merge(&mut self, later: Self) -> bool {
        match (&mut *self, later) {
            (Self::Lww { timestamp, .. }, later @ Self::Lww { timestamp: new, .. }) => {
                if new >= *timestamp {
                    *self = later;
                }
            }
            (Self::Set(values), Self::Set(more))
            | (Self::OrderedSet(values), Self::OrderedSet(more)) => values.extend(more),
            (Self::Priority { priority, .. }, later @ Self::Priority { priority: new, .. }) => {
                if new < *priority {
                    *self = later;
                }
            }
            (
                Self::SingleCausal { clock, values },
                Self::SingleCausal { clock: new, values: more },
            ) => match advance(clock, new) {
                Advance::Newer => *values = more,
                Advance::Concurrent => values.extend(more),
                Advance::Older => {}
            },
            (
                Self::MultiCausal { clock, dependencies, values },
                Self::MultiCausal { clock: new, dependencies: further, values: more },
            ) => match advance(clock, new) {
                Advance::Newer => (*dependencies, *values) = (further, more),
                Advance::Concurrent => {
                    for (key, clock) in further {
                        advance(dependencies.entry(key).or_default(), clock);
                    }
                    values.extend(more);
                }
                Advance::Older => {}
            },
            _ => return false,
        }
        true
    }
}

/// How an incoming clock stands to the one that was there.
enum Advance {
    /// It has seen everything that the other has; also if they are equal.
    Newer,
    /// The other has seen everything that it has, and more.
    Older,
    /// Each has seen something that the other has not.
    Concurrent,
}

/// Raises a clock to the maximum of itself and another.
fn advance(clock: &mut VectorClock, new: impl IntoIterator<Item = (String, u32)>) -> Advance {
    let before = clock.clone();
    let new: VectorClock = new.into_iter().collect();
    for (writer, count) in &new {
        let known = clock.entry(writer.clone()).or_insert(*count);
        *known = (*known).max(*count);
    }
    if *clock == new {
        Advance::Newer
    } else if *clock == before {
        Advance::Older
    } else {
        Advance::Concurrent
    }
}

fn elements(values: Vec<Bytes>) -> BTreeSet<Bytes> {
    values.into_iter().collect()
}

fn list(values: &BTreeSet<Bytes>) -> Vec<Bytes> {
    values.iter().cloned().collect()
}

fn map(clock: &VectorClock) -> BTreeMap<String, u32> {
    clock.iter().map(|(writer, count)| (writer.clone(), *count)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, btree_set};
    use proptest::prelude::*;

    use super::*;

    fn element() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(0u8..4, 0..3).prop_map(Bytes::from)
    }

    fn elements() -> impl Strategy<Value = BTreeSet<Bytes>> {
        btree_set(element(), 0..4)
    }

    fn clock() -> impl Strategy<Value = VectorClock> {
        btree_map("[abc]", 0u32..3, 0..3)
    }

    /// What was written depends on where in the order it stands alone: honest writers never use a
    /// timestamp, priority or clock twice, so there are no ties.
    fn untied() -> impl Strategy<Value = [Value; 3]> {
        fn three<V: Strategy<Value = Value> + 'static>(
            one: impl Fn() -> V,
        ) -> BoxedStrategy<[Value; 3]> {
            [one(), one(), one()].boxed()
        }
        let tell = |text: String| Bytes::from(text);
        prop_oneof![
            three(move || (0u64..6)
                .prop_map(move |n| Value::Lww { timestamp: n, value: tell(n.to_string()) })),
            three(|| elements().prop_map(Value::Set)),
            three(|| elements().prop_map(Value::OrderedSet)),
            three(move || (0u8..6).prop_map(move |n| Value::Priority {
                priority: f64::from(n),
                value: tell(n.to_string())
            })),
            three(move || clock().prop_map(move |clock| Value::SingleCausal {
                values: [tell(format!("{clock:?}"))].into(),
                clock,
            })),
            three(move || clock().prop_map(move |clock| Value::MultiCausal {
                values: [tell(format!("{clock:?}"))].into(),
                dependencies: [(format!("{clock:?}"), clock.clone())].into(),
                clock,
            })),
        ]
    }

    fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            (any::<u64>(), element())
                .prop_map(|(timestamp, value)| Value::Lww { timestamp, value }),
            elements().prop_map(Value::Set),
            elements().prop_map(Value::OrderedSet),
            (any::<i32>(), element())
                .prop_map(|(priority, value)| Value::Priority { priority: priority.into(), value }),
            (clock(), elements()).prop_map(|(clock, values)| Value::SingleCausal { clock, values }),
            (clock(), btree_map("[xy]", clock(), 0..3), elements()).prop_map(
                |(clock, dependencies, values)| Value::MultiCausal { clock, dependencies, values }
            ),
        ]
    }

    fn merged(mut a: Value, b: &Value) -> Value {
        assert!(a.merge(b.clone()));
        a
    }

    /// A causal lattice forgets the values of the clocks that a newer one has seen, so what stays
    /// after three merges depends on their order; the clock does not.
    fn clock_of(value: &Value) -> Option<&VectorClock> {
        match value {
            Value::SingleCausal { clock, .. } | Value::MultiCausal { clock, .. } => Some(clock),
            _ => None,
        }
    }

    proptest! {
        #[test]
        fn merging_is_idempotent(a in any_value()) {
            prop_assert_eq!(merged(a.clone(), &a), a);
        }

        #[test]
        fn merging_is_commutative_without_ties([a, b, _] in untied()) {
            prop_assert_eq!(merged(a.clone(), &b), merged(b, &a));
        }

        #[test]
        fn merging_is_associative_without_ties([a, b, c] in untied()) {
            let left = merged(merged(a.clone(), &b), &c);
            let right = merged(a, &merged(b, &c));
            match clock_of(&left) {
                Some(clock) => prop_assert_eq!(Some(clock), clock_of(&right)),
                None => prop_assert_eq!(left, right),
            }
        }

        #[test]
        fn what_was_encoded_is_decoded(value in any_value()) {
            let decoded = Value::decode(value.kind(), value.encode()).unwrap().unwrap();
            prop_assert_eq!(decoded, value);
        }

        #[test]
        fn bottom_gives_way(value in any_value()) {
            // Nothing can have a higher priority than the bottom.
            prop_assume!(!matches!(value, Value::Priority { priority, .. } if priority >= PRIORITY_BOTTOM));
            let bottom = Value::bottom(value.kind()).unwrap();
            prop_assert_eq!(merged(bottom, &value), value);
        }

        #[test]
        fn types_do_not_mix(a in any_value(), b in any_value()) {
            prop_assume!(a.kind() != b.kind());
            let mut merged = a.clone();
            prop_assert!(!merged.merge(b));
            prop_assert_eq!(merged, a);
        }
    }

    #[test]
    fn ties_are_broken_as_in_anna() {
        let lww = |value: &'static str| Value::Lww { timestamp: 10, value: value.into() };
        assert_eq!(merged(lww("first"), &lww("last")), lww("last"));
        let priority = |value: &'static str| Value::Priority { priority: 1.0, value: value.into() };
        assert_eq!(merged(priority("first"), &priority("last")), priority("first"));
        let causal = |value: &'static str| Value::SingleCausal {
            clock: [("a".into(), 1)].into(),
            values: [value.into()].into(),
        };
        assert_eq!(merged(causal("first"), &causal("last")), causal("last"));
    }

    #[test]
    fn the_lower_priority_wins_unless_it_is_no_priority() {
        let priority =
            |priority, value: &'static str| Value::Priority { priority, value: value.into() };
        assert_eq!(merged(priority(2.0, "b"), &priority(1.0, "a")), priority(1.0, "a"));
        assert_eq!(merged(priority(1.0, "a"), &priority(2.0, "b")), priority(1.0, "a"));
        let bottom = Value::bottom(LatticeType::Priority).unwrap();
        for too_high in [PRIORITY_BOTTOM, f64::INFINITY, f64::NAN] {
            assert!(merged(bottom.clone(), &priority(too_high, "x")).reads_as_missing());
        }
    }

    #[test]
    fn concurrent_values_are_united_until_one_has_seen_them() {
        let causal = |clock: &[(&str, u32)], dependency: &str, value: &'static str| {
            let clock: VectorClock = clock.iter().map(|(w, n)| ((*w).to_owned(), *n)).collect();
            Value::MultiCausal {
                dependencies: [(dependency.to_owned(), clock.clone())].into(),
                values: [value.into()].into(),
                clock,
            }
        };
        let both = merged(causal(&[("a", 1)], "k", "left"), &causal(&[("b", 1)], "k", "right"));
        let Value::MultiCausal { clock, dependencies, values } = &both else {
            panic!("it was another type before");
        };
        assert_eq!(values.len(), 2);
        assert_eq!(clock.len(), 2);
        assert_eq!(&dependencies["k"], clock);
        let newer = causal(&[("a", 1), ("b", 2)], "l", "newer");
        assert_eq!(merged(both.clone(), &newer), newer);
        assert_eq!(merged(newer.clone(), &both), newer);
    }
}
