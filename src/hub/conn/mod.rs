//! One connection, from its first byte to its last: a state machine with one owner of both halves
//! of its socket.
//!
//! | phase | what it reads | what it writes | ends by |
//! |---|---|---|---|
//! | handshake | the request's head | nothing | a 101 (open), any other answer (ending), the handshake timeout |
//! | newcomer | frames, of which the first has to be a hello (`stepcast.v1` only) | nothing | the hello (open), anything else (ending), the handshake timeout |
//! | open | frames | what the client is owed | the client's Close or a violation (ending), the hub's Close (leaving), a timeout, an error |
//! | leaving | frames, of which only a Close counts | the Close | the client's Close (ending), the close timeout |
//! | ending | anything, which is thrown away | what is left, then the end of the stream | the client's end of the stream, the close timeout |
//!
//! The hub ends its side of the TCP connection first and then reads until the client has ended its
//! own (RFC 6455, section 7.1.1), so that no reset overtakes the Close.

mod handshake;
mod leaving;
pub(crate) mod outbox;
pub(crate) mod pace;
pub(crate) mod phase;
mod reading;
pub(crate) mod socket;
mod timeouts;
pub(crate) mod transport;
pub(crate) mod v1;
mod writing;
