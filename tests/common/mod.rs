//! Servers that tests start, and what stands between them and a client.

#[cfg(any(feature = "dynamodb", feature = "s3"))]
pub mod http_proxy;
#[cfg(any(feature = "dynamodb", feature = "s3"))]
pub mod ministack;
#[cfg(any(feature = "redis", feature = "dynamodb", feature = "s3"))]
mod ports;
#[cfg(feature = "redis")]
pub mod proxy;
#[cfg(feature = "redis")]
pub mod redis;
