//! What is looked at again and again.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::super::sidecar::Server;
use super::super::{BenchError, process, system};

/// Declares a sample, so that no figure is missing in a file of them.
macro_rules! sample {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty,)+) => {
        /// One look.
        #[derive(Debug, Clone, Default, Serialize)]
        pub struct Sample {
            $($(#[doc = $doc])+ pub $name: $type,)+
        }

        impl Sample {
            const HEAD: &'static str = concat!("", $(stringify!($name), ",",)+);

            fn line(&self) -> String {
                [$(self.$name.to_string(),)+].join(",")
            }
        }
    };
}

sample! {
    /// Since the load began.
    seconds: f64,
    /// Committed since the sidecar was started.
    transactions: u64,
    /// Since the sample before.
    transactions_per_s: f64,
    /// Memory of the sidecar.
    resident_bytes: u64,
    /// Blocks of the files of its store.
    disk_bytes: u64,
    /// Versions in its index.
    index_versions: u64,
    /// Versions in its store.
    store_versions: u64,
    /// Entries in the store's log.
    log_entries: u64,
    /// Outcomes in the store.
    outcomes: u64,
}

impl Sample {
    pub(super) fn take(
        sidecar: &Server,
        store: &Path,
        elapsed: Duration,
    ) -> Result<Self, BenchError> {
        let gone = || sidecar.process.failed("cannot be looked at");
        let found = sidecar.inspect()?;
        let (usage, node) = (found.usage.ok_or_else(gone)?, found.node.ok_or_else(gone)?);
        Ok(Self {
            seconds: elapsed.as_secs_f64(),
            transactions: sidecar.counter("aft_transactions_ended_total")?,
            transactions_per_s: 0.0,
            resident_bytes: process::resident_bytes(sidecar.process.pid()).ok_or_else(gone)?,
            disk_bytes: disk_bytes(store),
            index_versions: node.versions as u64,
            store_versions: usage.versions,
            log_entries: usage.log_entries,
            outcomes: usage.outcomes,
        })
    }
}

/// What the files below a directory take. Some may go while they are counted.
pub(super) fn disk_bytes(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let bytes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => disk_bytes(&entry.path()),
        Ok(found) => found.blocks() * 512,
        Err(_) => 0,
    });
    bytes.sum()
}

/// All looks, in memory and in a file.
#[derive(Debug, Serialize)]
pub struct Samples {
    #[serde(skip)]
    file: Option<File>,
    /// In the order of time.
    pub taken: Vec<Sample>,
}

impl Samples {
    pub(super) fn begin(path: Option<&Path>) -> Result<Self, BenchError> {
        let create = |path: &Path| {
            let mut file = File::create(path)?;
            writeln!(file, "{}", Sample::HEAD.trim_end_matches(','))?;
            Ok(file)
        };
        let named = |path: &Path| path.display().to_string();
        let file = path
            .map(|path| create(path).map_err(system(format!("write {}", named(path)))))
            .transpose()?;
        Ok(Self { file, taken: Vec::new() })
    }

    pub(super) fn add(&mut self, mut sample: Sample) -> Result<(), BenchError> {
        let before = self.taken.last();
        let (seconds, transactions) = before.map_or((0.0, 0), |b| (b.seconds, b.transactions));
        let more = sample.transactions.saturating_sub(transactions) as f64;
        // What was committed before the first look is the filling's.
        if before.is_some() {
            sample.transactions_per_s = more / (sample.seconds - seconds).max(1e-9);
        }
        if let Some(file) = &mut self.file {
            writeln!(file, "{}", sample.line()).map_err(system("write the samples"))?;
        }
        self.taken.push(sample);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_samples_has_a_head() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut samples = Samples::begin(Some(file.path())).unwrap();
        for (seconds, transactions) in [(1.0, 50), (3.0, 250)] {
            samples.add(Sample { seconds, transactions, ..Sample::default() }).unwrap();
        }
        assert_eq!(samples.taken[1].transactions_per_s, 100.0);
        let text = fs::read_to_string(file.path()).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("seconds,transactions,") && lines[0].ends_with("outcomes"));
        assert_eq!(lines[2], "3,250,100,0,0,0,0,0,0");
    }
}
