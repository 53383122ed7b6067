//! RFC 6455, rule by rule: each test proves the sentence in its name, and quotes what demands it.
//! The numbers are those of the checklist that the codec was written against.

use std::collections::HashSet;

use bytes::{Bytes, BytesMut};
use stepcast::codec::{
    CloseCode, CloseFrame, CodecError, Control, ControlPayload, Frame, FrameCodec, FrameLimits,
    Incoming, Message, MessageCodec, OpCode, Role, server_control, server_frame,
};
use tokio_util::codec::{Decoder, Encoder};

/// All frames to the server below are masked with this.
const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

const FIN: u8 = 0x80;
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A client's frame of up to 65 535 bytes. `first` is its first byte.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    if let Ok(len @ 0..=125) = u8::try_from(payload.len()) {
        frame.push(0x80 | len);
    } else {
        frame.push(0xFE);
        frame.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    }
    frame.extend(KEY);
    frame.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

fn server() -> MessageCodec {
    MessageCodec::new(Role::Server, FrameLimits::default())
}

fn client() -> MessageCodec {
    MessageCodec::new(Role::Client, FrameLimits::default())
}

fn unlimited() -> FrameLimits {
    FrameLimits::default().frame(usize::MAX).message(usize::MAX).fragments(usize::MAX)
}

/// What comes of `bytes`, which arrive at once, up to the first error.
fn decode_with(
    mut codec: MessageCodec,
    bytes: impl AsRef<[u8]>,
) -> (Vec<Incoming>, Option<CodecError>) {
    let mut src = BytesMut::from(bytes.as_ref());
    let mut decoded = Vec::new();
    loop {
        match codec.decode(&mut src) {
            Ok(Some(incoming)) => decoded.push(incoming),
            Ok(None) => return (decoded, None),
            Err(error) => return (decoded, Some(error)),
        }
    }
}

/// What a codec makes of bytes that have nothing wrong.
fn accepted_by(codec: MessageCodec, bytes: impl AsRef<[u8]>) -> Vec<Incoming> {
    let (decoded, error) = decode_with(codec, bytes);
    assert!(error.is_none(), "{error:?}");
    decoded
}

/// What the server makes of frames that have nothing wrong.
fn accepted(frames: &[Vec<u8>]) -> Vec<Incoming> {
    accepted_by(server(), frames.concat())
}

/// The error of the server for bytes that must not all be accepted.
fn refused(frames: &[Vec<u8>]) -> CodecError {
    decode_with(server(), frames.concat()).1.expect("has to be refused")
}

/// How many bytes a codec sees until it refuses, as they come one by one.
fn refused_after(mut codec: MessageCodec, bytes: &[u8]) -> Option<usize> {
    let mut src = BytesMut::new();
    for (index, byte) in bytes.iter().enumerate() {
        src.extend_from_slice(&[*byte]);
        loop {
            match codec.decode(&mut src) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return Some(index + 1),
            }
        }
    }
    None
}

fn text(text: &'static str) -> Incoming {
    Incoming::Message(Message::from(text))
}

fn binary(bytes: impl Into<Vec<u8>>) -> Incoming {
    Incoming::Message(Message::from(bytes.into()))
}

fn ping(payload: &'static str) -> Incoming {
    Incoming::Control(Control::Ping(ControlPayload::new(payload).unwrap()))
}

// ---- the examples of 5.7 --------------------------------------------------------------------

// 5.7: "A single-frame unmasked text message", "A single-frame masked text message", "A fragmented
// unmasked text message", "Unmasked Ping request and masked Ping response", "256 bytes binary
// message in a single unmasked frame", "64KiB binary message in a single unmasked frame".
#[test]
fn the_examples_of_the_rfc_decode_to_what_it_says() {
    assert_eq!(accepted_by(client(), b"\x81\x05Hello"), [text("Hello")]);
    let hello = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    assert_eq!(accepted_by(server(), hello), [text("Hello")]);
    assert_eq!(accepted_by(client(), b"\x01\x03Hel\x80\x02lo"), [text("Hello")]);

    assert_eq!(accepted_by(client(), b"\x89\x05Hello"), [ping("Hello")]);
    let pong = Control::Pong(ControlPayload::new("Hello").unwrap());
    let masked_pong = b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    assert_eq!(accepted_by(server(), masked_pong), [Incoming::Control(pong)]);

    let short = [&b"\x82\x7E\x01\x00"[..], &[7; 256]].concat();
    assert_eq!(accepted_by(client(), short), [binary([7; 256])]);
    let long = [&b"\x82\x7F\x00\x00\x00\x00\x00\x01\x00\x00"[..], &vec![7; 65_536]].concat();
    assert_eq!(accepted_by(client(), long), [binary(vec![7; 65_536])]);
}

#[test]
fn the_examples_of_the_rfc_are_what_is_sent() {
    assert_eq!(server_frame(&Message::from("Hello")), b"\x81\x05Hello"[..]);
    let ping = Control::Ping(ControlPayload::new("Hello").unwrap());
    assert_eq!(server_control(&ping), b"\x89\x05Hello"[..]);
    let short = server_frame(&Message::from(vec![7; 256]));
    assert_eq!(short[..4], *b"\x82\x7E\x01\x00");
    let long = server_frame(&Message::from(vec![7; 65_536]));
    assert_eq!(long[..10], *b"\x82\x7F\x00\x00\x00\x00\x00\x01\x00\x00");
}

// ---- 1. reserved bits -----------------------------------------------------------------------

// 5.2: "MUST be 0 unless an extension is negotiated that defines meanings for non-zero values. If
// a nonzero value is received and none of the negotiated extensions defines the meaning of such a
// nonzero value, the receiving endpoint MUST _Fail the WebSocket Connection_."
#[test]
fn a_reserved_bit_is_refused_on_the_first_byte() {
    for bits in [0x10, 0x20, 0x40, 0x70] {
        for opcode in [TEXT, BINARY, CLOSE, PING, PONG] {
            let error = refused(&[vec![FIN | bits | opcode]]);
            assert!(matches!(error, CodecError::ReservedBits(_)));
            assert_eq!(error.close_code(), Some(CloseCode::PROTOCOL_ERROR));
        }
    }
}

// ---- 2. reserved opcodes --------------------------------------------------------------------

// 5.2: "%x3-7 are reserved for further non-control frames", "%xB-F are reserved for further control
// frames". "If an unknown opcode is received, the receiving endpoint MUST _Fail the WebSocket
// Connection_."
#[test]
fn a_reserved_opcode_is_refused_on_the_first_byte() {
    for opcode in (3..=7).chain(11..=15) {
        for fin in [0, FIN] {
            let error = refused(&[vec![fin | opcode]]);
            assert!(matches!(error, CodecError::ReservedOpCode(code) if code == opcode));
            assert_eq!(error.close_code(), Some(CloseCode::PROTOCOL_ERROR));
        }
    }
}

// ---- 3. masking -----------------------------------------------------------------------------

// 5.1: "The server MUST close the connection upon receiving a frame that is not masked."
#[test]
fn a_server_refuses_an_unmasked_frame_on_its_second_byte() {
    for first in [FIN | TEXT, BINARY, FIN | CLOSE, FIN | PING, FIN | PONG] {
        assert!(matches!(refused(&[vec![first, 0]]), CodecError::MaskMissing));
    }
    assert_eq!(refused_after(server(), b"\x81\x05Hello"), Some(2));
}

// 5.1: "A client MUST close a connection if it detects a masked frame."
#[test]
fn a_client_refuses_a_masked_frame_on_its_second_byte() {
    let (_, error) = decode_with(client(), [FIN | TEXT, 0x80]);
    assert!(matches!(error, Some(CodecError::MaskUnexpected)));
    assert_eq!(refused_after(client(), &masked(FIN | TEXT, b"Hello")), Some(2));
}

// 5.1: "a client MUST mask all frames that it sends to the server". 5.3: "When preparing a masked
// frame, the client MUST pick a fresh masking key from the set of allowed 32-bit values."
#[test]
fn a_client_masks_each_frame_with_a_fresh_key() {
    let mut client = client();
    let mut keys = HashSet::new();
    for _ in 0..1000 {
        let mut frame = BytesMut::new();
        client.encode(Message::from("Hello"), &mut frame).unwrap();
        assert_eq!(frame[..2], [FIN | TEXT, 0x85]);
        keys.insert(frame[2..6].to_vec());
        assert_eq!(accepted_by(server(), &frame), [text("Hello")]);

        frame.clear();
        let close = Control::Close(Some(CloseFrame::new(CloseCode::NORMAL, "bye")));
        client.encode(&close, &mut frame).unwrap();
        assert_eq!(frame[..2], [FIN | CLOSE, 0x85]);
        keys.insert(frame[2..6].to_vec());
        assert_eq!(accepted_by(server(), &frame), [Incoming::Control(close)]);
    }
    // That two of 2000 random keys are the same happens once in 2000 runs; five, never.
    assert!(keys.len() > 1995, "{} different keys of 2000", keys.len());
    // Nor do they count: each byte takes nearly all of its values, and another client has others.
    for place in 0..4 {
        let values: HashSet<_> = keys.iter().map(|key| key[place]).collect();
        assert!(values.len() > 200, "{} values of byte {place}", values.len());
    }
    let mut frames = [BytesMut::new(), BytesMut::new()];
    for frame in &mut frames {
        (0..4).for_each(|_| client_frame(frame));
    }
    assert_ne!(frames[0], frames[1]);
}

fn client_frame(into: &mut BytesMut) {
    client().encode(Message::from("Hello"), into).unwrap();
}

// ---- 4. control frames ----------------------------------------------------------------------

// 5.5: "All control frames MUST have a payload length of 125 bytes or less and MUST NOT be
// fragmented."
#[test]
fn a_control_frame_without_fin_is_refused_on_the_first_byte() {
    for opcode in [CLOSE, PING, PONG] {
        assert!(matches!(refused(&[vec![opcode]]), CodecError::FragmentedControl));
    }
}

#[test]
fn a_control_frame_with_a_long_form_length_is_refused_on_the_second_byte() {
    for opcode in [CLOSE, PING, PONG] {
        for length in [0xFE, 0xFF] {
            let error = refused(&[vec![FIN | opcode, length]]);
            assert!(matches!(error, CodecError::ControlTooLong));
        }
    }
}

#[test]
fn a_control_frame_may_have_125_bytes() {
    let longest = "x".repeat(125);
    let got = accepted(&[masked(FIN | PING, longest.as_bytes()), masked(FIN | PONG, b"")]);
    let longest = ControlPayload::new(longest).unwrap();
    assert_eq!(got[0], Incoming::Control(Control::Ping(longest)));
    assert_eq!(got[1], Incoming::Control(Control::Pong(ControlPayload::default())));
}

// The same rule from the other side.
#[test]
fn a_control_frame_that_nobody_may_send_is_not_encoded() {
    let mut codec = FrameCodec::new(Role::Server, FrameLimits::default());
    let mut dst = BytesMut::new();
    let long = Frame { fin: true, opcode: OpCode::Ping, payload: vec![0; 126].into() };
    assert!(matches!(codec.encode(long, &mut dst), Err(CodecError::ControlTooLong)));
    let cut = Frame { fin: false, opcode: OpCode::Close, payload: Bytes::new() };
    assert!(matches!(codec.encode(cut, &mut dst), Err(CodecError::FragmentedControl)));
    assert!(dst.is_empty());
}

// ---- 5. the form of a length ----------------------------------------------------------------

// 5.2: "Note that in all cases, the minimal number of bytes MUST be used to encode the length, for
// example, the length of a 124-byte-long string can't be encoded as the sequence 126, 0, 124."
#[test]
fn a_length_that_is_not_minimal_is_refused_before_the_key() {
    for len in [0, 1, 124, 125] {
        let header = vec![FIN | BINARY, 0xFE, 0, len];
        assert!(matches!(refused(&[header]), CodecError::LengthNotMinimal));
    }
    for len in [0, 125, 126, 65_535_u64] {
        let header = [&[FIN | BINARY, 0xFF][..], &len.to_be_bytes()].concat();
        assert!(matches!(refused(&[header]), CodecError::LengthNotMinimal));
    }
}

#[test]
fn the_shortest_and_longest_length_of_each_form_is_accepted() {
    for len in [0, 125, 126, 65_535] {
        assert_eq!(accepted(&[masked(FIN | BINARY, &vec![7; len])]), [binary(vec![7; len])]);
    }
    let long = [&b"\x82\x7F\0\0\0\0\0\x01\0\0"[..], &vec![0; 65_536]].concat();
    assert_eq!(accepted_by(client(), long), [binary(vec![0; 65_536])]);
}

// 5.2: "the following 8 bytes interpreted as a 64-bit unsigned integer (the most significant bit
// MUST be 0)".
#[test]
fn a_64_bit_length_with_its_highest_bit_set_is_refused_on_that_byte() {
    let codec = MessageCodec::new(Role::Server, unlimited());
    let (_, error) = decode_with(codec, [FIN | BINARY, 0xFF, 0x80]);
    assert!(matches!(error, Some(CodecError::LengthOutOfRange)));
    let whole = [&[FIN | BINARY, 0xFF][..], &(1_u64 << 63).to_be_bytes()].concat();
    let (_, error) = decode_with(MessageCodec::new(Role::Server, unlimited()), whole);
    assert!(matches!(error, Some(CodecError::LengthOutOfRange)));
}

#[test]
fn a_length_is_refused_on_the_byte_that_decides() {
    let patient = || MessageCodec::new(Role::Client, unlimited());
    // Six bytes of zeros: whatever the other two say, 16 bits would have been enough.
    assert_eq!(refused_after(patient(), b"\x82\x7F\0\0\0\0\0\0\x01\x00"), Some(8));
    assert_eq!(refused_after(patient(), b"\x82\x7F\0\0\0\0\0\x01\0\0"), None);
    assert_eq!(refused_after(patient(), b"\x82\x7E\x00\x7D"), Some(4));
    assert_eq!(refused_after(patient(), b"\x82\x7E\x00\x7E"), None);
    // 2^56 and more is above 1 MiB, whatever the other seven bytes say.
    assert_eq!(refused_after(client(), b"\x82\x7F\x01\0\0\0\0\0\0\0"), Some(3));
    // 1 MiB is the limit itself.
    assert_eq!(refused_after(client(), b"\x82\x7F\0\0\0\0\0\x10\0\0"), None);
    assert_eq!(refused_after(client(), b"\x82\x7F\0\0\0\0\0\x10\0\x01"), Some(10));
}

// ---- 6., 7., 8. limits ----------------------------------------------------------------------

// 10.4: "Implementations that have implementation- and/or platform-specific limitations regarding
// the frame size or total message size after reassembly from multiple frames MUST protect
// themselves against exceeding those limits."
#[test]
fn a_length_of_64_bits_is_never_cut_to_fit() {
    // 2^32 + 5 would be 5 in 32 bits.
    let header = [&[FIN | BINARY, 0xFF][..], &0x1_0000_0005_u64.to_be_bytes()].concat();
    assert!(matches!(refused(&[header]), CodecError::FrameTooLarge { limit: 1_048_576 }));
}

#[test]
fn a_frame_over_the_limit_is_refused_on_its_header() {
    let codec = || MessageCodec::new(Role::Server, FrameLimits::default().frame(1000));
    let over = masked(FIN | BINARY, &[0; 1001]);
    assert_eq!(refused_after(codec(), &over), Some(4));
    let error = decode_with(codec(), &over).1.unwrap();
    assert!(matches!(error, CodecError::FrameTooLarge { limit: 1000 }));
    assert_eq!(error.close_code(), Some(CloseCode::TOO_BIG));
}

#[test]
fn a_frame_of_exactly_the_limit_is_accepted() {
    let limits = FrameLimits::default().frame(1000).message(1000);
    let codec = MessageCodec::new(Role::Server, limits);
    assert_eq!(accepted_by(codec, masked(FIN | BINARY, &[0; 1000])), [binary([0; 1000])]);
}

#[test]
fn the_limit_on_frames_is_the_frame_codecs_too() {
    let mut codec = FrameCodec::new(Role::Client, FrameLimits::default().frame(5));
    let mut src = BytesMut::from(&b"\x81\x05Hello\x81\x06"[..]);
    assert_eq!(codec.decode(&mut src).unwrap().unwrap().payload, "Hello");
    assert!(matches!(codec.decode(&mut src), Err(CodecError::FrameTooLarge { limit: 5 })));
}

#[test]
fn a_declared_length_reserves_next_to_nothing() {
    for declared in [65_536, 1 << 30, u64::MAX >> 1] {
        let mut codec = MessageCodec::new(Role::Client, unlimited());
        let header = [&b"\x82\x7F"[..], &declared.to_be_bytes()].concat();
        let mut src = BytesMut::from(&header[..]);
        // On 32 bits the last of them is over any limit.
        let decoded = codec.decode(&mut src);
        assert!(matches!(decoded, Ok(None) | Err(CodecError::FrameTooLarge { .. })));
        assert!(src.capacity() <= 2048, "{} bytes for {declared}", src.capacity());
    }
}

#[test]
fn memory_grows_with_what_has_come() {
    let mut codec = MessageCodec::new(Role::Server, unlimited());
    let header = [&[FIN | BINARY, 0xFF][..], &0x7FFF_FFFF_u64.to_be_bytes(), &KEY].concat();
    let mut src = BytesMut::from(&header[..]);
    let mut come = 0;
    for size in [1, 10, 100, 1000, 10_000, 100_000, 500_000] {
        src.extend_from_slice(&vec![0; size]);
        come += size;
        assert!(codec.decode(&mut src).unwrap().is_none());
        assert!(src.capacity() <= 4 * come + 2048, "{} bytes for {come}", src.capacity());
    }
}

#[test]
fn no_limit_overflows_nothing() {
    let mut codec = MessageCodec::new(Role::Client, unlimited());
    let huge = [&b"\x02\x03abc\x80\x7F"[..], &(u64::MAX >> 1).to_be_bytes(), b"x"].concat();
    let mut src = BytesMut::from(&huge[..]);
    let decoded = codec.decode(&mut src);
    assert!(matches!(decoded, Ok(None) | Err(CodecError::FrameTooLarge { .. })));
    assert!(!codec.is_idle());
    assert!(src.capacity() <= 4096);
}

// ---- 9. unmasking in pieces -----------------------------------------------------------------

// 5.3: "Octet i of the transformed data ("transformed-octet-i") is the XOR of octet i of the
// original data ("original-octet-i") with octet at index i modulo 4 of the masking key".
#[test]
fn a_payload_that_comes_in_pieces_is_unmasked_as_one() {
    let payload: Vec<u8> = (0..200).collect();
    let frame = masked(FIN | BINARY, &payload);
    for first in 0..frame.len() {
        for second in [first, first + 1, first + 7, first + 61] {
            let second = second.min(frame.len() - 1);
            let mut codec = server();
            let mut src = BytesMut::from(&frame[..first]);
            assert!(codec.decode(&mut src).unwrap().is_none());
            src.extend_from_slice(&frame[first..second.max(first)]);
            assert!(codec.decode(&mut src).unwrap().is_none());
            src.extend_from_slice(&frame[second.max(first)..]);
            assert_eq!(codec.decode(&mut src).unwrap(), Some(binary(payload.clone())));
            assert!(codec.is_idle() && src.is_empty());
        }
    }
}

// ---- 10. the order of fragments -------------------------------------------------------------

// 5.4: "A fragmented message consists of a single frame with the FIN bit clear and an opcode other
// than 0, followed by zero or more frames with the FIN bit clear and the opcode set to 0, and
// terminated by a single frame with the FIN bit set and an opcode of 0."
#[test]
fn fragments_form_their_message() {
    let three = [
        masked(TEXT, b"one "),
        masked(CONTINUATION, b"two "),
        masked(FIN | CONTINUATION, b"three"),
    ];
    assert_eq!(accepted(&three), [text("one two three")]);
    let then = [masked(BINARY, b"a"), masked(FIN | CONTINUATION, b"b"), masked(FIN | TEXT, b"c")];
    assert_eq!(accepted(&then), [binary(*b"ab"), text("c")]);
}

#[test]
fn a_continuation_of_nothing_is_refused_on_the_first_byte() {
    for first in [CONTINUATION, FIN | CONTINUATION] {
        assert!(matches!(refused(&[vec![first]]), CodecError::UnexpectedContinuation));
        let after = [masked(BINARY, b"a"), masked(FIN | CONTINUATION, b"b"), vec![first]];
        assert!(matches!(refused(&after), CodecError::UnexpectedContinuation));
    }
}

// 5.4: "The fragments of one message MUST NOT be interleaved between the fragments of another
// message unless an extension has been negotiated that can interpret the interleaving."
#[test]
fn a_message_inside_another_is_refused_on_the_first_byte_with_fin_or_without() {
    for first in [TEXT, BINARY, FIN | TEXT, FIN | BINARY] {
        let error = refused(&[masked(TEXT, b"a"), vec![first]]);
        assert!(matches!(error, CodecError::ContinuationExpected));
        assert_eq!(error.close_code(), Some(CloseCode::PROTOCOL_ERROR));
    }
}

// ---- 11. control frames between fragments ---------------------------------------------------

// 5.4: "Control frames (see Section 5.5) MAY be injected in the middle of a fragmented message."
#[test]
fn control_frames_between_fragments_do_not_disturb_them() {
    let (front, back) = "步".as_bytes().split_at(2);
    let frames = [
        masked(TEXT, front),
        masked(FIN | PING, b"alive?"),
        masked(FIN | PONG, b"\xFF"),
        masked(CONTINUATION, back),
        masked(FIN | PING, b""),
        masked(FIN | CONTINUATION, b"!"),
    ];
    let pong = Control::Pong(ControlPayload::new(&b"\xFF"[..]).unwrap());
    let expected = [ping("alive?"), Incoming::Control(pong), ping(""), text("步!")];
    assert_eq!(accepted(&frames), expected);
}

// ---- 12. the size of a message --------------------------------------------------------------

// 10.4: "... or total message size after reassembly from multiple frames MUST protect themselves".
#[test]
fn the_limit_counts_all_fragments_of_a_message() {
    let codec = || MessageCodec::new(Role::Server, FrameLimits::default().message(1000));
    let start = masked(BINARY, &[0; 400]);
    let next = masked(CONTINUATION, &[0; 300]);

    let last = masked(FIN | CONTINUATION, &[0; 300]);
    let exactly = [&start[..], &next, &masked(FIN | PING, b"12"), &last].concat();
    assert_eq!(accepted_by(codec(), exactly), [ping("12"), binary([0; 1000])]);

    let last = masked(FIN | CONTINUATION, &[0; 301]);
    let over = [&start[..], &next, &last].concat();
    assert_eq!(refused_after(codec(), &over), Some(start.len() + next.len() + 4));
    let error = decode_with(codec(), over).1.unwrap();
    assert!(matches!(error, CodecError::MessageTooLarge { limit: 1000 }));
    assert_eq!(error.close_code(), Some(CloseCode::TOO_BIG));
}

#[test]
fn the_limit_on_messages_is_for_unfragmented_ones_too() {
    let codec = || MessageCodec::new(Role::Server, FrameLimits::default().message(10));
    assert_eq!(accepted_by(codec(), masked(FIN | TEXT, b"0123456789")), [text("0123456789")]);
    assert_eq!(refused_after(codec(), &masked(FIN | TEXT, b"0123456789a")), Some(2));
    // A control frame is no message.
    assert_eq!(accepted_by(codec(), masked(FIN | PING, b"0123456789a")), [ping("0123456789a")]);
}

// ---- 13. the number of fragments ------------------------------------------------------------

// 5.2: "Payload data" may be empty in any frame; 10.4 asks for protection all the same.
#[test]
fn empty_fragments_are_legal() {
    let frames = [masked(TEXT, b""), masked(CONTINUATION, b""), masked(FIN | CONTINUATION, b"")];
    assert_eq!(accepted(&frames), [text("")]);
    let empty = [masked(FIN | TEXT, b""), masked(FIN | BINARY, b"")];
    assert_eq!(accepted(&empty), [text(""), binary([])]);
}

#[test]
fn empty_fragments_are_counted() {
    let codec = || MessageCodec::new(Role::Server, FrameLimits::default().fragments(3));
    let (start, next) = (masked(TEXT, b""), masked(CONTINUATION, b""));
    let last = masked(FIN | CONTINUATION, b"");

    // Exactly three, twice: the count begins anew.
    let exactly = [&start[..], &next, &last, &start, &next, &last].concat();
    assert_eq!(accepted_by(codec(), exactly), [text(""), text("")]);

    let over = [&start[..], &next, &next, &last].concat();
    assert_eq!(refused_after(codec(), &over), Some(3 * start.len() + 1));
    let error = decode_with(codec(), over).1.unwrap();
    assert!(matches!(error, CodecError::TooManyFragments { limit: 3 }));
    assert_eq!(error.close_code(), Some(CloseCode::TOO_BIG));
}

#[test]
fn every_message_may_have_its_first_frame() {
    let codec = || MessageCodec::new(Role::Server, FrameLimits::default().fragments(0));
    assert_eq!(accepted_by(codec(), masked(FIN | TEXT, b"whole")), [text("whole")]);
    let two = [masked(TEXT, b"a"), masked(FIN | CONTINUATION, b"b")].concat();
    assert!(matches!(decode_with(codec(), two).1, Some(CodecError::TooManyFragments { .. })));
}

// ---- 14. the end of a text ------------------------------------------------------------------

// 5.6: "Note that a particular text frame might include a partial UTF-8 sequence; however, the
// whole message MUST contain valid UTF-8."
#[test]
fn an_empty_last_fragment_does_not_hide_an_unfinished_character() {
    let frames = [masked(TEXT, b"\xE2\x82"), masked(FIN | CONTINUATION, b"")];
    assert!(matches!(refused(&frames), CodecError::InvalidUtf8));
}

#[test]
fn an_unfinished_character_is_refused_at_the_end_of_a_text() {
    assert!(matches!(refused(&[masked(FIN | TEXT, b"abc\xE2\x82")]), CodecError::InvalidUtf8));
    let frames = [masked(TEXT, b"abc"), masked(FIN | CONTINUATION, b"\xF0\x9F\x8E")];
    assert!(matches!(refused(&frames), CodecError::InvalidUtf8));
}

#[test]
fn a_character_may_be_spread_over_fragments() {
    let balloon = "🎈".as_bytes();
    let frames = [
        masked(TEXT, &balloon[..1]),
        masked(CONTINUATION, &balloon[1..2]),
        masked(CONTINUATION, b""),
        masked(CONTINUATION, &balloon[2..3]),
        masked(FIN | CONTINUATION, &balloon[3..]),
    ];
    assert_eq!(accepted(&frames), [text("🎈")]);
}

// ---- 15., 16., 17. close frames -------------------------------------------------------------

// 5.5.1: "If there is a body, the first two bytes of the body MUST be a 2-byte unsigned integer
// (in network byte order) representing a status code".
#[test]
fn a_close_payload_of_one_byte_is_refused_on_the_second_byte() {
    assert!(matches!(refused(&[vec![FIN | CLOSE, 0x81]]), CodecError::ClosePayloadTooShort));
    let alone = CloseFrame::from_payload(Bytes::from_static(b"\x03"));
    assert!(matches!(alone, Err(CodecError::ClosePayloadTooShort)));
}

// 5.5.1: "The Close frame MAY contain a body".
#[test]
fn a_close_without_a_code_is_accepted() {
    assert_eq!(accepted(&[masked(FIN | CLOSE, b"")]), [Incoming::Control(Control::Close(None))]);
}

// 7.4.1: "1005 is a reserved value and MUST NOT be set as a status code in a Close control frame by
// an endpoint", and so for 1006 and 1015; 1004 is "Reserved." 7.4.2: "Status codes in the range
// 0-999 are not used."
#[test]
fn a_close_code_that_must_not_be_sent_is_refused() {
    let never = (0..=999).chain([1004, 1005, 1006]).chain(1015..=2999).chain(5000..=65_535);
    for code in never {
        assert_eq!(CloseCode::new(code), None);
        let error = refused(&[masked(FIN | CLOSE, &code.to_be_bytes())]);
        assert!(matches!(error, CodecError::CloseCodeNotAllowed(got) if got == code));
        assert_eq!(error.close_code(), Some(CloseCode::PROTOCOL_ERROR));
    }
}

// 7.4.2: "Status codes in the range 3000-3999 are reserved for use by libraries, frameworks, and
// applications", "4000-4999 are reserved for private use". 1012 to 1014 came later, by IANA.
#[test]
fn a_close_code_that_may_be_sent_is_accepted() {
    for code in (1000..=1003).chain(1007..=1014).chain(3000..=4999) {
        let close = CloseFrame::from(CloseCode::new(code).unwrap());
        let got = accepted(&[masked(FIN | CLOSE, &code.to_be_bytes())]);
        assert_eq!(got, [Incoming::Control(Control::Close(Some(close)))]);
    }
}

// 5.5.1: "Following the 2-byte integer, the body MAY contain UTF-8-encoded data with value
// /reason/".
#[test]
fn a_close_reason_is_utf8_of_up_to_123_bytes() {
    let close_with = |reason: &[u8]| masked(FIN | CLOSE, &[b"\x03\xE9", reason].concat());
    let longest = "步".repeat(41);
    let close = CloseFrame::new(CloseCode::GOING_AWAY, &longest);
    assert_eq!((close.code(), close.reason()), (CloseCode::GOING_AWAY, &longest[..]));
    let got = accepted(&[close_with(longest.as_bytes())]);
    assert_eq!(got, [Incoming::Control(Control::Close(Some(close)))]);

    for bad in [&b"\xCE"[..], b"ok \xFF", b"\xED\xA0\x80", b"\xE2\x82"] {
        let error = refused(&[close_with(bad)]);
        assert!(matches!(error, CodecError::InvalidUtf8));
        assert_eq!(error.close_code(), Some(CloseCode::INVALID_PAYLOAD));
    }
}

#[test]
fn our_own_reason_is_cut_at_123_bytes_where_a_character_ends() {
    let cut = |reason: &str| CloseFrame::new(CloseCode::NORMAL, reason).reason().to_owned();
    assert_eq!(cut(&"x".repeat(124)), "x".repeat(123));
    assert_eq!(cut(&format!("x{}", "步".repeat(41))), format!("x{}", "步".repeat(40)));
    assert_eq!(cut(&format!("xxx{}", "🎈".repeat(31))), format!("xxx{}", "🎈".repeat(30)));
    let longest = CloseFrame::new(CloseCode::NORMAL, &"x".repeat(1000));
    assert_eq!(server_control(&Control::Close(Some(longest))).len(), 2 + 125);
}

// ---- 20. the answer -------------------------------------------------------------------------

// 5.5.1: "When sending a Close frame in response, the endpoint typically echos the status code it
// received." 5.5.3: "A Pong frame sent in response to a Ping frame must have identical
// "Application data" as found in the message body of the Ping frame being replied to."
#[test]
fn a_reply_repeats_the_code_of_a_close_and_the_bytes_of_a_ping() {
    let close = Control::Close(Some(CloseFrame::new(CloseCode::GOING_AWAY, "private")));
    assert_eq!(server_control(&close.reply().unwrap()), b"\x88\x02\x03\xE9"[..]);
    assert_eq!(server_control(&Control::Close(None).reply().unwrap()), b"\x88\x00"[..]);
    let reply = Control::Ping(ControlPayload::new("41").unwrap()).reply().unwrap();
    assert_eq!(server_control(&reply), b"\x8A\x0241"[..]);
    assert_eq!(reply.reply(), None);
}

// ---- 23. fail fast on UTF-8 -----------------------------------------------------------------

// 8.1: "When an endpoint is to interpret a byte stream as UTF-8 but finds that the byte stream is
// not, in fact, a valid UTF-8 stream, that endpoint MUST _Fail the WebSocket Connection_."
#[test]
fn bad_utf8_is_refused_on_its_first_bad_byte_in_an_unfinished_frame() {
    const HEADER: usize = 6;
    let cases = [
        (&b"ab\x80cd"[..], 3, "a continuation byte that continues nothing"),
        (b"ab\xC0\x80cd", 3, "an overlong form of two bytes"),
        (b"ab\xE0\x9F\xBFcd", 4, "an overlong form of three bytes"),
        (b"ab\xF0\x8F\xBF\xBFcd", 4, "an overlong form of four bytes"),
        (b"ab\xED\xA0\x80cd", 4, "a surrogate"),
        (b"ab\xF4\x90\x80\x80cd", 4, "above U+10FFFF"),
        (b"ab\xF5cd", 3, "no first byte of anything"),
        (b"ab\xE6\xADcd", 5, "a character cut short"),
        (b"\xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE\xBC\xCE\xB5\xF4\x90\x80\x80e", 13, "after other text"),
    ];
    for (bytes, bad, why) in cases {
        let frame = masked(FIN | TEXT, bytes);
        assert_eq!(refused_after(server(), &frame), Some(HEADER + bad), "{why}");
        // In a later fragment it is no different,
        let later = [masked(TEXT, "步".as_bytes()), masked(CONTINUATION, bytes)].concat();
        assert_eq!(refused_after(server(), &later), Some(HEADER + 3 + HEADER + bad), "{why}");
        // and a binary message may hold anything.
        assert_eq!(accepted(&[masked(FIN | BINARY, bytes)]), [binary(bytes)], "{why}");
    }
}

// 7.4.1: "1007 indicates that an endpoint is terminating the connection because it has received
// data within a message that was not consistent with the type of the message (e.g., non-UTF-8
// [RFC3629] data within a text message)."
#[test]
fn bad_utf8_leads_to_1007() {
    let error = refused(&[masked(FIN | TEXT, b"\xFF")]);
    assert_eq!(error.close_code(), Some(CloseCode::INVALID_PAYLOAD));
}

#[test]
fn one_message_leaves_nothing_behind_for_the_next() {
    let frames = [masked(FIN | BINARY, b"\xE2\x82"), masked(FIN | TEXT, "步".as_bytes())];
    assert_eq!(accepted(&frames), [binary(*b"\xE2\x82"), text("步")]);
}

#[test]
fn a_long_text_is_validated_across_the_steps_it_is_judged_in() {
    // Three bytes to a character: no power of two is a boundary.
    let long = "步".repeat(21_000);
    let message = Message::from(long.clone());
    assert_eq!(accepted_by(client(), server_frame(&message)), [Incoming::Message(message)]);
    for bad in [16_383, 16_384, 16_385, 40_000] {
        let mut bytes = long.clone().into_bytes();
        bytes[bad] = b'!';
        let error = refused(&[masked(FIN | TEXT, &bytes)]);
        assert!(matches!(error, CodecError::InvalidUtf8), "at {bad}");
    }
}
