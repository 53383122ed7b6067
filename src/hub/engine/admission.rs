//! The rules of admission: which client may connect, and what a request can get.

use std::net::IpAddr;
use std::sync::Arc;

use crate::handshake::{Request, Rules};
use crate::hub::feed::topic::Topic;
use crate::hub::primitives::budget::Charge;
use crate::hub::primitives::program;
use crate::page::{Page, Parts};
use crate::wire::Wire;

/// The admission rules, and the answers to other requests.
pub(crate) struct Admission {
    pub(crate) rules: Rules,
    pub(crate) page: Page,
    /// The pages that may show the hub's page in a frame: sources of a content security policy.
    pub(crate) frame_ancestors: Box<str>,
    pub(crate) keep_headers: Vec<String>,
    /// Addresses that many clients share; their clients are not counted.
    pub(crate) proxies: Vec<IpAddr>,
    /// Whether a client is told its id.
    pub(crate) greet: bool,
    /// Whether a client is sent back what it sends.
    pub(crate) echo: bool,
    /// The client's window as a time, in milliseconds. Zero: no window.
    pub(crate) freshness: u32,
    /// The program's rule about who may follow a feed by naming it.
    pub(crate) authorize_follow: Option<FollowRule>,
}

impl Drop for Admission {
    fn drop(&mut self) {
        program::let_go(self.authorize_follow.take()); // with what the program has put into it
    }
}

/// A program's rule about who may follow a feed.
pub(crate) type FollowRule = Arc<dyn Fn(&str, &Request) -> bool + Send + Sync>;

/// A request that the program's rule about feeds is asked about.
pub(crate) struct Asked {
    pub(crate) request: Request,
    pub(crate) _charge: Option<Charge>,
}

/// The answer to a request that is not refused.
pub(crate) enum Answer {
    Page(Parts),
    /// The 101 of a client that then says who it is and what it follows.
    UpgradeToV1(Vec<u8>),
    /// The 101, and the feed that the client follows.
    Upgrade(Vec<u8>, Arc<Topic>),
    /// The 101 of a client that comes while the hub ends, and is told so.
    Goodbye(Vec<u8>, Wire),
}
