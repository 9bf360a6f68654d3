//! What can be set.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::endpoint;

/// How a client reaches the store, and its bounds.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// This machine's address, as the store can reach it. Two reply sockets are bound on it, on ports
    /// that the system chooses.
    pub ip: IpAddr,
    /// Endpoints of the routing tier; see [`parse_routing`](super::parse_routing).
    pub routing: Vec<String>,
    /// How long the first try of an operation, or of a look-up, waits for its answer. Each further one
    /// waits twice as long.
    pub try_within: Duration,
    /// How long an operation may take in all.
    pub within: Duration,
    /// Sockets to storage and routing threads open at once, at most 900. The one unused for longest is
    /// closed to make room.
    pub sockets_max: usize,
    /// Operations under way at once; the same number of look-ups ahead of use.
    pub requests_max: usize,
    /// Keys and values of all operations under way together.
    pub bytes_max: usize,
    /// The longest message, either way. It holds one value, or several that are asked for together.
    pub message_bytes_max: usize,
    /// Keys whose addresses are remembered.
    pub addresses_max: usize,
}

impl Default for ClientConfig {
    /// For a store on this machine.
    fn default() -> Self {
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Self {
            ip,
            routing: endpoint::routing_threads(&ip.to_string()),
            try_within: Duration::from_millis(500),
            within: Duration::from_secs(3),
            sockets_max: 512,
            requests_max: 4096,
            bytes_max: 256 << 20,
            message_bytes_max: 256 << 20,
            addresses_max: 64 * 1024,
        }
    }
}
