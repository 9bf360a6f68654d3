//! `aft gc`: collects the garbage of a store.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::str::FromStr;

use aft::runtime::gc::{self, Collected, GcOptions};
use aft::runtime::logging;
use aft::storage::Share;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::store::{self, StoreArgs};

/// Look through a store and delete what nobody needs any more.
///
/// Sidecars do this themselves (--sweep-each), so nobody has to run it. It helps where no sidecar runs, where
/// they were told not to (--collect-garbage false), and where a shared store is so large that they would take
/// long.
///
/// Nothing promised is lost by that. But whoever still runs a transaction that needs a deleted version has to
/// try again: beside sidecars give it their options, best by their --config file. The clock of its machine has to
/// be right to --clock-bound; sidecars look to each other's clocks.
///
/// Any number of processes can share the work without knowing of each other: --share 1/3, 2/3 and 3/3 do
/// together what one does alone. Each reads the names of everything, and deletes what is its own.
///
/// It goes on for ever, with a pause of --sweep-each after each pass; with --once it ends with status 0 after
/// two passes over the store, as some records are found only when their versions have gone. SIGTERM and
/// SIGINT end it with status 0 at any time. Passes are logged at level info (--log info).
///
/// An embedded store belongs to one process: it can be swept only while no sidecar has it.
#[derive(Args)]
#[command(after_long_help = MANUAL, mut_args(store::shown))]
pub struct GcArgs {
    /// Do this part of the work, of so many
    #[arg(long, value_name = "I/N", default_value = "1/1", value_parser = share, help_heading = "Work")]
    share: Share,
    /// End when all was looked through, instead of going on
    #[arg(long, help_heading = "Work")]
    once: bool,
    /// Look at so many entries in a second at most [default: as fast as it goes]
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..),
        help_heading = "Work"
    )]
    entries_per_second: Option<u32>,
    /// Print the summary as JSON
    #[arg(long, help_heading = "Work")]
    json: bool,
    #[command(flatten)]
    store: StoreArgs,
}

const MANUAL: &str = "What goes:
  versions   when a newer one was committed --txn-lifetime and --clock-bound ago
  records    of commits without versions, with their entries in the commit log
  outcomes   of which only \"committed\" or \"aborted\" is left, after twice
             --retry-window
  values     whose commit has not come within --orphans-after and --clock-bound;
             their id is settled as aborted before

Examples:
  aft gc --once --data-dir /var/lib/aft                       # while no sidecar runs
  aft gc --share 2/3 --config sidecar.toml --log info         # one of three, beside sidecars
  aft gc --entries-per-second 2000 --config sidecar.toml";

/// Reads `2/3`: the second of three parts.
fn share(text: &str) -> Result<Share, String> {
    let parts = text.split_once('/').map(|(part, of)| (u32::from_str(part), u32::from_str(of)));
    match parts {
        Some((Ok(part), Ok(of))) if (1..=of).contains(&part) => Ok(Share { part: part - 1, of }),
        _ => Err("should be the part and their number, such as 1/3, 2/3 or 3/3".to_owned()),
    }
}

pub fn run(args: GcArgs) -> ExitCode {
    let settings = match args.store.load() {
        Ok(settings) => settings,
        Err(error) => return super::fail(&error, super::EXIT_USAGE),
    };
    if let Err(error) = logging::init(&settings.log, settings.log_format) {
        return super::fail(&error, super::EXIT_USAGE);
    }
    let GcArgs { share, once, entries_per_second, json, .. } = args;
    let options = GcOptions { share, once, entries_per_s: entries_per_second };
    let line = progress_line();
    let done = gc::run(&settings, &options, |done| {
        line.inc(1);
        line.set_message(summary(done));
    });
    line.finish_and_clear();
    match done {
        Ok(done) if json => super::print_json(&done),
        Ok(done) => println!("{}", summary(&done)),
        Err(error) => return super::fail(&error, 1),
    }
    ExitCode::SUCCESS
}

/// Shown on standard error, if that is a terminal.
fn progress_line() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {wide_msg}");
    let line = ProgressBar::new_spinner();
    match style {
        Ok(style) => line.with_style(style),
        Err(_) => line,
    }
}

fn summary(done: &Collected) -> String {
    let swept = &done.swept;
    format!(
        "{} passes, {} entries looked at; deleted {} versions, {} records, {} outcomes, {} values without a \
         commit; {:.1} s",
        done.passes,
        swept.looked_at,
        swept.versions,
        swept.records,
        swept.outcomes,
        swept.orphans,
        done.seconds
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_counts_from_one() {
        assert_eq!(share("1/1"), Ok(Share::ALL));
        assert_eq!(share("3/3"), Ok(Share { part: 2, of: 3 }));
        for wrong in ["0/3", "4/3", "1", "a/b", "-1/2", "1/0"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }
}
