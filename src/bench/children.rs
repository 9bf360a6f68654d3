//! Child processes that do not outlive the benchmark: ended when dropped, also by a panic, and when
//! the benchmark is interrupted.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};

use super::{BenchError, system};

/// How long a child that was asked to end may take.
const END_MAX: Duration = Duration::from_secs(10);
const INTERRUPTED: i32 = 130;

/// All living children, and the directory in which they work.
#[derive(Clone)]
pub(super) struct Family {
    pids: Arc<Mutex<BTreeSet<u32>>>,
    place: Arc<Place>,
}

/// A directory that goes when the benchmark goes, unless it is to be kept.
struct Place {
    path: PathBuf,
    keep: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.keep {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

impl Family {
    /// Makes a directory below `parent` and watches for signals from now on.
    pub(super) fn begin(parent: &Path, keep: bool) -> Result<Self, BenchError> {
        let path = parent.join(format!("aft-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(system(format!("create {}", path.display())))?;
        let family = Self { pids: Arc::default(), place: Arc::new(Place { path, keep }) };
        family.watch_signals()?;
        Ok(family)
    }

    pub(super) fn path(&self) -> &Path {
        &self.place.path
    }

    pub(super) fn spawn(&self, name: &str, command: &mut Command) -> Result<Process, BenchError> {
        for (variable, _) in std::env::vars_os() {
            // What configures another sidecar must not configure this one.
            if variable.to_string_lossy().starts_with("AFT_") {
                command.env_remove(variable);
            }
        }
        let log = self.path().join(format!("{name}.log"));
        let errors =
            std::fs::File::create(&log).map_err(system(format!("create {}", log.display())))?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
        // Held until the child is listed, so that no signal finds it missing.
        let mut pids = self.pids.lock();
        let mut child = command.spawn().map_err(system(format!("start {name}")))?;
        pids.insert(child.id());
        drop(pids);
        let (sender, lines) = channel();
        let output = child.stdout.take();
        std::thread::spawn(move || {
            let Some(output) = output else { return };
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Process {
            name: name.to_owned(),
            log,
            family: self.clone(),
            input: child.stdin.take(),
            child,
            lines,
        })
    }

    /// On SIGINT and SIGTERM: ends the children, removes the directory, exits.
    fn watch_signals(&self) -> Result<(), BenchError> {
        use tokio::signal::unix::{SignalKind, signal};
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(system("watch for signals"))?;
        let entered = runtime.enter();
        let mut interrupt = signal(SignalKind::interrupt()).map_err(system("watch for SIGINT"))?;
        let mut terminate = signal(SignalKind::terminate()).map_err(system("watch for SIGTERM"))?;
        drop(entered);
        let pids = self.pids.clone();
        let (path, keep) = (self.place.path.clone(), self.place.keep);
        std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            });
            let pids = pids.lock();
            for pid in &*pids {
                send(*pid, Signal::KILL);
            }
            if !keep {
                let _ = std::fs::remove_dir_all(path);
            }
            // The lock is never let go, so that no child is started after this.
            std::process::exit(INTERRUPTED);
        });
        Ok(())
    }
}

/// One child.
pub(super) struct Process {
    name: String,
    log: PathBuf,
    family: Family,
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Process {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line that begins with `prefix`.
    pub(super) fn line(&self, prefix: &str, timeout: Duration) -> Result<String, BenchError> {
        let until = Instant::now() + timeout;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.starts_with(prefix) => return Ok(line),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => {
                    let what = format!("said nothing for {:.0} s", timeout.as_secs_f64());
                    return Err(self.failed(what));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let said = std::fs::read_to_string(&self.log).unwrap_or_default();
                    let last = said.trim().lines().last().unwrap_or("nothing").to_owned();
                    return Err(self.failed(format!("ended too early and said: {last}")));
                }
            }
        }
    }

    /// Tells it to go on.
    pub(super) fn go(&mut self) -> Result<(), BenchError> {
        let sent = self.input.as_mut().map(|input| input.write_all(b"go\n"));
        match sent {
            Some(Ok(())) => Ok(()),
            _ => Err(self.failed("does not listen")),
        }
    }

    pub(super) fn failed(&self, what: impl Into<String>) -> BenchError {
        BenchError::Child {
            name: self.name.clone(),
            what: what.into(),
            log: self.family.place.keep.then(|| self.log.clone()),
        }
    }

    /// Asks it to end, and waits until it has.
    pub(super) fn end(mut self) {
        send(self.pid(), Signal::TERM);
        let until = Instant::now() + END_MAX;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let mut pids = self.family.pids.lock();
        // Its number is free for others once it was waited for.
        let _ = self.child.wait();
        pids.remove(&self.child.id());
    }
}

fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}
