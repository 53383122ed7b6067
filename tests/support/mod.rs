//! What the tests of this crate have in common: clients, who looks on, and what stands between.
#![allow(dead_code)] // each test program uses a part of this module, which is compiled into each
#![allow(unreachable_pub)] // the module is private to each program

pub mod bystander;
pub mod follower;
pub mod lines;
pub mod log;
pub mod peer;
pub mod proxy;
pub mod slow;
pub mod wire;
