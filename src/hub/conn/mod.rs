//! One connection, from its first byte to its last: a state machine that owns both halves of its
//! stream. The state is in [`phase`]; the other files are what a connection does.
//!
//! - **Handshake**: reads the request's head and writes nothing. Ends by a 101 (open), any other
//!   answer (ending), or the handshake timeout.
//! - **Pending**: holds a complete request, waits for the program's verdict, and writes nothing. Ends
//!   as a handshake does, and when the peer leaves.
//! - **Newcomer** (`stepcast.v1` only): reads frames, of which the first has to be a hello, and
//!   writes nothing. Ends by the hello (open), anything else (ending), or the handshake timeout.
//! - **Open**: reads frames and writes what the client is owed. Ends by the client's Close or a
//!   violation (ending), the hub's Close (closing), a timeout, or an error.
//! - **Closing**: reads frames, of which only a Close counts, and writes the Close. Ends by the
//!   client's Close (ending) or the close timeout.
//! - **Ending**: reads and discards anything, and writes what is left, then the end of the stream.
//!   Ends by the client's end of the stream or the close timeout.
//!
//! The hub ends its side of the TCP connection first and then reads until the client has ended its
//! own (RFC 6455, section 7.1.1), so no reset overtakes the Close.

mod closing;
mod events;
mod handshake;
pub(crate) mod outbox;
pub(crate) mod pace;
pub(crate) mod phase;
mod reading;
pub(crate) mod socket;
mod timeouts;
pub(crate) mod transport;
pub(crate) mod v1;
mod writing;
