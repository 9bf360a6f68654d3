//! Lattice values as they travel: a type and a payload.
//!
//! Anna merges concurrent writes of a key by the rules of the key's lattice type, which is fixed by
//! its first write (Wu et al., "Anna: A KVS For Any Scale", ICDE 2018).

use bytes::Bytes;
use prost::Message;

use crate::wire::anna::{
    LatticeType, LwwValue, MultiKeyCausalValue, PriorityValue, SetValue, SingleKeyCausalValue,
};

/// A value of a key in Anna.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lattice {
    /// The last writer wins: of two values the one with the greater timestamp stays, and of two with
    /// the same timestamp the one that arrives later.
    Lww {
        /// Whatever order the writers agree on; greater is newer.
        timestamp: u64,
        /// The value. Anna takes an empty one for no value at all.
        value: Bytes,
    },
    /// Grows by union.
    Set(Vec<Bytes>),
    /// Any other type, its payload as it came.
    Opaque {
        /// The type.
        kind: LatticeType,
        /// The serialized value.
        payload: Bytes,
    },
}

/// The payload is not a value of the type that it is said to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the payload is no {}: {reason}", kind.as_str_name())]
pub struct LatticeError {
    /// The type that was named.
    pub kind: LatticeType,
    /// What protobuf says.
    pub reason: String,
}

/// Whether a payload is a value of this type.
pub fn check(kind: LatticeType, payload: &Bytes) -> Result<(), LatticeError> {
    let payload = payload.clone();
    let parsed = match kind {
        LatticeType::None => {
            return Err(LatticeError { kind, reason: "it is no type of lattice".to_owned() });
        }
        LatticeType::Lww => LwwValue::decode(payload).map(drop),
        LatticeType::Set | LatticeType::OrderedSet => SetValue::decode(payload).map(drop),
        LatticeType::SingleCausal => SingleKeyCausalValue::decode(payload).map(drop),
        LatticeType::MultiCausal => MultiKeyCausalValue::decode(payload).map(drop),
        LatticeType::Priority => PriorityValue::decode(payload).map(drop),
    };
    parsed.map_err(|error| LatticeError { kind, reason: error.to_string() })
}

impl Lattice {
    /// The type by which Anna merges it.
    pub fn kind(&self) -> LatticeType {
        match self {
            Self::Lww { .. } => LatticeType::Lww,
            Self::Set(_) => LatticeType::Set,
            Self::Opaque { kind, .. } => *kind,
        }
    }

    /// What two replicas hold together. Of types that are not read here the first is kept.
    pub fn merge(self, other: Self) -> Self {
        match (self, other) {
            (Self::Lww { timestamp: one, .. }, newer @ Self::Lww { timestamp, .. })
                if timestamp > one =>
            {
                newer
            }
            (Self::Set(mut values), Self::Set(others)) => {
                values.extend(others);
                values.sort();
                values.dedup();
                Self::Set(values)
            }
            (one, _) => one,
        }
    }

    /// The payload of a tuple that carries it.
    pub fn to_payload(&self) -> Bytes {
        match self {
            Self::Lww { timestamp, value } => {
                LwwValue { timestamp: *timestamp, value: value.clone() }.encode_to_vec().into()
            }
            Self::Set(values) => SetValue { values: values.clone() }.encode_to_vec().into(),
            Self::Opaque { payload, .. } => payload.clone(),
        }
    }

    /// Reads a tuple's payload.
    pub fn from_payload(kind: LatticeType, payload: Bytes) -> Result<Self, LatticeError> {
        let bad = |error: prost::DecodeError| LatticeError { kind, reason: error.to_string() };
        Ok(match kind {
            LatticeType::Lww => {
                let LwwValue { timestamp, value } = LwwValue::decode(payload).map_err(bad)?;
                Self::Lww { timestamp, value }
            }
            LatticeType::Set => Self::Set(SetValue::decode(payload).map_err(bad)?.values),
            kind => Self::Opaque { kind, payload },
        })
    }
}
