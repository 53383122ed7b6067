//! Wires: how what is pushed becomes the bytes that a client gets.
//!
//! There is one so far: [`plain`]. A [`Frame`] is the encoded form of one message, made once and
//! shared by every client that is owed it.

pub(crate) mod plain;

use bytes::{Buf, Bytes};

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
