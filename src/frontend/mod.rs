//! Where requests come from: each frontend turns bytes into [`Event`](crate::node::Event)s and
//! [`Answer`](crate::node::Answer)s into bytes, and decides nothing.

pub mod ipc;
