//! What the codec promises beyond RFC 6455: states, copies, memory, ends of streams, `Framed`.

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use stepcast::codec::{
    CloseCode, CloseFrame, CodecError, Control, ControlPayload, Frame, FrameCodec, FrameHeader,
    FrameLimits, Incoming, Message, MessageCodec, OpCode, Role, server_control, server_frame,
};
use tokio_util::codec::{Decoder, Encoder, Framed, FramedRead};

fn codec(role: Role) -> MessageCodec {
    MessageCodec::new(role, FrameLimits::default())
}

/// One message as a client sends it.
fn masked(message: &Message) -> BytesMut {
    let mut frame = BytesMut::new();
    codec(Role::Client).encode(message, &mut frame).unwrap();
    frame
}

#[test]
fn an_unfragmented_payload_is_delivered_where_it_was_received() {
    for len in [1, 125, 126, 70_000] {
        for message in [Message::from("x".repeat(len)), Message::from(vec![7; len])] {
            let mut src = masked(&message);
            let received = src[src.len() - len..].as_ptr();
            let got = codec(Role::Server).decode(&mut src).unwrap();
            let Some(Incoming::Message(got)) = got else { panic!("{got:?}") };
            assert_eq!(got, message);
            assert_eq!(got.as_bytes().as_ptr(), received, "{len} bytes were copied");
        }
    }
}

#[test]
fn an_empty_message_does_not_keep_the_receive_buffer() {
    let mut src = BytesMut::with_capacity(1000);
    src.extend_from_slice(b"\x82\x00");
    let place = src.as_ptr();
    let empty = codec(Role::Client).decode(&mut src).unwrap();
    assert_eq!(empty, Some(Incoming::Message(Message::from(Vec::new()))));
    // Nobody shares it, so that its room can be had again.
    src.reserve(1000);
    assert_eq!(src.as_ptr(), place);
}

#[test]
fn after_an_error_comes_nothing_but_errors() {
    for role in [Role::Server, Role::Client] {
        let mut codec = codec(role);
        let mut src = BytesMut::from(&b"\xFF"[..]);
        assert!(matches!(codec.decode(&mut src), Err(CodecError::ReservedBits(0xFF))));
        let good = if role == Role::Client {
            BytesMut::from(&server_frame(&Message::from("good"))[..])
        } else {
            masked(&Message::from("good"))
        };
        for mut src in [src, good, BytesMut::new()] {
            let again = codec.decode(&mut src);
            assert!(matches!(again, Err(CodecError::AfterError)), "{again:?}");
            assert!(matches!(codec.decode_eof(&mut src), Err(CodecError::AfterError)));
        }
        assert!(!codec.is_idle());
    }
}

#[test]
fn an_error_that_takes_a_whole_frame_to_see_is_final_too() {
    let mut codec = codec(Role::Client);
    let mut src = BytesMut::from(&b"\x88\x02\x03\xEC\x81\x02hi"[..]);
    assert!(matches!(codec.decode(&mut src), Err(CodecError::CloseCodeNotAllowed(1004))));
    assert!(matches!(codec.decode(&mut src), Err(CodecError::AfterError)));
}

#[test]
fn a_failed_frame_codec_stays_failed() {
    let mut codec = FrameCodec::new(Role::Client, FrameLimits::default());
    let mut src = BytesMut::from(&b"\x83\x81\x02hi"[..]);
    assert!(matches!(codec.decode(&mut src), Err(CodecError::ReservedOpCode(3))));
    let mut good = BytesMut::from(&b"\x81\x02hi"[..]);
    assert!(matches!(codec.decode(&mut good), Err(CodecError::AfterError)));
    assert!(!codec.is_idle());
}

#[test]
fn a_stream_that_ends_inside_anything_is_an_error_that_says_so() {
    // Inside a header, inside a payload before its first byte and after, between two fragments.
    for cut in [&b"\x81"[..], b"\x81\x7E\x01", b"\x81\x05", b"\x81\x05Hel", b"\x01\x03Hel"] {
        let mut codec = codec(Role::Client);
        let mut src = BytesMut::from(cut);
        let ended = codec.decode_eof(&mut src);
        assert!(matches!(ended, Err(CodecError::UnexpectedEof)), "{cut:02x?}: {ended:?}");
        assert!(matches!(codec.decode_eof(&mut src), Err(CodecError::AfterError)));
    }
    for cut in [&b"\x81"[..], b"\x81\x05", b"\x81\x05Hel"] {
        let mut codec = FrameCodec::new(Role::Client, FrameLimits::default());
        let ended = codec.decode_eof(&mut BytesMut::from(cut));
        assert!(matches!(ended, Err(CodecError::UnexpectedEof)), "{cut:02x?}: {ended:?}");
    }
}

#[test]
fn a_stream_may_end_between_messages() {
    let mut codec = codec(Role::Client);
    let mut src = BytesMut::from(&b"\x81\x02hi\x89\x00"[..]);
    assert!(codec.decode_eof(&mut src).unwrap().is_some());
    assert!(codec.decode_eof(&mut src).unwrap().is_some());
    assert!(codec.decode_eof(&mut src).unwrap().is_none());
    assert!(codec.is_idle());
}

#[test]
fn a_codec_is_idle_when_it_holds_nothing_of_its_peers() {
    let mut codec = codec(Role::Client);
    let mut src = BytesMut::new();
    // What has come, and whether the codec is idle then.
    let script: [(&[u8], bool); 8] = [
        (b"", true),
        (b"\x01", true), // the buffer has it
        (b"\x02", false),
        (b"h", false),
        (b"i", false), // a message in progress
        (b"\x89\x00", false),
        (b"\x80", false),
        (b"\x00", true),
    ];
    for (bytes, idle) in script {
        src.extend_from_slice(bytes);
        while codec.decode(&mut src).unwrap().is_some() {}
        assert_eq!(codec.is_idle(), idle, "after {bytes:02x?}");
    }
}

#[test]
fn a_small_message_is_judged_alike_at_once_and_byte_by_byte() {
    let default = FrameLimits::default();
    let limits = [default, default.frame(126), default.message(126)];
    let long = |head: &[u8], len: usize| [head, &vec![b'x'; len][..]].concat();
    let frames = [
        long(b"\x81\x00", 0),
        long(b"\x81\x01", 1),
        long(b"\x82\x7D", 125),
        long(b"\x82\x7E\x00\x7D", 125), // not in the fewest bytes
        long(b"\x82\x7E\x00\x7E", 126),
        long(b"\x82\x7E\x00\x7F", 127), // above two of the limits
        long(b"\x82\x7F\0\0\0\0\0\0\0\x7F", 127),
        long(b"\xC1\x01", 1),
        long(b"\x80\x01", 1),
        long(b"\x83\x01", 1),
        b"\x81\x02\xC3\xBC".to_vec(),
        b"\x81\x02\xC3\x28".to_vec(),
        b"\x81\x81\0\0\0\0x".to_vec(),
        b"\x82\xFE\0\x7E\0\0\0\0".iter().copied().chain([b'x'; 126]).collect(),
    ];
    for role in [Role::Client, Role::Server] {
        for (limits, frame) in
            limits.iter().flat_map(|limits| frames.iter().map(move |f| (limits, f)))
        {
            let mut at_once = MessageCodec::new(role, *limits);
            let got = at_once.decode(&mut BytesMut::from(&frame[..]));
            let mut slowly = MessageCodec::new(role, *limits);
            let mut received = BytesMut::new();
            let mut last = Ok(None);
            for byte in frame {
                received.extend_from_slice(&[*byte]);
                last = slowly.decode(&mut received);
                if last.is_err() {
                    break;
                }
            }
            let (got, last) = (format!("{got:?}"), format!("{last:?}"));
            assert_eq!(got, last, "{role:?}, {limits:?}, {:02x?}", &frame[..frame.len().min(12)]);
        }
    }
}

#[test]
fn half_a_frame_may_move_to_another_buffer() {
    // As a hub does that receives into one buffer for all its connections.
    let message = Message::from("步骤 41 of 100".repeat(10));
    let frame = masked(&message);
    let mut codec = codec(Role::Server);
    let mut kept = BytesMut::new();
    for piece in frame.chunks(17) {
        let mut shared = BytesMut::with_capacity(4096);
        shared.extend_from_slice(&kept);
        shared.extend_from_slice(piece);
        if let Some(got) = codec.decode(&mut shared).unwrap() {
            assert_eq!(got, Incoming::Message(message.clone()));
            assert!(shared.is_empty() && codec.is_idle());
            return;
        }
        kept = BytesMut::from(&shared[..]);
    }
    panic!("the message never came");
}

#[test]
fn bytes_that_the_caller_lost_are_waited_for_without_a_panic() {
    let mut codec = codec(Role::Client);
    let mut src = BytesMut::from(&b"\x82\x05abcd"[..]);
    assert!(codec.decode(&mut src).unwrap().is_none());
    src.clear();
    assert!(codec.decode(&mut src).unwrap().is_none());
    assert!(!codec.is_idle());
}

#[test]
fn a_header_apart_and_a_whole_frame_are_the_same_bytes() {
    for len in [0, 1, 125, 126, 65_535, 65_536] {
        let message = Message::from(vec![7; len]);
        let header = FrameHeader::server(OpCode::Binary, true, len);
        let apart = [header.as_ref(), message.as_bytes()].concat();
        assert!(server_frame(&message) == apart);
        let mut encoded = BytesMut::new();
        codec(Role::Server).encode(&message, &mut encoded).unwrap();
        assert!(encoded == apart);
    }
}

#[test]
fn a_server_control_frame_is_what_the_codec_encodes() {
    let payload = ControlPayload::new("x".repeat(125)).unwrap();
    let close = CloseFrame::new(CloseCode::POLICY, "no");
    for control in [
        Control::Ping(payload.clone()),
        Control::Pong(payload),
        Control::Close(None),
        Control::Close(Some(close)),
    ] {
        let mut encoded = BytesMut::new();
        codec(Role::Server).encode(&control, &mut encoded).unwrap();
        assert_eq!(server_control(&control), encoded);
        let mut wire = encoded;
        let got = codec(Role::Client).decode(&mut wire).unwrap();
        assert_eq!(got, Some(Incoming::Control(control)));
    }
}

#[test]
fn frames_go_round_in_both_directions() {
    let frames = [
        Frame { fin: false, opcode: OpCode::Text, payload: Bytes::from_static(b"not judged \xFF") },
        Frame { fin: true, opcode: OpCode::Ping, payload: Bytes::from_static(b"1") },
        Frame { fin: true, opcode: OpCode::Continuation, payload: Bytes::new() },
        Frame { fin: true, opcode: OpCode::Binary, payload: vec![3; 70_000].into() },
    ];
    for (from, to) in [(Role::Server, Role::Client), (Role::Client, Role::Server)] {
        let mut sender = FrameCodec::new(from, FrameLimits::default());
        let mut receiver = FrameCodec::new(to, FrameLimits::default());
        let mut wire = BytesMut::new();
        for frame in &frames {
            sender.encode(frame.clone(), &mut wire).unwrap();
        }
        for frame in &frames {
            assert_eq!(receiver.decode(&mut wire).unwrap().as_ref(), Some(frame));
        }
        assert!(wire.is_empty() && receiver.is_idle());
    }
}

#[tokio::test]
async fn both_ends_talk_over_any_stream() {
    let (ours, theirs) = tokio::io::duplex(64);
    let mut server = Framed::new(ours, codec(Role::Server));
    let mut client = Framed::new(theirs, codec(Role::Client));

    let serve = async {
        while let Some(incoming) = server.next().await {
            match incoming.unwrap() {
                Incoming::Message(message) => server.send(message).await.unwrap(),
                Incoming::Control(control) => {
                    let last = matches!(control, Control::Close(_));
                    if let Some(reply) = control.reply() {
                        server.send(reply).await.unwrap();
                    }
                    if last {
                        break;
                    }
                }
            }
        }
    };
    let ask = async {
        // Longer than the pipe, so that it comes in pieces.
        let message = Message::from("步骤".repeat(1000));
        client.send(&message).await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Incoming::Message(message));
        client.send(Control::Ping(ControlPayload::new("1").unwrap())).await.unwrap();
        let pong = Incoming::Control(Control::Pong(ControlPayload::new("1").unwrap()));
        assert_eq!(client.next().await.unwrap().unwrap(), pong);
        let bye = CloseFrame::new(CloseCode::NORMAL, "bye");
        client.send(Control::Close(Some(bye))).await.unwrap();
        let bye = Incoming::Control(Control::Close(Some(CloseCode::NORMAL.into())));
        assert_eq!(client.next().await.unwrap().unwrap(), bye);
    };
    tokio::join!(serve, ask);
}

#[tokio::test]
async fn a_stream_that_is_cut_off_inside_a_frame_ends_in_an_error() {
    let received = &b"\x81\x02hi\x81\x05Hel"[..];
    let mut framed = FramedRead::new(received, codec(Role::Client));
    assert_eq!(framed.next().await.unwrap().unwrap(), Incoming::Message(Message::from("hi")));
    assert!(matches!(framed.next().await, Some(Err(CodecError::UnexpectedEof))));
}
