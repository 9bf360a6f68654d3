//! Opens a store in S3, as configured.

use std::time::Duration;

use super::clock::{self, Clock};
use super::config::Settings;
use crate::storage::s3::{LISTING_MAX, OpenError, Place, S3Options, S3Store};

/// How long a store that does not answer is waited for at the start.
const WAIT_MAX: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(500);

/// Why S3 cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum S3Error {
    /// The bucket.
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
pub(super) async fn open(settings: &Settings) -> Result<S3Store, S3Error> {
    let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let place = Place {
        bucket: settings.s3_bucket.clone(),
        prefix: settings.s3_prefix.clone(),
        endpoint: given(&settings.s3_endpoint),
        region: given(&settings.s3_region),
        create: settings.create,
        credentials: None,
    };
    let options = S3Options {
        place,
        node: settings.node_address(),
        incarnation: clock::random_seed().map_err(S3Error::Random)?,
        listing_max: LISTING_MAX,
        original: settings.s3_original,
    };
    let clock = Clock::start();
    loop {
        let why = match S3Store::open(options.clone()).await {
            Ok(store) => return Ok(store),
            Err(why) if why.is_away() => why,
            Err(why) => return Err(why.into()),
        };
        let waited = clock.elapsed();
        if waited >= WAIT_MAX {
            return Err(S3Error::Away { waited, why });
        }
        tracing::warn!("waiting for S3: {why}");
        tokio::time::sleep(PAUSE).await;
    }
}
