//! The mail of a client: messages in their order, and latest values. Only a mailbox that is not
//! empty has one.
//!
//! Both wires are handed their mail from here, merged by one rule. On the plain wire what has been
//! handed over is gone. A client on `stepcast.v1` may lose its connection, so its messages stay
//! until they are acknowledged, and its values until newer ones replace them. Cursors then say what
//! the client has been handed.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crate::codec::Message;
use crate::hub::feed::item::{BEHIND, Why};
use crate::hub::feed::queue::{BURST, Entry, Evicted, PayloadCopy, Position, Queue, Slot};
use crate::hub::feed::seq::Seq;
use crate::hub::feed::stamp::Stamp;
use crate::hub::feed::topic::{Change, KeyTable};
use crate::hub::primitives::program::Payload;
use crate::wire::v1::Had;

/// The messages and values of one client alone.
#[derive(Debug, Default)]
pub(crate) struct Mail {
    /// The messages that were sent: first those that [`Handed`] is about, then the waiting ones.
    log: Queue,
    /// The number of messages that were dropped directly before the waiting ones.
    lost: u64,
    /// The values that were set.
    values: Option<Box<Values>>,
    /// The messages that a client on `stepcast.v1` has been handed.
    handed: Option<Box<Handed>>,
}

/// The messages that a client on `stepcast.v1` has been handed and has not acknowledged.
#[derive(Debug, Default)]
struct Handed {
    /// Their sequence numbers.
    numbers: VecDeque<Seq>,
    /// The position behind them.
    end: Position,
    /// The position of the next message on this connection. It is before `end` while the client is
    /// handed again what its connection before may have lost.
    next: Position,
    /// The number of the newest message that was ever handed over, or lost.
    newest: Seq,
    /// The number of the last message that the client was given on this connection, or told to have
    /// missed, and why the next ones are missing if they are.
    seen: Seq,
    why: Why,
    /// The number of the last message that the client had when it came back.
    had: Seq,
}

/// The latest value of each key.
#[derive(Debug, Default)]
struct Values {
    /// The values by the stamps with which they were set last.
    set: BTreeMap<Stamp, Value>,
    stamps: HashMap<Arc<str>, Stamp>,
    bytes: usize,
    /// On `stepcast.v1`: the stamp below which values have been handed over, and their number and
    /// cost.
    handed: Stamp,
    handed_keys: usize,
    handed_bytes: usize,
    /// The stamp from which on this connection has not been handed the values.
    next: Stamp,
}

#[derive(Debug)]
struct Value {
    key: Arc<str>,
    /// The value. `None`: it has been removed, which clients with a session are told.
    message: Option<Payload>,
    /// The stamp of the oldest value that this one has replaced while it waited, or its own.
    since: Stamp,
}

impl Value {
    fn cost(&self) -> usize {
        let removal = || KeyTable::cost_of_removal(&self.key);
        self.message.as_ref().map_or_else(removal, |message| KeyTable::cost(&self.key, message))
    }
}

impl Values {
    /// The cost of the waiting value of a key.
    fn cost_of(&self, key: &str) -> Option<usize> {
        let stamp = self.stamps.get(key).filter(|stamp| **stamp >= self.handed)?;
        self.set.get(stamp).map(Value::cost)
    }

    fn change(&mut self, key: &str, Change { stamp, message, .. }: Change) -> Option<Change> {
        let replaced = self.stamps.get(key).copied().and_then(|old| Some((old, self.take(old)?)));
        let before = replaced.as_ref().map(|(old, value)| {
            let since = if *old < self.handed { stamp } else { value.since };
            (Arc::clone(&value.key), since)
        });
        let (key, since) = before.unwrap_or_else(|| (key.into(), stamp));
        self.stamps.insert(Arc::clone(&key), stamp);
        let value = Value { key, message, since };
        self.bytes += value.cost();
        self.set.insert(stamp, value);
        replaced.map(|(_, old)| Change::new(old.since, old.message))
    }

    /// Takes a value, whose key stays known.
    fn take(&mut self, stamp: Stamp) -> Option<Value> {
        let value = self.set.remove(&stamp)?;
        self.bytes -= value.cost();
        if stamp < self.handed {
            self.handed_keys -= 1;
            self.handed_bytes -= value.cost();
        }
        Some(value)
    }

    /// Removes a value, and its key.
    fn remove(&mut self, stamp: Stamp) -> Option<Value> {
        let value = self.take(stamp)?;
        self.stamps.remove(&value.key);
        Some(value)
    }

    /// The first value that the connection has not been handed. One that has been handed no value
    /// needs no removal.
    fn first(&self) -> Option<(Stamp, &Value)> {
        let mut waiting = self.set.range(self.next..);
        let first = waiting.find(|(_, value)| self.next > Stamp::FIRST || value.message.is_some());
        first.map(|(stamp, value)| (*stamp, value))
    }

    /// Notes that the connection has been handed the values up to this stamp.
    fn hand(&mut self, stamp: Stamp) {
        self.next = stamp.next();
        if stamp >= self.handed {
            for (_, value) in self.set.range(self.handed..=stamp) {
                self.handed_keys += 1;
                self.handed_bytes += value.cost();
            }
            self.handed = stamp.next();
        }
    }

    /// Drops values that have been handed over beyond `keys` keys, and beyond `bytes`: the oldest
    /// removals first, and then the oldest values.
    fn give_way(&mut self, keys: usize, bytes: usize) -> Evicted {
        let mut evicted = Evicted::default();
        while self.handed_keys > keys || (self.handed_bytes > bytes && self.handed_keys > 1) {
            let mut handed = self.set.range(..self.handed);
            let oldest = handed.clone().next();
            let removal = handed.find(|(_, value)| value.message.is_none());
            let Some(stamp) = removal.or(oldest).map(|(stamp, _)| *stamp) else { break };
            let Some(value) = self.remove(stamp) else { break };
            evicted.bytes += value.cost();
            evicted.payloads.extend(value.message);
        }
        evicted
    }
}

/// What a client may be handed now, beside what its feeds have for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Due {
    /// The stamp of the next message of its feeds, or `upto`.
    pub(crate) before: Stamp,
    /// Only what was pushed before this stamp may be handed over.
    pub(crate) upto: Stamp,
    /// Whether the client is so far behind that values go first.
    pub(crate) values_first: bool,
    /// Whether its feeds have nothing for it.
    pub(crate) is_last: bool,
}

/// How the mail of a client on `stepcast.v1` is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keeps {
    /// The most bytes of messages, and of values.
    pub(crate) bytes: usize,
    /// The most values.
    pub(crate) keys: usize,
}

/// A message or value that has been handed over.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) stamp: Stamp,
    /// The message, with its copy apart; `None`: a removal.
    pub(crate) message: Option<Slot>,
    /// The key of a value.
    pub(crate) key: Option<Arc<str>>,
    /// What the message counts, if nothing in the mailbox counts it any more.
    pub(crate) cost: usize,
    /// On `stepcast.v1`, of a message: its number, the number before which none is missing, and why
    /// those between are.
    pub(crate) number: Option<(Seq, Seq, Why)>,
    /// What made room.
    pub(crate) evicted: Evicted,
}

impl Taken {
    fn of(stamp: Stamp, message: Option<Slot>, cost: usize) -> Self {
        Self { stamp, message, key: None, cost, number: None, evicted: Evicted::default() }
    }
}

enum Choice {
    Message,
    Value(Stamp),
}

impl Mail {
    /// The bytes of all messages and values.
    pub(crate) fn bytes(&self) -> usize {
        self.log.bytes() + self.values.as_ref().map_or(0, |values| values.bytes)
    }

    /// The bytes of the messages.
    pub(crate) fn log_bytes(&self) -> usize {
        self.log.bytes()
    }

    /// The bytes that the client has never been handed.
    pub(crate) fn waiting_bytes(&self) -> usize {
        let values = self.values.as_ref().map_or(0, |values| values.bytes - values.handed_bytes);
        self.log.bytes() - self.end().bytes + values
    }

    /// The position of the first message that the client has never been handed.
    fn end(&self) -> Position {
        self.handed.as_ref().map_or_else(Position::default, |handed| handed.end)
    }

    /// The position of the next message on this connection.
    fn next(&self) -> Position {
        self.handed.as_ref().map_or_else(Position::default, |handed| handed.next)
    }

    fn first_value(&self) -> Option<(Stamp, &Value)> {
        self.values.as_ref()?.first()
    }

    /// Whether there is something that the connection has not been handed.
    pub(crate) fn waits(&self) -> bool {
        self.log.len() > self.next().entries || self.first_value().is_some()
    }

    /// Whether nothing is left of the mail, nor has to be remembered.
    pub(crate) fn is_over(&self) -> bool {
        self.log.is_empty() && self.values.is_none() && self.handed.is_none()
    }

    /// Returns this empty mail for another client, unless its capacity has grown beyond the first.
    pub(crate) fn into_spare(mut self: Box<Self>) -> Option<Box<Self>> {
        debug_assert!(self.is_over(), "it is another's");
        self.lost = 0;
        (self.log.capacity() <= BURST).then_some(self)
    }

    /// Whether the waiting messages have room for one of this cost.
    pub(crate) fn has_room(&self, cost: usize, bound: usize) -> bool {
        let end = self.end();
        let waiting = self.log.bytes() - end.bytes;
        self.log.len() == end.entries || waiting.saturating_add(cost) <= bound
    }

    /// Drops the oldest waiting messages, so that there is room for one of this cost.
    pub(crate) fn make_room(&mut self, cost: usize, bound: usize) -> Evicted {
        let evicted = self.log.make_room_behind(self.end(), cost, bound);
        self.lost += evicted.count as u64;
        evicted
    }

    /// Drops the older half of all messages. Also returns how many of them the connection was not
    /// handed.
    pub(crate) fn halve(&mut self) -> (Evicted, usize) {
        let start = Position::default();
        let to = self.log.room_for(start, 0, self.log.bytes());
        let skipped = to.entries - to.entries.min(self.next().entries);
        let mut handed_over = 0;
        if let Some(handed) = &mut self.handed {
            handed_over = to.entries.min(handed.numbers.len());
            handed.forget(handed_over, to);
        }
        self.lost += (to.entries - handed_over) as u64; // kept, even if nothing else is
        (self.log.remove(start, to), skipped)
    }

    /// Appends a message; see [`Queue::push`].
    pub(crate) fn push(&mut self, entry: Entry) -> Option<Payload> {
        self.log.reserve(BURST);
        self.log.push(entry)
    }

    /// Whether a value of this cost is within the bounds, in keys and in bytes. A single value
    /// above the whole bound is taken when it is alone, as a message is.
    pub(crate) fn has_room_for_value(
        mail: Option<&Self>,
        key: &str,
        cost: usize,
        keys: usize,
        bytes: usize,
    ) -> bool {
        let Some(values) = mail.and_then(|mail| mail.values.as_ref()) else { return keys > 0 };
        let before = values.cost_of(key);
        let others = values.bytes - values.handed_bytes - before.unwrap_or(0);
        (before.is_some() || values.set.len() - values.handed_keys < keys)
            && (others == 0 || others.saturating_add(cost) <= bytes)
    }

    /// Sets or removes a key. Returns what the change replaces.
    pub(crate) fn change(&mut self, key: &str, change: Change) -> Option<Change> {
        self.values.get_or_insert_default().change(key, change)
    }

    /// Whether the client may have to be told of the removal of a value.
    pub(crate) fn tells_removals(&self) -> bool {
        self.values.as_ref().is_some_and(|values| values.handed > Stamp::FIRST)
    }

    /// Takes the value of a key that the client has not been handed.
    pub(crate) fn forget(&mut self, key: &str) -> Option<Change> {
        let values = self.values.as_mut()?;
        let stamp = values.stamps.get(key).copied().filter(|stamp| *stamp >= values.handed)?;
        let value = values.remove(stamp)?;
        self.drop_values_if_empty();
        Some(Change::new(stamp, value.message))
    }

    fn drop_values_if_empty(&mut self) {
        self.values.take_if(|values| values.set.is_empty() && values.handed == Stamp::FIRST);
    }

    /// Whether there is something for a client that has everything else pushed before this stamp.
    pub(crate) fn begins_before(&self, stamp: Stamp) -> bool {
        self.log.stamp_at(self.next()).is_some_and(|first| first < stamp)
            || self.first_value().is_some_and(|(_, value)| value.since < stamp)
    }

    /// Chooses the oldest message or value. With very many messages the values go first.
    ///
    /// A value is also chosen if it has replaced one that is old enough, where the client has
    /// everything else pushed before, or is far behind. A key that is set again faster than the
    /// driver comes round would otherwise never have a value that is old enough.
    fn choose(&self, Due { before, upto, values_first, is_last }: Due) -> Option<Choice> {
        let next = self.next();
        let sent = self.log.stamp_at(next);
        let first = self.first_value();
        let value = |is_due: &dyn Fn(Stamp, &Value) -> bool| {
            let (stamp, value) = first?;
            is_due(stamp, value).then_some(Choice::Value(stamp))
        };
        let of_message = || sent.filter(|stamp| *stamp < before).map(|_| Choice::Message);
        let is_behind = self.log.bytes() - next.bytes > BEHIND;
        let due = value(&|stamp, value| {
            values_first && value.since < upto
                || is_behind && value.since < before
                || stamp < sent.map_or(before, |sent| sent.min(before))
        });
        due.or_else(of_message).or_else(|| value(&|_, value| is_last && value.since < upto))
    }

    /// Hands over what is due next. With `keeps` it stays. For `copy` see [`Queue::pop_before`].
    /// Returns nothing where no more is kept before the client acknowledges some of it.
    pub(crate) fn take(
        &mut self,
        due: Due,
        keeps: Option<Keeps>,
        copy: &mut PayloadCopy,
    ) -> Option<Taken> {
        match (self.choose(due)?, keeps) {
            (Choice::Message, None) => {
                let (slot, cost) = self.log.pop_before(Stamp::MAX, copy)?;
                Some(Taken::of(slot.stamp(), Some(slot), cost))
            }
            (Choice::Message, Some(keeps)) => self.hand_message(keeps, copy),
            (Choice::Value(stamp), None) => {
                let value = self.values.as_mut()?.remove(stamp)?;
                self.drop_values_if_empty();
                let cost = value.cost();
                let slot = value.message.map(|message| Entry { stamp, message }.into());
                Some(Taken::of(stamp, slot, cost))
            }
            (Choice::Value(stamp), Some(keeps)) => {
                let values = self.values.as_mut()?;
                let value = values.set.get(&stamp)?;
                let message = value.message.as_ref().map(|message| {
                    let message = Payload::from(Message::clone(message));
                    Entry { stamp, message }.into()
                });
                let mut taken = Taken::of(stamp, message, 0);
                taken.key = Some(Arc::clone(&value.key));
                values.hand(stamp);
                taken.evicted = values.give_way(keeps.keys, keeps.bytes);
                Some(taken)
            }
        }
    }

    fn hand_message(&mut self, keeps: Keeps, copy: &mut PayloadCopy) -> Option<Taken> {
        if self.is_full(keeps) {
            return None;
        }
        let handed = self.handed.get_or_insert_default();
        let index = handed.next.entries;
        if index == handed.numbers.len() {
            handed.newest = handed.newest.plus(std::mem::take(&mut self.lost) + 1);
            handed.numbers.push_back(handed.newest);
        }
        let (slot, _) = self.log.read(&mut handed.next, copy)?;
        if handed.next.entries > handed.end.entries {
            handed.end = handed.next;
        }
        let number = handed.numbers[index];
        let missing = (number, handed.seen, handed.why);
        handed.see(number);
        let mut taken = Taken::of(slot.stamp(), Some(slot), 0);
        taken.number = Some(missing);
        Some(taken)
    }

    /// Whether the client has to acknowledge some of its messages before it is handed the next.
    pub(crate) fn is_full(&self, keeps: Keeps) -> bool {
        let Some(handed) = &self.handed else { return false };
        let cost = self.log.cost_at(handed.end).unwrap_or(0);
        let is_new = handed.next.entries == handed.numbers.len();
        is_new && handed.end.bytes > 0 && handed.end.bytes.saturating_add(cost) > keeps.bytes
    }

    /// The number of the last message that the client had when it came back. It makes room for new
    /// ones, since an earlier acknowledgement of it may have been lost.
    pub(crate) fn had(&self) -> Seq {
        self.handed.as_ref().map_or_else(Seq::default, |handed| handed.had)
    }

    /// The number of the last message that the client has been given, if it has not acknowledged
    /// all of them.
    pub(crate) fn unacknowledged(&self) -> Option<Seq> {
        self.handed.as_ref().filter(|handed| !handed.numbers.is_empty()).map(|handed| handed.seen)
    }

    /// Drops the messages that the client has acknowledged, up to this number.
    pub(crate) fn acknowledge(&mut self, number: Seq) -> Evicted {
        let Some(handed) = &mut self.handed else { return Evicted::default() };
        let number = number.min(handed.seen);
        let count = handed.numbers.partition_point(|known| *known <= number);
        let to = self.log.position(count);
        handed.forget(count, to);
        let evicted = self.log.remove(Position::default(), to);
        if self.log.is_empty() && self.log.capacity() > BURST {
            self.log = Queue::default();
        }
        evicted
    }

    /// Begins the connection of a client that has come back with what it says that it had. Returns
    /// the messages that the client has missed, where none is left that a gap would go before.
    pub(crate) fn begin(&mut self, had: Had) -> Option<(Seq, Seq, Why)> {
        let handed = self.handed.get_or_insert_default();
        handed.why = Why::Expired;
        let seq = Some(Seq::new(had.seq.unwrap_or(0))).filter(|seq| *seq <= handed.newest);
        let first = handed.numbers.front().map_or(handed.newest, |first| first.minus(1));
        handed.seen = seq.unwrap_or(first);
        handed.had = seq.unwrap_or_default();
        let has = handed.numbers.partition_point(|number| *number <= handed.seen);
        handed.next = self.log.position(has);
        if let Some(values) = &mut self.values {
            let set = had.set.filter(|_| seq.is_some());
            values.next = set.map_or(Stamp::FIRST, |set| Stamp::new(set).next());
        }
        if self.log.len() > has {
            return None;
        }
        handed.newest = handed.newest.plus(std::mem::take(&mut self.lost));
        let (seen, newest, why) = (handed.seen, handed.newest, handed.why);
        handed.see(newest);
        (newest > seen).then_some((seen.next(), newest, why))
    }
}

impl Handed {
    /// Notes that the client was given, or told to have missed, the messages up to `number`.
    fn see(&mut self, number: Seq) {
        if number > self.seen {
            (self.seen, self.why) = (number, Why::Slow);
        }
    }

    /// Forgets the first `count` messages, with which all before `to` goes.
    fn forget(&mut self, count: usize, to: Position) {
        self.numbers.drain(..count);
        self.next = self.next.behind(to);
        self.end = self.end.behind(to);
        if self.numbers.len() < self.numbers.capacity() / 4 {
            self.numbers.shrink_to(BURST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Message;
    use crate::hub::feed::queue::ENTRY_OVERHEAD;

    const KEY: usize = ENTRY_OVERHEAD + 130; // what a key of one byte costs beside its value
    const BOUND: usize = 3 * KEY;

    fn entry(stamp: u64, text: &'static str) -> Entry {
        Entry { stamp: Stamp::new(stamp), message: Message::from(text).into() }
    }

    /// Sets a key. Returns what it replaces, and what that counted.
    fn set(
        mail: &mut Mail,
        key: &str,
        stamp: u64,
        message: impl Into<Message>,
    ) -> Option<(Payload, usize)> {
        let message = Some(message.into().into());
        let replaced = mail.change(key, Change::new(Stamp::new(stamp), message))?;
        let cost = replaced.cost(key);
        Some((replaced.message?, cost))
    }

    const KEEPS: Keeps = Keeps { bytes: BOUND, keys: 2 };

    /// Takes what is due before a stamp, of a client with or without feeds that have something.
    fn take(mail: &mut Mail, before: u64, is_last: bool, keeps: Option<Keeps>) -> Option<Told> {
        let mut copy = PayloadCopy::new();
        let before = Stamp::new(before);
        let due = Due { before, upto: before, values_first: false, is_last };
        let taken = mail.take(due, keeps, &mut copy)?;
        let text =
            taken.message.map(|slot| slot.into_entry(&copy).message.as_text().unwrap().to_owned());
        Some(Told {
            text,
            cost: taken.cost,
            number: taken.number.map(|(number, seen, _)| (number.get(), seen.get())),
        })
    }

    #[derive(Debug, PartialEq)]
    struct Told {
        text: Option<String>,
        cost: usize,
        number: Option<(u64, u64)>,
    }

    fn texts(mail: &mut Mail, upto: u64) -> Vec<String> {
        std::iter::from_fn(|| take(mail, upto, false, None)?.text).collect()
    }

    fn handed(mail: &mut Mail) -> Vec<String> {
        std::iter::from_fn(|| {
            let told = take(mail, 99, false, Some(KEEPS))?;
            let text = told.text.unwrap_or_else(|| "-".to_owned());
            Some(
                told.number
                    .map_or(text.clone(), |(number, seen)| format!("{text} {seen}..{number}")),
            )
        })
        .collect()
    }

    fn had(seq: u64, set: Option<u64>) -> Had {
        Had { epoch: None, seq: Some(seq), set }
    }

    #[test]
    fn messages_and_newest_values_come_in_the_order_of_their_stamps() {
        let mut mail = Mail::default();
        assert!(set(&mut mail, "x", 0, "x0").is_none());
        mail.log.push(entry(1, "a"));
        set(&mut mail, "y", 2, "y2");
        let (replaced, cost) = set(&mut mail, "x", 3, "x3").unwrap();
        assert_eq!((&*replaced, cost), (&"x0".into(), KEY + 2));
        mail.log.push(entry(4, "b"));
        set(&mut mail, "z", 5, "z5");
        assert_eq!(texts(&mut mail, 5), ["a", "y2", "x3", "b"]);
        assert_eq!(mail.bytes(), KEY + 2);
        set(&mut mail, "x", 6, "x6");
        assert_eq!(texts(&mut mail, 7), ["z5", "x6"]);
        assert_eq!((mail.bytes(), mail.is_over()), (0, true));
    }

    #[test]
    fn a_value_that_is_removed_does_not_come_and_its_key_has_room_again() {
        let mut mail = Mail::default();
        set(&mut mail, "x", 0, "x0");
        set(&mut mail, "y", 1, "y1");
        let forgotten = mail.forget("x").unwrap();
        assert_eq!(forgotten.message.as_deref(), Some(&"x0".into()));
        assert!(mail.forget("x").is_none());
        assert!(Mail::has_room_for_value(Some(&mail), "z", KEY, 2, 5000));
        assert_eq!(texts(&mut mail, 9), ["y1"]);
        assert!(mail.is_over());
        set(&mut mail, "x", 2, "x2");
        mail.change("x", Change::new(Stamp::new(3), None));
        assert_eq!(
            (mail.waits(), mail.bytes()),
            (false, KeyTable::cost_of_removal("x")),
            "nobody had it"
        );
    }

    #[test]
    fn a_value_that_is_always_replaced_before_the_driver_looks_gets_out_all_the_same() {
        let mut mail = Mail::default();
        set(&mut mail, "x", 5, "new");
        assert!(take(&mut mail, 5, true, None).is_none());
        set(&mut mail, "x", 8, "newer");
        set(&mut mail, "x", 9, "newest");
        assert!(take(&mut mail, 7, false, None).is_none());
        let newest = Told { text: Some("newest".to_owned()), cost: KEY + 6, number: None };
        assert_eq!(take(&mut mail, 7, true, None), Some(newest));
        assert!(mail.is_over() && take(&mut mail, 7, true, None).is_none());
    }

    #[test]
    fn an_empty_one_is_the_next_clients_without_what_was_lost_and_without_the_room_of_a_burst() {
        let mut mail = Box::<Mail>::default();
        let emptied = |mut mail: Box<Mail>, pushes| {
            (0..pushes).for_each(|stamp| drop(mail.push(entry(stamp, ""))));
            while take(&mut mail, u64::MAX, false, None).is_some() {}
            mail.into_spare()
        };
        mail.lost = 7;
        set(&mut mail, "x", 0, "");
        let spare = emptied(mail, 16).unwrap();
        assert_eq!((spare.lost, spare.is_over(), spare.log.capacity()), (0, true, 16));
        assert!(emptied(spare, 17).is_none());
    }

    #[test]
    fn values_have_a_bound_in_keys_and_in_bytes_and_a_large_one_is_kept_alone() {
        let has_room =
            |mail: &Mail, key, len| Mail::has_room_for_value(Some(mail), key, KEY + len, 2, BOUND);
        let mut mail = Mail::default();
        assert!(!Mail::has_room_for_value(None, "x", 0, 0, BOUND) && has_room(&mail, "x", 9000));
        set(&mut mail, "x", 0, vec![0; 9000]);
        assert!(has_room(&mail, "x", 9000) && !has_room(&mail, "y", 0));
        set(&mut mail, "x", 1, "");
        assert!(
            has_room(&mail, "y", BOUND - 2 * KEY) && !has_room(&mail, "y", BOUND + 1 - 2 * KEY)
        );
        set(&mut mail, "y", 2, "");
        assert!(
            has_room(&mail, "x", BOUND - 2 * KEY) && !has_room(&mail, "x", BOUND + 1 - 2 * KEY)
        );
        assert!(!has_room(&mail, "z", 0), "a third key");
        assert_eq!(mail.bytes(), 2 * KEY);
    }

    #[test]
    fn what_a_client_with_a_session_is_handed_stays_until_it_is_acknowledged_and_comes_again() {
        let mut mail = Mail::default();
        for (stamp, text) in [(0, "a"), (1, "b"), (2, "c"), (3, "d")] {
            mail.push(entry(stamp, text));
        }
        set(&mut mail, "x", 4, "x4");
        assert_eq!(handed(&mut mail), ["a 0..1", "b 1..2", "c 2..3", "d 3..4", "x4"]);
        assert!(!mail.waits() && mail.unacknowledged() == Some(Seq::new(4)));
        assert_eq!((mail.acknowledge(Seq::new(2)).count, mail.waiting_bytes()), (2, 0));
        // It comes back, and has one that it did not acknowledge.
        assert!(mail.begin(had(3, None)).is_none());
        assert_eq!(handed(&mut mail), ["d 3..4", "x4"]);
        // With the value that it had, and less than it acknowledged.
        assert!(mail.begin(had(0, Some(4))).is_none());
        assert_eq!(handed(&mut mail), ["c 0..3", "d 3..4"]);
        assert_eq!(mail.acknowledge(Seq::new(9)).count, 2, "those that it was given");
        assert_eq!(
            mail.begin(had(1, Some(4))).map(|(from, to, _)| (from.get(), to.get())),
            Some((2, 4))
        );
    }

    #[test]
    fn what_is_dropped_of_what_waits_is_missing_where_it_was() {
        let mut mail = Mail::default();
        (0..2).for_each(|stamp| drop(mail.push(entry(stamp, "x"))));
        assert_eq!(handed(&mut mail), ["x 0..1", "x 1..2"]);
        (2..6).for_each(|stamp| drop(mail.push(entry(stamp, "y"))));
        let cost = ENTRY_OVERHEAD + 1;
        assert!(!mail.has_room(cost, 4 * cost) && mail.has_room(cost, 5 * cost));
        assert_eq!(mail.make_room(cost, 4 * cost).count, 2, "of those that wait");
        assert_eq!(mail.waiting_bytes(), 2 * cost);
        assert_eq!(handed(&mut mail), ["y 2..5", "y 5..6"]);
        // The older half, of which one has to be handed over again.
        assert!(mail.begin(had(1, None)).is_none());
        let (evicted, skipped) = mail.halve();
        assert_eq!((evicted.count, skipped, mail.log_bytes()), (2, 1, 2 * cost));
        assert_eq!(handed(&mut mail), ["y 1..5", "y 5..6"]);
    }

    #[test]
    fn no_more_is_handed_over_than_is_kept_and_values_that_were_make_way() {
        let mut mail = Mail::default();
        (0..5).for_each(|stamp| drop(mail.push(entry(stamp, "x"))));
        let room = BOUND / (ENTRY_OVERHEAD + 1);
        assert_eq!(handed(&mut mail).len(), room);
        assert!(mail.is_full(KEEPS) && mail.waits());
        mail.acknowledge(Seq::new(1));
        assert!(!mail.is_full(KEEPS) && handed(&mut mail).len() == 1);
        mail.acknowledge(Seq::new(9));
        let mut mail = Mail::default();
        for (stamp, key) in ["a", "b", "c"].into_iter().enumerate() {
            set(&mut mail, key, stamp as u64, key);
            assert_eq!(handed(&mut mail), [key]);
        }
        assert_eq!(mail.bytes(), 2 * (KEY + 1), "two keys");
        assert!(mail.tells_removals());
        mail.change("c", Change::new(Stamp::new(3), None));
        mail.change("d", Change::new(Stamp::new(4), None));
        assert_eq!(handed(&mut mail), ["-", "-"]);
        assert!(mail.begin(had(0, Some(3))).is_none());
        assert_eq!(handed(&mut mail), ["-"], "what happened since");
        assert!(mail.begin(had(0, None)).is_none());
        assert_eq!(handed(&mut mail), ["b", "-"], "the removals from its first value on");
    }
}
