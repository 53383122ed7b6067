//! What a feed's log is made of, and where one stands in it.

use std::sync::{Arc, OnceLock};

use crate::codec::Message;
use crate::hub::feed::queue::Entry;
use crate::hub::primitives::budget::{Budget, Charge};
use crate::wire::v1::{self, Form, Head};
use crate::wire::{Frame, plain};

/// Who has more than this of logs before it gets the latest values first: they are what it is about, and
/// would never be its turn if it stayed behind.
pub(crate) const BEHIND: usize = 64 * 1024;

/// Where a client stands in a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Cursor {
    /// The position in the log that it reads next: positions count all that was ever put in.
    pub(crate) log: u64,
    /// It has every latest value that was stamped before this.
    pub(crate) latest: u64,
}

/// What is kept for those who come late.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kept {
    /// Messages of the log.
    pub(crate) messages: usize,
    /// How old they may be, in milliseconds.
    pub(crate) age: u64,
}

/// A message in its encoded forms.
#[derive(Debug)]
pub(crate) struct Item {
    /// On the plain wire.
    pub(crate) frame: Frame,
    /// When it was taken over, in the driver's milliseconds.
    pub(crate) at: u64,
    is_json: bool,
    /// Of a latest value.
    pub(crate) key: Option<Arc<str>>,
    /// On `stepcast.v1`, when somebody has needed it; boxed, since items are many.
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

    /// The end of a key's value, which only clients on `stepcast.v1` are told.
    pub(crate) fn removal(head: Head, key: Arc<str>, budget: &Arc<Budget>) -> Self {
        Self::only_on_v1(v1::removed(head, &key), head.at, Some(key), budget)
    }

    /// The end of a feed, as well.
    pub(crate) fn end(head: Head, budget: &Arc<Budget>) -> Self {
        Self::only_on_v1(v1::ended(head), head.at, None, budget)
    }

    fn only_on_v1(form: Form, at: u64, key: Option<Arc<str>>, budget: &Arc<Budget>) -> Self {
        let form = OnceLock::from(Box::new(Counted::new(form, budget)));
        Self { frame: Frame::default(), at, is_json: false, key, form }
    }

    /// Whether it is the end of a value, and not a value.
    pub(crate) fn is_removal(&self) -> bool {
        self.frame.is_empty() // a message has a header at least
    }

    /// Whether it is the end of a feed.
    pub(crate) fn is_end(&self) -> bool {
        self.frame.is_empty() && self.key.is_none()
    }

    /// Bytes, of a value its key included.
    pub(crate) fn len(&self) -> usize {
        self.frame.len() + self.key.as_ref().map_or(0, |key| key.len())
    }

    /// What its form on `stepcast.v1` counts, if it has been made.
    pub(crate) fn form_bytes(&self) -> usize {
        self.form.get().map_or(0, |counted| counted.charge.bytes())
    }

    /// The form on `stepcast.v1`, which is made once for all. `number`: its sequence number, or its stamp.
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

/// Encodes a message that is already counted in the budget, as `cost`, which it leaves with its
/// last frame.
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
