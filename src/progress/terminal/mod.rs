//! The run in the terminal that started it.

pub(crate) mod draw;
pub(crate) mod view;
