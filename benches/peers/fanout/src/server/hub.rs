//! Ours: called from a plain thread, with the hub's own thread beside it.

use stepcast::{Hub, Limits};

use super::Server;

pub struct Stepcast(Hub);

impl Stepcast {
    pub fn start(clients: usize) -> Self {
        let mut limits = Limits::default();
        if clients > 10_000 {
            limits = limits.clients(clients); // the only one that is not the default
        }
        Self(Hub::builder().limits(limits).spawn_blocking("127.0.0.1:0").expect("a port"))
    }
}

impl Server for Stepcast {
    fn port(&self) -> u16 {
        self.0.local_addr().expect("it listens").port()
    }

    fn clients(&self) -> usize {
        self.0.client_count()
    }

    fn publish(&mut self, text: String, _: bool) {
        self.0.broadcast(text);
    }

    fn skipped(&self) -> u64 {
        self.0.stats().skipped
    }
}
