//! Redis: `MULTI`, `SET`s, `EXEC`, on one multiplexed connection of the same client.

use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo};

use super::StorageBenchOptions;
use super::ground::{Direct, Ground};
use crate::bench::children::{Family, Process};
use crate::bench::place::not_done;
use crate::bench::sidecar::{Kept, READY_MAX};
use crate::bench::{BenchError, system};
use crate::storage::redis::{Address, RedisOptions, RedisStore};

const TIMEOUT: Duration = Duration::from_secs(10);

struct Plain(MultiplexedConnection);

/// A server that was named, or one of our own without persistence.
pub(super) async fn open(
    family: &Family,
    options: &StorageBenchOptions,
    run: &str,
) -> Result<Ground, BenchError> {
    let (url, server) = match &options.redis_url {
        Some(url) => (url.clone(), None),
        None => start(family).map(|(url, server)| (url, Some(server)))?,
    };
    // As the backend has it, since it takes pipelining to pieces otherwise.
    let tcp = TcpSettings::default().set_nodelay(true);
    let info = url.as_str().into_connection_info().map_err(not_done)?.set_tcp_settings(tcp);
    let client = Client::open(info).map_err(not_done)?;
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(TIMEOUT));
    let connection = client.get_multiplexed_async_connection_with_config(&config).await;
    let store = RedisStore::open(RedisOptions {
        address: Address::parse(&url, "").map_err(not_done)?,
        prefix: format!("bench-{run}-store:"),
        timeout: TIMEOUT,
        wait: 0,
        wait_within: TIMEOUT,
        replica_reads: false,
        original: false,
        instance: 1,
        background: None,
    });
    Ok(Ground {
        write: "MULTI/EXEC",
        direct: Arc::new(Plain(connection.map_err(not_done)?)),
        store: Arc::new(store.await.map_err(not_done)?),
        kept: Kept::Redis { url, prefix: format!("bench-{run}-sidecar:") },
        _server: server,
    })
}

fn start(family: &Family) -> Result<(String, Process), BenchError> {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let port = free.map_err(system("find a free port"))?.port();
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
    command.args(["--save", "", "--appendonly", "no", "--daemonize", "no"]).arg("--dir");
    let server = family.spawn("redis", command.arg(family.path()))?;
    loop {
        let line = server.line("", READY_MAX)?;
        if line.contains("Ready to accept connections") {
            return Ok((format!("redis://127.0.0.1:{port}"), server));
        }
    }
}

#[async_trait]
impl Direct for Plain {
    async fn write(&self, values: &[(String, Bytes)]) -> Result<(), BenchError> {
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        for (name, value) in values {
            pipeline.cmd("SET").arg(name).arg(&value[..]).ignore();
        }
        pipeline.query_async(&mut self.0.clone()).await.map_err(not_done)
    }

    async fn read(&self, names: &[String]) -> Result<Vec<Bytes>, BenchError> {
        let mut cmd = redis::cmd("MGET");
        cmd.arg(names);
        let found: Vec<Vec<u8>> = cmd.query_async(&mut self.0.clone()).await.map_err(not_done)?;
        Ok(found.into_iter().map(Bytes::from).collect())
    }
}
