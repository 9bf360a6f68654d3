//! What is looked at before a server is trusted with data.

use redis::{Cmd, FromRedisValue, Value};

use super::address::{Address, Topology};
use super::fault::{Fault, in_answer};
use super::names::{CLUSTER_PARTITIONS, Names};

/// The layout that this code reads and writes.
const FORMAT: u64 = 1;

/// Why a store is not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No answer; it may come.
    #[error("cannot reach Redis at {address}: {why}")]
    Away {
        /// Where.
        address: String,
        /// Why not.
        why: String,
    },
    /// An answer that will not change by itself.
    #[error("Redis at {address} refuses: {why}")]
    Refused {
        /// Where.
        address: String,
        /// What it said.
        why: String,
    },
    /// Several servers were named that do not belong together.
    #[error(
        "Redis at {0} is no cluster; name one server, or with --redis-sentinel NAME the sentinels of a master"
    )]
    NotCluster(String),
    /// A cluster has no databases.
    #[error("Redis at {0} is a cluster, which has no database other than 0")]
    Database(String),
    /// Data would be thrown away.
    #[error(
        "Redis at {address} would evict committed data when its memory is full: its maxmemory-policy is {policy}. Set it to noeviction (CONFIG SET maxmemory-policy noeviction, and in its configuration file)"
    )]
    Evicts {
        /// Where.
        address: String,
        /// What is set.
        policy: String,
    },
    /// Nothing can be written there.
    #[error("Redis at {0} is a replica and takes no writes; name its master")]
    Replica(String),
    /// Written by something else.
    #[error(
        "{name:?} in Redis at {address} was written by something else: {why}; use another --redis-prefix"
    )]
    Foreign {
        /// Where.
        address: String,
        /// The name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
}

impl OpenError {
    /// Whether waiting may help.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Away { .. })
    }

    pub(super) fn of(address: &Address, fault: Fault) -> Self {
        let address = address.to_string();
        match fault {
            Fault::NotSent(why) | Fault::Unsure(why) | Fault::Passing(why) => {
                // What the client says of a wrong password or a missing TLS is an I/O error to it.
                Self::Away { address, why }
            }
            Fault::NoScript => Self::Refused { address, why: "it forgets scripts".to_owned() },
            Fault::Refused(why) | Fault::WrongType(why) | Fault::Other(why) => {
                Self::Refused { address, why }
            }
        }
    }
}

/// What `INFO` tells.
#[derive(Debug, Default)]
pub(super) struct Info(String);

impl Info {
    /// The question. Managed services that refuse CONFIG answer this.
    pub fn question() -> Cmd {
        redis::cmd("INFO")
    }

    pub fn of(answer: Value) -> Self {
        Self(String::from_redis_value(answer).unwrap_or_default())
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        let mut lines = self.0.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(found, _)| *found == name).map(|(_, value)| value.trim())
    }

    pub fn topology(&self) -> Topology {
        match self.get("cluster_enabled") {
            Some("1") => Topology::Cluster,
            _ => Topology::One,
        }
    }

    /// The eviction policy, if it would remove data of ours: none of it ever expires.
    pub fn evicts(&self) -> Option<&str> {
        self.get("maxmemory_policy").filter(|policy| policy.starts_with("allkeys"))
    }

    /// Refuses a server that would lose data or takes none.
    pub fn check(&self, address: &Address, topology: Topology) -> Result<(), OpenError> {
        let named = || address.to_string();
        if topology == Topology::One && address.is_several() {
            return Err(OpenError::NotCluster(named()));
        }
        if topology == Topology::Cluster && address.database() != 0 {
            return Err(OpenError::Database(named()));
        }
        if topology == Topology::One && self.get("role") == Some("slave") {
            return Err(OpenError::Replica(named()));
        }
        if let Some(policy) = self.evicts() {
            return Err(OpenError::Evicts { address: named(), policy: policy.to_owned() });
        }
        Ok(())
    }

    /// Says when nothing would survive the end of the server.
    pub fn warn(&self, address: &Address) {
        let has = |name, nothing| self.get(name).is_some_and(|value| value != nothing);
        let told = self.get("aof_enabled").is_some() && self.get("connected_slaves").is_some();
        if told && !has("aof_enabled", "0") && !has("connected_slaves", "0") {
            tracing::warn!(
                "Redis at {address} has neither an append-only file nor replicas: what was committed is lost with the server, or back to its last snapshot. See appendonly and appendfsync in its configuration"
            );
        }
    }
}

/// Claims the prefix, or finds out how many partitions it has.
pub(super) fn claim(prefix: &str, topology: Topology) -> Vec<Cmd> {
    let partitions = match topology {
        Topology::One => 1,
        Topology::Cluster => CLUSTER_PARTITIONS,
    };
    let name = Names::format(prefix);
    let set = |field: &str, value: u64| {
        let mut cmd = redis::cmd("HSETNX");
        cmd.arg(&name).arg(field).arg(value);
        cmd
    };
    let mut get = redis::cmd("HMGET");
    get.arg(&name).arg("format").arg("partitions");
    vec![set("format", FORMAT), set("partitions", partitions as u64), get]
}

/// How many partitions there are, from the answer to the last command of [`claim`].
pub(super) fn partitions(answer: Value) -> Result<usize, String> {
    let found = Vec::<Option<u64>>::from_redis_value(answer).map_err(|e| e.to_string())?;
    match found[..] {
        [Some(FORMAT), Some(partitions @ 1..=16_384)] => Ok(partitions as usize),
        [Some(format), _] if format != FORMAT => {
            Err(format!("its format is {format}, this version of aft knows {FORMAT}"))
        }
        _ => Err("it does not tell its format".to_owned()),
    }
}

/// Names with the types they should have, if they are there.
pub(super) fn types(names: &Names) -> Vec<(String, &'static str)> {
    let mut types = Vec::new();
    for partition in names.partitions() {
        types.push((partition.outcomes.clone(), "hash"));
        types.push((partition.log.clone(), "zset"));
        types.push((partition.sequence.clone(), "string"));
        types.push((partition.heads.clone(), "hash"));
    }
    types
}

/// Whether the answer to TYPE is as wanted.
pub(super) fn is_type(answer: Value, wanted: &str) -> Result<bool, Fault> {
    let found = String::from_redis_value(in_answer(answer)?).unwrap_or_default();
    Ok(found == "none" || found == wanted)
}
