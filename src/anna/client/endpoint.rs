//! Where routing and storage threads listen.

use std::ops::RangeInclusive;

/// The ports of a routing node's threads, of which a small deployment runs only the first.
const ROUTING_PORTS: RangeInclusive<u16> = 6450..=6453;

/// The routing tier's address cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no address of Anna's routing tier: write HOST or HOST:PORT, or several with commas"
)]
pub struct RoutingError {
    /// What was written.
    pub text: String,
}

/// Reads `HOST`, which stands for the four routing threads of that machine, or `HOST:PORT`, or several
/// of these with commas in between.
pub fn parse_routing(text: &str) -> Result<Vec<String>, RoutingError> {
    let bad = || RoutingError { text: text.to_owned() };
    let mut endpoints = Vec::new();
    for part in text.split(',').map(str::trim) {
        let part = part.strip_prefix("tcp://").unwrap_or(part);
        match host_and_port(part).ok_or_else(bad)? {
            (host, None) => endpoints.extend(routing_threads(host)),
            (host, Some(port)) => endpoints.push(format!("tcp://{host}:{port}")),
        }
    }
    Ok(endpoints)
}

/// All threads that may listen on that host.
pub(super) fn routing_threads(host: &str) -> Vec<String> {
    ROUTING_PORTS.map(|port| format!("tcp://{host}:{port}")).collect()
}

/// Whether a request can be sent there. libzmq knows other transports, one of which reaches into the
/// file system; nobody but this machine's administrator should name such an endpoint.
pub(super) fn is_tcp(endpoint: &str) -> bool {
    let rest = endpoint.strip_prefix("tcp://");
    rest.and_then(host_and_port).is_some_and(|(_, port)| port.is_some())
}

fn host_and_port(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match text.rsplit_once(':') {
        // The colon is one of an IPv6 address.
        Some((_, rest)) if rest.ends_with(']') => (text, None),
        Some((host, port)) => (host, Some(port.parse().ok().filter(|port| *port > 0)?)),
        None => (text, None),
    };
    is_host(host).then_some((host, port))
}

fn is_host(text: &str) -> bool {
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    !text.is_empty() && text.len() <= 253 && text.chars().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_stands_for_its_routing_threads() {
        let four = parse_routing("anna-1.local").unwrap();
        assert_eq!(four.first().unwrap(), "tcp://anna-1.local:6450");
        assert_eq!(four.last().unwrap(), "tcp://anna-1.local:6453");
        assert_eq!(four.len(), 4);
        assert_eq!(parse_routing("10.0.0.7:7000").unwrap(), ["tcp://10.0.0.7:7000"]);
        assert_eq!(parse_routing("tcp://a:1, [::1]:2").unwrap(), ["tcp://a:1", "tcp://[::1]:2"]);
        assert_eq!(parse_routing("[::1]").unwrap().first().unwrap(), "tcp://[::1]:6450");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", ":", "a:", "a:0", "a:70000", "a b", "ipc:///tmp/x", "a,,b", "::1", "[x]:1"]
        {
            assert!(parse_routing(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn only_tcp_endpoints_are_sent_to() {
        assert!(is_tcp("tcp://10.0.0.7:6200"));
        for text in ["tcp://10.0.0.7", "ipc:///tmp/x", "inproc://x", "tcp://a;b:1", "tcp://*:1"] {
            assert!(!is_tcp(text), "{text:?} was taken");
        }
    }
}
