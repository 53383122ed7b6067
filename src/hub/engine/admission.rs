//! The rules of admission: which client may connect, and what a request can get.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::handshake::{Refusal, Request, Rules, Status};
use crate::hub::feed::topic::Topic;
use crate::hub::primitives::budget::Charge;
use crate::hub::primitives::program;
use crate::page::{Page, Parts};
use crate::progress::log::Level;
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
    /// A rule about who may be a client, whose verdicts come later.
    #[cfg(test)]
    pub(crate) authorize: Option<AdmissionRule>,
}

impl Admission {
    /// Asks the program whether the sender of this request may be a client. `None`: the program has
    /// no rule.
    #[cfg_attr(not(test), expect(clippy::unused_self, reason = "only tests have such a rule yet"))]
    pub(crate) fn ask(&self, request: &Request) -> Option<Later> {
        #[cfg(test)]
        let rule = self.authorize.as_ref();
        #[cfg(not(test))]
        let rule: Option<&AdmissionRule> = None;
        rule.map(|rule| Later(rule(request)))
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        program::let_go(self.authorize_follow.take()); // with what the program has put into it
    }
}

/// A program's rule about who may follow a feed.
pub(crate) type FollowRule = Arc<dyn Fn(&str, &Request) -> bool + Send + Sync>;

/// A rule about who may be a client.
pub(crate) type AdmissionRule = Box<dyn Fn(&Request) -> oneshot::Receiver<Verdict> + Send>;

/// The program's answer to whether the sender of a request may be a client.
pub(crate) type Verdict = Result<(), Refusal>;

/// A verdict that comes from another thread. Its drop tells that thread that nobody waits.
pub(crate) struct Later(oneshot::Receiver<Verdict>);

impl Later {
    pub(crate) fn poll(&mut self, waker: &Waker) -> Poll<Verdict> {
        Pin::new(&mut self.0).poll(&mut Context::from_waker(waker)).map(|verdict| {
            let reason = "the program's rule about clients ended without a verdict";
            verdict.unwrap_or_else(|_| Err(Refusal::new(Status::InternalError, reason)))
        })
    }
}

/// A request that is kept for a rule of the program's.
pub(crate) struct KeptRequest {
    pub(crate) request: Request,
    pub(crate) _charge: Option<Charge>,
}

/// The feed of the run, and that of its series if the client may follow it.
pub(crate) type OfRun = (Arc<Topic>, Option<Arc<Topic>>);

/// The answer to a request that is not refused.
pub(crate) enum Answer {
    Page(Parts),
    /// None yet: the program decides first.
    Later(Later),
    /// The 101 of a client that then says who it is and what it follows.
    UpgradeToV1(Vec<u8>),
    /// The 101, and the feed that the client follows.
    Upgrade(Vec<u8>, Arc<Topic>),
    /// The head of an answer that goes on, what it tells of, and the least level of the log.
    Events(Bytes, OfRun, Level),
    /// The 101 of a client that comes while the hub ends, and is told so.
    Goodbye(Vec<u8>, Wire),
}
