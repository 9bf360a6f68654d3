//! Drives a [`Node`](crate::node::Node) for real: sockets, store, clock, signals, configuration,
//! what an operator sees.

pub mod admin;
mod anna;
pub mod clock;
pub mod config;
pub mod counters;
pub mod history;
pub mod logging;
mod shared;
pub mod sidecar;
mod store;
mod worker;
