//! The protobuf messages of `proto/`, as Rust types.

#![allow(missing_docs, clippy::all)]

include!(concat!(env!("OUT_DIR"), "/aft.rs"));

pub mod anna {
    //! Messages of the Anna key-value store's protocol.
    include!(concat!(env!("OUT_DIR"), "/aft.anna.rs"));
}
