//! Ports that nobody listens on, for servers that a test starts, and perhaps stops and starts again.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// One on the loopback address, with the one 10000 above it (where a Redis server speaks to its cluster)
/// free, too. Both are below those that the system gives to connections: such a one could come between.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let process = (std::process::id() % 1000) as u16;
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 10_500 + (process.wrapping_mul(11).wrapping_add(step)) % 11_000;
        if is_free(port) && is_free(port + 10_000) {
            return port;
        }
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
