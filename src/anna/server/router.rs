//! A routing thread: tells which endpoint serves a key.

use std::collections::HashSet;

use super::placement::Placement;
use super::protocol::is_metadata;
use crate::wire::anna::key_address_response::KeyAddress;
use crate::wire::anna::{AnnaError, KeyAddressRequest, KeyAddressResponse};

/// What one routing thread remembers.
#[derive(Default)]
pub(super) struct Router {
    /// Keys whose replication factor it has looked up. There is only one factor here, but Anna's
    /// routing thread answers differently before it knows it.
    seen: HashSet<String>,
}

impl Router {
    /// The one answer to a request, if it gets any. `endpoints` are those of the storage threads.
    ///
    /// At the first key that it has not seen, Anna's routing thread gives the request up and looks
    /// that key up; what it then answers is that key alone.
    pub fn answer(
        &mut self,
        request: KeyAddressRequest,
        placement: &Placement,
        endpoints: &[String],
    ) -> Option<KeyAddressResponse> {
        let is_unseen =
            |key: &&String| !key.is_empty() && !is_metadata(key) && !self.seen.contains(*key);
        let first_unseen = request.keys.iter().find(is_unseen).cloned();
        let keys = match first_unseen {
            Some(key) => {
                self.seen.insert(key.clone());
                vec![key]
            }
            None => request.keys,
        };
        if keys.is_empty() {
            return None;
        }
        let address = |key: String| {
            // Nobody serves the empty key; all others have one owner.
            let owner = (!key.is_empty()).then(|| placement.owner(&key));
            let endpoint = owner.and_then(|thread| endpoints.get(thread));
            KeyAddress { ips: endpoint.cloned().into_iter().collect(), key }
        };
        Some(KeyAddressResponse {
            addresses: keys.into_iter().map(address).collect(),
            error: AnnaError::NoError.into(),
            response_id: request.request_id,
        })
    }

    /// Forgets all keys, as at a restart.
    pub fn forget(&mut self) {
        self.seen.clear();
    }
}

/// The answer of a cluster without storage nodes: all keys, and no address for any of them.
pub(super) fn no_servers(request: KeyAddressRequest) -> KeyAddressResponse {
    let address = |key| KeyAddress { key, ips: Vec::new() };
    KeyAddressResponse {
        addresses: request.keys.into_iter().map(address).collect(),
        error: AnnaError::NoServers.into(),
        response_id: request.request_id,
    }
}
