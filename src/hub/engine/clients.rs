//! The clients of a hub: who has a session, who is away, and how many each address has.

use std::sync::Arc;

use crate::hub::client::addresses::Addresses;
use crate::hub::client::away::Away;
use crate::hub::client::held::Held;
use crate::hub::feed::topic::Topic;
use crate::hub::primitives::conn_id::ConnId;

/// Those of a hub. Who is live is in the registry, with all that there is to know; the key follows from the id.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    /// How many there are.
    pub(crate) count: usize,
    /// Those who are detached.
    pub(crate) away: Away,
    /// What all their mailboxes have in common.
    pub(crate) mailbox: Option<Arc<Topic>>,
    /// Connections whose client has another one now, by place and serial number.
    pub(crate) taken_over: Vec<ConnId>,
}

impl Sessions {
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

pub(crate) struct Clients {
    pub(crate) sessions: Sessions,
    /// Where clients that are away stood.
    pub(crate) held: Held,
    pub(crate) addresses: Addresses,
}

impl Clients {
    pub(crate) fn new(addresses: Addresses) -> Self {
        Self { sessions: Sessions::default(), held: Held::default(), addresses }
    }
}
