//! Configuration of a sidecar: flags over environment over file over defaults.
//!
//! [`Options`] is what may be given, each option under one name everywhere: `--txn-timeout` as a flag,
//! `AFT_TXN_TIMEOUT` in the environment, `txn-timeout` in the TOML file. [`Settings`] is what results.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, CommandFactory, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::anna::client::parse_routing;
use crate::peer;
use crate::storage::VALUE_BYTES_MAX;

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("the configuration file {} is not valid: {why}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        why: String,
    },
    /// The file names something that does not exist.
    #[error("the configuration file {} sets {name:?}, which is not an option{}", path.display(), hint(nearest))]
    Unknown {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
        /// What was probably meant.
        nearest: Option<String>,
    },
    /// A value makes no sense.
    #[error("{name}: {why}")]
    Value {
        /// The option.
        name: &'static str,
        /// What is wrong and what would be right.
        why: String,
    },
}

fn hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!("; did you mean {name:?}?")).unwrap_or_default()
}

/// Where versions and commits are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StorageKind {
    /// In a directory on this machine, durable.
    Embedded,
    /// In this process, gone when it ends. For tests.
    Memory,
    /// In Anna, the key-value store that Cloudburst uses.
    Anna,
    /// In Redis or Valkey: one server, sentinels, or a cluster.
    Redis,
    /// In a table of Amazon DynamoDB.
    #[value(name = "dynamodb")]
    #[serde(rename = "dynamodb")]
    DynamoDb,
    /// In a bucket of Amazon S3, or of what speaks its protocol.
    S3,
}

/// Text that may hold a password, which is not shown where settings are logged.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(not shown)")
    }
}

impl std::str::FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

/// Whose word it takes for a write to Anna to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AnnaDurability {
    /// One replica's. A node of Anna that dies before it told the others takes the write with it.
    Any,
    /// That of all replicas of the key.
    All,
}

/// What a read may return.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConsistencyKind {
    /// All of a transaction's writes or none of them.
    ReadAtomic,
    /// The newest value of each key, whatever else was read.
    Lww,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Declares [`Options`] and [`Settings`] together, so that no option is missing in one of them.
macro_rules! options {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:expr, $env:literal, $value:literal, $group:literal $(, [$($more:tt)*])?;)+) => {
        /// What may be given. `None` is: not given here.
        #[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields)]
        pub struct Options {
            $(
                $(#[doc = $doc])+
                #[arg(long, env = $env, value_name = $value, help_heading = $group, hide_env_values = true, $($($more)*)?)]
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $name: Option<$type>,
            )+
        }

        /// The effective configuration.
        #[derive(Debug, Clone, Serialize)]
        #[serde(rename_all = "kebab-case")]
        pub struct Settings {
            $($(#[doc = $doc])+ pub $name: $type,)+
        }

        impl Options {
            /// Fills what is not given here from `less_important`.
            fn or(self, less_important: Self) -> Self {
                Self { $($name: self.$name.or(less_important.$name),)+ }
            }

            fn into_settings(self) -> Settings {
                Settings { $($name: self.$name.unwrap_or_else(|| $default),)+ }
            }
        }
    };
}

options! {
    /// Directory in which the IPC sockets are bound. Created with mode 0770 if it is not there.
    /// [default: /requests]
    ipc_dir: PathBuf = "/requests".into(), "AFT_IPC_DIR", "DIR", "Serving";
    /// This node's address, as it is given to clients and stores. [default: 127.0.0.1]
    ip: IpAddr = [127, 0, 0, 1].into(), "AFT_IP", "IP", "Serving";
    /// Added to every TCP port, so that nodes can share an address; 10 apart is enough, 1 or 100 is not.
    /// [default: 0]
    port_offset: u16 = 0, "AFT_PORT_OFFSET", "N", "Serving";
    /// Address of /metrics, /livez, /readyz and /status. The default is given up if it is in use.
    /// [default: 127.0.0.1:9464]
    admin: SocketAddr = DEFAULT_ADMIN, "AFT_ADMIN", "ADDR:PORT", "Serving";

    /// Where versions and commits are kept. [default: embedded]
    storage: StorageKind = StorageKind::Embedded, "AFT_STORAGE", "STORE", "Storage";
    /// Directory of the embedded store. [default: /var/lib/aft]
    data_dir: PathBuf = "/var/lib/aft".into(), "AFT_DATA_DIR", "DIR", "Storage";

    /// Where Anna's routing tier listens; without a port, 6450 to 6453 are tried. Several may be named,
    /// separated by commas. [default: 127.0.0.1]
    anna_routing: String = "127.0.0.1".to_owned(), "AFT_ANNA_ROUTING", "HOST[:PORT]", "Storage";
    /// Whose word it takes for a write to Anna to be done. [default: any]
    anna_durability: AnnaDurability = AnnaDurability::Any, "AFT_ANNA_DURABILITY", "WHOSE", "Storage";
    /// Key prefixes, separated by commas, whose values are not published in Anna under their plain
    /// names. Functions (funcs:) are read through sidecars only. [default: funcs:]
    anna_unpublished: String = "funcs:".to_owned(), "AFT_ANNA_UNPUBLISHED", "PREFIX,...", "Storage";
    /// The longest that a write to Anna is expected to be under way after its sender died. The log that
    /// a crash left is taken over after so many seconds. [default: 10]
    anna_lands_within: f64 = 10.0, "AFT_ANNA_LANDS_WITHIN", "SECONDS", "Storage";
    /// How often the keys cached here are reported to Anna, where Cloudburst's scheduler looks for
    /// them; 0 for never. [default: 10]
    anna_cache_report: f64 = 10.0, "AFT_ANNA_CACHE_REPORT", "SECONDS", "Storage";

    /// Where Redis or Valkey is: redis://HOST, redis://USER:PASSWORD@HOST:PORT/DB, or rediss:// for TLS. Several,
    /// separated by commas, are nodes of one cluster, or sentinels. [default: redis://127.0.0.1]
    redis_url: Secret = Secret("redis://127.0.0.1".to_owned()), "AFT_REDIS_URL", "URL,...", "Storage";
    /// The name of a master: the addresses are those of sentinels, which know where it is. User, password
    /// and database are the master's. [default: none]
    redis_sentinel: String = String::new(), "AFT_REDIS_SENTINEL", "NAME", "Storage";
    /// What the names of everything in Redis begin with. [default: aft:]
    redis_prefix: String = "aft:".to_owned(), "AFT_REDIS_PREFIX", "PREFIX", "Storage";
    /// The longest that an operation on Redis takes, repetitions and connecting included; a second is added
    /// for each 8 MiB. [default: 3]
    redis_timeout: f64 = 3.0, "AFT_REDIS_TIMEOUT", "SECONDS", "Storage";
    /// Replicas that have to have a commit before it is acknowledged (WAIT). A failover can still lose it
    /// if another replica takes over. [default: 0]
    redis_wait: usize = 0, "AFT_REDIS_WAIT", "N", "Storage";
    /// How long these replicas are waited for. Then the commit is not confirmed, and is repeated.
    /// [default: 1]
    redis_wait_timeout: f64 = 1.0, "AFT_REDIS_WAIT_TIMEOUT", "SECONDS", "Storage";
    /// Read values from the replicas of a Redis cluster, and from its masters what is not there yet.
    /// [default: false]
    redis_replica_reads: bool = false, "AFT_REDIS_REPLICA_READS", "BOOL", "Storage",
        [num_args = 0..=1, require_equals = true, default_missing_value = "true"];
    /// Read what the original AFT left in this Redis, under names that begin with data/ and transactions/,
    /// where a key has no newer value. [default: false]
    redis_original: bool = false, "AFT_REDIS_ORIGINAL", "BOOL", "Storage",
        [num_args = 0..=1, require_equals = true, default_missing_value = "true"];

    /// Table of DynamoDB in which everything is kept. [default: aft]
    dynamodb_table: String = "aft".to_owned(), "AFT_DYNAMODB_TABLE", "NAME", "Storage";
    /// Where DynamoDB is, if it is not Amazon's own: http://HOST:PORT. [default: that of the region]
    dynamodb_endpoint: String = String::new(), "AFT_DYNAMODB_ENDPOINT", "URL", "Storage";
    /// Region of the table. [default: AWS_REGION, the profile, or the machine's own]
    dynamodb_region: String = String::new(), "AFT_DYNAMODB_REGION", "REGION", "Storage";
    /// Read what the original AFT left in this table (it called it AftData) where a key has no newer value.
    /// All of the table is read once. [default: none]
    dynamodb_original: String = String::new(), "AFT_DYNAMODB_ORIGINAL", "NAME", "Storage";

    /// Bucket of S3 in which everything is kept. [default: aft]
    s3_bucket: String = "aft".to_owned(), "AFT_S3_BUCKET", "NAME", "Storage";
    /// What the names of everything in the bucket begin with, up to a slash. [default: aft]
    s3_prefix: String = "aft".to_owned(), "AFT_S3_PREFIX", "PREFIX", "Storage";
    /// Where S3 is, if it is not Amazon's own: http://HOST:PORT or https://…. [default: that of the region]
    s3_endpoint: String = String::new(), "AFT_S3_ENDPOINT", "URL", "Storage";
    /// Region of the bucket. [default: AWS_REGION, or us-east-1]
    s3_region: String = String::new(), "AFT_S3_REGION", "REGION", "Storage";
    /// Read what the original AFT left in this bucket, under names that begin with data/ and transactions/,
    /// where a key has no newer value. [default: false]
    s3_original: bool = false, "AFT_S3_ORIGINAL", "BOOL", "Storage",
        [num_args = 0..=1, require_equals = true, default_missing_value = "true"];

    /// Make the table or bucket that everything is kept in, if it is not there. [default: false]
    create: bool = false, "AFT_CREATE", "BOOL", "Storage",
        [num_args = 0..=1, require_equals = true, default_missing_value = "true"];

    /// Other nodes that are told at once what was committed here: IP or IP:OFFSET, separated by commas.
    /// Each of them has to know this one, too. In a --config file this list, and nothing else, is read
    /// again on SIGHUP. May be combined with --manager and --dns. [default: none]
    peer: String = String::new(), "AFT_PEER", "IP[:OFFSET],...", "Cluster";
    /// The manager of the cluster (see aft manager), which is asked each second for the other nodes, and
    /// told what was committed here. While it is away those known last stay. [default: none]
    manager: String = String::new(), "AFT_MANAGER", "IP[:OFFSET]", "Cluster";
    /// A name that resolves to the addresses of all nodes, such as a headless service; looked up every 5
    /// seconds. [default: none]
    dns: String = String::new(), "AFT_DNS", "NAME", "Cluster";
    /// How often other nodes are told. [default: 100]
    gossip_interval: u64 = 100, "AFT_GOSSIP_INTERVAL", "MILLISECONDS", "Cluster";

    /// Commits of other nodes that are so many seconds ahead of this machine's clock are not read yet.
    /// [default: 60]
    clock_bound: f64 = 60.0, "AFT_CLOCK_BOUND", "SECONDS", "Cluster";

    /// What reads may return. [default: read-atomic]
    consistency: ConsistencyKind = ConsistencyKind::ReadAtomic, "AFT_CONSISTENCY", "LEVEL", "Transactions";
    /// A transaction that is not used for this many seconds is aborted. [default: 60]
    txn_timeout: f64 = 60.0, "AFT_TXN_TIMEOUT", "SECONDS", "Transactions";
    /// A transaction that runs for this many seconds is aborted. [default: 600]
    txn_lifetime: f64 = 600.0, "AFT_TXN_LIFETIME", "SECONDS", "Transactions";
    /// Ids (UUID version 7) made longer ago than this are not retried. At least 10 times the lifetime.
    /// [default: 7200]
    retry_window: f64 = 7200.0, "AFT_RETRY_WINDOW", "SECONDS", "Transactions";

    /// Whether versions that nobody needs are deleted from memory and from the store. [default: true]
    collect_garbage: bool = true, "AFT_COLLECT_GARBAGE", "true|false", "Garbage";
    /// How often versions that were superseded are looked for. [default: 1]
    collect_each: f64 = 1.0, "AFT_COLLECT_EACH", "SECONDS", "Garbage";
    /// Pause between two looks through the whole store for what was missed: by a restart, by a writer that
    /// died; 0 for what suits the store. [default: 600, a day where each look is paid for]
    sweep_each: f64 = 0.0, "AFT_SWEEP_EACH", "SECONDS", "Garbage";
    /// Values whose commit has not come after this time are deleted. Longer than txn-lifetime.
    /// [default: 3600]
    orphans_after: f64 = 3600.0, "AFT_ORPHANS_AFTER", "SECONDS", "Garbage";

    /// The largest value. [default: 64 MiB]
    value_bytes_max: usize = 64 << 20, "AFT_VALUE_BYTES_MAX", "BYTES", "Limits";
    /// The largest request. Up to four times as much is refused with an answer, more is cut off.
    /// [default: 128 MiB]
    message_bytes_max: usize = 128 << 20, "AFT_MESSAGE_BYTES_MAX", "BYTES", "Limits";
    /// The most keys in one request. [default: 65536]
    keys_max: usize = 65_536, "AFT_KEYS_MAX", "N", "Limits";
    /// The most that one transaction may write. [default: 256 MiB]
    txn_bytes_max: usize = 256 << 20, "AFT_TXN_BYTES_MAX", "BYTES", "Limits";
    /// The most that all running transactions together may have written. [default: 1 GiB]
    buffer_bytes_max: usize = 1 << 30, "AFT_BUFFER_BYTES_MAX", "BYTES", "Limits";
    /// The most transactions that run at once. [default: 250000]
    txn_max: usize = 250_000, "AFT_TXN_MAX", "N", "Limits";
    /// Size of the value cache. [default: 256 MiB]
    cache_bytes_max: u64 = 256 << 20, "AFT_CACHE_BYTES_MAX", "BYTES", "Limits";
    /// About how many keys' versions are known without asking the store. Others are looked up when they are
    /// read; about 300 bytes each. [default: 4000000]
    index_keys_max: usize = 4_000_000, "AFT_INDEX_KEYS_MAX", "N", "Limits";
    /// Sockets kept open for answers; the one unused for longest makes room. At most 900.
    /// [default: 700]
    reply_sockets_max: usize = 700, "AFT_REPLY_SOCKETS_MAX", "N", "Limits";

    /// What is logged: error, warn, info, debug, trace, or directives such as aft=debug,warn.
    /// [default: warn]
    log: String = "warn".to_owned(), "AFT_LOG", "FILTER", "Watching";
    /// How log lines look. [default: text]
    log_format: LogFormat = LogFormat::Text, "AFT_LOG_FORMAT", "FORMAT", "Watching";
    /// Write what committed transactions read and wrote to this file, one operation a line:
    /// r(key,value,session,txn) or w(…), for isolation checkers. [default: none]
    history: PathBuf = PathBuf::new(), "AFT_HISTORY", "FILE", "Watching";
}

/// Where the admin endpoint is unless told otherwise.
pub const DEFAULT_ADMIN: SocketAddr =
    SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9464);

impl Settings {
    /// Puts together what was given on the command line (or in the environment) and in the file.
    pub fn load(given: Options, file: Option<&Path>) -> Result<Self, ConfigError> {
        let from_file = file.map(read_file).transpose()?.unwrap_or_default();
        let settings = given.or(from_file).into_settings();
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let seconds = [
            ("txn-timeout", self.txn_timeout),
            ("txn-lifetime", self.txn_lifetime),
            ("retry-window", self.retry_window),
            ("clock-bound", self.clock_bound),
            ("collect-each", self.collect_each),
            ("orphans-after", self.orphans_after),
        ];
        for (name, value) in seconds {
            if !(value.is_finite() && (0.001..=1e9).contains(&value)) {
                let why = format!("{value} is not a number of seconds from 0.001 to 1000000000");
                return Err(ConfigError::Value { name, why });
            }
        }
        let seconds = [
            ("sweep-each", self.sweep_each),
            ("anna-lands-within", self.anna_lands_within),
            ("anna-cache-report", self.anna_cache_report),
        ];
        for (name, value) in seconds {
            if !(0.0..=1e6).contains(&value) {
                let why = format!("{value} is not a number of seconds from 0 to 1000000");
                return Err(ConfigError::Value { name, why });
            }
        }
        let seconds = [
            ("redis-timeout", self.redis_timeout),
            ("redis-wait-timeout", self.redis_wait_timeout),
        ];
        for (name, value) in seconds {
            if !(0.01..=600.0).contains(&value) {
                let why = format!("{value} is not a number of seconds from 0.01 to 600");
                return Err(ConfigError::Value { name, why });
            }
        }
        if self.redis_wait > 0 && self.redis_wait_timeout >= self.redis_timeout {
            let why = format!(
                "{} is not less than redis-timeout ({}), so there would be no time to tell of it",
                self.redis_wait_timeout, self.redis_timeout
            );
            return Err(ConfigError::Value { name: "redis-wait-timeout", why });
        }
        for name in self.peer.split(',').filter(|one| !one.is_empty()) {
            if let Err(error) = peer::check(name) {
                return Err(ConfigError::Value { name: "peer", why: error.to_string() });
            }
        }
        if !self.manager.is_empty() {
            if let Err(error) = peer::check(&self.manager) {
                return Err(ConfigError::Value { name: "manager", why: error.to_string() });
            }
            if self.manager().as_deref() == Some(&self.node_address()) {
                let why =
                    "it is this node's own address; they would bind the same ports".to_owned();
                return Err(ConfigError::Value { name: "manager", why });
            }
        }
        if self.dns.contains(|c: char| c.is_whitespace() || c == ',' || c == ':') {
            let why = format!("{:?} is not a name that could be resolved", self.dns);
            return Err(ConfigError::Value { name: "dns", why });
        }
        if !(1..=60_000).contains(&self.gossip_interval) {
            let why = format!("{} is not between 1 and 60000", self.gossip_interval);
            return Err(ConfigError::Value { name: "gossip-interval", why });
        }
        if self.redis_prefix.is_empty() {
            let why = "it is empty; the names of others would be taken for ours".to_owned();
            return Err(ConfigError::Value { name: "redis-prefix", why });
        }
        #[cfg(feature = "redis")]
        if let Err(error) =
            crate::storage::redis::Address::parse(&self.redis_url.0, &self.redis_sentinel)
        {
            return Err(ConfigError::Value { name: "redis-url", why: error.to_string() });
        }
        if let Err(error) = parse_routing(&self.anna_routing) {
            return Err(ConfigError::Value { name: "anna-routing", why: error.to_string() });
        }
        if let Err(why) = check_table_name(&self.dynamodb_table) {
            return Err(ConfigError::Value { name: "dynamodb-table", why });
        }
        if !self.dynamodb_original.is_empty()
            && let Err(why) = check_table_name(&self.dynamodb_original)
        {
            return Err(ConfigError::Value { name: "dynamodb-original", why });
        }
        let endpoints =
            [("dynamodb-endpoint", &self.dynamodb_endpoint), ("s3-endpoint", &self.s3_endpoint)];
        for (name, endpoint) in endpoints {
            let is_url = ["http://", "https://"].iter().any(|scheme| endpoint.starts_with(scheme));
            if !endpoint.is_empty() && !is_url {
                let why = format!("{endpoint:?} does not begin with http:// or https://");
                return Err(ConfigError::Value { name, why });
            }
        }
        if let Err(why) = check_bucket_name(&self.s3_bucket) {
            return Err(ConfigError::Value { name: "s3-bucket", why });
        }
        if let Err(why) = check_prefix(&self.s3_prefix) {
            return Err(ConfigError::Value { name: "s3-prefix", why });
        }
        if self.retry_window < 10.0 * self.txn_lifetime {
            let why = format!(
                "{} is less than ten times txn-lifetime ({}), so a retry could outlive the memory of its outcome",
                self.retry_window, self.txn_lifetime
            );
            return Err(ConfigError::Value { name: "retry-window", why });
        }
        let counts = [
            ("value-bytes-max", self.value_bytes_max),
            ("message-bytes-max", self.message_bytes_max),
            ("keys-max", self.keys_max),
            ("txn-bytes-max", self.txn_bytes_max),
            ("buffer-bytes-max", self.buffer_bytes_max),
            ("txn-max", self.txn_max),
            ("reply-sockets-max", self.reply_sockets_max),
        ];
        for (name, value) in counts {
            if value == 0 {
                return Err(ConfigError::Value { name, why: "0 would serve nobody".to_owned() });
            }
        }
        if self.reply_sockets_max > 900 {
            let why = format!("{} is more than 900; libzmq allows no more", self.reply_sockets_max);
            return Err(ConfigError::Value { name: "reply-sockets-max", why });
        }
        if self.value_bytes_max > VALUE_BYTES_MAX {
            let why = format!(
                "{} is more than any store takes ({VALUE_BYTES_MAX})",
                self.value_bytes_max
            );
            return Err(ConfigError::Value { name: "value-bytes-max", why });
        }
        if self.message_bytes_max < self.value_bytes_max {
            let why = format!(
                "{} is less than value-bytes-max ({}), so the largest values could not be sent",
                self.message_bytes_max, self.value_bytes_max
            );
            return Err(ConfigError::Value { name: "message-bytes-max", why });
        }
        Ok(())
    }

    /// Which store it is and where, without passwords.
    pub fn storage_shown(&self) -> String {
        match self.storage {
            StorageKind::Embedded => format!("embedded {}", self.data_dir.display()),
            StorageKind::Memory => "memory".to_owned(),
            StorageKind::Anna => format!("anna {}", self.anna_routing),
            StorageKind::Redis => format!("redis {}", self.redis_shown()),
            StorageKind::DynamoDb => format!("dynamodb {}", self.dynamodb_table),
            StorageKind::S3 => format!("s3 {}/{}", self.s3_bucket, self.s3_prefix),
        }
    }

    /// Where Redis is, without user and password.
    fn redis_shown(&self) -> String {
        let host = |url: &str| {
            let url = url.trim();
            let behind_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
            behind_scheme.rsplit_once('@').map_or(behind_scheme, |(_, host)| host).to_owned()
        };
        self.redis_url.0.split(',').map(host).collect::<Vec<_>>().join(",")
    }

    /// The other nodes.
    pub fn peers(&self) -> Vec<Arc<str>> {
        let named = self.peer.split(',').filter(|one| !one.is_empty());
        named.filter_map(|one| peer::normalize(one).ok()).map(Arc::from).collect()
    }

    /// The manager of the cluster.
    pub fn manager(&self) -> Option<Arc<str>> {
        peer::normalize(&self.manager).ok().map(Arc::from)
    }

    /// Whether there may be other nodes to speak to.
    pub fn is_clustered(&self) -> bool {
        !(self.peer.is_empty() && self.manager.is_empty() && self.dns.is_empty())
    }

    /// The name by which others call this node: `IP`, or `IP:OFFSET`.
    pub fn node_address(&self) -> String {
        peer::name(self.ip, self.port_offset)
    }

    /// The settings as a file that would give the same settings.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).unwrap_or_default()
    }
}

/// DynamoDB's rules for the names of tables.
fn check_table_name(name: &str) -> Result<(), String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (3..=255).contains(&name.len()) && name.chars().all(is_allowed) {
        return Ok(());
    }
    Err(format!("{name:?} is not 3 to 255 letters, digits, '-', '_' and '.'"))
}

/// S3's rules for the names of buckets, as far as all that speak its protocol share them.
fn check_bucket_name(name: &str) -> Result<(), String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if (3..=63).contains(&name.len()) && name.chars().all(is_allowed) {
        return Ok(());
    }
    Err(format!("{name:?} is not 3 to 63 letters, digits, '-' and '.'"))
}

/// A name has 1024 bytes at most, of which the longest of ours take 300.
fn check_prefix(prefix: &str) -> Result<(), String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '=');
    let is_part = |part: &str| !matches!(part, "" | "." | "..") && part.chars().all(is_allowed);
    let trimmed = prefix.trim_matches('/');
    if trimmed.len() <= 500 && (trimmed.is_empty() || trimmed.split('/').all(is_part)) {
        return Ok(());
    }
    Err(format!(
        "{prefix:?} is not up to 500 letters, digits, '-', '_', '.' and '=', with slashes between"
    ))
}

/// What a configuration is loaded from, so that it can be loaded again.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// From the command line and the environment.
    pub options: Options,
    /// The file, if one was named.
    pub file: Option<PathBuf>,
}

impl Given {
    /// What results.
    pub fn load(&self) -> Result<Settings, ConfigError> {
        Settings::load(self.options.clone(), self.file.as_deref())
    }

    /// What was given, without the defaults of what was not.
    pub fn options(&self) -> Result<Options, ConfigError> {
        let from_file = self.file.as_deref().map(read_file).transpose()?.unwrap_or_default();
        Ok(self.options.clone().or(from_file))
    }
}

fn read_file(path: &Path) -> Result<Options, ConfigError> {
    let read = |source| ConfigError::Read { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(read)?;
    let invalid = |why: String| ConfigError::Parse { path: path.to_owned(), why };
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| invalid(e.to_string()))?;
    let known = option_names();
    if let Some(name) = table.keys().find(|name| !known.contains(name)) {
        let nearest = nearest(name, &known);
        return Err(ConfigError::Unknown { path: path.to_owned(), name: name.clone(), nearest });
    }
    toml::from_str(&text).map_err(|error| invalid(error.to_string()))
}

fn option_names() -> Vec<String> {
    #[derive(clap::Parser)]
    struct OnlyOptions {
        #[command(flatten)]
        _options: Options,
    }
    let command = OnlyOptions::command();
    command.get_arguments().filter_map(|arg| arg.get_long().map(str::to_owned)).collect()
}

fn nearest(name: &str, known: &[String]) -> Option<String> {
    let distance = |candidate: &&String| strsim::damerau_levenshtein(name, candidate);
    let best = known.iter().min_by_key(distance)?;
    (distance(&best) <= 2 + name.len() / 3).then(|| best.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn load(text: &str, given: Options) -> Result<Settings, ConfigError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        Settings::load(given, Some(file.path()))
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let given = Options { txn_timeout: Some(5.0), ..Options::default() };
        let settings = load("txn-timeout = 7\nkeys-max = 9", given).unwrap();
        assert_eq!((settings.txn_timeout, settings.keys_max), (5.0, 9));
        assert_eq!(settings.txn_max, 250_000);
    }

    #[test]
    fn what_is_printed_can_be_read_again() {
        let settings = Settings::load(Options::default(), None).unwrap();
        let again = load(&settings.to_toml(), Options::default()).unwrap();
        assert_eq!(again.to_toml(), settings.to_toml());
    }

    #[test]
    fn passwords_are_not_logged() {
        let settings = load("redis-url = \"redis://u:hush@h\"", Options::default()).unwrap();
        assert!(!format!("{settings:?}").contains("hush"));
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_nearest() {
        let error = load("txn-timout = 7", Options::default()).unwrap_err().to_string();
        assert!(error.contains("\"txn-timout\"") && error.contains("\"txn-timeout\""), "{error}");
        let error = load("xyzzyplugh = 7", Options::default()).unwrap_err().to_string();
        assert!(!error.contains("did you mean"), "{error}");
    }

    #[test]
    fn senseless_values_are_refused_by_name() {
        for (text, name) in [
            ("txn-timeout = 0", "txn-timeout"),
            ("txn-timeout = inf", "txn-timeout"),
            ("txn-lifetime = 1000", "retry-window"),
            ("txn-max = 0", "txn-max"),
            ("reply-sockets-max = 1000", "reply-sockets-max"),
            ("message-bytes-max = 5", "message-bytes-max"),
            ("value-bytes-max = 2000000000", "value-bytes-max"),
            ("storage = \"tape\"", "tape"),
            ("redis-timeout = 0", "redis-timeout"),
            ("redis-prefix = \"\"", "redis-prefix"),
            ("redis-wait = 1\nredis-wait-timeout = 5", "redis-wait-timeout"),
            ("dynamodb-table = \"a\"", "dynamodb-table"),
            ("dynamodb-endpoint = \"here\"", "dynamodb-endpoint"),
            ("dynamodb-original = \"a table\"", "dynamodb-original"),
            ("s3-endpoint = \"here\"", "s3-endpoint"),
            ("s3-bucket = \"a/b\"", "s3-bucket"),
            ("s3-prefix = \"a//b\"", "s3-prefix"),
            ("ip = \"here\"", "ip"),
            ("manager = \"here\"", "manager"),
            ("manager = \"127.0.0.1\"", "manager"),
            ("dns = \"a name\"", "dns"),
            ("= 5", "="),
        ] {
            let error = load(text, Options::default()).unwrap_err().to_string();
            assert!(error.contains(name), "{text}: {error}");
        }
    }
}
