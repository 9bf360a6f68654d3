//! What is measured, each in a process of its own: the sidecar, the floor, their clients.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::children::{Family, Process};
use super::client::Plan;
use super::stats::{Measured, Round};
use super::{BenchError, process, system};
use crate::runtime::inspect::{self, Inspection};

pub(super) const READY_MAX: Duration = Duration::from_secs(30);
const STATUS_MAX: Duration = Duration::from_secs(10);
/// How much longer than planned a client may take.
const LATE_MAX: Duration = Duration::from_secs(30);
const PYTHON_CLIENT: &str = include_str!("../../scripts/bench/client.py");

/// Something that answers requests in a directory.
pub(super) struct Server {
    pub(super) process: Process,
    pub(super) ipc_dir: PathBuf,
    /// Where its figures are, if it has any.
    pub(super) admin: Option<String>,
}

/// Where a sidecar keeps what it is given.
#[derive(Debug, Clone)]
pub(super) enum Kept {
    Memory,
    Directory(PathBuf),
    Anna {
        routing: String,
        ip: IpAddr,
    },
    #[cfg(feature = "redis")]
    Redis {
        url: String,
        prefix: String,
    },
    #[cfg(feature = "dynamodb")]
    DynamoDb {
        endpoint: String,
        region: String,
        table: String,
        /// A server of our own, which takes any credentials.
        is_own: bool,
    },
    #[cfg(feature = "s3")]
    S3 {
        url: String,
        bucket: String,
        prefix: String,
    },
}

impl Kept {
    /// Of a sidecar with this store: there is one of each.
    fn name(&self) -> &'static str {
        match self {
            Self::Memory => "sidecar-memory",
            Self::Directory(_) | Self::Anna { .. } => "sidecar",
            #[cfg(feature = "redis")]
            Self::Redis { .. } => "sidecar",
            #[cfg(feature = "dynamodb")]
            Self::DynamoDb { .. } => "sidecar",
            #[cfg(feature = "s3")]
            Self::S3 { .. } => "sidecar",
        }
    }

    /// Several sidecars can have this store at once.
    pub(super) fn admits_several(&self) -> bool {
        !matches!(self, Self::Memory | Self::Directory(_))
    }
}

/// What a line such as `ready name=text` says under a name.
pub(super) fn said(line: &str, name: &str) -> Option<String> {
    let mut words = line.split(' ').filter_map(|word| word.split_once('='));
    words.find(|(found, _)| *found == name).map(|(_, text)| text.to_owned())
}

/// Which program plays the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Language {
    /// This program.
    Rust,
    /// The same, over the socket `call`.
    RustCalling,
    /// pyzmq and messages put together by hand.
    Python,
}

impl Language {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::RustCalling => "rust-call",
            Self::Python => "python",
        }
    }
}

pub(super) fn this_program() -> Result<Command, BenchError> {
    let path = std::env::current_exe().map_err(system("find this program's own file"))?;
    Ok(Command::new(path))
}

impl Server {
    /// The responder without logic.
    pub(super) fn floor(family: &Family, value_bytes: usize) -> Result<Self, BenchError> {
        let mut command = this_program()?;
        command.args(["bench", "echo", "--value-bytes", &value_bytes.to_string()]);
        Self::begin(family, "floor", command)
    }

    /// The same on TCP, and its sockets in the order of [`Kind::ALL`](crate::frontend::ipc::Kind::ALL).
    pub(super) fn floor_on_tcp(family: &Family) -> Result<(Self, Vec<String>), BenchError> {
        let mut command = this_program()?;
        command.args(["bench", "echo", "--tcp"]);
        let (server, ready) = Self::begin_saying(family, "floor-tcp", command)?;
        let sockets = said(&ready, "sockets").unwrap_or_default();
        Ok((server, sockets.split(',').map(str::to_owned).collect()))
    }

    /// A sidecar.
    pub(super) fn sidecar(family: &Family, kept: &Kept) -> Result<Self, BenchError> {
        Self::sidecar_with(family, kept.name(), kept, &[])
    }

    /// One of several sidecars, with further options.
    pub(super) fn sidecar_with(
        family: &Family,
        name: &str,
        kept: &Kept,
        more: &[String],
    ) -> Result<Self, BenchError> {
        let mut command = this_program()?;
        command.args(["sidecar", "--admin", "127.0.0.1:0", "--storage"]);
        match kept {
            Kept::Memory => command.arg("memory"),
            Kept::Directory(path) => command.args(["embedded", "--data-dir"]).arg(path),
            Kept::Anna { routing, ip } => {
                let ip = ip.to_string();
                command.args(["anna", "--anna-routing", routing, "--ip", &ip])
            }
            #[cfg(feature = "redis")]
            Kept::Redis { url, prefix } => {
                command.args(["redis", "--redis-url", url, "--redis-prefix", prefix])
            }
            #[cfg(feature = "dynamodb")]
            Kept::DynamoDb { endpoint, region, table, is_own } => {
                if *is_own {
                    command
                        .envs([("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")]);
                }
                command.args(["dynamodb", "--dynamodb-endpoint", endpoint, "--create"]);
                command.args(["--dynamodb-region", region, "--dynamodb-table", table])
            }
            #[cfg(feature = "s3")]
            Kept::S3 { url, bucket, prefix } => {
                command.args(["s3", "--s3-region", "us-east-1", "--s3-endpoint", url]);
                command.args(["--s3-bucket", bucket, "--s3-prefix", prefix])
            }
        };
        command.args(more);
        Self::begin(family, name, command)
    }

    fn begin(family: &Family, name: &str, command: Command) -> Result<Self, BenchError> {
        Self::begin_saying(family, name, command).map(|(server, _)| server)
    }

    /// Answers the line with which it said that it is ready, too.
    fn begin_saying(
        family: &Family,
        name: &str,
        mut command: Command,
    ) -> Result<(Self, String), BenchError> {
        let ipc_dir = family.path().join(name);
        command.arg("--ipc-dir").arg(&ipc_dir);
        let process = family.spawn(name, &mut command)?;
        let ready = process.line("ready", READY_MAX)?;
        Ok((Self { process, ipc_dir, admin: said(&ready, "admin") }, ready))
    }

    /// What the sidecar says of itself.
    pub(super) fn status(&self) -> Result<serde_json::Value, BenchError> {
        let silent = || self.process.failed("does not tell its figures");
        serde_json::from_str(&self.ask("/status")?).map_err(|_| silent())
    }

    /// What its store holds, counted now.
    pub(super) fn inspect(&self) -> Result<Inspection, BenchError> {
        let admin = self.admin.as_deref().and_then(|address| address.parse().ok());
        let admin = admin.ok_or_else(|| self.process.failed("has no admin endpoint"))?;
        inspect::ask(admin).map_err(|why| self.process.failed(why.to_string()))
    }

    /// The sum of a counter over its labels.
    pub(super) fn counter(&self, name: &str) -> Result<u64, BenchError> {
        let metrics = self.ask("/metrics")?;
        let of_counter = metrics.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
        });
        let counts = of_counter.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        Ok(counts.sum::<f64>() as u64)
    }

    fn ask(&self, path: &str) -> Result<String, BenchError> {
        let admin = self.admin.as_deref();
        let admin = admin.ok_or_else(|| self.process.failed("has no admin endpoint"))?;
        let config = ureq::Agent::config_builder().timeout_global(Some(STATUS_MAX)).proxy(None);
        let agent = ureq::Agent::new_with_config(config.build());
        let answer = agent.get(format!("http://{admin}{path}")).call();
        let text = answer.and_then(|mut answer| answer.body_mut().read_to_string());
        text.map_err(|why| self.process.failed(format!("does not tell its figures: {why}")))
    }
}

/// Lets client processes put load on servers, in turns, and tells how each fared.
pub(super) fn load(
    family: &Family,
    servers: &[&Server],
    language: Language,
    processes: usize,
    load: &Load,
) -> Result<Vec<Round>, BenchError> {
    let mut clients = clients(family, servers, language, processes, load)?;
    let cpu = |server: &&Server| process::cpu(server.process.pid()).unwrap_or_default();
    let before: Vec<Duration> = servers.iter().map(cpu).collect();
    for client in &mut clients {
        client.go()?;
    }
    let mut measured: Vec<Vec<Measured>> = servers.iter().map(|_| Vec::new()).collect();
    for client in &clients {
        for _ in 0..load.threads {
            for of_server in &mut measured {
                of_server.push(result(client, load.planned(servers.len()))?);
            }
        }
    }
    let used = servers.iter().map(cpu).zip(before);
    let rounds = measured.iter().zip(used).map(|(measured, (after, before))| {
        Round::merge(measured).with_cpu(after.saturating_sub(before))
    });
    Ok(rounds.collect())
}

/// Lets one process put load on a server until it is dropped.
pub(super) fn load_on(
    family: &Family,
    server: &Server,
    load: &Load,
) -> Result<Process, BenchError> {
    let mut clients = clients(family, &[server], Language::Rust, 1, load)?;
    let nobody = || server.process.failed("has no client");
    let mut client = clients.pop().ok_or_else(nobody)?;
    client.go()?;
    Ok(client)
}

/// Client processes that are ready and wait.
fn clients(
    family: &Family,
    servers: &[&Server],
    language: Language,
    processes: usize,
    load: &Load,
) -> Result<Vec<Process>, BenchError> {
    let clients = (0..processes)
        .map(|number| {
            let name = format!("{}-{number}", language.name());
            let mut command = client(family, servers, language, load)?;
            family.spawn(&name, command.args(["--name", &name]))
        })
        .collect::<Result<Vec<_>, _>>()?;
    for client in &clients {
        client.line("ready", READY_MAX)?;
    }
    Ok(clients)
}

fn result(client: &Process, planned: Duration) -> Result<Measured, BenchError> {
    let line = client.line("{", planned + LATE_MAX)?;
    serde_json::from_str(&line).map_err(|why| client.failed(format!("printed: {why}")))
}

fn client(
    family: &Family,
    servers: &[&Server],
    language: Language,
    load: &Load,
) -> Result<Command, BenchError> {
    let mut command = match language {
        Language::Rust | Language::RustCalling => {
            let mut command = this_program()?;
            command.args(["bench", "client"]);
            command.args((language == Language::RustCalling).then_some("--call"));
            command
        }
        Language::Python => {
            let mut command = Command::new("python3");
            command.arg(python_client(family)?);
            command
        }
    };
    for server in servers {
        command.arg("--ipc-dir").arg(&server.ipc_dir);
    }
    command.args(["--plan", load.plan.name()]);
    for (option, value) in [
        ("--threads", load.threads.to_string()),
        ("--seconds", load.seconds.to_string()),
        ("--warmup-seconds", load.warmup_seconds.to_string()),
        ("--writes", load.writes.to_string()),
        ("--value-bytes", load.value_bytes.to_string()),
        ("--keys", load.keys.to_string()),
    ] {
        command.args([option, &value]);
    }
    Ok(command)
}

/// What each client process is to do.
#[derive(Debug, Clone)]
pub(super) struct Load {
    pub(super) plan: Plan,
    pub(super) threads: usize,
    /// For each server.
    pub(super) seconds: f64,
    pub(super) warmup_seconds: f64,
    /// Of each transaction that only writes.
    pub(super) writes: usize,
    pub(super) value_bytes: usize,
    pub(super) keys: usize,
}

impl Load {
    fn planned(&self, servers: usize) -> Duration {
        Duration::from_secs_f64((self.seconds + self.warmup_seconds) * servers as f64)
    }
}

/// Why no Python client can run here, if none can.
pub(super) fn python_is_missing() -> Option<String> {
    let test = "import zmq, sys; sys.exit(sys.version_info < (3, 8))";
    let mut command = Command::new("python3");
    match command.args(["-c", test]).output() {
        Err(error) => Some(format!("python3 cannot be started: {error}")),
        Ok(done) if done.status.success() => None,
        Ok(_) => Some("python3 (3.8 or newer) has no module zmq: install pyzmq".to_owned()),
    }
}

/// The Python client as a file; it comes with this program.
fn python_client(family: &Family) -> Result<PathBuf, BenchError> {
    let path = family.path().join("client.py");
    if !path.exists() {
        std::fs::write(&path, PYTHON_CLIENT)
            .map_err(system(format!("write {}", path.display())))?;
    }
    Ok(path)
}
