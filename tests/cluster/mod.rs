//! Schedules over several nodes, one by one: what must come out of each, whatever the messages do.

mod harness;

mod branches;
mod failures;
mod garbage;
mod ids;
mod sessions;
