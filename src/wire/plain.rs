//! The plain wire: messages exactly as they were sent, for any WebSocket client.

use bytes::Bytes;

use super::Frame;
use crate::codec::{self, FrameHeader, Kind, Message, OpCode};

/// From this size on a payload is shared with the message instead of copied behind its header.
/// Copying less than this costs about what a second part costs in the vectored write.
pub(crate) const SHARED_FROM: usize = 4096;

/// Writes the first message that a client gets: its id.
pub(crate) fn put_greeting(id: u64, out: &mut Vec<u8>) {
    let (before, after) = (br#"{"type":1,"body":"#, b"}");
    let id = id.to_string();
    let length = before.len() + id.len() + after.len();
    out.extend_from_slice(FrameHeader::server(OpCode::Text, true, length).as_ref());
    for part in [before, id.as_bytes(), after] {
        out.extend_from_slice(part);
    }
}

/// A message as the hub keeps it: of its own if it is small, and else shared with the program.
///
/// The copy of a small payload leaves room for the header of this wire before it. So a small
/// message needs no second copy here, and no more memory than its frame.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    kind: Kind,
    /// The bytes before the payload.
    header: u8,
    bytes: Bytes,
}

impl Content {
    /// Copies a small message; `None`: it is to be [shared](Self::share).
    pub(crate) fn copy(message: &Message) -> Option<Self> {
        if message.len() >= SHARED_FROM {
            return None;
        }
        let bytes = codec::server_frame(message);
        let header = u8::try_from(bytes.len() - message.len()).unwrap_or_default();
        Some(Self { kind: message.kind(), header, bytes })
    }

    /// Shares the payload of a large message.
    pub(crate) fn share(message: Message) -> Self {
        Self { kind: message.kind(), header: 0, bytes: message.into_bytes() }
    }

    /// Exchanges the bytes for others that are the same.
    pub(crate) fn map(mut self, map: impl FnOnce(Bytes) -> Bytes) -> Self {
        self.bytes = map(self.bytes);
        self
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn payload(&self) -> Bytes {
        self.bytes.slice(usize::from(self.header)..)
    }

    /// Returns the message's frame on this wire.
    pub(crate) fn frame(&self) -> Frame {
        self.clone().into_frame()
    }

    /// Turns the message into its frame on this wire.
    pub(crate) fn into_frame(self) -> Frame {
        if self.header > 0 {
            return self.bytes.into();
        }
        let opcode = if let Kind::Binary = self.kind { OpCode::Binary } else { OpCode::Text };
        let header = FrameHeader::server(opcode, true, self.bytes.len());
        Frame::new(Bytes::copy_from_slice(header.as_ref()), self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_payload_is_shared_and_a_small_one_is_not() {
        for (size, shared) in
            [(0, false), (125, false), (4095, false), (4096, true), (70_000, true)]
        {
            let payload = Bytes::from(vec![7; size]);
            let message = Message::from(payload.clone());
            let whole = codec::server_frame(&message);
            let kept = Content::copy(&message).unwrap_or_else(|| Content::share(message));
            assert_eq!(kept.payload(), payload);
            let frame = kept.frame();
            let parts: Vec<&[u8]> = frame.parts().map(AsRef::as_ref).collect();
            assert_eq!(parts.concat(), whole);
            let same = parts.last().unwrap().as_ptr_range().end == payload.as_ptr_range().end;
            assert_eq!(same && size > 0, shared, "{size}");
        }
    }

    #[test]
    fn the_greeting_is_the_id_as_a_json_number() {
        for id in [1, 4711, (1 << 53) - 1] {
            let message = Message::from(format!(r#"{{"type":1,"body":{id}}}"#));
            let mut greeting = b"before".to_vec();
            put_greeting(id, &mut greeting);
            assert_eq!(greeting[6..], codec::server_frame(&message));
        }
    }
}
