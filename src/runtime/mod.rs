//! Drives a [`Node`](crate::node::Node) for real: sockets, store, clock, signals, configuration,
//! what an operator sees.

pub(crate) mod admin;
pub(crate) mod anna;
pub mod clock;
pub mod config;
pub mod counters;
#[cfg(feature = "dynamodb")]
pub(crate) mod dynamo;
pub mod gc;
pub mod history;
pub mod inspect;
pub(crate) mod limits;
pub mod logging;
mod members;
#[cfg(feature = "redis")]
pub(crate) mod redis;
mod reload;
pub mod rest;
#[cfg(feature = "s3")]
pub(crate) mod s3;
mod shared;
pub mod sidecar;
mod store;
pub(crate) mod trouble;
mod watch;
mod worker;
