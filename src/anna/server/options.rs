//! What a server is asked to be, and whether it can be that.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use super::ServerError;
use super::faults::Misbehaviour;
use super::protocol::{ROUTING_PORT, ROUTING_THREADS_MAX, STORAGE_PORT, STORAGE_THREADS_MAX};

/// How far the ports are from Anna's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortOffset {
    /// So far.
    Fixed(u16),
    /// As far as is needed to find ports that nobody uses.
    Free,
}

impl std::str::FromStr for PortOffset {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "free" => Ok(Self::Free),
            number => number.parse().map(Self::Fixed),
        }
    }
}

/// What a server is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it listens, and what it tells clients.
    pub ip: Ipv4Addr,
    /// Added to all of Anna's ports.
    pub port_offset: PortOffset,
    /// Storage threads, 1 to [`STORAGE_THREADS_MAX`]: as many sockets, over which keys are hashed.
    pub threads: usize,
    /// Routing threads, 1 to [`ROUTING_THREADS_MAX`].
    pub routing_threads: usize,
    /// Where values are kept. In memory if nowhere.
    pub data_dir: Option<PathBuf>,
    /// Whether writes are on the disk when they are acknowledged. If not, they survive the end of the
    /// process but not that of the machine.
    pub sync: bool,
    /// How it misbehaves at first.
    pub misbehaviour: Misbehaviour,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ip: Ipv4Addr::LOCALHOST,
            port_offset: PortOffset::Fixed(0),
            threads: 1,
            routing_threads: 1,
            data_dir: None,
            sync: true,
            misbehaviour: Misbehaviour::default(),
        }
    }
}

impl Options {
    /// Whether there can be such a server.
    pub(super) fn check(&self) -> Result<(), ServerError> {
        let threads = [
            ("storage", self.threads, STORAGE_THREADS_MAX),
            ("routing", self.routing_threads, ROUTING_THREADS_MAX),
        ];
        for (tier, count, max) in threads {
            if !(1..=max).contains(&count) {
                return Err(ServerError::Threads { tier, count, max });
            }
        }
        if let PortOffset::Fixed(offset) = self.port_offset
            && offset.checked_add(ROUTING_PORT + ROUTING_THREADS_MAX as u16).is_none()
        {
            return Err(ServerError::PortOffset(offset));
        }
        Ok(self.misbehaviour.check()?)
    }

    /// Endpoints of the routing threads, if the ports are so far from Anna's own.
    pub(super) fn routing(&self, offset: u16) -> Vec<String> {
        self.endpoints(ROUTING_PORT + offset, self.routing_threads)
    }

    /// Endpoints of the storage threads.
    pub(super) fn storage(&self, offset: u16) -> Vec<String> {
        self.endpoints(STORAGE_PORT + offset, self.threads)
    }

    fn endpoints(&self, first_port: u16, count: usize) -> Vec<String> {
        let ports = (first_port..).take(count);
        ports.map(|port| format!("tcp://{}:{port}", self.ip)).collect()
    }
}
