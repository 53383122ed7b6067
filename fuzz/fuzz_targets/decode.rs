//! Hostile bytes into `MessageCodec`. The first byte picks role and limits, the second the cuts.
//!
//! It never panics; what is decoded does not depend on how the bytes were cut; memory follows what
//! has come and not what was declared; what it decodes, the other role can say to it again; and
//! after an error there is nothing but errors.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use stepcast::codec::{CodecError, FrameLimits, Incoming, MessageCodec, Role};
use tokio_util::codec::{Decoder, Encoder};

mod cuts;

/// `decode` asks for no more than has come, but for a first KiB, and a growing buffer doubles at
/// most: once for what is appended to it, once for what is asked ahead.
fn most_memory(received: usize) -> usize {
    4 * received + 4 * 1024
}

/// Everything that is in `src` by now; whether it ended in an error.
fn drain(codec: &mut MessageCodec, src: &mut BytesMut, into: &mut Vec<Incoming>) -> bool {
    loop {
        match codec.decode(src) {
            Ok(Some(incoming)) => into.push(incoming),
            Ok(None) => return false,
            Err(_) => {
                assert!(matches!(codec.decode(src), Err(CodecError::AfterError)));
                return true;
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let [choice, seed, wire @ ..] = data else { return };
    let (role, other) = match choice & 1 {
        0 => (Role::Server, Role::Client),
        _ => (Role::Client, Role::Server),
    };
    let limits = match choice >> 1 & 3 {
        0 => FrameLimits::default(),
        1 => FrameLimits::default().frame(125).message(300).fragments(3),
        2 => FrameLimits::default().frame(0).message(0).fragments(0),
        _ => FrameLimits::default().frame(usize::MAX).message(usize::MAX).fragments(usize::MAX),
    };

    let mut whole = Vec::new();
    let whole_failed =
        drain(&mut MessageCodec::new(role, limits), &mut BytesMut::from(wire), &mut whole);

    let mut codec = MessageCodec::new(role, limits);
    let (mut src, mut received) = (BytesMut::new(), 0);
    let (mut in_cuts, mut failed) = (Vec::new(), false);
    for piece in cuts::cuts(wire, *seed) {
        src.extend_from_slice(piece);
        received += piece.len();
        failed = drain(&mut codec, &mut src, &mut in_cuts);
        assert!(src.capacity() <= most_memory(received), "{} for {received}", src.capacity());
        if failed {
            break;
        }
    }
    assert_eq!((in_cuts.as_slice(), failed), (whole.as_slice(), whole_failed));

    let mut speaker = MessageCodec::new(other, FrameLimits::default());
    let mut listener = MessageCodec::new(role, limits);
    for incoming in whole {
        let mut src = BytesMut::new();
        match &incoming {
            Incoming::Message(message) => speaker.encode(message.clone(), &mut src),
            Incoming::Control(control) => speaker.encode(control.clone(), &mut src),
        }
        .expect("what was decoded can be encoded");
        // Fragments become one frame, which may be over the limit of a frame.
        if let Ok(again) = listener.decode(&mut src) {
            assert_eq!(again, Some(incoming));
            assert!(src.is_empty());
        } else {
            listener = MessageCodec::new(role, limits);
        }
    }
});
