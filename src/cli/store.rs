//! What commands on a store have in common: the sidecar's options, of which only those are shown that
//! matter to a store.

use std::path::PathBuf;

use aft::runtime::config::{ConfigError, Given, Options, Settings};
use clap::{Arg, Args};

/// Headings below which all options matter.
const HEADINGS: [&str; 2] = ["Storage", "Garbage"];
/// Others that do: the windows of time, and what is logged.
const NAMES: [&str; 6] = ["ip", "clock_bound", "txn_lifetime", "retry_window", "log", "log_format"];
/// They tell a sidecar when and whether to collect.
const SIDECAR_ONLY: [&str; 2] = ["collect_garbage", "collect_each"];

/// Which store, and what it may forget. All options of a sidecar are taken, so that its file and its
/// environment can be used as they are.
#[derive(Args)]
pub struct StoreArgs {
    #[command(flatten)]
    options: Options,
    /// Read options from this TOML file; that of a sidecar will do
    #[arg(long, env = "AFT_CONFIG", value_name = "FILE", help_heading = "Configuration")]
    config: Option<PathBuf>,
}

impl StoreArgs {
    pub fn load(self) -> Result<Settings, ConfigError> {
        self.given().load()
    }

    pub fn given(self) -> Given {
        Given { options: self.options, file: self.config }
    }
}

/// Keeps options out of the manual that mean nothing to a store.
pub fn shown(arg: Arg) -> Arg {
    let name = arg.get_id().as_str();
    let is_sidecars = match arg.get_help_heading() {
        // The command's own.
        None | Some("Configuration" | "Work") => false,
        Some(heading) => {
            SIDECAR_ONLY.contains(&name) || !(HEADINGS.contains(&heading) || NAMES.contains(&name))
        }
    };
    if is_sidecars { arg.hide(true) } else { arg }
}
