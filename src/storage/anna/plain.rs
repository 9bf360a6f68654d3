//! User keys under their plain names: what others than sidecars read and write.
//!
//! A Cloudburst client takes results straight from Anna, so the newest committed value of a key also
//! stands under the key itself: a `KeyValuePair`, in a last-writer-wins object whose timestamp is that
//! of the commit, so that the newest stays in whatever order they arrive.

use bytes::Bytes;
use prost::Message;

use super::super::{PlainValue, codec};
use super::names::RESERVED;
use super::original;
use crate::anna::client::KEY_BYTES_MAX;
use crate::anna::lattice::Lattice;
use crate::txn::{Key, Version};
use crate::wire::KeyValuePair;
use crate::wire::anna::{LatticeType, StringSet};

/// The most keys that are reported as cached.
const CACHED_KEYS_MAX: usize = 50_000;
/// Names of Anna's own.
const ANNAS_OWN: &str = "ANNA_METADATA";

/// Which user keys are published under their plain names.
#[derive(Debug, Clone, Default)]
pub struct Publication {
    /// Keys that begin with one of these are not.
    pub except: Vec<String>,
}

impl Publication {
    /// Whether committed values of this key are published.
    pub fn covers(&self, key: &Key) -> bool {
        let begins = |prefix: &str| key.as_str().starts_with(prefix);
        may_stand(key) && !self.except.iter().any(|prefix| begins(prefix))
    }
}

/// Whether a user key may be read under its plain name. Cloudburst's scheduler reads some of Anna's own
/// names through the sidecar.
pub(super) fn may_be_read(key: &Key) -> bool {
    !key.as_str().starts_with(RESERVED) && key.as_str().len() <= KEY_BYTES_MAX
}

/// Whether a user key may be written under its plain name.
pub(super) fn may_stand(key: &Key) -> bool {
    may_be_read(key) && !key.as_str().starts_with(ANNAS_OWN)
}

/// Where Cloudburst's scheduler looks for the keys that are cached on a machine.
pub(super) fn cached_name(host: &str) -> String {
    format!("{ANNAS_OWN}|cache_ip|{host}")
}

/// The keys that are cached on a machine.
pub(super) fn cached(keys: Vec<Key>, timestamp: u64) -> Lattice {
    let names = keys.iter().filter(|key| may_stand(key)).take(CACHED_KEYS_MAX);
    let set = StringSet { keys: names.map(|key| key.as_str().to_owned()).collect() };
    Lattice::Lww { timestamp, value: set.encode_to_vec().into() }
}

/// A committed value as it stands under its key's plain name.
pub(super) fn published(key: &Key, version: &Version, value: &Bytes) -> Lattice {
    let mut encoder = codec::VersionEncoder::new(version);
    let value = Bytes::copy_from_slice(encoder.encode(key, value));
    Lattice::Lww { timestamp: version.timestamp.0, value }
}

/// What stands under a plain name.
pub(super) enum Found {
    /// A value to serve.
    Value(PlainValue),
    /// A pair that the original AFT stored, committed or not.
    ByOriginal(u64, KeyValuePair),
}

/// Tells what stands under a plain name.
pub(super) fn found(key: &Key, lattice: Lattice) -> Found {
    let (timestamp, value) = match lattice {
        Lattice::Lww { timestamp, value } => (timestamp, value),
        other => {
            let (lattice, value) = (other.kind(), other.to_payload());
            return Found::Value(PlainValue { timestamp: 0, lattice, value, published: false });
        }
    };
    let plain = |value, published| {
        Found::Value(PlainValue { timestamp, value, published, lattice: LatticeType::Lww })
    };
    match KeyValuePair::decode(value.clone()) {
        Ok(pair) if pair.mark == codec::MARK && pair.key == key.as_str() => plain(pair.value, true),
        Ok(pair) if original::is_by_original(&pair, key) => Found::ByOriginal(timestamp, pair),
        // Arbitrary bytes may parse as a pair.
        _ => plain(value, false),
    }
}
