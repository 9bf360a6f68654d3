//! What both tiers of Anna agree on: ports and the names of metadata.

/// Where routing threads receive `KeyAddressRequest`s: this port and those after it.
pub const ROUTING_PORT: u16 = 6450;
/// Where storage threads receive `KeyRequest`s: this port and those after it.
pub const STORAGE_PORT: u16 = 6200;
/// Routing threads at most: behind their ports those of clients begin.
pub const ROUTING_THREADS_MAX: usize = 10;
/// Storage threads at most: behind their ports those for gossip begin.
pub const STORAGE_THREADS_MAX: usize = 50;

/// Whether a key belongs to Anna itself. Such keys are never looked up before they are served.
pub(super) fn is_metadata(key: &str) -> bool {
    key.split('|').next() == Some("ANNA_METADATA")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_told_by_its_first_part() {
        assert!(is_metadata("ANNA_METADATA|stats|127.0.0.1"));
        assert!(is_metadata("ANNA_METADATA"));
        assert!(!is_metadata("ANNA_METADATA_|x"));
        assert!(!is_metadata("x|ANNA_METADATA"));
        assert!(!is_metadata(""));
    }
}
