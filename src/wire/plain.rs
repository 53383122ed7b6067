//! The plain wire: messages exactly as they were sent, for any WebSocket client.

use bytes::Bytes;

use super::Frame;
use crate::codec::{self, FrameHeader, Message, OpCode};

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

/// Encodes a small message, whose payload is copied; `None`: it is to be [shared](share).
pub(crate) fn copy(message: &Message) -> Option<Frame> {
    (message.len() < SHARED_FROM).then(|| codec::server_frame(message).into())
}

/// Encodes a large message, whose payload is shared.
pub(crate) fn share(message: Message) -> Frame {
    let opcode = if message.is_text() { OpCode::Text } else { OpCode::Binary };
    let header = FrameHeader::server(opcode, true, message.len());
    Frame::new(Bytes::copy_from_slice(header.as_ref()), message.into_bytes())
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
            let frame = copy(&message).unwrap_or_else(|| share(message));
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
