//! Whether a restart takes longer after more transactions on the same keys.

use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, io};

use serde::Serialize;

use super::sample::disk_bytes;
use super::{SECONDS_MAX, Soak};
use crate::bench::client::Plan;
use crate::bench::ipc;
use crate::bench::sidecar::load_on;
use crate::bench::stats::median;
use crate::bench::table::{Table, times};
use crate::bench::{BenchError, process, system};

const NAME: &str = "restart";
const COPY: &str = "restarted";
/// Writers at once: commits are written in groups.
const WRITERS: usize = 32;
const TRIES: usize = 3;
const LOOK_EACH: Duration = Duration::from_millis(100);

/// Restarts after few transactions and after many, of a process that had ended as it should and of one
/// that had been killed.
#[derive(Debug, Serialize)]
pub struct Restarts {
    ended: Pair,
    killed: Pair,
}

/// Restarts of the same store after few transactions and after many.
#[derive(Debug, Serialize)]
pub struct Pair {
    first: Restart,
    second: Restart,
    ratio: f64,
    cpu_ratio: f64,
}

/// A restart after so many transactions.
#[derive(Debug, Serialize)]
pub struct Restart {
    transactions: u64,
    /// Until it was ready.
    seconds: f64,
    /// CPU time of the process until then, which other processes disturb less.
    cpu_seconds: f64,
    disk_bytes: u64,
}

impl Restarts {
    pub(super) fn measure(soak: &Soak<'_>) -> Result<Self, BenchError> {
        let keys = soak.options.keys as u64;
        let (killed, ended) = Restart::measure(soak, keys, 0)?;
        let after = soak.options.restart_after;
        let (killed_later, ended_later) = Restart::measure(soak, after, killed.transactions)?;
        Ok(Self { ended: Pair::new(ended, ended_later), killed: Pair::new(killed, killed_later) })
    }

    pub(super) fn render(&self) -> String {
        let mut table =
            Table::new(&["restart after", "until ready", "ratio", "CPU time", "ratio", "disk"]);
        for (pair, how) in [(&self.ended, ""), (&self.killed, ", killed")] {
            pair.add_to(&mut table, how);
        }
        table.render()
    }
}

impl Pair {
    fn new(first: Restart, second: Restart) -> Self {
        let ratio = second.seconds / first.seconds.max(1e-9);
        let cpu_ratio = second.cpu_seconds / first.cpu_seconds.max(1e-9);
        Self { first, second, ratio, cpu_ratio }
    }

    fn add_to(&self, table: &mut Table, how: &str) {
        for (restart, ratio, cpu_ratio) in
            [(&self.first, 1.0, 1.0), (&self.second, self.ratio, self.cpu_ratio)]
        {
            table.row(vec![
                format!("{} transactions{how}", restart.transactions),
                format!("{:.3} s", restart.seconds),
                times(ratio),
                format!("{:.3} s", restart.cpu_seconds),
                times(cpu_ratio),
                format!("{:.1} MiB", restart.disk_bytes as f64 / f64::from(1 << 20)),
            ]);
        }
    }
}

impl Restart {
    /// Writes until there were so many transactions, `before` of them already, and starts again: first
    /// after the process was killed, then after it has ended as it should.
    fn measure(
        soak: &Soak<'_>,
        transactions: u64,
        before: u64,
    ) -> Result<(Self, Self), BenchError> {
        let sidecar = soak.sidecar(NAME)?;
        let wanted = transactions.saturating_sub(before);
        let client = load_on(&soak.family, &sidecar, &soak.work(Plan::Put, WRITERS, SECONDS_MAX))?;
        let progress = ipc::bar(usize::try_from(wanted).unwrap_or(usize::MAX));
        progress.set_message("writing before a restart");
        let mut done = 0;
        while done < wanted {
            std::thread::sleep(LOOK_EACH);
            done = sidecar.counter("aft_transactions_ended_total")?;
            progress.set_position(done);
        }
        progress.finish_and_clear();
        drop(client);
        // Kills it.
        drop(sidecar);
        let killed = Self::of_copies(soak, before + done)?;
        soak.sidecar(NAME)?.process.end();
        Ok((killed, Self::of_copies(soak, before + done)?))
    }

    /// Starts with copies of the store as it was left.
    fn of_copies(soak: &Soak<'_>, transactions: u64) -> Result<Self, BenchError> {
        let left = soak.store(NAME);
        let (mut took, mut cpu) = (Vec::new(), Vec::new());
        for _ in 0..TRIES {
            // The first start would leave another store behind. Each is to find the same.
            let copied = soak.store(COPY);
            copy(&left, &copied).map_err(system("copy the store"))?;
            let began = Instant::now();
            let sidecar = soak.sidecar(COPY)?;
            took.push(began.elapsed().as_secs_f64());
            cpu.push(process::cpu(sidecar.process.pid()).unwrap_or_default().as_secs_f64());
            sidecar.process.end();
            fs::remove_dir_all(&copied).map_err(system("remove a copy of the store"))?;
        }
        Ok(Self {
            transactions,
            seconds: median(took.into_iter()),
            cpu_seconds: median(cpu.into_iter()),
            disk_bytes: disk_bytes(&left),
        })
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}
