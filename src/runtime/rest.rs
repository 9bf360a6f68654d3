//! Opens a store for a command that is no sidecar: one that nobody uses, or one that sidecars share.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::anna::{self, AnnaError};
use super::config::{Settings, StorageKind};
use super::sidecar::{SidecarError, open_store};
use crate::storage::Storage;
use crate::storage::embedded::OpenError;

/// By which name this process is known to stores that want one.
const NAME: &str = "aft-at-rest";

/// Why a store cannot be worked on.
#[derive(Debug, thiserror::Error)]
pub enum RestError {
    /// A sidecar's memory ends with it.
    #[error(
        "a store in memory belongs to the sidecar that runs with it; name another --storage, or ask that \
         sidecar: aft inspect --node ADDR:PORT"
    )]
    Memory,
    /// There is none.
    #[error("there is no store in {} (data-dir)", .0.display())]
    Missing(PathBuf),
    /// It is in use.
    #[error(
        "{} is in use by a sidecar, or by another such command. A sidecar collects its garbage itself, and \
         tells what it holds: aft inspect --node ADDR:PORT, with the address of its --admin",
        .0.display()
    )]
    InUse(PathBuf),
    /// Nobody else can look into it.
    #[error(
        "a store that is embedded or in memory belongs to one sidecar; nodes share anna, redis, dynamodb or s3"
    )]
    NotShared,
    /// Anna.
    #[error(transparent)]
    Anna(#[from] AnnaError),
    /// Any other reason for which a sidecar would not start either.
    #[error(transparent)]
    Open(#[from] SidecarError),
    /// The operating system.
    #[error("the operating system refused an asynchronous runtime: {0}")]
    System(std::io::Error),
}

/// Opens the store, does something with it, and closes it.
pub(super) fn with_store<T>(
    settings: &Settings,
    work: impl AsyncFnOnce(&dyn Storage) -> T,
) -> Result<T, RestError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("aft-io")
        .enable_all()
        .build()
        .map_err(RestError::System)?;
    let done = runtime.block_on(async {
        if settings.storage == StorageKind::Anna {
            // Nobody there is to know of this process, so nothing is closed either.
            let store = anna::open_to_read(settings.ip, NAME, &settings.anna_routing)?;
            return Ok(work(&store).await);
        }
        check(settings)?;
        let store = open_store(settings, &Handle::current()).await.map_err(told)?;
        let done = work(&*store).await;
        store.close().await;
        Ok(done)
    });
    // What was asked of a store that does not answer is not waited for.
    runtime.shutdown_background();
    done
}

/// Opens a store that sidecars share, beside them, to read what they commit. Waits for it as they do, but not
/// for Anna.
pub(crate) async fn open_shared(
    settings: &Settings,
    name: &str,
) -> Result<Arc<dyn Storage>, RestError> {
    match settings.storage {
        StorageKind::Anna => {
            Ok(Arc::new(anna::open_to_read(settings.ip, name, &settings.anna_routing)?))
        }
        StorageKind::Memory | StorageKind::Embedded => Err(RestError::NotShared),
        _ => Ok(open_store(settings, &Handle::current()).await?),
    }
}

/// A sidecar makes the store that it does not find. Here that would hide a wrong name.
fn check(settings: &Settings) -> Result<(), RestError> {
    match settings.storage {
        StorageKind::Memory => Err(RestError::Memory),
        StorageKind::Embedded if !settings.data_dir.join("format").exists() => {
            Err(RestError::Missing(settings.data_dir.clone()))
        }
        _ => Ok(()),
    }
}

fn told(error: SidecarError) -> RestError {
    match error {
        SidecarError::Open(OpenError::InUse(path)) => RestError::InUse(path),
        error => RestError::Open(error),
    }
}
