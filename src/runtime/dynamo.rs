//! Opens a store in DynamoDB, as configured.

use std::time::Duration;

use super::clock::{self, Clock};
use super::config::Settings;
use crate::storage::dynamo::{DynamoOptions, DynamoStore, LEASE, OpenError, Place};

/// How long a store that does not answer is waited for at the start.
const WAIT_MAX: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(500);

/// Why DynamoDB cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DynamoError {
    /// The table.
    #[error("{0}")]
    Open(#[from] OpenError),
    /// Nobody answers.
    #[error("{why}; tried for {waited:?}")]
    Away {
        /// How long.
        waited: Duration,
        /// What happened last.
        why: OpenError,
    },
    /// The operating system.
    #[error("the operating system refused random bytes: {0}")]
    Random(std::io::Error),
}

/// Opens the store; waits for one that is not there yet.
pub(super) async fn open(settings: &Settings) -> Result<DynamoStore, DynamoError> {
    let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let place = Place {
        table: settings.dynamodb_table.clone(),
        endpoint: given(&settings.dynamodb_endpoint),
        region: given(&settings.dynamodb_region),
        create: settings.create,
        credentials: None,
    };
    let options = DynamoOptions {
        place,
        node: settings.node_address(),
        incarnation: clock::random_seed().map_err(DynamoError::Random)?,
        lease: LEASE,
        original: given(&settings.dynamodb_original),
    };
    let clock = Clock::start();
    loop {
        let why = match DynamoStore::open(options.clone()).await {
            Ok(store) => return Ok(store),
            Err(why) if why.is_away() => why,
            Err(why) => return Err(why.into()),
        };
        let waited = clock.elapsed();
        if waited >= WAIT_MAX {
            return Err(DynamoError::Away { waited, why });
        }
        tracing::warn!("waiting for DynamoDB: {why}");
        tokio::time::sleep(PAUSE).await;
    }
}
