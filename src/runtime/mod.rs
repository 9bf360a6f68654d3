//! Drives a [`Node`](crate::node::Node) for real: sockets, store, clock, signals, configuration,
//! what an operator sees.

pub mod admin;
pub mod clock;
pub mod config;
pub mod counters;
pub mod history;
pub mod logging;
pub mod sidecar;
mod store;
mod worker;
