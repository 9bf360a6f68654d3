//! `aft inspect`: what a store holds, and what the node that works on it remembers.

use std::net::SocketAddr;
use std::process::ExitCode;

use aft::runtime::{inspect, logging};
use clap::Args;

use super::store::{self, StoreArgs};

/// Count what a store holds: live keys, versions, and garbage by kind.
///
/// With --node a sidecar that runs is asked, at the address of its --admin. It has its store count itself
/// (/inspect), and tells what it remembers. Without, the store that the options name is opened, which takes
/// the same options as aft sidecar. An embedded store can be opened only while no sidecar has it.
///
/// Counting reads the names of all that there is, once, and changes nothing.
#[derive(Args)]
#[command(after_long_help = MANUAL, mut_args(store::shown))]
pub struct InspectArgs {
    /// Ask the sidecar that runs with this --admin
    #[arg(long, value_name = "ADDR:PORT")]
    node: Option<SocketAddr>,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreArgs,
}

const MANUAL: &str = "What the figures mean:
  live keys            have a committed version. Where garbage is collected there
                       are about as many versions and entries in the commit log
  superseded           a newer version makes them useless. They stay until all
                       transactions that may need them have ended, then go
                       within about --collect-each; what was missed is found by
                       sweeping (--sweep-each)
  without a commit     values whose commit has not come yet, or never will
                       (--orphans-after)
  commit log           an entry goes with the last version of its commit
  outcomes             whether an id was committed or aborted: kept for twice
                       --retry-window, so that who asks again is told the same
  the oldest for       how long the oldest transaction runs; garbage waits for it

Examples:
  aft inspect --node 127.0.0.1:9464
  aft inspect --node 127.0.0.1:9464 --json | jq .usage.superseded
  aft inspect --data-dir /var/lib/aft          # while no sidecar runs";

pub fn run(args: InspectArgs) -> ExitCode {
    let settings = match args.store.load() {
        Ok(settings) => settings,
        Err(error) => return super::fail(&error, super::EXIT_USAGE),
    };
    if let Err(error) = logging::init(&settings.log, settings.log_format) {
        return super::fail(&error, super::EXIT_USAGE);
    }
    let found = match args.node {
        Some(admin) => inspect::ask(admin),
        None => inspect::at_rest(&settings),
    };
    match found {
        Ok(found) if args.json => super::print_json(&found),
        Ok(found) => print!("{}", found.render()),
        Err(error) => return super::fail(&error, 1),
    }
    ExitCode::SUCCESS
}
