//! What the calls of a hub do, as its clients see it.

mod client;
mod feeds;
mod flush;
mod inbound;
mod lazy;
mod options;
mod push;
mod remove;
mod set;
#[path = "../support/mod.rs"]
mod support;
mod wait;
