//! The state machine, with messages that are lost, late, repeated and wrong.

mod bench;
mod chaos;
mod routing;
mod storage;
