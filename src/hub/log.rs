//! A feed on the driver's side: the newest part of its log and its latest values, encoded, and who
//! follows it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::budget::{Budget, Charge};
use super::followers::Followers;
use super::queue::Entry;
use super::topic::{self, Topic};
use crate::codec::Message;
use crate::wire::v1::{self, Form, Had, Joined};
use crate::wire::{Frame, Wire, plain};

/// From this size on a frame is a part of its own in a vectored write; smaller ones are copied
/// together, once for all clients. It is also where a frame begins to share its payload: what is
/// below has been copied once already.
const OWN_PART_FROM: usize = 4 * 1024;

/// The most that is copied together into one part.
const PART: usize = 16 * 1024;

/// Who has more than this of logs before it gets the latest values first: they are what it is about, and
/// would never be its turn if it stayed behind.
pub(crate) const BEHIND: usize = 64 * 1024;

/// The most frames in one batch, and about the most that is copied together for it; what is more
/// comes in the next.
const BATCH: usize = 1024;
const COPIED: usize = 1024 * 1024;

/// Encodes a message that is already counted in the budget, as `cost`, which it leaves with its
/// last frame.
pub(crate) fn encode(entry: Entry, cost: usize, budget: &Arc<Budget>) -> Frame {
    let charge = Charge::adopt(budget, cost);
    plain::encode(entry.message).map_payload(|bytes| charge.attach(bytes))
}

/// What is kept for those who come late.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kept {
    /// Messages of the log.
    pub(crate) messages: usize,
    /// How old they may be, in milliseconds.
    pub(crate) age: u64,
}

/// Where a client stands in a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Cursor {
    /// The position in the log that it reads next: positions count all that was ever put in.
    pub(crate) log: u64,
    /// It has every latest value that was stamped before this.
    pub(crate) latest: u64,
}

/// One feed.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) topic: Arc<Topic>,
    pub(crate) window: Window,
    pub(crate) latest: Latest,
    pub(crate) followers: Followers,
    /// Messages lost before they could be taken over, not yet counted for the followers.
    pub(crate) lost: u64,
    kept: Kept,
    /// The number of the newest message that there was.
    pub(crate) newest: u64,
    /// For each wire what is owed to those at one cursor, and the cursor last asked for.
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
            newest: topic.origin,
            kept,
            batches: [None, None],
            asked: [None, None],
            topic,
        }
    }

    /// Takes over the message with this number.
    pub(crate) fn push(&mut self, number: u64, entry: Entry, now: u64, budget: &Arc<Budget>) {
        let (stamp, cost) = (entry.stamp, Entry::cost(&entry.message));
        let item = Item::new(entry, None, cost, budget);
        self.newest = number;
        self.window.push(Slot { stamp, number, at: now, cost, before: 0, item });
    }

    /// Takes over the new value of a key.
    pub(crate) fn set(&mut self, key: Arc<str>, entry: Entry, budget: &Arc<Budget>) {
        let (stamp, cost) = (entry.stamp, topic::Latest::cost(&key, &entry.message));
        let item = Item::new(entry, Some(Arc::clone(&key)), cost, budget);
        self.latest.set(key, stamp, item);
    }

    /// Makes readable what was stamped before this.
    pub(crate) fn reveal(&mut self, stamp: u64) {
        self.window.reveal(stamp);
        self.forget_batches();
    }

    /// Where a client on `stepcast.v1` begins, who has what it says, or nothing that means anything here: its
    /// cursor, the number before the first message that it is given or told to have missed, and whether that is where it was.
    pub(crate) fn resume(&self, had: Option<Had>, stamp: u64, now: u64) -> (Cursor, u64, bool) {
        let known = self.topic.origin..=self.newest;
        if let Some(Had { seq: Some(seq), set }) =
            had.filter(|had| had.seq.is_some_and(|seq| known.contains(&seq)))
        {
            let latest = set.map_or(0, |stamp| stamp + 1);
            return (Cursor { log: self.window.after_number(seq), latest }, seq, true);
        }
        let cursor = self.start(false, stamp, now);
        let seq = self.window.number(cursor.log).map_or(self.newest, |number| number - 1);
        (cursor, seq, false)
    }

    /// Keeps this from now on for those who come late.
    pub(crate) fn keep(&mut self, kept: Kept) {
        self.kept = kept;
    }

    /// Where who comes now begins: with the latest values, and with the log that is kept or, `live`,
    /// with what comes after; but not later than with what was stamped from `stamp` on.
    pub(crate) fn start(&self, live: bool, stamp: u64, now: u64) -> Cursor {
        let log = if live { self.window.live() } else { self.window.kept_from(self.kept, now) };
        Cursor { log: log.min(self.window.stamped_from(stamp)), latest: 0 }
    }

    fn forget_batches(&mut self) {
        self.batches = [None, None];
        self.asked = [None, None];
    }

    /// The stamp and the message that come next at a cursor, and the cursor after them: by the order of the stamps, or
    /// the values first.
    pub(crate) fn next(
        &self,
        at: Cursor,
        upto: u64,
        values_first: bool,
    ) -> Option<(u64, &Item, Cursor)> {
        let logged = self.window.get(at.log);
        let set = self.latest.next(at.latest, upto);
        match (logged, set) {
            (Some((stamp, item)), set)
                if set.is_none_or(|(of_set, _)| stamp < of_set && !values_first) =>
            {
                Some((stamp, item, Cursor { log: at.log + 1, ..at }))
            }
            (_, Some((stamp, item))) => Some((stamp, item, Cursor { latest: stamp + 1, ..at })),
            (_, None) => None,
        }
    }

    /// What everyone at this cursor is owed, if it pays to have it together: when the one before was
    /// at this cursor, too.
    pub(crate) fn batch(
        &mut self,
        at: Cursor,
        upto: u64,
        wire: Wire,
        budget: &Arc<Budget>,
    ) -> Option<&Batch> {
        self.next(at, upto, false)?; // who has everything is not one who asks
        let index = wire as usize;
        if self.batches[index].as_ref().is_none_or(|batch| batch.from != at) {
            if self.asked[index].replace(at) != Some(at) {
                return None;
            }
            self.batches[index] = Some(match wire {
                Wire::Plain => self.make_batch(at, upto),
                Wire::V1 => self.make_v1_batch(at, upto, budget),
            });
        }
        self.batches[index].as_ref()
    }

    /// The form on `stepcast.v1` of what lies between these cursors, and its sequence number if it is of the log.
    pub(crate) fn form<'a>(
        &'a self,
        item: &'a Item,
        stamp: u64,
        (at, after): (Cursor, Cursor),
        budget: &Arc<Budget>,
    ) -> (&'a Form, Option<u64>) {
        let number = (after.log != at.log).then(|| self.window.number(at.log)).flatten();
        (item.form(self.topic.alias, number.unwrap_or(stamp), budget), number)
    }

    /// As [`make_batch`](Self::make_batch): lines share frames. It ends before messages that are missing, which each
    /// client is told by itself: said in a batch that leaves in pieces it might be said twice.
    fn make_v1_batch(&self, from: Cursor, upto: u64, budget: &Arc<Budget>) -> Batch {
        let mut batch = Batch { from, ..Batch::default() };
        let mut joined = Joined::default();
        let (mut at, mut last, mut items) = (from, None, 0);
        while items < BATCH && batch.bytes + joined.len() < COPIED {
            let values_first = self.bytes_before(at) > BEHIND;
            let Some((stamp, item, after)) = self.next(at, upto, values_first) else {
                batch.is_all = true;
                break;
            };
            let (form, number) = self.form(item, stamp, (at, after), budget);
            if last.zip(number).is_some_and(|(last, number)| number > last + 1) {
                break;
            }
            last = number.or(last);
            let (before, own) = joined.add(form);
            if let Some(frame) = before {
                batch.add(frame, at);
            }
            if let Some(frame) = own {
                batch.add(frame, after);
            }
            (at, items) = (after, items + 1);
        }
        if let Some(frame) = joined.take() {
            batch.add(frame, at);
        }
        batch
    }

    fn make_batch(&self, from: Cursor, upto: u64) -> Batch {
        let mut batch = Batch { from, ..Batch::default() };
        let mut small = Vec::new();
        let mut copied = 0;
        let mut at = from;
        let next_at = |at| self.next(at, upto, self.bytes_before(at) > BEHIND);
        let mut next = next_at(at);
        let single = next.is_some_and(|(.., after)| next_at(after).is_none());
        while let Some((_, Item { frame, .. }, after)) = next {
            if frame.len() >= OWN_PART_FROM || single {
                batch.flush_small(&mut small);
                batch.parts.extend(frame.parts().cloned());
            } else {
                frame.parts().for_each(|part| small.extend_from_slice(part));
                copied += frame.len();
                if small.len() >= PART {
                    batch.flush_small(&mut small);
                }
            }
            batch.bytes += frame.len();
            at = after;
            batch.frames.push((batch.bytes, frame.clone(), at));
            let full = batch.frames.len() >= BATCH || copied >= COPIED;
            next = if full { None } else { next_at(at) };
        }
        batch.flush_small(&mut small);
        batch.is_all = next_at(at).is_none();
        batch
    }

    /// How much of the log is still before a cursor.
    pub(crate) fn bytes_before(&self, at: Cursor) -> usize {
        self.window.bytes_from(at.log)
    }

    /// Lets go what is neither kept for those who come late nor needed by a follower, of whom the
    /// one furthest behind is at `needed`.
    pub(crate) fn trim(&mut self, needed: u64, now: u64) {
        let kept = self.window.kept_from(self.kept, now);
        self.window.drop_before(needed.min(kept));
        self.forget_batches();
    }

    /// Tells those who wait for room what the follower furthest behind, at `needed`, has still to
    /// be handed.
    pub(crate) fn tell_owed(&self, needed: u64) {
        let mut inbox = self.topic.inbox.lock();
        inbox.owed = Some(self.window.bytes_from(needed) + inbox.queue.bytes());
    }

    /// Whether nothing in it is young enough to be kept for somebody who may come.
    pub(crate) fn is_over(&self, now: u64) -> bool {
        self.followers.count == 0 && !self.window.is_younger(self.kept.age, now)
    }

    /// Bytes of its log.
    pub(crate) fn bytes(&self) -> usize {
        self.window.bytes
    }

    /// Gives up the older half of its log, whoever may need it.
    pub(crate) fn halve(&mut self) {
        self.window.halve();
        self.forget_batches(); // which hold it, too
    }
}

/// The latest values, by their stamps.
#[derive(Debug, Default)]
pub(crate) struct Latest {
    bytes: usize,
    values: BTreeMap<u64, Item>,
    stamps: HashMap<Arc<str>, u64>,
}

impl Latest {
    fn set(&mut self, key: Arc<str>, stamp: u64, item: Item) {
        if let Some(old) = self.stamps.insert(key, stamp) {
            self.bytes -= self.values.remove(&old).map_or(0, |old| old.len());
        }
        self.bytes += item.len();
        self.values.insert(stamp, item);
    }

    /// Gives up the oldest values beyond so many, and so many bytes.
    pub(crate) fn give_way(&mut self, keys: usize, bytes: usize) {
        while self.values.len() > keys || (self.bytes > bytes && self.values.len() > 1) {
            let Some((_, item)) = self.values.pop_first() else { return };
            self.bytes -= item.len();
            if let Some(key) = &item.key {
                self.stamps.remove(key);
            }
        }
    }

    /// The oldest value stamped from `from` on and before `upto`.
    fn next(&self, from: u64, upto: u64) -> Option<(u64, &Item)> {
        if from >= upto {
            return None;
        }
        self.values.range(from..upto).next().map(|(stamp, item)| (*stamp, item))
    }

    /// Whether all that there is was stamped before this.
    pub(crate) fn all_before(&self, stamp: u64) -> bool {
        self.values.last_key_value().is_none_or(|(last, _)| *last < stamp)
    }
}

/// A message in its encoded forms.
#[derive(Debug)]
pub(crate) struct Item {
    /// On the plain wire.
    pub(crate) frame: Frame,
    is_json: bool,
    /// Of a latest value.
    key: Option<Arc<str>>,
    /// On `stepcast.v1`, when somebody has needed it.
    form: OnceLock<Form>,
}

impl Item {
    fn new(entry: Entry, key: Option<Arc<str>>, cost: usize, budget: &Arc<Budget>) -> Self {
        let is_json = matches!(entry.message, Message::Json(_));
        Self { frame: encode(entry, cost, budget), is_json, key, form: OnceLock::new() }
    }

    /// Bytes, of a value its key included.
    fn len(&self) -> usize {
        self.frame.len() + self.key.as_ref().map_or(0, |key| key.len())
    }

    /// The form on `stepcast.v1`, which is made once for all. `number`: its sequence number, or its stamp.
    fn form(&self, alias: u32, number: u64, budget: &Arc<Budget>) -> &Form {
        self.form.get_or_init(|| {
            let message = v1::message_of(&self.frame, self.is_json);
            match v1::message(alias, number, &message, self.key.as_deref()) {
                Form::Line(line) => {
                    budget.add(line.len());
                    Form::Line(Charge::adopt(budget, line.len()).attach(line))
                }
                frame @ Form::Frame(_) => frame, // which shares its payload
            }
        })
    }
}

#[derive(Debug)]
struct Slot {
    stamp: u64,
    /// Its sequence number. Where messages were lost before they could be taken over, some are not there.
    number: u64,
    /// When it was taken over, in the driver's milliseconds.
    at: u64,
    /// What it counts in the window's bound: the same as in the queue that it came from, so that
    /// what fits there fits here.
    cost: usize,
    /// Bytes that were put into the window before it.
    before: u64,
    item: Item,
}

/// The newest part of a feed's log, encoded, on the driver's side.
///
/// Positions count the frames ever put in; a client's cursor is the position it reads next.
#[derive(Debug)]
pub(crate) struct Window {
    slots: VecDeque<Slot>,
    /// The position of the first slot.
    first: u64,
    /// The position after the last slot that may be read: the ones behind it were pushed after
    /// the driver took its stamp.
    visible: u64,
    bytes: usize,
    /// Bytes ever put in.
    total: u64,
    bound: usize,
}

impl Window {
    pub(crate) fn new(bound: usize) -> Self {
        Self { slots: VecDeque::new(), first: 0, visible: 0, bytes: 0, total: 0, bound }
    }

    fn push(&mut self, mut slot: Slot) {
        slot.before = self.total;
        self.total += slot.cost as u64;
        self.bytes += slot.cost;
        self.slots.push_back(slot);
        while self.bytes > self.bound && self.slots.len() > 1 {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some(slot) = self.slots.pop_front() {
            self.bytes -= slot.cost;
            self.first += 1;
            self.visible = self.visible.max(self.first);
        }
    }

    /// Makes readable what was stamped before `stamp`.
    pub(crate) fn reveal(&mut self, stamp: u64) {
        let hidden = self.slots.iter().rev().take_while(|slot| slot.stamp >= stamp).count();
        self.visible = self.end() - hidden as u64;
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    /// The position after the last slot.
    fn end(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// The live end: the position after the last frame that may be read.
    pub(crate) fn live(&self) -> u64 {
        self.visible
    }

    /// Whether everything in it may be read.
    pub(crate) fn all_visible(&self) -> bool {
        self.visible == self.end()
    }

    /// Where a cursor that has fallen off the window goes on, and how many frames that skips: at
    /// the middle, so that a client that stays slow has one gap in half a window.
    pub(crate) fn catch_up(&self, cursor: u64) -> Option<(u64, u64)> {
        (cursor < self.first).then(|| {
            let middle = self.first + (self.visible - self.first) / 2;
            (middle, middle - cursor)
        })
    }

    /// The stamp and the message at a cursor, if it is not at the live end.
    pub(crate) fn get(&self, cursor: u64) -> Option<(u64, &Item)> {
        if cursor >= self.visible {
            return None;
        }
        self.slot(cursor).map(|slot| (slot.stamp, &slot.item))
    }

    fn slot(&self, position: u64) -> Option<&Slot> {
        self.slots.get(usize::try_from(position.checked_sub(self.first)?).ok()?)
    }

    /// The sequence number of what is at a position.
    pub(crate) fn number(&self, position: u64) -> Option<u64> {
        self.slot(position).map(|slot| slot.number)
    }

    /// The position after the message with this number, or after those before it.
    pub(crate) fn after_number(&self, number: u64) -> u64 {
        let before = self.slots.partition_point(|slot| slot.number <= number) as u64;
        (self.first + before).min(self.visible)
    }

    /// Bytes from this position on.
    fn bytes_from(&self, position: u64) -> usize {
        let index = usize::try_from(position.saturating_sub(self.first)).unwrap_or(usize::MAX);
        match self.slots.get(index) {
            Some(slot) => usize::try_from(self.total - slot.before).unwrap_or(usize::MAX),
            None => 0,
        }
    }

    /// Where what is kept for those who come late begins.
    fn kept_from(&self, kept: Kept, now: u64) -> u64 {
        let most = self.visible.saturating_sub(kept.messages as u64).max(self.first);
        let old = self.slots.partition_point(|slot| slot.at + kept.age <= now) as u64;
        most.max(self.first + old).min(self.visible)
    }

    /// The position of the first that has this stamp or a later one.
    fn stamped_from(&self, stamp: u64) -> u64 {
        self.first + self.slots.partition_point(|slot| slot.stamp < stamp) as u64
    }

    /// Whether anything in it is younger than this, in milliseconds.
    fn is_younger(&self, age: u64, now: u64) -> bool {
        self.slots.back().is_some_and(|slot| slot.at + age > now)
    }

    /// Forgets what comes before this position.
    pub(crate) fn drop_before(&mut self, position: u64) {
        while self.first < position && !self.slots.is_empty() {
            self.drop_first();
        }
        self.give_room_back();
    }

    /// The room of slots that have gone is counted nowhere: a burst is not to leave much of it.
    fn give_room_back(&mut self) {
        if self.slots.len() < self.slots.capacity() / 4 {
            self.slots.shrink_to(2 * self.slots.len());
        }
    }

    fn halve(&mut self) {
        let half = self.bytes / 2;
        while self.bytes > half && !self.slots.is_empty() {
            self.drop_first();
        }
        self.give_room_back();
    }
}

/// What every client at one cursor is owed, ready to be written.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    from: Cursor,
    /// The bytes, small frames copied together.
    parts: Vec<Bytes>,
    /// Each frame, where it ends in the bytes, and where a client stands that has it.
    frames: Vec<(usize, Frame, Cursor)>,
    bytes: usize,
    /// Whether nothing comes after it.
    is_all: bool,
}

impl Batch {
    /// A frame that is a part of its own.
    fn add(&mut self, frame: Frame, after: Cursor) {
        self.parts.extend(frame.parts().cloned());
        self.bytes += frame.len();
        self.frames.push((self.bytes, frame, after));
    }

    fn flush_small(&mut self, small: &mut Vec<u8>) {
        if !small.is_empty() {
            self.parts.push(Bytes::from(std::mem::take(small)));
        }
    }

    /// Where the last frame ends that begins within the first `room` bytes.
    pub(crate) fn within(&self, room: usize) -> usize {
        if room >= self.bytes {
            return self.bytes;
        }
        let begun = self.frames.partition_point(|(end, ..)| *end < room);
        self.frames.get(begun).map_or(self.bytes, |(end, ..)| *end)
    }

    /// Whether who has it up to here has everything.
    pub(crate) fn is_all_up_to(&self, end: usize) -> bool {
        self.is_all && end == self.bytes
    }

    /// The bytes up to where a frame ends.
    pub(crate) fn parts_up_to(&self, end: usize) -> impl Iterator<Item = &[u8]> {
        let mut left = end;
        self.parts.iter().map_while(move |part| {
            let of_part = left.min(part.len());
            left -= of_part;
            (of_part > 0).then(|| &part[..of_part])
        })
    }

    /// Where a client stands that has taken the first `written` bytes: its cursor, and what is
    /// left of the frame it is in.
    pub(crate) fn after(&self, written: usize) -> (Cursor, Frame) {
        let index = self.frames.partition_point(|(end, ..)| *end <= written);
        let (start, cursor) = match index.checked_sub(1) {
            Some(before) => (self.frames[before].0, self.frames[before].2),
            None => (0, self.from),
        };
        match self.frames.get(index) {
            Some((_, frame, after)) if written > start => {
                let mut rest = frame.clone();
                rest.advance(written - start);
                (*after, rest)
            }
            _ => (cursor, Frame::default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::topic::Topics;

    const ALL: Kept = Kept { messages: usize::MAX, age: u64::MAX / 2 };

    fn item(frame: Frame) -> Item {
        Item { frame, is_json: false, key: None, form: OnceLock::new() }
    }

    fn budget() -> Arc<Budget> {
        Budget::new(1 << 30)
    }

    fn slot(stamp: u64, cost: usize, frame: Frame) -> Slot {
        Slot { stamp, number: stamp + 1, at: 0, cost, before: 0, item: item(frame) }
    }

    fn frame(byte: u8, len: usize) -> Frame {
        Bytes::from(vec![byte; len]).into()
    }

    fn log(kept: Kept) -> (Log, Arc<Budget>) {
        let topic = Arc::clone(Topics::new(1, Arc::default()).everyone());
        (Log::new(topic, 8 << 20, kept), Budget::new(1 << 30))
    }

    fn log_of(lens: &[usize]) -> Log {
        let (mut log, _) = log(ALL);
        for (index, len) in lens.iter().enumerate() {
            let byte = u8::try_from(index % 251).unwrap();
            log.window.push(slot(index as u64, *len, frame(byte, *len)));
        }
        log.reveal(u64::MAX);
        log
    }

    fn batch_of(log: &mut Log) -> &Batch {
        assert!(
            log.batch(Cursor::default(), u64::MAX, Wire::Plain, &budget()).is_none(),
            "nobody else was there yet"
        );
        log.batch(Cursor::default(), u64::MAX, Wire::Plain, &budget()).unwrap()
    }

    #[test]
    fn only_what_was_stamped_before_is_readable() {
        let mut window = Window::new(1 << 20);
        (0..10).for_each(|stamp| window.push(slot(stamp, 10, frame(0, 10))));
        window.reveal(7);
        assert_eq!(window.live(), 7);
        assert!(window.get(6).is_some() && window.get(7).is_none() && !window.all_visible());
        window.reveal(10);
        assert!(window.get(9).is_some() && window.all_visible());
    }

    #[test]
    fn a_cursor_that_fell_off_goes_on_in_the_middle() {
        let mut window = Window::new(100 * 10);
        for stamp in 0..150 {
            window.push(slot(stamp, 10, frame(0, 10)));
        }
        window.reveal(150);
        assert_eq!(window.catch_up(20), Some((100, 80)));
        assert_eq!(window.catch_up(50), None);
        assert!(window.get(49).is_none() && window.get(50).is_some());
    }

    #[test]
    fn one_frame_above_the_bound_is_kept_alone() {
        let mut window = Window::new(1000);
        window.push(slot(0, 10, frame(0, 10)));
        window.push(slot(1, 5000, frame(0, 5000)));
        window.reveal(2);
        assert_eq!(window.get(1).unwrap().1.frame.len(), 5000);
        assert!(window.get(0).is_none());
        window.push(slot(2, 1000, frame(0, 10)));
        window.reveal(3);
        assert!(window.get(1).is_none() && window.get(2).is_some());
    }

    #[test]
    fn what_is_kept_is_the_newest_and_no_older_than_said_and_what_a_follower_needs() {
        let (mut log, _) = log(Kept { messages: 3, age: 100 });
        for stamp in 0..10 {
            let (at, frame) = (stamp * 10, frame(0, 10));
            log.window.push(Slot { at, ..slot(stamp, 10, frame) });
        }
        log.reveal(10);
        assert_eq!(log.start(false, u64::MAX, 90), Cursor { log: 7, latest: 0 });
        assert_eq!(log.start(false, u64::MAX, 175), Cursor { log: 8, latest: 0 });
        assert_eq!(log.start(false, u64::MAX, 1000), Cursor { log: 10, latest: 0 });
        assert_eq!(log.start(true, u64::MAX, 90), Cursor { log: 10, latest: 0 });
        assert_eq!(log.start(false, 4, 90), Cursor { log: 4, latest: 0 });
        log.trim(5, 90);
        assert!(log.window.get(4).is_none() && log.window.get(5).is_some());
        log.trim(10, 90);
        assert!(log.window.get(6).is_none() && log.window.get(7).is_some());
        assert!(!log.is_over(189) && log.is_over(190));
        log.trim(10, 190);
        assert_eq!((log.window.live(), log.bytes()), (10, 0));
        log.window.push(slot(10, 10, frame(0, 10)));
        log.reveal(11);
        assert!(log.window.get(10).is_some(), "positions go on");
    }

    #[test]
    fn log_and_latest_values_come_in_the_order_of_their_stamps_and_none_twice() {
        let (mut log, budget) = log(ALL);
        let entry = |stamp, text: &'static str| Entry { stamp, message: Message::from(text) };
        log.push(1, entry(0, "a"), 0, &budget);
        log.set("x".into(), entry(1, "x1"), &budget);
        log.push(2, entry(2, "b"), 0, &budget);
        log.set("y".into(), entry(3, "y1"), &budget);
        log.set("x".into(), entry(4, "x2"), &budget);
        log.push(3, entry(5, "c"), 0, &budget);
        log.reveal(5);
        let read = |log: &Log, mut at: Cursor, upto: u64| {
            let mut texts = Vec::new();
            while let Some((_, frame, after)) = log.next(at, upto, false) {
                let bytes: Vec<u8> = frame.frame.parts().flat_map(|part| part.to_vec()).collect();
                texts.push(String::from_utf8(bytes[2..].to_vec()).unwrap());
                at = after;
            }
            (texts.join(" "), at)
        };
        let (texts, at) = read(&log, Cursor::default(), 5);
        assert_eq!((texts.as_str(), at), ("a b y1 x2", Cursor { log: 2, latest: 5 }));
        log.set("y".into(), entry(6, "y2"), &budget);
        log.reveal(7);
        assert_eq!(read(&log, at, 7).0, "c y2");
        assert_eq!(read(&log, log.start(true, u64::MAX, 0), 7).0, "x2 y2");
        assert_eq!(read(&log, log.start(false, u64::MAX, 0), 7).0, "a b x2 c y2");
        let batch = batch_of(&mut log);
        assert_eq!(batch.after(batch.bytes).0, Cursor { log: 3, latest: 7 });
    }

    #[test]
    fn all_but_the_first_two_at_one_cursor_share_a_batch_though_each_asks_again_when_it_has_all() {
        let mut log = log_of(&[100; 10]);
        let (start, end) = (Cursor::default(), Cursor { log: 10, latest: 0 });
        assert!(
            log.batch(start, u64::MAX, Wire::Plain, &budget()).is_none(),
            "nobody has asked before"
        );
        for _ in 0..5 {
            assert!(log.batch(end, u64::MAX, Wire::Plain, &budget()).is_none());
            let batch = log.batch(start, u64::MAX, Wire::Plain, &budget()).expect("shared");
            assert!(batch.is_all_up_to(1000) && !batch.is_all_up_to(900));
            assert_eq!((batch.within(250), batch.within(0), batch.within(9999)), (300, 100, 1000));
            assert_eq!(batch.parts_up_to(300).map(<[u8]>::len).sum::<usize>(), 300);
        }
    }

    #[test]
    fn small_frames_are_copied_together_and_large_ones_shared() {
        let mut log = log_of(&[10, 20, 5000, 4095, 5, 70_000]);
        let batch = batch_of(&mut log);
        let lens: Vec<_> = batch.parts.iter().map(Bytes::len).collect();
        assert_eq!(lens, [30, 5000, 4100, 70_000]);
        assert_eq!((batch.bytes, batch.frames.len()), (79_130, 6));
        let all: usize = batch_of(&mut log_of(&[100; 1000])).parts.len();
        assert_eq!(all, 1000 * 100 / PART + 1);
        let mut log = log_of(&[1024; 1200]);
        let copied = batch_of(&mut log);
        assert_eq!((copied.bytes, copied.frames.len()), (COPIED, 1024));
        let mut log = log_of(&[4000; 1000]);
        let copied = batch_of(&mut log).bytes;
        assert!((COPIED..COPIED + 4000).contains(&copied), "{copied}");
    }

    #[test]
    fn a_batch_of_lines_ends_before_messages_that_are_missing() {
        let (mut log, budget) = log(ALL);
        for (number, stamp) in [(1, 0), (2, 1), (5, 2), (6, 3)] {
            let message = Message::from(format!("message {number}"));
            log.push(number, Entry { stamp, message }, 0, &budget);
        }
        log.reveal(9);
        let mut batch_at = |from| {
            assert!(log.batch(from, 9, Wire::V1, &budget).is_none(), "nobody has asked before");
            let batch = log.batch(from, 9, Wire::V1, &budget).expect("it has been asked for");
            let lines = String::from_utf8(batch.parts.concat()[2..].to_vec()).unwrap();
            (lines.lines().count(), batch.after(batch.bytes).0.log, batch.is_all, lines)
        };
        let (lines, after, is_all, text) = batch_at(Cursor::default());
        assert_eq!((lines, after, is_all), (2, 2, false), "{text}");
        let (lines, after, is_all, text) = batch_at(Cursor { log: 2, latest: 0 });
        assert_eq!((lines, after, is_all), (2, 4, true), "{text}");
        assert!(text.contains("message 5") && text.contains("message 6"), "{text}");
    }

    #[test]
    fn wherever_a_write_stops_the_rest_is_the_frame_it_is_in_and_the_frames_after() {
        let lens = [10, 20, 4300, 255, 5, 4400];
        let mut log = log_of(&lens);
        let batch = batch_of(&mut log);
        let whole: Vec<u8> = batch.parts.iter().flat_map(|part| part.to_vec()).collect();
        let after: Vec<_> = (0..=whole.len()).map(|written| batch.after(written)).collect();
        for (written, (cursor, rest)) in after.into_iter().enumerate() {
            let mut bytes: Vec<u8> = rest.parts().flat_map(|part| part.to_vec()).collect();
            assert!(
                rest.is_empty() || bytes.len() < lens[usize::try_from(cursor.log).unwrap() - 1]
            );
            for position in cursor.log..6 {
                let (_, frame) = log.window.get(position).unwrap();
                frame.frame.parts().for_each(|part| bytes.extend_from_slice(part));
            }
            assert_eq!(bytes, whole[written..], "after {written}");
        }
    }
}
