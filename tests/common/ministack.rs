//! A server for DynamoDB and S3 (ministack) in a directory of its own, which ends with the guard.
//!
//! `AFT_TEST_DYNAMODB=URL` and `AFT_TEST_S3=URL` name servers to use instead; tests that stop it, or come
//! between, are then not about that one.

// A test gives up by the real clock.
#![allow(clippy::disallowed_methods)]

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::ports::free_port;

const START_MAX: Duration = Duration::from_secs(60);

/// The server.
pub struct Server {
    pub port: u16,
    child: Child,
    directory: TempDir,
    keeps_objects: bool,
}

impl Server {
    /// Starts a server on a free port; it keeps its tables when it is stopped and started again.
    pub fn start() -> Self {
        Self::begin(false)
    }

    /// The same; it keeps objects, too, which makes it slower.
    #[cfg(feature = "s3")]
    pub fn start_keeping_objects() -> Self {
        Self::begin(true)
    }

    fn begin(keeps_objects: bool) -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let port = free_port();
        let child = spawn(directory.path(), port, keeps_objects);
        let server = Self { port, child, directory, keeps_objects };
        server.wait();
        server
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Ends it in good order, so that it writes down what it holds.
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
        self.child.wait().unwrap();
    }

    pub fn start_again(&mut self) {
        self.child = spawn(self.directory.path(), self.port, self.keeps_objects);
        self.wait();
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    // A test gives up by the real clock.
    #[allow(clippy::disallowed_methods)]
    fn wait(&self) {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let began = Instant::now();
        while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
            assert!(began.elapsed() < START_MAX, "ministack does not answer on port {}", self.port);
            std::thread::yield_now();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(directory: &Path, port: u16, keeps_objects: bool) -> Child {
    let log = std::fs::File::create(directory.join("log")).unwrap();
    Command::new(program())
        .env("BIND_HOST", "127.0.0.1")
        .env("GATEWAY_PORT", port.to_string())
        .env("SERVICES", "dynamodb,s3")
        .env("PERSIST_STATE", "1")
        .env("STATE_DIR", directory.join("state"))
        .env("S3_PERSIST", if keeps_objects { "1" } else { "0" })
        .env("S3_DATA_DIR", directory.join("s3"))
        .env("LOG_LEVEL", "WARNING")
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| {
            panic!(
                "cannot start ministack, a server of DynamoDB and S3 for tests ({error}): \
                 scripts/test installs it, or: pip install ministack"
            )
        })
}

/// Where scripts/setup.sh installs it, or wherever it is found.
fn program() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let installed = target.join("venv/bin/ministack");
    if installed.exists() { installed } else { "ministack".into() }
}
