//! `aft bench`: measurements.

use std::process::ExitCode;

use aft::bench::anna::{self, AnnaOptions};
use aft::bench::client::{self, ClientOptions};
use aft::bench::cluster::{self, ClusterOptions};
use aft::bench::commit::{self, CommitOptions};
use aft::bench::echo::{self, EchoOptions};
use aft::bench::ipc::{self, IpcOptions};
use aft::bench::soak::{self, SoakOptions};
use aft::bench::storage::{self, StorageBenchOptions};
use clap::{Args, Subcommand};

/// Measure what the sidecar costs on this machine.
#[derive(Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Ipc {
        #[command(flatten)]
        options: IpcOptions,
        /// Print JSON instead of tables
        #[arg(long)]
        json: bool,
    },
    Commit {
        #[command(flatten)]
        options: CommitOptions,
        /// Print JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    Anna {
        #[command(flatten)]
        options: AnnaOptions,
        /// Print JSON instead of tables
        #[arg(long)]
        json: bool,
    },
    Cluster {
        #[command(flatten)]
        options: ClusterOptions,
        /// Print JSON instead of tables
        #[arg(long)]
        json: bool,
    },
    Storage {
        #[command(flatten)]
        options: StorageBenchOptions,
        /// Print JSON instead of tables
        #[arg(long)]
        json: bool,
    },
    Soak {
        #[command(flatten)]
        options: SoakOptions,
        /// Print JSON instead of tables
        #[arg(long)]
        json: bool,
    },
    // Started by those above.
    #[command(hide = true)]
    Echo(EchoOptions),
    #[command(hide = true)]
    Client(ClientOptions),
}

pub fn run(args: BenchArgs) -> ExitCode {
    let done = match args.what {
        What::Ipc { options, json } => ipc::run(&options).map(|report| match json {
            true => super::print_json(&report),
            false => print!("{}", report.render()),
        }),
        What::Commit { options, json } => commit::run(&options).map(|report| match json {
            true => super::print_json(&report),
            false => print!("{}", report.render()),
        }),
        What::Anna { options, json } => anna::run(&options).map(|report| match json {
            true => super::print_json(&report),
            false => print!("{}", report.render()),
        }),
        What::Cluster { options, json } => cluster::run(&options).map(|report| match json {
            true => super::print_json(&report),
            false => print!("{}", report.render()),
        }),
        What::Soak { options, json } => soak::run(&options).map(|report| match json {
            true => super::print_json(&report),
            false => print!("{}", report.render()),
        }),
        What::Storage { options, json } => storage::run(&options).map(|report| match json {
            true => print_json(&report),
            false => print!("{}", report.render()),
        }),
        What::Echo(options) => echo::run(&options),
        What::Client(options) => client::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => super::fail(&error, 1),
    }
}
