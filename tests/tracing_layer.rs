//! The hub's layer in the subscriber of the process, which is asked wherever an event comes from: on
//! the hub's thread, by the program's code there, and within another event. The subscriber is the
//! process's, so this file has one test.
#![cfg(feature = "tracing-layer")]

#[path = "progress/viewer.rs"]
#[allow(dead_code)] // one test needs a part of it
mod viewer;

mod support;

use std::fmt;

use bytes::Bytes;
use stepcast::{Hub, Message, ProgressSpan};
use tokio::runtime::Builder;
use tracing::field::debug;
use tracing::{Span, info, info_span};
use tracing_subscriber::prelude::*;

use crate::support::log::Log;
use crate::support::peer::{Peer, beside, exchange, until};
use crate::viewer::Viewer;

/// A payload that tells of its end.
struct Payload;

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        b"payload"
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        info!(talks = ?Talks, "let go");
    }
}

/// A value that tells of being formatted.
struct Talks;

impl fmt::Debug for Talks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outer = Span::current();
        let span = info_span!("format", progress.length = 1);
        span.in_scope(|| info!("formatted"));
        span.job().inc(1);
        outer.record("progress.position", 1);
        outer.record("progress.message", "formats");
        f.write_str("much")
    }
}

#[test]
fn events_are_lines_wherever_they_come_from_but_for_the_hubs_own() {
    let hub = Hub::builder()
        .authorize_follow(|_, _| {
            let span = info_span!(
                "rule",
                progress.length = 1,
                progress.position = 0,
                progress.message = tracing::field::Empty,
                talks = ?Talks
            );
            let _entered = span.enter();
            info!(talks = ?Talks, "asked");
            span.record("progress.message", debug(Talks));
            true
        })
        .spawn_blocking("127.0.0.1:0")
        .unwrap();
    let all = Log::of(tracing::Level::TRACE);
    tracing_subscriber::registry().with(hub.tracing_layer()).with(Sibling(all.clone())).init();
    let work = move || {
        let feed = hub.feed("field").unwrap();
        let peer = Peer::connect_at(&hub, "/feed/field");
        for _ in 0..3 {
            feed.set("u", Message::Binary(Bytes::from_owner(Payload))).unwrap();
            hub.send(peer.id, Message::Binary(Bytes::from_owner(Payload))).unwrap();
        }
        drop((peer, feed));
        exchange(hub.local_addr().unwrap(), b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n");
        until("the hub's line", || all.count("request refused") == 1);
        let mut viewer = Viewer::of(&hub);
        info!(talks = ?Talks, "the last");
        let count = |viewer: &Viewer, text: &str| {
            let has = |line: &&serde_json::Value| line["text"].as_str().unwrap().contains(text);
            viewer.log.iter().filter(has).count()
        };
        viewer.until("the lines", |viewer| {
            count(viewer, "let go talks=much") == 6 && count(viewer, "the last talks=much") == 1
        });
        assert!(count(&viewer, "asked talks=much") >= 1 && count(&viewer, "formatted") >= 8);
        assert_eq!(count(&viewer, "stepcast"), 0, "{:?}", viewer.log);
        viewer.until("the job of the rule", |viewer| {
            viewer.job("rule talks=much").is_some_and(|job| {
                (&job["status"], &job["message"]) == (&"completed".into(), &"much".into())
            })
        });
    };
    beside(&Builder::new_current_thread().enable_time().build().unwrap(), work);
}

/// A layer that keeps all events as text.
struct Sibling(Log);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Sibling {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        tracing::Subscriber::event(&self.0, event);
    }
}
