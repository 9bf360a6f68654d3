//! Servers that tests start, and what stands between them and a client.

#[cfg(feature = "dynamodb")]
pub mod http_proxy;
#[cfg(feature = "dynamodb")]
pub mod ministack;
#[cfg(feature = "redis")]
pub mod proxy;
#[cfg(feature = "redis")]
pub mod redis;
