//! The part of a connection that only `stepcast.v1` has: what the client says, and what it is told
//! beside messages.

use std::sync::Arc;

use bytes::Bytes;

use crate::codec::{CloseCode, CloseFrame, Message};
use crate::hub::client::state::Wanted;
use crate::hub::conn::outbox::Outbox;
use crate::hub::conn::phase::{Connection, Newcomer, Open, Phase, Step, V1};
use crate::hub::engine::follows::{Follow, Follows, Owed};
use crate::hub::engine::parts::Engine;
use crate::hub::error::FollowError;
use crate::hub::feed::item::Why;
use crate::hub::feed::place::FeedPlace;
use crate::hub::feed::seq::Seq;
use crate::hub::feed::stamp::Stamp;
use crate::hub::feed::topic::NAME_MAX;
use crate::hub::goodbye::{COME_BACK, Goodbye};
use crate::hub::primitives::budget::Charge;
use crate::hub::primitives::conn_id::ConnId;
use crate::hub::primitives::moment::{Moment, low_half};
use crate::progress::tell::RUN;
use crate::wire::Wire;
use crate::wire::v1::{self, Had, Head, Joined, Lines, Refused, Said};

/// The number of invalid lines at which the connection is closed.
const ERRORS: u8 = 10;

/// The most bytes of answers that may wait for a client. The connection is closed beyond that.
const LINES: usize = 64 * 1024;

/// The close codes of this wire (`docs/protocol.md`).
const TOO_SLOW: u16 = 4001;
const TAKEN_OVER: u16 = 4500;
const CLOSED: u16 = 4501;
const RULES_BROKEN: u16 = 4502;
pub(super) const REFUSED: u16 = 4505;

impl Open {
    pub(super) fn is_v1(&self) -> bool {
        self.wire == Wire::V1
    }

    pub(super) fn lines(&mut self) -> &mut Lines {
        &mut self.v1.get_or_insert_default().lines
    }

    pub(super) fn take_lines(&mut self) -> Option<Vec<u8>> {
        let v1 = self.v1.as_mut().filter(|v1| !v1.lines.is_empty())?;
        let frame = v1.lines.take();
        v1.charge = None; // the outbox counts what does not leave at once
        self.drop_v1_if_empty();
        Some(frame)
    }

    fn drop_v1_if_empty(&mut self) {
        let is_empty = |v1: &V1| {
            let holds_nothing = v1.lines.is_empty() && v1.unheard.is_empty();
            holds_nothing && v1.request.is_none() && v1.asked.is_none()
        };
        if self.v1.as_deref().is_some_and(is_empty) {
            self.v1 = None;
        }
    }

    /// Notes that a question is in line behind what has been taken up. Its answer acknowledges the
    /// mail before it.
    pub(super) fn asked(&mut self, engine: &Engine) {
        self.pace.asked(engine.clock.now);
        if !self.is_v1() {
            return;
        }
        let mailbox = self.client.mailbox.lock();
        let Some(seen) = mailbox.mail.as_ref().and_then(|mail| mail.unacknowledged()) else {
            return;
        };
        drop(mailbox);
        let asked = (self.pace.last_asked(), seen);
        self.v1.get_or_insert_default().asked.get_or_insert(asked);
    }

    /// Handles the answer to a question that `offset` bytes went before.
    pub(super) fn answered(&mut self, offset: u64, engine: &mut Engine) {
        let Some(v1) = &mut self.v1 else { return };
        // Offsets count modulo 2^32, of which no more than half is in flight.
        let is_behind = |of: u32| low_half(offset).wrapping_sub(of) <= u32::MAX / 2;
        if let Some((_, seq)) = v1.asked.take_if(|(of, _)| is_behind(*of)) {
            self.acknowledge(seq, engine);
            self.drop_v1_if_empty();
        }
    }

    /// Whether something waits in the client's mailbox.
    pub(super) fn mail_waits(&self) -> bool {
        self.client.mailbox.lock().mail.as_ref().is_some_and(|mail| mail.waits())
    }

    /// Makes room for waiting mail, if the client has to acknowledge some of what it was given
    /// first: what it had when it came back goes, and else the client is asked whether it has read
    /// its mail.
    pub(super) fn make_mail_room(&mut self, engine: &Engine) {
        let keeps = engine.feeds.keeps();
        let had = |open: &Self| {
            let mailbox = open.client.mailbox.lock();
            mailbox.mail.as_ref().filter(|mail| mail.is_full(keeps)).map(|mail| mail.had())
        };
        let Some(before) = had(self) else { return };
        self.acknowledge(before, engine);
        if had(self).is_none() {
            return;
        }
        self.has_mail = false; // until an answer
        if self.v1.as_ref().is_none_or(|v1| v1.asked.is_none()) {
            let numbers = self.pace.numbers(engine.clock.now);
            self.lines().ping(numbers);
            self.asked(engine);
        }
    }

    /// Notes that the client has read its mailbox up to this number.
    pub(super) fn acknowledge(&mut self, number: Seq, engine: &Engine) {
        let _evicted = {
            let mut mailbox = self.client.mailbox.lock();
            let Some(mail) = &mut mailbox.mail else { return };
            let evicted = mail.acknowledge(number);
            self.has_mail |= mail.waits(); // for room
            mailbox.free(evicted.bytes, engine.shared.mail_budgets());
            evicted // payloads of the program's: not under the lock
        };
    }

    /// Begins a feed behind what the client has seen. If the log keeps no later message, the gap is
    /// announced now: there may be no next message that the gap would go before.
    pub(super) fn begin(&mut self, engine: &Engine, mut follow: Follow) {
        let log = &engine.feeds.logs[follow.place()];
        if follow.misses(log.newest.next()) && log.window.number(follow.cursor.log).is_none() {
            let (from, to) = (follow.seen.next().get(), log.newest.get());
            self.lines().gap(log.topic.alias, from, to, follow.why.name());
            follow.see(log.newest);
        }
        self.follows.add(follow);
    }

    /// Begins the mailbox of a client that has come back, behind what the client has.
    fn begin_mail(&mut self, had: Had) {
        let missed = {
            let mut mailbox = self.client.mailbox.lock();
            let Some(mail) = &mut mailbox.mail else { return };
            let missed = mail.begin(had);
            self.has_mail = mail.waits(); // the driver may have been told of the connection before
            missed
        };
        if let Some((from, to, why)) = missed {
            self.lines().gap(v1::MAILBOX, from.get(), to.get(), why.name());
        }
    }

    pub(super) fn note_unfollowed(&mut self, place: FeedPlace, engine: &Engine) {
        if let Some(log) = engine.feeds.get(place) {
            self.lines().unfollowed(log.topic.alias);
        }
    }
}

impl Connection {
    /// Handles the first line of a connection, which makes it a client's.
    pub(super) fn hello(&mut self, text: &str, engine: &mut Engine) {
        let text = text.trim_start_matches('\n');
        let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
        let limit = engine.shared.limits.feeds_per_client;
        let Ok(Said::Hello(hello)) = v1::parse(first, limit) else {
            return self.turn_away(RULES_BROKEN, "expected a hello first", engine);
        };
        let Phase::Newcomer(newcomer) = &self.phase else { return };
        if !engine.has_place_for(&hello, newcomer.address) {
            return self.turn_away(
                COME_BACK,
                "the hub has as many clients as it may; try again later",
                engine,
            );
        }
        // The newcomer's state is freed first: see `answer`.
        let between = Phase::Closing { deadline: engine.clock.now, inbound: None };
        let Phase::Newcomer(newcomer) = std::mem::replace(&mut self.phase, between) else { return };
        let Newcomer { request, details, address, inbound, mut used, .. } = *newcomer;
        let connection = self.id;
        let begun = engine.begin_session(&hello, details, address, connection);
        // The feeds to follow so far are looked at below; later changes are looked at afterwards.
        begun.client.mailbox.lock().refollow = false;
        let of_this_hub = hello.epoch == Some(engine.shared.topics.epoch());
        let mut lines_out = Lines::default();
        engine.greet_v1(&mut lines_out, begun.client.id, begun.resumed);
        if hello.too_many {
            lines_out.error("full", None, &too_many_named(limit));
        }
        let v1 = V1 { lines: lines_out, request, ..V1::default() };
        let mut open = Open::new(Arc::clone(&begun.client), Follows::none(), Wire::V1, engine);
        open.v1 = Some(Box::new(v1));
        open.inbound = inbound;
        // Naming feeds costs rate, but a client is never kept out by its own hello: at most half of
        // its rate counts as used.
        engine.intake.is_within_rate(&mut used, hello.feeds.len());
        open.used = used.at_most_half();
        if begun.resumed {
            open.begin_mail(hello.mail);
        }
        self.phase = Phase::Open(open);
        // Earlier requests of the client no longer count: it asks again now, and may get other
        // answers.
        let asked_before = begun.client.unfollow_own();
        for (name, had) in &hello.feeds {
            self.follow_named(name, *had, of_this_hub, engine, connection);
        }
        for topic in asked_before {
            engine.shared.drop_follower(&topic);
        }
        self.follow_all(&begun.client.wishes(), engine); // the program's wishes
        if !rest.is_empty() {
            self.said(rest, engine);
        }
    }

    /// Closes a connection that does not begin as it should.
    pub(super) fn turn_away(&mut self, code: u16, reason: &str, engine: &mut Engine) {
        let mut lines = Lines::default();
        lines.bye(code, reason, None);
        let close = CloseCode::new(code).map(|code| CloseFrame::new(code, reason));
        let outbox = self.owe(engine.clock.now);
        outbox.push_own(lines.take().into());
        outbox.close(close);
        self.end(engine);
    }

    /// Closes a newcomer that did not say hello in time.
    pub(super) fn time_out_newcomer(&mut self, engine: &mut Engine) -> Step {
        self.turn_away(RULES_BROKEN, "expected a hello in time", engine);
        self.write(engine)
    }

    /// Handles the lines of a client, up to one that breaks the rules.
    pub(super) fn said(&mut self, text: &str, engine: &mut Engine) {
        let limit = engine.shared.limits.feeds_per_client;
        let mut rest = text.trim_matches('\n');
        if rest.is_empty() {
            self.count(1, engine);
        }
        while !rest.is_empty() {
            let Phase::Open(open) = &mut self.phase else { return };
            if engine.intake.work == 0 {
                open.v1.get_or_insert_default().unheard = rest.into();
                return;
            }
            let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
            rest = after.trim_start_matches('\n');
            match v1::parse(line, limit) {
                Ok(Said::Pong(value)) => {
                    let says_more = open.pace.answer(value, engine.freshness(), engine.clock.now);
                    open.answered(value[0], engine);
                    if says_more {
                        // An answer costs none of the client's rate: the hub asked for it, and sets
                        // how often.
                        open.held_since = None;
                        engine.intake.work -= 1;
                    } else {
                        self.count(1, engine);
                    }
                }
                Ok(said) => {
                    if self.count(1 + said.names(), engine) {
                        self.hear(said, engine);
                    }
                }
                Err(refused) => {
                    if self.count(1, engine) {
                        self.refuse_line(refused, limit, engine);
                    }
                }
            }
            // A client that asks and does not read must not make the answers grow without bound.
            let Phase::Open(open) = &self.phase else { return };
            if open.v1.as_ref().is_some_and(|v1| v1.lines.len() > LINES) {
                let reason = "too much was asked for, and no answer taken";
                self.fail(CloseFrame::new(CloseCode::POLICY, reason), engine);
            }
            if self.has_broken_the_rules() {
                return;
            }
        }
    }

    fn refuse_line(&mut self, refused: Refused, limit: usize, engine: &mut Engine) {
        let Phase::Open(open) = &mut self.phase else { return };
        match refused {
            Refused::Malformed(expected) => self.malformed(expected, engine),
            Refused::TooMany => open.lines().error("full", None, &too_many_named(limit)),
        }
    }

    pub(super) fn malformed(&mut self, expected: &str, engine: &mut Engine) {
        let Phase::Open(open) = &mut self.phase else { return };
        open.lines().error("malformed", None, expected);
        open.errors += 1;
        if open.errors >= ERRORS {
            if let Some(code) = CloseCode::new(RULES_BROKEN) {
                self.fail(CloseFrame::new(code, "too many malformed lines"), engine);
            }
        }
    }

    fn hear(&mut self, said: Said, engine: &mut Engine) {
        let Phase::Open(open) = &mut self.phase else { return };
        match said {
            Said::Hello(_) => self.malformed("expected one hello, got a second", engine),
            Said::Follow(feeds) => {
                let connection = self.id;
                for (name, had) in feeds {
                    self.follow_named(&name, had, true, engine, connection);
                }
            }
            Said::Unfollow(names) => {
                // Unfollows at once, unlike the program's calls: the client's next line may follow
                // the same feed again.
                for name in names {
                    let Some(topic) = open.client.topic_named(&name) else { continue };
                    if open.client.unfollow(&topic, || {}) {
                        engine.shared.drop_follower(&topic);
                    }
                    let place = engine.feeds.log_of(&topic);
                    for gone in open.follows.take_unless(|other| other != place) {
                        engine.feeds.unfollow_early(gone.place(), self.id);
                        open.note_unfollowed(gone.place(), engine);
                    }
                }
            }
            Said::Message(to, message) => self.hear_message(to, &message, engine),
            Said::Ack(seq) => open.acknowledge(Seq::new(seq), engine),
            Said::Pong(_) | Said::Unknown => {}
        }
    }

    /// Follows a feed that the client asks for. `of_this_hub` says whether what the client has,
    /// where it names no epoch, is of this hub.
    fn follow_named(
        &mut self,
        name: &str,
        had: Had,
        of_this_hub: bool,
        engine: &mut Engine,
        connection: ConnId,
    ) {
        self.send_lines_ahead(engine);
        let Phase::Open(open) = &mut self.phase else { return };
        let limit = engine.shared.limits.feeds_per_client;
        // The limit is checked before a feed is made or a rule is asked.
        if open.client.follows_count() >= limit && open.client.topic_named(name).is_none() {
            let error = FollowError::TooMany { limit }.to_string();
            return open.lines().error("full", Some(shown(name)), &error);
        }
        let asked = open.v1.as_ref().and_then(|v1| v1.request.as_ref());
        let request = asked.map(|asked| &asked.request);
        let topic = match engine.feed_for(name, request, open.client.address()) {
            Ok(topic) => topic,
            Err((code, reason)) => return open.lines().error(code, Some(shown(name)), &reason),
        };
        match open.client.follow_at_once(&topic, limit) {
            Ok(true) => {}
            Ok(false) => engine.shared.drop_handle(&topic), // the client holds an earlier handle
            Err(error) => {
                engine.shared.drop_handle(&topic);
                return open.lines().error("full", Some(name), &error.to_string());
            }
        }
        let place = engine.feeds.log_of(&topic);
        let counts = had.epoch.map_or(of_this_hub, |epoch| epoch == topic.epoch);
        let had = Some(had).filter(|_| counts);
        match open.follows.at(place).map(|follow| follow.seen) {
            // A followed feed goes on where it is: everything given before goes before this answer.
            Some(seen) => open.lines().feed(name, topic.alias, topic.epoch, seen.get(), true),
            None => self.begin_feed(place, (had, Stamp::MAX), engine, connection),
        }
    }

    /// Sends many answers while the client still talks, if its socket takes them. Only answers that
    /// the client does not read then pile up.
    fn send_lines_ahead(&mut self, engine: &mut Engine) {
        let Phase::Open(open) = &mut self.phase else { return };
        let are_many = open.v1.as_ref().is_some_and(|v1| v1.lines.len() > LINES / 4);
        if self.outbox.is_none() && are_many {
            if let Some(lines) = open.take_lines() {
                open.sent_at = Moment::at(engine.clock.now);
                self.send_at_once(lines, engine);
            }
        }
    }

    /// Counts the lines that wait to be sent, or to be read, until the connection's next turn.
    pub(super) fn charge_lines(&mut self, engine: &Engine) {
        let Phase::Open(Open { v1: Some(v1), .. }) = &mut self.phase else { return };
        let bytes = v1.lines.capacity() + v1.unheard.len();
        if bytes > 0 || v1.charge.is_some() {
            v1.charge.get_or_insert_with(|| Charge::none(&engine.shared.outboxes)).set(bytes);
        }
    }

    /// Starts to give the client this feed, from the stamp on at the latest.
    fn begin_feed(
        &mut self,
        place: FeedPlace,
        (had, stamp): (Option<Had>, Stamp),
        engine: &mut Engine,
        connection: ConnId,
    ) {
        let Phase::Open(open) = &mut self.phase else { return };
        let now = engine.clock.now;
        let (cursor, number, resumed) = engine.feeds.resume(place, connection, had, stamp, now);
        let topic = &engine.feeds.logs[place].topic;
        let (alias, epoch) = (topic.alias, topic.epoch);
        open.lines().feed(topic.name(), alias, epoch, number.get(), resumed);
        let follow = Follow::new(place, cursor).behind(number, Why::Expired);
        open.begin(engine, follow);
    }

    /// Follows the wanted feeds that are not followed yet.
    pub(super) fn follow_all(&mut self, wanted: &[Wanted], engine: &mut Engine) {
        for wanted in wanted {
            let place = engine.feeds.log_of(&wanted.topic);
            let Phase::Open(open) = &mut self.phase else { return };
            if !open.follows.contains(place) {
                self.begin_feed(place, (None, wanted.stamp), engine, self.id);
            }
        }
    }

    /// Fills an outbox with the next messages, whose lines share frames. Returns the outbox and its
    /// size. At most `messages` messages are taken, and the last begins within `bytes`.
    pub(super) fn take_up_v1(
        &mut self,
        engine: &Engine,
        upto: Stamp,
        bytes: usize,
        messages: usize,
    ) -> Option<(Box<Outbox>, usize)> {
        let Phase::Open(open) = &mut self.phase else { return None };
        let (mut joined, mut taken) = (Joined::default(), 0);
        let mut outbox = Outbox::new(engine.clock.now);
        for _ in 0..messages {
            if taken >= bytes {
                break;
            }
            let feeds = &engine.feeds;
            let owed = open.follows.next(&open.client, &mut open.has_mail, feeds, upto);
            let (before, own) = match owed {
                Some(Owed::Mail(mailed)) => {
                    if let Some((number, seen, why)) = mailed.number {
                        joined.gap(v1::MAILBOX, seen.get(), number.get(), why.name());
                    }
                    let number =
                        mailed.number.map_or(mailed.stamp.get(), |(number, ..)| number.get());
                    let at = feeds.times.of(mailed.stamp, engine.clock.now);
                    let head = Head { alias: v1::MAILBOX, number, at };
                    let (message, key) = (mailed.message.as_deref(), mailed.key.as_deref());
                    let (before, own, length) = joined.message(head, message, key);
                    taken += length;
                    // The frame may outlive the mail, and its payload is the program's to drop.
                    let own = own.map(|frame| {
                        let charge = Charge::none(&engine.shared.outboxes);
                        frame.map_payload(|bytes| charge.attach(bytes))
                    });
                    (before, own)
                }
                Some(Owed::Feed { stamp, item, follow, after }) => {
                    let Some(log) = feeds.get(follow.place()) else { break };
                    let (form, number) =
                        log.form(item, stamp, (follow.cursor, after), &engine.shared.budget);
                    if let Some(number) = number {
                        let (alias, seen) = (log.topic.alias, follow.seen.get());
                        let number = number.get();
                        // The end of the hole was given to nobody, however fast the client reads.
                        let until = number - log.window.lost_before(follow.cursor.log);
                        joined.gap(alias, seen, until, follow.why.name());
                        joined.gap(alias, seen.max(until - 1), number, "lost");
                    }
                    if let Some(follow) = open.follows.at(follow.place()) {
                        follow.cursor = after;
                        follow.see(number.unwrap_or_default().min(log.newest));
                    }
                    taken += form.len();
                    joined.add(form)
                }
                None => break,
            };
            if let Some(lines) = before {
                outbox.push_own(lines);
            }
            if let Some(frame) = own {
                outbox.push_with_own_head(frame);
            }
        }
        if let Some(lines) = joined.take() {
            outbox.push_own(lines);
        }
        outbox.has_data().then(|| (Box::new(outbox), taken))
    }

    /// Writes what goes before a Close. Returns the Close as this wire has it.
    pub(super) fn farewell(&mut self, close: CloseFrame, engine: &Engine) -> CloseFrame {
        let Phase::Open(open) = &self.phase else { return close };
        if !open.is_v1() {
            return close;
        }
        let code = match close.code() {
            CloseCode::TRY_AGAIN_LATER => TOO_SLOW,
            CloseCode::NORMAL => CLOSED,
            other => other.get(),
        };
        let code = CloseCode::new(code).unwrap_or(close.code());
        self.bye(code, close.reason(), None, engine)
    }

    /// Does the same where the hub ends.
    pub(super) fn farewell_at_the_end(
        &mut self,
        goodbye: &Goodbye,
        wire: Wire,
        engine: &Engine,
    ) -> CloseFrame {
        let code = CloseCode::new(goodbye.v1_code()).filter(|_| wire == Wire::V1);
        let Some(code) = code else { return goodbye.close() };
        // Clients are told to come back over a period that grows with their number, so they do not
        // all come at once.
        let within =
            1000 + 2 * engine.farewell.as_ref().map_or(0, |farewell| farewell.clients as u64);
        let some =
            self.client().map_or(u64::from(self.id.serial()) * 997, |client| client.id.get() >> 8);
        let retry = (goodbye.v1_code() == COME_BACK).then(|| some % within);
        self.bye(code, goodbye.reason(), retry, engine)
    }

    /// Writes the lines before a Close on this wire. Returns the Close.
    pub(super) fn bye(
        &mut self,
        code: CloseCode,
        reason: &str,
        retry: Option<u64>,
        engine: &Engine,
    ) -> CloseFrame {
        let mut lines = Lines::default();
        lines.bye(code.get(), reason, retry);
        self.owe(engine.clock.now).push_own(lines.take().into());
        CloseFrame::new(code, reason)
    }

    /// Says goodbye to a client that comes while the hub ends.
    pub(super) fn say_goodbye(&mut self, goodbye: &Goodbye, wire: Wire, engine: &mut Engine) {
        let close = self.farewell_at_the_end(goodbye, wire, engine);
        self.owe(engine.clock.now).close(Some(close));
        self.end(engine);
    }

    /// Hands this client over to another connection.
    pub(crate) fn be_taken_over(&mut self, engine: &mut Engine) -> Step {
        let reason = "another connection has taken over this client";
        self.unfollow_feeds(engine);
        let mut lines = Lines::default();
        lines.bye(TAKEN_OVER, reason, None);
        let close = CloseCode::new(TAKEN_OVER).map(|code| CloseFrame::new(code, reason));
        let outbox = self.owe(engine.clock.now);
        outbox.close_now(close);
        outbox.push_own(lines.take().into());
        self.end(engine);
        self.write(engine)
    }
}

/// Returns the answer to a line that names too many feeds and is not looked at.
fn too_many_named(limit: usize) -> String {
    format!(
        "a line names more feeds than the {limit} that a client may follow; the line is ignored"
    )
}

/// Returns as much of a name as is sent back: no feed's name is longer.
fn shown(name: &str) -> &str {
    let end = (0..=NAME_MAX.min(name.len())).rev().find(|end| name.is_char_boundary(*end));
    &name[..end.unwrap_or_default()]
}

impl Connection {
    /// Handles a binary frame of a client on this wire.
    pub(super) fn heard_bytes(&mut self, frame: &Bytes, engine: &mut Engine) {
        match v1::parse_binary(frame) {
            Ok(Some((to, message))) => self.hear_message(to, &message, engine),
            Ok(None) => {}
            Err(refused) => self.refuse_line(refused, 0, engine),
        }
    }

    /// Gives the program a message, with the feed of this alias if there is one.
    fn hear_message(&mut self, to: u32, message: &Message, engine: &mut Engine) {
        let Phase::Open(open) = &mut self.phase else { return };
        let logs = || open.follows.iter().filter_map(|follow| engine.feeds.get(follow.place()));
        let topic = || Some(Arc::clone(&logs().find(|log| log.topic.alias == to)?.topic));
        let feed = if to == v1::MAILBOX { None } else { topic() };
        if to != v1::MAILBOX && feed.is_none() {
            let reason = format!("expected the alias of a feed that this client follows, not {to}");
            return open.lines().error("unknown", None, &reason);
        }
        if feed.as_ref().is_some_and(|topic| topic.name() == RUN) {
            let by = open.client.id.to_string();
            let command = if let Message::Json(json) = message { json.as_str() } else { "" };
            if let Err(refused) = engine.shared.jobs.command(command, &by) {
                open.lines().error(refused.code, Some(RUN), &refused.reason);
            }
            return;
        }
        engine.tell_message(open.client.id, feed.as_deref(), message);
    }
}
