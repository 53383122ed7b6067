//! The codec by itself: RFC 6455 item by item, properties, and the contract of tokio-util.

mod contract;
mod properties;
mod rfc6455;
