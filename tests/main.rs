//! The tests that use the library from outside, in one program: each further one would link all of the
//! stores' clients again. Those of the program itself are in `e2e`.
#![allow(clippy::unwrap_used)]

mod common;

mod anna_client;
mod anna_server;
mod atomic_read;
mod cluster;
mod gossip;
mod layering;
mod manager;
mod simulation;
mod storage_anna;
#[cfg(feature = "dynamodb")]
mod storage_dynamo;
mod storage_embedded;
mod storage_example;
#[cfg(feature = "redis")]
mod storage_redis;
#[cfg(feature = "s3")]
mod storage_s3;
