//! A hub without a driver, and what tests of several files begin with.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;

use crate::handshake::{HeadLimits, Request, RequestReader, Rules};
use crate::hub::engine::admission::Admission;
use crate::hub::engine::parts::Engine;
use crate::hub::feed::item::Cursor;
use crate::hub::feed::place::FeedPlace;
use crate::hub::feed::stamp::Stamp;
use crate::hub::feed::topic::Topic;
use crate::hub::id::IdSource;
use crate::hub::limits::{Limits, Overflow, Retention, Timeouts};
use crate::hub::primitives::conn_id::ConnId;
use crate::hub::shared::state::{Shared, Slots};
use crate::page::Page;

/// The address of a trusted proxy.
const PROXY: &str = "10.0.0.9:1";

pub(crate) fn engine(limits: Limits, timeouts: &Timeouts) -> Engine {
    engine_with(limits, Overflow::default(), timeouts, &Retention::default())
}

pub(crate) fn engine_with(
    limits: Limits,
    overflow: Overflow,
    timeouts: &Timeouts,
    retention: &Retention,
) -> Engine {
    let shared = Shared::new(limits, overflow, IdSource::new().unwrap());
    let admission = Admission {
        rules: Rules::default(),
        page: Page::default(),
        keep_headers: Vec::new(),
        proxies: vec![address(PROXY).ip()],
        frame_ancestors: "'self'".into(),
        greet: true,
        echo: false,
        freshness: 250,
        authorize_follow: None,
        authorize: None,
    };
    Engine::new(Arc::new(shared), timeouts, retention, admission)
}

/// Calls at the engine's own time.
impl Engine {
    pub(crate) fn take_news(&mut self) -> (Vec<FeedPlace>, Slots) {
        self.feeds.take_news(self.clock.now)
    }

    pub(crate) fn follow(&mut self, place: FeedPlace, connection: ConnId) -> Cursor {
        self.feeds.follow(place, connection, Stamp::MAX, self.clock.now)
    }

    pub(crate) fn trim(&mut self, place: FeedPlace, needed: u64) {
        self.feeds.trim(place, needed, self.clock.now);
    }
}

pub(crate) fn everyone(engine: &Engine) -> Arc<Topic> {
    Arc::clone(engine.shared.topics.everyone())
}

/// A request to upgrade.
pub(crate) fn upgrade() -> Request {
    let mut reader = RequestReader::new(HeadLimits::default());
    reader.read(&mut BytesMut::from(&*upgrade_of("/"))).unwrap().unwrap()
}

/// The head of a request to upgrade at this path.
pub(crate) fn upgrade_of(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}
