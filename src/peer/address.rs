//! How nodes are called, and which sockets that stands for.

use std::fmt;
use std::net::IpAddr;

/// Why a text is not the name of a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not the address of a node: it should be an IP, or IP:OFFSET, such as 10.0.0.7:100"
)]
pub struct BadAddress(String);

/// An IP address and a port offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NodeAddress {
    ip: IpAddr,
    offset: u16,
}

impl NodeAddress {
    pub(super) fn new(ip: IpAddr, offset: u16) -> Self {
        Self { ip, offset }
    }

    pub(super) fn parse(text: &str) -> Result<Self, BadAddress> {
        let bad = || BadAddress(text.to_owned());
        if let Ok(ip) = text.parse() {
            return Ok(Self { ip, offset: 0 });
        }
        let (ip, offset) = text.rsplit_once(':').ok_or_else(bad)?;
        let ip = ip.trim_start_matches('[').trim_end_matches(']');
        let (Ok(ip), Ok(offset)) = (ip.parse(), offset.parse()) else { return Err(bad()) };
        Ok(Self { ip, offset })
    }

    /// The endpoint of a port of this node; none if the offset leads beyond the last port.
    pub(super) fn endpoint(self, port: u16) -> Option<String> {
        let port = port.checked_add(self.offset)?;
        Some(match self.ip {
            IpAddr::V4(ip) => format!("tcp://{ip}:{port}"),
            IpAddr::V6(ip) => format!("tcp://[{ip}]:{port}"),
        })
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.ip, self.offset) {
            (ip, 0) => write!(f, "{ip}"),
            (IpAddr::V4(ip), offset) => write!(f, "{ip}:{offset}"),
            (IpAddr::V6(ip), offset) => write!(f, "[{ip}]:{offset}"),
        }
    }
}

/// The name of a node.
pub fn name(ip: IpAddr, offset: u16) -> String {
    NodeAddress::new(ip, offset).to_string()
}

/// The name of a node as the node itself writes it.
pub fn normalize(text: &str) -> Result<String, BadAddress> {
    NodeAddress::parse(text).map(|address| address.to_string())
}

/// Checks the name of a node.
pub fn check(text: &str) -> Result<(), BadAddress> {
    NodeAddress::parse(text).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_addresses() {
        let endpoint = |text: &str| NodeAddress::parse(text).unwrap().endpoint(7777);
        assert_eq!(endpoint("10.0.0.7"), Some("tcp://10.0.0.7:7777".into()));
        assert_eq!(endpoint("10.0.0.7:100"), Some("tcp://10.0.0.7:7877".into()));
        assert_eq!(endpoint("[::1]:1"), Some("tcp://[::1]:7778".into()));
        assert_eq!(endpoint("10.0.0.7:60000"), None);
        for text in ["", "host", "10.0.0.7:", "10.0.0.7:-1", "10.0.0.7:70000", "10.0.0"] {
            assert!(NodeAddress::parse(text).is_err(), "{text}");
        }
    }
}
