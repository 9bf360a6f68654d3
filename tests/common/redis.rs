//! Redis servers for tests: real ones, each on a free port and in a directory of its own.

// A test gives up by the real clock, and has nothing to wait on but the server itself.
#![allow(clippy::disallowed_methods)]

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use tempfile::TempDir;

use super::ports::free_port;

/// How often a condition is looked at.
const LOOK_EACH: Duration = Duration::from_millis(10);
/// How long a server may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server that ends with this.
pub struct RedisServer {
    pub port: u16,
    directory: TempDir,
    options: Vec<String>,
    child: Option<Child>,
}

impl RedisServer {
    /// Starts a server with more options, such as `--appendonly yes`.
    pub fn start(options: &[&str]) -> Self {
        // A port that was free may be taken by another test meanwhile.
        for _ in 0..20 {
            let options = options.iter().map(|option| (*option).to_owned()).collect();
            let directory = TempDir::new().expect("a directory");
            let mut server = Self { port: free_port(), directory, options, child: None };
            if server.run() {
                return server;
            }
        }
        panic!("redis-server did not start");
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Starts it, again if it was stopped; false if it ended at once.
    pub fn run(&mut self) -> bool {
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        command.arg("--dir").arg(self.directory.path());
        command.args(&self.options).stdout(Stdio::null());
        let child = command.spawn().unwrap_or_else(|error| {
            panic!("redis-server cannot be run ({error}); install it: apt-get install redis-server")
        });
        let child = self.child.insert(child);
        let began = std::time::Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if child.try_wait().expect("a state").is_some() {
                return false;
            }
            assert!(began.elapsed() < PATIENCE, "redis-server does not listen");
            std::thread::sleep(LOOK_EACH);
        }
        // It may be another's port.
        let pid = self.info("server", "process_id");
        pid == self.child.as_ref().map(|child| child.id().to_string())
    }

    /// What the server says of itself.
    pub fn info(&self, section: &str, name: &str) -> Option<String> {
        let text = self.cli(&["INFO", section]);
        let mut lines = text.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(found, _)| *found == name).map(|(_, value)| value.trim().to_owned())
    }

    /// Asks the server by its own client.
    pub fn cli(&self, args: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        let output = command.args(["-p", &self.port.to_string()]).args(args).output();
        let output = output.expect("redis-cli runs; it comes with redis-server");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Ends it without a warning.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("kill");
            child.wait().expect("wait");
        }
    }

    /// Stops it from doing anything, or lets it go on.
    pub fn pause(&self, paused: bool) {
        let signal = if paused { "-STOP" } else { "-CONT" };
        let pid = self.child.as_ref().expect("a process").id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill").success());
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Three masters and a replica of each.
pub struct RedisCluster {
    pub servers: Vec<RedisServer>,
}

impl RedisCluster {
    pub fn start() -> Self {
        let options =
            ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--appendonly", "no"];
        let servers: Vec<_> = (0..6).map(|_| RedisServer::start(&options)).collect();
        let mut command = Command::new("redis-cli");
        command.args(["--cluster", "create"]);
        command.args(servers.iter().map(|server| format!("127.0.0.1:{}", server.port)));
        command.args(["--cluster-replicas", "1", "--cluster-yes"]).stdout(Stdio::null());
        assert!(command.status().expect("redis-cli").success(), "the cluster is made");
        let cluster = Self { servers };
        let all = |what: &str, of: &str| {
            cluster.servers.iter().all(|s| s.cli(&["CLUSTER", of]).contains(what))
        };
        wait_for("all servers agree", || all("cluster_state:ok", "INFO"));
        let linked = |s: &RedisServer| {
            s.info("replication", "role").as_deref() == Some("master")
                || s.info("replication", "master_link_status").as_deref() == Some("up")
        };
        wait_for("replicas follow", || cluster.servers.iter().all(linked));
        cluster
    }

    /// Moves so many slots, with all that is in them, from one master to another: as operators do it.
    pub fn move_slots(&self, from: usize, to: usize, slots: usize) -> JoinHandle<()> {
        let id = |server: usize| self.servers[server].cli(&["CLUSTER", "MYID"]);
        let address = format!("127.0.0.1:{}", self.servers[from].port);
        let mut command = Command::new("redis-cli");
        command.args(["--cluster", "reshard", &address, "--cluster-from", &id(from)]);
        command.args(["--cluster-to", &id(to), "--cluster-slots", &slots.to_string()]);
        command.args(["--cluster-yes"]).stdout(Stdio::null());
        std::thread::spawn(move || {
            assert!(command.status().expect("redis-cli").success(), "slots were moved");
        })
    }

    /// All addresses.
    pub fn urls(&self) -> String {
        let urls: Vec<_> = self.servers.iter().map(RedisServer::url).collect();
        urls.join(",")
    }
}

/// Waits until something is so.
pub fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(LOOK_EACH);
    }
}
