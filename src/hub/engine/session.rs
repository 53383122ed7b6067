//! Clients on `stepcast.v1`, which survive their connections.
//!
//! - **Live**: a connection is this client. Becomes detached when the connection is lost, and gone
//!   when one side has closed for good.
//! - **Detached**: the client may come back, and its mailbox collects. Becomes live by its id and
//!   key, and gone after the grace period.
//! - **Gone**: the id will not come again.
//!
//! All of this happens on the driver's thread, one step after the other, so it needs no lock and no
//! order of its own. A connection is named by its slot in the driver's table and its serial
//! number. When a connection that was taken over ends, it finds that it is no longer this client
//! and does nothing.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::hub::client::held::Stand;
use crate::hub::client::state::{ClientState, Details};
use crate::hub::engine::follows::Follow;
use crate::hub::engine::parts::Engine;
use crate::hub::events::{DisconnectReason, Event};
use crate::hub::feed::item::Kept;
use crate::hub::feed::stamp::Stamp;
use crate::hub::id::ClientId;
use crate::hub::primitives::conn_id::ConnId;
use crate::wire::v1::Hello;

/// A client that begins, or goes on, on a connection.
pub(crate) struct Begun {
    pub(crate) client: Arc<ClientState>,
    pub(crate) resumed: bool,
}

impl Engine {
    /// Makes the connection that said this hello a new client, or the client that it was.
    pub(crate) fn begin_session(
        &mut self,
        hello: &Hello,
        details: Details,
        address: SocketAddr,
        connection: ConnId,
    ) -> Begun {
        if let Some(client) = self.known(hello) {
            self.clients.held.forget(client.id);
            if let Some(until) = self.clients.sessions.away.remove(client.id) {
                let left_for = self.clock.now
                    - until.saturating_sub(self.clock.timeouts.grace).min(self.clock.now);
                let mut mailbox = client.mailbox.lock();
                let away_for = u64::from(mailbox.away_for).saturating_add(left_for);
                mailbox.away_for = u32::try_from(away_for).unwrap_or(u32::MAX);
                mailbox.set_away(false, &self.shared.absent);
            }
            if let Some((before, address)) = client.move_to(connection, address) {
                self.clients.sessions.taken_over.push(before);
                self.clients.addresses.leave(address.ip());
            }
            self.clients.addresses.enter(address.ip());
            if client.mailbox.lock().ended {
                // The program is done with the client, and the client has not been told yet.
                self.dismiss(&client, DisconnectReason::ByHub);
            } else {
                let id = client.id;
                client.mailbox.lock().closed = false; // it was closed for being too slow
                self.shared.journal.debug(|| move || tracing::debug!(%id, "client resumed"));
                self.shared.listeners.tell(|| Event::Resumed { id });
                return Begun { client, resumed: true };
            }
        }
        let client = self.admit_as(details, address, connection, None);
        client.begin_session();
        self.clients.sessions.count += 1;
        self.keep_everyones();
        Begun { client, resumed: false }
    }

    /// Returns the client that says this hello, if it is one of this hub's.
    fn known(&self, hello: &Hello) -> Option<Arc<ClientState>> {
        let id = hello
            .id
            .and_then(ClientId::new)
            .filter(|_| hello.epoch == Some(self.shared.topics.epoch()))?;
        let client = self.shared.registry.get(id).filter(|client| client.has_session())?;
        hello.has_key(&self.shared.ids.session_key_of(id)).then_some(client)
    }

    /// Keeps everyone's log for late joiners, while any client could be given the log.
    fn keep_everyones(&mut self) {
        let nothing = Kept { messages: 0, age: 0 };
        let kept = if self.clients.sessions.is_empty() { nothing } else { self.feeds.retention };
        let everyone = Arc::clone(self.shared.topics.everyone());
        let place = self.feeds.log_of(&everyone);
        self.feeds.logs[place].keep(kept);
        self.feeds.touch(place);
    }

    /// Detaches a client whose connection has been lost: the client may come back.
    pub(crate) fn detach(&mut self, client: &Arc<ClientState>, reason: DisconnectReason) {
        let until = self.clock.now + self.clock.timeouts.grace;
        {
            let mut mailbox = client.mailbox.lock();
            mailbox.closed = mailbox.ended; // the slow connection has gone, so mail is taken again
            mailbox.set_away(true, &self.shared.absent);
        }
        let lived = client.lived();
        if let Some(address) = client.leave() {
            self.clients.addresses.leave(address.ip());
        }
        // The client asks again for its own feeds when it comes back: nothing is held for it until
        // then.
        for topic in client.unfollow_own() {
            self.shared.drop_follower(&topic);
        }
        let id = client.id;
        self.clients.sessions.away.insert(Arc::clone(client), lived, until);
        self.tell_log(id, &reason, |id, reason| tracing::debug!(%id, reason, "client detached"));
        self.shared.listeners.tell(|| Event::Detached { id, reason });
    }

    /// Forgets a client that has gone for good, with what its session held. Returns the address
    /// that the client is connected from, if it is.
    pub(crate) fn forget_session(&mut self, client: &ClientState) -> Option<SocketAddr> {
        debug_assert!(!client.has_gone(), "it goes once");
        if client.has_session() {
            self.clients.sessions.count -= 1;
            self.clients.held.forget(client.id);
            self.clients.sessions.away.remove(client.id);
            self.keep_everyones();
        }
        client.leave()
    }

    /// Ends at most `most` clients that have not come back in time. Returns how many.
    pub(crate) fn expire_sessions(&mut self, most: usize) -> usize {
        let now = self.clock.now;
        let ended = self.end_away(&DisconnectReason::Lost, most, |until| now >= until);
        self.clients.sessions.away.shrink();
        ended
    }

    /// Ends clients that are away because the hub ends: they cannot come back.
    pub(crate) fn end_away_clients(&mut self, most: usize) -> usize {
        self.end_away(&DisconnectReason::ByHub, most, |_| true)
    }

    fn end_away(
        &mut self,
        reason: &DisconnectReason,
        most: usize,
        is_over: impl Fn(u64) -> bool,
    ) -> usize {
        let over = self.clients.sessions.away.over(most, is_over);
        for client in &over {
            self.dismiss(client, reason.clone());
        }
        over.len()
    }

    /// Whether there is a place for the client that says this hello at this address.
    pub(crate) fn has_place_for(&self, hello: &Hello, address: SocketAddr) -> bool {
        match self.known(hello) {
            Some(client) if self.clients.sessions.away.get(client.id).is_some() => {
                self.connected() < self.shared.capacity().clients
            }
            Some(_) => true, // in the place of its other connection
            None => self.check_place(address.ip()).is_ok(),
        }
    }

    /// Ends a client for good, if the client is away.
    pub(crate) fn end_detached(&mut self, id: ClientId, reason: DisconnectReason) {
        if let Some(client) = self.clients.sessions.away.get(id).cloned() {
            self.dismiss(&client, reason);
        }
    }
}

impl Engine {
    /// Keeps the feeds of a client that may come back and whose connection has been lost with
    /// `unanswered` bytes in flight. What the client has not received, and what comes from now on,
    /// is kept as for a slow client.
    pub(crate) fn hold<'a>(
        &mut self,
        client: &ClientState,
        follows: impl Iterator<Item = &'a Follow>,
        unanswered: u32,
    ) {
        let mut stands = Vec::new();
        for follow in follows {
            let Some(log) = self.feeds.logs.get_mut(follow.place()) else { continue };
            let received = log.window.before(follow.cursor.log, unanswered);
            let from =
                received.min(log.start(false, Stamp::MAX, self.feeds.upto, self.clock.now).log);
            log.hold(from);
            let place = follow.place();
            stands.push(Stand { place, alias: log.topic.alias, from });
        }
        self.clients.held.insert(client.id, stands);
    }

    /// Keeps holding, at each tick, for the client at this index, which is still away.
    pub(crate) fn hold_on(&mut self, index: usize) {
        for stand in self.clients.held.at(index) {
            let log = self.feeds.get_mut(stand.place);
            if let Some(log) = log.filter(|log| log.topic.alias == stand.alias) {
                log.hold_on(stand.from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::engine::follows::Follows;
    use crate::hub::limits::{Limits, Timeouts};
    use crate::hub::testing::fixtures::{address, engine};
    use crate::wire::v1::hex;

    /// What says who this client is.
    fn hello_of(engine: &Engine, client: &ClientState) -> Hello {
        Hello {
            id: Some(client.id.get()),
            key: Some(hex(&engine.shared.ids.session_key_of(client.id))),
            epoch: Some(engine.shared.topics.epoch()),
            ..Hello::default()
        }
    }

    /// Clients, those who are away, and connections at each of the addresses.
    fn counts(engine: &Engine) -> (usize, usize, [usize; 2]) {
        let at = |ip: &str| engine.clients.addresses.connected_at(ip.parse().unwrap());
        let addresses = [at("10.0.0.1"), at("2001:db8::1")];
        assert_eq!(engine.shared.registry.count(), engine.clients.sessions.count);
        (engine.clients.sessions.count, engine.clients.sessions.away.len(), addresses)
    }

    #[test]
    fn a_client_counts_once_and_its_address_where_it_is() {
        let mut engine = engine(Limits::default(), &Timeouts::default());
        let (one, other) = (address("10.0.0.1:1"), address("[2001:db8::1]:1"));
        let new = Hello::default();
        let connect = |engine: &mut Engine, hello: &Hello, address, connection| {
            engine.begin_session(hello, Details::default(), address, connection)
        };
        let client = connect(&mut engine, &new, one, ConnId::new(0, 1)).client;
        let hello = hello_of(&engine, &client);
        assert_eq!(counts(&engine), (1, 0, [1, 0]));

        // Taken over from elsewhere, and lost, and back.
        assert!(connect(&mut engine, &hello, other, ConnId::new(1, 2)).resumed);
        assert_eq!(engine.clients.sessions.taken_over, [ConnId::new(0, 1)]);
        assert_eq!(
            (counts(&engine), client.is_on(ConnId::new(0, 1)), client.is_on(ConnId::new(1, 2))),
            ((1, 0, [0, 1]), false, true)
        );
        engine.detach(&client, DisconnectReason::Lost);
        assert_eq!((counts(&engine), client.is_on(ConnId::new(1, 2))), ((1, 1, [0, 0]), false));
        assert!(connect(&mut engine, &hello, one, ConnId::new(2, 3)).resumed);
        assert_eq!(counts(&engine), (1, 0, [1, 0]));

        // The program is done with it, which it has not been told when it comes back.
        client.mailbox.lock().ended = true;
        let begun = connect(&mut engine, &hello, other, ConnId::new(3, 4));
        assert!(!begun.resumed && client.has_gone());
        assert_eq!(counts(&engine), (1, 0, [0, 1]));

        // Away for good.
        engine.detach(&begun.client, DisconnectReason::Lost);
        engine.end_detached(begun.client.id, DisconnectReason::ByHub);
        engine.end_detached(begun.client.id, DisconnectReason::ByHub);
        assert_eq!(counts(&engine), (0, 0, [0, 0]));
    }

    #[test]
    fn the_mail_of_an_absent_client_counts_in_the_share_until_the_client_is_back_or_gone() {
        let mut engine = engine(Limits::default().keys(3), &Timeouts::default());
        let shared = Arc::clone(&engine.shared);
        let send = |id| {
            for key in ["k", "l", "m"] {
                shared.send(id, "text".repeat(100).into()).unwrap();
                shared.set_for(id, key, "value".into()).unwrap();
            }
            shared.set_for(id, "k", "another, of another size".into()).unwrap();
            assert!(shared.set_for(id, "one too many", "".into()).is_err());
            shared.remove_for(id, "l").unwrap();
        };
        let budgets = || (shared.absent.used(), shared.budget.used());
        let is_all_absent = || {
            let (absent, all) = budgets();
            absent > 0 && absent == all
        };
        let client = begin(&mut engine, "10.0.0.1:1", 0);
        let id = client.id;
        send(id);
        engine.take_news();
        let (follows, upto) = (Follows::none(), engine.feeds.upto);
        for _ in 0..4 {
            assert!(follows.next(&client, &mut true, &engine.feeds, upto).is_some());
        }
        assert!(budgets().0 == 0 && budgets().1 > 0);
        // What it has not acknowledged, and what comes while it is away.
        engine.detach(&client, DisconnectReason::Lost);
        assert!(is_all_absent());
        send(id);
        send(id);
        assert!(is_all_absent());
        engine.halve_mailbox(&client);
        assert!(is_all_absent());
        let hello = hello_of(&engine, &client);
        let again =
            engine.begin_session(&hello, Details::default(), client.address(), ConnId::new(0, 1));
        assert!(again.resumed && budgets().0 == 0);
        // The same once more, and it does not come back.
        engine.detach(&client, DisconnectReason::Lost);
        send(id);
        assert!(is_all_absent());
        engine.dismiss(&client, DisconnectReason::Lost);
        assert_eq!(budgets(), (0, 0));
    }

    #[test]
    fn the_table_of_those_who_are_away_gives_its_room_back() {
        let mut engine = engine(Limits::default(), &Timeouts::default());
        for number in 0..300 {
            let new = Hello::default();
            let from = address(&format!("10.0.{}.{}:1", number / 256, number % 256));
            let begun =
                engine.begin_session(&new, Details::default(), from, ConnId::new(number, 1));
            engine.detach(&begun.client, DisconnectReason::Lost);
        }
        engine.expire_sessions(usize::MAX);
        assert_eq!(engine.clients.sessions.away.len(), 300);
        assert!(engine.clients.sessions.away.capacity() >= 300);
        engine.clock.now += engine.clock.timeouts.grace;
        engine.expire_sessions(usize::MAX);
        assert_eq!((engine.clients.sessions.away.len(), engine.shared.registry.count()), (0, 0));
        assert!(
            engine.clients.sessions.away.capacity() < 16,
            "{}",
            engine.clients.sessions.away.capacity()
        );
    }

    /// Clients that begin, and those that are lost at once, from these addresses.
    fn begin(engine: &mut Engine, from: &str, serial: u32) -> Arc<ClientState> {
        let (new, at) = (Hello::default(), ConnId::new(serial as usize, serial));
        engine.begin_session(&new, Details::default(), address(from), at).client
    }

    fn begin_and_lose(engine: &mut Engine, from: &str, serial: u32) -> Arc<ClientState> {
        let client = begin(engine, from, serial);
        engine.detach(&client, DisconnectReason::Lost);
        client
    }

    #[test]
    fn sessions_that_are_dropped_at_once_push_out_those_of_their_own_address_and_nobody_else() {
        let limits = Limits::default().clients(50).clients_per_address(20);
        let mut engine = engine(limits, &Timeouts::default());
        let honest = begin_and_lose(&mut engine, "10.0.0.1:1", 0);
        let connected = begin(&mut engine, "10.0.0.2:1", 1);
        // In the network of one customer an address can be another each time.
        for serial in 2..1000 {
            begin_and_lose(&mut engine, &format!("[2001:db8::{serial:x}]:1"), serial);
            begin_and_lose(&mut engine, "10.0.0.2:1", 1000 + serial);
            assert!(engine.shared.registry.count() <= 42);
        }
        assert!(!honest.has_gone() && !connected.has_gone());
        // Of an address that many share the limit does not count, but only all clients do.
        for serial in 2000..3000 {
            begin_and_lose(&mut engine, "127.0.0.1:1", serial);
        }
        assert!(!honest.has_gone() && !connected.has_gone());
        assert_eq!(engine.shared.registry.count(), 50);
    }

    #[test]
    fn an_address_has_so_many_clients_at_a_hello_too_and_who_comes_back_has_a_place() {
        let mut engine = engine(Limits::default().clients_per_address(2), &Timeouts::default());
        let new = Hello::default();
        let first = begin(&mut engine, "[2001:db8::1]:1", 0);
        let second = begin(&mut engine, "[2001:db8::2]:1", 1);
        for (from, has_place) in
            [("[2001:db8::3]:1", false), ("[2001:db8:0:1::3]:1", true), ("127.0.0.1:1", true)]
        {
            assert_eq!(engine.has_place_for(&new, address(from)), has_place, "{from}");
        }
        assert!(engine.has_place_for(&hello_of(&engine, &first), address("[2001:db8::3]:1")));
        // One that is away makes way for a new one.
        engine.detach(&second, DisconnectReason::Lost);
        assert!(engine.has_place_for(&new, address("[2001:db8::3]:1")));
        begin(&mut engine, "[2001:db8::3]:1", 2);
        assert!(second.has_gone() && !first.has_gone());
    }

    #[test]
    fn who_comes_back_needs_a_descriptor_as_a_new_client_does_and_in_the_place_of_its_own_connection_none()
     {
        let mut engine = engine(Limits::default(), &Timeouts::default());
        engine.shared.descriptors.set(8, 0); // six of them for clients
        let away = begin_and_lose(&mut engine, "10.0.0.1:1", 0);
        let clients: Vec<_> =
            (1..7).map(|serial| begin(&mut engine, "10.0.0.2:1", serial)).collect();
        let from = address("10.0.0.1:1");
        assert!(!engine.has_place_for(&Hello::default(), from));
        assert!(!engine.has_place_for(&hello_of(&engine, &away), from));
        assert!(engine.has_place_for(&hello_of(&engine, &clients[0]), from));
        engine.detach(&clients[0], DisconnectReason::Lost);
        assert!(engine.has_place_for(&Hello::default(), from));
        assert!(engine.has_place_for(&hello_of(&engine, &away), from));
        assert!(!away.has_gone(), "who is away takes no descriptor");
    }

    #[test]
    fn a_feed_that_only_a_client_asked_for_goes_when_the_client_is_away() {
        let mut engine = engine(Limits::default(), &Timeouts::default());
        let client = begin(&mut engine, "10.0.0.1:1", 0);
        let asked = engine.shared.topics.get_for_client("asked").unwrap();
        assert_eq!(client.follow_at_once(&asked, 64), Ok(true));
        let told = engine.shared.topics.get("told").unwrap();
        engine.shared.follow(client.id, &told).unwrap();
        engine.shared.drop_handle(&told);
        assert_eq!(engine.shared.topics.count(), 2);
        engine.detach(&client, DisconnectReason::Lost);
        let names = engine.shared.topics.all();
        let names: Vec<_> = names.iter().map(|topic| topic.name()).collect();
        assert_eq!(names, ["told"]);
        engine.dismiss(&client, DisconnectReason::Lost);
        assert_eq!(engine.shared.topics.count(), 1, "it is the driver's to let go");
    }
}
