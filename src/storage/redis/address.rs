//! Where the servers are, and how a connection to them is made.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::cluster_read_routing::RandomReplicaStrategy;
use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClient, SentinelNodeConnectionInfo, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisError,
    RedisResult, TlsMode,
};

/// Requests that wait for a connection to take them; more wait for these.
const QUEUE_MAX: usize = 1024;

/// Why an address is no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It is not a URL of Redis.
    #[error(
        "{0:?} is not an address of Redis; write redis://[user:password@]host[:port][/db], or rediss:// for TLS"
    )]
    Bad(String),
    /// There is none.
    #[error("no address is given")]
    Missing,
    /// What they say besides host and port differs.
    #[error("the addresses differ in scheme, user, password or database; all have to agree")]
    Differ,
}

/// The servers named, of which nothing is known yet.
#[derive(Clone)]
pub struct Address {
    servers: Vec<ConnectionInfo>,
    /// The name of the master, if the servers are sentinels.
    sentinel: Option<String>,
}

/// What the servers have turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topology {
    /// One server, or a master that sentinels watch.
    One,
    /// A cluster.
    Cluster,
}

/// A connection, shared by all who use it.
#[derive(Clone)]
pub(super) enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Address {
    /// Reads addresses that are separated by commas. `sentinel` is the name of a master; not empty, the
    /// addresses are those of sentinels.
    pub fn parse(urls: &str, sentinel: &str) -> Result<Self, UrlError> {
        let mut servers = Vec::new();
        for url in urls.split(',').map(str::trim).filter(|url| !url.is_empty()) {
            // A password in the address does not belong into a message.
            let shown = || url.rsplit('@').next().unwrap_or_default().to_owned();
            let server = url.into_connection_info().map_err(|_| UrlError::Bad(shown()))?;
            servers.push(server.set_tcp_settings(tcp_settings()));
        }
        let Some(first) = servers.first() else { return Err(UrlError::Missing) };
        let tls = |server: &ConnectionInfo| matches!(server.addr(), ConnectionAddr::TcpTls { .. });
        let agree = |server: &ConnectionInfo| {
            let (a, b) = (server.redis_settings(), first.redis_settings());
            (a.username(), a.password(), a.db()) == (b.username(), b.password(), b.db())
                && tls(server) == tls(first)
        };
        if !servers.iter().all(agree) {
            return Err(UrlError::Differ);
        }
        let sentinel = (!sentinel.is_empty()).then(|| sentinel.to_owned());
        Ok(Self { servers, sentinel })
    }

    /// More than one server is named, and they are no sentinels.
    pub(super) fn is_several(&self) -> bool {
        self.servers.len() > 1 && self.sentinel.is_none()
    }

    /// The database other than 0 that is named, if any.
    pub(super) fn database(&self) -> i64 {
        self.servers.first().map_or(0, |server| server.redis_settings().db())
    }

    /// Connects. `from_replicas` lets reads in a cluster go to replicas.
    pub(super) async fn connect(
        &self,
        topology: Topology,
        from_replicas: bool,
        within: Duration,
    ) -> Result<Connection, RedisError> {
        match topology {
            Topology::One => self.connect_one(within).await.map(Connection::One),
            Topology::Cluster => {
                self.connect_cluster(from_replicas, within).await.map(Connection::Cluster)
            }
        }
    }

    /// Connects to the one server, or to the first of several that answers.
    pub(super) async fn connect_one(&self, within: Duration) -> RedisResult<MultiplexedConnection> {
        // Time limits for answers are ours; see `link`.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(within))
            .set_response_timeout(None)
            .set_pipeline_buffer_size(QUEUE_MAX);
        if let Some(master) = &self.sentinel {
            let mut sentinel = self.sentinel_client(master)?;
            return sentinel.get_async_connection_with_config(&config).await;
        }
        let mut last = None;
        for server in &self.servers {
            let client = Client::open(server.clone())?;
            match client.get_multiplexed_async_connection_with_config(&config).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = Some(error),
            }
        }
        let none = std::io::Error::new(std::io::ErrorKind::InvalidInput, "no address is given");
        Err(last.unwrap_or_else(|| none.into()))
    }

    /// User, password and database are for the master; the sentinels are asked without.
    fn sentinel_client(&self, master: &str) -> RedisResult<SentinelClient> {
        let Some(first) = self.servers.first() else {
            return SentinelClient::build(
                self.servers.clone(),
                master,
                None,
                SentinelServerType::Master,
            );
        };
        let mut node = SentinelNodeConnectionInfo::default()
            .set_redis_connection_info(first.redis_settings().clone())
            .set_tcp_settings(tcp_settings());
        if matches!(first.addr(), ConnectionAddr::TcpTls { .. }) {
            node = node.set_tls_mode(TlsMode::Secure);
        }
        let sentinels = self.servers.iter().map(|server| server.addr().clone());
        SentinelClient::build(sentinels.collect(), master, Some(node), SentinelServerType::Master)
    }

    async fn connect_cluster(
        &self,
        from_replicas: bool,
        within: Duration,
    ) -> RedisResult<ClusterConnection> {
        let mut builder = ClusterClient::builder(self.servers.iter().cloned())
            .tcp_settings(tcp_settings())
            .connection_timeout(within)
            .response_timeout(within);
        if from_replicas {
            builder = builder.read_routing_strategy(RandomReplicaStrategy);
        }
        builder.build()?.get_async_connection().await
    }
}

/// What is small does not wait until what was sent before it is answered.
fn tcp_settings() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

impl std::fmt::Display for Address {
    /// Without passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (number, server) in self.servers.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            write!(f, "{comma}{}", server.addr())?;
        }
        match &self.sentinel {
            Some(master) => write!(f, " (sentinels of {master})"),
            None => Ok(()),
        }
    }
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown_without_passwords() {
        let address = Address::parse("redis://u:secret@a:1/2, redis://u:secret@b:2/2", "").unwrap();
        assert!(address.is_several());
        assert_eq!(address.database(), 2);
        assert_eq!(address.to_string(), "a:1,b:2");
        let address = Address::parse("rediss://a", "m").unwrap();
        assert_eq!(address.to_string(), "a:6379 (sentinels of m)");
    }

    #[test]
    fn what_is_no_address_is_refused_and_keeps_its_secret() {
        assert_eq!(Address::parse(" ,", "").unwrap_err(), UrlError::Missing);
        let error = Address::parse("http://u:secret@a", "").unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
        for urls in ["redis://a,rediss://b", "redis://a/1,redis://b", "redis://x:y@a,redis://b"] {
            assert_eq!(Address::parse(urls, "").unwrap_err(), UrlError::Differ, "{urls}");
        }
    }
}
