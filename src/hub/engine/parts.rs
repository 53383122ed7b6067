//! The state that all connections of one driver share, in parts that each own their state.

use std::sync::Arc;

use bytes::Bytes;

use crate::codec::Message;
use crate::hub::client::addresses::Addresses;
use crate::hub::engine::admission::Admission;
use crate::hub::engine::clients::Clients;
use crate::hub::engine::clock::Clock;
use crate::hub::engine::feeds::Feeds;
use crate::hub::engine::intake::Intake;
use crate::hub::engine::reports::Reports;
use crate::hub::events::Event;
use crate::hub::feed::topic::Topic;
use crate::hub::goodbye::Goodbye;
use crate::hub::id::ClientId;
use crate::hub::limits::{Retention, Timeouts};
use crate::hub::primitives::budget::Charge;
use crate::hub::primitives::program;
use crate::hub::shared::state::Shared;

/// The bytes that an event counts beside its message: its place in the channel, and the owner of
/// its bytes.
const EVENT_OVERHEAD: usize = 192;

/// The shared parts. A part is lent to a caller that needs that part alone. An operation on several
/// parts is a method here: see `session`, `reception` and `memory`.
pub(crate) struct Engine {
    pub(crate) shared: Arc<Shared>,
    pub(crate) clock: Clock,
    pub(crate) feeds: Feeds,
    pub(crate) clients: Clients,
    pub(crate) admission: Admission,
    pub(crate) intake: Intake,
    pub(crate) reports: Reports,
    /// The last words to clients, once the hub ends.
    pub(crate) farewell: Option<Farewell>,
}

/// The end of a hub, as its clients are told.
#[derive(Clone)]
pub(crate) struct Farewell {
    pub(crate) goodbye: Arc<Goodbye>,
    /// The number of clients when the hub began to end.
    pub(crate) clients: usize,
}

impl Engine {
    pub(crate) fn new(
        shared: Arc<Shared>,
        timeouts: &Timeouts,
        retention: &Retention,
        admission: Admission,
    ) -> Self {
        let proxies = admission.proxies.clone();
        let addresses = Addresses::new(shared.limits.clients_per_address, proxies);
        Self {
            clock: Clock::new(timeouts),
            feeds: Feeds::new(Arc::clone(&shared), timeouts, retention),
            clients: Clients::new(addresses),
            admission,
            intake: Intake::new(&shared.limits, Arc::clone(&shared.inbound)),
            reports: Reports::new(program::panics()),
            farewell: None,
            shared,
        }
    }

    /// Returns what clients are told once the hub ends.
    pub(crate) fn goodbye(&self) -> Option<Arc<Goodbye>> {
        self.farewell.as_ref().map(|farewell| Arc::clone(&farewell.goodbye))
    }

    /// Counts a client's message, about a feed or about none, and passes it to the listeners.
    pub(crate) fn tell_message(&self, id: ClientId, feed: Option<&Topic>, message: &Message) {
        self.shared.counters.received.add(1);
        if self.shared.listeners.any() {
            let feed = feed.map(Topic::name);
            let bytes = message.len() + feed.map_or(0, str::len) + EVENT_OVERHEAD;
            let kept = &self.shared.kept;
            if kept.try_add(bytes) {
                let charge = Charge::adopt(kept, bytes);
                let message = copy_with(message, |bytes| charge.attach(bytes));
                let feed = feed.map(str::to_owned);
                self.shared.listeners.tell(|| Event::Message { id, feed, message });
            } else {
                self.shared.listeners.miss();
            }
        }
        if self.admission.echo {
            let _ = self.shared.send(id, copy_with(message, |bytes| bytes));
        }
    }
}

/// Copies a message, since decoded bytes are a slice of a block that also holds others' bytes.
fn copy_with(message: &Message, map: impl FnOnce(Bytes) -> Bytes) -> Message {
    message.kind().message(map(Bytes::copy_from_slice(message.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::client::state::{ClientState, Details};
    use crate::hub::engine::follows::{Follows, Owed};
    use crate::hub::engine::intake::Used;
    use crate::hub::feed::item::Cursor;
    use crate::hub::feed::queue::ENTRY_OVERHEAD;
    use crate::hub::limits::{Limits, Overflow};
    use crate::hub::primitives::conn_id::ConnId;
    use crate::hub::testing::fixtures::{address, engine, engine_with, everyone, upgrade};
    use crate::wire::Wire;
    use crate::wire::v1::Hello;

    #[test]
    fn a_mailbox_that_has_been_emptied_is_the_next_one_that_holds_something() {
        let mut engine = engine(Limits::default(), &Timeouts::default());
        let client =
            engine.admit(&upgrade(), address("10.0.0.1:1"), ConnId::new(0, 0), everyone(&engine));
        let begun = engine.begin_session(
            &Hello::default(),
            Details::default(),
            address("10.0.0.1:1"),
            ConnId::new(1, 1),
        );
        let has_spare = |engine: &mut Engine| {
            engine.take_news();
            engine.shared.mail.lock().spare.is_some()
        };
        engine.shared.send(client.id, "x".into()).unwrap();
        assert!(!has_spare(&mut engine));
        let take = |engine: &Engine, client: &ClientState| {
            let upto = engine.feeds.upto;
            match Follows::none().next(client, &mut true, &engine.feeds, upto) {
                Some(Owed::Mail(mailed)) => mailed.emptied,
                _ => panic!("nothing was owed"),
            }
        };
        let emptied = take(&engine, &client).expect("nothing is left");
        engine.feeds.keep_mail(emptied);
        assert!(has_spare(&mut engine));
        engine.shared.send(begun.client.id, "x".into()).unwrap();
        assert!(!has_spare(&mut engine) && take(&engine, &begun.client).is_none(), "it is kept");
    }

    #[test]
    fn the_rate_has_room_for_two_seconds_worth_at_once_and_then_for_its_own() {
        let mut engine = engine(Limits::default().inbound_per_second(10), &Timeouts::default());
        let mut used = Used::default();
        assert!((0..20).all(|_| engine.intake.is_within_rate(&mut used, 1)));
        assert!(!engine.intake.is_within_rate(&mut used, 1));
        used = used.after(100_000);
        assert!((0..20).all(|_| engine.intake.is_within_rate(&mut used, 1)));
        for _ in 0..100 {
            used = used.after(100);
            assert!(engine.intake.is_within_rate(&mut used, 1));
        }
        assert!(!engine.intake.is_within_rate(&mut used, 1));
    }

    #[test]
    fn what_counts_for_much_may_end_beyond_the_rate_and_then_the_next_wait_for_it() {
        let mut engine = engine(Limits::default().inbound_per_second(10), &Timeouts::default());
        engine.intake.work = 64;
        let mut used = Used::default();
        assert!(engine.intake.is_within_rate(&mut used, 50));
        assert_eq!(
            (engine.intake.work, engine.intake.more_for(4095), engine.intake.more_for(65536)),
            (14, 0, 16)
        );
        assert!(!engine.intake.is_within_rate(&mut used.after(3000), 1));
        assert!(engine.intake.is_within_rate(&mut used.after(3100), 1));
        assert!(engine.intake.is_within_rate(&mut used.at_most_half(), 1));
        let large = self::engine(Limits::default().inbound_message(16 << 20), &Timeouts::default());
        assert_eq!((large.intake.more_for(65536), large.intake.more_for(16 << 20)), (0, 16));
    }

    #[test]
    fn over_the_memory_limit_the_fullest_mailbox_gives_half_and_those_after_it_only_if_need_be() {
        let mut engine = engine(Limits::default().memory(100_000), &Timeouts::default());
        let request = upgrade();
        let clients: Vec<_> = (0..4)
            .map(|key| {
                engine.admit(
                    &request,
                    address("127.0.0.1:1"),
                    ConnId::new(key, 0),
                    everyone(&engine),
                )
            })
            .collect();
        for (client, count) in clients.iter().zip([10, 25, 20, 24]) {
            for _ in 0..count {
                engine.shared.send(client.id, vec![0; 1000 - ENTRY_OVERHEAD].into()).unwrap();
            }
        }
        engine
            .shared
            .set_for(clients[1].id, "k", vec![0; 1000 - ENTRY_OVERHEAD - 130].into())
            .unwrap();
        let waiting = || {
            let bytes =
                |client: &Arc<ClientState>| client.mailbox.lock().mail.as_ref().unwrap().bytes();
            clients.iter().map(bytes).collect::<Vec<_>>()
        };
        engine.relieve();
        assert_eq!(waiting(), [10_000, 13_000, 20_000, 24_000], "values stay");
        assert_eq!(engine.shared.budget.used(), 67_000);
        assert_eq!(clients[1].info().skipped, 13);
        assert_eq!(engine.shared.stats().skipped, 13);
        engine.relieve();
        assert_eq!(waiting(), [10_000, 13_000, 20_000, 24_000], "there is no need any more");
    }

    #[test]
    fn a_burst_leaves_no_room_in_a_feed_and_relief_frees_what_a_batch_holds() {
        let mut engine = engine(Limits::default().memory(1 << 20), &Timeouts::default());
        let topic = engine.shared.topics.get("run").unwrap();
        for _ in 0..1000 {
            engine.shared.push(&topic, vec![0; 500].into(), false).unwrap();
        }
        engine.take_news();
        assert_eq!(topic.inbox.lock().queue.capacity(), 0);
        let place = engine.feeds.log_of(&topic);
        let log = &mut engine.feeds.logs[place];
        log.followers.add(ConnId::new(0, 1));
        for _ in 0..2 {
            log.batch(
                Cursor::default(),
                engine.feeds.upto,
                Wire::Plain,
                true,
                &engine.shared.budget,
            );
        }
        engine.shared.budget.add(700 << 10); // others'
        let before = (engine.shared.budget.used(), engine.feeds.logs[place].bytes());
        engine.relieve();
        let freed = before.1 - engine.feeds.logs[place].bytes();
        assert!(freed > 50_000, "{freed}");
        let copied = before.1 / (500 + ENTRY_OVERHEAD) * 504; // for the batch
        assert!(engine.shared.budget.used() + freed + copied <= before.0);
        engine.trim(place, u64::MAX);
        for _ in 0..9 {
            engine.relieve();
            engine.shared.budget.add(100 << 10);
        }
        assert!(engine.feeds.logs[place].window.capacity() < 100);
    }

    #[test]
    fn where_nothing_may_be_skipped_mailboxes_do_not_make_way_for_want_of_memory() {
        for overflow in [Overflow::SkipOldest, Overflow::Refuse, Overflow::Disconnect] {
            let limits = Limits::default().memory(100_000);
            let mut engine =
                engine_with(limits, overflow, &Timeouts::default(), &Retention::default());
            let from = address("10.0.0.1:1");
            let plain = engine.admit(&upgrade(), from, ConnId::new(0, 1), everyone(&engine));
            let begun = engine.begin_session(
                &Hello::default(),
                Details::default(),
                from,
                ConnId::new(1, 2),
            );
            for _ in 0..8 {
                engine.shared.send(plain.id, vec![0; 2000].into()).unwrap();
                engine.shared.send(begun.client.id, vec![0; 2000].into()).unwrap();
            }
            engine.take_news();
            let (follows, upto) = (Follows::none(), engine.feeds.upto);
            for _ in 0..4 {
                assert!(follows.next(&begun.client, &mut true, &engine.feeds, upto).is_some());
            }
            engine.shared.budget.add(60_000);
            let held = || [&plain, &begun.client].map(|client| client.mailbox.lock().bytes());
            let before = held();
            engine.relieve();
            let is_less = held() != before;
            assert_eq!(is_less, overflow == Overflow::SkipOldest, "{overflow:?}");
        }
    }
}
