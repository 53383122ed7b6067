//! `GET /events`: a client that is no WebSocket, and is given the run as lines of JSON until one
//! side ends.
//!
//! Such a client has a cursor in the feed of the run, and one in that of series, as any follower has. So a slow client skips
//! samples, and costs no more memory than its outbox. Its lines are made when they leave, for this
//! client alone. The body ends with the connection.

use std::time::Duration;

use bytes::Bytes;

use crate::handshake::Request;
use crate::hub::conn::pace::Pace;
use crate::hub::conn::phase::{Connection, Open, Phase, Step};
use crate::hub::conn::writing::TAKE_BYTES;
use crate::hub::engine::admission::OfRun;
use crate::hub::engine::follows::{Follow, Follows, Owed};
use crate::hub::engine::parts::Engine;
use crate::hub::events::DisconnectReason;
use crate::hub::feed::item::{Item, Why};
use crate::hub::feed::stamp::Stamp;
use crate::hub::primitives::moment::Moment;
use crate::progress::line::{Object, line, write_stamped};
use crate::progress::log::{Level, level_of};
use crate::progress::tell::RUN;
use crate::wire::Wire;

/// The most items looked at in one take-up: the client may not want lines of their level.
const LOOKS: usize = 1024;

impl Open {
    pub(super) fn is_events(&self) -> bool {
        self.wire == Wire::Events
    }
}

impl Connection {
    pub(super) fn is_events(&self) -> bool {
        matches!(&self.phase, Phase::Open(open) if open.is_events())
    }

    /// Makes the sender of the request a client, and begins the answer.
    pub(super) fn begin_events(
        &mut self,
        (head, (topic, series), least): (Bytes, OfRun, Level),
        request: &Request,
        address: std::net::SocketAddr,
        engine: &mut Engine,
    ) {
        let place = engine.feeds.log_of(&topic);
        let client = engine.admit(request, address, self.id, topic);
        client.mailbox.lock().closed = true; // a message to this client alone has no line
        let now = engine.clock.now;
        let (cursor, number, _) = engine.feeds.resume(place, self.id, None, Stamp::MAX, now);
        let mut follows = Follows::one(Follow::new(place, cursor).behind(number, Why::Expired));
        if let Some(series) = series {
            if matches!(client.follow_at_once(&series, usize::MAX), Ok(true)) {
                let place = engine.feeds.log_of(&series);
                let (cursor, seq, _) = engine.feeds.resume(place, self.id, None, Stamp::MAX, now);
                follows.add(Follow::new(place, cursor).behind(seq, Why::Expired));
            } else {
                engine.shared.drop_handle(&series);
            }
        }
        self.transport.expect_acknowledgements(Duration::from_millis(engine.clock.timeouts.stall));
        self.send_at_once(head.into(), engine);
        let mut open = Open::new(client, follows, Wire::Events, engine);
        // This client answers no questions: what its socket takes is all that says how fast it is.
        (open.pace, open.errors) = (Pace::new(0), least as u8);
        self.phase = Phase::Open(open);
    }

    /// Fills the outbox with the next lines. Returns whether there was anything to look at.
    pub(super) fn take_up_events(&mut self, engine: &mut Engine, upto: Stamp) -> bool {
        let Phase::Open(open) = &mut self.phase else { return false };
        open.has_mail = false; // there is none
        let (base, mut lines, mut looks) = (engine.base(), Vec::new(), 0);
        while looks < LOOKS && lines.len() < TAKE_BYTES {
            let next = open.follows.next(&open.client, &mut false, &engine.feeds, upto);
            let Some(Owed::Feed { item, follow, after, .. }) = next else { break };
            let Some(log) = engine.feeds.get(follow.place()) else { break };
            looks += 1;
            let number = log.number_of(item, (follow.cursor, after));
            let at = base + item.at;
            let missed = number.filter(|number| follow.misses(*number));
            let missed = missed.map(|number| number.get() - follow.seen.next().get());
            let is_run = log.topic.name() == RUN;
            if let Some(count) = missed.filter(|_| is_run) {
                write_lost(&mut lines, at, count);
            }
            if let Some(follow) = open.follows.at(follow.place()) {
                follow.cursor = after;
                if missed.is_some() && !is_run {
                    follow.cursor.latest = Stamp::FIRST; // the histories have what is missing
                }
                follow.see(number.unwrap_or_default().min(log.newest));
            }
            write_item(&mut lines, at, item, open.errors);
        }
        if looks == 0 {
            self.close_if_due(engine);
        } else if !lines.is_empty() {
            open.sent_at = Moment::at(engine.clock.now);
            self.owe(engine.clock.now).push_own(lines.into());
        }
        looks > 0
    }

    /// Sends an empty line, which says that the hub lives, and whose loss says that the client does
    /// not.
    pub(super) fn keep_events_alive(&mut self, engine: &mut Engine) -> Step {
        if self.outbox.is_some() {
            return Ok(()); // its deadline counts
        }
        if let Phase::Open(open) = &mut self.phase {
            open.sent_at = Moment::at(engine.clock.now);
        }
        self.owe(engine.clock.now).push_own(Bytes::from_static(b"\n").into());
        self.write(engine)
    }

    /// Writes the last line, which says how it ended and why, and ends the answer.
    pub(super) fn end_events(
        &mut self,
        (how, why): (&str, &str),
        reason: DisconnectReason,
        engine: &mut Engine,
    ) {
        let now = engine.clock.now;
        let object = line(|out| {
            let mut end = Object::begin(out, "end");
            end.text("how", how);
            end.text("reason", why);
            end.end();
        });
        let mut last = Vec::new();
        write_stamped(&mut last, engine.base() + now, &object);
        self.owe(now).push_own(last.into());
        self.depart(engine, reason);
        self.end(engine);
    }
}

/// Writes that lines of the log are missing.
fn write_lost(out: &mut Vec<u8>, at: u64, count: u64) {
    let object = line(|out| {
        let mut log = Object::begin(out, "log");
        log.whole("lost", count);
        log.end();
    });
    write_stamped(out, at, &object);
}

/// Writes the line of an item of the feed, unless it is one of the log below this level.
fn write_item(out: &mut Vec<u8>, at: u64, item: &Item, least: u8) {
    if let Some(json) = item.json() {
        let object = std::str::from_utf8(&json).unwrap_or_default();
        // The hub writes its lines so. What else the program sends to this feed has no line here.
        let is_line = object.starts_with("{\"") && !object.contains('\n');
        if is_line && level_of(object).is_none_or(|level| level as u8 >= least) {
            write_stamped(out, at, object);
        }
    } else if let Some(key) = item.key.as_deref().filter(|_| item.is_removal()) {
        let mut object = b"{\"removed\":".to_vec();
        crate::progress::line::write_text(&mut object, key);
        object.push(b'}');
        write_stamped(out, at, std::str::from_utf8(&object).unwrap_or_default());
    }
}
