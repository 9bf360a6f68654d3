//! The Anna key-value store's protocol, on its own: nothing here knows of transactions.
//!
//! [`client`] talks to a store, [`server`] is a small one, [`lattice`] is what both exchange.

pub mod client;
pub mod lattice;
pub mod server;
