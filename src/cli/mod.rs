//! The command line: one file per subcommand.

mod anna_server;
mod bench;
mod gc;
mod inspect;
mod manager;
mod sidecar;
mod sim;
mod store;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A configuration that cannot be used (EX_USAGE of sysexits.h).
const EXIT_USAGE: u8 = 64;

/// Read-atomic transactions for serverless functions.
///
/// A sidecar runs on each machine. Functions on that machine read and write through it; their writes
/// become visible together when they commit, or never.
#[derive(Parser)]
#[command(name = "aft", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Sidecar(Box<sidecar::SidecarArgs>),
    Inspect(Box<inspect::InspectArgs>),
    Gc(Box<gc::GcArgs>),
    Sim(sim::SimArgs),
    Bench(bench::BenchArgs),
    AnnaServer(Box<anna_server::AnnaServerArgs>),
    Manager(Box<manager::ManagerArgs>),
}

/// Parses the command line and does what it says.
pub fn run() -> ExitCode {
    match Cli::parse().command {
        Command::Sidecar(args) => sidecar::run(*args),
        Command::Inspect(args) => inspect::run(*args),
        Command::Gc(args) => gc::run(*args),
        Command::Sim(args) => sim::run(args),
        Command::Bench(args) => bench::run(args),
        Command::AnnaServer(args) => anna_server::run(*args),
        Command::Manager(args) => manager::run(*args),
    }
}

/// Says what went wrong, with its causes, and picks the exit status.
fn fail(error: &dyn std::error::Error, status: u8) -> ExitCode {
    eprintln!("aft: {error}");
    ExitCode::from(status)
}

/// Prints a report for programs.
fn print_json(report: &impl serde::Serialize) {
    match serde_json::to_string_pretty(report) {
        Ok(json) => println!("{json}"),
        Err(error) => eprintln!("aft: cannot print the results: {error}"),
    }
}
