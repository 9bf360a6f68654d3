//! `aft manager`: knows the nodes of a cluster.

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use aft::anna::client::parse_routing;
use aft::manager::{self, ManagerError, Options};
use aft::runtime::config::{ConfigError, LogFormat};
use aft::runtime::logging;
use clap::{Args, ValueEnum};

/// Know the nodes of a cluster, and find commits that nobody told of.
///
/// Sidecars that are started with --manager tell it what they commit, and once a second that they are there
/// (TCP port 7777). Whoever asks is told the addresses of those that live (port 7007: a ZeroMQ REQ with any
/// request, answered with a serialized StringSet of IP, or IP:OFFSET). So nodes may come and go without a
/// list that has to be kept.
///
/// With --storage it follows the commit logs in the store. A commit that stands there, and that no node told
/// of within --gossip-bound, was made by a node that died, or was cut off, right after it: all nodes are told
/// of it, it is logged and counted. Sidecars find such commits themselves within about a second, so that they
/// know them earlier only with a bound well below that, of which the price is more reads of the store.
///
/// Nothing rests on it: while it is away sidecars go on with the nodes that they know. It keeps nothing, and
/// has heard of all nodes a second after it was started again. It may share a machine with a sidecar, with an
/// --ip or --port-offset of its own, as both use port 7777.
///
/// When it serves it prints one line that begins with "ready"; logs go to standard error. SIGTERM and SIGINT
/// end it with status 0.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub struct ManagerArgs {
    /// The address to listen on, and by which nodes call it
    #[arg(
        long,
        env = "AFT_IP",
        value_name = "IP",
        default_value = "127.0.0.1",
        help_heading = "Serving"
    )]
    ip: IpAddr,
    /// Add this to the ports
    #[arg(
        long,
        env = "AFT_PORT_OFFSET",
        value_name = "N",
        default_value = "0",
        help_heading = "Serving"
    )]
    port_offset: u16,
    /// Address of /metrics, /livez, /readyz and /status. The default is given up if it is in use
    #[arg(
        long,
        env = "AFT_ADMIN",
        value_name = "ADDR:PORT",
        default_value_t = manager::DEFAULT_ADMIN,
        help_heading = "Serving"
    )]
    admin: SocketAddr,
    /// A node that says nothing for so long is out. Nodes say something each second
    #[arg(
        long,
        env = "AFT_NODE_TIMEOUT",
        value_name = "SECONDS",
        default_value = "5",
        value_parser = parse_seconds,
        help_heading = "Serving"
    )]
    node_timeout: Duration,
    /// The store that the nodes share, to look there for commits that nobody told of
    #[arg(
        long,
        env = "AFT_STORAGE",
        value_enum,
        value_name = "STORE",
        help_heading = "Finding commits"
    )]
    storage: Option<SharedStorage>,
    /// Where Anna's routing tier listens; without a port, 6450 to 6453 are tried. Several may be named,
    /// separated by commas
    #[arg(
        long,
        env = "AFT_ANNA_ROUTING",
        value_name = "HOST[:PORT]",
        default_value = "127.0.0.1",
        help_heading = "Finding commits"
    )]
    anna_routing: String,
    /// How long a commit that is in the log may be untold. More than the --gossip-interval of the sidecars
    #[arg(
        long,
        env = "AFT_GOSSIP_BOUND",
        value_name = "SECONDS",
        default_value = "1",
        value_parser = parse_seconds,
        help_heading = "Finding commits"
    )]
    gossip_bound: Duration,
    /// Log level, or directives such as aft=debug,warn
    #[arg(
        long,
        env = "AFT_LOG",
        value_name = "FILTER",
        default_value = "warn",
        help_heading = "Watching"
    )]
    log: String,
    /// How log lines look
    #[arg(
        long,
        env = "AFT_LOG_FORMAT",
        value_enum,
        default_value = "text",
        help_heading = "Watching"
    )]
    log_format: LogFormat,
}

/// Stores that several nodes can share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SharedStorage {
    /// Anna, the key-value store that Cloudburst uses
    Anna,
}

const EXAMPLES: &str = "Examples:
  aft manager --ip 10.0.0.9 --storage anna --anna-routing 10.0.0.7
  aft sidecar --ip 10.0.0.21 --manager 10.0.0.9 --storage anna --anna-routing 10.0.0.7
  aft manager --port-offset 90                 # on one machine with sidecars
  curl 127.0.0.1:9466/status                   # the nodes, and what was found";

/// Reads a number of seconds that makes sense for waiting.
fn parse_seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.01..=86_400.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("should be a number of seconds from 0.01 to 86400".to_owned()),
    }
}

pub fn run(args: ManagerArgs) -> ExitCode {
    if let Err(error) = logging::init(&args.log, args.log_format) {
        return super::fail(&error, super::EXIT_USAGE);
    }
    if let Err(error) = parse_routing(&args.anna_routing) {
        let why = error.to_string();
        return super::fail(&ConfigError::Value { name: "anna-routing", why }, super::EXIT_USAGE);
    }
    let options = Options {
        ip: args.ip,
        port_offset: args.port_offset,
        node_timeout: args.node_timeout,
        gossip_bound: args.gossip_bound,
    };
    let routing = args.storage.map(|SharedStorage::Anna| args.anna_routing.as_str());
    match manager::run(&options, routing, args.admin) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ ManagerError::PortOffset(_)) => super::fail(&error, super::EXIT_USAGE),
        Err(error) => super::fail(&error, 1),
    }
}
