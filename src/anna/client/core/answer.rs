//! What a storage thread's answer to one key means.

use super::op::Ask;
use crate::anna::client::{ClientError, Damage, DamageKind};
use crate::anna::lattice::Lattice;
use crate::wire::anna::{AnnaError, KeyTuple, LatticeType};

/// What an answer means for the operation.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// This is the value.
    Found(Lattice),
    /// This replica has none.
    Missing,
    /// This replica has taken the value.
    Stored,
    /// It will never work.
    Failed(ClientError),
    /// Not here, or not now: begin again.
    Elsewhere {
        /// The thread says that it does not keep the key.
        wrong_thread: bool,
    },
}

pub(super) fn verdict(ask: &Ask, tuple: KeyTuple) -> Verdict {
    let is_typeless = tuple.lattice_type == i32::from(LatticeType::None);
    match (ask, AnnaError::try_from(tuple.error)) {
        (Ask::Get { .. }, Ok(AnnaError::KeyDne)) => Verdict::Missing,
        (Ask::Get { .. }, Ok(AnnaError::NoError)) => read(tuple),
        (Ask::Get { .. }, Ok(AnnaError::Lattice)) => damaged(tuple.key, DamageKind::Reported),
        (Ask::Put { .. }, Ok(AnnaError::NoError)) if !is_typeless => Verdict::Stored,
        // An acknowledgement without a type is Anna's way to say that it has kept what it had.
        (Ask::Put { kind, .. }, Ok(AnnaError::NoError | AnnaError::Lattice)) => {
            Verdict::Failed(ClientError::NotStored { key: tuple.key, kind: *kind })
        }
        (_, error) => Verdict::Elsewhere { wrong_thread: error == Ok(AnnaError::WrongThread) },
    }
}

fn read(tuple: KeyTuple) -> Verdict {
    let Ok(kind) = LatticeType::try_from(tuple.lattice_type) else {
        return damaged(tuple.key, DamageKind::Type(tuple.lattice_type));
    };
    match Lattice::from_payload(kind, tuple.payload) {
        Err(error) => damaged(tuple.key, error.into()),
        // Anna itself takes empty values for missing ones.
        Ok(Lattice::Lww { value, .. }) if value.is_empty() => Verdict::Missing,
        Ok(Lattice::Set(values)) if values.is_empty() => Verdict::Missing,
        Ok(Lattice::Opaque { payload, .. }) if payload.is_empty() => Verdict::Missing,
        Ok(value) => Verdict::Found(value),
    }
}

fn damaged(key: String, why: DamageKind) -> Verdict {
    Verdict::Failed(ClientError::Damaged(Damage { key, why }))
}
