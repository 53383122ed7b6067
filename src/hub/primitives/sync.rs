//! The locks and atomics by which callers and the driver agree on what there is.
//!
//! They are the standard library's. In the tests of `hub::testing::model` they are loom's, which
//! tries every order that the memory model allows: `.ci/run loom`.

#[cfg(not(all(test, stepcast_loom)))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64, AtomicUsize},
};

#[cfg(all(test, stepcast_loom))]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64, AtomicUsize},
};
