//! The items of a feed's log, and the cursors into it.

use std::sync::{Arc, OnceLock};

use crate::codec::Message;
use crate::hub::feed::queue::Entry;
use crate::hub::primitives::budget::{Budget, Charge};
use crate::wire::v1::{self, Form, Head};
use crate::wire::{Frame, plain};

/// The log bytes before a client from which on it gets the latest values first. The values matter
/// most, and a client that stayed behind would never reach them.
pub(crate) const BEHIND: usize = 64 * 1024;

/// A client's cursor in a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Cursor {
    /// The position in the log to read next. Positions count everything ever put in.
    pub(crate) log: u64,
    /// The stamp below which the client has every latest value.
    pub(crate) latest: u64,
}

/// The messages kept for late joiners.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kept {
    /// The number of messages of the log.
    pub(crate) messages: usize,
    /// Their greatest age, in milliseconds.
    pub(crate) age: u64,
}

/// A message in its encoded forms.
#[derive(Debug)]
pub(crate) struct Item {
    /// The frame on the plain wire.
    pub(crate) frame: Frame,
    /// When the message was taken over, in the driver's milliseconds.
    pub(crate) at: u64,
    is_json: bool,
    /// The key of a latest value.
    pub(crate) key: Option<Arc<str>>,
    /// The form on `stepcast.v1`, once somebody needs it; boxed, since items are many.
    form: OnceLock<Box<Counted>>,
}

/// A form that is counted in the budget.
#[derive(Debug)]
struct Counted {
    form: Form,
    charge: Charge,
}

impl Counted {
    fn new(form: Form, budget: &Arc<Budget>) -> Self {
        let own = match &form {
            Form::Line(line) => line.len(),
            Form::Frame(frame) => frame.head_len(), // it shares its payload
        };
        Self { form, charge: Charge::of(budget, own + size_of::<Self>()) }
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
        let is_json = matches!(*entry.message, Message::Json(_));
        Self { frame: encode(entry, cost, budget), at, is_json, key, form: OnceLock::new() }
    }

    /// Makes the removal of a key's value, which only `stepcast.v1` clients are told.
    pub(crate) fn removal(head: Head, key: Arc<str>, budget: &Arc<Budget>) -> Self {
        Self::only_on_v1(v1::removed(head, &key), head.at, Some(key), budget)
    }

    /// Makes the end of a feed, which only `stepcast.v1` clients are told.
    pub(crate) fn end(head: Head, budget: &Arc<Budget>) -> Self {
        Self::only_on_v1(v1::ended(head), head.at, None, budget)
    }

    fn only_on_v1(form: Form, at: u64, key: Option<Arc<str>>, budget: &Arc<Budget>) -> Self {
        let form = OnceLock::from(Box::new(Counted::new(form, budget)));
        Self { frame: Frame::default(), at, is_json: false, key, form }
    }

    /// Whether the item is the removal of a value, or an end, and not a value.
    pub(crate) fn is_removal(&self) -> bool {
        self.frame.is_empty() // a message has a header at least
    }

    /// Whether the item is the end of a feed.
    pub(crate) fn is_end(&self) -> bool {
        self.frame.is_empty() && self.key.is_none()
    }

    /// The number of bytes, including the key of a value.
    pub(crate) fn len(&self) -> usize {
        self.frame.len() + self.key.as_ref().map_or(0, |key| key.len())
    }

    /// The bytes that the `stepcast.v1` form counts, if it has been made.
    pub(crate) fn form_bytes(&self) -> usize {
        self.form.get().map_or(0, |counted| counted.charge.bytes())
    }

    /// Returns the `stepcast.v1` form, made once for all clients. `number` is the sequence number,
    /// or the stamp.
    pub(crate) fn form(&self, alias: u32, number: u64, budget: &Arc<Budget>) -> &Form {
        let counted = self.form.get_or_init(|| {
            let message = v1::message_of(&self.frame, self.is_json);
            let head = Head { alias, number, at: self.at };
            let form = v1::message(head, &message, self.key.as_deref());
            Box::new(Counted::new(form, budget))
        });
        &counted.form
    }
}

/// Encodes a message that is already counted in the budget as `cost`. The count ends with the last
/// copy of the frame.
pub(crate) fn encode(entry: Entry, cost: usize, budget: &Arc<Budget>) -> Frame {
    let charge = Charge::adopt(budget, cost);
    let frame = plain::copy(&entry.message);
    let frame = frame.unwrap_or_else(|| plain::share(entry.message.into_message()));
    frame.map_payload(|bytes| charge.attach(bytes))
}

#[cfg(test)]
pub(crate) mod tests {
    use bytes::Bytes;

    use super::*;

    pub(crate) fn item(frame: Frame) -> Item {
        Item { frame, at: 0, is_json: false, key: None, form: OnceLock::new() }
    }

    pub(crate) fn frame(byte: u8, len: usize) -> Frame {
        Bytes::from(vec![byte; len]).into()
    }
}
