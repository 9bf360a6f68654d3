//! What the kernel counts for a process.

use std::fs;
use std::time::Duration;

/// How many times a second `/proc/<pid>/stat` counts; the kernel's ABI on every Linux in use.
const TICKS_PER_S: u64 = 100;

/// CPU time used so far by all threads of a process.
pub(super) fn cpu(pid: u32) -> Option<Duration> {
    exact(pid).or_else(|| from_ticks(pid))
}

/// To the nanosecond; threads that have ended are missing.
fn exact(pid: u32) -> Option<Duration> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        sum += text.split(' ').next()?.parse::<u64>().ok()?;
    }
    (sum > 0).then_some(Duration::from_nanos(sum))
}

fn from_ticks(pid: u32) -> Option<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The process's name, in brackets, may hold anything.
    let (_, fields) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let ticks = |field: usize| fields.get(field)?.parse::<u64>().ok();
    let millis = (ticks(11)? + ticks(12)?) * 1_000 / TICKS_PER_S;
    Some(Duration::from_millis(millis))
}

/// Bytes of memory in use.
pub(super) fn resident_bytes(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1_024)
}

/// Open files and sockets.
pub(super) fn open_files(pid: u32) -> Option<usize> {
    Some(fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count())
}

/// Threads that wanted to run on this machine in the last minute, on average.
pub(super) fn load_average() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_process_uses_cpu_and_memory() {
        let pid = std::process::id();
        assert!(super::resident_bytes(pid).unwrap() > 100_000);
        assert!(super::cpu(pid).is_some());
        assert!(super::from_ticks(pid).is_some());
        assert!(super::open_files(pid).unwrap() > 2);
        assert!(super::load_average().is_some());
    }
}
