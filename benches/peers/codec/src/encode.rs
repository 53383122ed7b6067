//! Messages to unmasked frames, each crate's own way.

use std::io::IoSlice;

use bytes::{Bytes, BytesMut};
use futures_util::SinkExt as _;
use tokio_util::codec::Encoder as _;

use crate::contest::Contestant;
use crate::decode::now;
use crate::floor;
use crate::wire::{CHUNK, Kind, Wire, image, messages};

pub fn contestants(kind: Kind, size: usize) -> Vec<Contestant> {
    let messages = messages(kind, size);
    let expected = image(kind, &messages, false);
    let makes: Vec<(&'static str, Make)> = vec![
        ("stepcast", stepcast),
        ("stepcast, owned", stepcast_owned),
        ("stepcast, header and payload apart", stepcast_apart),
        ("stepcast in FramedWrite", stepcast_framed),
        ("tungstenite", tungstenite),
        ("fastwebsockets", fastwebsockets),
        ("tokio-websockets", tokio_websockets),
        ("yawc", yawc),
        ("yawc's codec", yawc_codec),
        ("sockudo-ws", sockudo),
        ("sockudo-ws's protocol", sockudo_protocol),
        ("sockudo-ws's protocol, owned", sockudo_protocol_owned),
    ];
    let contestants = makes.into_iter().map(|(name, make)| {
        encoding(name, &messages, &expected, |wire| make(kind, &messages, wire))
    });
    contestants.chain(floor::encoding(&messages)).collect()
}

type Make = fn(Kind, &[Bytes], Wire) -> Send;

/// Sends the message of this number; and says, now and then, that all must leave.
type Send = Box<dyn FnMut(Do)>;

#[derive(Clone, Copy)]
enum Do {
    Encode(usize),
    Flush,
}

fn encoding(
    name: &'static str,
    messages: &[Bytes],
    expected: &Bytes,
    make: impl FnOnce(Wire) -> Send,
) -> Contestant {
    let wire = Wire::new(Bytes::new());
    let written = wire.written();
    let mut send = make(wire);
    let (all, size, expected) = (messages.len(), messages[0].len(), expected.clone());
    let per_chunk = (CHUNK / size).max(1);
    let mut compared = false;
    let run = move |count: usize| {
        let compare = !std::mem::replace(&mut compared, true);
        *written.borrow_mut() = Default::default();
        written.borrow_mut().kept = compare.then(Vec::new);
        for number in 0..count {
            send(Do::Encode(number % all));
            if number % per_chunk == per_chunk - 1 {
                send(Do::Flush);
            }
        }
        send(Do::Flush);
        let written = written.borrow();
        if let Some(kept) = &written.kept {
            assert!(kept[..] == expected[..], "{name}: not what was meant");
        }
        assert_eq!(written.count * all, expected.len() * count, "{name}");
        count * size
    };
    Contestant { name, is_floor: false, run: Box::new(run) }
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn stepcast_messages(kind: Kind, messages: &[Bytes]) -> Vec<stepcast::codec::Message> {
    let of = |bytes: &Bytes| match kind {
        Kind::Binary => bytes.clone().into(),
        _ => text(bytes).into(),
    };
    messages.iter().map(of).collect()
}

fn stepcast(kind: Kind, messages: &[Bytes], mut wire: Wire) -> Send {
    use stepcast::codec::{FrameLimits, MessageCodec, Role};
    let messages = stepcast_messages(kind, messages);
    let mut codec = MessageCodec::new(Role::Server, FrameLimits::default());
    let mut buffer = BytesMut::with_capacity(CHUNK);
    Box::new(move |what| match what {
        Do::Encode(number) => codec.encode(&messages[number], &mut buffer).unwrap(),
        Do::Flush => wire.take(&mut buffer),
    })
}

/// A message that is given away, of which another holder stays, as of every message here.
fn stepcast_owned(kind: Kind, messages: &[Bytes], mut wire: Wire) -> Send {
    use stepcast::codec::{FrameLimits, MessageCodec, Role};
    let messages = stepcast_messages(kind, messages);
    let mut codec = MessageCodec::new(Role::Server, FrameLimits::default());
    let mut buffer = BytesMut::with_capacity(CHUNK);
    Box::new(move |what| match what {
        Do::Encode(number) => codec.encode(messages[number].clone(), &mut buffer).unwrap(),
        Do::Flush => wire.take(&mut buffer),
    })
}

/// What the hub does with all but the smallest: payloads are written from where they are.
fn stepcast_apart(kind: Kind, messages: &[Bytes], mut wire: Wire) -> Send {
    use stepcast::codec::{FrameHeader, OpCode};
    let messages = stepcast_messages(kind, messages);
    let mut batch: Vec<(FrameHeader, usize)> = Vec::new();
    Box::new(move |what| match what {
        Do::Encode(number) => {
            let message = &messages[number];
            let opcode = if message.is_text() { OpCode::Text } else { OpCode::Binary };
            batch.push((FrameHeader::server(opcode, true, message.len()), number));
        }
        Do::Flush => {
            let mut slices = Vec::with_capacity(2 * batch.len());
            for (header, number) in &batch {
                slices.push(IoSlice::new(header.as_ref()));
                slices.push(IoSlice::new(messages[*number].as_bytes()));
            }
            wire.put_all(&slices);
            batch.clear();
        }
    })
}

fn stepcast_framed(kind: Kind, messages: &[Bytes], wire: Wire) -> Send {
    use stepcast::codec::{FrameLimits, MessageCodec, Role};
    let messages = stepcast_messages(kind, messages);
    let codec = MessageCodec::new(Role::Server, FrameLimits::default());
    let mut framed = tokio_util::codec::FramedWrite::new(wire, codec);
    framed.set_backpressure_boundary(CHUNK);
    Box::new(move |what| match what {
        Do::Encode(number) => now(framed.feed(&messages[number])).unwrap(),
        Do::Flush => {
            let mut framed = std::pin::Pin::new(&mut framed);
            now(std::future::poll_fn(|cx| {
                futures_util::Sink::<&stepcast::codec::Message>::poll_flush(framed.as_mut(), cx)
            }))
            .unwrap();
        }
    })
}

fn tungstenite(kind: Kind, messages: &[Bytes], wire: Wire) -> Send {
    use tungstenite::Message;
    use tungstenite::protocol::{Role, WebSocket};
    let of = |bytes: &Bytes| match kind {
        Kind::Binary => Message::Binary(bytes.clone()),
        _ => Message::text(text(bytes)),
    };
    let messages: Vec<_> = messages.iter().map(of).collect();
    let mut socket = WebSocket::from_raw_socket(wire, Role::Server, None);
    Box::new(move |what| match what {
        Do::Encode(number) => socket.write(messages[number].clone()).unwrap(),
        Do::Flush => socket.flush().unwrap(),
    })
}

/// Writes each frame by itself: it has no buffer for several.
fn fastwebsockets(kind: Kind, messages: &[Bytes], wire: Wire) -> Send {
    use fastwebsockets::{Frame, Payload, Role, WebSocket};
    // Its frames borrow their payload, for as long as the socket lives.
    let messages: &'static [Bytes] = Vec::leak(messages.to_vec());
    let mut socket = WebSocket::after_handshake(wire, Role::Server);
    Box::new(move |what| match what {
        Do::Encode(number) => {
            let payload = Payload::Borrowed(&messages[number]);
            let frame =
                if kind == Kind::Binary { Frame::binary(payload) } else { Frame::text(payload) };
            now(socket.write_frame(frame)).unwrap();
        }
        Do::Flush => now(socket.flush()).unwrap(),
    })
}

fn tokio_websockets(kind: Kind, messages: &[Bytes], wire: Wire) -> Send {
    use tokio_websockets::Message;
    let of = |bytes: &Bytes| match kind {
        Kind::Binary => Message::binary(bytes.clone()),
        _ => Message::text(text(bytes)),
    };
    let messages: Vec<_> = messages.iter().map(of).collect();
    let config = tokio_websockets::Config::default().flush_threshold(CHUNK);
    let mut socket = tokio_websockets::ServerBuilder::new().config(config).serve(wire);
    Box::new(move |what| match what {
        Do::Encode(number) => now(socket.feed(messages[number].clone())).unwrap(),
        Do::Flush => now(socket.flush()).unwrap(),
    })
}

fn yawc_frames(kind: Kind, messages: &[Bytes]) -> Vec<yawc::Frame> {
    let of = |bytes: &Bytes| match kind {
        Kind::Binary => yawc::Frame::binary(bytes.clone()),
        _ => yawc::Frame::text(bytes.clone()),
    };
    messages.iter().map(of).collect()
}

fn yawc(kind: Kind, messages: &[Bytes], wire: Wire) -> Send {
    let frames = yawc_frames(kind, messages);
    let options = yawc::Options::default().with_backpressure_boundary(CHUNK);
    let mut socket = yawc::WebSocket::from_stream(wire, yawc::Role::Server, options).unwrap();
    Box::new(move |what| match what {
        Do::Encode(number) => now(socket.feed(frames[number].clone())).unwrap(),
        Do::Flush => now(socket.flush()).unwrap(),
    })
}

fn yawc_codec(kind: Kind, messages: &[Bytes], mut wire: Wire) -> Send {
    let frames = yawc_frames(kind, messages);
    let mut codec = yawc::codec::Encoder::new(yawc::Role::Server);
    let mut buffer = BytesMut::with_capacity(CHUNK);
    Box::new(move |what| match what {
        Do::Encode(number) => codec.encode(frames[number].clone(), &mut buffer).unwrap(),
        Do::Flush => wire.take(&mut buffer),
    })
}

fn sockudo_messages(kind: Kind, messages: &[Bytes]) -> Vec<sockudo_ws::Message> {
    let of = |bytes: &Bytes| match kind {
        Kind::Binary => sockudo_ws::Message::Binary(bytes.clone()),
        _ => sockudo_ws::Message::Text(bytes.clone()),
    };
    messages.iter().map(of).collect()
}

fn sockudo(kind: Kind, messages: &[Bytes], wire: Wire) -> Send {
    let messages = sockudo_messages(kind, messages);
    let config = sockudo_ws::Config::builder().auto_ping(false).idle_timeout(0).build();
    let mut socket = sockudo_ws::WebSocketStream::server(wire, config);
    Box::new(move |what| match what {
        Do::Encode(number) => now(socket.feed(messages[number].clone())).unwrap(),
        Do::Flush => now(socket.flush()).unwrap(),
    })
}

fn sockudo_protocol(kind: Kind, messages: &[Bytes], mut wire: Wire) -> Send {
    let messages = sockudo_messages(kind, messages);
    let mut protocol =
        sockudo_ws::protocol::Protocol::new(sockudo_ws::Role::Server, 64 << 20, 64 << 20);
    let mut buffer = BytesMut::with_capacity(CHUNK);
    Box::new(move |what| match what {
        Do::Encode(number) => protocol.encode_message(&messages[number], &mut buffer).unwrap(),
        Do::Flush => wire.take(&mut buffer),
    })
}

/// It only borrows messages: one that is given away is dropped after that.
fn sockudo_protocol_owned(kind: Kind, messages: &[Bytes], mut wire: Wire) -> Send {
    let messages = sockudo_messages(kind, messages);
    let mut protocol =
        sockudo_ws::protocol::Protocol::new(sockudo_ws::Role::Server, 64 << 20, 64 << 20);
    let mut buffer = BytesMut::with_capacity(CHUNK);
    Box::new(move |what| match what {
        Do::Encode(number) => {
            let message = messages[number].clone();
            protocol.encode_message(&message, &mut buffer).unwrap();
        }
        Do::Flush => wire.take(&mut buffer),
    })
}
