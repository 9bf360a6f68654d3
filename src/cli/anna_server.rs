//! `aft anna-server`: a small store that speaks Anna's protocol.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use aft::anna::server::{self, Handle, Misbehaviour, Options, PortOffset, ServerError, admin};
use aft::runtime::config::LogFormat;
use aft::runtime::logging;
use clap::Args;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Serve the protocol of the Anna key-value store, for tests, demonstrations and laptops.
///
/// This is NOT a replacement for Anna: it is a single process without replication, gossip, tiers or
/// elasticity. It answers as Anna does wherever a client can tell the difference, so that what works
/// here works there, and it can be told to misbehave as a cluster in trouble does.
///
/// Clients ask a routing thread (TCP port 6450 and up) which storage thread (6200 and up) serves a
/// key, and send reads and writes there. When the server serves it prints one line that begins with
/// "ready" and names its endpoints; logs go to standard error. SIGTERM and SIGINT end it with status 0.
///
/// Values have one of Anna's lattice types, which is that of the key's first write: LWW (the greater
/// timestamp wins, the later of equal ones), SET and ORDERED_SET (union), PRIORITY (the lower priority
/// wins), SINGLE_CAUSAL and MULTI_CAUSAL (the newer vector clock wins, concurrent values are united).
/// As in Anna there is no delete, an empty value reads as a missing key, and a write without a lattice
/// type or of another than the key's is acknowledged and not stored.
///
/// Unlike Anna it survives an empty key, which it ignores, and gives each key exactly one replica.
#[derive(Args)]
#[command(after_long_help = CONTROL)]
pub struct AnnaServerArgs {
    /// The address to listen on; clients are told it, so they must be able to reach it
    #[arg(long, value_name = "IP", default_value = "127.0.0.1", help_heading = "Where")]
    ip: Ipv4Addr,
    /// Add this to all of Anna's ports; "free" finds an offset at which nobody listens
    #[arg(long, value_name = "N|free", default_value = "0", help_heading = "Where")]
    port_offset: PortOffset,
    /// Storage threads, 1 to 50. Keys are hashed over them; each has a port
    #[arg(long, value_name = "T", default_value_t = 1, help_heading = "Where")]
    threads: usize,
    /// Routing threads, 1 to 10; each has a port. Real clusters run four
    #[arg(long, value_name = "R", default_value_t = 1, help_heading = "Where")]
    routing_threads: usize,
    /// Control over HTTP on this address, see below; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT", help_heading = "Where")]
    admin: Option<SocketAddr>,
    /// Keep values in this directory: an acknowledged write survives the end of the process. Without
    /// it they are in memory only, as in Anna's memory tier
    #[arg(long, value_name = "DIR", help_heading = "Data")]
    data_dir: Option<PathBuf>,
    /// Acknowledge writes before they are on the disk: they survive kill -9, but not a power failure
    #[arg(long, requires = "data_dir", help_heading = "Data")]
    no_sync: bool,
    #[command(flatten)]
    misbehaviour: MisbehaviourArgs,
    /// Log level, or directives such as aft=debug,warn
    #[arg(
        long,
        env = "AFT_LOG",
        value_name = "FILTER",
        default_value = "warn",
        help_heading = "Logs"
    )]
    log: String,
    /// How log lines look
    #[arg(long, env = "AFT_LOG_FORMAT", value_enum, default_value = "text", help_heading = "Logs")]
    log_format: LogFormat,
}

#[derive(Args)]
#[command(next_help_heading = "Misbehaviour (fractions are from 0 to 1)")]
struct MisbehaviourArgs {
    /// Lose this fraction of requests before they are served
    #[arg(long, value_name = "FRACTION", default_value_t)]
    drop_requests: f64,
    /// Lose this fraction of replies; what they answer was done
    #[arg(long, value_name = "FRACTION", default_value_t)]
    drop_replies: f64,
    /// Send each reply so many milliseconds late, drawn from this range
    #[arg(long, value_name = "MIN-MAX", default_value = "0-0", value_parser = parse_delay)]
    delay_ms: (u64, u64),
    /// Send this fraction of replies twice
    #[arg(long, value_name = "FRACTION", default_value_t)]
    twice: f64,
    /// Let this fraction of replies be overtaken by the next one
    #[arg(long, value_name = "FRACTION", default_value_t)]
    reorder: f64,
    /// Answer this fraction of keys with WRONG_THREAD
    #[arg(long, value_name = "FRACTION", default_value_t)]
    wrong_thread: f64,
    /// Let routing say that there are no storage nodes
    #[arg(long)]
    no_servers: bool,
    /// Lose all requests
    #[arg(long)]
    silent: bool,
    /// Begin the random numbers here: the same requests in the same order meet the same faults
    #[arg(long, value_name = "SEED", default_value_t)]
    seed: u64,
}

const CONTROL: &str = r#"Control over HTTP (--admin):
  GET  /status     keys, bytes, counters, endpoints and the present misbehaviour, as JSON
  POST /misbehave  behave like this from now on; what is not named is off, so {} behaves well:
                   {"drop_requests": 0.1, "drop_replies": 0.1, "delay_ms": [0, 50], "twice": 0.1,
                    "reorder": 0.1, "wrong_thread": 0.05, "no_servers": false, "silent": false,
                    "seed": 1}
  POST /forget     lose all values and all memory of keys, as Anna's memory tier in a restart
  POST /move       give keys and their values to another storage thread:
                   {"keys": ["a", "b"], "to": 1}, or all keys to the next thread: {"rotate": 1}
Each POST answers with the status after the change, or with 400 and {"error": "..."}.

Examples:
  aft anna-server
  aft anna-server --threads 4 --routing-threads 4 --data-dir /tmp/anna
  aft anna-server --port-offset 100 --admin 127.0.0.1:9465 --drop-replies 0.05 --delay-ms 0-20
  curl --data '{"silent": true}' 127.0.0.1:9465/misbehave"#;

/// Reads a range of milliseconds, or one number of them.
fn parse_delay(text: &str) -> Result<(u64, u64), std::num::ParseIntError> {
    let (shortest, longest) = text.split_once('-').unwrap_or((text, text));
    Ok((shortest.trim().parse()?, longest.trim().parse()?))
}

impl From<MisbehaviourArgs> for Misbehaviour {
    fn from(args: MisbehaviourArgs) -> Self {
        Self {
            drop_requests: args.drop_requests,
            drop_replies: args.drop_replies,
            delay_ms: args.delay_ms,
            twice: args.twice,
            reorder: args.reorder,
            wrong_thread: args.wrong_thread,
            no_servers: args.no_servers,
            silent: args.silent,
            seed: Some(args.seed),
        }
    }
}

pub fn run(args: AnnaServerArgs) -> ExitCode {
    if let Err(error) = logging::init(&args.log, args.log_format) {
        return super::fail(&error, super::EXIT_USAGE);
    }
    let options = Options {
        ip: args.ip,
        port_offset: args.port_offset,
        threads: args.threads,
        routing_threads: args.routing_threads,
        data_dir: args.data_dir,
        sync: !args.no_sync,
        misbehaviour: args.misbehaviour.into(),
    };
    match serve(options, args.admin) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => super::fail(&error, exit_status(&error)),
    }
}

/// Starts the server and waits for its end.
fn serve(options: Options, admin: Option<SocketAddr>) -> Result<(), ServerError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(refused("an asynchronous runtime"))?;
    runtime.block_on(async {
        // First of all: from here on a signal ends the server in order.
        let mut terminate = signal(SignalKind::terminate()).map_err(refused("SIGTERM"))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(refused("SIGINT"))?;
        let listener = match admin {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        let data = options.data_dir.clone();
        let mut server = server::start(options)?;
        announce(&server, data.as_deref(), listener.as_ref());
        if let Some(listener) = listener {
            tokio::spawn(admin::serve(listener, server.control().clone()));
        }
        tokio::select! {
            ended = server.ended() => ended,
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
        }
    })
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ServerError> {
    TcpListener::bind(address).await.map_err(refused("the --admin address"))
}

fn announce(server: &Handle, data: Option<&Path>, admin: Option<&TcpListener>) {
    let (routing, storage) = (server.routing().join(","), server.storage().join(","));
    let data = data.map_or("memory".to_owned(), |path| path.display().to_string());
    let admin = admin.and_then(|listener| listener.local_addr().ok());
    let admin = admin.map_or("none".to_owned(), |address| address.to_string());
    let offset = server.port_offset();
    let mut out = std::io::stdout();
    // Whoever started us may have closed our output; that is no reason to fail.
    let _ = writeln!(
        out,
        "ready routing={routing} storage={storage} port-offset={offset} data={data:?} admin={admin}"
    );
    let _ = out.flush();
}

fn refused(what: &'static str) -> impl FnOnce(std::io::Error) -> ServerError {
    move |source| ServerError::System { what, source }
}

/// What the caller can put right has another exit status than what the machine refuses.
fn exit_status(error: &ServerError) -> u8 {
    match error {
        ServerError::PortOffset(_) | ServerError::Threads { .. } | ServerError::Misbehaviour(_) => {
            super::EXIT_USAGE
        }
        _ => 1,
    }
}
