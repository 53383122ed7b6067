//! A feed on the driver's side: the newest part of its log and its latest values, encoded, and its
//! followers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::hub::feed::batch::Batch;
use crate::hub::feed::followers::Followers;
use crate::hub::feed::item::{BEHIND, Cursor, Item, Kept};
use crate::hub::feed::queue::Entry;
use crate::hub::feed::seq::Seq;
use crate::hub::feed::stamp::Stamp;
use crate::hub::feed::topic::{Change, Topic};
use crate::hub::feed::window::{Slot, Window};
use crate::hub::primitives::budget::Budget;
use crate::hub::primitives::conn_id::ConnId;
use crate::wire::Wire;
use crate::wire::v1::{Form, Had, Head};

/// The search for the slowest follower of a feed, and its result. Until that follower moves, only a
/// new follower can be slower. New and leaving followers do not restart the search: [`Followers`]
/// knows which were asked.
#[derive(Debug)]
pub(crate) struct Survey {
    /// The slowest follower so far, and its position.
    pub(crate) slowest: Option<ConnId>,
    pub(crate) least: u64,
    pub(crate) is_over: bool,
}

impl Survey {
    pub(crate) fn of(followers: &mut Followers) -> Self {
        followers.ask();
        Self { slowest: None, least: u64::MAX, is_over: false }
    }
}

/// One feed.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) topic: Arc<Topic>,
    pub(crate) window: Window,
    pub(crate) latest: Latest,
    pub(crate) followers: Followers,
    /// Messages lost before the takeover and not yet counted for the followers.
    pub(crate) lost: u64,
    /// The number of these directly before the next message taken over.
    pub(crate) hole: u64,
    /// Whether the feed is on the current round's list, and on the engine's list of feeds to trim.
    pub(crate) fresh: bool,
    pub(crate) touched: bool,
    /// The search for the slowest follower, while a push waits for room.
    pub(crate) survey: Option<Survey>,
    kept: Kept,
    /// The position from which on messages are kept for clients that are away, and the same as
    /// collected so far for the next tick. See `hub::engine::session`.
    held: u64,
    held_next: u64,
    /// The number of the newest message that ever existed.
    pub(crate) newest: Seq,
    /// For each wire, the batch for the clients at one cursor, and the cursor last asked for.
    batches: [Option<Batch>; 2],
    asked: [Option<Cursor>; 2],
}

impl Log {
    pub(crate) fn new(topic: Arc<Topic>, bound: usize, kept: Kept) -> Self {
        Self {
            window: Window::new(bound),
            latest: Latest::default(),
            followers: Followers::default(),
            lost: 0,
            hole: 0,
            fresh: false,
            touched: false,
            survey: None,
            newest: topic.origin,
            kept,
            held: u64::MAX,
            held_next: u64::MAX,
            batches: [None, None],
            asked: [None, None],
            topic,
        }
    }

    /// Takes over the message with this number.
    pub(crate) fn push(&mut self, number: Seq, entry: Entry, at: u64, budget: &Arc<Budget>) {
        let (stamp, cost) = (entry.stamp, Entry::cost(&entry.message));
        let item = Item::new(entry, None, at, cost, budget);
        self.newest = number;
        let lost = std::mem::take(&mut self.hole);
        self.window.push(Slot { stamp, number, lost, cost, before: 0, item });
    }

    /// Takes over the change of a key, which is counted in the budget.
    pub(crate) fn change(&mut self, key: Arc<str>, change: Change, at: u64, budget: &Arc<Budget>) {
        let (cost, known) = (change.cost(&key), Arc::clone(&key));
        let Change { stamp, message, is_quiet } = change;
        let place = self.latest.stamp_of_value(&key).filter(|_| is_quiet);
        let stamp = place.unwrap_or(stamp);
        let item = if let Some(message) = message {
            Item::new(Entry { stamp, message }, Some(known), at, cost, budget)
        } else {
            let head = Head { alias: self.topic.alias, number: stamp.get(), at };
            let removal = Item::removal(head, known, budget);
            budget.sub(cost); // what is kept of it is counted by itself
            removal
        };
        self.latest.set(key, stamp, item);
    }

    /// Takes over the end of the feed, with this stamp.
    pub(crate) fn finish(&mut self, stamp: Stamp, at: u64, budget: &Arc<Budget>) {
        let head = Head { alias: self.topic.alias, number: stamp.get(), at };
        self.latest.end.get_or_insert_with(|| (stamp, Item::end(head, budget)));
    }

    /// Makes messages stamped before `stamp` readable.
    pub(crate) fn reveal(&mut self, stamp: Stamp) {
        self.window.reveal(stamp);
        self.forget_batches();
    }

    /// Returns where a client on `stepcast.v1` begins. `had` is what the client says it has, if
    /// that means anything here. The result has the cursor, the number before the first message
    /// that the client is given or told to have missed, and whether the client goes on where it
    /// was.
    pub(crate) fn resume(
        &self,
        had: Option<Had>,
        stamp: Stamp,
        upto: Stamp,
        now: u64,
    ) -> (Cursor, Seq, bool) {
        let known = self.topic.origin..=self.newest;
        if let Some(Had { seq: Some(seq), set, .. }) = had.filter(|had| {
            had.seq.is_some_and(|seq| known.contains(&Seq::new(seq)))
                && self.latest.knows(had.set.map(Stamp::new), upto)
        }) {
            let latest = set.map_or(Stamp::FIRST, |set| Stamp::new(set).next());
            let seq = Seq::new(seq);
            return (Cursor { log: self.window.after_number(seq), latest }, seq, true);
        }
        let cursor = self.start(false, stamp, upto, now);
        let seq = self.window.number(cursor.log).map_or(self.newest, |number| number.minus(1));
        (cursor, seq, false)
    }

    /// Sets what is kept for late joiners from now on.
    pub(crate) fn keep(&mut self, kept: Kept) {
        self.kept = kept;
    }

    /// Returns where a new client begins: with the latest values, and with the retained log or, if
    /// `live`, with what comes after. The client gets everything stamped from `stamp` on in any
    /// case. Messages stamped before `upto` are delivered already, or about to be.
    pub(crate) fn start(&self, live: bool, stamp: Stamp, upto: Stamp, now: u64) -> Cursor {
        let end = self.window.stamped_from(upto);
        let log = if live { end } else { self.window.kept_from(self.kept, now, end) };
        Cursor { log: log.min(self.window.stamped_from(stamp)), latest: Stamp::FIRST }
    }

    fn forget_batches(&mut self) {
        self.batches = [None, None];
        self.asked = [None, None];
    }

    /// Returns the stamp and the message that come next at a cursor, and the cursor after them: in
    /// stamp order, or values first. With `v1`, removed values are returned too, and the feed's end
    /// after everything else.
    pub(crate) fn next(
        &self,
        at: Cursor,
        upto: Stamp,
        values_first: bool,
        v1: bool,
    ) -> Option<(Stamp, &Item, Cursor)> {
        let logged = self.window.get(at.log);
        let set = self.latest.next(at.latest, upto, v1);
        match (logged, set) {
            (Some((stamp, item)), set)
                if set.is_none_or(|(of_set, _)| stamp < of_set && !values_first) =>
            {
                Some((stamp, item, Cursor { log: at.log + 1, ..at }))
            }
            (_, None) if !v1 => None,
            (_, set) => {
                let (stamp, item) = set.or_else(|| self.latest.end(at.latest, upto))?;
                Some((stamp, item, Cursor { latest: stamp.next(), ..at }))
            }
        }
    }

    /// Returns the number of the next message at a position. At the end of a finished feed that is
    /// the number the next message would have.
    pub(crate) fn number_at(&self, position: u64) -> Option<Seq> {
        let after_all = || self.latest.end.as_ref().map(|_| self.newest.next());
        self.window.number(position).or_else(after_all)
    }

    /// Returns the batch for every client at this cursor, if a batch pays: the client that asked
    /// before was at this cursor, too. A client that has just taken up messages alone does not ask,
    /// since no other client reaches its cursor.
    pub(crate) fn batch(
        &mut self,
        at: Cursor,
        upto: Stamp,
        wire: Wire,
        asks: bool,
        budget: &Arc<Budget>,
    ) -> Option<&Batch> {
        let index = match wire {
            Wire::Plain => 0,
            Wire::V1 => 1,
            Wire::Events => return None,
        };
        self.next(at, upto, false, wire == Wire::V1)?; // a client that has everything does not ask
        if self.batches[index].as_ref().is_none_or(|batch| batch.from != at) {
            if !asks || self.asked[index].replace(at) != Some(at) {
                return None;
            }
            let next = |at| self.next(at, upto, self.bytes_before(at) > BEHIND, wire == Wire::V1);
            let batch = match wire {
                Wire::Plain => {
                    let next = |at| next(at).map(|(_, item, after)| (item.frame(), after));
                    Batch::of_frames(at, next)
                }
                Wire::V1 | Wire::Events => {
                    let next = |at| {
                        let (stamp, item, after) = next(at)?;
                        let (form, number) = self.form(item, stamp, (at, after), budget);
                        Some((form, number, after))
                    };
                    Batch::of_lines(at, next, budget)
                }
            };
            self.batches[index] = Some(batch.counted(budget));
        }
        self.batches[index].as_ref()
    }

    /// Returns the `stepcast.v1` form of the item between these cursors, and the sequence number of
    /// a log message. The number of the feed's end is the one after the last message.
    pub(crate) fn form<'a>(
        &'a self,
        item: &'a Item,
        stamp: Stamp,
        (at, after): (Cursor, Cursor),
        budget: &Arc<Budget>,
    ) -> (&'a Form, Option<Seq>) {
        let number = self.number_of(item, (at, after));
        let counted = number.map_or(stamp.get(), Seq::get);
        (item.form(self.topic.alias, counted, budget), number)
    }

    /// Returns the sequence number of the item between these cursors; see [`form`](Self::form).
    pub(crate) fn number_of(&self, item: &Item, (at, after): (Cursor, Cursor)) -> Option<Seq> {
        let is_numbered = after.log != at.log || item.is_end();
        if is_numbered { self.number_at(at.log) } else { None }
    }

    /// The bytes of the log behind a cursor, still to be read.
    pub(crate) fn bytes_before(&self, at: Cursor) -> usize {
        self.window.bytes_from(at.log)
    }

    /// Keeps messages from this position on, for a client that is away.
    pub(crate) fn hold(&mut self, from: u64) {
        self.held = self.held.min(from);
        self.hold_on(from);
    }

    /// Keeps messages for a client that is still away; see [`hold_no_more`](Self::hold_no_more).
    pub(crate) fn hold_on(&mut self, from: u64) {
        self.held_next = self.held_next.min(from);
    }

    /// Ends a collection: all clients still away have called [`hold_on`](Self::hold_on) since the
    /// last call. The others have come back, or have gone.
    pub(crate) fn hold_no_more(&mut self) {
        self.held = std::mem::replace(&mut self.held_next, u64::MAX);
    }

    /// Drops messages that nobody needs: no late joiner, no client that is away, and no follower,
    /// where `needed` is the position of the follower furthest behind. Drops at most `most`
    /// messages, and returns how many.
    pub(crate) fn trim(&mut self, needed: u64, now: u64, most: usize) -> usize {
        let kept = self.window.kept_from(self.kept, now, self.window.live());
        let dropped = self.window.drop_before(needed.min(kept).min(self.held), most);
        self.forget_batches();
        dropped
    }

    /// Tells waiting pushes how much the follower furthest behind, at `needed`, still has to be
    /// handed. `between` bytes of that are between the inbox and the log.
    pub(crate) fn tell_owed(&self, needed: u64, between: usize) {
        let mut inbox = self.topic.inbox.lock();
        inbox.owed = Some(self.window.bytes_from(needed) + between + inbox.queue.bytes());
    }

    /// Whether the feed keeps nothing for later: no message is young enough or held for a client
    /// that is away, or the feed has made way for another.
    pub(crate) fn is_over(&self, now: u64) -> bool {
        let is_held = self.held < self.window.live();
        let is_kept = || is_held || self.window.is_younger(self.kept.age, now);
        self.followers.count() == 0 && (self.topic.is_evicted() || !is_kept())
    }

    /// The bytes of the log.
    pub(crate) fn bytes(&self) -> usize {
        self.window.bytes
    }

    /// Drops the older half of the log, whoever may need it. Returns the number of messages.
    pub(crate) fn halve(&mut self) -> usize {
        let before = self.window.len();
        self.window.halve();
        self.forget_batches(); // the batches hold it, too
        before - self.window.len()
    }
}

/// The latest values, by their stamps.
#[derive(Debug, Default)]
pub(crate) struct Latest {
    values: BTreeMap<Stamp, Item>,
    /// The removals of values, for clients that have the values.
    removals: BTreeMap<Stamp, Item>,
    /// The feed's end, after everything else.
    end: Option<(Stamp, Item)>,
    /// The stamp of each key's value, or of its removal.
    stamps: HashMap<Arc<str>, Stamp>,
    /// The stamp of the youngest removal that has been forgotten.
    forgotten: Option<Stamp>,
}

/// The removals that a feed remembers for clients that are behind, or come back. A client that
/// comes back from before the youngest forgotten removal begins anew, with a snapshot.
const REMOVALS: usize = 256;

impl Latest {
    /// Returns the stamp of a key's value, if the key has one.
    fn stamp_of_value(&self, key: &str) -> Option<Stamp> {
        self.stamps.get(key).copied().filter(|stamp| self.values.contains_key(stamp))
    }

    fn set(&mut self, key: Arc<str>, stamp: Stamp, item: Item) {
        if let Some(old) = self.stamps.insert(key, stamp) {
            self.values.remove(&old);
            self.removals.remove(&old);
        }
        if !item.is_removal() {
            self.values.insert(stamp, item);
            return;
        }
        self.removals.insert(stamp, item);
        while self.removals.len() > REMOVALS {
            let Some((oldest, item)) = self.removals.pop_first() else { return };
            // Removals are taken over in any order.
            self.forgotten = self.forgotten.max(Some(oldest));
            if let Some(key) = &item.key {
                self.stamps.remove(key);
            }
        }
    }

    /// Whether a client that has the values up to stamp `set` can be told everything that happened
    /// to them since. The stamp has to be one that the hub has told, which are those before `upto`.
    fn knows(&self, set: Option<Stamp>, upto: Stamp) -> bool {
        set.is_none_or(|set| Some(set) >= self.forgotten && set < upto)
    }

    /// Returns the oldest value, or removal if `removals`, stamped from `from` on and before
    /// `upto`.
    fn next(&self, from: Stamp, upto: Stamp, removals: bool) -> Option<(Stamp, &Item)> {
        if from >= upto {
            return None;
        }
        let first =
            |items: &'_ BTreeMap<Stamp, Item>| items.range(from..upto).next().map(|(at, _)| *at);
        let value = first(&self.values);
        // A client that has had no value needs no removal.
        let removal = if removals && from > Stamp::FIRST { first(&self.removals) } else { None };
        let stamp = value.into_iter().chain(removal).min()?;
        let items = if removal == Some(stamp) { &self.removals } else { &self.values };
        items.get(&stamp).map(|item| (stamp, item))
    }

    /// Returns the feed's end, if it was stamped from `from` on and before `upto`.
    fn end(&self, from: Stamp, upto: Stamp) -> Option<(Stamp, &Item)> {
        let end = self.end.as_ref().filter(|(stamp, _)| (from..upto).contains(stamp));
        end.map(|(stamp, item)| (*stamp, item))
    }

    /// Whether everything was stamped before this.
    pub(crate) fn all_before(&self, stamp: Stamp) -> bool {
        let all_before = |items: &BTreeMap<Stamp, Item>| {
            items.last_key_value().is_none_or(|(last, _)| *last < stamp)
        };
        all_before(&self.values)
            && all_before(&self.removals)
            && self.end.as_ref().is_none_or(|(end, _)| *end < stamp)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::codec::Message;
    use crate::hub::feed::item::tests::item;
    use crate::hub::feed::topic::Topics;
    use crate::hub::feed::window::tests::slot;

    pub(crate) const ALL: Kept = Kept { messages: usize::MAX, age: u64::MAX / 2 };

    pub(crate) fn budget() -> Arc<Budget> {
        Budget::new(1 << 30)
    }

    pub(crate) fn log(kept: Kept) -> (Log, Arc<Budget>) {
        let topic = Arc::clone(Topics::new(1, Arc::default()).everyone());
        (Log::new(topic, 8 << 20, kept), Budget::new(1 << 30))
    }

    pub(crate) fn log_of(lens: &[usize]) -> Log {
        let (mut log, _) = log(ALL);
        for (index, len) in lens.iter().enumerate() {
            let byte = u8::try_from(index % 251).unwrap();
            log.window.push(slot(index as u64, *len, item(byte, *len)));
        }
        log.reveal(Stamp::MAX);
        log
    }

    pub(crate) fn batch_of(log: &mut Log) -> &Batch {
        assert!(
            log.batch(Cursor::default(), Stamp::MAX, Wire::Plain, true, &budget()).is_none(),
            "nobody else was there yet"
        );
        log.batch(Cursor::default(), Stamp::MAX, Wire::Plain, true, &budget()).unwrap()
    }

    #[test]
    fn a_feed_stays_for_what_a_client_that_is_away_has_not_received_however_old_that_is() {
        let (mut log, _) = log(Kept { messages: 3, age: 100 });
        (0..10).for_each(|stamp| log.window.push(slot(stamp, 10, item(0, 10))));
        log.reveal(Stamp::new(10));
        log.hold(10);
        assert!(log.is_over(1000), "the client has all that there is");
        log.hold(2);
        assert_eq!((log.trim(10, 1000, usize::MAX), log.is_over(1000)), (2, false));
        log.hold_no_more();
        assert!(!log.is_over(1000), "until the next tick");
        log.hold_no_more();
        assert!(log.is_over(1000));
    }

    #[test]
    fn what_is_kept_is_the_newest_and_no_older_than_said_and_what_a_follower_needs() {
        let (mut log, _) = log(Kept { messages: 3, age: 100 });
        for stamp in 0..10 {
            let mut slot = slot(stamp, 10, item(0, 10));
            slot.item.at = stamp * 10;
            log.window.push(slot);
        }
        log.reveal(Stamp::new(10));
        let at = |log| Cursor { log, latest: Stamp::FIRST };
        let start = |live, stamp, now| log.start(live, stamp, Stamp::MAX, now);
        assert_eq!(start(false, Stamp::MAX, 90), at(7));
        assert_eq!(start(false, Stamp::MAX, 175), at(8));
        assert_eq!(start(false, Stamp::MAX, 1000), at(10));
        assert_eq!(start(true, Stamp::MAX, 90), at(10));
        assert_eq!(start(false, Stamp::new(4), 90), at(4));
        log.trim(5, 90, usize::MAX);
        assert!(log.window.get(4).is_none() && log.window.get(5).is_some());
        log.trim(10, 90, usize::MAX);
        assert!(log.window.get(6).is_none() && log.window.get(7).is_some());
        assert!(!log.is_over(189) && log.is_over(190));
        log.trim(10, 190, usize::MAX);
        assert_eq!((log.window.live(), log.bytes()), (10, 0));
        log.window.push(slot(10, 10, item(0, 10)));
        log.reveal(Stamp::new(11));
        assert!(log.window.get(10).is_some(), "positions go on");
    }

    #[test]
    fn log_and_latest_values_come_in_the_order_of_their_stamps_and_none_twice() {
        let (mut log, budget) = log(ALL);
        let entry = |stamp, text: &'static str| {
            let message = Message::from(text).into();
            Entry { stamp: Stamp::new(stamp), message }
        };
        let set = |log: &mut Log, key: &str, entry: Entry| {
            let change = Change::new(entry.stamp, Some(entry.message));
            log.change(key.into(), change, 0, &budget);
        };
        log.push(Seq::new(1), entry(0, "a"), 0, &budget);
        set(&mut log, "x", entry(1, "x1"));
        log.push(Seq::new(2), entry(2, "b"), 0, &budget);
        set(&mut log, "y", entry(3, "y1"));
        set(&mut log, "x", entry(4, "x2"));
        log.push(Seq::new(3), entry(5, "c"), 0, &budget);
        log.reveal(Stamp::new(5));
        let read = |log: &Log, mut at: Cursor, upto: u64| {
            let mut texts = Vec::new();
            while let Some((_, item, after)) = log.next(at, Stamp::new(upto), false, false) {
                let bytes: Vec<u8> = item.frame().parts().flat_map(|part| part.to_vec()).collect();
                texts.push(String::from_utf8(bytes[2..].to_vec()).unwrap());
                at = after;
            }
            (texts.join(" "), at)
        };
        let (texts, at) = read(&log, Cursor::default(), 5);
        assert_eq!((texts.as_str(), at), ("a b y1 x2", Cursor { log: 2, latest: Stamp::new(5) }));
        set(&mut log, "y", entry(6, "y2"));
        log.reveal(Stamp::new(7));
        assert_eq!(read(&log, at, 7).0, "c y2");
        assert_eq!(read(&log, log.start(true, Stamp::MAX, Stamp::MAX, 0), 7).0, "x2 y2");
        assert_eq!(read(&log, log.start(false, Stamp::MAX, Stamp::MAX, 0), 7).0, "a b x2 c y2");
        let batch = batch_of(&mut log);
        assert_eq!(
            batch.after(batch.within(usize::MAX, usize::MAX)).0,
            Cursor { log: 3, latest: Stamp::new(7) }
        );
    }

    #[test]
    fn a_value_that_is_renewed_is_told_to_those_who_have_none_and_to_nobody_else() {
        let (mut log, budget) = log(ALL);
        let change = |stamp, text: &'static str, is_quiet| {
            let message = Some(Message::from(text).into());
            Change { is_quiet, ..Change::new(Stamp::new(stamp), message) }
        };
        log.change("x".into(), change(1, "x1", false), 0, &budget);
        log.change("y".into(), change(2, "y1", true), 0, &budget); // the first is told to all
        log.reveal(Stamp::new(3));
        let read = |log: &Log, mut at: Cursor, upto: u64| {
            let mut texts = Vec::new();
            while let Some((_, item, after)) = log.next(at, Stamp::new(upto), false, true) {
                let bytes: Vec<u8> = item.frame().parts().flat_map(|part| part.to_vec()).collect();
                texts.push(String::from_utf8(bytes[2..].to_vec()).unwrap());
                at = after;
            }
            (texts.join(" "), at)
        };
        let (texts, at) = read(&log, Cursor::default(), 3);
        assert_eq!(texts, "x1 y1");
        log.change("x".into(), change(5, "x2", true), 0, &budget);
        log.reveal(Stamp::new(6));
        assert_eq!(read(&log, at, 6).0, "");
        assert_eq!(read(&log, Cursor::default(), 6).0, "x2 y1");
        log.change("x".into(), change(7, "x3", false), 0, &budget);
        log.reveal(Stamp::new(8));
        assert_eq!(read(&log, at, 8).0, "x3");
        assert_eq!(read(&log, Cursor::default(), 8).0, "y1 x3");
    }

    #[test]
    fn the_end_of_a_feed_comes_once_after_all_else_and_shows_what_is_missing_before_it() {
        let (mut log, budget) = log(ALL);
        let entry = |stamp| Entry { stamp: Stamp::new(stamp), message: Message::from("x").into() };
        (1..=3).for_each(|number| log.push(Seq::new(number), entry(number), 7, &budget));
        let change = Change::new(Stamp::new(4), Some(entry(4).message));
        log.change("key".into(), change, 7, &budget);
        log.finish(Stamp::new(6), 7, &budget);
        log.finish(Stamp::new(8), 9, &budget);
        log.reveal(Stamp::new(6));
        assert!(!log.latest.all_before(Stamp::new(6)) && log.latest.all_before(Stamp::new(7)));
        let at = Cursor { log: 2, latest: Stamp::new(5) };
        let upto =
            |upto, v1| log.next(at, Stamp::new(upto), true, v1).map(|(stamp, ..)| stamp.get());
        assert_eq!(
            [upto(6, true), upto(9, true), upto(9, false)],
            [Some(3); 3],
            "not the end first"
        );
        let end = Cursor { log: 3, latest: Stamp::new(5) };
        assert!(
            log.next(end, Stamp::new(6), false, true).is_none()
                && log.next(end, Stamp::new(9), false, false).is_none()
        );
        log.window.drop_before(3, 3); // as where memory is short
        let (stamp, item, after) = log.next(end, Stamp::new(9), false, true).expect("the end");
        let (form, number) = log.form(item, stamp, (end, after), &budget);
        assert_eq!(
            (stamp, number, after),
            (Stamp::new(6), Some(Seq::new(4)), Cursor { log: 3, latest: Stamp::new(7) })
        );
        assert!(matches!(form, Form::Line(line) if line == r#"{"ended":[1,6,7]}"#), "{form:?}");
        assert!(log.next(after, Stamp::new(9), false, true).is_none(), "once");
    }

    #[test]
    fn a_removal_takes_the_place_of_its_value_and_the_oldest_are_forgotten_whatever_their_order() {
        let (mut log, budget) = log(ALL);
        let mut change = |key: u64, stamp, message: Option<&'static str>| {
            let message = message.map(|text| Message::from(text).into());
            let change = Change::new(Stamp::new(stamp), message);
            log.change(key.to_string().into(), change, 0, &budget);
        };
        change(0, 1, Some("x"));
        // From the newest to the oldest.
        (0..REMOVALS as u64 + 9).rev().for_each(|key| change(key, 10 + key, None));
        let latest = &log.latest;
        assert_eq!((latest.values.len(), latest.removals.len()), (0, REMOVALS));
        let newest = 10 + REMOVALS as u64 + 8;
        let forgotten = latest.forgotten.unwrap();
        assert!(latest.removals.keys().all(|stamp| *stamp > forgotten), "{forgotten:?}");
        assert!(
            !latest.knows(Some(Stamp::new(forgotten.get() - 1)), Stamp::MAX)
                && latest.knows(Some(forgotten), Stamp::MAX)
        );
        assert!(latest.knows(None, Stamp::FIRST) && latest.stamps.len() == REMOVALS);
        assert!(latest.next(forgotten, Stamp::new(newest + 1), false).is_none(), "the plain wire");
        assert!(
            latest.next(Stamp::FIRST, Stamp::new(newest + 1), true).is_none(),
            "one that has had no value"
        );
        assert!(
            latest
                .next(forgotten, Stamp::new(newest + 1), true)
                .is_some_and(|(at, _)| at > forgotten)
        );
    }

    #[test]
    fn all_but_the_first_two_at_one_cursor_share_a_batch_though_each_asks_again_when_it_has_all() {
        let mut log = log_of(&[100; 10]);
        let (start, end) = (Cursor::default(), Cursor { log: 10, latest: Stamp::FIRST });
        assert!(
            log.batch(start, Stamp::MAX, Wire::Plain, true, &budget()).is_none(),
            "nobody has asked before"
        );
        for _ in 0..5 {
            assert!(log.batch(end, Stamp::MAX, Wire::Plain, true, &budget()).is_none());
            let batch = log.batch(start, Stamp::MAX, Wire::Plain, true, &budget()).expect("shared");
            assert!(batch.is_all_up_to(1000) && !batch.is_all_up_to(900));
            assert_eq!([250, 0, 9999].map(|room| batch.within(room, usize::MAX)), [300, 100, 1000]);
            assert_eq!(batch.parts_up_to(300).map(<[u8]>::len).sum::<usize>(), 300);
        }
    }

    #[test]
    fn a_batch_that_is_kept_counts_what_is_copied_into_it() {
        let (mut log, budget) = (log_of(&[100; 10]), budget());
        let ask = |log: &mut Log| {
            log.batch(Cursor::default(), Stamp::MAX, Wire::Plain, true, &budget).is_some()
        };
        assert_eq!([ask(&mut log), ask(&mut log)], [false, true]);
        assert!(budget.used() >= 1000, "{}", budget.used());
        log.forget_batches();
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn who_has_taken_up_a_part_alone_does_not_keep_those_behind_it_from_sharing() {
        let mut log = log_of(&[100; 10]);
        let at = |log: u64| Cursor { log, latest: Stamp::FIRST };
        let ask = |log: &mut Log, at, asks| {
            log.batch(at, Stamp::MAX, Wire::Plain, asks, &budget()).is_some()
        };
        assert!(!ask(&mut log, at(0), true));
        assert!(!ask(&mut log, at(6), false), "the first one goes on");
        assert!(ask(&mut log, at(0), true), "the second one comes");
        assert!(!ask(&mut log, at(6), false) && ask(&mut log, at(0), false));
    }
}
