//! Series: what the model measures at each step, shown as lines over a common x.

pub(crate) mod buckets;
pub(crate) mod handle;
pub(crate) mod json;
pub(crate) mod points;
pub(crate) mod state;
pub(crate) mod table;
