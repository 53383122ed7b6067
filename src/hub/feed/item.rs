//! The items of a feed's log, and the cursors into it.

use std::cell::OnceCell;
use std::sync::Arc;

use bytes::Bytes;

use crate::codec::Kind;
use crate::hub::feed::queue::Entry;
use crate::hub::feed::stamp::Stamp;
use crate::hub::primitives::budget::{Budget, Charge};
use crate::hub::primitives::program::Payload;
use crate::wire::Frame;
use crate::wire::plain::Content;
use crate::wire::v1::{self, Form, Head};

/// The log bytes before a client from which on it gets the latest values first. The values matter
/// most, and a client that stayed behind would never reach them.
pub(crate) const BEHIND: usize = 64 * 1024;

/// A client's cursor in a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Cursor {
    /// The position in the log to read next. Positions count everything ever put in.
    pub(crate) log: u64,
    /// The stamp below which the client has every latest value.
    pub(crate) latest: Stamp,
}

/// Why messages are missing, as clients on `stepcast.v1` are told.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Why {
    /// The client was too slow.
    #[default]
    Slow,
    /// The messages were not kept until the client came.
    Expired,
}

impl Why {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Expired => "expired",
        }
    }
}

/// The messages kept for late joiners.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kept {
    /// The number of messages of the log.
    pub(crate) messages: usize,
    /// Their greatest age, in milliseconds.
    pub(crate) age: u64,
}

/// A message of a log, the value of a key, or what only `stepcast.v1` clients are told.
#[derive(Debug)]
pub(crate) struct Item {
    /// The message; its plain frame is a slice of it. `None`: a removal, or the end of a feed.
    message: Option<Content>,
    /// When the message was taken over, in the driver's milliseconds.
    pub(crate) at: u64,
    /// The key of a latest value.
    pub(crate) key: Option<Arc<str>>,
    /// The form on `stepcast.v1`, once somebody needs it; boxed, since items are many.
    form: OnceCell<Box<Counted>>,
}

/// A form that is counted in the budget.
#[derive(Debug)]
struct Counted {
    form: Form,
    _charge: Charge,
}

impl Counted {
    fn new(form: Form, budget: &Arc<Budget>) -> Self {
        let own = match &form {
            Form::Line(line) => line.len(),
            Form::Frame(frame) => frame.head_len(), // it shares its payload
        };
        Self { form, _charge: Charge::of(budget, own + size_of::<Self>()) }
    }
}

impl Item {
    pub(crate) fn new(
        entry: Entry,
        key: Option<Arc<str>>,
        at: u64,
        cost: usize,
        budget: &Arc<Budget>,
    ) -> Self {
        Self { message: Some(keep(entry.message, cost, budget)), at, key, form: OnceCell::new() }
    }

    /// Makes the removal of a key's value, which only `stepcast.v1` clients are told.
    pub(crate) fn removal(head: Head, key: Arc<str>, budget: &Arc<Budget>) -> Self {
        Self::only_on_v1(head, Some(key), budget)
    }

    /// Makes the end of a feed, which only `stepcast.v1` clients are told.
    pub(crate) fn end(head: Head, budget: &Arc<Budget>) -> Self {
        Self::only_on_v1(head, None, budget)
    }

    /// Makes an item that has one form, at once: nothing else counts what the item takes.
    fn only_on_v1(head: Head, key: Option<Arc<str>>, budget: &Arc<Budget>) -> Self {
        let item = Self { message: None, at: head.at, key, form: OnceCell::new() };
        item.form(head.alias, head.number, budget);
        item
    }

    /// Whether the item is the removal of a value, or an end, and not a value.
    pub(crate) fn is_removal(&self) -> bool {
        self.message.is_none()
    }

    /// Whether the item is the end of a feed.
    pub(crate) fn is_end(&self) -> bool {
        self.message.is_none() && self.key.is_none()
    }

    /// Returns the payload, if the item is a JSON message or value.
    pub(crate) fn json(&self) -> Option<Bytes> {
        let message = self.message.as_ref()?;
        matches!(message.kind(), Kind::Json).then(|| message.payload())
    }

    /// Returns the frame on the plain wire. A removal and an end have none there.
    pub(crate) fn frame(&self) -> Frame {
        self.message.as_ref().map(Content::frame).unwrap_or_default()
    }

    /// Returns the `stepcast.v1` form, made once for all clients. `number` is the sequence number,
    /// or the stamp.
    pub(crate) fn form(&self, alias: u32, number: u64, budget: &Arc<Budget>) -> &Form {
        let counted = self.form.get_or_init(|| {
            let head = Head { alias, number, at: self.at };
            let form = match (&self.message, self.key.as_deref()) {
                (Some(message), key) => v1::message(head, message.kind(), message.payload(), key),
                (None, Some(key)) => v1::removed(head, key),
                (None, None) => v1::ended(head),
            };
            Box::new(Counted::new(form, budget))
        });
        &counted.form
    }
}

/// Keeps a message that is already counted in the budget as `cost`. The count ends with the last
/// slice of it. Of a small message the hub has a copy, since its payload may be a slice of much.
pub(crate) fn keep(message: Payload, cost: usize, budget: &Arc<Budget>) -> Content {
    let charge = Charge::adopt(budget, cost);
    let copy = Content::copy(&message);
    let kept = copy.unwrap_or_else(|| Content::share(message.into_message()));
    kept.map(|bytes| charge.attach(bytes))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::codec::Message;

    /// An item whose frame has this length.
    pub(crate) fn item(byte: u8, frame: usize) -> Item {
        let header = |len: usize| match len {
            0..=125 => 2,
            126..=0xffff => 4,
            _ => 10,
        };
        let len = (0..frame).rev().find(|len| len + header(*len) == frame).unwrap();
        let message = Payload::from(Message::from(vec![byte; len]));
        let message = Some(keep(message, 0, &Budget::new(0)));
        Item { message, at: 0, key: None, form: OnceCell::new() }
    }
}
