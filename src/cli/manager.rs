//! `aft manager`: knows the nodes of a cluster.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use aft::manager::{self, ManagerError, Options};
use aft::runtime::config::{ConfigError, Settings};
use aft::runtime::logging;
use aft::runtime::rest::RestError;
use clap::{Arg, Args};

use super::store::{self, StoreArgs};

/// Know the nodes of a cluster, and find commits that nobody told of.
///
/// Sidecars that are started with --manager tell it what they commit, and once a second that they are there
/// (TCP port 7777). Whoever asks is told the addresses of those that live (port 7007: a ZeroMQ REQ with any
/// request, answered with a serialized StringSet of IP, or IP:OFFSET). So nodes may come and go without a
/// list that has to be kept.
///
/// With --storage it follows the commit logs in the store that the nodes share. A commit that stands there, and
/// that no node told of within --gossip-bound, was made by a node that died, or was cut off, right after it: all
/// nodes are told of it, it is logged and counted. Sidecars find such commits themselves within about a second,
/// so that they know them earlier only with a bound well below that, of which the price is more reads of the
/// store.
///
/// Nothing rests on it: while it is away sidecars go on with the nodes that they know. It keeps nothing, and
/// has heard of all nodes a second after it was started again. It may share a machine with a sidecar, with an
/// --ip or --port-offset of its own, as both use port 7777.
///
/// When it serves it prints one line that begins with "ready"; logs go to standard error. SIGTERM and SIGINT
/// end it with status 0.
#[derive(Args)]
#[command(after_long_help = EXAMPLES, mut_args(shown))]
pub struct ManagerArgs {
    /// A node that says nothing for so long is out. Nodes say something each second
    #[arg(
        long,
        env = "AFT_NODE_TIMEOUT",
        value_name = "SECONDS",
        default_value = "5",
        value_parser = parse_seconds,
        help_heading = "Work"
    )]
    node_timeout: Duration,
    /// How long a commit that is in the log may be untold. More than the --gossip-interval of the sidecars
    #[arg(
        long,
        env = "AFT_GOSSIP_BOUND",
        value_name = "SECONDS",
        default_value = "1",
        value_parser = parse_seconds,
        help_heading = "Work"
    )]
    gossip_bound: Duration,
    #[command(flatten)]
    store: StoreArgs,
}

const EXAMPLES: &str = "Examples:
  aft manager --ip 10.0.0.9 --storage anna --anna-routing 10.0.0.7
  aft manager --ip 10.0.0.9 --storage redis --redis-url redis://10.0.0.7
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

/// What a manager has in common with a sidecar.
fn shown(arg: Arg) -> Arg {
    match arg.get_id().as_str() {
        "ip" => arg.help("The address to listen on, and by which nodes call it. [default: 127.0.0.1]"),
        "port_offset" => arg.help("Added to every TCP port. [default: 0]"),
        "admin" => arg.help(format!(
            "Address of /metrics, /livez, /readyz and /status. The default is given up if it is in use. \
             [default: {}]",
            manager::DEFAULT_ADMIN
        )),
        "storage" => arg
            .help("The store that the nodes share, to look there for commits that nobody told of. [default: none]"),
        "data_dir" | "clock_bound" | "txn_lifetime" | "retry_window" => arg.hide(true),
        _ if arg.get_help_heading() == Some("Garbage") => arg.hide(true),
        _ => store::shown(arg),
    }
}

/// What was asked for: how to work, which store to follow, and where to be watched.
struct Asked {
    settings: Settings,
    has_store: bool,
    admin: SocketAddr,
}

impl Asked {
    fn load(args: StoreArgs) -> Result<Self, ConfigError> {
        let mut options = args.given().options()?;
        // What tells sidecars of each other, and of this manager, may stand in the same file or environment.
        (options.manager, options.peer, options.dns) = (None, None, None);
        let has_store = options.storage.is_some();
        let admin = options.admin.unwrap_or(manager::DEFAULT_ADMIN);
        Ok(Self { settings: Settings::load(options, None)?, has_store, admin })
    }
}

pub fn run(args: ManagerArgs) -> ExitCode {
    let ManagerArgs { node_timeout, gossip_bound, store } = args;
    let asked = match Asked::load(store) {
        Ok(asked) => asked,
        Err(error) => return super::fail(&error, super::EXIT_USAGE),
    };
    let settings = &asked.settings;
    if let Err(error) = logging::init(&settings.log, settings.log_format) {
        return super::fail(&error, super::EXIT_USAGE);
    }
    let (ip, port_offset) = (settings.ip, settings.port_offset);
    let options = Options { ip, port_offset, node_timeout, gossip_bound };
    match manager::run(&options, asked.has_store.then_some(settings), asked.admin) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ (ManagerError::PortOffset(_) | ManagerError::Store(RestError::NotShared))) => {
            super::fail(&error, super::EXIT_USAGE)
        }
        Err(error) => super::fail(&error, 1),
    }
}
