//! Fields: two-dimensional arrays of the model, shown as they are about now.

pub(crate) mod copy;
pub(crate) mod handle;
pub(crate) mod state;
pub(crate) mod table;
