//! Opens a store in Redis, as configured.

use std::time::Duration;

use tokio::runtime::Handle;

use super::clock::{self, Clock};
use super::config::Settings;
use crate::storage::redis::{Address, OpenError, RedisOptions, RedisStore, UrlError};

/// How long servers that do not answer are waited for at the start.
const WAIT_MAX: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(500);

/// Why Redis cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// The address.
    #[error("redis-url: {0}")]
    Url(#[from] UrlError),
    /// The servers.
    #[error("{0} (redis-url)")]
    Open(#[from] OpenError),
    /// The operating system.
    #[error("the operating system refused random bytes: {0}")]
    Random(std::io::Error),
}

/// Opens the store, once it answers. Large requests are sent from the runtime `background`.
pub(crate) async fn open(
    settings: &Settings,
    background: &Handle,
) -> Result<RedisStore, RedisError> {
    let options = RedisOptions {
        address: address(settings)?,
        prefix: settings.redis_prefix.clone(),
        timeout: Duration::from_secs_f64(settings.redis_timeout),
        wait: settings.redis_wait,
        wait_within: Duration::from_secs_f64(settings.redis_wait_timeout),
        replica_reads: settings.redis_replica_reads,
        original: settings.redis_original,
        instance: clock::random_seed().map_err(RedisError::Random)?,
        background: Some(background.clone()),
    };
    let clock = Clock::start();
    loop {
        match RedisStore::open(options.clone()).await {
            Ok(store) => return Ok(store),
            Err(why) if why.may_pass() && clock.elapsed() < WAIT_MAX => {
                tracing::warn!("waiting: {why}");
            }
            Err(why) => return Err(why.into()),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn address(settings: &Settings) -> Result<Address, UrlError> {
    Address::parse(&settings.redis_url.0, &settings.redis_sentinel)
}
