//! Clients on `stepcast.v1`, who survive their connections.
//!
//! | state | what it is | becomes |
//! |---|---|---|
//! | live | a connection is this client | detached, when the connection is lost; gone, when one side has closed for good |
//! | detached | it may come back, and its mailbox collects | live, by its id and key; gone, after the grace period |
//! | gone | its id will not come again | |
//!
//! All of that happens on the driver's thread, one step after the other, so that it needs no lock and no order of its own. A
//! connection is named by its place in the driver's table and its serial number: the end of one that has been taken over is
//! another's business, and finds that it is not this client any more.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::ClientId;
use super::client::{Client, Details};
use super::engine::Engine;
use super::events::{DisconnectReason, Event};
use super::log::{Kept, Log, NONE};
use super::queue::Entry;
use super::topic::{Topic, Topics};
use crate::wire::v1::Hello;

#[derive(Debug)]
pub(crate) struct Session {
    /// What proves who comes back.
    key: [u8; 16],
    client: Arc<Client>,
    /// The place of its mailbox among the logs, or [`NONE`] where it was never sent anything: what it was sent and has not
    /// acknowledged.
    mail: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Live { key: usize, serial: u32, ip: IpAddr },
    Detached { until: u64 },
}

/// All of a hub.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    by_id: HashMap<ClientId, Session>,
    /// Random for each start of a hub: what numbers mean ends with it.
    pub(crate) epoch: [u8; 8],
    /// What all their mailboxes have in common.
    mailbox: Option<Arc<Topic>>,
    /// Connections whose client has another one now, by place and serial number.
    pub(crate) taken_over: Vec<(usize, u32)>,
}

impl Sessions {
    pub(crate) fn new() -> Self {
        let mut epoch = [0; 8];
        let _ = getrandom::fill(&mut epoch); // it has given random bytes for the ids a moment ago
        Self { epoch, ..Self::default() }
    }
}

impl Sessions {
    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(crate) fn is_known(&self, id: ClientId) -> bool {
        self.by_id.contains_key(&id)
    }

    pub(crate) fn is_anybody_away(&self) -> bool {
        self.by_id.values().any(|session| matches!(session.state, State::Detached { .. }))
    }
}

/// A client that begins, or goes on, on a connection.
pub(crate) struct Begun {
    pub(crate) client: Arc<Client>,
    pub(crate) key: [u8; 16],
    pub(crate) resumed: bool,
}

impl Engine {
    /// Makes a client of the connection that said this, or the one that it was.
    pub(crate) fn begin_session(
        &mut self,
        hello: &Hello,
        details: Details,
        address: SocketAddr,
        (key, serial): (usize, u32),
    ) -> Begun {
        let state = State::Live { key, serial, ip: address.ip() };
        let is_ours = hello.is_of(&self.sessions.epoch);
        let id = hello.id.and_then(ClientId::new).filter(|_| is_ours);
        let known = id.and_then(|id| self.sessions.by_id.get_mut(&id));
        if let Some(session) = known.filter(|session| hello.has_key(&session.key)) {
            let before = std::mem::replace(&mut session.state, state);
            let secret = session.key;
            let client = Arc::clone(&session.client);
            if let State::Live { key, serial, ip } = before {
                self.sessions.taken_over.push((key, serial));
                self.leave(ip);
            }
            self.enter(address.ip());
            if client.mailbox.lock().closed {
                // The program is done with it, and it has not been told yet.
                self.dismiss(&client, DisconnectReason::ByHub);
            } else {
                client.set_key(key);
                let id = client.id;
                tracing::debug!(%id, "client resumed");
                self.shared.listeners.tell(|| Event::Resumed { id });
                return Begun { client, key: secret, resumed: true };
            }
        }
        let mut secret = [0; 16];
        let _ = getrandom::fill(&mut secret); // as above
        let client = self.admit_as(details, address, key, None);
        let session = Session { key: secret, client: Arc::clone(&client), mail: NONE, state };
        self.sessions.by_id.insert(client.id, session);
        self.keep_everyones();
        Begun { client, key: secret, resumed: false }
    }

    /// The place of a client's mailbox, if there is something in it, or was: it is made for the first that there is.
    pub(crate) fn mail_of(&mut self, client: &Client) -> Option<usize> {
        let session = self.sessions.by_id.get_mut(&client.id)?;
        if session.mail == NONE {
            client.mailbox.lock().mail.as_ref()?;
            let topic = self.sessions.mailbox.get_or_insert_with(Topics::mailbox);
            let kept = Kept { messages: usize::MAX, age: u64::MAX / 4 };
            let log = Log::new(Arc::clone(topic), self.shared.limits.mailbox, kept);
            session.mail = self.logs.insert(log);
        }
        Some(session.mail)
    }

    /// Everyone's log is kept for those who come late while there is somebody who could be given it.
    fn keep_everyones(&mut self) {
        let nothing = Kept { messages: 0, age: 0 };
        let kept = if self.sessions.by_id.is_empty() { nothing } else { self.retention };
        let everyone = Arc::clone(self.shared.topics.everyone());
        let place = self.log_of(&everyone);
        self.logs[place].keep(kept);
        self.touched.push(place);
    }

    /// The connection of a client has been lost: it may come back. Whether the connection was this client's still.
    pub(crate) fn detach(
        &mut self,
        id: ClientId,
        connection: (usize, u32),
        reason: DisconnectReason,
    ) -> bool {
        let until = self.now + self.timeouts.grace;
        let Some(session) = self.live_session(id, connection) else { return false };
        if reason == DisconnectReason::TooSlow {
            session.client.mailbox.lock().closed = false; // it was, so that nothing more came
        }
        if let State::Live { ip, .. } =
            std::mem::replace(&mut session.state, State::Detached { until })
        {
            self.leave(ip);
        }
        tracing::debug!(%id, %reason, "client detached");
        self.shared.listeners.tell(|| Event::Detached { id, reason });
        true
    }

    /// Whether this connection is the client's.
    pub(crate) fn is_live(&mut self, id: ClientId, connection: (usize, u32)) -> bool {
        self.live_session(id, connection).is_some()
    }

    fn live_session(&mut self, id: ClientId, connection: (usize, u32)) -> Option<&mut Session> {
        let session = self.sessions.by_id.get_mut(&id)?;
        match session.state {
            State::Live { key, serial, .. } if (key, serial) == connection => Some(session),
            _ => None,
        }
    }

    /// The client has gone for good: what its session held, if it had one, goes, too. Returns the address that it
    /// is connected from, if it is.
    pub(crate) fn forget_session(&mut self, client: &Client) -> Option<IpAddr> {
        let Some(session) = self.sessions.by_id.remove(&client.id) else {
            return Some(client.address.ip());
        };
        self.logs.try_remove(session.mail);
        self.keep_everyones();
        match session.state {
            State::Live { ip, .. } => Some(ip),
            State::Detached { .. } => None,
        }
    }

    /// There are as many clients as there may be: one who is away makes way.
    pub(crate) fn end_who_is_away_longest(&mut self) {
        let away = self.sessions.by_id.values().filter_map(|session| match session.state {
            State::Detached { until } => Some((until, session)),
            State::Live { .. } => None,
        });
        if let Some((_, session)) = away.min_by_key(|(until, _)| *until) {
            let client = Arc::clone(&session.client);
            self.dismiss(&client, DisconnectReason::Lost);
        }
    }

    /// Those who have not come back in time have gone.
    pub(crate) fn expire_sessions(&mut self) {
        let now = self.now;
        let over =
            |session: &Session| matches!(session.state, State::Detached { until } if now >= until);
        let gone: Vec<_> = self.sessions.by_id.values().filter(|session| over(session)).collect();
        let gone: Vec<_> = gone.iter().map(|session| Arc::clone(&session.client)).collect();
        for client in gone {
            self.dismiss(&client, DisconnectReason::Lost);
        }
    }

    /// Whether there is a place for who says this.
    pub(crate) fn has_place_for(&self, hello: &Hello) -> bool {
        let id = hello.id.and_then(ClientId::new);
        let known = id.and_then(|id| self.sessions.by_id.get(&id));
        let is_known = known.is_some_and(|session| hello.has_key(&session.key));
        let is_full = self.shared.registry.count() >= self.shared.limits.clients;
        !is_full || is_known || self.sessions.is_anybody_away()
    }

    /// The hub ends: who is away does not come back to it.
    pub(crate) fn end_all_away(&mut self) {
        let away = |session: &&Session| matches!(session.state, State::Detached { .. });
        let away: Vec<_> = self.sessions.by_id.values().filter(away).collect();
        let away: Vec<_> = away.iter().map(|session| Arc::clone(&session.client)).collect();
        for client in away {
            self.dismiss(&client, DisconnectReason::ByHub);
        }
    }

    /// A client that is away is to go for good, if it is away.
    pub(crate) fn end_detached(&mut self, id: ClientId) {
        let away =
            self.sessions.by_id.get(&id).filter(|s| matches!(s.state, State::Detached { .. }));
        if let Some(client) = away.map(|session| Arc::clone(&session.client)) {
            self.dismiss(&client, DisconnectReason::ByHub);
        }
    }

    /// Moves what waits in a client's mailbox into the log that it is read from, if there is room. What it had when it came
    /// back, up to the number `had`, makes room: it may have acknowledged that before, and not been heard. Whether
    /// anything was moved.
    pub(crate) fn collect_mail(&mut self, client: &Client, place: usize, had: u64) -> bool {
        let (now, bound) = (self.now, self.shared.limits.mailbox);
        let Some(log) = self.logs.get_mut(place) else { return false };
        let mail = {
            let mut mailbox = client.mailbox.lock();
            let waiting = mailbox.mail.as_ref().map_or(0, |mail| mail.log.bytes());
            if log.bytes() > 0 && log.bytes() + waiting > bound {
                log.window.drop_before(log.window.after_number(had));
                if log.bytes() > 0 && log.bytes() + waiting > bound {
                    return false; // what is there has to be acknowledged first
                }
            }
            mailbox.mail.take()
        };
        let Some(mail) = mail else { return false };
        let (lost, mut sent, values) = mail.into_parts();
        log.newest += lost;
        while let Some(entry) = sent.pop() {
            log.push(log.newest + 1, entry, now, &self.shared.budget);
        }
        for (key, stamp, message) in values {
            log.set(key, Entry { stamp, message }, &self.shared.budget);
        }
        // What the client has had leaves no trace among the values that wait, so they are bounded here once more.
        log.latest.give_way(self.shared.limits.keys, bound);
        log.reveal(self.upto);
        if !log.window.all_visible() || !log.latest.all_before(self.upto) {
            self.hidden.push(place);
        }
        true
    }

    /// A client has so much of its mailbox, and says that it need not be kept.
    pub(crate) fn acknowledge(&mut self, place: usize, seq: u64) {
        if let Some(log) = self.logs.get_mut(place) {
            let had = log.window.after_number(seq);
            log.window.drop_before(had);
        }
    }
}
