//! The handshake by itself, from both sides.

mod chopped;
mod client;
mod rfc6455;
