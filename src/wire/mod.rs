//! Wires: how what is pushed becomes the bytes that a client gets.
//!
//! There are two: [`plain`], and [`v1`] for those who ask for it. A message is encoded for a wire when a
//! client on that wire first needs it, once for all of them. A third has no frames: the lines of
//! `GET /events`, which are made for each client (`hub/conn/events.rs`).

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub(crate) mod plain;
pub(crate) mod v1;

use bytes::{Buf, Bytes};

/// How messages are encoded for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    Plain,
    V1,
    /// The lines of `GET /events`.
    Events,
}

/// One encoded frame, or what is left to write of it: two parts, so that a large payload is shared
/// with the message that it came from instead of being copied behind its header.
#[derive(Debug, Clone, Default)]
pub(crate) struct Frame {
    head: Bytes,
    body: Bytes,
}

impl Frame {
    pub(crate) fn new(head: Bytes, body: Bytes) -> Self {
        Self { head, body }
    }

    pub(crate) fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// Bytes before the part that may be shared with a message.
    pub(crate) fn head_len(&self) -> usize {
        self.head.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_empty() && self.body.is_empty()
    }

    /// The parts that are not empty.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &Bytes> {
        [&self.head, &self.body].into_iter().filter(|part| !part.is_empty())
    }

    /// Exchanges the part that holds the payload.
    pub(crate) fn map_payload(mut self, map: impl FnOnce(Bytes) -> Bytes) -> Self {
        let part = if self.body.is_empty() { &mut self.head } else { &mut self.body };
        *part = map(std::mem::take(part));
        self
    }

    /// Drops the first `count` bytes, or all where there are fewer.
    pub(crate) fn advance(&mut self, count: usize) {
        let of_head = count.min(self.head.len());
        self.head.advance(of_head);
        self.body.advance((count - of_head).min(self.body.len()));
    }
}

impl From<Vec<u8>> for Frame {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<Bytes> for Frame {
    fn from(bytes: Bytes) -> Self {
        Self::new(bytes, Bytes::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advancing_crosses_from_the_head_into_the_body() {
        let mut frame = Frame::new(Bytes::from_static(b"ab"), Bytes::from_static(b"cde"));
        frame.advance(1);
        assert_eq!(frame.len(), 4);
        frame.advance(2);
        assert_eq!(frame.parts().collect::<Vec<_>>(), ["de"]);
        frame.advance(9);
        assert!(frame.is_empty());
    }
}
