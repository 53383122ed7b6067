//! The clients of a hub: live sessions, detached clients, and the number of clients at each
//! address.

use crate::hub::client::addresses::Addresses;
use crate::hub::client::away::Away;
use crate::hub::client::held::Held;
use crate::hub::primitives::conn_id::ConnId;

/// The sessions of a hub. The registry has the live clients with all their state; the key follows
/// from the id.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    /// The number of sessions.
    pub(crate) count: usize,
    /// The detached clients.
    pub(crate) away: Away,
    /// Connections whose client has another connection now.
    pub(crate) taken_over: Vec<ConnId>,
}

impl Sessions {
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

pub(crate) struct Clients {
    pub(crate) sessions: Sessions,
    /// The places in the feeds of clients that are away.
    pub(crate) held: Held,
    pub(crate) addresses: Addresses,
}

impl Clients {
    pub(crate) fn new(addresses: Addresses) -> Self {
        Self { sessions: Sessions::default(), held: Held::default(), addresses }
    }
}
