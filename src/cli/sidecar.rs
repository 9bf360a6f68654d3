//! `aft sidecar`: the daemon.

use std::path::PathBuf;
use std::process::ExitCode;

use aft::runtime::config::{Given, Options};
use aft::runtime::{logging, sidecar};
use clap::Args;

/// Serve the functions on this machine.
///
/// Options may be given as flags, in the environment, or in a TOML file under the same names; flags
/// win over the environment, the environment over the file, the file over the defaults. When the
/// sidecar serves it prints one line that begins with "ready"; logs go to standard error. SIGTERM ends
/// it: running transactions get up to 5 seconds, then it exits with status 0.
///
/// SIGHUP reads the list of peers in the --config file again, and nothing else of it; a file that cannot be
/// used is refused and the list stays. Whatever else is changed there needs a restart.
#[derive(Args)]
pub struct SidecarArgs {
    #[command(flatten)]
    options: Options,
    /// Read options from this TOML file
    #[arg(long, env = "AFT_CONFIG", value_name = "FILE", help_heading = "Configuration")]
    config: Option<PathBuf>,
    /// Say whether the configuration is usable, and exit
    #[arg(long, help_heading = "Configuration")]
    check_config: bool,
    /// Print the effective configuration as a file, and exit
    #[arg(long, help_heading = "Configuration")]
    print_config: bool,
}

pub fn run(args: SidecarArgs) -> ExitCode {
    let given = Given { options: args.options, file: args.config };
    let settings = match given.load() {
        Ok(settings) => settings,
        Err(error) => return super::fail(&error, super::EXIT_USAGE),
    };
    if let Err(error) = logging::init(&settings.log, settings.log_format) {
        return super::fail(&error, super::EXIT_USAGE);
    }
    if args.print_config {
        print!("{}", settings.to_toml());
        return ExitCode::SUCCESS;
    }
    if args.check_config {
        println!("the configuration is usable");
        return ExitCode::SUCCESS;
    }
    match sidecar::run(&settings, given) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => super::fail(&error, 1),
    }
}
