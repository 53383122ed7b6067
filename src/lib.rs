//! Push the progress of a running computation to browsers, from inside its loop.
pub mod codec;
pub mod handshake;
