//! Nodes on one store, as processes on this machine.

use std::net::{IpAddr, TcpListener};
use std::time::{Duration, Instant};

use super::ClusterOptions;
use super::executor::Executor;
use crate::bench::BenchError;
use crate::bench::children::Family;
use crate::bench::place::Place;
use crate::bench::sidecar::Server;
use crate::peer;

/// Two nodes on one address differ by this in all their ports. Their ranges of ports interleave and do
/// not meet.
const SPACING: usize = 2;
/// From 50 nodes on, two of them would be 100 apart, as are two ports of one node.
pub(super) const NODES_MAX: usize = 49;
/// Below the ports that the system gives to clients.
const OFFSETS: std::ops::Range<usize> = 3_000..20_000;
const CONNECTED_MAX: Duration = Duration::from_secs(30);
const LOOK_EACH: Duration = Duration::from_millis(20);

/// Nodes that know each other.
pub(super) struct Cluster {
    pub(super) nodes: Vec<Node>,
    pub(super) place: Place,
}

/// One of them.
pub(super) struct Node {
    pub(super) server: Server,
    /// As the others call it.
    pub(super) address: String,
}

impl Cluster {
    /// Starts so many nodes, which are connected with each other when this returns. `name`
    /// distinguishes them from earlier ones.
    pub(super) fn start(
        family: &Family,
        options: &ClusterOptions,
        name: &str,
        count: usize,
    ) -> Result<Self, BenchError> {
        let place = Place::find(family, options.anna_routing.as_deref(), options.ip)?;
        let offsets = free_offsets(options.ip, count)?;
        let addresses = offsets.iter().map(|offset| peer::name(options.ip, *offset));
        let addresses: Vec<String> = addresses.collect();
        let mut nodes = Vec::new();
        for (number, (offset, address)) in offsets.iter().zip(&addresses).enumerate() {
            let more = [
                ("--port-offset", offset.to_string()),
                ("--gossip-interval", options.gossip_interval.to_string()),
                // One node alone has nobody to speak to.
                ("--peer", if count > 1 { addresses.join(",") } else { String::new() }),
            ];
            let more: Vec<String> =
                more.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
            let name = format!("{name}-{number}");
            let server = Server::sidecar_with(family, &name, &place.kept(), &more)?;
            nodes.push(Node { server, address: address.clone() });
        }
        let cluster = Self { nodes, place };
        cluster.wait_until_connected()?;
        Ok(cluster)
    }

    /// A client of each node.
    pub(super) fn executors(&self) -> Result<Vec<Executor>, BenchError> {
        self.nodes.iter().map(|node| Executor::open(&node.server.ipc_dir)).collect()
    }

    pub(super) fn end(self) {
        self.nodes.into_iter().for_each(|node| node.server.process.end());
        self.place.end();
    }

    /// Every node has heard of all others.
    fn wait_until_connected(&self) -> Result<(), BenchError> {
        let until = Instant::now() + CONNECTED_MAX;
        for node in &self.nodes {
            loop {
                let status = node.server.status()?;
                let heard = status["node"]["heard"].as_array().map_or(0, Vec::len);
                if heard + 1 >= self.nodes.len() {
                    break;
                }
                if Instant::now() >= until {
                    return Err(node.server.process.failed("does not hear of the other nodes"));
                }
                std::thread::sleep(LOOK_EACH);
            }
        }
        Ok(())
    }
}

/// Offsets at which no port of so many nodes is taken.
fn free_offsets(ip: IpAddr, count: usize) -> Result<Vec<u16>, BenchError> {
    let width = count * SPACING;
    // Runs that begin at once should not look at the same ports.
    let first = std::process::id() as usize * width;
    let tries = OFFSETS.step_by(width.max(1)).count();
    for number in 0..tries {
        let begin = OFFSETS.start + (first + number * width) % (OFFSETS.len() - width);
        let offsets = (0..count).map(|node| u16::try_from(begin + node * SPACING));
        let Ok(offsets) = offsets.collect::<Result<Vec<u16>, _>>() else { continue };
        let ports = offsets.iter().flat_map(|offset| peer::ports(*offset));
        let listeners: Vec<_> = ports.map(|port| TcpListener::bind((ip, port))).collect();
        if listeners.iter().all(Result::is_ok) {
            return Ok(offsets);
        }
    }
    Err(BenchError::Answer(format!("no free ports for {count} nodes on {ip}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_nodes_as_allowed_have_ports_of_their_own() {
        let offsets = free_offsets(std::net::Ipv4Addr::LOCALHOST.into(), NODES_MAX).unwrap();
        let mut ports: Vec<_> = offsets.iter().flat_map(|offset| peer::ports(*offset)).collect();
        let count = ports.len();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), count);
    }
}
