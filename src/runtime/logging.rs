//! Structured logs on standard error, quiet unless asked.

use tracing_subscriber::EnvFilter;

use super::config::{ConfigError, LogFormat};

/// Sets up logging for the process. `filter` is a level, or directives such as `aft=debug,warn`.
pub fn init(filter: &str, format: LogFormat) -> Result<(), ConfigError> {
    let filter = EnvFilter::try_new(filter).map_err(|error| ConfigError::Value {
        name: "log",
        why: format!("{error}; use error, warn, info, debug, trace, or directives like aft=debug"),
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let done = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    // Only a program that set up its own logging before gets here; then that stands.
    let _ = done;
    Ok(())
}
