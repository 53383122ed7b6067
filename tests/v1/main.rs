//! The wire `stepcast.v1` from a client's side: what it says and gets, and how it comes back.

mod absent;
mod conversation;
mod cuts;
mod ended;
mod epochs;
mod grace;
mod inbound;
mod lost;
mod model;
#[path = "../support/mod.rs"]
mod support;
mod takeover;
mod times;
